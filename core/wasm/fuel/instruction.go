package fuel

import (
	"errors"
	"fmt"
)

// instruction reads one, counts it for its region, and notes what must be paid
// for where it stands.
func (f *function) instruction(r *reader) {
	from := r.at
	region := f.innermost().region
	region.instr++
	switch op := r.byte(); {
	case op == opBlock || op == opIf:
		t := f.w.blockType(r)
		if op == opIf {
			f.push(-1)
		}
		f.begin(&frame{region: region, at: from, label: t.results}, t)
		region.instr += int64(t.params)
	case op == opLoop:
		t := f.w.blockType(r)
		f.enter(&frame{at: from, loop: true, label: t.params}, t, r.at)
	case op == opElse:
		b := f.innermost()
		f.depth = b.base + b.params
	case op == opEnd:
		f.leave(r.at)
	case op == opBr || op == opBrIf:
		f.branch(r.u32())
		if op == opBrIf {
			f.push(-1)
		}
	case op == opBrTable:
		f.push(-1)
		n := r.count()
		f.work += n
		for range n {
			f.branch(r.u32())
		}
		f.branch(r.u32())
	case op == opReturn:
		f.branch(uint32(len(f.open) - 1))
	case op == opCall:
		f.call(f.w.called(f.names(r)))
	case op == opCallIndirect:
		f.push(-1)
		f.call(f.w.typed(r.u32()))
		r.u32()
	case op == opLocalSet || op == opLocalTee:
		f.assign(r.u32(), from)
		if op == opLocalSet {
			f.push(-1)
		}
	case op == opMemoryGrow:
		r.byte()
		region.instr += perExit
		f.noteBulk(bulk{from: from, to: r.at, shift: 10, grows: true}) // 64 KiB in units of 64 bytes
	case op == opGlobalGet || op == opGlobalSet:
		if i := r.u32(); r.err == nil && int64(i) >= int64(f.w.globals) {
			r.fail(fmt.Errorf("it names global %d, which is not there", i))
		}
		if op == opGlobalGet {
			f.push(1)
		} else {
			f.push(-1)
		}
	case op == opRefFunc:
		f.names(r)
		f.push(1)
		region.instr += 4 * perExit
	case op == opPrefixBulk:
		f.bulkInstruction(r, from)
	case op == opPrefixSIMD:
		op := skipSIMD(r)
		f.push(depthSIMD(op))
		if slowSIMD(op) {
			region.instr += 4 * perSlow
		}
	default:
		f.push(depth(op))
		if slow(op) {
			region.instr += perSlow
		}
		skipImmediates(r, op)
	}
}

// slow tells the instructions that take a processor many times as long as others:
// divisions, and what it does in floating point where numbers are next to nothing.
func slow(op byte) bool {
	return op >= 0x6d && op <= 0x70 || op >= 0x7f && op <= 0x82 || // div and rem
		op >= 0x91 && op <= 0x97 || op >= 0x9f && op <= 0xa5 // sqrt, add, sub, mul, div, min, max
}

// slowSIMD is slow for vectors, of which the floating point stands last.
func slowSIMD(op uint32) bool { return op >= 224 }

// names reads the index of a function, and notes where it stands.
func (f *function) names(r *reader) uint32 {
	from := r.at
	i := r.u32()
	if is := f.w.moved(i); is != i {
		f.refs = append(f.refs, ref{from, r.at, is})
	}
	return i
}

// noteBulk notes an instruction in bulk. What it pays with are blocks, and what it becomes
// may be a loop, on which the compiler has to work like on those that a module brings. The
// numbers are measured: a function may be worth a few seconds.
func (f *function) noteBulk(b bulk) {
	f.bulk = append(f.bulk, b)
	ways, work := 3, 2
	switch {
	case b.grows:
		ways, work = 6, 4
	case b.fills:
		ways, work = 9, 10
	}
	f.ways += ways
	f.work += work * (len(f.assigned) + f.depth)
}

// bulkInstruction reads what follows 0xfc. Bytes count by 64, elements of tables one
// by one.
func (f *function) bulkInstruction(r *reader, from int) {
	op := r.u32()
	note := func(shift int, grows bool) {
		f.noteBulk(bulk{from: from, to: r.at, shift: shift, grows: grows, fills: op == 11 || op == 17})
		f.innermost().region.instr += perBulk
		if grows {
			f.innermost().region.instr += perExit
		}
	}
	f.push(depthBulk(op))
	switch op {
	case 0, 1, 2, 3, 4, 5, 6, 7: // conversions
	case 8: // memory.init
		r.u32()
		r.byte()
		note(-6, false)
	case 10: // memory.copy
		r.take(2)
		note(-6, false)
	case 11: // memory.fill
		r.byte()
		note(-6, false)
	case 9, 13: // data.drop, elem.drop
		r.u32()
	case 12, 14: // table.init, table.copy
		r.u32()
		r.u32()
		note(0, false)
	case 15: // table.grow
		r.u32()
		note(0, true)
	case 16: // table.size
		r.u32()
	case 17: // table.fill
		r.u32()
		note(0, false)
	default:
		r.fail(fmt.Errorf("instruction 0xfc %d is unknown", op))
	}
}

func skipImmediates(r *reader, op byte) {
	switch {
	case op == 0x1c: // select with types
		if n := r.byte(); n != 1 {
			r.fail(fmt.Errorf("a selection of %d types", n))
		}
		r.valueType()
	case op == opLocalGet || op == 0x25 || op == 0x26: // local.get, tables
		r.u32()
	case op >= 0x28 && op <= 0x3e: // loads and stores
		skipMemory(r)
	case op == 0x3f: // memory.size
		r.byte()
	case op == opI32Const:
		r.signed(32)
	case op == opI64Const:
		r.signed(64)
	case op == opF32Const:
		r.take(4)
	case op == opF64Const:
		r.take(8)
	case op >= 0x45 && op <= 0xc4: // arithmetic
	case op == opRefNull:
		r.refType()
	case op <= 0x01 || op == 0x1a || op == 0x1b || op == 0xd1:
		// unreachable, nop, drop, select, ref.is_null
	default:
		r.fail(fmt.Errorf("instruction %#x is not taken", op))
	}
}

func skipMemory(r *reader) {
	if r.u32() >= 64 && r.err == nil {
		r.fail(errors.New("it names a second memory"))
	}
	r.u32()
}

// vector reads which instruction of vectors it is, which the host knows by the first byte:
// one that is written longer than it must be would be another one to it.
func (r *reader) vector() uint32 {
	first := uint32(r.byte())
	if first >= 0x80 && r.byte() != 1 {
		r.fail(errors.New("an instruction of vectors that is not taken"))
	}
	return first
}

func skipSIMD(r *reader) (op uint32) {
	switch op = r.vector(); {
	case op <= 11 || op == 92 || op == 93: // loads and stores
		skipMemory(r)
	case op == 12 || op == 13: // v128.const, i8x16.shuffle
		r.take(16)
	case op >= 21 && op <= 34: // lanes
		r.byte()
	case op >= 84 && op <= 91: // loads and stores of lanes
		skipMemory(r)
		r.byte()
	case op <= 255:
	default:
		r.fail(fmt.Errorf("instruction 0xfd %d is not taken", op))
	}
	return op
}
