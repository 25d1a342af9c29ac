package worker

import (
	"context"
	"slices"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb/gate"
	"github.com/eiderdb/eider/core/projectdb/wire"
)

// The texts of tenants pass here on their way into statements, and nowhere else.

// harmless are the operations that put no text of a tenant into a statement, and
// need none of the names that a foreign file could give another meaning.
var harmless = []string{
	"ping", wire.OpSettled, wire.OpCheckpoint, "applied", "measure", "list_buckets", "get_bucket", "list_tables", "get_table", "drop_bucket", "drop_table",
}

// trusts refuses what the gate could not vouch for in a file with macros, types or
// sequences of its own. No statement that passes makes one: the file is from
// elsewhere.
func (w *worker) trusts(op string) error {
	if w.foreign == "" || slices.Contains(harmless, op) {
		return nil
	}
	return eider.Errorf(eider.StatementNotAllowed, "the project's database holds what was not made here, which could give other meanings to names: %s; take it out with DuckDB itself", clip(w.foreign))
}

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
	if c, ok := said(err); ok {
		return "", eider.Errorf(eider.InvalidColumnType, "the default does not go with the type: %s", c.Words).
			LoggedAs("the default does not go with the type: " + gate.ForLog(c))
	}
	return checked, err
}
