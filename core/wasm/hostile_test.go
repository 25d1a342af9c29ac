package wasm_test

import (
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/wasm"
	w "github.com/eiderdb/eider/core/wasm/wasmtest"
)

// orTrap is code that traps unless the i32 on the stack is the one wanted.
func orTrap(want int) []byte { return w.Cat(w.I32(want), 0x47, 0x04, empty, 0x00, end) }

// What a guest asks for and cannot have is told to it, and it goes on.
func TestGuestsAreToldWhatTheyCannotHave(t *testing.T) {
	imported := func(name, params, results string) func(*w.Module) {
		return func(m *w.Module) {
			m.Imports = []w.Import{{Module: "eider", Name: name, Params: params, Results: results}}
		}
	}
	again := func(code []byte, times int) (all []byte) {
		for range times {
			all = w.Cat(all, code, orTrap(0))
		}
		return all
	}
	set := w.Cat(w.I32(0), w.I32(3), w.I32(0), w.I32(1), w.I64(0), call, 0)
	for _, c := range []struct {
		name   string
		decide []byte
		change func(*w.Module)
		once   bool
	}{
		{"memory past its limit", w.Cat(w.I32(65000), 0x40, 0, orTrap(-1), w.I32(254), 0x40, 0, orTrap(2), w.I32(1), 0x40, 0, orTrap(-1)), nil, true},
		{"a table past its limit", w.Cat(0xd0, 0x70, w.I32(70_000), 0xfc, 15, 0, orTrap(-1), 0xd0, 0x70, w.I32(65_535), 0xfc, 15, 0, orTrap(1)),
			func(m *w.Module) { m.Tables = []w.Bounds{w.Of(1, -1)} }, true},
		{"a line that is no UTF-8", w.Cat(w.I32(0), w.I32(0xff), 0x3a, 0, 0, w.I32(1), w.I32(0), w.I32(1), call, 0, orTrap(-3)), imported("log", "iii", "i"), false},
		{"a key of nothing", w.Cat(w.I32(0), w.I32(0), w.I32(0), w.I32(0), call, 0, orTrap(-3)), imported("kv_get", "iiii", "i"), false},
		{"a key that is too long", w.Cat(w.I32(0), w.I32(257), w.I32(0), w.I32(0), call, 0, orTrap(-3)), imported("kv_get", "iiii", "i"), false},
		{"a value that is too long", w.Cat(w.I32(0), w.I32(3), w.I32(0), w.I32(65537), w.I64(0), call, 0, orTrap(-3)), imported("kv_set", "iiiil", "i"), false},
		{"a time to live below zero", w.Cat(w.I32(0), w.I32(3), w.I32(0), w.I32(1), w.I64(-1), call, 0, orTrap(-3)), imported("kv_set", "iiiil", "i"), false},
		{"the 65th call of kv", w.Cat(again(set, 64), set, orTrap(-4)), imported("kv_set", "iiiil", "i"), false},
		{"a capability that is not granted", w.Cat(w.I32(0), w.I32(3), w.I32(0), w.I32(0), call, 0, orTrap(-2)), imported("http_request", "iiii", "i"), false},
	} {
		h, chain := host(t, wasm.Item{Name: "x", Path: w.Folder(t, w.Policy(c.decide, c.change), w.Manifest), Guests: 1, Capabilities: []string{"log", "kv"}})
		if err := h.Plugin("x").Refused(); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if c.once { // in its self-test
			continue
		}
		if o := chain.Ask(t.Context(), question()); o.Denial != nil {
			t.Errorf("%s: %v", c.name, o.Denial)
		}
	}
}

// A guest with fuel for ever still cannot go deeper than its stack, and takes
// nothing with it.
func TestAStackThatOverflowsIsTheGuestsAlone(t *testing.T) {
	deep := w.Policy(w.Later(w.Cat(w.I32(0), w.I32(0), call, 3, drop)), nil)
	h, chain := host(t, wasm.Item{Name: "x", Path: w.Folder(t, deep, w.Manifest), Guests: 1, Fuel: 1 << 39})
	for round := range 4 { // the first guest has been asked once, by its self-test
		o := chain.Ask(t.Context(), question())
		if bad := round%2 == 0; bad != (o.Denial != nil) || bad && !strings.HasSuffix(o.Denial.Reason, "its calls go too deep") {
			t.Errorf("call %d: %v", round, o.Denial)
		}
	}
	if f := h.Plugin("x").Figures(); f.Errors != 2 {
		t.Errorf("%+v", f)
	}
}

