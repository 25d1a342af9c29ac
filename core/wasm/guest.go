package wasm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
	"unicode/utf8"

	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/wasm/fuel"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"
)

const (
	abiMajor = 1
	abiMinor = 1

	maxAnswer = 1 << 20
)

// Why a guest was thrown away. What callers are told is the text alone.
const (
	errFuel      = policy.Unable("it ran out of fuel")
	errTrap      = policy.Unable("it failed")
	errExit      = policy.Unable("it ended by itself")
	errOvertime  = policy.Unable("it took too long")
	errDeep      = policy.Unable("its calls go too deep")
	errGone      = policy.Unable("nobody waits for its answer any more")
	errMalformed = policy.Unable("its answer is malformed")
	errSink      = policy.Unable("it is a sink, which decides nothing")
	errNoRoom    = policy.Unable("the event does not fit into its memory")
)

// guest is one instance of a module. It belongs to whoever took it from its pool.
type guest struct {
	v     *version
	lines *lines
	mod   api.Module
	mem   api.Memory
	alloc api.Function
	call  api.Function // eider_decide or eider_deliver
	rest  api.Function // eider_rest; nil: it needs none
	calls int          // since it rested
	taken int          // bytes that it was given since then
	fuel  tank
	flat  bool
	born  int64 // bytes of its memory when it was ready

	ctx   context.Context // carries the guest itself to the host functions
	stack [2]uint64
	event []byte // kept for the next event

	stacks stacks

	// Of the call that runs.
	active   api.Function
	turn     chan struct{} // of its caller, nil where that one waits for nobody
	running  context.Context
	begun    time.Time
	within   time.Duration // for what the host does for it
	kvCalls  int
	reads    int
	requests int
	ticks    int64 // of a clock that stands
	random   *rand.ChaCha8
	instead  *space // of kv, for a try without effect
	kept     []byte // the last answer of http_request
}

type guestKey struct{}

// newGuest makes an instance and configures it. instead is a space of kv that it has in
// place of the plugin's, nil for one that answers calls.
func newGuest(ctx context.Context, v *version, instead *space) (*guest, error) {
	mod, err := v.runtime.InstantiateModule(ctx, v.compiled, v.moduleConfig())
	if err != nil {
		return nil, fmt.Errorf("instantiate: %w", err)
	}
	g := &guest{v: v, lines: v.lines, mod: mod, mem: mod.ExportedMemory("memory"), instead: instead}
	if instead != nil {
		g.lines = v.tried
	}
	g.ctx = context.WithValue(context.Background(), guestKey{}, g)
	if err := g.start(ctx); err != nil {
		return nil, errors.Join(err, g.close())
	}
	g.born = int64(g.mem.Size())
	g.shrink()
	return g, nil
}

// deep is how much fuel a call has used that may have made the guest's stack large: it
// buys some 32 bytes for each unit.
const deep = 1 << 16

// shrink lets go of the stack that a long call may have made large. It lies beside the
// guest's memory and belongs to the functions that are called.
func (g *guest) shrink() {
	if g.fuel.used() < deep {
		return
	}
	for _, f := range []*api.Function{&g.alloc, &g.call, &g.rest} {
		if *f != nil {
			*f = g.mod.ExportedFunction((*f).Definition().ExportNames()[0])
		}
	}
}

// usedUp reports that the guest's memory has grown so far that it may soon not grow
// any more. The runtime of Go collects its garbage in goroutines that run during calls
// alone, falls behind, and after some hundred thousand calls finds no memory: that call
// would be denied for nothing. A memory that was large from the start is no such sign.
func (g *guest) usedUp() bool {
	limit, size := int64(g.v.manifest.Limits.Memory), int64(g.mem.Size())
	return size > g.born && size >= max(limit/4*3, g.born+(limit-g.born)/2)
}

// starved reports that a call has failed because the guest had too little for it: fuel,
// stack, memory, or a caller that waits. The same call fails in the same way with every guest.
func (g *guest) starved(err error) bool {
	if errors.Is(err, errFuel) || errors.Is(err, errGone) || errors.Is(err, errDeep) {
		return true
	}
	// Some runtimes leave, others trap when there is no memory: what they have taken tells.
	return (errors.Is(err, errTrap) || errors.Is(err, errExit)) && g.usedUp()
}

func (g *guest) close() error { return g.mod.Close(context.Background()) }

