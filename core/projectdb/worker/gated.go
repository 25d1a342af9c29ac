package worker

import (
	"context"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb/gate"
)

// The texts of tenants pass here on their way into statements, and nowhere else.

// quote returns a name as an identifier.
func quote(name string) string { return gate.Quote(name) }

// checkWhere returns a condition that may stand in a WHERE.
func checkWhere(ctx context.Context, conn *duck.Conn, clause string) (string, error) {
	return gate.Where(ctx, conn, clause)
}

// checkType returns a type as DuckDB writes it.
func checkType(ctx context.Context, conn *duck.Conn, text string) (string, error) {
	return gate.Type(ctx, conn, text)
}

// checkDefault returns an expression that may stand behind DEFAULT, for a column
// of a checked type. DuckDB would refuse one that does not fit at the first row
// that needs it.
func checkDefault(ctx context.Context, conn *duck.Conn, text, kind string) (string, error) {
	checked, err := gate.Default(ctx, conn, text)
	if err != nil {
		return "", err
	}
	_, err = conn.Text(ctx, `SELECT coalesce(CAST((`+checked+`) AS `+kind+`)::VARCHAR, '')`)
	if words, ok := said(err); ok {
		return "", eider.Errorf(eider.InvalidColumnType, "the default does not go with the type: %s", words)
	}
	return checked, err
}
