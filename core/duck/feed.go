//go:build duckdb_arrow

package duck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory/mallocator"
	duckdb "github.com/duckdb/duckdb-go/v2"
)

// ErrFed: what was fed to a statement ended early.
var ErrFed = errors.New("the rows ended early")

// Feed is a file that DuckDB writes of rows while they are given to it: few of them
// are in memory at a time, and none is written anywhere else. It keeps its connection
// until it is closed.
type Feed struct {
	build  *array.RecordBuilder
	source *source
	types  []Type
	ended  chan struct{} // the statement has ended
	err    error         // why; once it has ended
}

var arrowTypes = map[Type]arrow.DataType{
	Text: arrow.BinaryTypes.String, Int: arrow.PrimitiveTypes.Int64, Bool: arrow.FixedWidthTypes.Boolean,
	Time: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Blob: arrow.BinaryTypes.Binary,
}

// fed is what the statement calls the rows.
const fed = "fed"

// Feed begins a file; options are those of COPY .. TO. It runs no other statement: one
// that reads no column, such as a count of the rows, takes the process with it.
func (c *Conn) Feed(ctx context.Context, path, options string, columns []string, types []Type) (*Feed, error) {
	if err := errors.Join(c.db.Dead(), ctx.Err()); err != nil {
		return nil, err
	}
	fields := make([]arrow.Field, len(columns))
	for i, column := range columns {
		fields[i] = arrow.Field{Name: column, Type: arrowTypes[types[i]], Nullable: true}
	}
	schema := arrow.NewSchema(fields, nil)
	view, err := duckdb.NewArrowFromConn(c.conn)
	if err != nil {
		return nil, c.db.check(err)
	}
	// DuckDB keeps the buffers that it is given: they must be none of Go's.
	f := &Feed{build: array.NewRecordBuilder(mallocator.NewMallocator(), schema), types: types, ended: make(chan struct{})}
	f.source = &source{schema: schema, batches: make(chan arrow.RecordBatch)}
	release, err := view.RegisterView(f.source, fed)
	if err != nil {
		f.build.Release()
		return nil, c.db.check(err)
	}
	go func() {
		err := c.Exec(ctx, fmt.Sprintf("COPY (SELECT * FROM %s) TO '%s' (%s)", fed, strings.ReplaceAll(path, "'", "''"), options))
		err = errors.Join(err, c.exec(context.Background(), "DROP VIEW "+fed, nil)) // it would read what is freed
		release()
		if cause := f.source.Err(); cause != nil && err != nil {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		f.err = err
		close(f.ended)
	}()
	return f, nil
}

// Add gives rows to the statement; see Append. It returns the statement's error where
// that has ended.
func (f *Feed) Add(rows [][]any) error {
	for _, row := range rows {
		for i, v := range row {
			if err := errors.Join(valid(v), fits(f.types[i], v)); err != nil {
				return fmt.Errorf("column %d: %w", i+1, err)
			}
		}
	}
	for _, row := range rows {
		for i, v := range row {
			give(f.build.Field(i), v)
		}
	}
	batch := f.build.NewRecordBatch()
	select {
	case f.source.batches <- batch:
		return nil
	case <-f.ended:
		batch.Release()
		return cmp.Or(f.err, ErrFed)
	}
}

// fits refuses a value that is none of its column.
func fits(t Type, v any) error {
	ok := true
	switch v.(type) {
	case string:
		ok = t == Text
	case int64:
		ok = t == Int
	case bool:
		ok = t == Bool
	case []byte:
		ok = t == Blob
	case time.Time:
		ok = t == Time
	case float64:
		ok = false
	}
	if !ok {
		return fmt.Errorf("a %T is no value of it", v)
	}
	return nil
}

func give(column array.Builder, v any) {
	switch v := v.(type) {
	case string:
		column.(*array.StringBuilder).Append(v)
	case int64:
		column.(*array.Int64Builder).Append(v)
	case bool:
		column.(*array.BooleanBuilder).Append(v)
	case []byte:
		if v == nil {
			column.AppendNull()
			return
		}
		column.(*array.BinaryBuilder).Append(v)
	case time.Time:
		column.(*array.TimestampBuilder).Append(arrow.Timestamp(v.UnixMicro()))
	default:
		column.AppendNull()
	}
}

// Close ends the rows, and returns how the statement has ended. With a cause it makes
// the statement fail; what it has written by then is for the caller to remove.
func (f *Feed) Close(cause error) error {
	f.source.end(cause)
	<-f.ended
	f.build.Release()
	return f.err
}

// source hands DuckDB the batches, and waits for them.
type source struct {
	schema  *arrow.Schema
	batches chan arrow.RecordBatch
	current arrow.RecordBatch
	once    sync.Once

	mu    sync.Mutex
	cause error
}

func (s *source) end(cause error) {
	s.once.Do(func() {
		s.mu.Lock()
		s.cause = cause
		s.mu.Unlock()
		close(s.batches)
	})
}

// Schema returns what the columns are.
func (s *source) Schema() *arrow.Schema { return s.schema }

// Next waits for a batch.
func (s *source) Next() bool {
	if s.current != nil {
		s.current.Release()
		s.current = nil
	}
	batch, ok := <-s.batches
	s.current = batch
	return ok
}

// RecordBatch returns the batch.
func (s *source) RecordBatch() arrow.RecordBatch { return s.current }

// Record returns the batch, by its old name.
func (s *source) Record() arrow.RecordBatch { return s.current }

// Err returns why the rows ended early.
func (s *source) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

// Retain does nothing: the feed ends with its statement.
func (s *source) Retain() {}

// Release frees the batch that is there.
func (s *source) Release() {
	if s.current != nil {
		s.current.Release()
		s.current = nil
	}
}
