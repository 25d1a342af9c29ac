package fuel

import (
	"errors"
	"fmt"
)

// moved returns the index that a function has behind the import that is added.
func (w *rewriter) moved(function uint32) uint32 {
	if int64(function) < int64(w.imported) {
		return function
	}
	return function + 1
}

// elements copies the segments of elements with the functions' new indexes. A runtime
// keeps many bytes for each of them, for every guest: so they are no more than a table
// may hold.
func (w *rewriter) elements(r *reader) []byte {
	n := w.atMost(r, "element segments", w.limits.Segments)
	out := appendU32(make([]byte, 0, len(r.b)+len(r.b)/8), uint32(n))
	all := uint32(0)
	for range n {
		kind := r.u32()
		if kind > 7 && r.err == nil {
			r.fail(fmt.Errorf("an element segment of kind %d", kind))
		}
		out = appendU32(out, kind)
		if kind&1 == 0 { // active
			if kind&2 != 0 {
				out = appendU32(out, r.u32()) // its table
			}
			out = w.constant(out, r)
		}
		if kind&3 != 0 { // what its elements are
			if kind&4 != 0 {
				out = append(out, r.refType())
			} else if of := r.byte(); of == 0 {
				out = append(out, of)
			} else {
				r.fail(fmt.Errorf("elements of kind %d", of))
			}
		}
		items := r.count()
		if all += uint32(items); all > w.limits.Elements && r.err == nil {
			r.fail(fmt.Errorf("more than %d elements in its segments", w.limits.Elements))
		}
		out = appendU32(out, uint32(items))
		for range items {
			if kind&4 != 0 {
				out = w.constant(out, r)
			} else {
				out = appendU32(out, w.moved(r.u32()))
			}
			if r.err != nil {
				return nil
			}
		}
	}
	return out
}

// data looks whether the segments of data have the bytes that they say: whoever makes
// room for them first would believe what they say.
func (w *rewriter) data(r *reader) {
	for range w.atMost(r, "data segments", w.limits.Data) {
		kind := r.u32()
		if kind > 2 && r.err == nil {
			r.fail(fmt.Errorf("a data segment of kind %d", kind))
		}
		if kind == 2 {
			r.u32() // its memory
		}
		if kind != 1 { // active
			w.constant(nil, r)
		}
		r.take(r.count())
		if r.err != nil {
			return
		}
	}
}

// constant copies a constant expression.
func (w *rewriter) constant(out []byte, r *reader) []byte {
	for !r.done() {
		from := r.at
		switch op := r.byte(); op {
		case opEnd:
			return append(out, op)
		case opI32Const:
			r.signed(32)
		case opI64Const:
			r.signed(64)
		case opF32Const:
			r.take(4)
		case opF64Const:
			r.take(8)
		case opGlobalGet:
			r.u32()
		case opRefNull:
			r.refType()
		case opRefFunc:
			out = appendU32(append(out, op), w.moved(r.u32()))
			continue
		case opPrefixSIMD:
			if r.vector() != 12 { // v128.const
				r.fail(errors.New("instruction 0xfd in a constant"))
			}
			r.take(16)
		default:
			r.fail(fmt.Errorf("instruction %#x in a constant", op))
		}
		if r.err == nil {
			out = append(out, r.b[from:r.at]...)
		}
	}
	r.fail(errShort)
	return out
}

// names returns the names of functions under their new indexes, nil where there are none
// that can be read.
func (w *rewriter) names(r *reader) []byte {
	for !r.done() {
		id, s := r.byte(), &reader{b: r.take(r.count())}
		if id != 1 || r.err != nil {
			continue
		}
		n := s.count()
		if n > len(w.functions) { // they come behind all that declares functions, or name nothing
			return nil
		}
		out := appendU32(make([]byte, 0, len(s.b)+len(s.b)/8), uint32(n))
		for range n {
			out = appendU32(out, w.moved(s.u32()))
			out = appendName(out, s.name())
		}
		if s.err == nil && s.at == len(s.b) {
			return out
		}
		return nil
	}
	return nil
}
