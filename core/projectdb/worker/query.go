package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb/gate"
)

// The forms in which rows leave a worker.
const (
	FormJSON  = "json"   // objects with commas between
	FormLines = "ndjson" // objects with an end of line behind each
	FormCSV   = "csv"    // with a line of names
	FormArrow = "arrow"  // the IPC stream
)

// Query asks for the rows of one statement that reads. It is answered by a
// QueryHead, the rows as bytes, and a QueryEnd.
type Query struct {
	SQL     string            `json:"sql"`
	Params  []json.RawMessage `json:"params,omitempty"`
	Form    string            `json:"form"`
	MaxRows int64             `json:"max_rows,omitempty"` // 0: all
}

// QueryHead comes before the first row: from here on the statement has run well
// at least so far.
type QueryHead struct {
	Columns []QueryColumn `json:"columns"` // none in the form arrow, which says so itself
}

// QueryColumn is a column of an answer.
type QueryColumn struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// QueryEnd comes after the last row.
type QueryEnd struct {
	Rows      int64 `json:"rows"`
	Truncated bool  `json:"truncated"` // there were more than were asked for
}

func query(ctx context.Context, t *task) (any, error) {
	var q Query
	if err := t.args(&q); err != nil {
		return nil, err
	}
	args, err := parameters(q.Params)
	if err != nil {
		return nil, err
	}
	var end QueryEnd
	err = t.read(ctx, func(conn *duck.Conn) error {
		checked, err := t.selects(ctx, conn, q.SQL)
		if err != nil {
			return err
		}
		// What describes the rows and what computes them see the same tables.
		if err := conn.Begin(ctx); err != nil {
			return err
		}
		end, err = t.answer(ctx, conn, presentation{form: q.Form, sql: checked.SQL, args: args, raw: checked.Kind != "select"}, q.MaxRows)
		return err
	})
	return end, t.blame(err, q.SQL)
}

// presentation is how the rows of a statement are shown.
type presentation struct {
	form string
	sql  string
	args []any
	raw  bool   // the statement cannot stand in another one
	row  string // what a row is called where another statement renders it: no column is
	// native: the rows come as they are, and become text here.
	native bool
	texts  map[int]string // of columns that are texts in Arrow, the types
}

// text is the statement that renders the rows which natively does not.
func (p *presentation) text() string {
	if p.form == FormCSV {
		return "SELECT COLUMNS(*)::VARCHAR FROM (" + p.sql + "\n)"
	}
	return "SELECT to_json(" + p.row + ")::VARCHAR FROM (" + p.sql + "\n) AS " + p.row
}

// unlike returns the name with as much behind it as no column has.
func unlike(name string, columns func(i int) string, n int) string {
	for i := 0; i < n; i++ {
		if gate.Same(columns(i), name) {
			name, i = name+"_", -1
		}
	}
	return name
}

// typesOf answers one row: the types of the columns of a statement, which are its
// names. It computes none of the statement's rows.
const typesOf = "SELECT typeof(COLUMNS(%[2]s.*)) FROM (SELECT 1) AS one LEFT JOIN (SELECT * FROM (%[1]s\n) LIMIT 0) AS %[2]s ON true"

// stream begins the statement that has the rows, and tells their columns.
func (p *presentation) stream(ctx context.Context, conn *duck.Conn) (b *duck.Batches, columns []QueryColumn, err error) {
	stmt, err := conn.Prepare(ctx, p.sql)
	if err != nil {
		return nil, nil, err
	}
	if p.raw {
		if b, err = stmt.Stream(ctx, p.args...); err == nil {
			columns = plainColumns(b.Schema())
		}
		return b, columns, err
	}
	if p.form == FormArrow {
		b, err = p.inArrow(ctx, conn, stmt)
		return b, nil, err
	}
	known, err := stmt.Columns()
	p.row = unlike("_eider_row", func(i int) string { return known[i].Name }, len(known))
	if err == nil && native(known) {
		if b, err = stmt.Stream(ctx, p.args...); err != nil {
			return nil, nil, err
		}
		if p.native = native(b.Columns()); p.native {
			return b, plain(b.Columns()), nil
		}
		err = b.Close() // a parameter has given a column another type
	} else {
		err = errors.Join(err, stmt.Close())
	}
	if err == nil {
		columns, err = p.columns(ctx, conn)
	}
	if err != nil {
		return nil, nil, err
	}
	b, err = conn.Stream(ctx, p.text(), p.args...)
	return b, columns, err
}

// plain describes columns whose types are all known.
func plain(known []duck.Column) (columns []QueryColumn) {
	for _, c := range known {
		columns = append(columns, QueryColumn(c))
	}
	return columns
}

