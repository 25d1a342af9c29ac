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
	duckdb "github.com/duckdb/duckdb-go/v2"
)

// gathering makes batches of rows of simple types, of several of DuckDB's chunks each,
// in memory that is used again for the next. DuckDB converts every type, one chunk at
// a time into memory of its own: that, and what a batch of Arrow costs however few
// rows it has, is a sixth of what a large answer takes.
type gathering struct {
	schema  *arrow.Schema
	columns []gathered
	rows    int
	chunk   bindings.DataChunk // of which rows are left
	from    int                // the first of them
	left    int
	texts   []texts // of them
}

// The bounds of a batch: another chunk is added only below all of them. Of a chunk
// whose texts are long the batch has some rows, and the next one others: a chunk is
// 2048 rows however long they are, and what Go has set aside once counts for the
// process for ever.
const (
	gatherRows  = 6 << 10
	gatherTexts = 256 << 10 // in bytes
	gatherFor   = 50 * time.Millisecond
	splitTexts  = 2 << 20 // in bytes
)

// gathered is a column of a batch.
type gathered struct {
	take    taker
	isText  bool
	values  []byte // of texts the offsets
	texts   []byte
	valid   []byte // a bit for each row
	invalid int    // rows
}

// taker adds a chunk's n values behind the first from to a column that has had rows
// before, for which valid tells already which of the new ones there are.
type taker func(c *gathered, data unsafe.Pointer, from, rows, n int) error

// gather returns what makes batches of rows of these types, or nil where it cannot.
func gather(schema *arrow.Schema, types []bindings.LogicalType) *gathering {
	g := &gathering{schema: schema, columns: make([]gathered, len(types))}
	for i, t := range types {
		take := takerOf(t)
		if take == nil || len(types) != schema.NumFields() {
			return nil
		}
		id := bindings.GetTypeId(t)
		g.columns[i].take, g.columns[i].isText = take, id == bindings.TypeVarchar || id == bindings.TypeBlob
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

// next takes a chunk over, of which rows are then added.
func (g *gathering) next(chunk bindings.DataChunk) {
	g.chunk, g.from, g.left = chunk, 0, int(bindings.DataChunkGetSize(chunk))
}

// drop lets go of what is left of a chunk.
func (g *gathering) drop() {
	if g.chunk.Ptr != nil {
		bindings.DestroyDataChunk(&g.chunk)
	}
	g.left = 0
}

// fitting returns how many of the rows that are left are to be added: all of them,
// or as many as there are before the batch's texts are too long, and one at least.
func (g *gathering) fitting() int {
	g.texts = g.texts[:0]
	size := g.size()
	for i := range g.columns {
		if g.columns[i].isText {
			t := textsOf(bindings.DataChunkGetVector(g.chunk, bindings.IdxT(i)), g.from, g.left)
			for row := range t.values {
				size += t.length(row)
			}
			g.texts = append(g.texts, t)
		}
	}
	if size <= splitTexts {
		return g.left
	}
	size = g.size()
	for row := range g.left {
		for i := range g.texts {
			size += g.texts[i].length(row)
		}
		if size > splitTexts {
			return max(row, 1)
		}
	}
	return g.left
}

// texts are a chunk's in one column.
type texts struct {
	values []text
	mask   []byte // nil: all of them are there
	from   int    // the first one's bit
}

func textsOf(vector bindings.Vector, from, n int) texts {
	t := texts{values: unsafe.Slice((*text)(bindings.VectorGetData(vector)), from+n)[from:], from: from}
	if mask := bindings.VectorGetValidity(vector); mask != nil {
		t.mask = unsafe.Slice((*byte)(mask), bitutil.BytesForBits(int64(from+n)))
	}
	return t
}

func (t *texts) length(row int) int {
	if t.mask != nil && !bitutil.BitIsSet(t.mask, t.from+row) {
		return 0
	}
	return int(t.values[row].length)
}

// add adds rows of the chunk, which is not needed afterwards if none is left.
func (g *gathering) add() error {
	n := g.fitting()
	for i := range g.columns {
		c, vector := &g.columns[i], bindings.DataChunkGetVector(g.chunk, bindings.IdxT(i))
		c.valid = room(c.valid, int(bitutil.BytesForBits(int64(g.rows+n)))-len(c.valid))
		if mask := bindings.VectorGetValidity(vector); mask == nil {
			bitutil.SetBitsTo(c.valid, int64(g.rows), int64(n), true)
		} else {
			bits := unsafe.Slice((*byte)(mask), bitutil.BytesForBits(int64(g.from+n)))
			bitutil.CopyBitmap(bits, g.from, n, c.valid, g.rows)
			c.invalid += n - bitutil.CountSetBits(bits, g.from, n)
		}
		if err := c.take(c, bindings.VectorGetData(vector), g.from, g.rows, n); err != nil {
			return err
		}
	}
	g.rows, g.from, g.left = g.rows+n, g.from+n, g.left-n
	if g.left == 0 {
		g.drop()
	}
	return nil
}

// size is how long the batch's texts are, in bytes.
func (g *gathering) size() (size int) {
	for i := range g.columns {
		size += len(g.columns[i].texts)
	}
	return size
}

// full reports whether a batch should get no more.
func (g *gathering) full() bool {
	return g.rows >= gatherRows || g.size() >= gatherTexts || g.rows > 0 && g.left > 0
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

// keepTexts is how much of the memory of a column's texts is used again, in bytes:
// what texts take that fit into a batch.
const keepTexts = 2 * splitTexts

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
func take[T int8 | int16 | int32 | int64 | decimal128.Num](c *gathered, data unsafe.Pointer, from, rows, n int) error {
	into := placed[T](c, n)
	copy(into, unsafe.Slice((*T)(data), from+n)[from:])
	blank(c, into, rows)
	return nil
}

func takeDecimals[T int16 | int32 | int64](c *gathered, data unsafe.Pointer, from, rows, n int) error {
	into := placed[decimal128.Num](c, n)
	for i, v := range unsafe.Slice((*T)(data), from+n)[from:] {
		into[i] = decimal128.FromI64(int64(v))
	}
	blank(c, into, rows)
	return nil
}

// blank makes zeros of the values that are NULL: DuckDB has left there what stood in
// its memory before.
func blank[T any](c *gathered, values []T, rows int) {
	if c.invalid == 0 {
		return
	}
	for i := range values {
		if !bitutil.BitIsSet(c.valid, rows+i) {
			values[i] = *new(T)
		}
	}
}

// takeBits takes booleans, of which DuckDB has a byte each.
func takeBits(c *gathered, data unsafe.Pointer, from, rows, n int) error {
	c.values = room(c.values, len(c.valid)-len(c.values))
	for i, v := range unsafe.Slice((*byte)(data), from+n)[from:] {
		bitutil.SetBitTo(c.values, rows+i, v&1 != 0 && bitutil.BitIsSet(c.valid, rows+i))
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

func takeTexts(c *gathered, data unsafe.Pointer, from, rows, n int) error {
	all := unsafe.Slice((*text)(data), from+n)[from:]
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
		return &duckdb.Error{Type: duckdb.ErrorTypeObjectSize, Msg: fmt.Sprintf("Object Size Error: a text of %d bytes is too long to be answered", length-len(c.texts))}
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
