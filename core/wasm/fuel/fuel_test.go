package fuel_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/wasm/fuel"
	w "github.com/eiderdb/eider/core/wasm/wasmtest"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

const (
	loop, block, ifOp, end, br, brIf, call, drop = 0x03, 0x02, 0x04, 0x0b, 0x0c, 0x0d, 0x10, 0x1a
	localGet, localSet, add, sub, grow, unreach  = 0x20, 0x21, 0x6a, 0x6b, 0x40, 0x00
	empty                                        = 0x40
)

// run makes the module metered, gives it fuel and calls f. It returns the result,
// what is left, and the error.
func run(t testing.TB, module []byte, tank int64, args ...uint64) (uint64, int64, error) {
	t.Helper()
	m, err := fuel.Rewrite(module, fuel.Limits{MemoryPages: 16, Elements: 1000})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithMemoryLimitPages(16))
	defer r.Close(ctx)
	tap := &tap{left: tank}
	tap.bind(t, r)
	mod, err := r.InstantiateWithConfig(ctx, m.Bytes, wazero.NewModuleConfig().WithStartFunctions())
	if err != nil {
		t.Fatalf("instantiate what was rewritten: %v", err)
	}
	tap.counter = mod.ExportedGlobal(fuel.Counter).(api.MutableGlobal)
	if start := mod.ExportedFunction(fuel.Start); start != nil {
		if _, err := start.Call(ctx); err != nil {
			return 0, tap.all(), err
		}
	}
	got, err := mod.ExportedFunction("f").Call(ctx, args...)
	if err != nil {
		return 0, tap.all(), err
	}
	if len(got) == 0 {
		return 0, tap.all(), nil
	}
	return got[0], tap.all(), nil
}

// tap gives a module its fuel in portions of a hundred.
type tap struct {
	counter api.MutableGlobal
	left    int64
}

func (p *tap) all() int64 { return int64(p.counter.Get()) + p.left }

func (p *tap) bind(t testing.TB, r wazero.Runtime) {
	t.Helper()
	more := func() {
		all := p.all()
		if all < 0 {
			panic("it has no fuel left")
		}
		p.left = max(0, all-100)
		p.counter.Set(uint64(all - p.left))
	}
	_, err := r.NewHostModuleBuilder(fuel.RefillModule).NewFunctionBuilder().WithFunc(more).Export(fuel.RefillName).Instantiate(context.Background())
	if err != nil {
		t.Fatal(err)
	}
}

// one is a module of one function f.
func one(f w.Func) w.Module {
	f.Name = "f"
	return w.Module{Funcs: []w.Func{f}, Memory: w.Pages(1, -1), Tables: []w.Bounds{w.Of(1, -1)}}
}

// countTo adds up from 1 to its argument.
var countTo = one(w.Func{Params: "i", Results: "i", Locals: 1, Code: w.Cat(
	loop, empty,
	localGet, 1, localGet, 0, add, localSet, 1,
	localGet, 0, w.I32(1), sub, 0x22, 0,
	brIf, 0, end, localGet, 1)})

func TestWhatIsComputedStaysTheSame(t *testing.T) {
	got, left, err := run(t, countTo.Bytes(), 1_000_000, 1000)
	if err != nil || got != 500500 {
		t.Fatalf("%d, %v", got, err)
	}
	if used := 1_000_000 - left; used < 1000 || used > 3000 {
		t.Errorf("1000 rounds cost %d", used)
	}
	again, left2, _ := run(t, countTo.Bytes(), 1_000_000, 1000)
	if again != got || left2 != left {
		t.Errorf("the second time it costs %d, the first %d", left2, left)
	}
}

func TestWhatDoesNotEndIsStopped(t *testing.T) {
	zero := 0
	for _, c := range []struct {
		name   string
		module w.Module
	}{
		{"loop", one(w.Func{Code: w.Cat(loop, empty, br, 0, end)})},
		{"loop with a block type of its own", one(w.Func{Results: "i", Code: w.Cat(loop, 0x7f, br, 0, end)})},
		{"loop in a dead branch", one(w.Func{Code: w.Cat(w.I32(0), ifOp, empty, 0x05, loop, empty, br, 0, end, end)})},
		{"recursion without loops", one(w.Func{Code: w.Cat(call, 0)})},
		{"recursion through a table", w.Module{
			Funcs:  []w.Func{{Name: "f", Code: w.Cat(w.I32(0), 0x25, 0, drop, call, 1)}, {Code: w.Cat(call, 0)}},
			Tables: []w.Bounds{w.Of(1, -1)},
		}},
		{"start section", w.Module{Funcs: []w.Func{{Code: w.Cat(loop, empty, br, 0, end)}, {Name: "f"}}, Start: &zero}},
		{"growing memory", one(w.Func{Code: w.Cat(loop, empty, w.I32(1), grow, 0, drop, br, 0, end)})},
		{"filling memory", one(w.Func{Code: w.Cat(loop, empty, w.I32(0), w.I32(0), w.I32(65536), 0xfc, 11, 0, br, 0, end)})},
		{"copying memory", one(w.Func{Code: w.Cat(loop, empty, w.I32(0), w.I32(0), w.I32(65536), 0xfc, 10, 0, 0, br, 0, end)})},
	} {
		_, left, err := run(t, c.module.Bytes(), 1000)
		if err == nil || left >= 0 {
			t.Errorf("%s: %v with %d left", c.name, err, left)
		}
	}
}

