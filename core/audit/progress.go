package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// deadAfter is how often in a row a sink fails before it is dead, and deadWithin for how
// long, however late it asks to be tried again. It is tried once a minute from then on, or
// when it asks, and lives again with the first batch that it takes.
const (
	deadAfter  = 10
	deadWithin = 2 * time.Minute
)

// maxRetryAfter bounds what a sink may ask for.
const maxRetryAfter = 10 * time.Minute

// ErrPaused is returned by a sink that is not to be given rows for now: it does not
// fail, and its cursor stays.
var ErrPaused = errors.New("it is off")

// NotTaken is returned by a sink that has not taken a batch.
type NotTaken struct {
	First, Last int64         // rows of the batch
	After       time.Duration // when it may come again at the earliest; 0: whenever
	Err         error
}

// Error returns the rows and the cause.
func (n *NotTaken) Error() string { return fmt.Sprintf("rows %d to %d: %v", n.First, n.Last, n.Err) }

// Unwrap returns the cause.
func (n *NotTaken) Unwrap() error { return n.Err }

// progress is how a follower is doing.
type progress struct {
	name string
	sink bool
	wake chan struct{} // it is to be tried now

	mu     sync.Mutex
	at     int64
	skip   int64 // rows up to it are to be left out; 0: none
	stop   context.CancelFunc
	since  time.Time // when the oldest row was written that it has not taken; zero: there is none
	failed error
	tries  int       // that failed, of the batch behind at
	first  time.Time // of them
	gone   bool      // it was dead when it last failed
	batch  [2]int64
	next   time.Time // when it is tried again
	paused bool
	moved  time.Time // when its cursor moved last, also before the server started; zero: never
	stuck  time.Time // since when it takes nothing: it is dead or paused
	told   bool      // that it holds no rows back any more

	figures figures
}

// progress returns that of the follower with the name.
func (f *Followers) progress(name string, sink bool) *progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all == nil {
		f.all = map[string]*progress{}
	}
	if f.all[name] == nil {
		f.all[name] = &progress{name: name, sink: sink, wake: make(chan struct{}, 1)}
	}
	return f.all[name]
}

// each calls do for all that were started, by name.
func (f *Followers) each(do func(*progress)) {
	f.mu.Lock()
	all := slices.SortedFunc(maps.Values(f.all), func(a, b *progress) int { return cmp.Compare(a.name, b.name) })
	f.mu.Unlock()
	for _, p := range all {
		p.mu.Lock()
		do(p)
		p.mu.Unlock()
	}
}

func (p *progress) begin(c Cursor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = max(p.at, c.LogID)
	if c.UpdatedAt.After(p.moved) {
		p.moved = c.UpdatedAt
	}
}

// idle returns since when the follower takes nothing: since its cursor moved, or the
// oldest row was written that it has not taken. Both are durable, so that a server
// that starts anew often does not begin to count anew.
func (p *progress) idle(now time.Time) time.Time {
	at := p.moved
	if p.since.After(at) {
		at = p.since
	}
	if at.IsZero() || at.After(now) {
		return now
	}
	return at
}

func (p *progress) position() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at
}

func (p *progress) move(to int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at, p.moved = to, time.Now()
	p.tries, p.gone, p.failed, p.batch, p.stuck, p.told = 0, false, nil, [2]int64{}, time.Time{}, false
}

// try notes what is about to be given to the follower, and says how often it was
// before. done must be called afterwards, with how many rows were taken.
func (p *progress) try(ctx context.Context, b *Batch) (_ context.Context, done func(taken int, err error)) {
	ctx, stop := context.WithCancel(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stop = stop
	b.Attempt = p.tries + 1
	p.since = b.Rows[0].Time
	begun := time.Now()
	return ctx, func(taken int, err error) {
		stop()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stop = nil
		if errors.Is(err, ErrPaused) {
			return
		}
		p.figures.called(time.Since(begun))
		p.figures.rows += int64(taken)
		if err != nil {
			p.figures.failed(err)
		}
	}
}

// succeed notes that all rows there were are taken, or those of a whole step.
func (p *progress) succeed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since, p.failed, p.tries, p.gone, p.batch, p.paused, p.stuck, p.told = time.Time{}, nil, 0, false, [2]int64{}, false, time.Time{}, false
}

// fail notes a failure and returns how long to wait.
func (p *progress) fail(err error, log *slog.Logger) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.paused = errors.Is(err, ErrPaused); p.paused {
		if p.stuck.IsZero() {
			p.stuck = p.idle(now)
		}
		p.failed, p.tries, p.gone = nil, 0, false
		return followMaxPause
	}
	p.failed = err
	pause := followMaxPause
	if p.tries < 8 {
		pause = min(pause, followBackOff<<p.tries)
	}
	if p.tries++; p.tries == 1 {
		p.first = now
	}
	if refusal := (*NotTaken)(nil); errors.As(err, &refusal) {
		p.batch = [2]int64{refusal.First, refusal.Last}
		pause = max(pause, min(refusal.After, maxRetryAfter))
	}
	p.next = now.Add(pause)
	log.Error("a follower of the log failed", "follower", p.name, "after", p.at, "tries", p.tries, "error", err)
	if !p.gone && p.dead() {
		p.gone, p.stuck = true, p.idle(now)
		log.Error("a sink is dead: it is tried once a minute, and lives again when it takes its batch, is loaded anew, or the batch is skipped",
			"sink", p.name, "after", p.at, "error", err)
	}
	return pause
}

// dead reports whether the sink has failed so often that it is given up, for now.
func (p *progress) dead() bool {
	return p.sink && (p.tries >= deadAfter || p.tries > 0 && time.Since(p.first) >= deadWithin)
}

// Failing returns what keeps followers from going on, nil if none is kept. A sink
// counts once it is dead, see Dead.
func (f *Followers) Failing() error {
	var all []error
	f.each(func(p *progress) {
		if p.failed != nil && !p.sink {
			all = append(all, fmt.Errorf("%s: %w", p.name, p.failed))
		}
	})
	return errors.Join(all...)
}

// Dead names the sinks that are dead.
func (f *Followers) Dead() []string {
	var all []string
	f.each(func(p *progress) {
		if p.dead() {
			all = append(all, p.name)
		}
	})
	return all
}

// Wake has a follower that waits between two tries try again at once.
func (f *Followers) Wake(name string) {
	f.mu.Lock()
	p := f.all[name]
	f.mu.Unlock()
	if p == nil {
		return
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Slowest returns the smallest cursor of the followers that were started, as it
// is durable: what lies behind it a restart may ask for again. A sink that has
// taken nothing for longer than Hold does not count, and that is said loudly: it is
// given the archived rows later.
func (f *Followers) Slowest(ctx context.Context) (int64, error) {
	names := map[string]bool{}
	for _, name := range f.Declared {
		names[name] = true
	}
	var left []string
	f.each(func(p *progress) {
		names[p.name] = true
		if f.Hold > 0 && p.sink && !p.stuck.IsZero() && time.Since(p.stuck) > f.Hold {
			delete(names, p.name)
			if !p.told {
				left = append(left, p.name)
				p.told = true
			}
		}
	})
	for _, name := range left {
		f.Logger.Error("a sink has taken nothing for so long that the log is archived without it: it is given those rows from the archive, while that is there",
			"sink", name, "hold", f.Hold)
	}
	slowest := f.Log.Head().ID
	for name := range names {
		c, err := f.cursor(ctx, name)
		if err != nil {
			return 0, err
		}
		slowest = min(slowest, c.LogID)
	}
	return slowest, nil
}
