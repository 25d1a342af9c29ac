// Command zz.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/eiderdb/eider/core/duck"
)

func main() {
	ctx := context.Background()
	db, err := duck.Open(ctx, "", duck.Options{})
	if err != nil {
		panic(err)
	}
	c, _ := db.Conn(ctx)
	c.Exec(ctx, "create table t(a int, b varchar, c int[])")
	s := bufio.NewScanner(os.Stdin)
	s.Buffer(nil, 10<<20)
	for s.Scan() {
		line := s.Text()
		if q, ok := strings.CutPrefix(line, "Q "); ok {
			rows, err := db.Query(ctx, q)
			if err != nil {
				fmt.Println("ERR", err)
				continue
			}
			cols, _ := rows.Columns()
			for rows.Next() {
				v := make([]any, len(cols))
				p := make([]any, len(cols))
				for i := range v {
					p[i] = &v[i]
				}
				rows.Scan(p...)
				for i := range v {
					if i > 0 {
						fmt.Print("|")
					}
					fmt.Print(v[i])
				}
				fmt.Println()
			}
			fmt.Println(rows.Err())
			continue
		}
		if q, ok := strings.CutPrefix(line, "T "); ok {
			st, err := c.Prepare(ctx, q)
			if err != nil {
				fmt.Println("ERR", err)
				continue
			}
			fmt.Println(st.Type())
			st.Close()
			continue
		}
		j, err := c.Text(ctx, "SELECT json_serialize_sql(?::VARCHAR, format:=false, skip_null:=true, skip_empty:=false, skip_default:=false)::VARCHAR", strings.TrimPrefix(line, "J "))
		if err != nil {
			fmt.Println("ERR", err)
			continue
		}
		if strings.HasPrefix(line, "J ") {
			fmt.Println(j)
		}
		d, err := c.Text(ctx, "SELECT json_deserialize_sql(?::JSON)", j)
		fmt.Println("=>", d, err)
		if err != nil {
			fmt.Println(j)
		}
	}
}
