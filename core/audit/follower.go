package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
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
	// Take, instead of Handle, makes it a sink, whose rows leave the server: it takes
	// as many of the batch as it wants at a time, and returns the last one that it
	// has taken or left out for good.
	Take func(ctx context.Context, b Batch) (last int64, err error)
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
	// Archive is the folder of archived rows, which sinks are given too; "": there is
	// none. Signer signs a checkpoint into each batch of a sink; nil: none is in it.
	Archive string
	Signer  *Signer
	// Strict refuses changes while a sink lags; see Refusal.
	Strict Strict
	// Hold is how long a sink that takes nothing keeps rows from being archived; 0:
	// for ever.
	Hold time.Duration

	rest func(ctx context.Context, pause time.Duration) // between tries, in tests; nil waits

	mu  sync.Mutex
	all map[string]*progress // of all that were ever started
}

// Announce finds the cursor of a follower that will be run: from now on it can be asked
// how it is doing.
func (f *Followers) Announce(ctx context.Context, follower Follower) error {
	c, err := f.cursor(ctx, follower.Name)
	if err != nil {
		return err
	}
	f.progress(follower.Name, follower.Take != nil).begin(c)
	if follower.Take != nil && c.UpdatedAt.IsZero() {
		f.introduce(c)
	}
	return nil
}

// introduce makes durable since when a sink is known that has taken nothing yet.
func (f *Followers) introduce(c Cursor) {
	c.UpdatedAt = time.Now().UTC().Truncate(time.Microsecond)
	f.progress(c.Name, true).begin(c)
	f.Store.Note(func(tx *metadata.Tx) error {
		if _, err := f.Cursors.Get(context.Background(), tx, c.Name); eider.CodeOf(err) != eider.NotFound {
			return err
		}
		return f.Cursors.Put(context.Background(), tx, c)
	})
}

// Run follows until ctx ends; then it handles what is left, within drain.
func (f *Followers) Run(ctx context.Context, follower Follower, drain time.Duration) error {
	if err := f.Announce(ctx, follower); err != nil {
		return err
	}
	p := f.progress(follower.Name, follower.Take != nil)
	for {
		grown := f.Log.Grown()
		before := p.position()
		full, err := f.step(ctx, follower, p)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			pause := p.fail(err, f.Logger)
			f.backOff(ctx, p, pause)
		case p.position() > before:
			p.succeed()
			if !full { // a batch of few rows costs as much as one of many
				wait(ctx, nil, nil, followGather)
			}
		default:
			p.succeed()
			wait(ctx, grown, p.wake, 0)
			wait(ctx, nil, nil, followGather)
		}
		if ctx.Err() != nil {
			return f.finish(follower, p, drain)
		}
	}
}

// cursor returns the row up to which the follower has durably come, 0 for one
// that is new.
func (f *Followers) cursor(ctx context.Context, name string) (Cursor, error) {
	c, err := f.Cursors.Get(ctx, f.Store.View(), name)
	if err != nil && eider.CodeOf(err) != eider.NotFound {
		return c, fmt.Errorf("read the cursor of %s: %w", name, err)
	}
	c.Name, c.LogID = name, min(c.LogID, f.Log.Head().ID)
	return c, nil
}

func (f *Followers) backOff(ctx context.Context, p *progress, pause time.Duration) {
	if f.rest != nil {
		f.rest(ctx, pause)
		return
	}
	wait(ctx, nil, p.wake, pause)
}

func wait(ctx context.Context, grown, wake <-chan struct{}, atMost time.Duration) {
	var timer <-chan time.Time
	if atMost > 0 {
		timer = time.After(atMost)
	}
	select {
	case <-ctx.Done():
	case <-grown:
	case <-wake:
	case <-timer:
	}
}

func (f *Followers) finish(follower Follower, p *progress, drain time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	for p.position() < f.Log.Head().ID {
		_, err := f.step(ctx, follower, p)
		if errors.Is(err, ErrPaused) {
			return nil
		}
		if err != nil {
			// A query that the end of the time cut says only that it was interrupted.
			err = errors.Join(err, ctx.Err())
			return fmt.Errorf("follower %s stopped at row %d: %w", follower.Name, p.position(), err)
		}
	}
	return nil
}

