package wasm

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"
)

const wasiModule = "wasi_snapshot_preview1"

// The errors of WASI that are answered here.
const (
	wasiOK, wasiBadFile, wasiInvalid, wasiNoSystem = 0, 8, 28, 52

	maxVectors       = 1024
	maxSubscriptions = 64
)

// wasiFunctions are the part of WASI that guests' runtimes need. wazero has all of
// it, but what it does for one call grows with the guest's memory and costs the
// guest nothing: random_get of 16 MiB, poll_oneoff of 300,000 subscriptions.
var wasiFunctions = map[string]struct {
	params string // i and l
	do     func(g *guest, args []uint64) int64
}{
	"args_get":          {"ii", func(*guest, []uint64) int64 { return wasiOK }},
	"args_sizes_get":    {"ii", (*guest).wasiNone},
	"environ_get":       {"ii", func(*guest, []uint64) int64 { return wasiOK }},
	"environ_sizes_get": {"ii", (*guest).wasiNone},
	"clock_time_get":    {"ili", (*guest).wasiClock},
	"fd_write":          {"iiii", (*guest).wasiWrite},
	"poll_oneoff":       {"iiii", (*guest).wasiPoll},
	"random_get":        {"ii", (*guest).wasiRandom},
	"sched_yield":       {"", func(*guest, []uint64) int64 { return wasiOK }},
}

// bindWASI makes what the module imports of WASI. What is not there answers so: a
// runtime that looks for files finds none.
func bindWASI(ctx context.Context, r wazero.Runtime, m wazero.CompiledModule) error {
	b := r.NewHostModuleBuilder(wasiModule)
	for _, d := range m.ImportedFunctions() {
		module, name, _ := d.Import()
		if module != wasiModule {
			continue
		}
		if name == "proc_exit" {
			b.NewFunctionBuilder().WithGoFunction(api.GoFunc(exit), []api.ValueType{i32}, nil).Export(name)
			continue
		}
		f, ok := wasiFunctions[name]
		params := d.ParamTypes()
		if ok {
			params = nil
			for _, c := range f.params {
				params = append(params, map[rune]api.ValueType{'i': i32, 'l': i64}[c])
			}
		} else {
			code := int64(wasiNoSystem)
			if strings.HasPrefix(name, "fd_") {
				code = wasiBadFile
			}
			f.do = func(*guest, []uint64) int64 { return code }
		}
		call := func(ctx context.Context, stack []uint64) {
			g := ctx.Value(guestKey{}).(*guest)
			g.charge(hostCall)
			code := f.do(g, stack)
			if len(stack) > 0 {
				stack[0] = uint64(code)
			}
		}
		b.NewFunctionBuilder().WithGoFunction(api.GoFunc(call), params, []api.ValueType{i32}).Export(name)
	}
	if _, err := b.Instantiate(ctx); err != nil {
		return fmt.Errorf("module %s: %w", wasiModule, err)
	}
	return nil
}

func exit(_ context.Context, stack []uint64) { panic(sys.NewExitError(uint32(stack[0]))) }

// wasiNone answers that there are no arguments, or no environment.
func (g *guest) wasiNone(args []uint64) int64 {
	clear(g.text(args[0], 4))
	clear(g.text(args[1], 4))
	return wasiOK
}

// stoodAt is when the clock of a guest stands that was not granted one.
const stoodAt = 1764225600 * int64(time.Second)

func (g *guest) wasiClock(args []uint64) int64 {
	if uint32(args[0]) > 1 {
		return wasiInvalid
	}
	now := time.Now().UnixNano()
	if !g.v.has(capClock) {
		g.ticks++
		now = stoodAt + g.ticks*int64(time.Millisecond)
	}
	binary.LittleEndian.PutUint64(g.text(args[2], 8), uint64(now))
	return wasiOK
}

func (g *guest) wasiWrite(args []uint64) int64 {
	fd, count := uint32(args[0]), uint32(args[2])
	if fd != 1 && fd != 2 {
		return wasiBadFile
	}
	if count > maxVectors {
		return wasiInvalid
	}
	g.charge(int64(count))
	written := uint32(0)
	for i := range uint64(count) {
		v := g.text(args[1]+8*i, 8)
		text := g.text(uint64(binary.LittleEndian.Uint32(v)), uint64(binary.LittleEndian.Uint32(v[4:])))
		if g.v.has(capLog) {
			_, _ = g.lines.Write(text[:min(len(text), maxLine)]) // it never fails
		}
		written += uint32(len(text))
	}
	binary.LittleEndian.PutUint32(g.text(args[3], 4), written)
	return wasiOK
}

// wasiPoll has everything that is waited for happen at once: guests do not sleep.
func (g *guest) wasiPoll(args []uint64) int64 {
	n := uint64(uint32(args[2]))
	if n == 0 || n > maxSubscriptions {
		return wasiInvalid
	}
	g.charge(int64(n))
	for i := range n {
		in, out := g.text(args[0]+48*i, 48), g.text(args[1]+32*i, 32)
		happened := [32]byte{10: in[8]} // its type
		copy(happened[:8], in)
		copy(out, happened[:])
	}
	binary.LittleEndian.PutUint32(g.text(args[3], 4), uint32(n))
	return wasiOK
}

// wasiRandom gives bytes that look random and are the same for each guest: the
// same event must get the same verdict.
func (g *guest) wasiRandom(args []uint64) int64 {
	into := g.text(args[0], args[1])
	g.charge(int64(len(into)) / 16)
	if g.random == nil {
		g.random = rand.NewChaCha8([32]byte{})
	}
	_, _ = g.random.Read(into) // it never fails
	return wasiOK
}

// hostCall is what every call of the host costs, in fuel.
const hostCall = 100
