package audit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/waittest"
)

// sink is a follower that remembers what it was given.
type sink struct {
	mu    sync.Mutex
	ids   []int64
	times int
	fail  func(times int, rows []audit.Row) error
}

func (s *sink) handle(_ context.Context, rows []audit.Row) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times++
	if s.fail != nil {
		if err := s.fail(s.times, rows); err != nil {
			return err
		}
	}
	for _, r := range rows {
		s.ids = append(s.ids, r.ID)
	}
	return nil
}

func (s *sink) got() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]int64(nil), s.ids...)
}

func (s *sink) tries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.times
}

// wantInOrder checks that the ids are from..to, each once, in order.
func wantInOrder(t *testing.T, name string, got []int64, from, to int64) {
	t.Helper()
	for i, id := range got {
		if id != from+int64(i) {
			t.Errorf("%s: row %d in place of %d", name, id, from+int64(i))
			return
		}
	}
	if int64(len(got)) != to-from+1 {
		t.Errorf("%s: %d rows, want %d to %d", name, len(got), from, to)
	}
}

// follow runs the sinks beside each other; stop ends them and returns what each
// Run returned.
func (r *register) follow(sinks map[string]*sink) (f *audit.Followers, stop func() map[string]error) {
	f = &audit.Followers{Store: r.store, Log: r.log, Cursors: r.cursors, Logger: slog.New(slog.NewTextHandler(r.said, nil))}
	ctx, cancel := context.WithCancel(context.Background())
	ended := map[string]error{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for name, s := range sinks {
		all.Go(func() {
			err := f.Run(ctx, audit.Follower{Name: name, Handle: s.handle}, 10*time.Second)
			mu.Lock()
			defer mu.Unlock()
			ended[name] = err
		})
	}
	return f, func() map[string]error {
		cancel()
		all.Wait()
		return ended
	}
}

func (r *register) cursor(name string) int64 {
	c, err := r.cursors.Get(context.Background(), r.store.View(), name)
	if err != nil {
		return 0
	}
	return c.LogID
}

func TestAFollowerGetsEveryRowInOrderAndResumesWhereItWas(t *testing.T) {
	r := begin(t)
	const before = audit.FollowBatch + 500
	r.stage(rows(before)...)
	first := &sink{}
	f, stop := r.follow(map[string]*sink{"a": first})
	waittest.Until(t, "what was there is handled", func() bool { return len(first.got()) == before })
	for n := range 20 {
		r.stage(row(n))
	}
	waittest.Until(t, "what came is handled", func() bool { return len(first.got()) == before+20 })
	waittest.Until(t, "the cursor is durable", func() bool { return r.cursor("a") == before+20 })
	if slowest, err := f.Slowest(t.Context()); err != nil || slowest != before+20 {
		t.Errorf("the slowest is at %d, %v", slowest, err)
	}
	if err := stop()["a"]; err != nil {
		t.Error(err)
	}
	wantInOrder(t, "the first run", first.got(), 1, before+20)

	r.stage(rows(5)...)
	r.reopen()
	second, fresh := &sink{}, &sink{}
	_, stop = r.follow(map[string]*sink{"a": second, "new": fresh})
	waittest.Until(t, "the rest is handled", func() bool { return len(second.got()) == 5 && len(fresh.got()) == before+25 })
	for name, err := range stop() {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantInOrder(t, "the second run", second.got(), before+21, before+25)
	wantInOrder(t, "one that is new", fresh.got(), 1, before+25)
	waittest.Until(t, "its cursor is durable", func() bool { return r.cursor("new") == before+25 })
}

// TestAFailingSinkIsTriedAgainAndBlocksNoOther has one that fails, one that
// panics, one that fails and recovers, and one that works.
func TestAFailingSinkIsTriedAgainAndBlocksNoOther(t *testing.T) {
	r := begin(t)
	broken := errors.New("out of order")
	var saw sync.Map
	sinks := map[string]*sink{
		"works": {},
		"fails": {fail: func(_ int, rows []audit.Row) error {
			saw.Store(rows[0].ID, true)
			return broken
		}},
		"panics":   {fail: func(int, []audit.Row) error { panic("broken") }},
		"recovers": {fail: func(times int, _ []audit.Row) error { return map[bool]error{true: broken}[times < 3] }},
	}
	r.stage(rows(10)...)
	f, stop := r.follow(sinks)
	waittest.Until(t, "the one that works has all", func() bool { return len(sinks["works"].got()) == 10 })
	waittest.Until(t, "both that fail are told", func() bool {
		err := f.Failing()
		return errors.Is(err, broken) && strings.Contains(err.Error(), "panics: panic: broken")
	})
	r.stage(rows(10)...)
	waittest.Until(t, "the one that works has all again", func() bool { return len(sinks["works"].got()) == 20 })
	waittest.Until(t, "the one that recovers has all", func() bool { return len(sinks["recovers"].got()) == 20 })
	waittest.Until(t, "the others are tried again", func() bool { return sinks["fails"].tries() >= 3 && sinks["panics"].tries() >= 3 })
	waittest.Until(t, "no other is told", func() bool {
		err := f.Failing()
		return err != nil && err.Error() == "fails: out of order\npanics: panic: broken"
	})
	if slowest, err := f.Slowest(t.Context()); err != nil || slowest != 0 {
		t.Errorf("the slowest is at %d, %v", slowest, err)
	}
	ended := stop()
	if !errors.Is(ended["fails"], broken) || ended["panics"] == nil || ended["works"] != nil || ended["recovers"] != nil {
		t.Errorf("they ended with %v", ended)
	}
	for _, name := range []string{"works", "recovers"} {
		wantInOrder(t, name, sinks[name].got(), 1, 20)
	}
	saw.Range(func(id, _ any) bool {
		if id != int64(1) {
			t.Errorf("the one that fails was given row %v before it had taken the first", id)
		}
		return true
	})
	if r.cursor("fails") != 0 || r.cursor("panics") != 0 {
		t.Error("a cursor passed rows that were not handled")
	}
}

// TestAFailureIsToldUntilItIsOver asks at every try: the failure of the one
// before must not be forgotten while the sink is being tried again.
func TestAFailureIsToldUntilItIsOver(t *testing.T) {
	r := begin(t)
	var f *audit.Followers
	ready := make(chan struct{})
	s := &sink{fail: func(times int, _ []audit.Row) error {
		<-ready
		if failing := f.Failing(); (failing == nil) != (times == 1) {
			t.Errorf("at try %d: %v", times, failing)
		}
		return map[bool]error{true: fmt.Errorf("try %d", times)}[times < 3]
	}}
	r.stage(row(1))
	f, stop := r.follow(map[string]*sink{"s": s})
	close(ready)
	waittest.Until(t, "it is over", func() bool { return len(s.got()) == 1 && f.Failing() == nil })
	stop()
}

func TestPausesGrowBetweenTriesUpToAMinute(t *testing.T) {
	r := begin(t)
	r.stage(row(1))
	f := &audit.Followers{Store: r.store, Log: r.log, Cursors: r.cursors, Logger: slog.New(slog.DiscardHandler)}
	var pauses []time.Duration
	f.SetRest(func(_ context.Context, pause time.Duration) { pauses = append(pauses, pause) })
	s := &sink{fail: func(times int, _ []audit.Row) error {
		if times <= 11 || times == 13 {
			return errors.New("out of order")
		}
		return nil
	}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.Run(ctx, audit.Follower{Name: "s", Handle: s.handle}, time.Second) }()
	waittest.Until(t, "the first row is handled", func() bool { return len(s.got()) == 1 })
	r.stage(row(2))
	waittest.Until(t, "the second is handled", func() bool { return len(s.got()) == 2 })
	cancel()
	must(t, <-ended)
	want := "[250ms 500ms 1s 2s 4s 8s 16s 32s 1m0s 1m0s 1m0s 250ms]" // a success begins anew
	if fmt.Sprint(pauses) != want {
		t.Errorf("pauses of %v, want %s", pauses, want)
	}
}

// TestACursorIsNeverAheadOfWhatWasHandled ends the process before the cursor is
// durable: rows come again, and none is left out.
func TestACursorIsNeverAheadOfWhatWasHandled(t *testing.T) {
	r := begin(t)
	r.stage(rows(10)...)
	full := errors.New("no group is committed")
	r.atCommit(func(func() error) error { return fmt.Errorf("%w: %w", metadata.ErrRolledBack, full) })
	s := &sink{}
	_, stop := r.follow(map[string]*sink{"s": s})
	waittest.Until(t, "all is handled", func() bool { return len(s.got()) == 10 })
	waittest.Until(t, "the cursor is dropped", func() bool { return r.said.count("a write failed") > 0 })
	if err := stop()["s"]; err != nil {
		t.Error(err)
	}
	if r.cursor("s") != 0 {
		t.Errorf("the cursor is at %d", r.cursor("s"))
	}
	r.atCommit(nil)
	r.reopen()
	again := &sink{}
	_, stop = r.follow(map[string]*sink{"s": again})
	waittest.Until(t, "all comes again", func() bool { return len(again.got()) == 10 })
	stop()
	wantInOrder(t, "again", again.got(), 1, 10)
}

// TestAStopHandlesWhatIsLeft stops a follower that waits in its back-off: it has
// one more try, with the rows that came last.
func TestAStopHandlesWhatIsLeft(t *testing.T) {
	r := begin(t)
	s := &sink{fail: func(times int, _ []audit.Row) error { return map[bool]error{true: errors.New("not yet")}[times == 1] }}
	r.stage(rows(audit.FollowBatch + 10)...)
	_, stop := r.follow(map[string]*sink{"s": s})
	waittest.Until(t, "the first try has failed", func() bool { return r.said.count("a follower of the log failed") == 1 })
	if err := stop()["s"]; err != nil {
		t.Error(err)
	}
	wantInOrder(t, "s", s.got(), 1, audit.FollowBatch+10)
	r.reopen() // the cursor rode in the last group
	if at := r.cursor("s"); at != audit.FollowBatch+10 {
		t.Errorf("the cursor is at %d", at)
	}
}

// TestAStopWaitsForASinkNoLongerThanItMay has one that works until its context
// ends.
func TestAStopWaitsForASinkNoLongerThanItMay(t *testing.T) {
	r := begin(t)
	r.stage(row(1))
	f := &audit.Followers{Store: r.store, Log: r.log, Cursors: r.cursors, Logger: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan struct{}, 2)
	ended := make(chan error)
	go func() {
		ended <- f.Run(ctx, audit.Follower{Name: "slow", Handle: func(ctx context.Context, _ []audit.Row) error {
			asked <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}}, time.Millisecond)
	}()
	<-asked
	cancel()
	if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ended with %v", err)
	}
}
