package wasm

import (
	"context"
	"fmt"
	"time"

	"github.com/eiderdb/eider/core/wasm/fuel"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// portion is how much fuel a guest is given at a time. While it lasts nothing can stop
// the guest's machine code, nor can the garbage collector of the whole process run:
// some microseconds for what is usual, and 8 ms at the 2 us a unit that were measured where
// it is sixteen loads that miss every cache, the dearest that was found.
const portion = 4096

// within is how long a guest may work by the clock, at least. It is far more than fuel
// lasts for what is usual, on a busy machine too: that is stopped by fuel, the same everywhere.
const within = 10 * time.Second

// tank is the fuel of a call: a portion of it in the guest's counter, the rest here.
type tank struct {
	counter api.MutableGlobal
	rest    int64
	given   int64
}

// fill gives it fuel for a call.
func (t *tank) fill(fuel int64) {
	t.given, t.rest = fuel, fuel
	t.counter.Set(0)
	t.pour()
}

// left returns what is left, which is below zero once the guest has run out of it.
func (t *tank) left() int64 { return t.rest + int64(t.counter.Get()) }

// used returns what was spent of what it was given.
func (t *tank) used() int64 { return t.given - max(0, t.left()) }

// pour gives the guest its next portion, false if there is too little left for what it
// has begun.
func (t *tank) pour() bool {
	all := t.left()
	if all < 0 {
		return false
	}
	t.rest = max(0, all-portion)
	t.counter.Set(uint64(all - t.rest))
	return true
}

// take takes fuel for what the host does.
func (t *tank) take(units int64) bool {
	t.counter.Set(t.counter.Get() - uint64(units))
	return t.left() >= 0
}

// bindFuel makes what guests ask for their next portion of fuel.
func bindFuel(ctx context.Context, r wazero.Runtime) error {
	b := r.NewHostModuleBuilder(fuel.RefillModule)
	more := func(ctx context.Context, _ []uint64) { ctx.Value(guestKey{}).(*guest).goOn() }
	b.NewFunctionBuilder().WithGoFunction(api.GoFunc(more), nil, nil).Export(fuel.RefillName)
	if _, err := b.Instantiate(ctx); err != nil {
		return fmt.Errorf("module %s: %w", fuel.RefillModule, err)
	}
	return nil
}

// goOn gives a guest its next portion, or stops it: because it has no fuel left, or
// its calls go too deep, or by the clock, or because nobody waits for it.
func (g *guest) goOn() {
	if !g.fuel.pour() {
		panic(errFuel)
	}
	if g.stacks.size(g.active) > g.v.maxStack() {
		panic(errDeep)
	}
	g.inTime(max(within, g.within))
}

// charge takes fuel for what the host does for a guest: its own code is bounded by
// fuel, what the host does for it would not be.
func (g *guest) charge(units int64) {
	if !g.fuel.take(units) {
		panic(errFuel)
	}
	g.inTime(g.within)
}

// chargeFor takes a unit for each 64 bytes that the host reads or writes, as the guest
// pays for its own.
func (g *guest) chargeFor(b []byte) {
	if len(b) >= 64 {
		g.charge(int64(len(b) / 64))
	}
}

// inTime stops a guest for which nobody waits, or that has begun too long ago.
func (g *guest) inTime(within time.Duration) {
	if g.running.Err() != nil {
		panic(errGone)
	}
	if time.Since(g.begun) > within {
		panic(errOvertime)
	}
}