// keeping returns code that loads so many values into locals from the second on, and code
// that uses them: what a function has to keep while it calls another between the two.
func keeping(values int) (load, store []byte) {
	for i := range values {
		load = w.Cat(load, w.I32(4*i), 0x28, 2, 0, localSet, w.U(1+i))
		store = w.Cat(store, w.I32(64), 0x20, w.U(1+i), 0x36, 2, 0)
	}
	return load, store
}

// However much fuel a call has, and however wide its functions are, what its stack
// takes, with all that it was copied from, stays within what it may have of memory.
func TestAStackStaysWithinTheMemory(t *testing.T) {
	const values = 250
	load, store := keeping(values)
	for name, f := range map[string]w.Func{
		"narrow": {Code: w.Cat(call, 4)},
		"wide":   {Locals: 1 + values, Code: w.Cat(load, call, 4, store)},
	} {
		module := w.Policy(w.Later(w.Cat(call, 4)), func(m *w.Module) { m.Funcs = append(m.Funcs, f) })
		_, chain := host(t, wasm.Item{Name: "x", Path: w.Folder(t, module, w.Manifest), Guests: 1, Fuel: 1 << 31})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		o := chain.Ask(t.Context(), question())
		runtime.ReadMemStats(&after)
		if o.Denial == nil || !strings.HasSuffix(o.Denial.Reason, "its calls go too deep") {
			t.Errorf("%s: %v", name, o.Denial)
		}
		if more := after.TotalAlloc - before.TotalAlloc; more > 16<<20 {
			t.Errorf("%s: %d bytes are allocated", name, more)
		}
	}
}

// The stack of a guest that calls itself deeply, with much to keep at each level, is
// not kept after the call.
func TestADeepStackIsNotKept(t *testing.T) {
	const values = 1000
	load, store := keeping(values)
	module := w.Policy(w.Cat(w.I32(200), call, 4), func(m *w.Module) {
		code := w.Cat(0x20, 0, 0x04, empty, load, 0x20, 0, w.I32(1), 0x6b, call, 4, store, end)
		m.Funcs = append(m.Funcs, w.Func{Params: "i", Locals: values, Code: code})
	})
	_, chain := host(t, wasm.Item{Name: "x", Path: w.Folder(t, module, w.Manifest), Guests: 4})
	held := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := held()
	for range 8 { // each of them in turn
		if o := chain.Ask(t.Context(), question()); o.Denial != nil {
			t.Fatal(o.Denial)
		}
	}
	if more := held() - before; more > 4<<20 {
		t.Errorf("%d bytes are kept", more)
	}
}

// A flood of one plugin fills its own space of kv alone.
func TestAKVFloodFillsItsOwnSpaceAlone(t *testing.T) {
	key := w.Cat(w.I32(0), w.I32(0), 0x28, 2, 0, w.I32(1), 0x6a, 0x36, 2, 0) // another key each time
	one := w.Cat(key, w.I32(0), w.I32(4), w.I32(0), w.I32(60000), w.I64(0), call, 0, drop)
	var flood []byte
	for range 64 {
		flood = w.Cat(flood, one)
	}
	m := func(m *w.Module) {
		m.Imports = []w.Import{{Module: "eider", Name: "kv_set", Params: "iiiil", Results: "i"}}
	}
	counts := w.Guest(t, w.Manifest)
	_, chain := host(t, wasm.Item{Name: "flood", Path: w.Folder(t, w.Policy(flood, m), w.Manifest), Guests: 1, Capabilities: []string{"kv"}, Fuel: 1 << 30},
		wasm.Item{Name: "counts", Path: counts, Guests: 1, Capabilities: []string{"kv"}, Config: map[string]any{"do": "count", "limit": "20"}})
	for n := range 21 { // 20 times 64 values of 60 kB are more than the space holds
		o := chain.Ask(t.Context(), question())
		if denied := n == 20; denied != (o.Denial != nil) || denied && o.Denial.Reason != "21 of 20" {
			t.Fatalf("call %d: %v", n, o.Denial)
		}
	}
}