func (p *presentation) columns(ctx context.Context, conn *duck.Conn) (columns []QueryColumn, err error) {
	b, err := conn.Stream(ctx, fmt.Sprintf(typesOf, p.sql, p.row), p.args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	row, err := b.Next()
	if err != nil {
		return nil, err
	}
	defer row.Release()
	for i, field := range b.Schema().Fields() {
		columns = append(columns, QueryColumn{Name: field.Name, Type: strings.Clone(row.Column(i).(*array.String).Value(0))})
	}
	return columns, nil
}

// answer sends the rows. Nothing is sent before the first of them is there, so
// that a statement that fails at once has no half answer.
func (t *task) answer(ctx context.Context, conn *duck.Conn, p presentation, limit int64) (end QueryEnd, err error) {
	b, columns, err := p.stream(ctx, conn)
	if err != nil {
		return end, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	first, err := b.Next()
	if err != nil && !errors.Is(err, io.EOF) {
		return end, err
	}
	if sendErr := t.head(QueryHead{Columns: columns}); sendErr != nil {
		if first != nil {
			first.Release()
		}
		return end, sendErr
	}
	out := &outgoing{send: t.give}
	r, told := p.renderer(out, columns, b.Schema()), time.Now()
	for batch := first; err == nil && !end.Truncated; batch, err = b.Next() {
		if batch, end.Truncated = cut(batch, limit, end.Rows); batch.NumRows() > 0 {
			err = r.rows(batch)
		}
		end.Rows += batch.NumRows()
		batch.Release()
		if time.Since(told) > tellEvery {
			t.progress(share(end.Rows, limit), end.Rows)
			told = time.Now()
		}
		if err == nil {
			err = out.flushLate()
		}
		if err != nil || end.Truncated {
			break
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return end, err
	}
	return end, errors.Join(r.end(), out.flush())
}

// share is how much of a limited answer is sent; of how many rows another has
// nobody knows.
func share(rows, limit int64) float64 {
	if limit <= 0 {
		return 0
	}
	return float64(rows) / float64(limit)
}

// cut shortens a batch to what is left of a limit.
func cut(batch arrow.RecordBatch, limit, before int64) (_ arrow.RecordBatch, shorter bool) {
	if limit <= 0 || before+batch.NumRows() <= limit {
		return batch, false
	}
	defer batch.Release()
	return batch.NewSlice(0, limit-before), true
}

// plainColumns describes what DuckDB does not: the answer of an EXPLAIN.
func plainColumns(schema *arrow.Schema) (columns []QueryColumn) {
	for _, field := range schema.Fields() {
		columns = append(columns, QueryColumn{field.Name, "VARCHAR"})
	}
	return columns
}

// parameters turns JSON values into those that are bound. They are never part of
// a text.
func parameters(values []json.RawMessage) (args []any, err error) {
	for i, raw := range values {
		var v any
		d := json.NewDecoder(strings.NewReader(string(raw)))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			return nil, fmt.Errorf("parameter %d: %w", i+1, err)
		}
		switch v := v.(type) {
		case nil, bool, string:
			args = append(args, v)
			continue
		case json.Number:
			if whole, err := v.Int64(); err == nil {
				args = append(args, whole)
				continue
			}
			if f, err := v.Float64(); err == nil && strings.ContainsAny(v.String(), ".eE") {
				args = append(args, f)
				continue
			}
		}
		return nil, eider.Invalid(fmt.Sprintf("params[%d]", i), "must be a string, a boolean, null, or a number of 64 bits; larger numbers, dates and lists as a string that the statement casts")
	}
	return args, nil
}

// Execute asks for one statement that writes, in a transaction of its own.
type Execute struct {
	SQL     string            `json:"sql"`
	Params  []json.RawMessage `json:"params,omitempty"`
	MaxRows int64             `json:"max_rows,omitempty"` // of what RETURNING gives
}

// Executed is what it has changed.
type Executed struct {
	Columns   []QueryColumn     `json:"columns"`
	Rows      []json.RawMessage `json:"rows"`
	Affected  int64             `json:"affected"`
	Truncated bool              `json:"truncated"`
	Measured  *Measured         `json:"measured,omitempty"`
}

// maxReturned bounds the rows of RETURNING, in bytes: they come in one message.
const maxReturned = 1 << 20

func execute(ctx context.Context, t *task) (any, error) {
	var e Execute
	if err := t.args(&e); err != nil {
		return nil, err
	}
	args, err := parameters(e.Params)
	if err != nil {
		return nil, err
	}
	out := Executed{Columns: []QueryColumn{}, Rows: []json.RawMessage{}}
	err = t.change(ctx, func(conn *duck.Conn) error {
		checked, err := t.writes(ctx, conn, e.SQL)
		if err != nil {
			return err
		}
		if err := out.run(ctx, conn, checked, args, e.MaxRows); err != nil {
			return err
		}
		return t.keep(out)
	})
	if err != nil {
		return nil, t.blame(err, e.SQL)
	}
	out.Measured = t.measure(context.WithoutCancel(ctx))
	return out, nil
}
