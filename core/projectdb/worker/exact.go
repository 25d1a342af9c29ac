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
var typeParts = regexp.MustCompile(`"(?:[^"]|"")*"|'(?:[^']|'')*'|TIMESTAMP WITH TIME ZONE|TIME WITH TIME ZONE|DECIMAL\(\d+,\d+\)|[\pL_][\pL\pN_]*|\[\d+\]|[^"'\pL_\[]+|\[`)

// within replaces the types in another by VARCHAR.
func within(kind string, types []string) string {
	var out strings.Builder
	done := 0
	for _, at := range typeParts.FindAllStringIndex(kind, -1) {
		isName := strings.HasPrefix(kind[at[1]:], " ") // of a field, before its type
		part := kind[at[0]:at[1]]
		if !isName && (slices.Contains(types, part) || slices.Contains(types, fraction) && isFraction(part)) {
			out.WriteString(kind[done:at[0]] + "VARCHAR")
			done = at[1]
		}
	}
	return out.String() + kind[done:]
}

// fixedSize is how a type tells how many values its arrays have.
var fixedSize = regexp.MustCompile(`^\[\d+\]$`)

// asLists returns the type with lists in place of arrays: DuckDB quotes the texts in
// the text of a list, and not those of an array. A list of the right length is cast to
// an array, and so is its text.
func asLists(kind string) string {
	return typeParts.ReplaceAllStringFunc(kind, func(part string) string {
		if fixedSize.MatchString(part) {
			return "[]"
		}
		return part
	})
}

// nested reports whether values of the type consist of others.
func nested(kind string) bool {
	return strings.ContainsAny(kind, "[(") && !isDecimal(kind) && !strings.HasPrefix(kind, "ENUM(")
}

func isDecimal(kind string) bool { return decimal.MatchString(kind) }

var decimal = regexp.MustCompile(`^DECIMAL\((\d+),(\d+)\)$`)

// fraction stands for the decimals whose digits are all behind the point, and too many
// for a DOUBLE. DuckDB writes them into JSON without a digit before the point, which
// is none of JSON's numbers.
const fraction = "DECIMAL(n,n)"

func isFraction(kind string) bool {
	m := decimal.FindStringSubmatch(kind)
	return m != nil && m[1] == m[2] && wide(kind)
}

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
	name := quote(c.Name)
	switch {
	case format == FormatCSV:
		return cast(name, c.Type, asLists(c.Type)), nil
	case format == FormatJSON && nested(c.Type):
		return nestedInJSON(ctx, conn, table, c)
	case format == FormatJSON:
		return plainInJSON(ctx, conn, table, c)
	case c.Type == "HUGEINT", c.Type == "UHUGEINT":
		all, err := everywhere(ctx, conn, table, fmt.Sprintf(`(%[1]s IS NULL OR TRY_CAST(%[1]s AS DECIMAL(38,0)) IS NOT NULL)`, name))
		if err != nil || all {
			return cast(name, c.Type, "DECIMAL(38,0)"), err
		}
	}
	return cast(name, c.Type, within(c.Type, asText[format])), nil
}

// cast is the column as one of another type.
func cast(name, from, to string) string {
	if to == from {
		return name
	}
	return "CAST(" + name + " AS " + to + ") AS " + name
}

// everywhere reports whether a condition holds for all rows.
func everywhere(ctx context.Context, conn *duck.Conn, table, condition string) (all bool, err error) {
	err = answer(ctx, conn, &all, fmt.Sprintf(`SELECT coalesce(bool_and(%s), true)::VARCHAR FROM %s`, condition, table))
	return all, err
}

// plainInJSON writes numbers that JSON cannot tell as texts. Most decimals, such as a
// sum(), have so few digits that they can stay numbers, and most doubles are finite.
func plainInJSON(ctx context.Context, conn *duck.Conn, table string, c Column) (string, error) {
	name := quote(c.Name)
	stays, number, other := "", name, ""
	switch {
	case wide(c.Type):
		stays = fmt.Sprintf(`TRY_CAST(%[1]s::VARCHAR::DOUBLE AS %[2]s) IS NOT DISTINCT FROM %[1]s`, name, c.Type)
		number, other = cast(name, c.Type, withDigitBefore(c.Type)), cast(name, c.Type, "VARCHAR")
	case c.Type == "DOUBLE", c.Type == "FLOAT":
		stays = fmt.Sprintf(`(%[1]s IS NULL OR isfinite(%[1]s))`, name)
		other = fmt.Sprintf(`CASE WHEN %[1]s IS NULL OR isfinite(%[1]s) THEN to_json(%[1]s) ELSE to_json(CASE WHEN isnan(%[1]s) THEN 'NaN' WHEN %[1]s > 0 THEN 'Infinity' ELSE '-Infinity' END) END AS %[1]s`, name)
	default:
		return name, nil
	}
	all, err := everywhere(ctx, conn, table, stays)
	if err != nil || all {
		return number, err
	}
	return other, nil
}

// withDigitBefore returns the type of decimals with a digit before the point, or that
// of texts where there are too many.
func withDigitBefore(kind string) string {
	digits := decimal.FindStringSubmatch(kind)[1]
	switch n, err := strconv.Atoi(digits); {
	case !isFraction(kind):
		return kind
	case err == nil && n < 38:
		return fmt.Sprintf("DECIMAL(%d,%d)", n+1, n)
	}
	return "VARCHAR"
}

// nestedInJSON writes values that consist of others as JSON has them, where a reader
// can make those again: numbers that are none of JSON's are texts therein.
func nestedInJSON(ctx context.Context, conn *duck.Conn, table string, c Column) (string, error) {
	name, texts := quote(c.Name), []string{fraction}
	if throughText(FormatJSON, c.Type) {
		return "CAST(CAST(" + name + " AS " + asLists(c.Type) + ") AS VARCHAR) AS " + name, nil
	}
	if doubles := []string{"DOUBLE", "FLOAT"}; within(c.Type, doubles) != c.Type {
		finite, err := everywhere(ctx, conn, table, fmt.Sprintf(`(%[1]s IS NULL OR NOT regexp_matches(to_json(%[1]s)::VARCHAR, 'NaN|Infinity'))`, name))
		if err != nil {
			return "", err
		}
		if !finite {
			texts = append(texts, doubles...)
		}
	}
	return cast(name, c.Type, within(c.Type, texts)), nil
}

// throughText reports whether a reader of the format can make no values of the type,
// so that they are read as texts and cast.
func throughText(format, kind string) bool {
	return within(kind, readAsText[format]) != kind || format == FormatJSON && nestedKey.MatchString(kind)
}

// nestedKey finds a MAP with keys that consist of values, of which JSON makes texts.
var nestedKey = regexp.MustCompile(`MAP\((?:STRUCT\(|MAP\(|UNION\(|[A-Z ]+(?:\(\d+,\d+\))?\[)`)

// readAs is the type as which a field is read that fills a column of the type.
func readAs(format, kind string) string {
	if throughText(format, kind) {
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
