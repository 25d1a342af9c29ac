package audit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/waittest"
)

// receiver is a sink that takes some rows at a time and remembers each batch.
type receiver struct {
	size int
	fail func(try int, b audit.Batch) error // nil: it takes all

	mu      sync.Mutex
	batches []string // that were taken
	tries   int
	ids     []int64
}

func (s *receiver) take(ctx context.Context, b audit.Batch) (int64, error) {
	rows := b.Rows[:min(s.size, len(b.Rows))]
	first, last := rows[0].ID, rows[len(rows)-1].ID
	s.mu.Lock()
	s.tries++
	try := s.tries
	s.mu.Unlock()
	if s.fail != nil {
		b.Rows = rows
		if err := s.fail(try, b); err != nil {
			return 0, &audit.NotTaken{First: first, Last: last, Err: err}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches = append(s.batches, fmt.Sprintf("%d-%d", first, last))
	for _, r := range rows {
		s.ids = append(s.ids, r.ID)
	}
	return last, ctx.Err()
}

func (s *receiver) taken() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.batches)
}

func (s *receiver) got() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ids)
}

// sinks returns followers whose sinks are tried again at once.
func (r *register) sinks() *audit.Followers {
	f := &audit.Followers{Store: r.store, Log: r.log, Cursors: r.cursors, Logger: slog.New(slog.NewTextHandler(r.said, nil)), Signer: r.signer}
	f.SetRest(func(context.Context, time.Duration) {})
	return f
}

// state is how the sink is doing, also before it runs.
func state(f *audit.Followers, name string) audit.SinkState {
	if s := f.Sink(name); s != nil {
		return *s
	}
	return audit.SinkState{Behind: -1}
}

// run follows with the sink until stop.
func run(f *audit.Followers, name string, take func(context.Context, audit.Batch) (int64, error)) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx, audit.Follower{Name: name, Take: take}, 20*time.Millisecond) }()
	return func() error { cancel(); return <-ended }
}

// What one batch costs does not come again for another: the cursor moves with each.
func TestSinkIsGivenTheBatchAgainThatItDidNotTakeAndNoOther(t *testing.T) {
	r := begin(t)
	r.stage(rows(20)...)
	s := &receiver{size: 6, fail: func(try int, b audit.Batch) error {
		if b.Rows[0].ID == 7 && b.Attempt < 3 {
			return errors.New("not now")
		}
		return nil
	}}
	f := r.sinks()
	stop := run(f, "s", s.take)
	waittest.Until(t, "all is taken", func() bool { return len(s.got()) == 20 })
	waittest.Until(t, "the cursor is durable", func() bool { return r.cursor("s") == 20 })
	must(t, stop())
	if got := strings.Join(s.taken(), " "); got != "1-6 7-12 13-18 19-20" || s.tries != 6 {
		t.Errorf("it took %s in %d tries", got, s.tries)
	}
	if n, ok := f.SinkFigures("s"); !ok || n.Calls != 6 || n.Errors != 2 || n.Rows != 20 || n.LastError != "rows 7 to 12: not now" || n.LastErrorAt.IsZero() || n.P99 < n.P50 {
		t.Errorf("it is counted as %+v", n)
	}
	if _, ok := f.SinkFigures("none"); ok || !slices.Equal(f.Sinks(), []string{"s"}) {
		t.Errorf("the sinks are %q", f.Sinks())
	}
}

func TestSinkDiesAfterTenFailuresAndLivesAgain(t *testing.T) {
	r := begin(t)
	r.stage(rows(5)...)
	var broken sync.Mutex
	isBroken := true
	s := &receiver{size: 5, fail: func(int, audit.Batch) error {
		broken.Lock()
		defer broken.Unlock()
		if isBroken {
			return errors.New("out of order")
		}
		return nil
	}}
	f := r.sinks()
	stop := run(f, "plugin:s", s.take)
	waittest.Until(t, "it is dead", func() bool { return slices.Equal(f.Dead(), []string{"plugin:s"}) })
	if said := r.said.count("a sink is dead"); said != 1 {
		t.Errorf("it was said %d times", said)
	}
	state := f.Sink("plugin:s")
	if state.State != "dead" || state.Failures < 10 || state.Cursor != 0 || state.Behind != 5 || state.Error != "rows 1 to 5: out of order" ||
		*state.Batch != (audit.SinkBatch{FirstID: 1, LastID: 5}) || state.OldestAt == nil {
		t.Errorf("it is shown as %+v", state)
	}
	if f.Failing() != nil {
		t.Error("it counts as one of the server's own")
	}
	broken.Lock()
	isBroken = false
	broken.Unlock()
	waittest.Until(t, "it lives", func() bool { s := f.Sink("plugin:s"); return s.State == "following" && s.Behind == 0 && s.Error == "" })
	if len(f.Dead()) > 0 {
		t.Error("it is dead and follows")
	}
	must(t, stop())
	wantInOrder(t, "s", s.got(), 1, 5)
}

