// Package metadata keeps the register: typed tables, one writer, group commit.
//
// Callers hand functions to one writer, which runs them one after another over
// an overlay, flushes what a group has staged, seals it and commits it with one
// fsync. Always true: what is in memory is committed; a function's rows, its
// log row and its group are durable together; no caller is answered before.
//
// The package knows neither DuckDB (metadata/duckdb does) nor what a row means
// (its table's owner does) nor how the log is chained (the Sealer does).
package metadata

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eiderdb/eider"
)

// Sealer turns the items that a group has staged into rows, last before the
// commit. It is called by the writer only.
//
// Hashing the log rows inside the functions would be simpler, but a group that
// is rolled back would leave the chain's head ahead of the table.
type Sealer interface {
	// Load reads the sealer's state from the tables: at start, and again
	// whenever the outcome of a commit was unknown.
	Load(ctx context.Context, v *View) error
	// Seal appends rows for the group's items. It may be called again for parts
	// of a group that failed, and moves no state.
	Seal(g *Group) error
	// Sealed is told that the group is durable.
	Sealed(g *Group)
	// Kept reports, after Load, whether the tables hold the group's rows.
	Kept(g *Group) bool
}

// Options is what a store is made of.
type Options struct {
	Engine     Engine
	Tables     []AnyTable
	Migrations []Migration
	Sealer     Sealer
	// Housekeeping names the tables that a Note may touch.
	Housekeeping []string
	Log          *slog.Logger
	// MaxGroup bounds how many functions share a commit; 0 means 1024.
	MaxGroup int
	// NoteEvery is how long a note waits at most for a group to ride in; 0
	// means one second.
	NoteEvery time.Duration
	// LaterEvery is how long what is written Later waits at most for a group to
	// ride in; 0 means 50 milliseconds.
	LaterEvery time.Duration
	// Full is asked to make room when a group meets a full disk, such as by giving
	// back a ballast file. If it returns true the group is tried again, once. It is
	// called by the writer, and also when there was no room for a checkpoint; nil
	// makes no room.
	Full func() bool
	// Fatal is called once when the store can never answer again in this
	// process, such as after a failed fsync.
	Fatal func(error)
	// Committed is told of every group that became durable.
	Committed func(Receipt)
}

// Store is the register's one writer and its readers.
type Store struct {
	engine       Engine
	tables       []AnyTable
	sealer       Sealer
	claims       *claims
	housekeeping map[string]bool
	log          *slog.Logger
	maxGroup     int
	noteEvery    time.Duration
	laterEvery   time.Duration
	full         func() bool
	fatal        func(error)
	committed    func(Receipt)

	queue chan *write
	later chan *write
	noted chan struct{}
	stop  chan struct{} // closed by Close
	done  chan struct{} // closed when the writer has ended

	mu    sync.Mutex
	notes []func(*Tx) error

	unhurried atomic.Int64 // what was written Later and is not answered yet

	down     atomic.Pointer[error] // why writes are refused for now or for ever
	stopOnce sync.Once
}

