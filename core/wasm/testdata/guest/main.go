// Command guest is a plugin for tests, written against the ABI alone. Its config,
// one flat object of texts, says what it does with the events of one operation,
// or of every one.
package main

import (
	"encoding/binary"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

func main() {}

var (
	config map[string]string
	buf    []byte
	out    []byte
)

//go:wasmexport eider_abi_version
func version() int32 { return 1 << 16 }

//go:wasmexport eider_encoding
func encoding() int32 { return 1 }

//go:wasmexport eider_alloc
func alloc(n uint32) unsafe.Pointer {
	if int(n) > cap(buf) {
		buf = make([]byte, n)
	}
	return unsafe.Pointer(unsafe.SliceData(buf))
}

//go:wasmimport eider log
func hostLog(level int32, text string) int32

//go:wasmimport eider kv_add
func kvAdd(key string, delta, ttl int64, out unsafe.Pointer) int32

func give(b []byte) uint64 {
	out = b
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(out))))<<32 | uint64(len(out))
}

//go:wasmexport eider_configure
func configure(p unsafe.Pointer, n uint32) uint64 {
	config = texts(string(unsafe.Slice((*byte)(p), n)))
	if why := config["refuse"]; why != "" {
		return give([]byte(why))
	}
	return 0
}

// texts reads an object of texts without escapes.
func texts(s string) map[string]string {
	parts := strings.Split(s, `"`)
	all := map[string]string{}
	for i := 1; i+2 < len(parts); i += 4 {
		all[parts[i]] = parts[i+2]
	}
	return all
}

//go:wasmexport eider_decide
func decide(p unsafe.Pointer, n uint32) uint64 {
	e := unsafe.Slice((*byte)(p), n)
	operation := string(e[5 : 5+binary.LittleEndian.Uint32(e[1:])])
	if on := config["on"]; on != "" && on != operation {
		return answer(0, 0, "")
	}
	switch config["do"] {
	case "deny":
		return answer(1, 0, config["reason"])
	case "warn":
		return answer(2, 0, config["reason"])
	case "count": // deny from the limit on
		var sum int64
		limit, _ := strconv.ParseInt(config["limit"], 10, 64)
		if code := kvAdd("n", 1, 0, unsafe.Pointer(&sum)); code != 0 {
			return answer(1, 0, "kv says "+strconv.Itoa(int(code)))
		}
		if sum > limit {
			return answer(1, 2, strconv.FormatInt(sum, 10)+" of "+config["limit"])
		}
	case "panic":
		panic("as the config says")
	case "loop":
		for {
		}
	case "sleep":
		time.Sleep(time.Hour)
	case "log":
		hostLog(1, "about "+operation)
		println("and on stderr")
	case "echo": // the whole event, to be compared
		return answer(2, 0, string(e))
	}
	return answer(0, 0, "")
}

func answer(word, code byte, reason string) uint64 {
	b := append(make([]byte, 0, 15+len(reason)), 1, word, code, 0, 0, 0, 0, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(reason)))
	return give(append(b, reason...))
}

//go:wasmexport eider_deliver
func deliver(p unsafe.Pointer, n uint32) uint64 {
	b := unsafe.Slice((*byte)(p), n)
	hostLog(1, "batch "+strconv.Itoa(int(n)))
	sink := 5 + binary.LittleEndian.Uint32(b[1:])
	first, last := binary.LittleEndian.Uint64(b[sink+8:]), binary.LittleEndian.Uint64(b[sink+16:])
	attempt := binary.LittleEndian.Uint32(b[sink+24:])
	var sum int64
	if config["do"] == "retry" && attempt == 1 {
		return answer2(1, "later")
	}
	kvAdd("rows", int64(last-first+1), 0, unsafe.Pointer(&sum))
	return answer2(0, "")
}

func answer2(status byte, reason string) uint64 {
	b := append(make([]byte, 0, 14+len(reason)), 1, status, 0, 0, 0, 0, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(reason)))
	return give(append(b, reason...))
}
