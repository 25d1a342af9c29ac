//go:build duckdb_arrow

package duck

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"reflect"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	bindings "github.com/duckdb/duckdb-go-bindings"
	duckdb "github.com/duckdb/duckdb-go/v2"
)

// ErrParameters: a statement was given more or fewer parameters than it has.
var ErrParameters = errors.New("the statement's parameters are not those that were given")

// Batches are the rows of a statement, computed while they are read: however many
// there are, only some are in memory. They must be closed before the connection.
//
// The driver's own Arrow interface computes all rows before the first is there,
// and takes an error behind it for the end. So this speaks to the bindings below
// the driver, on the driver's connection.
type Batches struct {
	conn    *Conn
	ctx     context.Context
	stmt    *duckdb.Stmt
	res     bindings.Result
	opts    bindings.ArrowOptions
	schema  *arrow.Schema
	columns []Column
	gather  *gathering // nil: DuckDB converts the rows
	misfits []misfit   // of the columns; nil where there is nothing to be found
	begun   bool       // there were rows
	release func()
	err     error
}

// Stream runs one statement up to its first rows. A text of more than one is
// refused before any of it runs. When ctx ends, the statement is interrupted.
func (c *Conn) Stream(ctx context.Context, query string, args ...any) (*Batches, error) {
	s, err := c.Prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	return s.Stream(ctx, args...)
}

// Stream runs the statement up to its first rows, once: it is closed with them, or
// here if there are none. When ctx ends, it is interrupted.
func (s *Statement) Stream(ctx context.Context, args ...any) (*Batches, error) {
	b := &Batches{conn: s.conn, ctx: ctx, stmt: s.stmt}
	if err := b.begin(args); err != nil {
		return nil, s.conn.note(errors.Join(err, b.Close()))
	}
	return b, nil
}

func (b *Batches) begin(args []any) error {
	if err := errors.Join(b.conn.db.Dead(), b.ctx.Err()); err != nil {
		return err
	}
	if want := b.stmt.NumInput(); want != len(args) {
		return fmt.Errorf("%w: it has %d, and %d were given", ErrParameters, want, len(args))
	}
	named := make([]driver.NamedValue, len(args))
	for i, a := range args {
		named[i] = driver.NamedValue{Ordinal: i + 1, Value: a}
	}
	if err := b.stmt.Bind(named); err != nil {
		return b.conn.db.check(err)
	}
	connection, statement, err := below(b.conn.conn, b.stmt)
	if err != nil {
		return err
	}
	b.release = interruptAfter(b.ctx, connection)
	if err := b.execute(statement); err != nil {
		return err
	}
	return b.describe()
}

// below returns what the driver holds of DuckDB itself. It has no way to say so,
// but its fields can be read.
func below(conn driver.Conn, stmt *duckdb.Stmt) (bindings.Connection, bindings.PreparedStatement, error) {
	c, okConn := pointer(reflect.ValueOf(conn), "conn")
	s, okStmt := pointer(reflect.ValueOf(stmt), "preparedStmt")
	if !okConn || !okStmt {
		return bindings.Connection{}, bindings.PreparedStatement{}, errors.New("the driver's connection is not what it was: see Batches")
	}
	return bindings.Connection{Ptr: c.UnsafePointer()}, bindings.PreparedStatement{Ptr: s.UnsafePointer()}, nil
}

// pointer returns the field Ptr of v's field, both perhaps behind pointers.
func pointer(v reflect.Value, field string) (reflect.Value, bool) {
	for _, name := range []string{field, "Ptr"} {
		for v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			return v, false
		}
		v = v.FieldByName(name)
	}
	return v, v.Kind() == reflect.UnsafePointer && !v.IsNil()
}

// interruptEvery is how often a statement is told to stop that should: what it
// is told between two of its parts is lost.
const interruptEvery = 50 * time.Millisecond

// interruptAfter interrupts what runs on the connection from when ctx ends, until
// the returned function is called. That waits: a connection that is closed must
// not be interrupted.
func interruptAfter(ctx context.Context, conn bindings.Connection) (release func()) {
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-over:
			return
		}
		tick := time.NewTicker(interruptEvery)
		defer tick.Stop()
		for {
			bindings.Interrupt(conn)
			select {
			case <-over:
				return
			case <-tick.C:
			}
		}
	})
	return sync.OnceFunc(func() {
		close(over)
		wg.Wait()
	})
}

// execute runs the statement until its first rows are there.
func (b *Batches) execute(prepared bindings.PreparedStatement) error {
	var pending bindings.PendingResult
	defer bindings.DestroyPending(&pending)
	if bindings.PendingPreparedStreaming(prepared, &pending) == bindings.StateError {
		return b.check(pendingError(bindings.PendingError(pending)))
	}
	if bindings.ExecutePending(pending, &b.res) == bindings.StateError {
		return b.check(b.resultError())
	}
	return nil
}

