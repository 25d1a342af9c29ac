package worker

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb/gate"
)

// returned are the rows of RETURNING, which are written as those of a query are.
type returned struct {
	*Executed
	native bool // the rows come as they are; else the values as JSON, then the types
	limit  int64
	size   int
}

func (out *Executed) run(ctx context.Context, conn *duck.Conn, checked gate.Checked, args []any, limit int64) (err error) {
	if checked.Returning == "" {
		return out.each(ctx, conn, checked.SQL, args, out.count)
	}
	stmt, err := conn.Prepare(ctx, checked.SQL)
	if err != nil {
		return err
	}
	known, err := stmt.Columns()
	if err = errors.Join(err, stmt.Close()); err != nil {
		return err
	}
	out.Columns = plain(known)
	r, sql := returned{Executed: out, native: native(known), limit: limit}, checked.SQL
	if !r.native {
		if sql, err = checked.Rendered(ctx, conn); err != nil {
			return err
		}
	}
	if err := out.each(ctx, conn, sql, args, r.take); err != nil || out.Affected > 0 {
		return err
	}
	return out.typesOf(ctx, conn, checked.Target)
}

// each runs a statement and hands its rows on.
func (out *Executed) each(ctx context.Context, conn *duck.Conn, sql string, args []any, do func(arrow.RecordBatch) error) (err error) {
	b, err := conn.Stream(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	for {
		batch, err := b.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		err = do(batch)
		batch.Release()
		if err != nil {
			return err
		}
	}
}

// count adds what a statement says that has changed rows and returns none.
func (out *Executed) count(batch arrow.RecordBatch) error {
	if counts, ok := batch.Column(0).(*array.Int64); ok && counts.Len() > 0 {
		out.Affected += counts.Value(0)
	}
	return nil
}

// typesOf looks up the types of columns of which no row came to tell.
func (out *Executed) typesOf(ctx context.Context, conn *duck.Conn, of gate.Name) error {
	var d described
	for i, c := range out.Columns {
		if c.Type != "" {
			continue
		}
		if d.Name == "" {
			var err error
			if d, err = describe(ctx, conn, of.Schema, of.Table); err != nil {
				return err
			}
		}
		out.Columns[i].Type = "UNKNOWN"
		if at, err := d.column(c.Name); err == nil {
			out.Columns[i].Type = d.Columns[at].Type
		}
	}
	return nil
}

func (r *returned) take(batch arrow.RecordBatch) error {
	cells, err := r.cells(batch)
	if err != nil {
		return err
	}
	r.Affected += batch.NumRows()
	for i := range int(batch.NumRows()) {
		row := []byte{'{'}
		for at, one := range cells {
			if at > 0 {
				row = append(row, ',')
			}
			row = one(append(appendJSONText(row, r.Columns[at].Name), ':'), i)
		}
		row = append(row, '}')
		if r.size += len(row); int64(len(r.Rows)) >= r.limit || r.size > maxReturned {
			r.Truncated = true
			break
		}
		r.Rows = append(r.Rows, row)
	}
	return nil
}

// cells are those of a batch.
func (r *returned) cells(batch arrow.RecordBatch) ([]cell, error) {
	if r.native {
		return jsonNotation.cells(batch, r.Columns)
	}
	n := len(r.Columns)
	if int(batch.NumCols()) != 2*n || batch.NumRows() == 0 {
		return nil, fmt.Errorf("%d columns were rendered as %d", n, batch.NumCols())
	}
	all := make([]cell, n)
	for i := range all {
		values, ok := batch.Column(i).(*array.String)
		types, alsoOK := batch.Column(n + i).(*array.String)
		if !ok || !alsoOK {
			return nil, fmt.Errorf("a column was rendered as %s", batch.Column(i).DataType())
		}
		r.Columns[i].Type = string([]byte(types.Value(0)))
		all[i] = func(buf []byte, row int) []byte {
			if values.IsNull(row) {
				return append(buf, "null"...)
			}
			return append(buf, lawful([]byte(values.Value(row)))...)
		}
	}
	return all, nil
}
