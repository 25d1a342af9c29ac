package worker

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb/gate"
)

// native reports whether rows of these columns become text here. DuckDB can do it
// for every type, in more processor time; what it would write is what the cells below
// write.
func native(columns []duck.Column) bool {
	names := map[string]bool{}
	for _, c := range columns {
		name := gate.Fold(c.Name)
		if c.Type == "" || names[name] {
			return false // of two columns of one name, DuckDB gives the second another
		}
		names[name] = true
	}
	return len(columns) > 0
}

// cell appends the text of one row's value.
type cell func(buf []byte, row int) []byte

// notation is how a form writes values.
type notation struct {
	null   string
	text   func(buf []byte, s string) []byte
	double func(buf []byte, f float64) []byte
	quote  string // around dates
	// DuckDB makes doubles of decimals that have no more digits than this.
	asDouble int
	// Before the point of a number stands a digit. DuckDB leaves it out of a decimal
	// whose digits are all behind the point.
	zero bool
}

var (
	jsonNotation = notation{null: "null", text: appendJSONText, double: appendJSONDouble, quote: `"`, asDouble: 15, zero: true}
	csvNotation  = notation{text: appendField, double: appendDouble}
)

// cells are those of a batch, one for each column.
func (n *notation) cells(batch arrow.RecordBatch, columns []QueryColumn) ([]cell, error) {
	all := make([]cell, len(columns))
	for i := range all {
		column := batch.Column(i)
		one := n.cell(column, columns[i].Type)
		if one == nil {
			return nil, fmt.Errorf("a column of type %s came as %s", columns[i].Type, column.DataType())
		}
		all[i] = one
		if column.NullN() > 0 {
			all[i] = func(buf []byte, row int) []byte {
				if column.IsNull(row) {
					return append(buf, n.null...)
				}
				return one(buf, row)
			}
		}
	}
	return all, nil
}

func (n *notation) cell(column arrow.Array, kind string) cell {
	switch a := column.(type) {
	case *array.Boolean:
		return func(buf []byte, row int) []byte { return strconv.AppendBool(buf, a.Value(row)) }
	case *array.Int8:
		return signed(a.Int8Values())
	case *array.Int16:
		return signed(a.Int16Values())
	case *array.Int32:
		return signed(a.Int32Values())
	case *array.Int64:
		return signed(a.Int64Values())
	case *array.Uint8:
		return unsigned(a.Uint8Values())
	case *array.Uint16:
		return unsigned(a.Uint16Values())
	case *array.Uint32:
		return unsigned(a.Uint32Values())
	case *array.Uint64:
		return unsigned(a.Uint64Values())
	case *array.Float64:
		values := a.Float64Values()
		return func(buf []byte, row int) []byte { return n.double(buf, values[row]) }
	case *array.String:
		return func(buf []byte, row int) []byte { return n.text(buf, a.Value(row)) }
	case *array.Decimal128:
		var width, scale int
		if _, err := fmt.Sscanf(kind, "DECIMAL(%d,%d)", &width, &scale); err != nil {
			return nil
		}
		if width <= n.asDouble {
			unit := math.Pow10(scale) // exact, as the digits are: what is nearest to the quotient is nearest to the decimal
			return func(buf []byte, row int) []byte { return n.double(buf, float64(int64(a.Value(row).LowBits()))/unit) }
		}
		zero := n.zero || width > scale
		return func(buf []byte, row int) []byte {
			return appendDecimal(buf, int64(a.Value(row).LowBits()), scale, zero)
		}
	case *array.Date32:
		values := a.Date32Values()
		return func(buf []byte, row int) []byte {
			return append(appendDate(append(buf, n.quote...), values[row]), n.quote...)
		}
	case *array.Timestamp:
		values := a.TimestampValues()
		return func(buf []byte, row int) []byte {
			return append(appendTimestamp(append(buf, n.quote...), values[row]), n.quote...)
		}
	}
	return nil
}

func signed[T int8 | int16 | int32 | int64](values []T) cell {
	return func(buf []byte, row int) []byte { return strconv.AppendInt(buf, int64(values[row]), 10) }
}

func unsigned[T uint8 | uint16 | uint32 | uint64](values []T) cell {
	return func(buf []byte, row int) []byte { return strconv.AppendUint(buf, uint64(values[row]), 10) }
}

// appendDecimal writes the number v * 10^-scale, where it is below 1 with or without
// a zero before the point.
func appendDecimal(buf []byte, v int64, scale int, zero bool) []byte {
	if scale == 0 {
		return strconv.AppendInt(buf, v, 10)
	}
	magnitude := uint64(v)
	if v < 0 {
		buf, magnitude = append(buf, '-'), -magnitude
	}
	var digits [24]byte
	text := strconv.AppendUint(digits[:0], magnitude, 10)
	if n := len(text) - scale; n > 0 {
		buf = append(buf, text[:n]...)
		text = text[n:]
	} else if zero {
		buf = append(buf, '0')
	}
	buf = append(buf, '.')
	for range scale - len(text) {
		buf = append(buf, '0')
	}
	return append(buf, text...)
}

