// Package duck is the only import of the DuckDB driver: it opens database
// files, runs statements, appends rows, and says in words that can be tested
// what went wrong.
//
// An instance that a fatal error has invalidated is retired: Dead tells why, and
// every later call fails at once. One process must open a file once only: a
// second instance in the same process is not refused by DuckDB and destroys the
// file. The package does not know whose file it is.
package duck

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"sort"
	"strings"
	"sync/atomic"

	duckdb "github.com/duckdb/duckdb-go/v2"
)

// Options are the settings of an instance.
type Options struct {
	Threads     int    // 0: 1; more adds (Threads - 1) OS threads
	MemoryLimit string // such as "1GiB"; empty: DuckDB's default
	ReadOnly    bool
	// Settings are further DuckDB settings by name.
	Settings map[string]string
}

// DB is an open database file.
type DB struct {
	path      string
	connector *duckdb.Connector
	pool      *sql.DB // of readers
	dead      atomic.Pointer[error]
}

// readers bounds how many statements read at once.
const readers = 16

// Open opens the database file, which is made if it does not exist. An empty
// path is a database in memory. Extensions are neither loaded nor installed.
func Open(ctx context.Context, path string, o Options) (*DB, error) {
	if o.ReadOnly {
		if _, err := os.Stat(path); err != nil {
			return nil, err
		}
	}
	connector, err := duckdb.NewConnector(path+"?"+o.query(), nil)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", classify(err))
	}
	db := &DB{path: path, connector: connector, pool: sql.OpenDB(connector)}
	db.pool.SetMaxOpenConns(readers)
	db.pool.SetMaxIdleConns(readers)
	if err := db.pool.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", classify(err)), db.Close())
	}
	return db, nil
}

func (o Options) query() string {
	settings := map[string]string{
		"threads":                      fmt.Sprint(max(1, o.Threads)),
		"autoload_known_extensions":    "false",
		"autoinstall_known_extensions": "false",
		// Checkpoints are asked for, between commits, not had inside one.
		"checkpoint_threshold": "1TB",
	}
	if o.MemoryLimit != "" {
		settings["memory_limit"] = o.MemoryLimit
	}
	if o.ReadOnly {
		settings["access_mode"] = "READ_ONLY"
	}
	for name, value := range o.Settings {
		settings[name] = value
	}
	names := make([]string, 0, len(settings))
	for name := range settings {
		names = append(names, name)
	}
	sort.Strings(names)
	q := make([]string, len(names))
	for i, name := range names {
		q[i] = name + "=" + url.QueryEscape(settings[name])
	}
	return strings.Join(q, "&")
}

// Dead returns why the instance can answer nothing more, or nil.
func (db *DB) Dead() error {
	if dead := db.dead.Load(); dead != nil {
		return *dead
	}
	return nil
}

// check classifies an error, and retires the instance after a fatal one.
func (db *DB) check(err error) error {
	if err == nil {
		return nil
	}
	kind := classify(err)
	if fatal(err) {
		dead := fmt.Errorf("%w: %w", ErrFatal, kind)
		db.dead.CompareAndSwap(nil, &dead)
		return dead
	}
	return kind
}

// Query runs one statement and returns its rows.
func (db *DB) Query(ctx context.Context, query string, args ...any) (*Rows, error) {
	if err := db.Dead(); err != nil {
		return nil, err
	}
	rows, err := db.pool.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, db.check(err)
	}
	return &Rows{rows, db}, nil
}

// Rows are the rows of an answer. They must be closed.
type Rows struct {
	*sql.Rows
	db *DB
}

// Err returns why the rows ended early, classified.
func (r *Rows) Err() error { return r.db.check(r.Rows.Err()) }

// Scan copies the row's values.
func (r *Rows) Scan(dest ...any) error { return r.db.check(r.Rows.Scan(dest...)) }

// Checkpoint folds the write-ahead log into the file. It cannot be interrupted
// promptly, and fails while a long transaction is open.
func (db *DB) Checkpoint(ctx context.Context) error {
	if err := db.Dead(); err != nil {
		return err
	}
	_, err := db.pool.ExecContext(ctx, "CHECKPOINT")
	return db.check(err)
}

// WALSize returns the size of the write-ahead log in bytes, 0 if there is none.
func (db *DB) WALSize() (int64, error) {
	info, err := os.Stat(db.path + ".wal")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Close ends the instance. A live one folds its write-ahead log into the file.
func (db *DB) Close() error {
	return errors.Join(db.pool.Close(), db.connector.Close())
}

// Conn is a connection of its own, for one goroutine: that of a writer.
type Conn struct {
	db   *DB
	conn driver.Conn
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
	return &Conn{db, c}, nil
}

// Close ends the connection, and rolls back what it had begun.
func (c *Conn) Close() error { return c.db.check(c.conn.Close()) }

// Exec runs one statement.
func (c *Conn) Exec(ctx context.Context, query string, args ...any) error {
	if err := c.db.Dead(); err != nil {
		return err
	}
	named := make([]driver.NamedValue, len(args))
	for i, a := range args {
		named[i] = driver.NamedValue{Ordinal: i + 1, Value: a}
	}
	_, err := c.conn.(driver.ExecerContext).ExecContext(ctx, query, named)
	return c.db.check(err)
}

// Begin opens a transaction.
func (c *Conn) Begin(ctx context.Context) error { return c.Exec(ctx, "BEGIN TRANSACTION") }

// Rollback ends the transaction with nothing kept.
func (c *Conn) Rollback() error { return c.Exec(context.Background(), "ROLLBACK") }

// Commit makes the transaction durable. It takes no context: a COMMIT that is
// cancelled returns an error although its data may be durable.
func (c *Conn) Commit() error { return c.Exec(context.Background(), "COMMIT") }
