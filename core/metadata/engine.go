package metadata

import (
	"context"
	"errors"
)

// Kind is the type of a column. Every engine stores a value of a kind so that
// it comes back equal: a Time has microseconds and no zone, a Text is valid
// UTF-8.
type Kind int

// The kinds of column, with the Go type that Encode gives and Decode scans.
const (
	Text  Kind = iota // string, or nil
	Int               // int64, or nil
	Bool              // bool
	Time              // time.Time in UTC, or nil
	Bytes             // []byte, or nil
)

// Column is one column of a table.
type Column struct {
	Name string
	Kind Kind
}

// Spec is what an engine must know of a table to flush its rows. The first
// column is the key; a table whose rows are only ever appended needs none.
type Spec struct {
	Name    string
	Columns []Column
}

// Key returns the name of the key column.
func (s *Spec) Key() string { return s.Columns[0].Name }

// Change is what a batch does to one table. Each row holds a value for every
// column, in their order.
type Change struct {
	Table  *Spec
	Insert [][]any // rows whose keys are new
	Update [][]any // rows whose keys exist, whole
	Delete []any   // keys
	// Through, if above 0, removes the rows whose first column, a number, is at most
	// that: those of a table that only ever grows, once they are archived.
	Through int64
}

// Batch is what one group changes: all of it becomes durable, or none.
type Batch struct {
	Changes []Change
}

// Rows is the answer to a query. Close may be called more than once.
type Rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
	Close() error
}

// Engine keeps the metadata tables. It flushes staged rows, runs migrations
// and answers reads, and knows nothing of what the rows mean. The conformance
// suite is metadatatest.
type Engine interface {
	// Migrate applies the migrations that are not applied yet, each in one
	// transaction with its row in schema_version, in the order given. It
	// returns ErrNewer if the database has one that is not among them.
	Migrate(ctx context.Context, all []Migration) error

	// Commit makes the batch durable in one transaction. An error that is
	// ErrRolledBack says that nothing of it was kept; after any other error the
	// caller must ask the tables. A COMMIT that has begun ignores ctx.
	Commit(ctx context.Context, batch *Batch) error

	// Query runs one statement that reads, outside any transaction.
	Query(ctx context.Context, sql string, args ...any) (Rows, error)

	// Maintain does what is due between two batches, such as a checkpoint.
	Maintain(ctx context.Context) error

	// Dead returns why the engine can answer nothing more, or nil.
	Dead() error

	// Reopen replaces a dead instance by a fresh one on the same database.
	Reopen(ctx context.Context) error

	// Close ends the engine cleanly. Nothing may be running.
	Close() error
}

// What an engine's error may be, besides what it wraps.
var (
	// ErrRolledBack: nothing of the batch was kept.
	ErrRolledBack = errors.New("rolled back")
	// ErrFull: there was no room for the batch.
	ErrFull = errors.New("no space left")
	// ErrSync: an fsync failed. What is on disk is unknown and nothing may be
	// retried on the same file by this process.
	ErrSync = errors.New("fsync failed")
	// ErrNewer: the database was written by a newer version.
	ErrNewer = errors.New("database is newer than this version")
	// ErrClosed: the store is closing or closed.
	ErrClosed = errors.New("metadata store is closed")
)
