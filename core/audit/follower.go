package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
)

// Cursor says how far a follower has come.
type Cursor struct {
	Name      string
	LogID     int64
	UpdatedAt time.Time
}

// NewCursors returns the table of cursors.
func NewCursors() *metadata.Table[Cursor] {
	return metadata.NewTable(metadata.Def[Cursor]{
		Name: "sink_cursors",
		Columns: []metadata.Column{
			{Name: "name", Kind: metadata.Text}, {Name: "log_id", Kind: metadata.Int}, {Name: "updated_at", Kind: metadata.Time},
		},
		Key:    func(c *Cursor) string { return c.Name },
		Encode: func(c *Cursor) []any { return []any{c.Name, c.LogID, c.UpdatedAt} },
		Decode: func(scan func(...any) error) (c Cursor, err error) {
			err = scan(&c.Name, &c.LogID, &c.UpdatedAt)
			return c, err
		},
		Missing: eider.NotFound, Noun: "cursor", Hot: true,
	})
}

// Follower reads the log in order, behind the writer, at least once each row.
// Handle must be idempotent and must return when its ctx ends; while it fails,
// its follower waits and tries again with the same rows, and nobody else notices.
// The rows of a batch are all in one epoch (Log.EpochAt).
type Follower struct {
	Name   string
	Handle func(ctx context.Context, rows []Row) error
}

const (
	followBatch    = 5000
	followGather   = 250 * time.Millisecond // rows that come together are handled together
	followBackOff  = 250 * time.Millisecond
	followMaxPause = time.Minute
)

const selectAfter = selectRow + `WHERE id > $1 AND id <= $2 ORDER BY id`

// Followers runs the followers of a log.
type Followers struct {
	Store   *metadata.Store
	Log     *Log
	Cursors *metadata.Table[Cursor]
	Logger  *slog.Logger
	// Declared names those that will be started: they count as the slowest before.
	Declared []string

	rest func(ctx context.Context, pause time.Duration) // between tries, in tests; nil waits

	mu     sync.Mutex
	failed map[string]error // by name, of all that run; nil: none
}

// Run follows until ctx ends; then it handles what is left, within drain.
func (f *Followers) Run(ctx context.Context, follower Follower, drain time.Duration) error {
	f.set(follower.Name, nil)
	at, err := f.cursor(ctx, follower.Name)
	if err != nil {
		return err
	}
	pause := followBackOff
	for {
		grown := f.Log.Grown()
		next, err := f.step(ctx, follower, at)
		switch {
		case err != nil && ctx.Err() == nil:
			f.set(follower.Name, err)
			f.Logger.Error("a follower of the log failed", "follower", follower.Name, "after", at, "error", err)
			f.backOff(ctx, pause)
			pause = min(2*pause, followMaxPause)
		case next > at:
			full := next-at == followBatch
			at, pause = next, followBackOff
			f.set(follower.Name, nil)
			if !full { // a batch of few rows costs as much as one of many
				wait(ctx, nil, followGather)
			}
		default:
			wait(ctx, grown, 0)
			wait(ctx, nil, followGather)
		}
		if ctx.Err() != nil {
			return f.finish(follower, at, drain)
		}
	}
}

// cursor returns the row up to which the follower has durably come, 0 for one
// that is new.
func (f *Followers) cursor(ctx context.Context, name string) (int64, error) {
	c, err := f.Cursors.Get(ctx, f.Store.View(), name)
	if err != nil && eider.CodeOf(err) != eider.NotFound {
		return 0, fmt.Errorf("read the cursor of %s: %w", name, err)
	}
	return min(c.LogID, f.Log.Head().ID), nil
}

func (f *Followers) backOff(ctx context.Context, pause time.Duration) {
	if f.rest != nil {
		f.rest(ctx, pause)
		return
	}
	wait(ctx, nil, pause)
}

func wait(ctx context.Context, wake <-chan struct{}, atMost time.Duration) {
	var timer <-chan time.Time
	if atMost > 0 {
		timer = time.After(atMost)
	}
	select {
	case <-ctx.Done():
	case <-wake:
	case <-timer:
	}
}

func (f *Followers) finish(follower Follower, at int64, drain time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	for at < f.Log.Head().ID {
		next, err := f.step(ctx, follower, at)
		if err != nil {
			// A query that the end of the time cut says only that it was interrupted.
			err = errors.Join(err, ctx.Err())
			return fmt.Errorf("follower %s stopped at row %d: %w", follower.Name, at, err)
		}
		at = next
	}
	return nil
}

// step handles one batch and moves the cursor.
func (f *Followers) step(ctx context.Context, follower Follower, at int64) (int64, error) {
	to := min(f.Log.Head().ID, at+followBatch)
	if to <= at {
		return at, nil
	}
	to = f.Log.sameEpoch(at+1, to)
	found, err := f.Store.View().Query(ctx, selectAfter, at, to)
	if err != nil {
		return at, err
	}
	rows, err := readRows(found)
	if err != nil {
		return at, err
	}
	if err := f.handle(ctx, follower, rows); err != nil {
		return at, err
	}
	cursor := Cursor{follower.Name, to, time.Now().UTC().Truncate(time.Microsecond)}
	f.Store.Note(func(tx *metadata.Tx) error {
		return f.Cursors.Put(context.Background(), tx, cursor)
	})
	return to, nil
}

// handle turns a panic into an error: a sink that breaks must not take the
// server along.
func (f *Followers) handle(ctx context.Context, follower Follower, rows []Row) (err error) {
	if len(rows) == 0 {
		return nil
	}
	defer func() {
		if v := recover(); v != nil {
			f.Logger.Error("a follower of the log panicked", "follower", follower.Name, "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return follower.Handle(ctx, rows)
}

func (f *Followers) set(name string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed == nil {
		f.failed = map[string]error{}
	}
	f.failed[name] = err
}

// Failing returns what keeps followers from going on, nil if none is kept.
func (f *Followers) Failing() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []error
	for _, name := range slices.Sorted(maps.Keys(f.failed)) {
		if err := f.failed[name]; err != nil {
			all = append(all, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(all...)
}

// Slowest returns the smallest cursor of the followers that were started, as it
// is durable: what lies behind it a restart may ask for again.
func (f *Followers) Slowest(ctx context.Context) (int64, error) {
	f.mu.Lock()
	names := append(slices.Collect(maps.Keys(f.failed)), f.Declared...)
	f.mu.Unlock()
	slowest := f.Log.Head().ID
	for _, name := range names {
		at, err := f.cursor(ctx, name)
		if err != nil {
			return 0, err
		}
		slowest = min(slowest, at)
	}
	return slowest, nil
}