func TestSinkThatAsksForAPauseIsGivenIt(t *testing.T) {
	r := begin(t)
	r.stage(row(1))
	f := r.sinks()
	var pauses []time.Duration
	f.SetRest(func(_ context.Context, pause time.Duration) { pauses = append(pauses, pause) })
	asked := []time.Duration{0, 7 * time.Second, time.Millisecond, 365 * 24 * time.Hour}
	taken := make(chan bool)
	stop := run(f, "s", func(_ context.Context, b audit.Batch) (int64, error) {
		if b.Attempt <= len(asked) {
			return 0, &audit.NotTaken{First: 1, Last: 1, After: asked[b.Attempt-1], Err: errors.New("later")}
		}
		close(taken)
		return 1, nil
	})
	<-taken
	must(t, stop())
	if got := fmt.Sprint(pauses); got != "[250ms 7s 1s 10m0s]" {
		t.Errorf("pauses of %s", got)
	}
}

// One that hangs, one that panics and ones that lie about what they have taken lose
// nothing, and keep nobody waiting.
func TestSinkThatHangsPanicsOrLiesLosesNothing(t *testing.T) {
	r := begin(t)
	r.stage(rows(10)...)
	f := r.sinks()
	good := map[string]*receiver{}
	tries := map[string]int{}
	var mu sync.Mutex
	first := func(name string, do func(ctx context.Context, b audit.Batch) (int64, error)) func() error {
		s := &receiver{size: 4}
		good[name] = s
		return run(f, name, func(ctx context.Context, b audit.Batch) (int64, error) {
			mu.Lock()
			tries[name]++
			try := tries[name]
			mu.Unlock()
			if try <= 2 {
				return do(ctx, b)
			}
			return s.take(ctx, b)
		})
	}
	stops := []func() error{
		first("more", func(_ context.Context, b audit.Batch) (int64, error) { return b.Rows[len(b.Rows)-1].ID + 100, nil }),
		first("less", func(_ context.Context, b audit.Batch) (int64, error) { return b.Rows[0].ID - 1, nil }),
		first("panics", func(context.Context, audit.Batch) (int64, error) { panic("broken") }),
		first("both", func(_ context.Context, b audit.Batch) (int64, error) {
			return b.Rows[len(b.Rows)-1].ID + 1, errors.New("and fails")
		}),
		first("works", func(context.Context, audit.Batch) (int64, error) { return 0, errors.New("later") }),
	}
	hangs, once := make(chan struct{}), sync.Once{}
	stopHanging := run(f, "hangs", func(ctx context.Context, b audit.Batch) (int64, error) {
		once.Do(func() { close(hangs) })
		<-ctx.Done()
		return 0, ctx.Err()
	})
	<-hangs
	r.stage(rows(5)...) // nobody waits for it
	for name, s := range good {
		waittest.Until(t, name+" has all", func() bool { return len(s.got()) >= 15 })
	}
	for _, stop := range stops {
		must(t, stop())
	}
	for name, s := range good {
		wantInOrder(t, name, s.got(), 1, 15)
	}
	if r.cursor("hangs") != 0 {
		t.Error("the cursor of one that hangs has moved")
	}
	if err := stopHanging(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the one that hangs ended with %v", err)
	}
}

