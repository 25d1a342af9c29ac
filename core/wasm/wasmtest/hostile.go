package wasmtest

import (
	"bytes"
	"strings"
)

// HostileGuest is a policy that does its worst when it is asked.
type HostileGuest struct {
	Name   string
	Decide []byte
	Change func(*Module)
	Want   string // in the reason why nothing could be decided
}

// Policy returns its module. late is one that proves itself first, see Later.
func (h HostileGuest) Policy(late bool) []byte {
	if late {
		return Policy(Later(h.Decide), h.Change)
	}
	return Policy(h.Decide, h.Change)
}

const (
	loop, br, end, call, drop = 0x03, 0x0c, 0x0b, 0x10, 0x1a
	empty                     = 0x40
)

// Hostile returns guests that spin, recurse, grow, flood, trap, leave, point outside of
// their memory and answer what is no answer.
func Hostile() []HostileGuest {
	answer := func(ptr, n int64) []byte { return Cat(I64(ptr<<32|n), 0x0f) }
	imports := func(module, name, params, results string) func(*Module) {
		return func(m *Module) {
			m.Imports = []Import{{Module: module, Name: name, Params: params, Results: results}}
		}
	}
	locals := func(n int) func(*Module) {
		return func(m *Module) { m.Funcs[3].Locals += n }
	}
	invalid := func(m *Module) {} // the code writes what is answered
	return []HostileGuest{
		{"endless memory.copy", Cat(loop, empty, I32(0), I32(8), I32(65536), 0xfc, 10, 0, 0, br, 0, end), nil, "ran out of fuel"},
		{"4 GiB of memory.fill", Cat(I32(0), I32(0), I32(-1), 0xfc, 11, 0), nil, "ran out of fuel"},
		{"endless table.fill", Cat(loop, empty, I32(0), 0xd0, 0x70, I32(1000), 0xfc, 17, 0, br, 0, end),
			func(m *Module) { m.Tables = []Bounds{Of(1000, -1)} }, "ran out of fuel"},
		{"table.copy outside", Cat(I32(0), I32(0), I32(1001), 0xfc, 14, 0, 0),
			func(m *Module) { m.Tables = []Bounds{Of(1000, -1)} }, "it failed"},
		{"data outside", Cat(I32(0), I32(0), I32(1), 0xfc, 8, 0, 0), func(m *Module) { m.Data = 1 }, "it failed"},
		{"call of an empty table", Cat(I32(0), 0x11, 0, 0, drop), func(m *Module) { m.Tables = []Bounds{Of(1, -1)} }, "it failed"},
		{"log of 4 GiB", Cat(I32(1), I32(0), I32(-1), call, 0, drop), imports("eider", "log", "iii", "i"), "it failed"},
		{"a key of 4 GiB", Cat(I32(0), I32(-1), I32(0), I32(0), call, 0, drop), imports("eider", "kv_get", "iiii", "i"), "it failed"},
		{"a value of 4 GiB", Cat(I32(0), I32(3), I32(0), I32(-1), I64(0), call, 0, drop), imports("eider", "kv_set", "iiiil", "i"), "it failed"},
		{"a sum outside its memory", Cat(I32(0), I32(3), I64(1), I64(0), I32(-4), call, 0, drop), imports("eider", "kv_add", "iilli", "i"), "it failed"},
		{"kv flood", Cat(loop, empty, I32(0), I32(3), I32(0), I32(60000), I64(0), call, 0, drop, br, 0, end),
			imports("eider", "kv_set", "iiiil", "i"), "ran out of fuel"},
		{"stdout flood", Cat(I32(0), I32(0), 0x36, 2, 0, I32(4), I32(65536), 0x36, 2, 0,
			loop, empty, I32(1), I32(0), I32(1), I32(16), call, 0, drop, br, 0, end), imports("wasi_snapshot_preview1", "fd_write", "iiii", "i"), "ran out of fuel"},
		{"stdout from outside its memory", Cat(I32(0), I32(-16), 0x36, 2, 0, I32(4), I32(100), 0x36, 2, 0,
			I32(1), I32(0), I32(1), I32(16), call, 0, drop), imports("wasi_snapshot_preview1", "fd_write", "iiii", "i"), "it failed"},
		{"random bytes of 4 GiB", Cat(I32(0), I32(-1), call, 0, drop), imports("wasi_snapshot_preview1", "random_get", "ii", "i"), "it failed"},
		{"clock flood", Cat(loop, empty, I32(0), I64(0), I32(0), call, 0, drop, br, 0, end),
			imports("wasi_snapshot_preview1", "clock_time_get", "ili", "i"), "ran out of fuel"},
		{"endless loop", Cat(loop, empty, br, 0, end), nil, "ran out of fuel"},
		{"recursion", Cat(I32(0), I32(0), call, 3, drop), nil, "go too deep"},
		{"endless memory.grow", Cat(loop, empty, I32(1), 0x40, 0, drop, br, 0, end), nil, "ran out of fuel"},
		{"endless memory.fill", Cat(loop, empty, I32(0), I32(0), I32(65536), 0xfc, 11, 0, br, 0, end), nil, "ran out of fuel"},
		{"endless table.grow", Cat(loop, empty, 0xd0, 0x70, I32(1000), 0xfc, 15, 0, drop, br, 0, end),
			func(m *Module) { m.Tables = []Bounds{Of(0, -1)} }, "ran out of fuel"},
		{"a loop that carries 1,000 values", Carry(1000), locals(1000), "ran out of fuel"},
		{"200 places where 40 values come together", Ladder(40, 200), locals(40), "ran out of fuel"},
		{"calls with 900 values", Cat(loop, empty, many(900, I32(0)), many(100, Cat(call, 4)), many(900, Cat(drop)), br, 0, end), func(m *Module) {
			m.Funcs = append(m.Funcs, Func{Params: strings.Repeat("i", 900), Results: strings.Repeat("i", 900), Code: many(900, Cat(0x20, 0))})
		}, "ran out of fuel"},
		{"blocks with 900 values", Cat(loop, empty, many(900, I32(0)), many(100, Cat(0x02, U(4), I32(0), 0x0d, 0, end)), many(900, Cat(drop)), br, 0, end), func(m *Module) {
			m.Funcs = append(m.Funcs, Func{Params: strings.Repeat("i", 900), Results: strings.Repeat("i", 900), Code: many(900, Cat(0x20, 0))})
		}, "ran out of fuel"},
		{"endless references", Cat(loop, empty, many(100, Cat(0xd2, 0, drop)), br, 0, end), nil, "ran out of fuel"},
		{"endless growing by nothing", Cat(loop, empty, many(100, Cat(I32(0), 0x40, 0, drop)), br, 0, end), nil, "ran out of fuel"},
		{"endless filling of little", Cat(loop, empty, many(100, Cat(I32(8), I32(0), I32(63), 0xfc, 11, 0)), br, 0, end), nil, "ran out of fuel"},
		{"trap", Cat(0x00), nil, "it failed"},
		{"division by zero", Cat(I32(1), I32(0), 0x6d, drop), nil, "it failed"},
		{"read outside", Cat(I32(-8), 0x28, 2, 0, drop), nil, "it failed"},
		{"exit", Cat(I32(0), call, 0), imports("wasi_snapshot_preview1", "proc_exit", "i", ""), "it ended by itself"},
		{"abort", Cat(I32(0), I32(0), I32(0), I32(0), call, 0), imports("env", "abort", "iiii", ""), "it failed"},
		{"log from outside its memory", Cat(I32(1), I32(-1), I32(100), call, 0, drop), imports("eider", "log", "iii", "i"), "it failed"},
		{"log flood", Cat(loop, empty, I32(1), I32(0), I32(100), call, 0, drop, br, 0, end), imports("eider", "log", "iii", "i"), "ran out of fuel"},
		{"random flood", Cat(loop, empty, I32(0), I32(65536), call, 0, drop, br, 0, end),
			imports("wasi_snapshot_preview1", "random_get", "ii", "i"), "ran out of fuel"},
		{"poll flood", Cat(I32(0), I32(0), I32(100_000_000), I32(0), call, 0, drop, 0x00),
			imports("wasi_snapshot_preview1", "poll_oneoff", "iiii", "i"), "it failed"},
		{"no answer", answer(0, 0), invalid, "malformed"},
		{"an answer of nothing", answer(8, 0), invalid, "malformed"},
		{"an answer outside", answer(0x7fffffff, 10), invalid, "malformed"},
		{"an answer of 4 GiB", answer(0, 0xffffffff), invalid, "malformed"},
		{"an answer that is no JSON", answer(0, 10), invalid, "malformed"},
		{"an answer that is no UTF-8", Cat(I32(0), I32(0xff), 0x3a, 0, 0, answer(0, 1)), invalid, "malformed"},
	}
}