func appendDate(buf []byte, days arrow.Date32) []byte {
	switch days {
	case math.MaxInt32:
		return append(buf, "infinity"...)
	case -math.MaxInt32:
		return append(buf, "-infinity"...)
	}
	return appendDay(buf, time.Unix(int64(days)*86400, 0).UTC())
}

func appendDay(buf []byte, t time.Time) []byte {
	year, month, day := t.Date()
	era := ""
	if year <= 0 {
		year, era = 1-year, " (BC)"
	}
	for least := 1000; least > year; least /= 10 {
		buf = append(buf, '0')
	}
	buf = strconv.AppendInt(buf, int64(year), 10)
	return append(two(append(two(append(buf, '-'), int(month)), '-'), day), era...)
}

func two(buf []byte, n int) []byte { return append(buf, byte('0'+n/10), byte('0'+n%10)) }

func appendTimestamp(buf []byte, at arrow.Timestamp) []byte {
	switch at {
	case math.MaxInt64:
		return append(buf, "infinity"...)
	case -math.MaxInt64:
		return append(buf, "-infinity"...)
	}
	t := time.UnixMicro(int64(at)).UTC()
	buf = appendDay(buf, t)
	hour, minute, second := t.Clock()
	buf = two(append(two(append(two(append(buf, ' '), hour), ':'), minute), ':'), second)
	if micros := t.Nanosecond() / 1000; micros != 0 {
		buf = append(buf, '.')
		for unit := 100_000; micros > 0; unit /= 10 {
			buf = append(buf, byte('0'+micros/unit))
			micros %= unit
		}
	}
	return buf
}

// appendDouble writes the shortest text that reads as f, as DuckDB's cast does.
func appendDouble(buf []byte, f float64) []byte {
	switch {
	case math.IsNaN(f) && math.Signbit(f):
		return append(buf, "-nan"...)
	case math.IsNaN(f):
		return append(buf, "nan"...)
	case math.IsInf(f, 1):
		return append(buf, "inf"...)
	case math.IsInf(f, -1):
		return append(buf, "-inf"...)
	}
	return appendFinite(buf, f, -4, 16, true)
}

// appendJSONDouble writes a number as DuckDB's to_json does, and the others as
// texts.
func appendJSONDouble(buf []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(buf, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(buf, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(buf, `"-Infinity"`...)
	}
	return appendFinite(buf, f, -6, 21, false)
}

// appendFinite writes the shortest text that reads as f, with an exponent where it
// would be below least or not below most.
func appendFinite(buf []byte, f float64, least, most int, padded bool) []byte {
	if n := int64(f); float64(n) == f && n != 0 && n > -1e15 && n < 1e15 {
		return append(strconv.AppendInt(buf, n, 10), ".0"...)
	}
	var space [32]byte
	text := strconv.AppendFloat(space[:0], f, 'e', -1, 64) // d.ddde+xx
	mark := bytes.IndexByte(text, 'e')
	exponent, _ := strconv.Atoi(string(text[mark+1:]))
	switch {
	case exponent >= least && exponent < most:
		return appendFixed(buf, text[:mark], exponent)
	case padded:
		return append(buf, text...)
	}
	buf = append(append(buf, text[:mark]...), 'e')
	return strconv.AppendInt(buf, int64(exponent), 10)
}

// appendFixed writes d.ddd * 10^exponent without the exponent.
func appendFixed(buf, mantissa []byte, exponent int) []byte {
	if mantissa[0] == '-' {
		buf, mantissa = append(buf, '-'), mantissa[1:]
	}
	digits := mantissa[:1]
	if len(mantissa) > 2 {
		digits = append(digits, mantissa[2:]...) // over the point
	}
	if exponent < 0 {
		buf = append(buf, "0."...)
		for range -1 - exponent {
			buf = append(buf, '0')
		}
		return append(buf, digits...)
	}
	n := min(exponent+1, len(digits))
	buf = append(buf, digits[:n]...)
	for range exponent + 1 - n {
		buf = append(buf, '0')
	}
	buf = append(buf, '.')
	if n == len(digits) {
		return append(buf, '0')
	}
	return append(buf, digits[n:]...)
}

// plainBytes are those that stand in a JSON text as they are.
var plainBytes = func() (plain [256]bool) {
	for b := range plain {
		plain[b] = b >= ' ' && b != '"' && b != '\\'
	}
	return plain
}()

// appendJSONText writes a text as RFC 8259 has it, with all that may be as it is.
func appendJSONText(buf []byte, s string) []byte {
	buf = append(buf, '"')
	from := 0
	for i := range len(s) {
		if plainBytes[s[i]] {
			continue
		}
		buf = append(append(buf, s[from:i]...), '\\')
		from = i + 1
		switch s[i] {
		case '"', '\\':
			buf = append(buf, s[i])
		case '\b':
			buf = append(buf, 'b')
		case '\f':
			buf = append(buf, 'f')
		case '\n':
			buf = append(buf, 'n')
		case '\r':
			buf = append(buf, 'r')
		case '\t':
			buf = append(buf, 't')
		default:
			const hex = "0123456789ABCDEF"
			buf = append(buf, 'u', '0', '0', hex[s[i]>>4], hex[s[i]&15])
		}
	}
	return append(append(buf, s[from:]...), '"')
}