// Of a module of which a part is missing, or bytes were changed, nothing comes but a
// refusal, or a plugin that is asked like any other.
func TestTruncatedAndChangedModulesHarmNobody(t *testing.T) {
	module := w.Policy(nil, func(m *w.Module) {
		m.Tables, m.Globals, m.Data, m.Elements = []w.Bounds{w.Of(1, 2)}, 1, 1, 1
	})
	const manifest = w.Manifest + "limits: {fuel: 10000, start_fuel: 100000, memory: 1MiB}\n"
	dir := w.Folder(t, module, manifest)
	h, chain := hostWith(t, func(o *wasm.Options) { o.Cache = t.TempDir() }, wasm.Item{Name: "x", Path: dir, Guests: 1})
	p := h.Plugin("x")
	for n := 0; n < len(module); n += 1 + n/40 {
		w.Put(t, dir, module[:n], manifest)
		if err := p.Reload(t.Context()); err == nil {
			t.Errorf("%d bytes of %d are a plugin", n, len(module))
		}
	}
	random := rand.New(rand.NewPCG(5, 6))
	loaded := 0
	for range 150 {
		changed := append([]byte(nil), module...)
		for range 1 + random.IntN(3) {
			changed[8+random.IntN(len(changed)-8)] = byte(random.Uint32())
		}
		w.Put(t, dir, changed, manifest)
		if p.Reload(t.Context()) == nil {
			loaded++
		}
		chain.Ask(t.Context(), question())
	}
	w.Put(t, dir, module, manifest)
	if err := p.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if o := chain.Ask(t.Context(), question()); o.Denial != nil {
		t.Errorf("after them: %v", o.Denial)
	}
	t.Logf("%d of 150 were loaded", loaded)
}

// As many of everything as may be are taken, and one more is refused.
func TestModulesOfManyParts(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*w.Module)
		want   string
	}{
		{"globals", func(m *w.Module) { m.Globals = 9_999 }, ""},
		{"globals", func(m *w.Module) { m.Globals = 10_001 }, "globals"},
		{"functions", func(m *w.Module) { m.Funcs = append(m.Funcs, make([]w.Func, 5_000)...) }, ""},
		{"functions", func(m *w.Module) { m.Funcs = append(m.Funcs, make([]w.Func, 100_001)...) }, "functions"},
		{"tables", func(m *w.Module) {
			for range 64 {
				m.Tables = append(m.Tables, w.Of(0, -1))
			}
		}, ""},
		{"tables", func(m *w.Module) { m.Tables = make([]w.Bounds, 65) }, "tables"},
		{"a large table", func(m *w.Module) { m.Tables = []w.Bounds{w.Of(1<<31, -1)} }, "table of"},
		{"data segments", func(m *w.Module) { m.Data = 50_000 }, ""},
		{"data segments", func(m *w.Module) { m.Data = 50_001 }, "data segments"},
		{"element segments", func(m *w.Module) { m.Elements = 10_000 }, ""},
		{"element segments", func(m *w.Module) { m.Elements = 10_001 }, "element segments"},
		{"memory", func(m *w.Module) { m.Memory = w.Pages(65536, -1) }, "memory of"},
		// Four billions are said to be there, and are not.
		{"locals", func(m *w.Module) { m.Funcs[3].Locals = 4_294_967_295 }, "locals"},
		{"names", func(m *w.Module) { m.Tail = w.Cat(0, 13, 4, "name", 1, 6, w.U(4_294_967_295), 0) }, ""},
		{"data", func(m *w.Module) { m.Tail = w.Cat(11, 8, 1, 1, w.U(4_294_967_295), 0) }, "it ends too early"},
	} {
		h, chain := host(t, wasm.Item{Name: "x", Path: w.Folder(t, w.Policy(nil, c.change), w.Manifest), Guests: 1})
		err := h.Plugin("x").Refused()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if o := chain.Ask(t.Context(), &policy.Question{}); (o.Denial == nil) != (err == nil) {
			t.Errorf("%s: %v", c.name, o.Denial)
		}
	}
}

