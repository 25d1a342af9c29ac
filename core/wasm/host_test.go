package wasm_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/telemetry"
	"github.com/eiderdb/eider/core/wasm"
	w "github.com/eiderdb/eider/core/wasm/wasmtest"
)

// host returns a host with the items, and the chain that it fills.
func host(t testing.TB, items ...wasm.Item) (*wasm.Host, *policy.Chain) {
	t.Helper()
	return hostWith(t, func(*wasm.Options) {}, items...)
}

func hostWith(t testing.TB, set func(*wasm.Options), items ...wasm.Item) (*wasm.Host, *policy.Chain) {
	t.Helper()
	chain, err := policy.NewChain(nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(t, set, chain, items...)
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return h, chain
}

// newHost returns a host that is neither started nor closed.
func newHost(t testing.TB, set func(*wasm.Options), chain *policy.Chain, items ...wasm.Item) *wasm.Host {
	t.Helper()
	tel := telemetry.Discard()
	o := wasm.Options{
		Dir: t.TempDir(), Cache: w.Cache(t), Log: slog.New(slog.DiscardHandler), Tracer: tel.Tracer, Meter: tel.Meter, KV: wasm.NewKV(), Chain: chain,
	}
	set(&o)
	h, err := wasm.New(o, items)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func question() *policy.Question { return &policy.Question{Operation: "create_project"} }

const (
	loop, br, end, call, drop, localSet = 0x03, 0x0c, 0x0b, 0x10, 0x1a, 0x21
	empty                               = 0x40
)

// Each of these does its worst when it is asked. It is stopped and replaced, the
// host lives, and a neighbour is asked as if nothing had been.
func TestHostileGuestsAreStoppedAndReplaced(t *testing.T) {
	for _, c := range w.Hostile() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			module := w.Policy(nil, nil)
			hostile := c.Policy(false)
			// It proves itself harmless first: what it does begins with a reload.
			dir := w.Folder(t, module, w.Manifest)
			late := w.Folder(t, c.Policy(true), w.Manifest)
			h, chain := host(t, wasm.Item{Name: "hostile", Path: dir, Capabilities: []string{"log", "kv"}, Guests: 1},
				wasm.Item{Name: "late", Path: late, Capabilities: []string{"log", "kv"}, Guests: 1, Priority: 1},
				wasm.Item{Name: "neighbour", Path: w.Folder(t, module, w.Manifest), Guests: 1})
			w.Put(t, dir, hostile, w.Manifest)
			err := h.Plugin("hostile").Reload(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.Want) {
				t.Errorf("its self-test says %v, want %s", err, c.Want)
			}
			h.Plugin("hostile").SetMode(policy.Off)
			for round := range 4 { // the newest guest does its worst at its second call
				o := chain.Ask(t.Context(), question())
				if bad := round%2 == 1; bad != (o.Denial != nil) || bad && !strings.Contains(o.Denial.Reason, c.Want) {
					t.Errorf("call %d, when it has proven itself: %v, want %s", round, o.Denial, c.Want)
				}
			}
			for _, name := range []string{"hostile", "neighbour"} { // the version before stays
				if d, err := h.Plugin(name).Decide(t.Context(), question()); err != nil || d.Deny {
					t.Errorf("%s: %+v, %v", name, d, err)
				}
			}
		})
	}
}

