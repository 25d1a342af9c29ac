//go:build duckdb_arrow

package duck

import (
	"fmt"
	"math"
	"time"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
	bindings "github.com/duckdb/duckdb-go-bindings"
)

// gathering makes batches of rows of simple types, of several of DuckDB's chunks each,
// in memory that is used again for the next. DuckDB converts every type, one chunk at
// a time into memory of its own: that, and what a batch of Arrow costs however few
// rows it has, is a sixth of what a large answer takes.
type gathering struct {
	schema  *arrow.Schema
	columns []gathered
	rows    int
}

// The bounds of a batch: another chunk is added only below all of them.
const (
	gatherRows  = 6 << 10
	gatherTexts = 256 << 10 // in bytes
	gatherFor   = 50 * time.Millisecond
)

// gathered is a column of a batch.
type gathered struct {
	take    taker
	values  []byte // of texts the offsets
	texts   []byte
	valid   []byte // a bit for each row
	invalid int    // rows
}

// taker adds n values to a column that has had rows before, whose memory for them is
// set aside in valid.
type taker func(c *gathered, data unsafe.Pointer, rows, n int) error

// gather returns what makes batches of rows of these types, or nil where it cannot.
func gather(schema *arrow.Schema, types []bindings.LogicalType) *gathering {
	g := &gathering{schema: schema, columns: make([]gathered, len(types))}
	for i, t := range types {
		take := takerOf(t)
		if take == nil || len(types) != schema.NumFields() {
			return nil
		}
		g.columns[i].take = take
	}
	return g
}

func takerOf(t bindings.LogicalType) taker {
	if bindings.LogicalTypeGetAlias(t) != "" {
		return nil // its type in Arrow may be one of its own
	}
	switch bindings.GetTypeId(t) {
	case bindings.TypeBoolean:
		return takeBits
	case bindings.TypeTinyInt, bindings.TypeUTinyInt:
		return take[int8]
	case bindings.TypeSmallInt, bindings.TypeUSmallInt:
		return take[int16]
	case bindings.TypeInteger, bindings.TypeUInteger, bindings.TypeFloat, bindings.TypeDate:
		return take[int32]
	case bindings.TypeBigInt, bindings.TypeUBigInt, bindings.TypeDouble, bindings.TypeTime,
		bindings.TypeTimestamp, bindings.TypeTimestampTZ, bindings.TypeTimestampS, bindings.TypeTimestampMS, bindings.TypeTimestampNS:
		return take[int64]
	case bindings.TypeHugeInt:
		return take[decimal128.Num]
	case bindings.TypeVarchar, bindings.TypeBlob:
		return takeTexts
	case bindings.TypeDecimal:
		switch bindings.DecimalInternalType(t) {
		case bindings.TypeSmallInt:
			return takeDecimals[int16]
		case bindings.TypeInteger:
			return takeDecimals[int32]
		case bindings.TypeBigInt:
			return takeDecimals[int64]
		case bindings.TypeHugeInt:
			return take[decimal128.Num]
		}
	}
	return nil
}

// add adds a chunk, which is not needed afterwards.
func (g *gathering) add(chunk bindings.DataChunk) error {
	n := int(bindings.DataChunkGetSize(chunk))
	for i := range g.columns {
		c, vector := &g.columns[i], bindings.DataChunkGetVector(chunk, bindings.IdxT(i))
		c.valid = room(c.valid, int(bitutil.BytesForBits(int64(g.rows+n)))-len(c.valid))
		if mask := bindings.VectorGetValidity(vector); mask == nil {
			bitutil.SetBitsTo(c.valid, int64(g.rows), int64(n), true)
		} else {
			bits := unsafe.Slice((*byte)(mask), bitutil.BytesForBits(int64(n)))
			bitutil.CopyBitmap(bits, 0, n, c.valid, g.rows)
			c.invalid += n - bitutil.CountSetBits(bits, 0, n)
		}
		if err := c.take(c, bindings.VectorGetData(vector), g.rows, n); err != nil {
			return err
		}
	}
	g.rows += n
	return nil
}

// full reports whether a batch should get no more.
func (g *gathering) full() bool {
	size := 0
	for i := range g.columns {
		size += len(g.columns[i].texts)
	}
	return g.rows >= gatherRows || size >= gatherTexts
}

