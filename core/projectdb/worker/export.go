package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
)

// Export asks for rows of a table as the file out/export.
type Export struct {
	Bucket      string   `json:"bucket"`
	Table       string   `json:"table"`
	Format      string   `json:"format"`
	Compression string   `json:"compression"`
	Columns     []string `json:"columns,omitempty"`
	Where       string   `json:"where,omitempty"`
	Limit       *int64   `json:"limit,omitempty"`
}

// Exported is how many rows the file has.
type Exported struct {
	Rows int64 `json:"rows"`
}

func export(ctx context.Context, t *task) (any, error) {
	var e Export
	if err := t.args(&e); err != nil {
		return nil, err
	}
	var out Exported
	err := t.outward.use(ctx, func(conn *duck.Conn) (err error) {
		if err := t.begins(ctx); err != nil {
			return err
		}
		// The filter is checked, and the rows are copied, as of one moment.
		if err := conn.Begin(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, conn.Rollback()) }()
		d, err := describe(ctx, conn, e.Bucket, e.Table)
		if err != nil {
			return err
		}
		rows, err := e.rows(ctx, conn, &d)
		if err != nil {
			return err
		}
		return t.follow(conn, 0, 1, func() (err error) {
			out.Rows, err = count(ctx, conn, "COPY ("+rows+") TO '"+quoteText(t.path(outFile))+"' ("+e.options()+")")
			if e.Where != "" {
				return blamed(err, eider.InvalidWhereClause) // nothing else of a row is computed that could fail
			}
			return err
		})
	})
	if err != nil {
		return nil, t.blame(err, "")
	}
	return out, nil
}

// rows is the statement whose rows are exported.
func (e *Export) rows(ctx context.Context, conn *duck.Conn, d *described) (string, error) {
	names := e.Columns
	if len(names) == 0 {
		for _, c := range d.Columns {
			names = append(names, c.Name)
		}
	}
	columns, used := make([]string, len(names)), map[int]bool{}
	for i, name := range names {
		at, err := d.column(name)
		if err != nil {
			return "", err
		}
		if used[at] {
			return "", eider.Invalid("columns", "names a column twice")
		}
		used[at] = true
		if columns[i], err = exactly(ctx, conn, d.sql(), e.Format, d.Columns[at].Column); err != nil {
			return "", err
		}
	}
	rows := "SELECT " + strings.Join(columns, ", ") + " FROM " + d.sql()
	if e.Where != "" {
		where, err := checkWhere(ctx, conn, e.Where)
		if err != nil {
			return "", err
		}
		rows += " WHERE (" + where + "\n)"
		if err := bound(ctx, conn, rows); err != nil {
			return "", blamed(err, eider.InvalidWhereClause)
		}
	}
	if e.Limit != nil {
		rows += fmt.Sprintf(" LIMIT %d", *e.Limit)
	}
	return rows, nil
}

// bound looks whether a query names what there is. None of its rows is computed.
func bound(ctx context.Context, conn *duck.Conn, query string) error {
	b, err := conn.Stream(ctx, "SELECT * FROM ("+query+") LIMIT 0")
	if err != nil {
		return err
	}
	return b.Close()
}

// options are those of the COPY. The file is written under its own name: there
// is no other that the worker may write.
func (e *Export) options() string {
	options := []string{"FORMAT " + e.Format, "USE_TMP_FILE false"}
	if e.Compression != "none" {
		options = append(options, "COMPRESSION "+e.Compression)
	}
	if e.Format == FormatCSV {
		options = append(options, "HEADER true")
	}
	return strings.Join(options, ", ")
}
