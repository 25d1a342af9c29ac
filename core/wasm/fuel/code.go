package fuel

import (
	"errors"
	"fmt"
)

// Opcodes that are named here.
const (
	opUnreachable, opBlock, opLoop, opIf, opElse, opEnd byte = 0x00, 0x02, 0x03, 0x04, 0x05, 0x0b
	opLocalGet, opLocalSet, opLocalTee                  byte = 0x20, 0x21, 0x22
	opGlobalGet, opGlobalSet, opMemoryGrow              byte = 0x23, 0x24, 0x40
	opI32Const, opI64Const, opI64LtS, opI32Ne           byte = 0x41, 0x42, 0x53, 0x47
	opI64Sub, opI64Shl, opI64ShrU, opI64ExtendI32U      byte = 0x7d, 0x86, 0x88, 0xad
	opPrefixBulk, opPrefixSIMD                          byte = 0xfc, 0xfd

	typeI32, typeI64, typeEmpty byte = 0x7f, 0x7e, 0x40
)

// maxLocals is how many a function may have, and wazero takes.
const maxLocals = 50_000

// perUnit is how many instructions a unit of fuel stands for, besides the one that
// each entry costs.
const perUnit = 16

// function rewrites the body of one.
type function struct {
	w      *rewriter
	params int

	// The locals that are added: fuel, the size of what is done in bulk, its result.
	fuel, size, result uint32

	regions []*region // the function and the loops in it, as they begin
	open    []*region // for each block that is open, what its instructions belong to
	bulk    []bulk
}

// region is a stretch of code that is paid for where it is entered: a function
// without its loops, or a loop without those inside it.
type region struct {
	at    int // offset of its first instruction
	instr int64
}

// bulk is an instruction whose cost is its size, which is the topmost operand.
type bulk struct {
	from, to int
	shift    int  // of the size, to the left if above zero
	grows    bool // it costs only if it succeeds
}

// rewrite returns the body with what it costs. It first walks over the code to
// find what belongs to which region, then copies it piece by piece.
func (f *function) rewrite(r *reader) []byte {
	groups, locals := f.locals(r)
	begin := r.at
	f.enter(begin)
	for !r.done() && len(f.open) > 0 {
		f.instruction(r)
	}
	if r.err == nil && (len(f.open) > 0 || r.at != len(r.b)) {
		r.fail(errors.New("its end is not where its blocks end"))
	}
	if r.err != nil {
		return nil
	}
	out := make([]byte, 0, len(r.b)+24*(1+len(f.regions))+32*len(f.bulk)+8)
	out = appendU32(out, groups+2)
	out = append(out, locals...)
	out = append(out, 1, typeI64, 2, typeI32)
	return f.emit(out, r.b, begin)
}

// locals reads the declarations, and finds room behind them.
func (f *function) locals(r *reader) (groups uint32, declared []byte) {
	groups = r.u32()
	from := r.at
	total := int64(f.params)
	for i := uint32(0); i < groups && r.err == nil; i++ {
		total += int64(r.u32())
		r.byte()
		if total > maxLocals-3 {
			r.fail(fmt.Errorf("more than %d locals", maxLocals-3))
		}
	}
	f.fuel = uint32(total)
	f.size, f.result = f.fuel+1, f.fuel+2
	return groups, r.b[from:r.at]
}

func (f *function) enter(at int) {
	g := &region{at: at}
	f.regions = append(f.regions, g)
	f.open = append(f.open, g)
}

// emit copies the code. Regions and bulk instructions come in the order in which
// they stand.
func (f *function) emit(out, code []byte, at int) []byte {
	regions, bulks := f.regions, f.bulk
	for len(regions) > 0 || len(bulks) > 0 {
		if len(bulks) == 0 || (len(regions) > 0 && regions[0].at <= bulks[0].from) {
			g := regions[0]
			regions = regions[1:]
			out = append(out, code[at:g.at]...)
			at = g.at
			out = appendS64(append(f.get(out), opI64Const), 1+g.instr/perUnit)
			out = f.pay(out)
			continue
		}
		b := bulks[0]
		bulks = bulks[1:]
		out = append(out, code[at:b.from]...)
		at = b.to
		out = f.emitBulk(out, b, code[b.from:b.to])
	}
	return append(out, code[at:]...)
}

func (f *function) get(out []byte) []byte { return appendU32(append(out, opGlobalGet), f.w.counter) }

// pay takes the topmost number from the counter below it, and stops where that
// goes below zero.
func (f *function) pay(out []byte) []byte {
	out = appendU32(append(out, opI64Sub, opLocalTee), f.fuel)
	out = appendU32(append(out, opGlobalSet), f.w.counter)
	out = appendU32(append(out, opLocalGet), f.fuel)
	return append(out, opI64Const, 0, opI64LtS, opIf, typeEmpty, opUnreachable, opEnd)
}

// emitBulk takes the size from the stack, pays and gives it back. What grows pays
// afterwards and only if it has grown: a module that asks how much it can get may
// ask for too much. What it got for nothing is bounded by the maxima.
func (f *function) emitBulk(out []byte, b bulk, instruction []byte) []byte {
	if !b.grows {
		out = appendU32(append(out, opLocalSet), f.size)
		out = f.payFor(out, b.shift)
		out = appendU32(append(out, opLocalGet), f.size)
		return append(out, instruction...)
	}
	out = appendU32(append(out, opLocalTee), f.size)
	out = append(out, instruction...)
	out = appendU32(append(out, opLocalTee), f.result)
	out = append(out, opI32Const, 0x7f, opI32Ne, opIf, typeEmpty) // -1
	out = append(f.payFor(out, b.shift), opEnd)
	return appendU32(append(out, opLocalGet), f.result)
}

func (f *function) payFor(out []byte, shift int) []byte {
	out = appendU32(append(f.get(out), opLocalGet), f.size)
	out = append(out, opI64ExtendI32U)
	switch {
	case shift > 0:
		out = append(appendS64(append(out, opI64Const), int64(shift)), opI64Shl)
	case shift < 0:
		out = append(appendS64(append(out, opI64Const), int64(-shift)), opI64ShrU)
	}
	return f.pay(out)
}
