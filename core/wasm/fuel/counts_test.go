package fuel_test

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"github.com/eiderdb/eider/core/wasm/fuel"
	w "github.com/eiderdb/eider/core/wasm/wasmtest"
	"github.com/tetratelabs/wazero"
)

// mostAllocated is what a module of some kilobytes may cost until it is known whether it
// is one: what it says that it holds may not.
const mostAllocated = 256 << 20

// validate rewrites a module, and has the host look at the original as it does. It
// reports how much was allocated meanwhile.
func validate(module []byte, limits fuel.Limits) (m fuel.Module, allocated uint64, err error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if m, err = fuel.Rewrite(module, limits); err == nil {
		ctx := context.Background()
		r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithMemoryLimitPages(16))
		_, err = r.CompileModule(ctx, m.Original)
		_ = r.Close(ctx)
	}
	runtime.ReadMemStats(&after)
	return m, after.TotalAlloc - before.TotalAlloc, err
}

// section is one as it is encoded.
func section(id int, content ...any) []byte {
	b := w.Cat(content...)
	return w.Cat(id, w.U(len(b)), b)
}

// counted are modules that say to hold much more than they do, wherever a number of
// things, or a length, stands in one.
func counted() map[string][]byte {
	many := w.U(4_294_967_295)
	module := func(sections ...any) []byte { return w.Cat("\x00asm\x01\x00\x00\x00", w.Cat(sections...)) }
	typed := section(1, 1, 0x60, 0, 0)
	function := w.Cat(typed, section(3, 1, 0))
	body := func(code ...any) []byte {
		b := w.Cat(code...)
		return module(function, section(5, 1, 0, 1), section(10, 1, w.U(len(b)), b))
	}
	valid := body(0, 0x0b)
	named := func(content ...any) []byte { return w.Cat(valid, section(0, 4, "name", w.Cat(content...))) }
	none := w.Cat(w.I32(0), 0x0b)
	return map[string][]byte{
		"a section":                        module(1, many),
		"a custom section":                 w.Cat(valid, 0, many),
		"a custom section's name":          w.Cat(valid, section(0, many, "x")),
		"a module's name":                  named(section(0, many, "x")),
		"names of functions":               named(section(1, many, 0, 0)),
		"a function's name":                named(section(1, 1, 0, many)),
		"names of locals":                  named(section(2, many, 0, 0)),
		"names of the locals of one":       named(section(2, 1, 0, many)),
		"a local's name":                   named(section(2, 1, 0, 1, 0, many)),
		"another subsection":               named(3, many, 0),
		"types":                            module(section(1, many, 0x60, 0, 0)),
		"parameters":                       module(section(1, 1, 0x60, many, 0x7f)),
		"results":                          module(section(1, 1, 0x60, 0, many, 0x7f)),
		"results behind a reference":       module(section(1, 1, 0x60, 1, 0x63, 0x70, many, make([]byte, 0x70))),
		"a group of types":                 module(section(1, 1, 0x4e, many, 0x60, 0, 0)),
		"imports":                          module(typed, section(2, many, 1, "a", 1, "b", 0, 0)),
		"an import's module":               module(typed, section(2, 1, many, "a")),
		"an import's name":                 module(typed, section(2, 1, 1, "a", many, "b")),
		"functions":                        module(typed, section(3, many, 0)),
		"tables":                           module(section(4, many, 0x70, 0, 1)),
		"a table":                          module(section(4, 1, 0x70, 0, many)),
		"memories":                         module(section(5, many, 0, 1)),
		"a memory":                         module(section(5, 1, 0, many)),
		"tags":                             module(typed, section(13, many, 0, 0)),
		"globals":                          module(section(6, many, 0x7f, 0, none)),
		"exports":                          module(section(7, many, 0)),
		"an export's name":                 module(section(7, 1, many, "x")),
		"element segments":                 module(section(9, many, 1, 0, 0)),
		"elements":                         module(section(4, 1, 0x70, 0, 1), section(9, 1, 0, none, many, 0)),
		"passive elements":                 module(section(9, 1, 1, 0, many, 0)),
		"elements for a table":             module(section(4, 1, 0x70, 0, 1), section(9, 1, 2, 0, none, 0, many, 0)),
		"declared elements":                module(section(9, 1, 3, 0, many, 0)),
		"expressions":                      module(section(4, 1, 0x70, 0, 1), section(9, 1, 4, none, many, 0xd0, 0x70, 0x0b)),
		"passive expressions":              module(section(9, 1, 5, 0x70, many, 0xd0, 0x70, 0x0b)),
		"expressions behind a reference":   module(section(9, 1, 5, 0x63, 0x70, many, 0xd0, 0x70, 0x0b)),
		"data segments":                    module(section(5, 1, 0, 1), section(11, many, 1, 0)),
		"data segments that are announced": module(section(5, 1, 0, 1), section(12, many)),
		"data":                             module(section(5, 1, 0, 1), section(11, 1, 0, none, many, "x")),
		"passive data":                     module(section(5, 1, 0, 1), section(11, 1, 1, many, "x")),
		"data for a memory":                module(section(5, 1, 0, 1), section(11, 1, 2, 0, none, many, "x")),
		"bodies":                           module(function, section(10, many, 2, 0, 0x0b)),
		"a body":                           module(function, section(10, 1, many, 0, 0x0b)),
		"groups of locals":                 body(many, 1, 0x7f, 0x0b),
		"locals":                           body(1, many, 0x7f, 0x0b),
		"locals in two groups":             body(2, 1, 0x7f, many, 0x7f, 0x0b),
		"locals behind a reference":        body(2, 1, 0x63, 0x70, many, 0x7f, 0x0b),
		"labels":                           body(0, w.I32(0), 0x0e, many, 0, 0x0b),
		"types of a selection":             body(0, w.I32(0), w.I32(0), w.I32(0), 0x1c, many, 0x7f, 0x1a, 0x0b),
	}
}