func many(n int, code []byte) []byte { return bytes.Repeat(code, n) }

// counted adds one to each of n locals, from the third on.
func counted(n int) (code []byte) {
	for i := range n {
		code = Cat(code, 0x20, U(2+i), I32(1), 0x6a, 0x21, U(2+i))
	}
	return code
}

// begun gives each of n locals another value.
func begun(n int) (code []byte) {
	for i := range n {
		code = Cat(code, 0x20, 0, I32(i), 0x6a, 0x21, U(2+i))
	}
	return code
}

// never is zero, and the compiler cannot know it.
func never() []byte { return Cat(I32(3000), 0x28, 2, 0) }

// Carry is code of a loop without end that does nothing but carry n locals, because of
// another loop in it that never runs.
func Carry(n int) []byte {
	inner := Cat(never(), 0x04, empty, loop, empty, counted(n), never(), 0x0d, 0, end, end)
	return Cat(begun(n), loop, empty, inner, br, 0, end)
}

// Ladder is code of a loop without end with blocks in each other, at the ends of which
// the values of n locals come from two ways.
func Ladder(n, blocks int) []byte {
	code := many(blocks, Cat(0x02, empty))
	for i := range blocks {
		code = Cat(code, never(), 0x0d, U(i))
	}
	code = Cat(code, counted(n))
	for range blocks {
		code = Cat(code, end, counted(3))
	}
	return Cat(begun(n), loop, empty, code, br, 0, end)
}