// A manifest does not set its own limits: what is more than a plugin may ask for is
// given by the operator, or by nobody.
func TestAManifestDoesNotSetItsOwnLimits(t *testing.T) {
	zero := 4
	spins := w.Policy(nil, func(m *w.Module) {
		m.Funcs, m.Start = append(m.Funcs, w.Func{Code: w.Cat(loop, empty, br, 0, end)}), &zero
	})
	for _, c := range []struct {
		limits string
		item   wasm.Item
		module []byte
		want   string
	}{
		{"start_fuel: 1099511627776", wasm.Item{}, spins, "asks for start_fuel"},
		{"start_fuel: 1099511627776", wasm.Item{StartFuel: 10_000_000}, spins, "out of fuel"},
		{"fuel: 1099511627776", wasm.Item{}, w.Policy(nil, nil), "asks for fuel"},
		{"fuel: 1099511627776", wasm.Item{Fuel: 1 << 39}, w.Policy(nil, nil), ""},
		{"memory: 128MiB", wasm.Item{}, w.Policy(nil, nil), "asks for memory"},
		{"memory: 128MiB", wasm.Item{Memory: 128 << 20}, w.Policy(nil, nil), ""},
		{"fuel: 100000000, start_fuel: 200000000, memory: 64MiB", wasm.Item{}, w.Policy(nil, nil), ""},
	} {
		c.item.Name, c.item.Guests, c.item.Path = "x", 1, w.Folder(t, c.module, w.Manifest+"limits: {"+c.limits+"}\n")
		h, _ := host(t, c.item)
		err := h.Plugin("x").Refused()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, %d: %v, want %q", c.limits, c.item.StartFuel, err, c.want)
		}
	}
}

// A guest whose memory grows from call to call is replaced before it has none left: no
// call is denied for it. One that took all it may have at the start stays.
func TestAGuestThatIsUsedUpIsReplacedInTime(t *testing.T) {
	grow := func(pages int) []byte { return w.Cat(w.I32(pages), 0x40, 0, w.I32(-1), 0x46, 0x04, empty, 0x00, end) }
	leaks := w.Policy(grow(16), nil) // 1 MiB a call, of 16
	large := w.Policy(nil, func(m *w.Module) { m.Memory = w.Pages(256, 256) })
	h, chain := host(t, wasm.Item{Name: "leaks", Path: w.Folder(t, leaks, w.Manifest), Guests: 1},
		wasm.Item{Name: "large", Path: w.Folder(t, large, w.Manifest), Guests: 1})
	for n := range 100 {
		if o := chain.Ask(t.Context(), question()); o.Denial != nil {
			t.Fatalf("call %d: %v", n, o.Denial)
		}
	}
	if f := h.Plugin("leaks").Figures(); f.Errors != 0 || f.Replaced < 5 || f.Replaced > 20 {
		t.Errorf("the one that grows: %+v", f)
	}
	if f := h.Plugin("large").Figures(); f.Replaced != 0 {
		t.Errorf("the one that was large: %+v", f)
	}
}

// A guest that wants to rest does so between two calls, each 1024 of them, with the fuel
// of a start and out of the way of its calls. One that fails there is replaced.
func TestAGuestRestsBetweenCalls(t *testing.T) {
	resting := func(code []byte) []byte {
		return w.Policy(nil, func(m *w.Module) { m.Funcs = append(m.Funcs, w.Func{Code: code, Name: "eider_rest"}) })
	}
	spins := w.Cat(loop, empty, br, 0, end)
	// Some 2,000 rounds: more than a call may spend here, and less than a start may.
	long := w.Cat(loop, empty, w.I32(512), w.I32(512), 0x28, 2, 0, w.I32(1), 0x6a, 0x36, 2, 0, w.I32(512), 0x28, 2, 0, w.I32(2000), 0x49, 0x0d, 0, end)
	const manifest = w.Manifest + "limits: {fuel: 1000, start_fuel: 100000, memory: 1MiB}\n"
	for _, c := range []struct {
		name     string
		rest     []byte
		replaced int64
	}{{"collects", long, 0}, {"spins", spins, 2}, {"traps", w.Cat(0x00), 2}} {
		h, chain := host(t, wasm.Item{Name: "x", Path: w.Folder(t, resting(c.rest), manifest), Guests: 1})
		if err := h.Plugin("x").Refused(); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for n := range 2500 {
			if o := chain.Ask(t.Context(), question()); o.Denial != nil {
				t.Fatalf("%s, call %d: %v", c.name, n, o.Denial)
			}
		}
		if f := h.Plugin("x").Figures(); f.Errors != 0 || f.Replaced != c.replaced {
			t.Errorf("%s: %+v", c.name, f)
		}
	}
	wrong := w.Policy(nil, func(m *w.Module) {
		m.Funcs = append(m.Funcs, w.Func{Params: "i", Code: nil, Name: "eider_rest"})
	})
	h, _ := host(t, wasm.Item{Name: "x", Path: w.Folder(t, wrong, manifest), Guests: 1})
	if err := h.Plugin("x").Refused(); err == nil || !strings.Contains(err.Error(), "eider_rest has another type") {
		t.Errorf("with a parameter: %v", err)
	}
}
