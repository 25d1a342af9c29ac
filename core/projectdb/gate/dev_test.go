package gate

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/duck"
)

func TestDev(t *testing.T) {
	ctx := context.Background()
	db, err := duck.Open(ctx, "", duck.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, _ := db.Conn(ctx)
	c.Exec(ctx, "create schema s")
	c.Exec(ctx, "create table s.t(a int, b varchar, c int[])")
	c.Exec(ctx, "create table t(a int, b varchar, c int[])")
	f, _ := os.Open(os.Getenv("DEV"))
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		line := sc.Text()
		var out string
		var ch Checked
		var err error
		switch {
		case strings.HasPrefix(line, "W "):
			ch, err = Write(ctx, c, line[2:])
			out = ch.SQL
		case strings.HasPrefix(line, "T "):
			out, err = Type(ctx, c, line[2:])
		case strings.HasPrefix(line, "D "):
			out, err = Default(ctx, c, line[2:])
		case strings.HasPrefix(line, "C "):
			out, err = Where(ctx, c, line[2:])
		default:
			line = strings.TrimPrefix(line, "J ")
			ch, err = Select(ctx, c, line)
			out = ch.SQL
		}
		if err != nil {
			fmt.Println(line, "\n   !!", err)
		} else if os.Getenv("V") != "" {
			fmt.Println(line, "\n   =>", out)
		}
	}
}