// step handles the next rows and moves the cursor behind those that were taken. full
// says that there may be more.
func (f *Followers) step(ctx context.Context, follower Follower, p *progress) (full bool, err error) {
	if to := p.adopted(); to > 0 {
		f.note(p, to)
	}
	at := p.position()
	page, err := f.read(ctx, follower, at)
	if err != nil || page.to <= at {
		return false, err
	}
	if len(page.rows) == 0 {
		f.note(p, page.to)
	}
	for rows := page.rows; len(rows) > 0; {
		last, err := f.handle(ctx, follower, p, Batch{Epoch: page.epoch, Rows: rows, signer: f.Signer}, page.to)
		rows = behind(rows, last)
		if last > p.position() {
			f.note(p, last)
		}
		if p.skipped() {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
	return page.to-at == followBatch, nil
}

// page is rows of one epoch, and the row up to which there are no others.
type page struct {
	rows  []Row
	to    int64
	epoch int64
}

// read returns the rows behind at.
func (f *Followers) read(ctx context.Context, follower Follower, at int64) (page, error) {
	to := min(f.Log.Head().ID, at+followBatch)
	if to <= at {
		return page{to: at}, nil
	}
	to = f.Log.sameEpoch(at+1, to)
	found, err := f.Store.View().Query(ctx, selectAfter, at, to)
	if err != nil {
		return page{}, err
	}
	rows, err := readRows(found)
	if err != nil {
		return page{}, err
	}
	if follower.Take != nil && (len(rows) == 0 || rows[0].ID != at+1) { // the log has them no more
		return f.readArchived(ctx, at, to)
	}
	if len(rows) == 0 { // they are missing: a row may have been put far behind
		next, err := oneID(ctx, f.Store.View(), selectFirstBehind, at)
		if err != nil {
			return page{}, err
		}
		to = max(to, min(f.Log.Head().ID, next-1))
	}
	return page{rows, to, f.Log.EpochAt(at + 1)}, nil
}

// behind returns the rows with larger ids.
func behind(rows []Row, id int64) []Row {
	for len(rows) > 0 && rows[0].ID <= id {
		rows = rows[1:]
	}
	return rows
}

// note moves the cursor, in memory now and durably within a second. It never moves
// back: a skip may have come in between.
func (f *Followers) note(p *progress, to int64) {
	p.move(to)
	cursor := Cursor{p.name, to, time.Now().UTC().Truncate(time.Microsecond)}
	f.Store.Note(func(tx *metadata.Tx) error {
		kept, err := f.Cursors.Get(context.Background(), tx, cursor.Name)
		if err == nil && kept.LogID > cursor.LogID {
			return nil
		}
		return f.Cursors.Put(context.Background(), tx, cursor)
	})
}

// handle turns a panic into an error: a sink that breaks must not take the
// server along. It returns the last row that was taken.
func (f *Followers) handle(ctx context.Context, follower Follower, p *progress, b Batch, to int64) (last int64, err error) {
	ctx, done := p.try(ctx, &b)
	defer func() { done(len(b.Rows)-len(behind(b.Rows, last)), err) }()
	defer func() {
		if v := recover(); v != nil {
			f.Logger.Error("a follower of the log panicked", "follower", follower.Name, "panic", v, "stack", string(debug.Stack()))
			last, err = 0, fmt.Errorf("panic: %v", v)
		}
	}()
	if follower.Take == nil {
		if err := follower.Handle(ctx, b.Rows); err != nil {
			return 0, err
		}
		return to, nil
	}
	last, err = follower.Take(ctx, b)
	if newest := b.Rows[len(b.Rows)-1].ID; last > newest || err == nil && last < b.Rows[0].ID {
		return 0, fmt.Errorf("it says that it has taken the rows up to %d, of %d to %d", last, b.Rows[0].ID, newest)
	}
	if last == b.Rows[len(b.Rows)-1].ID {
		last = to
	}
	return last, err
}