func TestStrictSinkThatLagsRefusesChanges(t *testing.T) {
	r := begin(t)
	f := r.sinks()
	f.Strict = audit.Strict{Sinks: []string{"plugin:siem"}, Lag: 50 * time.Millisecond}
	must(t, f.Refusal())
	hold := make(chan struct{})
	stop := run(f, "plugin:siem", func(ctx context.Context, b audit.Batch) (int64, error) {
		<-hold
		return b.Rows[len(b.Rows)-1].ID, nil
	})
	must(t, f.Refusal())
	r.stage(row(1))
	waittest.Until(t, "changes are refused", func() bool { return eider.CodeOf(f.Refusal()) == eider.AuditSinkBehind })
	if err := f.Refusal(); !strings.Contains(err.Error(), "siem") || strings.Contains(err.Error(), "plugin:") {
		t.Errorf("refused with %v", err)
	}
	if s := f.Sink("plugin:siem"); !s.Strict {
		t.Error("it is not shown as strict")
	}
	close(hold)
	waittest.Until(t, "changes go on", func() bool { return f.Refusal() == nil })
	must(t, stop())
}

// A batch that a sink never takes is skipped while the sink chews on it.
func TestSkippedRowsAreLeftOutAndThoseBehindAreGiven(t *testing.T) {
	r := begin(t)
	r.stage(rows(10)...)
	f := r.sinks()
	s := &receiver{size: 4}
	stop := run(f, "s", func(ctx context.Context, b audit.Batch) (int64, error) {
		if b.Rows[0].ID == 5 { // poisoned
			<-ctx.Done()
			return 0, ctx.Err()
		}
		return s.take(ctx, b)
	})
	waittest.Until(t, "it hangs", func() bool { return state(f, "s").Cursor == 4 })
	for _, c := range []struct {
		first, last int64
		want        eider.Code
	}{{1, 8, eider.PreconditionFailed}, {6, 8, eider.PreconditionFailed}, {5, 4, eider.ValidationFailed}, {5, 11, eider.ValidationFailed}} {
		if err := f.CheckSkip("s", c.first, c.last); eider.CodeOf(err) != c.want {
			t.Errorf("%d to %d: %v", c.first, c.last, err)
		}
	}
	if err := f.CheckSkip("none", 5, 8); eider.CodeOf(err) != eider.PluginRefused {
		t.Errorf("of no sink: %v", err)
	}
	_, err := r.store.Write(t.Context(), func(tx *metadata.Tx) error { return f.Skip(t.Context(), tx, "s", 5, 8) })
	must(t, err)
	if at := r.cursor("s"); at != 8 {
		t.Errorf("the cursor is at %d", at)
	}
	waittest.Until(t, "it goes on", func() bool { return len(s.got()) == 6 })
	waittest.Until(t, "it follows", func() bool { return state(f, "s").State == "following" && state(f, "s").Behind == 0 })
	must(t, stop())
	if got := strings.Join(s.taken(), " "); got != "1-4 9-10" {
		t.Errorf("it took %s", got)
	}
}

// The archive is read where the log begins behind the cursor, and the epoch that its
// rows are in is found there too.
func TestSinkBehindTheCutIsGivenTheArchive(t *testing.T) {
	r, dir := begin(t), t.TempDir()
	r.log.SetClock(func() time.Time { return march(1) })
	r.stage(rows(3)...)
	r.beginEpoch(70) // row 4
	r.stage(rows(6)...)
	for _, c := range [][2]int64{{2, 2}, {5, 7}, {2, 9}} {
		if last := r.archive(dir, march(100), c[0]); last != c[1] {
			t.Fatalf("rows to %d are archived, want %d", last, c[1])
		}
	}
	head := r.log.Head().ID
	f := r.sinks()
	f.Archive = dir
	s := &receiver{size: 100}
	epochs := map[int64]int64{}
	stop := run(f, "new", func(ctx context.Context, b audit.Batch) (int64, error) {
		for _, r := range b.Rows {
			epochs[r.ID] = b.Epoch
		}
		if c := b.Checkpoint(&b.Rows[0]); c == nil || !r.signer.Valid(*c) || c.Epoch != b.Epoch {
			t.Errorf("the checkpoint is %+v", c)
		}
		return s.take(ctx, b)
	})
	waittest.Until(t, "it has all", func() bool { return int64(len(s.got())) == head })
	must(t, stop())
	wantInOrder(t, "new", s.got(), 1, head)
	for id := int64(1); id <= head; id++ {
		if want := map[bool]int64{true: 70}[id >= 4]; epochs[id] != want {
			t.Errorf("row %d came in epoch %d", id, epochs[id])
		}
	}

	// Without the archive it says so, and can be sent on.
	f = r.sinks()
	f.Archive = t.TempDir()
	s = &receiver{size: 100}
	stop = run(f, "lost", s.take)
	waittest.Until(t, "it says so", func() bool { return strings.Contains(state(f, "lost").Error, "their archive is not there") })
	missing := f.Sink("lost").Batch
	_, err := r.store.Write(t.Context(), func(tx *metadata.Tx) error {
		return f.Skip(t.Context(), tx, "lost", missing.FirstID, missing.LastID)
	})
	must(t, err)
	waittest.Until(t, "it goes on", func() bool { return state(f, "lost").Behind == 0 })
	must(t, stop())
	wantInOrder(t, "lost", s.got(), missing.LastID+1, head)
}