// A module may say that it holds four billions of anything: what is not there is given
// no room, by the rewriter or by the host.
func TestWhatAModuleSaysToHoldIsGivenNoRoom(t *testing.T) {
	taken := map[string]bool{}
	for name, module := range counted() {
		_, allocated, err := validate(module, fuel.Limits{})
		if allocated > mostAllocated {
			t.Errorf("%s: %d bytes allocated for a module of %d", name, allocated, len(module))
		}
		if err == nil {
			taken[name] = true
		}
	}
	for _, name := range []string{"names of functions", "names of locals", "names of the locals of one", "a module's name", "a function's name", "a local's name", "another subsection"} {
		if !taken[name] {
			t.Errorf("%s: what custom sections hold is no reason to refuse a module", name)
		}
		delete(taken, name)
	}
	if len(taken) > 0 {
		t.Errorf("taken: %v", taken)
	}
}

// Instructions that the host reads otherwise than the rewriter could hide a loop from it:
// they are refused.
func TestWhatTheHostReadsOtherwiseIsRefused(t *testing.T) {
	vector := w.Cat(0xfd, 12, make([]byte, 16))
	for name, code := range map[string][]byte{
		"an instruction of vectors, longer than it must be": w.Cat(vector, 0xfd, 0x81, 0, 0, 0, drop),
		"a block of a reference":                            w.Cat(block, 0x63, 0x70, 0xd0, 0x70, end, drop),
		"a loop of a reference to a type":                   w.Cat(loop, 0x63, 0x03, 0xd0, 0x70, end, drop),
		"a selection of a reference":                        w.Cat(0xd0, 0x70, 0xd0, 0x70, w.I32(0), 0x1c, 1, 0x63, 0x03, drop),
		"a selection of two types":                          w.Cat(w.I32(0), w.I32(0), w.I32(0), 0x1c, 2, 0x7f, 0x7f, drop),
		"a null of a type":                                  w.Cat(0xd0, 0x83, 0x03, drop),
	} {
		if _, err := fuel.Rewrite(one(w.Func{Code: code}).Bytes(), fuel.Limits{}); !errors.Is(err, fuel.ErrModule) {
			t.Errorf("%s: %v", name, err)
		}
	}
	taken := w.Cat(vector, 0xfd, 0x81, 1, drop, block, 0x70, 0xd0, 0x70, end, drop, w.I32(0), w.I32(0), w.I32(0), 0x1c, 1, 0x7f, drop)
	if _, _, err := validate(one(w.Func{Code: taken}).Bytes(), fuel.Limits{}); err != nil {
		t.Error(err)
	}
}

// Types are counted, and their values: each costs the host many bytes.
func TestManyTypesAreRefused(t *testing.T) {
	types := func(n int, one ...any) []byte {
		b := w.Cat(one...)
		all := make([]byte, 0, n*len(b))
		for range n {
			all = append(all, b...)
		}
		return w.Cat("\x00asm\x01\x00\x00\x00", section(1, w.U(n), all))
	}
	wide := func(n int) []byte {
		values := make([]byte, n)
		for i := range values {
			values[i] = 0x7f
		}
		return w.Cat(0x60, w.U(n), values, 0)
	}
	for _, c := range []struct {
		name   string
		module []byte
		taken  bool
	}{
		{"10,000 types", types(10_000, 0x60, 0, 0), true},
		{"10,001 types", types(10_001, 0x60, 0, 0), false},
		{"1,000 parameters", types(1, wide(1000)), true},
		{"1,001 parameters", types(1, wide(1001)), false},
		{"200 types of 1,000 parameters", types(200, wide(1000)), true},
		{"201 types of 1,000 parameters", types(201, wide(1000)), false},
	} {
		if _, err := fuel.Rewrite(c.module, fuel.Limits{}); (err == nil) != c.taken || err != nil && !errors.Is(err, fuel.ErrModule) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
