package worker

import (
	"context"
	"strconv"
	"strings"

	"github.com/eiderdb/eider/core/duck"
)

// headed leaves out the fields that a line has beyond the header, for which DuckDB
// made names up: read without them, that line is told by its number. A name that
// stands in the header is no such one, whatever it is.
func (in *importing) headed(ctx context.Context, conn *duck.Conn) error {
	if last := len(in.fields) - 1; last < 1 || !madeUp(in.fields[last], last) {
		return nil
	}
	plain := *in
	plain.CSV.Header = false
	var first []*string
	err := answer(ctx, conn, &first, "SELECT to_json([*COLUMNS(*)])::VARCHAR FROM (FROM "+plain.lenient()+" LIMIT 1)")
	if err != nil {
		return in.unreadable(ctx, err)
	}
	in.fields = named(in.fields, first)
	return nil
}

// named returns the fields up to the last whose name stands in the first line.
func named(fields []string, first []*string) []string {
	n := len(fields)
	for n > 1 && madeUp(fields[n-1], n-1) && (n > len(first) || first[n-1] == nil || *first[n-1] != fields[n-1]) {
		n--
	}
	if n == 1 && madeUp(fields[0], 0) {
		return fields // none has a name
	}
	return fields[:n]
}

// madeUp reports whether a field's name is one that DuckDB gives to the field in this
// place, counted from 0, if it has none. Of ten and more fields all have two digits.
func madeUp(name string, place int) bool {
	digits, ok := strings.CutPrefix(name, "column")
	n, err := strconv.Atoi(digits)
	return ok && err == nil && n == place && digits[0] != '+' && digits[0] != '-'
}

// lenient is a CSV file as a table of texts, whatever its lines are.
func (in *importing) lenient() string {
	return "read_csv('" + quoteText(in.path(inFile)) + "', all_varchar=true, strict_mode=false, null_padding=true, ignore_errors=true" + in.dialect() + ")"
}
