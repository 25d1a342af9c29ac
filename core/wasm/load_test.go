package wasm_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/wasm"
	w "github.com/eiderdb/eider/core/wasm/wasmtest"
)

// finishes fails the test if do does not return: a lock that is held for ever is what
// is looked for.
func finishes(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { do(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatalf("%s waits for a load", what)
	}
}

// While a plugin is loaded, however long that takes, it and the others answer, are
// shown and change their modes. Another load of it waits.
func TestNothingWaitsForALoad(t *testing.T) {
	module := w.Policy(nil, nil)
	held := w.NewHeld(module)
	h, chain := hostWith(t, func(o *wasm.Options) { o.Builtin = held.Read }, wasm.Item{Name: "slow", Path: "builtin:slow", Guests: 1}, wasm.Item{Name: "other", Path: w.Folder(t, module, w.Manifest), Guests: 1})
	slow, other := h.Plugin("slow"), h.Plugin("other")
	release := held.Hold()
	loaded := make(chan error, 2)
	go func() { loaded <- slow.Reload(t.Context()) }()
	<-held.Reading
	go func() { loaded <- slow.Reload(t.Context()) }()
	finishes(t, "the mode of another", func() { other.SetMode(policy.DryRun) })
	finishes(t, "its own mode", func() { slow.SetMode(policy.Warn) })
	finishes(t, "what is shown", func() {
		_, isLoaded := slow.Loaded()
		if slow.State() != "ready" || !h.Healthy() || slow.Kind() != wasm.Policy || slow.Mode() != policy.Warn || !isLoaded || slow.Refused() != nil || slow.Figures().Guests != 1 {
			t.Errorf("it is a %s %s of mode %s", slow.State(), slow.Kind(), slow.Mode())
		}
	})
	finishes(t, "a call", func() {
		if o := chain.Ask(t.Context(), question()); o.Denial != nil || len(o.Verdicts) != 2 {
			t.Errorf("it decides %+v", o)
		}
	})
	finishes(t, "a try", func() {
		if _, err := slow.Try(t.Context(), &wasm.Event{}); err != nil {
			t.Error(err)
		}
	})
	select {
	case err := <-loaded:
		t.Errorf("a load does not wait for the one before: %v", err)
	default:
	}
	release()
	if err := errors.Join(<-loaded, <-loaded); err != nil {
		t.Error(err)
	}
	if slow.Mode() != policy.Warn || chain.Len() != 2 {
		t.Errorf("when it is loaded, its mode is %s, and %d are asked", slow.Mode(), chain.Len())
	}
}

// A server that is told to stop while it loads a plugin waits for nothing: what the load
// is at is left behind, and comes to nothing.
func TestNoStopWaitsForALoad(t *testing.T) {
	held := w.NewHeld(w.Policy(nil, nil))
	h := newHost(t, func(o *wasm.Options) { o.Builtin = held.Read }, nil, wasm.Item{Name: "slow", Path: "builtin:slow", Guests: 1})
	release := held.Hold()
	ctx, stop := context.WithCancel(t.Context())
	started := make(chan error)
	go func() { started <- h.Start(ctx) }()
	<-held.Reading
	stop()
	finishes(t, "a stop", func() {
		if err := <-started; !errors.Is(err, context.Canceled) {
			t.Errorf("the start says %v", err)
		}
		if err := h.Close(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	release()
	if err := h.Plugin("slow").Load(t.Context()); err == nil || err.Error() != "the server has ended" { // behind the one that was left
		t.Errorf("a host that is closed loads: %v", err)
	}
	if _, loaded := h.Plugin("slow").Loaded(); loaded {
		t.Error("it is loaded when the host is closed")
	}
}

// A load ends with its caller, whatever it is at; what is left behind comes to nothing, is
// no failure of the plugin, and keeps nobody from leaving who waits behind it.
func TestALoadEndsWithItsCaller(t *testing.T) {
	var log bytes.Buffer
	held := w.NewHeld(w.Policy(nil, nil))
	h, _ := hostWith(t, func(o *wasm.Options) {
		o.Builtin, o.Log = held.Read, slog.New(slog.NewTextHandler(&log, nil))
	}, wasm.Item{Name: "slow", Path: "builtin:slow", Guests: 1})
	p := h.Plugin("slow")
	release := held.Hold()
	for n, under := range []func(ctx context.Context){func(context.Context) { <-held.Reading }, func(context.Context) {}} {
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() { left <- p.Reload(ctx) }()
		under(ctx)
		leave()
		finishes(t, "who leaves", func() {
			if err := <-left; !errors.Is(err, context.Canceled) {
				t.Errorf("load %d ends with %v", n, err)
			}
		})
	}
	release()
	if err := p.Reload(t.Context()); err != nil || p.Figures().LastError != "" {
		t.Errorf("the load behind them: %v, and the plugin's last error is %q", err, p.Figures().LastError)
	}
	if n := strings.Count(log.String(), "a plugin is loaded"); n != 2 { // at the start, and now
		t.Errorf("it was loaded %d times:\n%s", n, &log)
	}
}

// Of loads that are wanted of what a plugin was, one is done: the next finds another.
func TestALoadIsDoneIfThePluginIsStillTheSame(t *testing.T) {
	dir := w.Folder(t, w.Policy(nil, nil), versioned("1"))
	h, _ := host(t, wasm.Item{Name: "x", Path: dir, Guests: 1})
	p, errOther := h.Plugin("x"), errors.New("another")
	w.Put(t, dir, w.Policy(nil, nil), versioned("2"))
	loaded := make(chan error)
	for range 4 {
		go func() {
			_, err := p.ReloadIf(t.Context(), func() error {
				if v, _ := p.Loaded(); v.Manifest.Version != "1" {
					return errOther
				}
				return nil
			})
			loaded <- err
		}()
	}
	done := 0
	for range 4 {
		switch err := <-loaded; {
		case err == nil:
			done++
		case !errors.Is(err, errOther):
			t.Error(err)
		}
	}
	if done != 1 || p.Figures().LastError != "" {
		t.Errorf("%d loads were done, and the last error is %q", done, p.Figures().LastError)
	}
}

// What is no regular file is refused, not waited for.
func TestAPipeIsNoModule(t *testing.T) {
	for _, name := range []string{"guest.wasm", "plugin.yaml", "plugin.sig"} {
		dir := w.Folder(t, w.Policy(nil, nil), w.Manifest)
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
		h, _ := host(t, wasm.Item{Name: "x", Path: dir, Guests: 1})
		if err := h.Plugin("x").Refused(); err == nil || !strings.Contains(err.Error(), "is no regular file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a guest says while it is tried takes no room from what those say that answer
// calls, and tells that it was a try.
func TestATryHasLinesOfItsOwn(t *testing.T) {
	var log bytes.Buffer
	h, _ := hostWith(t, func(o *wasm.Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) },
		wasm.Item{Name: "x", Path: w.Guest(t, w.Manifest), Guests: 1, Capabilities: []string{"log"}, Config: map[string]any{"do": "log", "on": "query"}})
	p := h.Plugin("x")
	for range 150 {
		if _, err := p.Try(t.Context(), &wasm.Event{Operation: "query"}); err != nil {
			t.Fatal(err)
		}
	}
	tried := strings.Count(log.String(), "try=true")
	log.Reset()
	if _, err := p.Decide(t.Context(), &policy.Question{Operation: "query"}); err != nil {
		t.Fatal(err)
	}
	if said := log.String(); tried < 100 || !strings.Contains(said, "about query") || strings.Contains(said, "try=true") || strings.Contains(said, "said too much") {
		t.Errorf("after %d lines of tries a call says %q", tried, said)
	}
}

// A try has no effect on the calls of others, whatever it asks.
func TestATryHasNoEffect(t *testing.T) {
	dir := w.Guest(t, w.Manifest)
	for _, do := range []string{"loop", "panic"} {
		h, chain := host(t, wasm.Item{Name: "x", Path: dir, Guests: 1, Config: map[string]any{"do": do, "on": "create_project"}})
		p := h.Plugin("x")
		before := p.Figures()
		for range 15 {
			if _, err := p.Try(t.Context(), &wasm.Event{Operation: "create_project"}); err == nil {
				t.Fatalf("%s: it decides", do)
			}
		}
		if d, err := p.Try(t.Context(), &wasm.Event{Operation: "query"}); err != nil || d.Deny {
			t.Errorf("%s: a try after them: %+v, %v", do, d, err)
		}
		if after := p.Figures(); after != before || p.State() != "ready" {
			t.Errorf("%s: it is %s: %+v, and was %+v", do, p.State(), after, before)
		}
		if o := chain.Ask(t.Context(), &policy.Question{Operation: "query"}); o.Denial != nil {
			t.Errorf("%s: a call after them: %v", do, o.Denial)
		}
	}
}