// One instruction that works in bulk costs what it works on, and not more than it
// did: asking for more than there may be costs no more than asking.
func TestBulkIsPaidBySize(t *testing.T) {
	drop1 := func(code []byte) []byte { return w.Cat(code, drop) }
	for _, c := range []struct {
		name string
		code []byte
		cost int64 // beyond the entry of the function
	}{
		{"memory.grow", drop1(w.Cat(w.I32(2), grow, 0)), 2048 + 16},
		{"memory.grow that fails", drop1(w.Cat(w.I32(65536), grow, 0)), 16},
		{"memory.grow by nothing", drop1(w.Cat(w.I32(0), grow, 0)), 16},
		{"memory.fill", w.Cat(w.I32(0), w.I32(7), w.I32(64000), 0xfc, 11, 0), 1000 + 2},
		{"memory.copy", w.Cat(w.I32(0), w.I32(64), w.I32(6400), 0xfc, 10, 0, 0), 100 + 2},
		{"table.grow", drop1(w.Cat(0xd0, 0x70, w.I32(500), 0xfc, 15, 0)), 500 + 18},
		{"table.grow past the maximum", drop1(w.Cat(0xd0, 0x70, w.I32(100_000_000), 0xfc, 15, 0)), 18},
		{"table.fill", w.Cat(w.I32(0), 0xd0, 0x70, w.I32(1), 0xfc, 17, 0), 1 + 2},
	} {
		_, left, err := run(t, one(w.Func{Code: c.code}).Bytes(), 1_000_000)
		if err != nil || 1_000_000-left != 1+c.cost {
			t.Errorf("%s cost %d, want %d: %v", c.name, 1_000_000-left-1, c.cost, err)
		}
	}
	_, left, err := run(t, one(w.Func{Code: w.Cat(w.I32(0), w.I32(0), w.I32(-1), 0xfc, 11, 0)}).Bytes(), 1_000_000)
	if err == nil || left >= 0 {
		t.Errorf("4 GiB of memory.fill: %v with %d left", err, left)
	}
}

// What the compiler moves without an instruction is paid for: the values that a loop
// carries, those that come together at the end of a block, and those of calls. What
// few values need costs next to nothing.
func TestMovesArePaidFor(t *testing.T) {
	params := strings.Repeat("i", 200)
	wide := w.Func{Params: params, Results: params, Code: bytes.Repeat([]byte{localGet, 0}, 200)}
	round := func(code []byte, locals int, more ...w.Func) int64 { // what one round of a loop costs
		cost := func(rounds int) int64 {
			last := w.Cat(localGet, w.U(locals+2), w.I32(1), add, 0x22, w.U(locals+2), w.I32(rounds), 0x49, brIf, 0)
			m := one(w.Func{Locals: locals + 3, Code: w.Cat(loop, empty, code, last, end)})
			m.Funcs = append(m.Funcs, more...)
			_, left, err := run(t, m.Bytes(), 1_000_000)
			if err != nil {
				t.Fatal(err)
			}
			return 1_000_000 - left
		}
		return cost(3) - cost(2)
	}
	set := func(n int) (code []byte) {
		for i := range n {
			code = w.Cat(code, w.I32(1), localSet, w.U(2+i))
		}
		return code
	}
	inLoop := func(n int) []byte { return w.Cat(w.I32(0), ifOp, empty, loop, empty, set(n), end, end) }
	values := bytes.Repeat(w.I32(0), 200)
	dropped := bytes.Repeat([]byte{drop}, 200)
	for _, c := range []struct {
		name        string
		cost        int64
		least, most int64
	}{
		{"nothing", round(nil, 0), 1, 3},
		{"a few that a loop carries", round(inLoop(8), 8), 2, 5},
		{"many that a loop carries", round(inLoop(1000), 1000), 250, 300},
		{"many that come together", round(w.Cat(block, empty, w.I32(1), brIf, 0, set(500), end), 500), 180, 220},
		{"many that two blocks bring together", round(w.Cat(block, empty, block, empty, w.I32(1), brIf, 0, set(500), end, end), 500), 240, 290},
		{"a call of many", round(w.Cat(values, call, 1, dropped), 0, wide), 150, 210},
		{"a block of many", round(w.Cat(values, block, w.U(1), end, dropped), 0, wide), 60, 95},
		{"a reference", round(w.Cat(0xd2, 0, drop), 0), 64, 70},
		{"growing by nothing", round(w.Cat(w.I32(0), grow, 0, drop), 0), 16, 22},
		{"16 divisions", round(bytes.Repeat(w.Cat(w.I32(7), w.I32(2), 0x6d, drop), 16), 0), 17, 24},
		{"16 additions", round(bytes.Repeat(w.Cat(w.I32(7), w.I32(2), add, drop), 16), 0), 4, 8},
	} {
		if c.cost < c.least || c.cost > c.most {
			t.Errorf("%s costs %d a round, not %d to %d", c.name, c.cost, c.least, c.most)
		}
	}
}

