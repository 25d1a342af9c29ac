package wasm

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/telemetry"
	w "github.com/eiderdb/eider/core/wasm/wasmtest"
)

// pooled returns a plugin whose guests do as the config says when they are
// asked about create_project, and a clock that its pool goes by.
func pooled(t *testing.T, do string, guests int) (*Plugin, *time.Time) {
	t.Helper()
	tel := telemetry.Discard()
	h, err := New(Options{Dir: t.TempDir(), Cache: w.Cache(t), Log: tel.Log, Tracer: tel.Tracer, Meter: tel.Meter, KV: NewKV()},
		[]Item{{Name: "x", Path: w.Guest(t, w.Manifest), Guests: guests, Config: map[string]any{"do": do, "on": "create_project"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close(context.Background()) })
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, now := h.Plugin("x"), time.Now()
	p.current.Load().pool.suspects.now = func() time.Time { return now }
	return p, &now
}

// asked has the plugin decide about a call in a project, and returns what it says.
func asked(t *testing.T, p *Plugin, project, operation string) string {
	t.Helper()
	d, err := p.Decide(t.Context(), &policy.Question{Operation: operation, Project: &eider.Project{ID: project}})
	if d.Deny {
		t.Errorf("it denies %s of %s", operation, project)
	}
	var u policy.Unable
	errors.As(err, &u)
	return string(u)
}

// What one caller sends kills as many guests as it likes: others are answered, and the
// plugin is not failed by that.
func TestACallerWhoseCallsKillGuestsHarmsNoOther(t *testing.T) {
	p, _ := pooled(t, "panic", 1)
	p.current.Load().pool.rest = func(d time.Duration) <-chan time.Time {
		t.Errorf("it pauses for %s", d)
		return time.After(0)
	}
	if got := asked(t, p, "good", "query"); got != "" {
		t.Fatal(got)
	}
	for range 3 * deathsAllowed {
		if got := asked(t, p, "bad", "create_project"); got != string(errTrap) {
			t.Fatal(got)
		}
	}
	if got := asked(t, p, "bad", "query") + asked(t, p, "good", "query"); got != "" || p.State() != "ready" || !p.host.Healthy() {
		t.Errorf("after them: %q, and it is %s", got, p.State())
	}
	// Nor at once: however many it sends, a call of another waits for few of them.
	done := make(chan struct{})
	for range 16 {
		go func() {
			for p.Figures().Calls < 3*deathsAllowed+60 {
				asked(t, p, "bad", "create_project")
			}
			done <- struct{}{}
		}()
	}
	for range 10 {
		if got := asked(t, p, "good", "query"); got != "" {
			t.Error(got)
		}
	}
	for range 16 {
		<-done
	}
	if p.State() != "ready" {
		t.Errorf("it is %s", p.State())
	}
}

// A plugin whose guests die of every call is failed, whoever calls. Those who have seen
// it are refused, once a minute but for a try; others still ask, and the first answer
// mends it.
func TestAPluginThatDiesOfEveryCallIsFailed(t *testing.T) {
	p, now := pooled(t, "panic", 1)
	want := func(what, got, want, state string) {
		t.Helper()
		if got != want || p.State() != state || p.host.Healthy() != (state == "ready") {
			t.Errorf("%s: %q, and it is %s; want %q and %s", what, got, p.State(), want, state)
		}
	}
	kill := func(n int, project string) (last string) {
		t.Helper()
		for range n {
			last = asked(t, p, project, "create_project")
		}
		return last
	}
	want("one before the last death", kill(deathsAllowed-1, "a"), string(errTrap), "ready")
	want("the last, and nobody was answered ever", kill(1, "a"), string(errTrap), "failed")
	want("another call of who has seen that", asked(t, p, "a", "query"), string(errFailed), "failed")
	want("a call of another", asked(t, p, "b", "query"), "", "ready")
	want("one caller alone", kill(3*deathsAllowed, "a"), string(errTrap), "ready")
	want("a second one", kill(1, "b"), string(errTrap), "failed")
	want("a third one", kill(1, "c"), string(errTrap), "failed")
	want("each of them", kill(2, "a")+kill(2, "b")+kill(2, "c"), strings.Repeat(string(errFailed), 3), "failed")
	*now = now.Add(suspectFor)
	want("a try after a minute", kill(1, "a"), string(errTrap), "failed")
	want("one more", asked(t, p, "a", "query"), string(errFailed), "failed")
	want("the try of another", asked(t, p, "b", "query"), "", "ready")
	want("a row of deaths begins anew", kill(deathsAllowed-1, "a"), string(errTrap), "ready")
}

// Where guests cannot be made any more, there are longer and longer pauses between the
// tries, then the plugin is failed and answers at once; the try after a minute mends it.
func TestGuestsThatCannotBeMadeAreTriedLessAndLess(t *testing.T) {
	p, _ := pooled(t, "panic", 1)
	pool := p.current.Load().pool
	var pauses []string
	minute := make(chan chan time.Time, 1)
	pool.rest = func(d time.Duration) <-chan time.Time { // one guest, so one at a time
		pauses = append(pauses, d.String())
		over := make(chan time.Time, 1)
		if d < failedFor {
			over <- time.Now()
		} else {
			minute <- over
		}
		return over
	}
	well, broken := pool.make, atomic.Bool{}
	broken.Store(true)
	pool.make = func(ctx context.Context) (*guest, error) {
		if broken.Load() {
			return nil, errors.New("out of order")
		}
		return well(ctx)
	}
	asked(t, p, "a", "create_project")
	over := <-minute
	if got := asked(t, p, "b", "query"); got != string(errFailed) || p.State() != "failed" {
		t.Errorf("%q, and it is %s", got, p.State())
	}
	if got := strings.Join(pauses, " "); got != "50ms 100ms 200ms 400ms 800ms 1.6s 3.2s 1m0s" {
		t.Errorf("it paused for %s", got)
	}
	broken.Store(false)
	over <- time.Now()
	for p.State() != "ready" { // another guest is being made
		runtime.Gosched()
	}
	if got := asked(t, p, "b", "query"); got != "" {
		t.Errorf("after the try: %s", got)
	}
}

// A caller whose call has cost a guest keeps one of them busy at a time. Others take
// what there is.
func TestASuspectHasOneGuestAtATime(t *testing.T) {
	p, _ := pooled(t, "panic", 3)
	pool := p.current.Load().pool
	pool.mu.Lock()
	pool.suspects.cost("suspect")
	pool.mu.Unlock()
	past, cancel := context.WithCancel(t.Context())
	cancel()
	first, err := pool.take(t.Context(), "suspect")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pool.take(past, "suspect"); !errors.Is(err, context.Canceled) {
		t.Errorf("a second call of it: %v", err)
	}
	taken := []*guest{first}
	for range 2 {
		g, err := pool.take(t.Context(), "other")
		if err != nil {
			t.Fatalf("a call of another: %v", err)
		}
		taken = append(taken, g)
	}
	pool.takeBack(taken[0], "suspect", true, nil)
	again, err := pool.take(t.Context(), "suspect")
	if err != nil {
		t.Fatalf("when its call has ended: %v", err)
	}
	pool.takeBack(again, "suspect", true, nil)
	pool.takeBack(taken[1], "other", true, nil)
	pool.takeBack(taken[2], "other", true, nil)
}

// Nobody who was not seen to kill guests is kept in mind for ever, or for more than
// there is room for.
func TestSuspectsAreForgotten(t *testing.T) {
	s, now := newSuspects(), time.Now()
	s.now = func() time.Time { return now }
	for n := range 2 * maxSuspects {
		s.died(fmt.Sprint(n))
	}
	if _, ok := s.admit("unknown"); ok || len(s.by) != maxSuspects || !s.failed {
		t.Errorf("%d are kept, and one more is asked about: %v", len(s.by), ok)
	}
	now = now.Add(suspectFor)
	if turn, ok := s.admit("unknown"); !ok || turn != nil || len(s.by) != 0 {
		t.Errorf("after a minute %d are kept, and an unknown one: %v, %v", len(s.by), turn, ok)
	}
}

// A minute after its call has cost a guest a caller is like any other, once no call that
// had to wait runs. In the same row its next death is still not another caller's.
func TestASuspectIsOneForAMinute(t *testing.T) {
	s, now := newSuspects(), time.Now()
	s.now = func() time.Time { return now }
	turn := s.cost("starves").turn
	s.died("kills")
	turn <- struct{}{}
	now = now.Add(suspectFor)
	if again, ok := s.admit("starves"); !ok || again != turn {
		t.Errorf("while its call runs: %v, %v", again, ok)
	}
	<-turn
	for _, caller := range []string{"starves", "kills"} {
		if again, ok := s.admit(caller); !ok || again != nil {
			t.Errorf("%s has to wait for %v after a minute, %v", caller, again, ok)
		}
	}
	if _, known := s.by["starves"]; known {
		t.Error("it is not forgotten")
	}
	s.died("kills")
	if s.callers != 1 {
		t.Errorf("one caller counts as %d", s.callers)
	}
}

// A call for which a guest has too little fuel or memory is that call's failure alone:
// however many there are, others are answered, and nothing is paused or failed.
func TestACallThatStarvesItsGuestHarmsNoOther(t *testing.T) {
	tel := telemetry.Discard()
	grow := w.Cat(w.I32(200), 0x40, 0, w.I32(-1), 0x46, 0x04, 0x40, 0x00, 0x0b, // to 12.5 MiB of 16, and what does not fit traps
		w.I32(200), 0x40, 0, w.I32(-1), 0x46, 0x04, 0x40, 0x00, 0x0b)
	hungry := w.Folder(t, w.Policy(w.Later(grow), nil), w.Manifest)
	h, err := New(Options{Dir: t.TempDir(), Cache: w.Cache(t), Log: tel.Log, Tracer: tel.Tracer, Meter: tel.Meter, KV: NewKV()}, []Item{
		{Name: "loops", Path: w.Guest(t, w.Manifest), Guests: 2, Config: map[string]any{"do": "loop", "on": "create_project"}},
		{Name: "hungry", Path: hungry, Guests: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer h.Close(context.Background())
	p := h.Plugin("loops")
	p.current.Load().pool.rest = func(d time.Duration) <-chan time.Time {
		t.Errorf("it pauses for %s", d)
		return time.After(0)
	}
	for n := range 2 * deathsAllowed {
		if _, err := p.Decide(t.Context(), &policy.Question{Operation: "create_project"}); !errors.Is(err, errFuel) {
			t.Fatalf("call %d: %v", n, err)
		}
	}
	if d, err := p.Decide(t.Context(), &policy.Question{Operation: "query"}); err != nil || d.Deny || p.State() != "ready" || !h.Healthy() {
		t.Errorf("a call after them: %+v, %v, and it is %s", d, err, p.State())
	}
	if f := p.Figures(); f.Errors != 2*deathsAllowed || f.Replaced != 2*deathsAllowed {
		t.Errorf("counted %+v", f)
	}
	p = h.Plugin("hungry")
	for range 2 * deathsAllowed {
		p.Decide(t.Context(), &policy.Question{Operation: "query"})
	}
	if f := p.Figures(); f.Errors < deathsAllowed || p.State() != "ready" {
		t.Errorf("the one without memory is %s: %+v", p.State(), f)
	}
}
