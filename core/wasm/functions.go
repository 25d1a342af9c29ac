package wasm

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

const hostModule = "eider"

// What host functions answer instead of a length.
const (
	codeNotFound   = -1
	codeNotGranted = -2
	codeMalformed  = -3
	codeLimit      = -4
	codeFailed     = -5
)

const (
	i32 = api.ValueTypeI32
	i64 = api.ValueTypeI64

	maxKVCalls  = 64
	maxReads    = 16
	maxRequests = 16
)

// hostFunction is a function that guests may import. It is called with the guest
// that calls it and its arguments, and answers an i32 or i64.
type hostFunction struct {
	name       string
	capability string
	params     []api.ValueType
	result     api.ValueType
	do         func(g *guest, args []uint64) int64
}

var hostFunctions = []hostFunction{
	{"log", capLog, []api.ValueType{i32, i32, i32}, i32, (*guest).log},
	{"kv_get", capKV, []api.ValueType{i32, i32, i32, i32}, i32, (*guest).kvGet},
	{"kv_set", capKV, []api.ValueType{i32, i32, i32, i32, i64}, i32, (*guest).kvSet},
	{"kv_delete", capKV, []api.ValueType{i32, i32}, i32, (*guest).kvDelete},
	{"kv_add", capKV, []api.ValueType{i32, i32, i64, i64, i32}, i32, (*guest).kvAdd},
	{"kv_cas", capKV, []api.ValueType{i32, i32, i32, i32, i32, i32, i64}, i32, (*guest).kvCAS},
	{"metadata_read", capMetadata, []api.ValueType{i32, i32, i32, i32}, i32, (*guest).metadataRead},
	{"http_request", capHTTP, []api.ValueType{i32, i32, i32, i32}, i32, (*guest).httpRequest},
	{"clock_now_ms", capClock, nil, i64, (*guest).clockNow},
}

// bind makes the modules that guests import from. What a guest was not granted is
// there and says so.
func bind(ctx context.Context, r wazero.Runtime) error {
	b := r.NewHostModuleBuilder(hostModule)
	for _, f := range hostFunctions {
		b.NewFunctionBuilder().WithGoFunction(api.GoFunc(f.call), f.params, []api.ValueType{f.result}).Export(f.name)
	}
	if _, err := b.Instantiate(ctx); err != nil {
		return fmt.Errorf("module %s: %w", hostModule, err)
	}
	env := r.NewHostModuleBuilder("env")
	env.NewFunctionBuilder().WithGoFunction(api.GoFunc(abort), []api.ValueType{i32, i32, i32, i32}, nil).Export("abort")
	if _, err := env.Instantiate(ctx); err != nil {
		return fmt.Errorf("module env: %w", err)
	}
	return bindFuel(ctx, r)
}

// call is what wazero calls.
func (f hostFunction) call(ctx context.Context, stack []uint64) {
	g := ctx.Value(guestKey{}).(*guest)
	g.charge(hostCall)
	result := int64(codeNotGranted)
	if g.v.has(f.capability) {
		result = f.do(g, stack)
	}
	if f.result == i32 {
		stack[0] = uint64(uint32(int32(result)))
	} else {
		stack[0] = uint64(result)
	}
}

func abort(context.Context, []uint64) { panic(errTrap) }

// text returns a view of what a guest points at; pointers outside its memory trap.
func (g *guest) text(ptr, n uint64) []byte {
	b, ok := g.mem.Read(uint32(ptr), uint32(n))
	if !ok {
		panic(errTrap)
	}
	g.chargeFor(b)
	return b
}

// answer writes into a guest's buffer what fits there whole.
func (g *guest) answer(b []byte, buf, limit uint64) int64 {
	if uint64(len(b)) <= uint64(uint32(limit)) && !g.mem.Write(uint32(buf), b) {
		panic(errTrap)
	}
	g.chargeFor(b)
	return int64(len(b))
}

