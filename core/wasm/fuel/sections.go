package fuel

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// The ids of sections.
const (
	secCustom, secType, secImport, secFunction, secTable, secMemory, secGlobal, secExport byte = 0, 1, 2, 3, 4, 5, 6, 7
	secStart, secElement, secCode, secData, secDataCount                                  byte = 8, 9, 10, 11, 12
)

var order = map[byte]int{
	secType: 1, secImport: 2, secFunction: 3, secTable: 4, secMemory: 5, secGlobal: 6, secExport: 7,
	secStart: 8, secElement: 9, secDataCount: 10, secCode: 11, secData: 12,
}

// rewriter goes through the sections in their order, copies most, and changes
// those on its way that concern it.
type rewriter struct {
	limits Limits
	out    []byte
	bare   []byte // the module without custom sections
	last   int    // place of the section before, in order

	types     []signature
	functions []uint32 // types of functions, the imported ones first
	imported  int      // number of imported functions, without the one that is added
	imports   []Import
	exports   []string
	globals   int
	memories  int
	counter   uint32 // index of the global that is added
	start     *uint32
	work      int // of the compiler
	valued    int // parameters and results of types
}

var header = []byte{0, 'a', 's', 'm', 1, 0, 0, 0}

func (w *rewriter) run(module []byte) error {
	if len(module) > w.limits.Bytes {
		return fmt.Errorf("it has %d bytes, at most %d are taken", len(module), w.limits.Bytes)
	}
	if !bytes.HasPrefix(module, header) {
		return errors.New("it is no WebAssembly module of version 1")
	}
	if err := w.scan(module); err != nil {
		return err
	}
	w.out = append(make([]byte, 0, len(module)+len(module)/5+64), header...)
	w.bare = append(make([]byte, 0, len(module)), header...)
	r := &reader{b: module, at: len(header)}
	for !r.done() {
		id := r.byte()
		content := r.take(r.count())
		if r.err != nil {
			break
		}
		if err := w.section(id, content); err != nil {
			return fmt.Errorf("section %d: %w", id, err)
		}
		if id != secCustom {
			w.bare = appendSection(w.bare, id, content)
		}
	}
	if r.err != nil {
		return r.err
	}
	return w.before(len(order) + 1)
}

// scan finds what is needed before it stands: which function starts, and exports.
func (w *rewriter) scan(module []byte) error {
	r := &reader{b: module, at: len(header)}
	for !r.done() {
		id := r.byte()
		s := &reader{b: r.take(r.count())}
		switch id {
		case secStart:
			f := s.u32()
			w.start = &f
			if s.at != len(s.b) {
				return errors.New("the start section is malformed")
			}
		}
		if s.err != nil {
			return s.err
		}
	}
	return r.err
}

// section copies a section, or what it becomes.
func (w *rewriter) section(id byte, content []byte) error {
	if id == secCustom {
		return w.custom(content)
	}
	place, known := order[id]
	if !known {
		return errors.New("it is unknown")
	}
	if place <= w.last {
		return errors.New("it is out of order or there twice")
	}
	if err := w.before(place); err != nil {
		return err
	}
	w.last = place
	r := &reader{b: content}
	var changed []byte
	switch id {
	case secType:
		changed = w.typeSection(r)
	case secImport:
		changed = w.importSection(r)
	case secFunction:
		w.functionSection(r)
	case secTable:
		changed = w.tables(r)
	case secMemory:
		changed = w.memory(r)
	case secGlobal:
		changed = w.global(r)
	case secExport:
		changed = w.export(r)
	case secStart:
		return nil // it is an export now
	case secElement:
		changed = w.elements(r)
	case secDataCount:
		w.atMost(r, "data segments", w.limits.Data)
	case secData:
		w.data(r)
	case secCode:
		changed = w.code(r)
	}
	if r.err == nil && r.at != len(r.b) {
		r.fail(errors.New("bytes follow its end"))
	}
	if r.err != nil {
		return r.err
	}
	if changed == nil {
		changed = content
	}
	w.out = appendSection(w.out, id, changed)
	return nil
}