// A server that starts anew does not begin to count anew how long a sink has taken
// nothing.
func TestHoldGoesOnOverAStart(t *testing.T) {
	r := begin(t)
	r.log.SetClock(func() time.Time { return time.Now().Add(-90 * time.Minute) })
	r.stage(rows(2)...)
	refuse := func(context.Context, audit.Batch) (int64, error) { return 0, errors.New("there is no room") }
	held := func(hold time.Duration) int64 {
		t.Helper()
		f := r.sinks()
		f.Hold = hold
		stop := run(f, "s", refuse)
		waittest.Until(t, "it is dead", func() bool { return state(f, "s").State == "dead" })
		slowest, err := f.Slowest(t.Context())
		must(t, err)
		_ = stop() // it stops early: it has not taken all
		return slowest
	}
	if at := held(time.Hour); at != 0 {
		t.Errorf("a new sink holds the log at %d", at)
	}
	waittest.Until(t, "it is known", func() bool {
		_, err := r.cursors.Get(t.Context(), r.store.View(), "s")
		return err == nil
	})
	for _, c := range []struct {
		moved, hold time.Duration
		want        int64
	}{
		{30 * time.Minute, time.Hour, 1}, // it has taken something since
		{2 * time.Hour, 3 * time.Hour, 1},
		{4 * time.Hour, 3 * time.Hour, 1}, // there was nothing to take before
		{2 * time.Hour, time.Hour, 2},
	} {
		_, err := r.store.Write(t.Context(), func(tx *metadata.Tx) error {
			return r.cursors.Put(t.Context(), tx, audit.Cursor{Name: "s", LogID: 1, UpdatedAt: time.Now().Add(-c.moved).UTC().Truncate(time.Microsecond)})
		})
		must(t, err)
		if at := held(c.hold); at != c.want {
			t.Errorf("%s after it has taken a row, with one of 90 minutes, it holds the log at %d for %s", c.moved, at, c.hold)
		}
	}
}

func TestPausedSinkWaitsAndIsNoFailure(t *testing.T) {
	r := begin(t)
	r.stage(rows(2)...)
	f := r.sinks()
	f.SetRest(nil)
	f.Hold = time.Nanosecond
	var mu sync.Mutex
	paused := true
	s := &receiver{size: 10}
	stop := run(f, "s", func(ctx context.Context, b audit.Batch) (int64, error) {
		mu.Lock()
		defer mu.Unlock()
		if paused {
			return 0, audit.ErrPaused
		}
		return s.take(ctx, b)
	})
	waittest.Until(t, "it is paused", func() bool { return state(f, "s").State == "paused" })
	if slowest, err := f.Slowest(t.Context()); err != nil || slowest != 2 {
		t.Errorf("it holds the log at %d, %v", slowest, err)
	}
	if r.said.count("archived without it") != 1 || r.said.count("a follower of the log failed") > 0 {
		t.Error("it was not said, or told as a failure")
	}
	f.Hold = time.Hour
	if slowest, err := f.Slowest(t.Context()); err != nil || slowest != 0 {
		t.Errorf("it holds the log at %d, %v", slowest, err)
	}
	mu.Lock()
	paused = false
	mu.Unlock()
	f.Wake("s")
	waittest.Until(t, "it has all", func() bool { return len(s.got()) == 2 })
	must(t, stop())
}
