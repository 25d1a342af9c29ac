package wasmtest

import "encoding/binary"

// Module is a WebAssembly module as a test writes it: the encoder adds nothing,
// so that what is wrong stays wrong.
type Module struct {
	Imports  []Import
	Funcs    []Func
	Tables   []Bounds // of funcref
	Memory   *Bounds
	Globals  int // mutable i64, zero
	Exports  []Export
	Start    *int
	Elements int    // segments that are empty and passive
	Segment  []byte // one more of elements, as it is encoded
	Data     int    // the same
	Tail     []byte
}

// Import is a function of the type that stands first in Types.
type Import struct {
	Module, Name    string
	Params, Results string
}

// Func is a function. Params and Results have one letter for each value: i for i32, l for
// i64. Locals are i32. It shares its type with the one before it, if that has the same and
// no name.
type Func struct {
	Params, Results string
	Locals          int
	Code            []byte // without the final end
	Name            string // of its export, if any
}

// Bounds are the limits of a table or memory; Max -1: none.
type Bounds struct{ Min, Max int }

// Export is one besides those of functions: kind 0 function, 1 table, 2 memory, 3 global.
type Export struct {
	Name  string
	Kind  byte
	Index int
}

// U is an unsigned LEB128 number, S a signed one.
func U(v int) []byte { return binary.AppendUvarint(nil, uint64(v)) }

// S is a signed LEB128 number.
func S(v int64) []byte {
	var b []byte
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if (v == 0 && c&0x40 == 0) || (v == -1 && c&0x40 != 0) {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

// Cat joins pieces of code: bytes, and whole numbers as opcodes.
func Cat(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = append(b, byte(p))
		case []byte:
			b = append(b, p...)
		case string:
			b = append(b, p...)
		}
	}
	return b
}

// I32 and I64 push a constant.
func I32(v int) []byte { return Cat(0x41, S(int64(int32(v)))) }

// I64 pushes a constant.
func I64(v int64) []byte { return Cat(0x42, S(v)) }

func text(s string) []byte { return Cat(U(len(s)), s) }

func values(s string) []byte {
	b := U(len(s))
	for _, c := range s {
		b = append(b, map[rune]byte{'i': 0x7f, 'l': 0x7e}[c])
	}
	return b
}

func (b Bounds) encode() []byte {
	if b.Max < 0 {
		return Cat(0, U(b.Min))
	}
	return Cat(1, U(b.Min), U(b.Max))
}

// Bytes encodes the module.
func (m Module) Bytes() []byte {
	out := []byte{0, 'a', 's', 'm', 1, 0, 0, 0}
	section := func(id byte, n int, content []byte) {
		if n > 0 {
			body := Cat(U(n), content)
			out = Cat(out, int(id), U(len(body)), body)
		}
	}
	var types, imports, funcs, tables, globals, exports, code, elements, data []byte
	for _, i := range m.Imports {
		types = append(types, Cat(0x60, values(i.Params), values(i.Results))...)
	}
	n := len(m.Exports)
	for i, i2 := range m.Imports {
		imports = append(imports, Cat(text(i2.Module), text(i2.Name), 0, U(i))...)
	}
	typed := len(m.Imports)
	for i, f := range m.Funcs {
		if before := m.Funcs[max(0, i-1)]; i == 0 || before.Name != "" || f.Params != before.Params || f.Results != before.Results {
			types = append(types, Cat(0x60, values(f.Params), values(f.Results))...)
			typed++
		}
		funcs = append(funcs, U(typed-1)...)
		locals := []byte{0}
		if f.Locals > 0 {
			locals = Cat(1, U(f.Locals), 0x7f)
		}
		body := Cat(locals, f.Code, 0x0b)
		code = append(code, Cat(U(len(body)), body)...)
		if f.Name != "" {
			n++
			exports = append(exports, Cat(text(f.Name), 0, U(len(m.Imports)+i))...)
		}
	}
	for _, t := range m.Tables {
		tables = append(tables, Cat(0x70, t.encode())...)
	}
	for range m.Globals {
		globals = append(globals, Cat(0x7e, 1, 0x42, 0, 0x0b)...)
	}
	for _, e := range m.Exports {
		exports = append(exports, Cat(text(e.Name), int(e.Kind), U(e.Index))...)
	}
	for range m.Elements {
		elements = append(elements, Cat(1, 0, 0)...)
	}
	for range m.Data {
		data = append(data, Cat(1, 0)...)
	}
	section(1, typed, types)
	section(2, len(m.Imports), imports)
	section(3, len(m.Funcs), funcs)
	section(4, len(m.Tables), tables)
	if m.Memory != nil {
		section(5, 1, m.Memory.encode())
	}
	section(6, m.Globals, globals)
	section(7, n, exports)
	if m.Start != nil {
		body := U(*m.Start)
		out = Cat(out, 8, U(len(body)), body)
	}
	segments := m.Elements
	if m.Segment != nil {
		segments, elements = segments+1, append(elements, m.Segment...)
	}
	section(9, segments, elements)
	if m.Data > 0 {
		body := U(m.Data)
		out = Cat(out, 12, U(len(body)), body)
	}
	section(10, len(m.Funcs), code)
	section(11, m.Data, data)
	return append(out, m.Tail...)
}

// Policy returns a module that speaks the ABI in JSON, allows everything, and does
// the code first, each time it is asked. Its functions are numbered from len(imports):
// eider_abi_version, eider_alloc, eider_configure, eider_decide, then more.
func Policy(decide []byte, change func(*Module)) []byte {
	return answering("eider_decide", `{"decision":"allow"}`, decide, change)
}

// Sink is Policy for a sink, which answers each batch with the text, of at most 3,000
// bytes.
func Sink(answer string, deliver []byte, change func(*Module)) []byte {
	return answering("eider_deliver", answer, deliver, change)
}

func answering(export, answer string, code []byte, change func(*Module)) []byte {
	m := Module{
		Memory:  &Bounds{2, -1},
		Exports: []Export{{"memory", 2, 0}},
		Funcs: []Func{
			{Results: "i", Code: I32(1 << 16), Name: "eider_abi_version"},
			{Params: "i", Results: "i", Code: I32(4096), Name: "eider_alloc"},
			{Params: "ii", Results: "l", Code: I64(0), Name: "eider_configure"},
			{Params: "ii", Results: "l", Locals: 4, Name: export},
		},
	}
	m.Funcs[3].Code = Cat(code, given(answer))
	if change != nil {
		change(&m)
	}
	return m.Bytes()
}

// Later is code that does nothing the first time that a guest is asked, so that it
// proves itself, and from then on does its worst.
func Later(worst []byte) []byte {
	const cell = 2048
	return Cat(I32(cell), 0x28, 2, 0, 0x04, 0x40, worst, 0x0b, I32(cell), I32(1), 0x36, 2, 0)
}

// Answer is code that returns a text from eider_decide.
func Answer(text string) []byte { return Cat(given(text), 0x0f) }

// given writes the text and leaves where it stands; data segments are for those who
// test them.
func given(text string) (code []byte) {
	for i := range len(text) {
		code = append(code, Cat(I32(1024+i), I32(int(text[i])), 0x3a, 0, 0)...)
	}
	return Cat(code, I64(1024<<32|int64(len(text))))
}

// Of returns bounds.
func Of(least, most int) Bounds { return Bounds{least, most} }

// Pages returns the bounds of a memory.
func Pages(least, most int) *Bounds { return &Bounds{least, most} }

// Named returns an export.
func Named(name string, kind byte, index int) Export { return Export{name, kind, index} }
