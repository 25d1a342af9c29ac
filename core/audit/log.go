package audit

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/auth"
	"github.com/eiderdb/eider/core/metadata"
)

// Head is the newest row of the chain.
type Head struct {
	ID    int64
	Hash  []byte
	Time  time.Time
	Epoch int64
}

// maxID is the largest id that a row is given: at a million rows a second it takes
// 285 years. A row with a larger one was put there, and no walk goes so far: some
// way behind it ids cannot be added to.
const (
	maxID  = 1<<53 - 1
	lastID = "9007199254740991" // the same, in statements
)

// Log is the sealer of operations_log and what memory keeps of it.
type Log struct {
	keeper *Keeper // nil: no checkpoints are kept
	log    *slog.Logger
	now    func() time.Time

	mu         sync.Mutex
	head       Head
	epochs     epochs
	unfinished map[string]Row
	hashless   int64         // newest row without a request_hash
	grown      chan struct{} // closed and replaced when the head moves
	repaired   *Repair       // a loss that the operator has accepted, to be logged
	proven     *bool         // the start found a checkpoint of the log; nil: it has not looked
	stepped    bool          // the clock is behind the head, and that was told
}

// NewLog returns a log that checks its head against the keeper's newest
// checkpoint when it is loaded, and has each new head kept there. A nil keeper
// is for tests and tools that read.
func NewLog(keeper *Keeper, log *slog.Logger) *Log {
	return &Log{keeper: keeper, log: log, now: time.Now, grown: make(chan struct{})}
}

var _ metadata.Sealer = (*Log)(nil)

const selectHead = selectRow + `WHERE id >= 1 AND id <= ` + lastID + ` ORDER BY id DESC LIMIT 1`

// An effect leaves two rows; the final one carries the id of its intent.
const selectUnfinished = selectRow + `
	WHERE status = 'in_progress'
	AND id >= 1 AND id <= ` + lastID + ` AND id NOT IN (SELECT intent_id FROM operations_log WHERE intent_id > 0)
	ORDER BY id`

// Load reads the head and the unfinished calls. It returns ErrBehind or
// ErrForked if the table does not hold what the newest checkpoint says, and
// ErrUnchained if what comes behind that does not follow.
func (l *Log) Load(ctx context.Context, v *metadata.View) error {
	head, err := ReadHead(ctx, v.Query)
	if err != nil {
		return err
	}
	epochs, err := readEpochs(v.Query(ctx, selectEpochs))
	if err != nil {
		return err
	}
	rows, err := v.Query(ctx, selectUnfinished)
	if err != nil {
		return fmt.Errorf("read unfinished calls: %w", err)
	}
	open, err := readRows(rows)
	if err != nil {
		return fmt.Errorf("read unfinished calls: %w", err)
	}
	hashless, err := readHashless(ctx, v)
	if err != nil {
		return err
	}
	repaired, err := l.checkHead(ctx, v, head)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head, l.epochs = head, epochs
	l.repaired = repaired
	l.hashless = hashless
	l.unfinished = map[string]Row{}
	for _, r := range open {
		l.unfinished[r.CallID] = r
	}
	if l.keeper != nil && head.ID > 0 {
		l.keeper.keep(head) // the process before may have ended sooner than its keeper wrote
	}
	return nil
}

// Only older versions wrote rows without.
const selectHashless = `SELECT id FROM operations_log WHERE request_hash IS NULL AND id <= ` + lastID + ` ORDER BY id DESC LIMIT 1`

func readHashless(ctx context.Context, v *metadata.View) (id int64, err error) {
	rows, err := v.Query(ctx, selectHashless)
	if err != nil {
		return 0, fmt.Errorf("read the newest row without a hash of its request: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(&id); err != nil {
			return 0, err
		}
	}
	return id, rows.Err()
}

// unhashed returns the newest row that has no hash of its request, 0 if all have.
func (l *Log) unhashed() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hashless
}

func readHead(ctx context.Context, v *metadata.View) (Head, error) {
	rows, err := v.Query(ctx, selectHead)
	return headOf(rows, err)
}

// ReadHead reads the newest row, and the epoch that it is in, through a query
// function, for a repair that has no store.
func ReadHead[R metadata.Rows](ctx context.Context, query func(context.Context, string, ...any) (R, error)) (Head, error) {
	if changed, err := retyped(ctx, query); err != nil {
		return Head{}, err
	} else if changed != "" {
		return Head{}, fmt.Errorf("%w: %s", ErrUnchained, changed)
	}
	rows, err := query(ctx, selectHead)
	head, err := headOf(rows, err)
	if err != nil {
		return head, err
	}
	rows, err = query(ctx, selectEpochs)
	epochs, err := readEpochs(rows, err)
	head.Epoch = epochs.newest()
	return head, err
}

