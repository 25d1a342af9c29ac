package gate

import (
	"context"
	"fmt"

	"github.com/eiderdb/eider/core/duck"
)

const foreign = `SELECT coalesce(string_agg(what, ', ' ORDER BY what), '') FROM (
		SELECT DISTINCT 'macro ' || schema_name || '.' || function_name AS what
			FROM system.main.duckdb_functions() WHERE NOT internal
		UNION ALL SELECT 'type ' || schema_name || '.' || type_name FROM system.main.duckdb_types()
			WHERE NOT internal AND database_name = current_database()
		UNION ALL SELECT 'sequence ' || schema_name || '.' || sequence_name FROM system.main.duckdb_sequences()
	) AS t`

// Foreign names the macros, types and sequences that a file brings, which may
// give another meaning to the names that the gate allows; empty if there are
// none. A worker asks it of a file that it opens, and serves no tenant's SQL on
// one that has any.
func Foreign(ctx context.Context, conn *duck.Conn) (string, error) {
	names, err := conn.Text(ctx, foreign)
	if err != nil {
		return "", fmt.Errorf("look for macros: %w", err)
	}
	return names, nil
}
