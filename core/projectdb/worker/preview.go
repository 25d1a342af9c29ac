package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
)

// maxSaid bounds an answer of JSON, in bytes.
const maxSaid = 32 << 20

// say sends JSON that may be larger than a frame.
func (t *task) say(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(text) > maxSaid {
		return tooLong()
	}
	_, err = t.give(text)
	return err
}

func tooLong() error {
	return eider.Invalid("limit", "the answer would be longer than %d MiB; ask for fewer", maxSaid>>20)
}

func preview(ctx context.Context, t *task) (any, error) {
	var in Target
	if err := t.args(&in); err != nil {
		return nil, err
	}
	var table Table
	err := t.read(ctx, func(conn *duck.Conn) (err error) {
		table, err = readTable(ctx, conn, in.Bucket, in.Table)
		return err
	})
	if err != nil {
		return nil, err
	}
	p := Preview{Columns: table.Columns, TotalRowCount: table.RowCount, Rows: []json.RawMessage{}}
	if err := t.firstRows(ctx, &table, in.Limit, &p); err != nil {
		return nil, err
	}
	p.PreviewRowCount = int64(len(p.Rows))
	return nil, t.say(p)
}

// firstRows reads rows one by one, so that what is too long is noticed early.
func (t *task) firstRows(ctx context.Context, table *Table, limit int64, p *Preview) error {
	members := make([]string, len(table.Columns))
	for i, c := range table.Columns {
		members[i] = quote(c.Name) + " := " + quote(c.Name)
	}
	rows, err := t.db.Query(ctx, fmt.Sprintf(`SELECT to_json(struct_pack(%s))::VARCHAR FROM %s LIMIT %d`,
		strings.Join(members, ", "), qualified(table.Bucket, table.Name), limit))
	if err != nil {
		return err
	}
	defer rows.Close()
	for size := 0; rows.Next(); {
		var text string
		if err := rows.Scan(&text); err != nil {
			return err
		}
		if size += len(text); size > maxSaid {
			return tooLong()
		}
		row := []byte(text)
		if maybeNoJSON(row) {
			row = lawful(row)
		}
		p.Rows = append(p.Rows, row)
	}
	return rows.Err()
}
