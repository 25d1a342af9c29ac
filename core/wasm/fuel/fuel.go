// Package fuel writes a counter into a WebAssembly module, so that whatever it
// does comes to an end after a known amount of work, the same on every machine.
//
// Each function and each loop takes fuel where it is entered, one unit and one
// more for every sixteen instructions that are its own; what works on memory or
// tables in bulk takes it by size. What the compiler moves without an instruction
// that says so counts too: the locals that a loop carries, above all.
//
// Where none is left the code calls a function of the host's, which is added to the
// module's imports, with the counter below zero. The host gives it more through an
// exported global, or ends it. So fuel can be given in small portions: between two of
// them the code has been left, and the host may look at the clock, at whether anybody
// still waits, and may stop the world, which it cannot while machine code runs that it
// did not make. What a unit takes by the clock depends on the instructions, from a
// nanosecond to microseconds where each load misses every cache. The host sets the
// counter before anything of the module runs: the start section is turned into an export.
//
// A host's own deadline would be simpler, but leaves compiled code at every loop
// header, which makes guests 4 to 8 times slower, and misses a recursion without
// loops; and its verdict depends on the machine.
//
// Always true: a module that is valid stays valid and computes the same, as long
// as its fuel lasts. The package validates only what it must know: the host
// compiles the original first, or a guest could name the global or the import that are
// added. It knows no runtime.
package fuel

import (
	"errors"
	"fmt"
)

// The names that are added to a module's exports. A module may have none of them,
// nor any other that begins with the prefix.
const (
	Counter = "eider_fuel"
	Start   = "eider:start"

	prefix = "eider:"
)

// The function that a module is given to import: it takes and returns nothing, and is
// called with the counter below zero. It sets the counter anew, or does not return.
const (
	RefillModule = "eider:fuel"
	RefillName   = "refill"
)

// Limits bound what a module may be made of; 0 means the default.
type Limits struct {
	Bytes       int    // of the module, 32 MiB
	Types       int    // 10,000
	Values      int    // parameters, or results, of each type, 1,000
	Imports     int    // 1,000
	Functions   int    // 100,000
	Globals     int    // 10,000
	Tables      int    // 64
	Elements    uint32 // of each table, 65,536: larger ones are cut, if they begin smaller; and of all segments together
	Data        int    // segments, 50,000
	Segments    int    // of elements, 10,000
	MemoryPages uint32 // of 64 KiB, 4096; a larger maximum is cut
}

// allValues is how many parameters and results all types have together, at most.
const allValues = 200_000

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&l.Bytes, 32<<20)
	set(&l.Types, 10_000)
	set(&l.Values, 1000)
	set(&l.Imports, 1000)
	set(&l.Functions, 100_000)
	set(&l.Globals, 10_000)
	set(&l.Tables, 64)
	set(&l.Data, 50_000)
	set(&l.Segments, 10_000)
	if l.Elements == 0 {
		l.Elements = 65_536
	}
	if l.MemoryPages == 0 {
		l.MemoryPages = 4096
	}
	return l
}

// Module is what was found out about a module on the way.
type Module struct {
	Bytes    []byte   // the module with its counter
	Original []byte   // the module without its custom sections: what is left of them has no bounds
	HasStart bool     // it has an export named Start, to be called once, first
	Imports  []Import // of the original
	Exports  []string // of the original
}

// Import is a function that the module asks for.
type Import struct{ Module, Name string }

// ErrModule is in every error of Rewrite: the module, not the caller, is at fault.
var ErrModule = errors.New("the module cannot be used")

// Rewrite returns the module with the counter in it. It keeps nothing of the
// bytes it is given, and never panics on them.
func Rewrite(module []byte, limits Limits) (Module, error) {
	w := &rewriter{limits: limits.withDefaults()}
	if err := w.run(module); err != nil {
		return Module{}, fmt.Errorf("%w: %w", ErrModule, err)
	}
	return Module{Bytes: w.out, Original: w.bare, HasStart: w.start != nil, Imports: w.imports, Exports: w.exports}, nil
}
