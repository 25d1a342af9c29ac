package plugin

import (
	"runtime"
	"unsafe"
)

// border holds what the host writes into and what it reads from. Both are kept, so
// that they stay where they are while the host uses them.
type border struct{ in, out []byte }

var buffers = &border{}

//go:wasmexport eider_abi_version
func abiVersion() int32 { return 1 << 16 }

//go:wasmexport eider_encoding
func encoding() int32 { return 1 }

//go:wasmexport eider_alloc
func alloc(size int32) uint32 { return buffers.alloc(int(size)) }

//go:wasmexport eider_configure
func configure(ptr, size uint32) uint64 {
	if err := plugin.configure(JSON(buffers.given(ptr, size))); err != nil {
		return buffers.give([]byte(err.Error()))
	}
	return 0
}

// An event that cannot be read, and a plugin without a function for it, have no
// answer, and the host takes that for what it is: malformed.

//go:wasmexport eider_decide
func decide(ptr, size uint32) uint64 {
	e, err := readEvent(buffers.given(ptr, size))
	if err != nil || plugin.decide == nil {
		return 0
	}
	return buffers.give(plugin.decide(e).append(buffers.out[:0]))
}

// The collector of Go runs beside the program, here during calls alone: a cycle that it
// begins by itself costs up to most of a decision's fuel, in ten times as many steps as
// one at a time when nothing else runs. The server calls this between two calls.
//
//go:wasmexport eider_rest
func rest() { runtime.GC() }

// collected is how large a batch may be without the garbage of the last one being
// collected first. The collector runs only while a call does and falls behind batches
// of half a megabyte: a guest of 16 MiB ran out of memory after some hundred.
const collected = 64 << 10

//go:wasmexport eider_deliver
func deliver(ptr, size uint32) uint64 {
	if size > collected {
		runtime.GC()
	}
	b, err := readBatch(buffers.given(ptr, size))
	if err != nil || plugin.deliver == nil {
		return 0
	}
	return buffers.give(plugin.deliver(b).append(buffers.out[:0]))
}

func (b *border) alloc(size int) uint32 {
	if size < 0 {
		return 0
	}
	if size > cap(b.in) || size == 0 {
		b.in = make([]byte, max(4096, size))
	}
	return address(b.in)
}

func (b *border) given(ptr, size uint32) []byte {
	if ptr != address(b.in) || int(size) > cap(b.in) {
		return nil
	}
	return b.in[:size]
}

func (b *border) give(answer []byte) uint64 {
	b.out = answer
	if len(answer) == 0 {
		return 0
	}
	return uint64(address(answer))<<32 | uint64(len(answer))
}

func address(of []byte) uint32 { return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(of)))) }

func addressOf(s string) uint32 { return uint32(uintptr(unsafe.Pointer(unsafe.StringData(s)))) }

//go:wasmimport eider log
func hostLog(level int32, ptr, size uint32) int32

//go:wasmimport eider kv_get
func hostGet(kptr, klen, buf, limit uint32) int32

//go:wasmimport eider kv_set
func hostSet(kptr, klen, vptr, vlen uint32, ttlMS int64) int32

//go:wasmimport eider kv_delete
func hostDelete(kptr, klen uint32) int32

//go:wasmimport eider kv_add
func hostAdd(kptr, klen uint32, delta, ttlMS int64, sum uint32) int32

//go:wasmimport eider kv_cas
func hostSwap(kptr, klen, optr uint32, olen int32, vptr, vlen uint32, ttlMS int64) int32

//go:wasmimport eider metadata_read
func hostMetadata(ptr, size, buf, limit uint32) int32

//go:wasmimport eider http_request
func hostHTTP(ptr, size, buf, limit uint32) int32

//go:wasmimport eider clock_now_ms
func hostClock() int64

func callLog(level int32, text string) int32 {
	return hostLog(level, addressOf(text), uint32(len(text)))
}

func callGet(key string, buf []byte) int32 {
	return hostGet(addressOf(key), uint32(len(key)), address(buf), uint32(len(buf)))
}

func callSet(key, value string, ttlMS int64) int32 {
	return hostSet(addressOf(key), uint32(len(key)), addressOf(value), uint32(len(value)), ttlMS)
}

func callDelete(key string) int32 { return hostDelete(addressOf(key), uint32(len(key))) }

func callAdd(key string, delta, ttlMS int64) (int64, int32) {
	sum := new(int64)
	code := hostAdd(addressOf(key), uint32(len(key)), delta, ttlMS, uint32(uintptr(unsafe.Pointer(sum))))
	return *sum, code
}

func callSwap(key string, old *string, value string, ttlMS int64) int32 {
	optr, olen := uint32(0), int32(-1)
	if old != nil {
		optr, olen = addressOf(*old), int32(len(*old))
	}
	return hostSwap(addressOf(key), uint32(len(key)), optr, olen, addressOf(value), uint32(len(value)), ttlMS)
}

func callMetadata(question string, buf []byte) int32 {
	return hostMetadata(addressOf(question), uint32(len(question)), address(buf), uint32(len(buf)))
}

func callHTTP(request, buf []byte) int32 {
	return hostHTTP(address(request), uint32(len(request)), address(buf), uint32(len(buf)))
}

func callClock() int64 { return hostClock() }
