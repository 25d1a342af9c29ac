package fuel

// depth returns by how much an instruction without a prefix, and of no kind that is
// looked at elsewhere, changes the number of operands.
func depth(op byte) int {
	switch {
	case op == opLocalGet, op == 0x3f, op >= opI32Const && op <= opF64Const, op == opRefNull: // constants, memory.size, ref.null
		return 1
	case op == 0x1a: // drop
		return -1
	case op == 0x1b, op == 0x1c, op == 0x26, op >= 0x36 && op <= 0x3e: // select, table.set, stores
		return -2
	case op >= 0x46 && op <= 0x4f, op >= 0x51 && op <= 0x66, // comparisons
		op >= 0x6a && op <= 0x78, op >= 0x7c && op <= 0x8a, op >= 0x92 && op <= 0x98, op >= 0xa0 && op <= 0xa6: // arithmetic
		return -1
	}
	return 0
}

// depthBulk is depth for what follows 0xfc.
func depthBulk(op uint32) int {
	switch op {
	case 8, 10, 11, 12, 14, 17: // memory and tables
		return -3
	case 15: // table.grow
		return -1
	case 16: // table.size
		return 1
	}
	return 0
}

// depthSIMD is depth for what follows 0xfd. Of what is not looked at closely it says
// that nothing is taken away: a function may seem deeper than it is.
func depthSIMD(op uint32) int {
	switch {
	case op == 12: // v128.const
		return 1
	case op == 11, op == 82, op >= 88 && op <= 91: // stores, bitselect
		return -2
	case op == 13, op == 14, op >= 35 && op <= 76, op >= 78 && op <= 81, op >= 84 && op <= 87: // comparisons, logic, lanes
		return -1
	}
	return 0
}

// push changes how many operands there are, of which a block has none from below its
// own.
func (f *function) push(n int) { f.depth = max(f.depth+n, f.innermost().base) }