// batch returns what was added. It is good until the next is begun.
func (g *gathering) batch() arrow.RecordBatch {
	columns := make([]arrow.Array, len(g.columns))
	for i := range g.columns {
		c, kind := &g.columns[i], g.schema.Field(i).Type
		buffers := []*memory.Buffer{nil, memory.NewBufferBytes(c.values)}
		if c.invalid > 0 {
			buffers[0] = memory.NewBufferBytes(c.valid)
		}
		if kind.ID() == arrow.STRING || kind.ID() == arrow.BINARY {
			buffers = append(buffers, memory.NewBufferBytes(c.texts))
		}
		data := array.NewData(kind, g.rows, buffers, nil, c.invalid, 0)
		columns[i] = array.MakeFromData(data)
		data.Release()
	}
	batch := array.NewRecordBatch(g.schema, columns, int64(g.rows))
	for _, c := range columns {
		c.Release()
	}
	return batch
}

// keepTexts is how much of the memory of a column's texts is used again, in bytes.
const keepTexts = 4 << 20

// begin begins another batch.
func (g *gathering) begin() {
	g.rows = 0
	for i := range g.columns {
		c := &g.columns[i]
		if cap(c.texts) > keepTexts {
			c.texts = nil
		}
		c.values, c.texts, c.valid, c.invalid = c.values[:0], c.texts[:0], c.valid[:0], 0
	}
}

// room returns b with n bytes more, which are to be overwritten. Values of 8 bytes
// can stand at its beginning.
func room(b []byte, n int) []byte {
	if len(b)+n <= cap(b) {
		return b[:len(b)+n]
	}
	size := len(b) + n
	more := make([]byte, size, max(size, 2*cap(b), 64))
	copy(more, b)
	return more
}

// placed returns where the next n values of a column go.
func placed[T any](c *gathered, n int) []T {
	before, size := len(c.values), int(unsafe.Sizeof(*new(T)))
	c.values = room(c.values, n*size)
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(c.values[before:]))), n)
}

// take takes values that are to Arrow what they are to DuckDB.
func take[T int8 | int16 | int32 | int64 | decimal128.Num](c *gathered, data unsafe.Pointer, _, n int) error {
	copy(placed[T](c, n), unsafe.Slice((*T)(data), n))
	return nil
}

func takeDecimals[T int16 | int32 | int64](c *gathered, data unsafe.Pointer, _, n int) error {
	into := placed[decimal128.Num](c, n)
	for i, v := range unsafe.Slice((*T)(data), n) {
		into[i] = decimal128.FromI64(int64(v))
	}
	return nil
}

// takeBits takes booleans, of which DuckDB has a byte each.
func takeBits(c *gathered, data unsafe.Pointer, rows, n int) error {
	c.values = room(c.values, len(c.valid)-len(c.values))
	for i, v := range unsafe.Slice((*byte)(data), n) {
		bitutil.SetBitTo(c.values, rows+i, v&1 != 0)
	}
	return nil
}

// text is how DuckDB holds a text: a short one here, of another the first bytes and
// where it is.
type text struct {
	length uint32
	short  [shortText]byte
}

const shortText = 12

func (t *text) bytes() []byte {
	if t.length <= shortText {
		return t.short[:t.length]
	}
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&t.short[4])), t.length)
}

func takeTexts(c *gathered, data unsafe.Pointer, rows, n int) error {
	all := unsafe.Slice((*text)(data), n)
	if rows == 0 {
		placed[int32](c, 1)[0] = 0
	}
	ends, length := placed[int32](c, n), len(c.texts)
	for i := range all {
		if bitutil.BitIsSet(c.valid, rows+i) {
			length += int(all[i].length)
		}
		ends[i] = int32(length)
	}
	if length > math.MaxInt32 {
		return fmt.Errorf("rows as Arrow: texts of %d bytes in one batch", length)
	}
	into := c.texts
	c.texts = room(c.texts, length-len(c.texts))
	into = c.texts[len(into):]
	for i := range all {
		if bitutil.BitIsSet(c.valid, rows+i) {
			into = into[copy(into, all[i].bytes()):]
		}
	}
	return nil
}
