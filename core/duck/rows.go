package duck

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync"

	duckdb "github.com/duckdb/duckdb-go/v2"
)

// ErrClosed: the database was closed while the statement ran or its rows were read.
var ErrClosed = errors.New("database is closed")

// readers are the statements that run on the pool and the rows that are open.
// Closing a database ends them: a connection that stays open keeps the instance
// and its lock, so that opening the file again in this process would return the
// old instance, dead as it may be.
type readers struct {
	ctx  context.Context // ends when the database closes
	stop context.CancelFunc

	mu      sync.Mutex
	closed  bool
	open    map[*Rows]struct{}
	running sync.WaitGroup
}

func newReaders() *readers {
	r := &readers{open: map[*Rows]struct{}{}}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r
}

// begin returns a context that ends with the caller's or with the database.
func (r *readers) begin(ctx context.Context) (context.Context, func(), error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, nil, ErrClosed
	}
	r.running.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	unhook := context.AfterFunc(r.ctx, cancel)
	return ctx, func() { unhook(); cancel() }, nil
}

// keep counts rows as open, and ends them where the database has closed meanwhile.
func (r *readers) keep(rows *Rows) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errors.Join(ErrClosed, rows.Rows.Close())
	}
	r.open[rows] = struct{}{}
	return nil
}

func (r *readers) forget(rows *Rows) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, rows)
}

// end interrupts what runs, waits for it, and cuts off what is being read.
func (r *readers) end() {
	r.mu.Lock()
	r.closed = true
	open := r.open
	r.open = nil
	for rows := range open {
		rows.cut = true
	}
	r.mu.Unlock()
	r.stop()
	for rows := range open {
		_ = rows.Rows.Close()
	}
	r.running.Wait()
}

func (r *readers) wasCut(rows *Rows) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return rows.cut
}

// Rows are the rows of an answer. They must be closed.
type Rows struct {
	*sql.Rows
	db   *DB
	done func()
	cut  bool // the database was closed before the last row; under readers.mu
}

// Next moves to the next row. After false, Err tells whether it was the last.
func (r *Rows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.db.readers.forget(r)
	return false
}

// Err returns why the rows ended early, classified.
func (r *Rows) Err() error {
	if r.db.readers.wasCut(r) {
		return ErrClosed
	}
	return r.db.check(r.Rows.Err())
}

// Scan copies the row's values.
func (r *Rows) Scan(dest ...any) error { return r.db.check(r.Rows.Scan(dest...)) }

// Close frees the rows, read or not.
func (r *Rows) Close() error {
	r.db.readers.forget(r)
	defer r.done()
	return r.db.check(r.Rows.Close())
}

// pooled opens the pool's connections.
type pooled struct{ *duckdb.Connector }

// Connect opens one.
func (p pooled) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := p.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return single{conn}, nil
}

// single hides all but Prepare from database/sql, which refuses more than one
// statement. The driver's QueryContext runs every statement of a text but the
// last without a word.
type single struct{ conn driver.Conn }

func (s single) Prepare(query string) (driver.Stmt, error) { return s.conn.Prepare(query) }
func (s single) Begin() (driver.Tx, error)                 { return nil, errors.ErrUnsupported }
func (s single) Close() error                              { return s.conn.Close() }

// CheckNamedValue lets the driver take values that database/sql does not know.
func (s single) CheckNamedValue(v *driver.NamedValue) error {
	return s.conn.(driver.NamedValueChecker).CheckNamedValue(v)
}
