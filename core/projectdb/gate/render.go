package gate

import (
	"context"
	"strings"

	"github.com/eiderdb/eider/core/duck"
)

// Rendered returns the statement with another list behind RETURNING: for each column
// first its value as JSON, as DuckDB writes it, then for each its type. The rows of
// a statement that writes cannot stand in a query that renders them.
func (c Checked) Rendered(ctx context.Context, conn *duck.Conn) (string, error) {
	g := &gate{ctx: ctx, conn: conn}
	t, err := g.parse("SELECT ", piece{text: c.Returning}, "\n")
	if err != nil {
		return "", err
	}
	var values, types []string
	for _, item := range t.node().list("select_list") {
		o, ok := item.(map[string]any)
		if !ok {
			return "", unfaithful(nil)
		}
		o["alias"] = ""
		t.node()["select_list"] = []any{item}
		sql, err := g.write(t)
		if err != nil {
			return "", err
		}
		one := strings.TrimPrefix(sql, "SELECT ")
		if isStar(item) || node(o).string("class") == "STAR" && o["columns"] == false {
			one = "COLUMNS(" + one + ")"
		}
		values = append(values, "CAST(to_json("+one+") AS VARCHAR)")
		types = append(types, "typeof("+one+")")
	}
	return strings.TrimSuffix(c.SQL, c.Returning) + strings.Join(append(values, types...), ", "), nil
}