func headOf(rows metadata.Rows, err error) (Head, error) {
	if err != nil {
		return Head{}, fmt.Errorf("read the head: %w", err)
	}
	newest, err := readRows(rows)
	if err != nil {
		return Head{}, fmt.Errorf("read the head: %w", err)
	}
	if len(newest) == 0 {
		return Head{Hash: genesis()}, nil
	}
	return Head{ID: newest[0].ID, Hash: newest[0].Hash, Time: newest[0].Time}, nil
}

// sealing is what Seal leaves on the group for Sealed.
type sealing struct {
	head Head
	rows []*Row
}

// Seal numbers, stamps and chains the rows that the group has staged. Times
// never run backwards: ids, not times, order everything.
func (l *Log) Seal(g *metadata.Group) error {
	now := l.now().UTC().Truncate(time.Microsecond)
	s := &sealing{head: l.Head()}
	l.watchClock(s.head.Time.Sub(now))
	for _, item := range g.Items() {
		r, ok := item.(*Row)
		if !ok {
			return fmt.Errorf("audit: a %T was staged for the log", item)
		}
		if s.head.ID >= maxID {
			return fmt.Errorf("audit: row %d is the last that a log can have: somebody has put it there", s.head.ID)
		}
		r.ID = s.head.ID + 1
		r.Time = now
		if r.Time.Before(s.head.Time) {
			r.Time = s.head.Time
		}
		r.PrevHash = s.head.Hash
		r.validUTF8()
		r.redact()
		r.Hash = r.hash()
		s.head = Head{r.ID, r.Hash, r.Time, max(s.head.Epoch, epochOf(r))}
		s.rows = append(s.rows, r)
		g.Append(&spec, r.values())
	}
	g.Seal = s
	return nil
}

// clockSlack is how far the clock may step back without a word.
const clockSlack = time.Second

// watchClock tells once when the clock is found behind the head, and once when
// it has caught up: until then all rows bear the head's time.
func (l *Log) watchClock(behind time.Duration) {
	l.mu.Lock()
	was := l.stepped
	l.stepped = behind > clockSlack
	now := l.stepped
	l.mu.Unlock()
	switch {
	case now && !was:
		l.log.Error("the clock is behind the newest row of the log: rows bear that row's time, and purge and expiry wait", "behind", behind)
	case was && !now:
		l.log.Info("the clock has caught up with the log")
	}
}

// validUTF8 replaces what a database would refuse or silently drop.
func (r *Row) validUTF8() {
	for _, s := range []*string{
		&r.CallID, &r.RequestID, &r.TraceID, &r.ActorID, &r.ActorName, &r.SourceIP, &r.ProjectID, &r.ProjectUID,
		&r.Operation, &r.ResourceType, &r.ResourceID, &r.Details, &r.Code, &r.Error, &r.Decision,
	} {
		*s = strings.ReplaceAll(strings.ToValidUTF8(*s, "\uFFFD"), "\x00", "\uFFFD")
	}
}

// redact takes the secrets of keys out of what callers choose.
func (r *Row) redact() {
	for _, s := range []*string{&r.RequestID, &r.TraceID, &r.ActorName, &r.SourceIP, &r.ProjectID, &r.ResourceID, &r.Details, &r.Error, &r.Decision} {
		*s = auth.Redact(*s)
	}
}

// Sealed moves the head, and wakes the followers and the keeper.
func (l *Log) Sealed(g *metadata.Group) {
	s := g.Seal.(*sealing)
	if len(s.rows) == 0 {
		return
	}
	l.mu.Lock()
	l.head = s.head
	for _, r := range s.rows {
		l.epochs.note(r)
		switch {
		case r.Status == eider.StatusInProgress:
			l.unfinished[r.CallID] = *r
		case r.IntentID != 0:
			delete(l.unfinished, r.CallID)
		}
	}
	close(l.grown)
	l.grown = make(chan struct{})
	l.mu.Unlock()
	if l.keeper != nil {
		l.keeper.keep(s.head)
	}
}

// Kept reports whether the tables, just loaded, hold the group's last row.
func (l *Log) Kept(g *metadata.Group) bool {
	s, ok := g.Seal.(*sealing)
	if !ok || len(s.rows) == 0 {
		return false
	}
	head := l.Head()
	return head.ID == s.head.ID && bytes.Equal(head.Hash, s.head.Hash)
}

// Head returns the newest row of the chain that is durable.
func (l *Log) Head() Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

// snapshot returns the head and the unfinished calls of one instant.
func (l *Log) snapshot() (head int64, unfinished []int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.unfinished {
		unfinished = append(unfinished, r.ID)
	}
	return l.head.ID, unfinished
}

// Behind returns how far the clock is behind the head, 0 if it is not. Purge
// and expiry wait while it is.
func (l *Log) Behind() time.Duration {
	return max(0, l.Head().Time.Sub(l.now()))
}

// Grown returns a channel that is closed when the head moves.
func (l *Log) Grown() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.grown
}

// Unfinished returns the in_progress rows that have no final row, oldest first.
func (l *Log) Unfinished() []Row {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]Row, 0, len(l.unfinished))
	for _, r := range l.unfinished {
		all = append(all, r)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].ID < all[j].ID })
	return all
}
