package fuel

import (
	"errors"
	"fmt"
	"math"
)

// Opcodes that are named here.
const (
	opBlock, opLoop, opIf, opElse, opEnd           byte = 0x02, 0x03, 0x04, 0x05, 0x0b
	opBr, opBrIf, opBrTable, opReturn, opCall      byte = 0x0c, 0x0d, 0x0e, 0x0f, 0x10
	opCallIndirect                                 byte = 0x11
	opLocalGet, opLocalSet, opLocalTee             byte = 0x20, 0x21, 0x22
	opGlobalGet, opGlobalSet, opMemoryGrow         byte = 0x23, 0x24, 0x40
	opI32Const, opI64Const, opI64LtS, opI32Ne      byte = 0x41, 0x42, 0x53, 0x47
	opI64Sub, opI64Shl, opI64ShrU, opI64ExtendI32U byte = 0x7d, 0x86, 0x88, 0xad
	opF32Const, opF64Const, opRefNull              byte = 0x43, 0x44, 0xd0
	opRefFunc, opPrefixBulk, opPrefixSIMD          byte = 0xd2, 0xfc, 0xfd

	typeI32, typeI64, typeEmpty byte = 0x7f, 0x7e, 0x40
	typeFuncref, typeExternref  byte = 0x70, 0x6f
)

// maxLocals is how many a function may have, maxBody of how many bytes it may be. Of
// those that were seen none has more than 60 and 50 KB.
const (
	maxLocals = 5000
	maxBody   = 1 << 20
)

// perUnit is how many instructions a unit of fuel stands for, besides the one that
// each entry costs. An instruction in bulk counts as several, whatever its size, and
// one for which the code has to be left as many; one that is slow counts as a unit.
const (
	perUnit = 16
	perSlow = perUnit - 1
	perBulk = 2 * perUnit
	perExit = 16 * perUnit
)

// function rewrites the body of one.
type function struct {
	w *rewriter
	t signature

	// The locals that are added: fuel, the size of what is done in bulk, its result.
	fuel, size, result uint32

	regions []*region // the function and the loops in it, as they begin
	open    []*frame  // the blocks that are open
	bulk    []bulk
	merges  []merge // in the order in which they stand
	refs    []ref

	assigned []int // of each local, where it was last assigned
	depth    int   // how many operands there are
	ways     int   // how often it parts or comes together
	work     int   // of the compiler, see workOfFunction
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
	fills    bool // the compiler makes a loop of it
}

// ref is where the code names a function that has another index now.
type ref struct {
	from, to int
	function uint32
}

// rewrite returns the body with what it costs. It first walks over the code to
// find what belongs to which region, then copies it piece by piece.
func (f *function) rewrite(r *reader) []byte {
	if len(r.b) > maxBody {
		r.fail(fmt.Errorf("it has %d bytes, at most %d are taken", len(r.b), maxBody))
	}
	groups, locals := f.locals(r)
	if r.err != nil {
		return nil
	}
	begin := r.at
	f.enter(&frame{at: begin, label: f.t.results}, signature{results: f.t.results}, begin)
	f.innermost().region.instr += int64(perKept * max(0, len(f.assigned)-fewKept))
	for !r.done() && len(f.open) > 0 {
		if f.instruction(r); f.work > workOfFunction || f.ways > waysOfFunction {
			r.fail(errTooLong)
		}
	}
	if r.err == nil && (len(f.open) > 0 || r.at != len(r.b)) {
		r.fail(errors.New("its end is not where its blocks end"))
	}
	f.work += f.ways*f.ways/300 + len(r.b)/2
	if f.w.work += f.work + f.ways*f.ways/40; r.err == nil && (f.work > workOfFunction || f.w.work > workOfModule) {
		r.fail(errTooLong)
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
	total := int64(f.t.params)
	for i := uint32(0); i < groups && r.err == nil; i++ {
		total += int64(r.u32())
		r.valueType()
		if total > maxLocals-3 {
			r.fail(fmt.Errorf("more than %d locals", maxLocals-3))
		}
	}
	if r.err != nil {
		return 0, nil
	}
	f.fuel = uint32(total)
	f.size, f.result = f.fuel+1, f.fuel+2
	f.assigned = make([]int, total)
	return groups, r.b[from:r.at]
}

func (f *function) enter(b *frame, t signature, at int) {
	b.region = &region{at: at}
	f.regions = append(f.regions, b.region)
	f.begin(b, t)
}

// emit copies the code. Regions, bulk instructions, merges and references come in the
// order in which they stand.
func (f *function) emit(out, code []byte, at int) []byte {
	const none = math.MaxInt
	regions, bulks, merges, refs := f.regions, f.bulk, f.merges, f.refs
	for {
		region, bulk, merge, named := none, none, none, none
		if len(regions) > 0 {
			region = regions[0].at
		}
		if len(bulks) > 0 {
			bulk = bulks[0].from
		}
		if len(merges) > 0 {
			merge = merges[0].at
		}
		if len(refs) > 0 {
			named = refs[0].from
		}
		switch next := min(region, bulk, merge, named); next {
		case none:
			return append(out, code[at:]...)
		case named:
			out = appendU32(append(out, code[at:next]...), refs[0].function)
			at = refs[0].to
			refs = refs[1:]
		case merge:
			out = append(out, code[at:next]...)
			at = next
			out = f.pay(appendS64(append(f.get(out), opI64Const), merges[0].instr/perUnit))
			merges = merges[1:]
		case region:
			out = append(out, code[at:next]...)
			at = next
			out = f.pay(appendS64(append(f.get(out), opI64Const), 1+regions[0].instr/perUnit))
			regions = regions[1:]
		default:
			b := bulks[0]
			out = append(out, code[at:b.from]...)
			at = b.to
			out = f.emitBulk(out, b, code[b.from:b.to])
			bulks = bulks[1:]
		}
	}
}

func (f *function) get(out []byte) []byte { return appendU32(append(out, opGlobalGet), f.w.counter) }

// pay takes the topmost number from the counter below it. Where that goes below zero
// the host is asked for more.
func (f *function) pay(out []byte) []byte {
	out = appendU32(append(out, opI64Sub, opLocalTee), f.fuel)
	out = appendU32(append(out, opGlobalSet), f.w.counter)
	out = appendU32(append(out, opLocalGet), f.fuel)
	out = append(out, opI64Const, 0, opI64LtS, opIf, typeEmpty, opCall)
	return append(appendU32(out, uint32(f.w.imported)), opEnd)
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
