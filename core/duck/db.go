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
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
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
	// Log is told what a recovery has done; nil is slog's default.
	Log *slog.Logger

	steps steps // of a test
}

// DB is an open database file.
type DB struct {
	path      string // absolute; empty: in memory
	options   Options
	connector *duckdb.Connector
	pool      *sql.DB // of the connections that read
	readers   *readers
	dead      atomic.Pointer[error]
	folding   folding
	pure      pure
}

// maxReaders bounds how many statements read at once.
const maxReaders = 16

// Open opens the database file, which is made if it does not exist. What a
// checkpoint or a commit has left half done is put right first, unless the file is to
// be read only. An empty path is a database in memory. Extensions are neither loaded nor
// installed.
func Open(ctx context.Context, path string, o Options) (*DB, error) {
	path, err := clean(path)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	switch {
	case path == "":
	case o.ReadOnly:
		_, err = os.Stat(path)
	default:
		if err = recoverFile(path, o.Log, o.steps); err == nil {
			err = trimLog(path, o.Log, o.steps)
		}
	}
	if err != nil {
		return nil, err
	}
	db, err := connect(ctx, path, o)
	if err != nil && o.ReadOnly && interrupted(path) {
		err = fmt.Errorf("a checkpoint of the file was cut short, open it to be written once, so that its journal is put back: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	return db, nil
}

func connect(ctx context.Context, path string, o Options) (*DB, error) {
	connector, err := duckdb.NewConnector(path+"?"+o.query(), nil)
	if err != nil {
		return nil, classify(err)
	}
	db := &DB{path: path, options: o, connector: connector, pool: sql.OpenDB(pooled{connector}), readers: newReaders()}
	db.pool.SetMaxOpenConns(maxReaders)
	db.pool.SetMaxIdleConns(maxReaders)
	if err := db.begin(ctx); err != nil {
		return nil, errors.Join(err, db.CloseAsIs())
	}
	return db, nil
}

// begin makes sure that no checkpoint comes without a journal, and removes the
// journal of one that is over.
func (db *DB) begin(ctx context.Context) error {
	if _, err := db.pool.ExecContext(ctx, "PRAGMA disable_checkpoint_on_shutdown"); err != nil {
		return classify(err)
	}
	if db.path == "" || db.options.ReadOnly {
		return nil
	}
	return removeJournal(db.path, db.options.steps)
}

// clean returns the path as the driver may have it. The driver takes what it
// opens for a URL: behind a # it would lose every setting, at a ? it would open
// another file, and md:x or ~/x would not be files of this folder.
func clean(path string) (string, error) {
	if path == "" || path == ":memory:" {
		return "", nil
	}
	if strings.ContainsFunc(path, func(c rune) bool { return strings.ContainsRune("?#%", c) || c < ' ' || c == 0x7f }) {
		return "", fmt.Errorf("the path %q holds a character that DuckDB's driver cannot take: one of ? # %% or a control character", path)
	}
	return filepath.Abs(path)
}

func (o Options) query() string {
	settings := map[string]string{
		"threads":                      fmt.Sprint(max(1, o.Threads)),
		"autoload_known_extensions":    "false",
		"autoinstall_known_extensions": "false",
		// Checkpoints are asked for, between commits, not had inside one, and each
		// with a journal: see Checkpoint.
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

// check classifies an error, and retires the instance after a fatal one. So is
// every failed fsync for us. DuckDB goes on after one whose error is not EIO,
// although what of the file is on disk is then as unknown.
func (db *DB) check(err error) error {
	if err == nil {
		return nil
	}
	kind := classify(err)
	if fatal(err) || errors.Is(kind, ErrSync) {
		return db.retire(kind)
	}
	return kind
}

func (db *DB) retire(cause error) error {
	if errors.Is(cause, ErrFatal) {
		return cause
	}
	dead := fmt.Errorf("%w: %w", ErrFatal, cause)
	db.dead.CompareAndSwap(nil, &dead)
	return dead
}

// Query runs one statement and returns its rows. A text of more than one is
// refused before any of it runs.
func (db *DB) Query(ctx context.Context, query string, args ...any) (*Rows, error) {
	return db.query(ctx, func(ctx context.Context) (*sql.Rows, error) { return db.pool.QueryContext(ctx, query, args...) })
}

func (db *DB) query(ctx context.Context, run func(context.Context) (*sql.Rows, error)) (*Rows, error) {
	if err := db.Dead(); err != nil {
		return nil, err
	}
	ctx, done, err := db.readers.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer db.readers.running.Done()
	rows, err := run(ctx)
	if err != nil {
		done()
		if db.readers.ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ErrClosed, err)
		}
		return nil, db.check(err)
	}
	r := &Rows{Rows: rows, db: db, done: done}
	if err := db.readers.keep(r); err != nil {
		done()
		return nil, err
	}
	return r, nil
}

// WALSize returns the size of the write-ahead log in bytes, 0 if there is none.
func (db *DB) WALSize() (int64, error) {
	if db.path == "" {
		return 0, nil
	}
	info, err := os.Stat(db.path + ".wal")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Close ends the instance. A live one folds its write-ahead log into the file; if
// it cannot, the log stays, and nothing is lost: who must know asks for the
// Checkpoint first. Of a dead one nothing more is written. Statements that run are
// interrupted, rows that are being read end with ErrClosed.
func (db *DB) Close() error {
	db.readers.end()
	if size, err := db.WALSize(); err == nil && size > 0 && !db.options.ReadOnly && db.Dead() == nil {
		_ = db.fold(context.Background())
	}
	return db.CloseAsIs()
}

// CloseAsIs ends the instance and leaves the write-ahead log as it is.
func (db *DB) CloseAsIs() error {
	db.readers.end()
	err := errors.Join(db.pool.Close(), db.connector.Close())
	db.folding.mu.Lock()
	defer db.folding.mu.Unlock()
	if db.folding.file != nil {
		err = errors.Join(err, db.folding.file.Close())
		db.folding.file = nil
	}
	return err
}
