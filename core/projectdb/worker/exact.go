package worker

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/eiderdb/eider/core/duck"
)

// A file must bring back what was exported. DuckDB writes values of some types so
// that they are read as others: those are written as texts, and cast when they are
// read.

// asText are the types, wherever in a column's, that a format cannot hold: Parquet
// makes DOUBLEs of HUGEINTs, takes the microseconds off intervals and the zone off
// times, and JSON is read with other bytes, or not at all.
var asText = map[string][]string{
	FormatParquet: {"UHUGEINT", "HUGEINT", "INTERVAL", "TIME WITH TIME ZONE"},
	FormatJSON:    {"BLOB", "BIT", "BIGNUM"},
}

// readAsText are those of which a reader cannot make values: that of CSV takes any
// text that is no time for NULL.
var readAsText = map[string][]string{FormatJSON: asText[FormatJSON], FormatCSV: {"TIMESTAMP WITH TIME ZONE", "TIME WITH TIME ZONE"}}

// typeParts splits a type as DuckDB writes it: quoted names and values, words, and
// what is between.
var typeParts = regexp.MustCompile(`"(?:[^"]|"")*"|'(?:[^']|'')*'|TIMESTAMP WITH TIME ZONE|TIME WITH TIME ZONE|[\pL_][\pL\pN_]*|[^"'\pL_]+`)

// within replaces the types in another by VARCHAR.
func within(kind string, types []string) string {
	var out strings.Builder
	done := 0
	for _, at := range typeParts.FindAllStringIndex(kind, -1) {
		isName := strings.HasPrefix(kind[at[1]:], " ") // of a field, before its type
		if !isName && slices.Contains(types, kind[at[0]:at[1]]) {
			out.WriteString(kind[done:at[0]] + "VARCHAR")
			done = at[1]
		}
	}
	return out.String() + kind[done:]
}

// nested reports whether values of the type consist of others.
func nested(kind string) bool {
	return strings.ContainsAny(kind, "[(") && !isDecimal(kind) && !strings.HasPrefix(kind, "ENUM(")
}

func isDecimal(kind string) bool { return decimal.MatchString(kind) }

var decimal = regexp.MustCompile(`^DECIMAL\((\d+),\d+\)$`)

// wide reports whether a decimal may have more digits than a DOUBLE, as which DuckDB
// reads JSON's numbers.
func wide(kind string) bool {
	m := decimal.FindStringSubmatch(kind)
	if m == nil {
		return false
	}
	digits, err := strconv.Atoi(m[1])
	return err != nil || digits > 15
}

// exactly is the expression by which a column is written into a file of the format.
func exactly(ctx context.Context, conn *duck.Conn, table, format string, c Column) (string, error) {
	name, other, stays := quote(c.Name), within(c.Type, asText[format]), ""
	switch {
	case format == FormatJSON && wide(c.Type):
		other, stays = "VARCHAR", fmt.Sprintf(`TRY_CAST(%[1]s::VARCHAR::DOUBLE AS %[2]s) IS NOT DISTINCT FROM %[1]s`, name, c.Type)
	case other == c.Type, format == FormatJSON && !nested(c.Type): // which is a text there
		return name, nil
	case format == FormatJSON:
		other = "VARCHAR"
	case c.Type == "HUGEINT", c.Type == "UHUGEINT":
		stays = fmt.Sprintf(`(%[1]s IS NULL OR TRY_CAST(%[1]s AS DECIMAL(38,0)) IS NOT NULL)`, name)
	}
	if stays != "" { // most numbers, such as a sum(), have so few digits that they can stay numbers
		var all bool
		err := answer(ctx, conn, &all, fmt.Sprintf(`SELECT coalesce(bool_and(%s), true)::VARCHAR FROM %s`, stays, table))
		switch {
		case err != nil:
			return "", err
		case all && format == FormatJSON:
			return name, nil
		case all:
			other = "DECIMAL(38,0)"
		}
	}
	return "CAST(" + name + " AS " + other + ") AS " + name, nil
}

// readAs is the type as which a field is read that fills a column of the type.
func readAs(format, kind string) string {
	if within(kind, readAsText[format]) != kind {
		return "VARCHAR"
	}
	return kind
}

// inexact says what of a column's values a file of the format may not have told.
func inexact(format, kind string) string {
	switch {
	case format == FormatCSV && within(kind, []string{"UNION"}) != kind:
		return "a CSV file does not tell of which member of a UNION a value is: each is of the first that it goes with"
	case format == FormatJSON && nested(kind) && wideWithin.MatchString(kind):
		return "decimals of more than 15 digits that lie within other values are rounded"
	}
	return ""
}

var wideWithin = regexp.MustCompile(`DECIMAL\((1[6-9]|[23]\d),`)
