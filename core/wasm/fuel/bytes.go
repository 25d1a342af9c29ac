package fuel

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// reader reads the binary format. The first thing that is wrong stays in err, and
// what is read from then on is zero.
type reader struct {
	b   []byte
	at  int
	err error
}

var (
	errShort  = errors.New("it ends too early")
	errNumber = errors.New("a number is too long")
)

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
		r.at = len(r.b)
	}
}

func (r *reader) done() bool { return r.err != nil || r.at >= len(r.b) }

func (r *reader) byte() byte {
	if r.at >= len(r.b) {
		r.fail(errShort)
		return 0
	}
	r.at++
	return r.b[r.at-1]
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b)-r.at {
		r.fail(errShort)
		return nil
	}
	r.at += n
	return r.b[r.at-n : r.at]
}

// u32 reads an unsigned LEB128 number of at most 32 bits.
func (r *reader) u32() uint32 {
	var v uint64
	for shift := 0; shift < 35; shift += 7 {
		c := r.byte()
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			if v > math.MaxUint32 {
				r.fail(errNumber)
				return 0
			}
			return uint32(v)
		}
	}
	r.fail(errNumber)
	return 0
}

// signed reads a signed LEB128 number of at most so many bits.
func (r *reader) signed(bits int) (v int64) {
	for i := range (bits + 6) / 7 {
		c := r.byte()
		v |= int64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if left := 64 - 7*(i+1); left > 0 {
				v = v << left >> left
			}
			return v
		}
	}
	r.fail(errNumber)
	return 0
}

// count reads the length of a vector whose items have at least one byte each, so
// that a module cannot say more than it holds.
func (r *reader) count() int {
	n := r.u32()
	if int64(n) > int64(len(r.b)-r.at) {
		r.fail(errShort)
		return 0
	}
	return int(n)
}

func (r *reader) name() string {
	b := r.take(r.count())
	if !utf8.Valid(b) {
		r.fail(errors.New("a name is no UTF-8"))
	}
	return string(b)
}

// valueType reads the type of a value. Those of one byte are taken alone: of others the
// host would read more, and see another module from there on.
func (r *reader) valueType() byte {
	switch t := r.byte(); t {
	case 0x7f, 0x7e, 0x7d, 0x7c, 0x7b, typeFuncref, typeExternref: // i32, i64, f32, f64, v128
		return t
	default:
		r.fail(fmt.Errorf("a value of type %#x", t))
		return 0
	}
}

// refType reads the type of a reference.
func (r *reader) refType() byte {
	t := r.byte()
	if t != typeFuncref && t != typeExternref {
		r.fail(fmt.Errorf("a reference of type %#x", t))
	}
	return t
}

func appendU32(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func appendS64(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if (v == 0 && c&0x40 == 0) || (v == -1 && c&0x40 != 0) {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func appendName(b []byte, s string) []byte { return append(appendU32(b, uint32(len(s))), s...) }

func appendSection(b []byte, id byte, content []byte) []byte {
	return append(appendU32(append(b, id), uint32(len(content))), content...)
}
