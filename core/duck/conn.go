package duck

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"

	bindings "github.com/duckdb/duckdb-go-bindings"
)

// ErrAborted: the transaction was rolled back at its COMMIT, because a statement
// of it had failed before. DuckDB answers such a COMMIT as if all were well.
var ErrAborted = errors.New("transaction is rolled back: a statement of it had failed")

// Conn is a connection of its own, for one goroutine: that of a writer.
type Conn struct {
	db     *DB
	conn   driver.Conn
	failed error // the first failure since Begin
}

// Conn opens a connection. It must be closed before the database.
func (db *DB) Conn(ctx context.Context) (*Conn, error) {
	if err := db.Dead(); err != nil {
		return nil, err
	}
	c, err := db.connector.Connect(ctx)
	if err != nil {
		return nil, db.check(err)
	}
	return &Conn{db: db, conn: c}, nil
}

// Close ends the connection, and rolls back what it had begun.
func (c *Conn) Close() error { return c.db.check(c.conn.Close()) }

// Exec runs one statement. A text of more than one is refused before any of it
// runs.
func (c *Conn) Exec(ctx context.Context, query string, args ...any) error {
	return c.note(c.exec(ctx, query, args))
}

func (c *Conn) exec(ctx context.Context, query string, args []any) (err error) {
	if err := c.db.Dead(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	statement, err := c.conn.Prepare(query)
	if err != nil {
		return c.db.check(err)
	}
	defer func() { err = errors.Join(err, statement.Close()) }()
	named := make([]driver.NamedValue, len(args))
	for i, a := range args {
		named[i] = driver.NamedValue{Ordinal: i + 1, Value: a}
	}
	_, err = statement.(driver.StmtExecContext).ExecContext(ctx, named)
	return c.db.check(err)
}

// note remembers what must keep the transaction from being committed.
func (c *Conn) note(err error) error {
	if err != nil && c.failed == nil {
		c.failed = err
	}
	return err
}

// TellProgress has DuckDB keep account of how far the statements of this connection
// are. It cannot be asked for once the settings are locked.
func (c *Conn) TellProgress(ctx context.Context) error {
	return errors.Join(c.exec(ctx, "SET enable_progress_bar = true", nil), c.exec(ctx, "SET enable_progress_bar_print = false", nil))
}

// Progress returns how much of its statement the connection has done, from 0 to 1,
// as far as DuckDB knows. Any goroutine may ask.
func (c *Conn) Progress() float64 {
	p, ok := pointer(reflect.ValueOf(c.conn), "conn")
	if !ok {
		return 0
	}
	progress := bindings.QueryProgress(bindings.Connection{Ptr: p.UnsafePointer()})
	percent, _, _ := bindings.QueryProgressTypeMembers(&progress)
	return min(max(percent/100, 0), 1)
}

// Begin opens a transaction. It is not interrupted once it runs: whether it had
// opened one would be unknown.
func (c *Conn) Begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.failed = nil
	return c.exec(context.Background(), "BEGIN TRANSACTION", nil)
}

// Rollback ends the transaction with nothing kept.
func (c *Conn) Rollback() error { return c.exec(context.Background(), "ROLLBACK", nil) }

// Commit makes the transaction durable. It takes no context: a COMMIT that is
// cancelled returns an error although its data may be durable. If anything has
// failed since Begin, it rolls back and returns ErrAborted.
func (c *Conn) Commit() error {
	if c.failed == nil {
		return c.exec(context.Background(), "COMMIT", nil)
	}
	if err := c.Rollback(); err != nil {
		return errors.Join(err, c.failed)
	}
	return fmt.Errorf("%w: %w", ErrAborted, c.failed)
}