func (g *guest) log(args []uint64) int64 {
	text := g.text(args[1], args[2])
	if !utf8.Valid(text) {
		return codeMalformed
	}
	if !g.lines.line(int32(args[0]), string(text[:min(len(text), maxLine)])) {
		return codeLimit
	}
	return 0
}

func (g *guest) clockNow([]uint64) int64 { return time.Now().UnixMilli() }

// kvKey opens a call of kv: its key, or why there is none.
func (g *guest) kvKey(ptr, n uint64) (string, int64) {
	if g.kvCalls++; g.kvCalls > maxKVCalls {
		return "", codeLimit
	}
	key := g.text(ptr, n)
	if len(key) == 0 || len(key) > maxKey {
		return "", codeMalformed
	}
	return string(key), 0
}

// ttl returns how long a value is to live, or false for what cannot be.
func ttl(ms uint64) (time.Duration, bool) {
	const most = 10 * 365 * 24 * time.Hour
	if int64(ms) < 0 || int64(ms) > most.Milliseconds() {
		return 0, false
	}
	return time.Duration(ms) * time.Millisecond, true
}

func (g *guest) kvGet(args []uint64) int64 {
	key, code := g.kvKey(args[0], args[1])
	if code != 0 {
		return code
	}
	value, ok := g.kv().get(key)
	if !ok {
		return codeNotFound
	}
	return g.answer(value, args[2], args[3])
}

func (g *guest) kvSet(args []uint64) int64 {
	key, code := g.kvKey(args[0], args[1])
	if code != 0 {
		return code
	}
	value := g.text(args[2], args[3])
	life, ok := ttl(args[4])
	if !ok || len(value) > maxValue {
		return codeMalformed
	}
	return g.kv().set(key, value, life)
}

func (g *guest) kvDelete(args []uint64) int64 {
	key, code := g.kvKey(args[0], args[1])
	if code != 0 {
		return code
	}
	g.kv().delete(key)
	return 0
}

func (g *guest) kvAdd(args []uint64) int64 {
	key, code := g.kvKey(args[0], args[1])
	if code != 0 {
		return code
	}
	life, ok := ttl(args[3])
	if !ok {
		return codeMalformed
	}
	out := g.text(args[4], 8)
	sum, code := g.kv().add(key, int64(args[2]), life)
	if code == 0 {
		binary.LittleEndian.PutUint64(out, uint64(sum))
	}
	return code
}

func (g *guest) kvCAS(args []uint64) int64 {
	key, code := g.kvKey(args[0], args[1])
	if code != 0 {
		return code
	}
	var old []byte
	absent := int32(args[3]) == -1
	if !absent {
		old = g.text(args[2], args[3])
	}
	value := g.text(args[4], args[5])
	life, ok := ttl(args[6])
	if !ok || len(value) > maxValue {
		return codeMalformed
	}
	return g.kv().swap(key, old, absent, value, life)
}

func (g *guest) metadataRead(args []uint64) int64 {
	if g.reads++; g.reads > maxReads {
		return codeLimit
	}
	answer, code := g.v.host.Metadata.read(g.running, g.text(args[0], args[1]))
	if code != 0 {
		return code
	}
	return g.answer(answer, args[2], args[3])
}

func (g *guest) httpRequest(args []uint64) int64 {
	if uint32(args[1]) == 0 {
		if g.kept == nil {
			return codeNotFound
		}
		return g.answer(g.kept, args[2], args[3])
	}
	if g.instead != nil {
		return codeNotGranted // a try has no effect
	}
	if g.requests++; g.requests > maxRequests {
		return codeLimit
	}
	ctx, cancel := context.WithDeadline(g.running, g.begun.Add(g.within))
	defer cancel()
	answer, code := g.v.sender.send(ctx, g.flat, g.text(args[0], args[1]))
	g.kept = answer
	if code != 0 {
		return code
	}
	return g.answer(answer, args[2], args[3])
}

// kv is the space that the call works on.
func (g *guest) kv() *space {
	if g.instead != nil {
		return g.instead
	}
	return g.v.kv
}
