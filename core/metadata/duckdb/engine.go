// Package duckdb is the metadata engine that is embedded: one DuckDB file.
//
// New rows go through the appender, changed and deleted ones through one
// statement for each table, all in one transaction. There are no foreign keys
// and no indexes on columns that change: DuckDB turns an update of an indexed
// column into a delete and an insert (docs/decisions/0004).
package duckdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/metadata"
)

// Options are the settings of the engine.
type Options struct {
	Path           string
	Threads        int
	MemoryLimit    string
	CheckpointSize int64 // bytes of write-ahead log; 0 means 48 MiB
	ReadOnly       bool  // nothing is written beside the file either
	// Log is told when a checkpoint that was cut short is put right; nil is slog's
	// default.
	Log *slog.Logger
}

// Engine is a metadata.Engine on one DuckDB file.
type Engine struct {
	options Options

	mu   sync.RWMutex // guards db against Reopen
	db   *duck.DB
	conn *duck.Conn // the writer's

	snapshots atomic.Int32 // that are being made

	busy  time.Time // until when a checkpoint that failed is not tried again
	wrote bool      // anything, so that closing may fold the write-ahead log
}

var _ metadata.Engine = (*Engine)(nil)

// Open opens the file, which is made if it does not exist.
func Open(ctx context.Context, o Options) (*Engine, error) {
	if o.CheckpointSize == 0 {
		o.CheckpointSize = 48 << 20
	}
	e := &Engine{options: o}
	return e, e.open(ctx)
}

func (e *Engine) open(ctx context.Context) error {
	db, err := duck.Open(ctx, e.options.Path, duck.Options{
		Threads: e.options.Threads, MemoryLimit: e.options.MemoryLimit, ReadOnly: e.options.ReadOnly, Log: e.options.Log,
	})
	if err != nil {
		return err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return errors.Join(err, db.CloseAsIs())
	}
	e.db, e.conn = db, conn
	return nil
}

const createVersions = `CREATE TABLE IF NOT EXISTS schema_version (
	owner TEXT NOT NULL, number BIGINT NOT NULL, applied_at TIMESTAMPTZ NOT NULL, PRIMARY KEY (owner, number))`

const (
	selectVersions = `SELECT owner, max(number) FROM schema_version GROUP BY owner ORDER BY owner`
	insertVersion  = `INSERT INTO schema_version VALUES ($1, $2, $3)`
)

// Migrate applies what is missing.
func (e *Engine) Migrate(ctx context.Context, all []metadata.Migration) error {
	if err := e.conn.Exec(ctx, createVersions); err != nil {
		return translate(err)
	}
	applied, err := e.versions(ctx)
	if err != nil {
		return err
	}
	newest := map[string]int{}
	for _, m := range all {
		newest[m.Owner] = m.Number
	}
	for owner, number := range applied {
		if number > newest[owner] {
			return fmt.Errorf("%w: it has schema %s/%d, this version knows %s/%d", metadata.ErrNewer, owner, number, owner, newest[owner])
		}
	}
	for _, m := range all {
		if m.Number > applied[m.Owner] {
			if err := e.migrate(ctx, m); err != nil {
				return fmt.Errorf("migration %s: %w", m.Name(), translate(err))
			}
		}
	}
	return nil
}

func (e *Engine) versions(ctx context.Context) (map[string]int, error) {
	rows, err := e.db.Query(ctx, selectVersions)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	applied := map[string]int{}
	for rows.Next() {
		var owner string
		var number int
		if err := rows.Scan(&owner, &number); err != nil {
			return nil, err
		}
		applied[owner] = number
	}
	return applied, rows.Err()
}

func (e *Engine) migrate(ctx context.Context, m metadata.Migration) error {
	e.wrote = true
	if err := e.conn.Begin(ctx); err != nil {
		return err
	}
	for _, statement := range m.SQL {
		if err := e.conn.Exec(ctx, statement); err != nil {
			return errors.Join(err, e.conn.Rollback())
		}
	}
	if err := e.conn.Exec(ctx, insertVersion, m.Owner, int64(m.Number), time.Now().UTC()); err != nil {
		return errors.Join(err, e.conn.Rollback())
	}
	return e.conn.Commit()
}

// Commit makes the batch durable.
func (e *Engine) Commit(ctx context.Context, b *metadata.Batch) error {
	e.wrote = true
	if err := e.conn.Begin(ctx); err != nil {
		return rolledBack(err)
	}
	for i := range b.Changes {
		if err := e.flush(&b.Changes[i]); err != nil {
			if rollback := e.conn.Rollback(); rollback != nil && e.db.Dead() == nil {
				return fmt.Errorf("roll back: %w", errors.Join(rollback, err))
			}
			return rolledBack(err)
		}
	}
	err := e.conn.Commit()
	if err == nil {
		return nil
	}
	// A commit that failed for want of space has rolled back and left the
	// instance alive; after any other error the tables must be asked.
	if errors.Is(err, duck.ErrFull) && e.db.Dead() == nil {
		return rolledBack(err)
	}
	return translate(err)
}