// start runs what a module runs before it can be asked anything.
func (g *guest) start(ctx context.Context) error {
	counter, ok := g.mod.ExportedGlobal(fuel.Counter).(api.MutableGlobal)
	if !ok {
		return errors.New("the counter of fuel is not there")
	}
	g.fuel.counter = counter
	g.begin(ctx, g.v.startFuel(), startWithin)
	for _, name := range []string{fuel.Start, "_initialize"} {
		if f := g.mod.ExportedFunction(name); f != nil {
			if _, err := g.invoke(f); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if err := g.greet(); err != nil {
		return err
	}
	return g.configure()
}

// greet finds the exports and asks for the version.
func (g *guest) greet() error {
	if g.mem == nil {
		return errors.New("it does not export its memory")
	}
	name := "eider_decide"
	if g.v.manifest.Kind == Sink {
		name = "eider_deliver"
	}
	version, err := g.number("eider_abi_version")
	if err != nil {
		return err
	}
	if major, minor := version>>16, version&0xffff; major != abiMajor || minor > abiMinor {
		return fmt.Errorf("it speaks version %d.%d of the ABI, and this server %d.%d", major, minor, abiMajor, abiMinor)
	}
	if g.mod.ExportedFunction("eider_encoding") != nil {
		encoding, err := g.number("eider_encoding")
		if err != nil {
			return err
		}
		if encoding > 1 {
			return fmt.Errorf("its encoding is %d, which is neither 0 (JSON) nor 1 (flat)", encoding)
		}
		g.flat = encoding == 1
	}
	if g.alloc, err = g.export("eider_alloc", []api.ValueType{api.ValueTypeI32}, api.ValueTypeI32); err != nil {
		return err
	}
	if g.call, err = g.export(name, []api.ValueType{api.ValueTypeI32, api.ValueTypeI32}, api.ValueTypeI64); err != nil {
		return err
	}
	if g.mod.ExportedFunction("eider_rest") != nil {
		g.rest, err = g.export("eider_rest", nil)
	}
	return err
}

// A guest rests after so many calls, or so many bytes: what a few large events have left
// behind may be all the memory that another one needs.
const (
	restAfter = 1024
	restBytes = 512 << 10
)

// tired reports that the guest is to rest before its next call.
func (g *guest) tired() bool {
	return g.rest != nil && (g.calls >= restAfter || g.taken >= restBytes)
}

// relax lets the guest do what would be too much for a call, such as collecting its
// garbage, with the fuel of a start.
func (g *guest) relax() error {
	g.calls, g.taken = 0, 0
	g.begin(context.Background(), g.v.startFuel(), startWithin)
	defer func() { g.running = nil }()
	_, err := g.invoke(g.rest)
	return err
}

func (g *guest) number(name string) (uint32, error) {
	f, err := g.export(name, nil, api.ValueTypeI32)
	if err != nil {
		return 0, err
	}
	n, err := g.invoke(f)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return uint32(n), nil
}

// export returns an export of the guest that has the type it must have.
func (g *guest) export(name string, params []api.ValueType, results ...api.ValueType) (api.Function, error) {
	f := g.mod.ExportedFunction(name)
	if f == nil {
		return nil, fmt.Errorf("it does not export %s", name)
	}
	d := f.Definition()
	if string(d.ParamTypes()) != string(params) || string(d.ResultTypes()) != string(results) {
		return nil, fmt.Errorf("its export %s has another type than it must have", name)
	}
	return f, nil
}

func (g *guest) configure() error {
	f, err := g.export("eider_configure", []api.ValueType{api.ValueTypeI32, api.ValueTypeI32}, api.ValueTypeI64)
	if err != nil {
		return err
	}
	ptr, err := g.write(g.v.config)
	if err != nil {
		return fmt.Errorf("eider_configure: %w", err)
	}
	answer, err := g.invoke(f, uint64(ptr), uint64(len(g.v.config)))
	if err != nil {
		return fmt.Errorf("eider_configure: %w", err)
	}
	if answer == 0 {
		return nil
	}
	text, err := g.bytes(answer)
	if err != nil || !utf8.Valid(text) {
		return fmt.Errorf("eider_configure: %w", errMalformed)
	}
	return fmt.Errorf("it does not take its config: %s", cut(string(text), maxReason))
}

// begin opens a call: fuel is set anew, and what is counted for each call.
func (g *guest) begin(ctx context.Context, fuel int64, within time.Duration) {
	g.running, g.begun, g.within = ctx, time.Now(), within
	g.kvCalls, g.reads, g.requests, g.kept = 0, 0, 0, nil
	g.fuel.fill(fuel)
}

// invoke calls a function of the guest, and tells why it failed.
func (g *guest) invoke(f api.Function, params ...uint64) (uint64, error) {
	n := copy(g.stack[:], params)
	if n < len(g.stack) {
		g.stack[n] = 0
	}
	g.active = f
	err := f.CallWithStack(g.ctx, g.stack[:])
	if err == nil {
		return g.stack[0], nil
	}
	cause := errTrap
	var exit *sys.ExitError
	switch {
	case g.fuel.left() < 0:
		cause = errFuel
	case errors.As(err, &exit):
		cause = errExit
	case errors.Is(err, errOvertime):
		cause = errOvertime
	case errors.Is(err, errGone):
		cause = errGone
	case errors.Is(err, errDeep):
		cause = errDeep
	}
	return 0, &failure{cause, err}
}

// failure is why a guest failed: what callers may know, and what the log does.
type failure struct {
	cause  policy.Unable
	detail error
}

func (f *failure) Error() string   { return fmt.Sprintf("%s: %v", f.cause, f.detail) }
func (f *failure) Unwrap() []error { return []error{f.cause, f.detail} }

// write gives the guest bytes.
func (g *guest) write(b []byte) (uint32, error) {
	ptr, err := g.invoke(g.alloc, uint64(len(b)))
	if err != nil {
		return 0, err
	}
	if uint32(ptr) == 0 && len(b) > 0 {
		return 0, errNoRoom
	}
	if !g.mem.Write(uint32(ptr), b) {
		return 0, &failure{errMalformed, errors.New("eider_alloc gave a buffer outside the memory")}
	}
	return uint32(ptr), nil
}

// bytes returns what the guest points at. It is a view into its memory.
func (g *guest) bytes(answer uint64) ([]byte, error) {
	ptr, n := uint32(answer>>32), uint32(answer)
	if answer == 0 || n == 0 || n > maxAnswer {
		return nil, &failure{errMalformed, fmt.Errorf("it has %d bytes", n)}
	}
	b, ok := g.mem.Read(ptr, n)
	if !ok {
		return nil, &failure{errMalformed, errors.New("it lies outside the memory")}
	}
	return b, nil
}

// exchange gives the guest a message and returns its answer, a view into its
// memory.
func (g *guest) exchange(message []byte) ([]byte, error) {
	g.calls++
	g.taken += len(message)
	ptr, err := g.write(message)
	if err != nil {
		return nil, err
	}
	answer, err := g.invoke(g.call, uint64(ptr), uint64(len(message)))
	if err != nil {
		return nil, err
	}
	return g.bytes(answer)
}