// Open migrates the database, loads the hot rows and starts the writer. The
// store owns the engine from then on, also when Open fails.
func Open(ctx context.Context, o Options) (*Store, error) {
	checkMigrations(o.Migrations)
	s := &Store{
		engine: o.Engine, tables: o.Tables, sealer: o.Sealer, claims: newClaims(),
		housekeeping: map[string]bool{}, log: o.Log,
		maxGroup: o.MaxGroup, noteEvery: o.NoteEvery, laterEvery: o.LaterEvery, full: o.Full, fatal: o.Fatal, committed: o.Committed,
		queue: make(chan *write, 4096), later: make(chan *write, 4096), noted: make(chan struct{}, 1),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	for _, name := range o.Housekeeping {
		s.housekeeping[name] = true
	}
	s.setDefaults()
	if err := s.open(ctx, o.Migrations); err != nil {
		return nil, errors.Join(err, o.Engine.Close())
	}
	go s.writer()
	return s, nil
}

func (s *Store) setDefaults() {
	if s.maxGroup == 0 {
		s.maxGroup = 1024
	}
	if s.noteEvery == 0 {
		s.noteEvery = time.Second
	}
	if s.laterEvery == 0 {
		s.laterEvery = 50 * time.Millisecond
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.full == nil {
		s.full = func() bool { return false }
	}
	if s.fatal == nil {
		s.fatal = func(error) {}
	}
	if s.committed == nil {
		s.committed = func(Receipt) {}
	}
}

func (s *Store) open(ctx context.Context, migrations []Migration) error {
	if err := s.engine.Migrate(ctx, migrations); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return s.load(ctx)
}

// load fills memory from the tables.
func (s *Store) load(ctx context.Context) error {
	for _, t := range s.tables {
		if err := t.load(ctx, s.engine); err != nil {
			return fmt.Errorf("load %s: %w", t.specification().Name, err)
		}
	}
	if err := s.sealer.Load(ctx, s.View()); err != nil {
		return fmt.Errorf("load the head of the log: %w", err)
	}
	return nil
}

// View returns a reader of what is committed.
func (s *Store) View() *View { return &View{s} }

// NewView returns a reader of an engine that has no store, for who looks into a
// backup.
func NewView(e Engine) *View { return &View{&Store{engine: e}} }

// Ready returns why the store refuses writes, nil if it does not.
func (s *Store) Ready() error {
	if down := s.down.Load(); down != nil {
		return *down
	}
	return nil
}

// Waiting returns how many writes wait for their group to begin.
func (s *Store) Waiting() int { return len(s.queue) + len(s.later) }

var errSettled = errors.New("nothing to write: only waited")

// Settle waits until what was written Later is durable, and so is seen, or has
// failed.
func (v *View) Settle(ctx context.Context) {
	if v.store.unhurried.Load() > 0 {
		_, _ = v.store.Write(ctx, func(*Tx) error { return errSettled })
	}
}

// Probe asks the engine one trivial question, within ctx.
func (s *Store) Probe(ctx context.Context) error {
	if err := s.Ready(); err != nil {
		return err
	}
	rows, err := s.engine.Query(ctx, "SELECT 1")
	if err != nil {
		return err
	}
	defer rows.Close()
	if !rows.Next() {
		return errors.Join(errors.New("the probe found no row"), rows.Err())
	}
	return rows.Err()
}

// Write runs fn in the next group and returns once the group is durable, or
// with fn's own error and nothing kept. A ctx that ends before fn has begun
// cancels it; later it changes nothing: a commit, once begun, is finished.
// Errors of the store itself are refusals with storage_full or
// storage_unavailable. They also take the place of fn's error where the group
// failed: a function may have refused for what a neighbour had staged.
//
// After storage_unavailable nothing was kept, unless the commit's outcome is
// unknown and the group staged no item by which the sealer could tell.
func (s *Store) Write(ctx context.Context, fn func(*Tx) error) (Receipt, error) {
	return s.write(ctx, fn, s.queue)
}

// WriteLater is Write for what no client waits for, such as the row of a download
// that has ended: it rides in the next group, and begins one only after some
// milliseconds. A group has a price of its own that many such rows can share.
// View.Settle waits for them.
func (s *Store) WriteLater(ctx context.Context, fn func(*Tx) error) (Receipt, error) {
	s.unhurried.Add(1)
	defer s.unhurried.Add(-1)
	return s.write(ctx, fn, s.later)
}

func (s *Store) write(ctx context.Context, fn func(*Tx) error, queue chan<- *write) (Receipt, error) {
	if err := ctx.Err(); err != nil {
		return Receipt{}, err
	}
	w := &write{ctx: ctx, fn: fn, queued: time.Now(), answer: make(chan answer, 1)}
	select {
	case <-s.stop:
		return Receipt{}, closing()
	default:
	}
	select {
	case queue <- w:
	case <-ctx.Done():
		return Receipt{}, ctx.Err()
	case <-s.stop:
		return Receipt{}, closing()
	}
	select {
	case a := <-w.answer:
		return a.receipt, a.err
	case <-s.done:
	}
	select { // the writer answers all it has taken before it ends
	case a := <-w.answer:
		return a.receipt, a.err
	default:
		return Receipt{}, closing()
	}
}

func closing() error {
	return eider.Errorf(eider.ShuttingDown, "the server is shutting down").Because(ErrClosed)
}

// Note lets fn ride in the next group, within a second, without a log row of
// its own. It is for the kernel's housekeeping alone; its tables are named in
// Options.Housekeeping. What a note stages is lost in a crash, and where the
// group that it rides in fails on a disk that is full or broken.
func (s *Store) Note(fn func(*Tx) error) {
	s.mu.Lock()
	s.notes = append(s.notes, fn)
	s.mu.Unlock()
	select {
	case s.noted <- struct{}{}:
	default:
	}
}

func (s *Store) takeNotes() []func(*Tx) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	notes := s.notes
	s.notes = nil
	return notes
}

// Close refuses new writes, finishes those it has taken, and closes the engine.
func (s *Store) Close() error {
	var err error
	s.stopOnce.Do(func() {
		close(s.stop)
		<-s.done
		err = s.engine.Close()
	})
	return err
}