// What cannot be a plugin is refused when it is loaded.
func TestModulesThatCannotBePluginsAreRefused(t *testing.T) {
	zero := 4
	without := func(name string) []byte {
		return w.Policy(nil, func(m *w.Module) {
			for i := range m.Funcs {
				if m.Funcs[i].Name == name {
					m.Funcs[i].Name = ""
				}
			}
		})
	}
	for _, c := range []struct {
		name   string
		module []byte
		want   string
	}{
		{"no module", []byte("hello"), "no WebAssembly"},
		{"cut short", w.Policy(nil, nil)[:80], "cannot be used"},
		{"invalid code", w.Policy(w.Cat(0x6a), nil), "not valid"},
		{"no memory", w.Policy(nil, func(m *w.Module) { m.Exports = nil }), "memory"},
		{"no version", without("eider_abi_version"), "eider_abi_version"},
		{"no alloc", without("eider_alloc"), "eider_alloc"},
		{"no configure", without("eider_configure"), "eider_configure"},
		{"no decide", without("eider_decide"), "eider_decide"},
		{"another major", w.Policy(nil, func(m *w.Module) { m.Funcs[0].Code = w.I32(2 << 16) }), "2.0 of the ABI"},
		{"another type", w.Policy(nil, func(m *w.Module) { m.Funcs[1].Params = "ii" }), "another type"},
		{"unknown import", w.Policy(nil, func(m *w.Module) { m.Imports = []w.Import{{Module: "eider", Name: "open_file"}} }), "eider.open_file"},
		{"import of another module", w.Policy(nil, func(m *w.Module) { m.Imports = []w.Import{{Module: "os", Name: "exec"}} }), "imports from os"},
		{"endless start section", w.Policy(nil, func(m *w.Module) {
			m.Funcs = append(m.Funcs, w.Func{Code: w.Cat(loop, empty, br, 0, end)})
			m.Start = &zero
		}), "ran out of fuel"},
		{"a minor that is not known", w.Policy(nil, func(m *w.Module) { m.Funcs[0].Code = w.I32(1<<16 | 9) }), "1.9 of the ABI"},
		{"an encoding that is not known", w.Policy(nil, func(m *w.Module) {
			m.Funcs = append(m.Funcs, w.Func{Results: "i", Code: w.I32(2), Name: "eider_encoding"})
		}), "its encoding is 2"},
		{"a buffer outside its memory", w.Policy(nil, func(m *w.Module) { m.Funcs[1].Code = w.I32(-8) }), "malformed"},
		{"no buffer", w.Policy(nil, func(m *w.Module) { m.Funcs[1].Code = w.I32(0) }), "does not fit"},
		{"a complaint outside its memory", w.Policy(nil, func(m *w.Module) { m.Funcs[2].Code = w.I64(-1) }), "malformed"},
		{"a complaint that is no UTF-8", w.Policy(nil, func(m *w.Module) {
			m.Funcs[2].Code = w.Cat(w.I32(0), w.I32(0xff), 0x3a, 0, 0, w.I64(1))
		}), "malformed"},
		{"an endless eider_configure", w.Policy(nil, func(m *w.Module) { m.Funcs[2].Code = w.Cat(loop, empty, br, 0, end, w.I64(0)) }), "ran out of fuel"},
		{"the host's own export", w.Policy(nil, func(m *w.Module) { m.Exports = append(m.Exports, w.Named("eider:start", 0, 0)) }), "eider:start"},
		{"a function with the counter's name", w.Policy(nil, func(m *w.Module) { m.Exports = append(m.Exports, w.Named("eider_fuel", 0, 0)) }), "eider_fuel"},
		{"the counter's name", w.Policy(nil, func(m *w.Module) { m.Globals = 1; m.Exports = append(m.Exports, w.Named("eider_fuel", 3, 0)) }), "eider_fuel"},
	} {
		h, chain := host(t, wasm.Item{Name: "x", Path: w.Folder(t, c.module, w.Manifest), Guests: 1})
		if err := h.Plugin("x").Load(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
		o := chain.Ask(t.Context(), question())
		if o.Denial == nil || o.Denial.Reason != "the policy could not decide: it is not loaded" || h.Healthy() {
			t.Errorf("%s: %+v", c.name, o)
		}
	}
}

// A guest of the Go toolchain that fails is replaced, in each mode with the effect
// that the mode has.
func TestAGuestThatFailsIsReplaced(t *testing.T) {
	dir := w.Guest(t, w.Manifest)
	for _, do := range []string{"panic", "loop", "sleep"} {
		h, chain := host(t, wasm.Item{Name: "x", Path: dir, Guests: 1, Config: map[string]any{"do": do, "on": "create_project"}})
		for range 3 {
			if o := chain.Ask(t.Context(), question()); o.Denial == nil || !strings.HasPrefix(o.Denial.Reason, "the policy could not decide: it ") {
				t.Fatalf("%s: %+v", do, o)
			}
			if o := chain.Ask(t.Context(), &policy.Question{Operation: "query"}); o.Denial != nil {
				t.Fatalf("the guest after it: %v", o.Denial)
			}
		}
		h.Plugin("x").SetMode(policy.DryRun)
		if o := chain.Ask(t.Context(), question()); o.Denial != nil || len(o.Warnings) > 0 || len(o.Verdicts) != 1 {
			t.Errorf("dry_run: %+v", o)
		}
		h.Plugin("x").SetMode(policy.Off)
		if chain.Len() != 0 {
			t.Error("it is off, and asked")
		}
		if f := h.Plugin("x").Figures(); f.Errors < 3 || f.Replaced < 3 {
			t.Errorf("%s: %+v", do, f)
		}
	}
}

func TestCountsAreExactAmongGuests(t *testing.T) {
	dir := w.Guest(t, w.Manifest)
	_, chain := host(t, wasm.Item{Name: "x", Path: dir, Guests: 4, Capabilities: []string{"kv"}, Config: map[string]any{"do": "count", "limit": "100"}})
	passed := make(chan int)
	for range 8 {
		go func() {
			n := 0
			for range 40 {
				o := chain.Ask(context.Background(), question())
				if o.Denial == nil {
					n++
				} else if o.Denial.Code != eider.RateLimited {
					n += 1000
				}
			}
			passed <- n
		}()
	}
	sum := 0
	for range 8 {
		sum += <-passed
	}
	if sum != 100 {
		t.Errorf("%d passed, want 100", sum)
	}
}

func TestPinAndConfigAreHeld(t *testing.T) {
	module := w.Policy(nil, nil)
	manifest := w.Manifest + "config: {type: object, properties: {n: {type: integer, minimum: 1}}, additionalProperties: false}\n"
	dir := w.Folder(t, module, manifest)
	for _, c := range []struct {
		item wasm.Item
		want string
	}{
		{wasm.Item{SHA256: strings.Repeat("0", 64)}, "the module's sha256 is"},
		{wasm.Item{ManifestSHA256: strings.Repeat("0", 64)}, "the manifest's sha256 is"},
		{wasm.Item{SHA256: wasm.Digest(module), ManifestSHA256: wasm.Digest([]byte(manifest))}, ""},
		{wasm.Item{Config: map[string]any{"n": 0}}, "config.n must be at least 1"},
		{wasm.Item{Config: map[string]any{"m": 1}}, "config.m is not known"},
		{wasm.Item{Capabilities: []string{"http"}}, "does not ask"},
		{wasm.Item{Config: map[string]any{"n": 3}}, ""},
	} {
		c.item.Name, c.item.Path, c.item.Guests = "x", dir, 1
		h, _ := host(t, c.item)
		err := h.Plugin("x").Load(t.Context())
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v: %v", c.item, err)
		}
	}
}