// pendingError is an error that came without its type.
func pendingError(message string) error {
	kind := duckdb.ErrorTypeInvalid
	for _, k := range []struct {
		lead string
		kind duckdb.ErrorType
	}{
		{"Binder Error", duckdb.ErrorTypeBinder}, {"Catalog Error", duckdb.ErrorTypeCatalog}, {"Conversion Error", duckdb.ErrorTypeConversion},
		{"Invalid Input Error", duckdb.ErrorTypeInvalidInput}, {"Out of Memory Error", duckdb.ErrorTypeOutOfMemory},
		{"INTERRUPT Error", duckdb.ErrorTypeInterrupt}, {"FATAL Error", duckdb.ErrorTypeFatal}, {"INTERNAL Error", duckdb.ErrorTypeInternal},
	} {
		if len(message) >= len(k.lead) && message[:len(k.lead)] == k.lead {
			kind = k.kind
		}
	}
	return &duckdb.Error{Type: kind, Msg: message}
}

func (b *Batches) resultError() error {
	message := bindings.ResultError(&b.res)
	if message == "" {
		return nil
	}
	return &duckdb.Error{Type: duckdb.ErrorType(bindings.ResultErrorType(&b.res)), Msg: message}
}

// check classifies an error, and tells one that was asked for.
func (b *Batches) check(err error) error {
	if err = b.conn.db.check(err); errors.Is(err, ErrInterrupted) && b.ctx.Err() != nil {
		return b.ctx.Err()
	}
	return err
}

// describe finds out what the columns are.
func (b *Batches) describe() error {
	b.opts = bindings.ResultGetArrowOptions(&b.res)
	count := bindings.ColumnCount(&b.res)
	names, types := make([]string, count), make([]bindings.LogicalType, count)
	for i := range count {
		names[i], types[i] = bindings.ColumnName(&b.res, i), bindings.ColumnLogicalType(&b.res, i)
	}
	defer destroy(types)
	b.columns = columnsOf(names, types)
	schema, data := bindings.NewArrowSchema(b.opts, types, names)
	defer bindings.DestroyErrorData(&data)
	if bindings.ErrorDataHasError(data) {
		return b.notInArrow(names, types, bindings.ErrorDataMessage(data))
	}
	b.schema, b.gather = schema, gather(schema, types)
	for _, t := range types {
		b.misfits = append(b.misfits, misfitOf(t))
	}
	return nil
}

// Columns tells the columns as DuckDB has them.
func (b *Batches) Columns() []Column { return b.columns }

// Schema tells the columns as Arrow has them.
func (b *Batches) Schema() *arrow.Schema { return b.schema }

// Changes reports that the statement returns no rows of its own: DuckDB answers
// one that says how many it has changed, or none.
func (b *Batches) Changes() bool {
	return bindings.ResultReturnType(b.res) != bindings.ResultTypeQueryResult
}

// Next computes the next rows; the caller releases them before it asks for more, when
// their memory is used again. After the last it returns io.EOF. Any other error may
// come after many rows.
func (b *Batches) Next() (arrow.RecordBatch, error) {
	if b.err == nil {
		b.err = b.ctx.Err()
	}
	if b.err != nil {
		return nil, b.err
	}
	if b.gather != nil {
		return b.several()
	}
	batch, err := b.convert()
	return batch, b.ended(err)
}

// ended notes an error, after which there are no more rows.
func (b *Batches) ended(err error) error {
	if err == nil {
		return nil
	}
	b.err = b.conn.note(err)
	if errors.Is(err, io.EOF) {
		b.conn.failed = nil
	}
	return b.err
}

// several gathers rows of some chunks: of the first alone, for who waits whether
// there are any, and of no more than came within a short time.
func (b *Batches) several() (arrow.RecordBatch, error) {
	b.gather.begin()
	for begun := time.Now(); !b.gather.full(); {
		err := b.more()
		if err == nil {
			err = b.gather.add()
		}
		if err := b.ended(err); err != nil && b.gather.rows == 0 {
			return nil, err
		}
		if err != nil || !b.begun || time.Since(begun) > gatherFor {
			break
		}
	}
	b.begun = true
	return b.gather.batch(), nil
}

// more sees to it that there are rows to be gathered.
func (b *Batches) more() error {
	if b.gather.left > 0 {
		return nil
	}
	chunk, err := b.fetch()
	if err == nil {
		b.gather.next(chunk)
	}
	return err
}

// fetch computes a chunk of rows, which is to be destroyed.
func (b *Batches) fetch() (bindings.DataChunk, error) {
	chunk := bindings.FetchChunk(b.res)
	if chunk.Ptr == nil {
		if err := b.resultError(); err != nil {
			return chunk, b.check(err)
		}
		return chunk, io.EOF
	}
	return chunk, nil
}

// convert has DuckDB make a batch of a chunk.
func (b *Batches) convert() (arrow.RecordBatch, error) {
	chunk, err := b.fetch()
	if err != nil {
		return nil, err
	}
	defer bindings.DestroyDataChunk(&chunk)
	if err := b.fits(chunk); err != nil {
		return nil, b.check(err)
	}
	batch, data := bindings.DataChunkToArrowArray(b.opts, b.schema, chunk)
	defer bindings.DestroyErrorData(&data)
	if bindings.ErrorDataHasError(data) {
		return nil, b.check(&duckdb.Error{Type: duckdb.ErrorType(bindings.ErrorDataErrorType(data)), Msg: bindings.ErrorDataMessage(data)})
	}
	return batch, nil
}

// Close ends the statement, read or not.
func (b *Batches) Close() error {
	if b.release != nil {
		b.release()
	}
	if b.gather != nil {
		b.gather.drop()
	}
	bindings.DestroyArrowOptions(&b.opts)
	bindings.DestroyResult(&b.res)
	return b.stmt.Close()
}
