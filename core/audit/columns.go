package audit

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/eiderdb/eider/core/metadata"
)

const selectColumns = `SELECT column_name, upper(data_type) FROM information_schema.columns
	WHERE table_catalog = current_database() AND table_schema IN ('main', 'public') AND table_name = 'operations_log'
	ORDER BY ordinal_position`

// columnTypes are what databases call the kinds of columns.
var columnTypes = map[metadata.Kind][]string{
	metadata.Int:   {"BIGINT"},
	metadata.Text:  {"VARCHAR", "TEXT"},
	metadata.Time:  {"TIMESTAMP WITH TIME ZONE"},
	metadata.Bytes: {"BLOB", "BYTEA"},
}

// retyped tells of a column whose type somebody has changed, "" if there is none. What
// it holds cannot be read as what was written: neither it nor anything behind it.
func retyped[R metadata.Rows](ctx context.Context, query func(context.Context, string, ...any) (R, error)) (string, error) {
	rows, err := query(ctx, selectColumns)
	if err != nil {
		return "", fmt.Errorf("read the columns of the log: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name, is string
		if err := rows.Scan(&name, &is); err != nil {
			return "", fmt.Errorf("read the columns of the log: %w", err)
		}
		for _, c := range spec.Columns {
			if c.Name == name && !slices.Contains(columnTypes[c.Kind], is) {
				return fmt.Sprintf("the column %s has the type %s, not %s: somebody has changed it, and no row can be read as it was written",
					name, is, strings.Join(columnTypes[c.Kind], " or ")), nil
			}
		}
	}
	return "", rows.Err()
}

// unreadable is what a verification tells of a log with such a column.
func unreadable(detail string) Verification {
	all := []Broken{{ID: 1, Kind: "altered", Detail: detail}}
	return Verification{Breaks: all, BrokenAt: &all[0]}
}