// What an expression leaves out never enters a guest: it is counted, allowed, and
// no part of the decision. What it fails on is asked about.
func TestAFilterSparesTheGuest(t *testing.T) {
	denies := w.Policy(w.Answer(`{"decision":"deny","reason":"asked"}`), nil)
	when := "when: operation == 'drop_project' || operation == 'query' && input.mode == 'write'\n"
	h, chain := host(t, wasm.Item{Name: "x", Path: w.Folder(t, denies, w.Manifest+when), Guests: 1})
	for _, c := range []struct {
		question policy.Question
		asked    bool
	}{
		{policy.Question{Operation: "create_project"}, false},
		{policy.Question{Operation: "drop_project"}, true},
		{policy.Question{Operation: "query", Input: []byte(`{"mode":"read"}`)}, false},
		{policy.Question{Operation: "query", Input: []byte(`{"mode":"write"}`)}, true},
		{policy.Question{Operation: "query", Input: []byte(`{}`)}, true}, // it fails on that
		{policy.Question{Operation: "query"}, true},
	} {
		o := chain.Ask(t.Context(), &c.question)
		if (o.Denial != nil) != c.asked || (o.JSON() != "") != c.asked {
			t.Errorf("%s %s: %v, %s", c.question.Operation, c.question.Input, o.Denial, o.JSON())
		}
	}
	if f := h.Plugin("x").Figures(); f.Calls != 6 || f.Spared != 2 || f.Denials != 4 || f.Errors != 0 {
		t.Errorf("counted %+v", f)
	}
	s := h.Plugin("x").Session()
	defer s.End()
	if _, asked, err := s.Ask(t.Context(), &wasm.Event{Operation: "create_project"}); asked || err != nil {
		t.Errorf("a session asks: %v, %v", asked, err)
	}
}