func rolledBack(err error) error { return fmt.Errorf("%w: %w", metadata.ErrRolledBack, translate(err)) }

// translate gives the driver's kinds of error the store's words.
func translate(err error) error {
	switch {
	case errors.Is(err, duck.ErrSync):
		return fmt.Errorf("%w: %w", metadata.ErrSync, err)
	case errors.Is(err, duck.ErrFull):
		return fmt.Errorf("%w: %w", metadata.ErrFull, err)
	}
	return err
}

func (e *Engine) flush(c *metadata.Change) error {
	if c.Through > 0 {
		if err := e.conn.Exec(context.Background(), fmt.Sprintf("DELETE FROM %s WHERE %s <= $1", c.Table.Name, c.Table.Key()), c.Through); err != nil {
			return fmt.Errorf("cut %s: %w", c.Table.Name, err)
		}
	}
	if len(c.Delete) > 0 {
		keys := make([][]any, len(c.Delete))
		for i, key := range c.Delete {
			keys[i] = []any{key}
		}
		column := c.Table.Columns[0]
		sql := fmt.Sprintf("DELETE FROM %s USING batch WHERE %s.%s = batch.%s", c.Table.Name, c.Table.Name, column.Name, column.Name)
		if err := e.conn.AppendQuery(sql, []string{column.Name}, []duck.Type{types[column.Kind]}, keys); err != nil {
			return fmt.Errorf("delete from %s: %w", c.Table.Name, err)
		}
	}
	if len(c.Update) > 0 {
		names, kinds := columns(c.Table)
		if err := e.conn.AppendQuery(updateFrom(c.Table), names, kinds, c.Update); err != nil {
			return fmt.Errorf("update %s: %w", c.Table.Name, err)
		}
	}
	if len(c.Insert) > 0 {
		if err := e.conn.Append(c.Table.Name, c.Insert); err != nil {
			return fmt.Errorf("insert into %s: %w", c.Table.Name, err)
		}
	}
	return nil
}

var types = map[metadata.Kind]duck.Type{
	metadata.Text: duck.Text, metadata.Int: duck.Int, metadata.Bool: duck.Bool, metadata.Time: duck.Time, metadata.Bytes: duck.Blob,
}

func columns(t *metadata.Spec) (names []string, kinds []duck.Type) {
	for _, c := range t.Columns {
		names = append(names, c.Name)
		kinds = append(kinds, types[c.Kind])
	}
	return names, kinds
}

// updateFrom never sets the key: it has an index.
func updateFrom(t *metadata.Spec) string {
	sets := make([]string, 0, len(t.Columns))
	for _, c := range t.Columns[1:] {
		sets = append(sets, c.Name+" = batch."+c.Name)
	}
	return fmt.Sprintf("UPDATE %s SET %s FROM batch WHERE %s.%s = batch.%s",
		t.Name, strings.Join(sets, ", "), t.Name, t.Key(), t.Key())
}

// Query runs one statement that reads.
func (e *Engine) Query(ctx context.Context, sql string, args ...any) (metadata.Rows, error) {
	e.mu.RLock()
	db := e.db
	e.mu.RUnlock()
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return nil, translate(err)
	}
	return rows, nil
}

// How long a checkpoint waits that could not be made: it costs little while a
// long read keeps it off, and the instance where the disk is full.
const (
	busyPause = 5 * time.Second
	deadPause = time.Minute
)

// Maintain folds the write-ahead log into the file once it is large: one of
// 100 MB takes six seconds to replay at the next start.
func (e *Engine) Maintain(ctx context.Context) error {
	size, err := e.db.WALSize()
	if err != nil || size < e.options.CheckpointSize || time.Now().Before(e.busy) || e.snapshots.Load() > 0 {
		return err
	}
	if err := e.db.Checkpoint(ctx); err != nil {
		e.busy = time.Now().Add(busyPause)
		if e.db.Dead() != nil {
			e.busy = time.Now().Add(deadPause)
		}
		return fmt.Errorf("checkpoint: %w", translate(err))
	}
	return nil
}

// Dead returns why the instance can answer nothing more, or nil.
func (e *Engine) Dead() error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.db.Dead()
}

// Reopen replaces the instance. The old one is closed first: two instances of
// one file in one process destroy it.
func (e *Engine) Reopen(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	_ = e.conn.Close() // of a dead instance: nothing can be done about an error
	_ = e.db.CloseAsIs()
	return translate(e.open(ctx))
}

// WALSize returns the size of the write-ahead log in bytes.
func (e *Engine) WALSize() (int64, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.db.WALSize()
}

// Close folds the write-ahead log into the file and ends the instance. One that
// has written nothing leaves both as they are: the start that finds rows missing
// must not be what destroys a log from which they could be told.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.db == nil {
		return nil
	}
	var err error
	if e.wrote && e.db.Dead() == nil {
		err = e.db.Checkpoint(context.Background())
	}
	return errors.Join(err, e.conn.Close(), e.db.CloseAsIs())
}
