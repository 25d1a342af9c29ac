package wasm_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/wasm"
	w "github.com/eiderdb/eider/core/wasm/wasmtest"
)

// versioned returns a manifest of the version.
func versioned(v string) string {
	return strings.Replace(w.Manifest, "version: 1.0.0", "version: "+v, 1)
}

// Versions take each other's places while calls run, some of them refused: every
// call gets an answer, and one that begins after a reload gets the new version's.
func TestAReloadUnderLoadDropsNoCall(t *testing.T) {
	allows, refused := w.Policy(nil, nil), w.Policy(w.Cat(0x00), nil)
	denies := w.Policy(w.Answer(`{"decision":"deny","reason":"new"}`), nil)
	dir := w.Folder(t, allows, versioned("1"))
	h, chain := host(t, wasm.Item{Name: "x", Path: dir, Guests: 2})
	p := h.Plugin("x")
	var asked, reloads atomic.Int64
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				// An even number of reloads before and after: nothing changed, and the old answer is right.
				before := reloads.Load()
				o := chain.Ask(context.Background(), question())
				after := reloads.Load()
				asked.Add(1)
				switch {
				case o.Denial != nil && o.Denial.Reason != "new":
					t.Errorf("a call was dropped: %v", o.Denial)
					return
				case before == after && before%2 == 0 && (o.Denial != nil) != (before%4 == 2):
					t.Errorf("after %d reloads the answer is %v", before/2, o.Denial)
					return
				}
			}
		})
	}
	for n := range 20 {
		w.Put(t, dir, refused, versioned("0"))
		if err := p.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "self-test") {
			t.Fatalf("a version that traps: %v", err)
		}
		module := denies
		if n%2 == 1 {
			module = allows
		}
		w.Put(t, dir, module, versioned("2"))
		reloads.Add(1) // one is under way: either answer is right
		if err := p.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		reloads.Add(1)
		for seen := asked.Load(); asked.Load() < seen+16 && !t.Failed(); {
			chain.Ask(t.Context(), question())
		}
	}
	close(stop)
	callers.Wait()
	if f := p.Figures(); f.Errors != 0 || p.State() != "ready" {
		t.Errorf("%d calls, %+v", asked.Load(), f)
	}
}

// A version that is refused leaves the one before, whatever is wrong with it, and
// says why until one is taken.
func TestAVersionThatIsRefusedLeavesTheOneBefore(t *testing.T) {
	dir := w.Folder(t, w.Policy(nil, nil), versioned("1"))
	h, chain := host(t, wasm.Item{Name: "x", Path: dir, Guests: 1})
	p := h.Plugin("x")
	for _, c := range []struct {
		module         []byte
		manifest, want string
	}{
		{w.Policy(w.Cat(0x00), nil), versioned("2"), "the self-test: it failed"},
		{w.Policy(w.Answer("{}"), nil), versioned("2"), "malformed"},
		{[]byte("text"), versioned("2"), "no WebAssembly"},
		{w.Policy(nil, nil), versioned("2") + "abi: 2\n", "manifest"},
		{w.Policy(nil, nil), strings.Replace(versioned("2"), "abi: 1", "abi: 2", 1), "abi is 2"},
		{w.Policy(nil, nil), versioned("2") + "when: 1 + 1\n", "true or false"},
	} {
		w.Put(t, dir, c.module, c.manifest)
		if err := p.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
		v, ok := p.Loaded()
		if !ok || v.Manifest.Version != "1" || p.State() != "ready" || !strings.Contains(p.Figures().LastError, c.want) {
			t.Errorf("loaded %v: version %s, %s, %q", ok, v.Manifest.Version, p.State(), p.Figures().LastError)
		}
		if o := chain.Ask(t.Context(), question()); o.Denial != nil || o.Verdicts[0].Version != "1" {
			t.Errorf("it decides %+v", o)
		}
	}
	w.Put(t, dir, w.Policy(nil, nil), versioned("3"))
	if err := p.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if o := chain.Ask(t.Context(), question()); o.Denial != nil || o.Verdicts[0].Version != "3" || p.Figures().LastError != "" {
		t.Errorf("the version after them: %+v, %q", o, p.Figures().LastError)
	}
}

// What could not be read at the start is whatever it turns out to be, and stays that.
func TestAPluginIsOfOneKind(t *testing.T) {
	dir := t.TempDir()
	h, chain := host(t, wasm.Item{Name: "x", Path: dir, Guests: 1})
	p := h.Plugin("x")
	if chain.Ask(t.Context(), question()).Denial == nil || p.Kind() != "" {
		t.Errorf("it is a %q and denies nothing", p.Kind())
	}
	sink := strings.Replace(w.Manifest, "kind: policy", "kind: sink", 1)
	w.Put(t, dir, []byte("text"), sink)
	if err := p.Reload(t.Context()); err == nil || p.Kind() != wasm.Sink || chain.Len() != 0 {
		t.Errorf("its manifest says that it is a sink, and it is a %q: %v", p.Kind(), err)
	}
	w.Put(t, dir, w.Sink(`{"status":"ok"}`, nil, nil), sink)
	if err := p.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Put(t, dir, w.Policy(nil, nil), w.Manifest)
	if err := p.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "is a policy now and was a sink") || p.Kind() != wasm.Sink || chain.Len() != 0 {
		t.Errorf("it is another: %v, %q", err, p.Kind())
	}
	if v, ok := p.Loaded(); !ok || v.Manifest.Kind != wasm.Sink || p.State() != "ready" {
		t.Errorf("the version before is %+v, %s", v, p.State())
	}
}

// The host asks by priority, then by name, and shows them in that order.
func TestPluginsAreAskedByPriority(t *testing.T) {
	dir := w.Folder(t, w.Policy(nil, nil), w.Manifest)
	h, chain := host(t,
		wasm.Item{Name: "c", Path: dir, Guests: 1}, wasm.Item{Name: "last", Path: dir, Guests: 1, Priority: -1},
		wasm.Item{Name: "b", Path: dir, Guests: 1, Projects: []string{"sales-*"}}, wasm.Item{Name: "first", Path: dir, Guests: 1, Priority: 10},
		wasm.Item{Name: "off", Path: dir, Guests: 1, Priority: 5, Mode: "off"})
	var shown, asked []string
	for _, p := range h.Ordered() {
		shown = append(shown, p.Name())
	}
	for _, v := range chain.Ask(t.Context(), question()).Verdicts {
		asked = append(asked, v.Plugin)
	}
	if got := strings.Join(shown, " "); got != "first off b c last" {
		t.Errorf("shown as %s", got)
	}
	if got := strings.Join(asked, " "); got != "first c last" { // b is of projects, and there is none
		t.Errorf("asked %s", got)
	}
}

// A mode that was set holds from the start, before anything is asked.
func TestAModeThatWasSetHoldsFromTheStart(t *testing.T) {
	h, chain := hostWith(t, func(o *wasm.Options) { o.Modes = map[string]policy.Mode{"x": policy.DryRun} },
		wasm.Item{Name: "x", Path: "missing", Guests: 1})
	o := chain.Ask(t.Context(), question())
	if o.Denial != nil || len(o.Verdicts) != 1 || o.Verdicts[0].Outcome != "would_deny" {
		t.Errorf("it decides %+v", o)
	}
	if p := h.Plugin("x"); p.Mode() != policy.DryRun || p.SettingsMode() != policy.Enforce {
		t.Errorf("mode %s, of the settings %s", p.Mode(), p.SettingsMode())
	}
}