// custom keeps the names of functions, which make traps readable, and nothing
// else: offsets into the code are not what they were.
func (w *rewriter) custom(content []byte) error {
	r := &reader{b: content}
	if r.name() == "name" && r.err == nil {
		if names := w.names(r); names != nil {
			w.out = appendSection(w.out, secCustom, append(appendName(nil, "name"), appendSection(nil, 1, names)...))
		}
		return nil
	}
	return r.err
}

// before adds the sections that the module lacks and that stand before place.
func (w *rewriter) before(place int) error {
	for _, id := range []byte{secType, secImport, secGlobal, secExport} {
		if w.last < order[id] && place > order[id] {
			if err := w.section(id, []byte{0}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *rewriter) atMost(r *reader, what string, limit int) int {
	n := r.u32()
	if r.err == nil && int64(n) > int64(limit) {
		r.fail(fmt.Errorf("%d %s, at most %d are taken", n, what, limit))
	}
	if r.err != nil {
		return 0
	}
	return int(n)
}

// typeSection adds the type of what gives more fuel, which takes and returns nothing.
func (w *rewriter) typeSection(r *reader) []byte {
	n := w.atMost(r, "types", w.limits.Types)
	rest := r.at
	for range n {
		if form := r.byte(); form != 0x60 && r.err == nil {
			r.fail(fmt.Errorf("a type of form %#x", form))
		}
		t := signature{params: w.values(r)}
		t.results = w.values(r)
		if r.err != nil {
			return nil
		}
		w.types = append(w.types, t)
	}
	return append(append(appendU32(nil, uint32(n)+1), r.b[rest:]...), 0x60, 0, 0)
}

// values skips the parameters or results of a type.
func (w *rewriter) values(r *reader) int {
	n := w.atMost(r, "parameters or results", w.limits.Values)
	if w.valued += n; w.valued > allValues && r.err == nil {
		r.fail(fmt.Errorf("more than %d parameters and results in its types", allValues))
	}
	for range n {
		r.valueType()
	}
	return n
}

// signature is how many values a function takes and gives.
type signature struct{ params, results int }

// typed returns a type, and that of nothing where there is none: then the module is
// not valid, and the host says so.
func (w *rewriter) typed(i uint32) signature {
	if int64(i) < int64(len(w.types)) {
		return w.types[i]
	}
	return signature{}
}

func (w *rewriter) called(function uint32) signature {
	if int64(function) < int64(len(w.functions)) {
		return w.typed(w.functions[function])
	}
	return signature{}
}

// blockType reads the type of a block.
func (w *rewriter) blockType(r *reader) signature {
	switch i := r.signed(33); {
	case i >= 0:
		return w.typed(uint32(i))
	case i == -64: // empty
	case i >= -5 && i < 0, i == -16, i == -17: // the types of valueType
		return signature{results: 1}
	default:
		r.fail(fmt.Errorf("a block of type %d", i))
	}
	return signature{}
}

// importSection adds what gives more fuel behind the module's own imports, so that all
// functions of its own have an index that is one higher.
func (w *rewriter) importSection(r *reader) []byte {
	n := w.atMost(r, "imports", w.limits.Imports)
	rest := r.at
	for range n {
		i := Import{r.name(), r.name()}
		if kind := r.byte(); kind != 0 && r.err == nil {
			r.fail(fmt.Errorf("import %s.%s is no function", i.Module, i.Name))
		}
		t := r.u32()
		if r.err != nil {
			return nil
		}
		w.imports = append(w.imports, i)
		w.functions = append(w.functions, t)
	}
	w.imported = len(w.imports)
	out := append(appendU32(nil, uint32(n)+1), r.b[rest:]...)
	out = appendName(appendName(out, RefillModule), RefillName)
	return appendU32(append(out, 0), uint32(len(w.types)))
}

func (w *rewriter) functionSection(r *reader) {
	for range w.atMost(r, "functions", w.limits.Functions) {
		t := r.u32()
		if r.err == nil && int(t) >= len(w.types) {
			r.fail(fmt.Errorf("a function of type %d, which is not there", t))
		}
		if r.err != nil {
			return
		}
		w.functions = append(w.functions, t)
	}
}

// bounds reads limits, and cuts the maximum.
func (w *rewriter) bounds(r *reader, what string, most uint32) []byte {
	flag := r.byte()
	if flag > 1 && r.err == nil {
		r.fail(fmt.Errorf("a %s of kind %d", what, flag))
	}
	least, limit := r.u32(), most
	if flag == 1 {
		limit = r.u32()
		if limit < least && r.err == nil {
			r.fail(fmt.Errorf("a %s whose minimum is over its maximum", what))
		}
	}
	if least > most && r.err == nil {
		r.fail(fmt.Errorf("a %s of %d, at most %d are taken", what, least, most))
	}
	return appendU32(appendU32([]byte{1}, least), min(limit, most))
}

func (w *rewriter) tables(r *reader) []byte {
	n := w.atMost(r, "tables", w.limits.Tables)
	out := appendU32(nil, uint32(n))
	for range n {
		out = append(out, r.refType())
		out = append(out, w.bounds(r, "table", w.limits.Elements)...)
	}
	return out
}

func (w *rewriter) memory(r *reader) []byte {
	w.memories = w.atMost(r, "memories", 1)
	out := appendU32(nil, uint32(w.memories))
	for range w.memories {
		out = append(out, w.bounds(r, "memory", w.limits.MemoryPages)...)
	}
	return out
}

// global adds the counter behind the module's own globals: it begins at zero, so
// that nothing runs before the host has set it.
func (w *rewriter) global(r *reader) []byte {
	w.globals = w.atMost(r, "globals", w.limits.Globals)
	w.counter = uint32(w.globals)
	out := appendU32(nil, uint32(w.globals)+1)
	for range w.globals {
		out = append(out, r.valueType(), r.byte())
		out = w.constant(out, r)
	}
	return append(out, typeI64, 1, opI64Const, 0, opEnd)
}

func (w *rewriter) export(r *reader) []byte {
	n := w.atMost(r, "exports", w.limits.Functions)
	added := uint32(1)
	if w.start != nil {
		added = 2
	}
	out := appendU32(nil, uint32(n)+added)
	for range n {
		name, kind, index := r.name(), r.byte(), r.u32()
		if name == Counter || strings.HasPrefix(name, prefix) {
			r.fail(fmt.Errorf("an export has the name %q, which is the host's", name))
		}
		if r.err != nil {
			return nil
		}
		w.exports = append(w.exports, name)
		if kind == 0 {
			index = w.moved(index)
		}
		out = appendU32(append(appendName(out, name), kind), index)
	}
	out = appendU32(append(appendName(out, Counter), 3), w.counter)
	if w.start != nil {
		out = appendU32(append(appendName(out, Start), 0), w.moved(*w.start))
	}
	return out
}

func (w *rewriter) code(r *reader) []byte {
	n := w.atMost(r, "functions", w.limits.Functions)
	if n != len(w.functions)-w.imported && r.err == nil {
		r.fail(fmt.Errorf("%d functions are declared and %d have code", len(w.functions)-w.imported, n))
	}
	out := appendU32(make([]byte, 0, len(r.b)+len(r.b)/5), uint32(n))
	for i := range n {
		if r.err != nil {
			return nil
		}
		body := &reader{b: r.take(r.count())}
		f := function{w: w, t: w.called(uint32(w.imported + i))}
		text := f.rewrite(body)
		if body.err != nil {
			r.fail(fmt.Errorf("function %d: %w", w.imported+i, body.err))
			return nil
		}
		out = append(appendU32(out, uint32(len(text))), text...)
	}
	return out
}