// What stands behind a branch that is always taken is valid with any operands.
func TestDeadCodeStaysValid(t *testing.T) {
	for _, code := range [][]byte{
		w.Cat(unreach, grow, 0, drop),
		w.Cat(0x0f, 0xfc, 15, 0, drop),
		w.Cat(0x0f, 0xfc, 11, 0),
		w.Cat(block, empty, br, 0, loop, empty, br, 0, end, end),
	} {
		if _, err := fuel.Rewrite(one(w.Func{Code: code}).Bytes(), fuel.Limits{}); err != nil {
			t.Error(err)
		}
		_, _, _ = run(t, one(w.Func{Code: code}).Bytes(), 1000)
	}
}

func TestModulesOverTheLimitsAreRefused(t *testing.T) {
	limits := fuel.Limits{Bytes: 1 << 20, Functions: 100, Globals: 10, Tables: 2, Data: 10, Segments: 10, Elements: 100, MemoryPages: 16}
	many := func(n int) []w.Func { return make([]w.Func, n) }
	nine := 9
	for _, c := range []struct {
		name   string
		module []byte
		want   string // "" is taken
	}{
		{"empty", w.Module{}.Bytes(), ""},
		{"as many as may be", w.Module{Funcs: many(100), Globals: 10, Tables: make([]w.Bounds, 2), Data: 10, Elements: 10}.Bytes(), ""},
		{"functions", w.Module{Funcs: many(101)}.Bytes(), "functions"},
		{"globals", w.Module{Globals: 11}.Bytes(), "globals"},
		{"tables", w.Module{Tables: make([]w.Bounds, 3)}.Bytes(), "tables"},
		{"data", w.Module{Data: 11}.Bytes(), "data segments"},
		{"elements", w.Module{Elements: 11}.Bytes(), "element segments"},
		{"elements of all segments", w.Module{Funcs: many(1), Segment: w.Cat(1, 0, 101, make([]byte, 101))}.Bytes(), "more than 100 elements"},
		{"a table that begins too large", w.Module{Tables: []w.Bounds{w.Of(101, -1)}}.Bytes(), "table of 101"},
		{"a memory that begins too large", w.Module{Memory: w.Pages(17, -1)}.Bytes(), "memory of 17"},
		{"a memory that may become too large", w.Module{Memory: w.Pages(1, 65536)}.Bytes(), ""},
		{"bytes", bytes.Repeat([]byte{0}, 1<<20+1), "bytes"},
		{"nothing", nil, "no WebAssembly"},
		{"another version", []byte{0, 'a', 's', 'm', 2, 0, 0, 0}, "no WebAssembly"},
		{"the counter's name", w.Module{Globals: 1, Exports: []w.Export{w.Named(fuel.Counter, 3, 0)}}.Bytes(), fuel.Counter},
		{"the host's prefix", w.Module{Globals: 1, Exports: []w.Export{w.Named(fuel.Start, 3, 0)}}.Bytes(), fuel.Start},
		{"the counter's index", one(w.Func{Code: w.Cat(0x23, 0, drop)}).Bytes(), "global 0"},
		{"the counter's index, set", one(w.Func{Code: w.Cat(w.I64(math.MaxInt64), 0x24, 0)}).Bytes(), "global 0"},
		{"threads", one(w.Func{Code: w.Cat(0xfe, 3, 0)}).Bytes(), "0xfe"},
		{"a tail call", one(w.Func{Code: w.Cat(0x12, 0)}).Bytes(), "0x12"},
		{"start twice", w.Module{Funcs: many(1), Start: &nine, Tail: w.Cat(8, 1, 0)}.Bytes(), "section 8"},
		{"cut short", countTo.Bytes()[:60], ""},
	} {
		_, err := fuel.Rewrite(c.module, limits)
		switch {
		case c.name == "cut short":
			if !errors.Is(err, fuel.ErrModule) {
				t.Errorf("%s: %v", c.name, err)
			}
		case c.want == "" && err != nil, c.want != "" && (!errors.Is(err, fuel.ErrModule) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// What would keep the compiler busy for long is refused before it begins.
func TestWhatTakesLongToCompileIsRefused(t *testing.T) {
	many := func(n int, code ...any) []byte { return bytes.Repeat(w.Cat(code...), n) }
	around := func(n int) []byte { return many(n, block, empty, w.I32(0), brIf, 0, end) }
	for _, c := range []struct {
		name   string
		locals int
		code   []byte
		want   string
	}{
		{"locals", 4000, nil, ""},
		{"too many locals", 5000, nil, "locals"},
		{"bytes", 0, many(1<<20, 1), "bytes"},
		{"blocks", 0, around(5000), ""},
		{"too many blocks", 0, around(8000), "too long"},
		{"too many loops", 0, many(4000, loop, empty, w.I32(0), brIf, 0, end), "too long"},
		{"filling", 0, many(1000, w.I32(0), w.I32(0), w.I32(0), 0xfc, 11, 0), ""},
		{"too much filling", 0, many(1400, w.I32(0), w.I32(0), w.I32(0), 0xfc, 11, 0), "too long"},
		{"copying", 0, many(3000, w.I32(0), w.I32(0), w.I32(0), 0xfc, 10, 0, 0), ""},
		{"too much copying", 0, many(4200, w.I32(0), w.I32(0), w.I32(0), 0xfc, 10, 0, 0), "too long"},
		{"filling with many locals", 1000, many(30, w.I32(0), w.I32(0), w.I32(0), 0xfc, 11, 0), ""},
		{"filling with too many locals", 1000, many(60, w.I32(0), w.I32(0), w.I32(0), 0xfc, 11, 0), "too long"},
		{"growing", 0, many(1500, w.I32(0), grow, 0, drop), ""},
		{"too much growing", 0, many(2100, w.I32(0), grow, 0, drop), "too long"},
		{"too much growing of tables", 0, many(2100, 0xd0, 0x70, w.I32(0), 0xfc, 15, 0, drop), "too long"},
		{"growing with too many locals", 1000, many(300, w.I32(0), grow, 0, drop), "too long"},
		{"too many branches", 0, many(20_000, w.I32(0), brIf, 0), "too long"},
		{"too many locals at too many blocks", 1000, around(600), "too long"},
		{"too many operands at too many blocks", 0, w.Cat(many(1000, w.I32(0)), around(600), many(1000, drop)), "too long"},
		{"operands that are gone", 0, w.Cat(many(1000, w.I32(0)), many(1000, drop), around(600)), ""},
		{"a table of branches that bring much along", 0, w.Cat(block, 0x7f, w.I32(0), w.I32(0), 0x0e, w.U(500_000), many(500_000, 0), 0, end, drop), "too long"},
	} {
		_, err := fuel.Rewrite(one(w.Func{Locals: c.locals, Code: c.code}).Bytes(), fuel.Limits{})
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, fuel.ErrModule) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// One function with many blocks is taken, and a module of such functions is not.
func TestAModuleOfManyBlocksIsRefused(t *testing.T) {
	nested := w.Cat(bytes.Repeat([]byte{loop, empty}, 1500), bytes.Repeat(w.Cat(w.I32(0), brIf, 0, end), 1500))
	m := one(w.Func{Code: nested})
	if _, err := fuel.Rewrite(m.Bytes(), fuel.Limits{}); err != nil {
		t.Error(err)
	}
	for range 20 {
		m.Funcs = append(m.Funcs, w.Func{Code: nested})
	}
	if _, err := fuel.Rewrite(m.Bytes(), fuel.Limits{}); !errors.Is(err, fuel.ErrModule) || !strings.Contains(err.Error(), "too long") {
		t.Error(err)
	}
}

// Functions are what they were, wherever they are named: the import that is added comes
// before them all.
func TestFunctionsKeepTheirNames(t *testing.T) {
	through := w.Func{Name: "f", Results: "i", Code: w.Cat(w.I32(0), 0x11, 0, 0)} // call_indirect of type 0
	for _, c := range []struct {
		name    string
		segment []byte // of elements
	}{
		{"indexes", w.Cat(0, w.I32(0), end, 1, 1)},
		{"indexes for a table", w.Cat(2, 0, w.I32(0), end, 0, 1, 1)},
		{"expressions", w.Cat(4, w.I32(0), end, 1, 0xd2, 1, end)},
		{"expressions for a table", w.Cat(6, 0, w.I32(0), end, 0x70, 1, 0xd2, 1, end)},
	} {
		m := w.Module{
			Funcs:  []w.Func{through, {Results: "i", Code: w.I32(7)}, {Results: "i", Code: w.I32(8)}},
			Tables: []w.Bounds{w.Of(1, 1)}, Memory: w.Pages(1, -1), Segment: c.segment,
		}
		if got, _, err := run(t, m.Bytes(), 1000); err != nil || got != 7 {
			t.Errorf("%s: %d, %v", c.name, got, err)
		}
	}
}

// FuzzRewrite holds that whatever the interpreter takes is still valid afterwards,
// ends, and computes the same.
func FuzzRewrite(f *testing.F) {
	f.Add(countTo.Bytes())
	f.Add(w.Policy(nil, nil))
	for _, module := range counted() {
		f.Add(module)
	}
	for _, h := range w.Hostile() {
		f.Add(h.Policy(false))
	}
	f.Add(w.Module{
		Funcs:  []w.Func{{Name: "f", Results: "i", Code: w.Cat(w.I32(0), 0x11, 0, 0)}, {Results: "i", Code: w.Cat(0xd2, 0, drop, w.I32(7))}},
		Tables: []w.Bounds{w.Of(1, 1)}, Segment: w.Cat(4, w.I32(0), end, 1, 0xd2, 1, end),
	}.Bytes())
	f.Add(one(w.Func{Code: w.Cat(w.I32(2), grow, 0, drop, loop, empty, br, 0, end)}).Bytes())
	zero := 0
	f.Add(w.Module{Funcs: []w.Func{{Name: "f"}}, Start: &zero, Tables: []w.Bounds{w.Of(0, 1)}, Globals: 2, Data: 1, Elements: 1}.Bytes())
	f.Fuzz(func(t *testing.T, module []byte) {
		m, allocated, err := validate(module, fuel.Limits{Bytes: 1 << 16, MemoryPages: 4, Elements: 100})
		if allocated > mostAllocated {
			t.Fatalf("%d bytes allocated for %d", allocated, len(module))
		}
		if err != nil {
			return // it is refused, or the host refuses it
		}
		ctx := context.Background()
		r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithMemoryLimitPages(4))
		defer r.Close(ctx)
		compiled, err := r.CompileModule(ctx, m.Bytes)
		if err != nil {
			t.Fatalf("it was valid, and is not any more: %v", err)
		}
		tap := &tap{}
		tap.bind(t, r)
		mod, err := r.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithStartFunctions())
		if err != nil {
			return // it imports something
		}
		tap.counter = mod.ExportedGlobal(fuel.Counter).(api.MutableGlobal)
		var names []string
		for _, d := range compiled.ExportedFunctions() {
			if len(d.ParamTypes()) > 0 {
				continue
			}
			for _, name := range d.ExportNames() {
				if name != fuel.Start {
					names = append(names, name)
				}
			}
		}
		slices.Sort(names)
		if m.HasStart {
			names = append([]string{fuel.Start}, names...)
		}
		var got [][]uint64
		for _, name := range names {
			tap.counter.Set(0)
			tap.left = 10_000
			results, err := mod.ExportedFunction(name).Call(ctx) // it ends
			if err != nil {
				break
			}
			got = append(got, results)
		}
		// As far as it has come the original comes, too.
		if m.HasStart && len(got) == 0 {
			return // it may start for ever
		}
		original, err := r.InstantiateWithConfig(ctx, m.Original, wazero.NewModuleConfig().WithName("original").WithStartFunctions())
		if err != nil {
			return
		}
		for i, results := range got {
			if names[i] == fuel.Start {
				continue
			}
			if want, err := original.ExportedFunction(names[i]).Call(ctx); err != nil || !slices.Equal(want, results) {
				t.Fatalf("%s is %v, and was %v, %v", names[i], results, want, err)
			}
		}
	})
}
