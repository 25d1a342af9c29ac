package wasm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/telemetry"
	w "github.com/eiderdb/eider/core/wasm/wasmtest"
)

// A plugin whose guests keep dying is given longer and longer pauses, then is
// failed and answers at once; the try after a minute mends it.
func TestAGuestThatKeepsDyingIsFailedAndTriedAgain(t *testing.T) {
	tel := telemetry.Discard()
	chain, err := policy.NewChain(nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	dir := w.Guest(t, w.Manifest)
	h, err := New(Options{Dir: t.TempDir(), Cache: w.Cache(t), Log: tel.Log, Tracer: tel.Tracer, Meter: tel.Meter, KV: NewKV(), Chain: chain},
		[]Item{{Name: "x", Path: dir, Guests: 1, Config: map[string]any{"do": "panic", "on": "create_project"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer h.Close(context.Background())
	p := h.Plugin("x")
	var pauses []string
	minute := make(chan chan time.Time, 1)
	p.current.Load().pool.rest = func(d time.Duration) <-chan time.Time { // one guest, so one caller at a time
		pauses = append(pauses, d.String())
		over := make(chan time.Time, 1)
		if d < failedFor {
			over <- time.Now()
		} else {
			minute <- over
		}
		return over
	}
	ask := func(operation string) string {
		t.Helper()
		d, err := p.Decide(t.Context(), &policy.Question{Operation: operation})
		return fmt.Sprint(d.Deny, " ", err)
	}
	for range deathsAllowed {
		if got := ask("create_project"); !strings.HasPrefix(got, "false it failed") {
			t.Fatal(got)
		}
	}
	over := <-minute
	if got := ask("query"); got != "false it keeps failing" || p.State() != "failed" || h.Healthy() {
		t.Errorf("%s, and it is %s", got, p.State())
	}
	if got := strings.Join(pauses, " "); got != "50ms 100ms 200ms 400ms 800ms 1.6s 3.2s 1m0s" {
		t.Errorf("it paused for %s", got)
	}
	over <- time.Now()
	for p.State() != "ready" { // another guest is being made
		runtime.Gosched()
	}
	if got := ask("query"); got != "false <nil>" || !h.Healthy() {
		t.Errorf("after the try: %s", got)
	}
	if got := ask("create_project"); !strings.HasPrefix(got, "false it failed") || p.State() != "ready" {
		t.Errorf("a death after an answer is the first again: %s, %s", got, p.State())
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
