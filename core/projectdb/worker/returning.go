package worker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// The rows of RETURNING cannot stand in a query that renders them: they are
// rendered here, as DuckDB would as far as Arrow still tells.

// typeNames are the types of DuckDB by those of Arrow.
var typeNames = map[arrow.Type]string{
	arrow.BOOL: "BOOLEAN", arrow.INT8: "TINYINT", arrow.INT16: "SMALLINT", arrow.INT32: "INTEGER", arrow.INT64: "BIGINT",
	arrow.UINT8: "UTINYINT", arrow.UINT16: "USMALLINT", arrow.UINT32: "UINTEGER", arrow.UINT64: "UBIGINT",
	arrow.FLOAT32: "FLOAT", arrow.FLOAT64: "DOUBLE", arrow.STRING: "VARCHAR", arrow.LARGE_STRING: "VARCHAR", arrow.STRING_VIEW: "VARCHAR",
	arrow.BINARY: "BLOB", arrow.LARGE_BINARY: "BLOB", arrow.DATE32: "DATE", arrow.TIME64: "TIME", arrow.INTERVAL_MONTH_DAY_NANO: "INTERVAL",
}

func typeName(t arrow.DataType) string {
	switch t := t.(type) {
	case *arrow.TimestampType:
		if t.TimeZone != "" {
			return "TIMESTAMP WITH TIME ZONE"
		}
		return map[arrow.TimeUnit]string{arrow.Second: "TIMESTAMP_S", arrow.Millisecond: "TIMESTAMP_MS", arrow.Nanosecond: "TIMESTAMP_NS"}[t.Unit] + or(t.Unit == arrow.Microsecond, "TIMESTAMP")
	case arrow.DecimalType:
		return fmt.Sprintf("DECIMAL(%d,%d)", t.GetPrecision(), t.GetScale())
	case *arrow.ListType:
		return typeName(t.Elem()) + "[]"
	case *arrow.FixedSizeListType:
		return fmt.Sprintf("%s[%d]", typeName(t.Elem()), t.Len())
	case *arrow.MapType:
		return "MAP(" + typeName(t.KeyType()) + ", " + typeName(t.ItemType()) + ")"
	case *arrow.StructType:
		var fields []string
		for _, f := range t.Fields() {
			name := f.Name
			if !bare.MatchString(name) {
				name = quote(name)
			}
			fields = append(fields, name+" "+typeName(f.Type))
		}
		return "STRUCT(" + strings.Join(fields, ", ") + ")"
	case *arrow.DictionaryType:
		return typeName(t.ValueType)
	case arrow.ExtensionType:
		return typeName(t.StorageType())
	}
	if name := typeNames[t.ID()]; name != "" {
		return name
	}
	return strings.ToUpper(t.Name())
}

// bare are names that DuckDB shows without quotes, but for its keywords.
var bare = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

func or(yes bool, s string) string {
	if yes {
		return s
	}
	return ""
}

// rowJSON renders a row as an object, in the order of its columns.
func rowJSON(batch arrow.RecordBatch, row int) (json.RawMessage, error) {
	var out bytes.Buffer
	for i, column := range batch.Columns() {
		name, err := json.Marshal(batch.ColumnName(i))
		if err != nil {
			return nil, err
		}
		out.WriteByte("{,"[min(i, 1)])
		out.Write(name)
		out.WriteByte(':')
		value, err := valueJSON(column, row)
		if err != nil {
			return nil, err
		}
		out.Write(value)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// layout is how DuckDB writes a time.
const layout = "2006-01-02 15:04:05.999999"

func valueJSON(column arrow.Array, row int) ([]byte, error) {
	if column.IsNull(row) {
		return []byte("null"), nil
	}
	switch column := column.(type) {
	case *array.Decimal128: // a number, as in the rows of a SELECT
		return []byte(column.ValueStr(row)), nil
	case *array.Float64:
		if f := column.Value(row); math.IsInf(f, 0) || math.IsNaN(f) {
			return noNumber(f), nil
		}
	case *array.Float32:
		if f := float64(column.Value(row)); math.IsInf(f, 0) || math.IsNaN(f) {
			return noNumber(f), nil
		}
	case *array.Timestamp:
		of, ok := column.DataType().(*arrow.TimestampType)
		if !ok {
			break
		}
		switch column.Value(row) {
		case maxTimestamp:
			return []byte(`"infinity"`), nil
		case -maxTimestamp:
			return []byte(`"-infinity"`), nil
		}
		text := column.Value(row).ToTime(of.Unit).UTC().Format(layout)
		return json.Marshal(text + or(of.TimeZone != "", "+00"))
	}
	return json.Marshal(column.GetOneForMarshal(row))
}

// noNumber is the text for what JSON has no number for.
func noNumber(f float64) []byte {
	switch {
	case math.IsInf(f, 1):
		return []byte(`"Infinity"`)
	case math.IsInf(f, -1):
		return []byte(`"-Infinity"`)
	}
	return []byte(`"NaN"`)
}

// maxTimestamp is DuckDB's infinity.
const maxTimestamp = arrow.Timestamp(1<<63 - 1)
