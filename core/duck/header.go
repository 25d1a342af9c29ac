package duck

import (
	"encoding/binary"
	"fmt"
)

// A database file begins with a header that never changes and two more, which
// checkpoints write in turn: of these the one with the higher iteration counts.
// Each is a checksum and its words. Behind them stand the blocks.
const (
	headerSize = 4096
	blocksAt   = 3 * headerSize
)

// fileHeader is what we read of one of the two.
type fileHeader struct {
	slot      int // 1 or 2
	iteration uint64
	blockSize int64
}

// of returns the bytes of the header's slot.
func (h fileHeader) of(headers []byte) []byte {
	return headers[h.slot*headerSize : (h.slot+1)*headerSize]
}

// sound reports whether the bytes of a header fit its checksum: a sum that knows
// no order, which is DuckDB's choice.
func sound(header []byte) bool {
	sum := uint64(5381)
	for at := 8; at < headerSize; at += 8 {
		sum ^= binary.LittleEndian.Uint64(header[at:]) * 0xbf58476d1ce4e5b9
	}
	return sum == binary.LittleEndian.Uint64(header)
}

func parseHeader(header []byte) (h fileHeader, whole bool) {
	h.iteration = binary.LittleEndian.Uint64(header[8:])
	h.blockSize = int64(binary.LittleEndian.Uint64(header[40:]))
	if h.blockSize == 0 {
		h.blockSize = 256 << 10
	}
	return h, sound(header)
}

// newestHeader returns the header that counts and the one that the next
// checkpoint overwrites.
func newestHeader(headers []byte) (newest, older fileHeader, err error) {
	one, whole1 := parseHeader(headers[headerSize : 2*headerSize])
	two, whole2 := parseHeader(headers[2*headerSize:])
	if !whole1 || !whole2 || !sound(headers[:headerSize]) {
		return newest, older, fmt.Errorf("%w: a header fails its checksum", ErrCorrupt)
	}
	one.slot, two.slot = 1, 2
	if one.iteration > two.iteration {
		return one, two, nil
	}
	return two, one, nil
}
