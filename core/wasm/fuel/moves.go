package fuel

import "errors"

// What the compiler moves where nothing is written: where ways through the code come
// together, each value that may be another on each of them is moved to one place. A
// module of some kilobytes can have thousands of values moved for one instruction, so
// they are paid for like instructions.

// Moves count as so many instructions, and from so many on they are paid for where
// they happen: fewer count for a part, for the region around.
const (
	perMove  = 2
	manyFrom = 24
	fewer    = 8
)

// What a function keeps while it calls another takes room on a stack beside the module's
// memory, eight bytes for each value, as deep as calls go. Beyond so many each counts as
// so many instructions: a unit of fuel buys no more than some 32 bytes of stack.
const (
	perKept = 4
	fewKept = 64
)

// frame is a block that is open.
type frame struct {
	region   *region
	at       int  // offset of what opens it
	loop     bool // its label is its begin
	label    int  // how many values a branch to it takes along
	params   int
	results  int
	base     int // how many operands there are below its own
	assigned int // how many locals are assigned in it
	edges    int // branches to it
}

// A compiler that keeps the values of a function apart at each of its blocks takes time
// by the product of the two: some microseconds for each value at each block, and for
// each that is moved there; and by the square of the blocks. A module is refused that would have it work for more than
// some seconds; those that languages make stay below by far.
const (
	workOfFunction = 500_000
	workOfModule   = 16_000_000

	waysOfFunction = 12_300 // whose square is all of workOfFunction
)

var errTooLong = errors.New("it would take too long to compile: it has too many blocks or instructions in bulk, or too many values at them")

// begin opens a block.
func (f *function) begin(b *frame, t signature) {
	b.params, b.results, b.base = t.params, t.results, f.depth-t.params
	f.work += len(f.assigned) + f.depth
	f.ways++
	if b.loop {
		f.ways += 3
	}
	f.open = append(f.open, b)
}

// merge is the end of a block to which many values are moved.
type merge struct {
	at    int // offset of what follows
	instr int64
}

func (f *function) innermost() *frame { return f.open[len(f.open)-1] }

// assign notes that a local is assigned, for each block that is open and did not have
// it yet.
func (f *function) assign(local uint32, at int) {
	if int64(local) >= int64(len(f.assigned)) {
		return // it is not valid, and the host says so
	}
	last := f.assigned[local]
	f.assigned[local] = at
	for i := len(f.open) - 1; i >= 0 && f.open[i].at >= last; i-- {
		f.open[i].assigned++
	}
}

// call counts what moving the parameters and results of a function costs, beyond the
// few that each has, and what is kept meanwhile.
func (f *function) call(t signature) {
	f.push(t.results - t.params)
	f.work += t.params + t.results
	f.innermost().region.instr += int64(perMove*max(0, t.params+t.results-fewer) + perKept*max(0, f.depth-fewKept))
}

// branch notes a branch to a label.
func (f *function) branch(depth uint32) {
	f.ways++
	if int64(depth) < int64(len(f.open)) {
		f.open[len(f.open)-1-int(depth)].edges++
	}
}

// leave closes the innermost block, at the offset of what follows.
func (f *function) leave(at int) {
	b := f.innermost()
	f.open = f.open[:len(f.open)-1]
	f.depth = b.base + b.results
	width := b.assigned + b.label
	f.work += (b.edges + 1) * width
	switch {
	case b.loop:
		b.region.instr += int64(perMove * (width + b.results))
	case len(f.open) == 0:
		b.region.instr += int64(perMove * b.results)
	case width >= manyFrom:
		f.ways += 3
		f.merges = append(f.merges, merge{at, int64(perMove * width)})
	default:
		b.region.instr += int64(width / fewer)
	}
}
