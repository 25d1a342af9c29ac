package duck

import (
	"fmt"

	bindings "github.com/duckdb/duckdb-go-bindings"
)

// Column is a column of a statement's rows.
type Column struct {
	Name string
	// Type is the type as DuckDB writes it, where it is a plain one: a number of at
	// most 64 bits, a text, a date or a time without a zone. It is empty for all
	// others.
	Type string
}

// Columns tells the columns of the rows that the statement would have. A type
// that depends on a parameter is empty.
func (s *Statement) Columns() ([]Column, error) {
	_, prepared, err := below(s.conn.conn, s.stmt)
	if err != nil {
		return nil, err
	}
	count := bindings.PreparedStatementColumnCount(prepared)
	names, types := make([]string, count), make([]bindings.LogicalType, count)
	for i := range count {
		names[i], types[i] = bindings.PreparedStatementColumnName(prepared, i), bindings.PreparedStatementColumnLogicalType(prepared, i)
	}
	defer destroy(types)
	return columnsOf(names, types), nil
}

func columnsOf(names []string, types []bindings.LogicalType) []Column {
	columns := make([]Column, len(names))
	for i, name := range names {
		columns[i] = Column{name, plainType(types[i])}
	}
	return columns
}

func destroy(types []bindings.LogicalType) {
	for i := range types {
		bindings.DestroyLogicalType(&types[i])
	}
}

var plainTypes = map[bindings.Type]string{
	bindings.TypeBoolean: "BOOLEAN", bindings.TypeTinyInt: "TINYINT", bindings.TypeSmallInt: "SMALLINT", bindings.TypeInteger: "INTEGER",
	bindings.TypeBigInt: "BIGINT", bindings.TypeUTinyInt: "UTINYINT", bindings.TypeUSmallInt: "USMALLINT", bindings.TypeUInteger: "UINTEGER",
	bindings.TypeUBigInt: "UBIGINT", bindings.TypeDouble: "DOUBLE", bindings.TypeVarchar: "VARCHAR", bindings.TypeDate: "DATE",
	bindings.TypeTimestamp: "TIMESTAMP",
}

// widestDecimal is the most digits that a DECIMAL of 64 bits has.
const widestDecimal = 18

func plainType(t bindings.LogicalType) string {
	id := bindings.GetTypeId(t)
	if id == bindings.TypeDecimal {
		if width := bindings.DecimalWidth(t); width <= widestDecimal {
			return fmt.Sprintf("DECIMAL(%d,%d)", width, bindings.DecimalScale(t))
		}
		return ""
	}
	name := plainTypes[id]
	if name != "" && bindings.LogicalTypeGetAlias(t) != "" {
		return "" // JSON is a VARCHAR with a name of its own
	}
	return name
}
