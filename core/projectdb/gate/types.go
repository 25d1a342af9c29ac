package gate

import (
	"context"
	"strings"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
)

// Type checks the type of a column and returns it as DuckDB writes it: int4
// becomes INTEGER. The types are those of DuckDB that a project's file can hold,
// with lists, arrays, structs, maps, unions, DECIMAL(p,s) and ENUM('a', 'b').
// Every refusal is InvalidColumnType.
func Type(ctx context.Context, conn *duck.Conn, text string) (string, error) {
	canonical, err := (&gate{ctx: ctx, conn: conn}).columnType(text)
	e := refusal(err)
	if e != nil && strings.Contains(e.Message, "type parameter") {
		// It is of such as int[0]: DuckDB can make no type of it, and says that it
		// cannot write it down.
		err = refuse("the type does not take these parameters").Because(err)
	}
	if e != nil {
		return "", recode(err, eider.InvalidColumnType)
	}
	return canonical, err
}

func (g *gate) columnType(text string) (string, error) {
	if _, err := scan(text); err != nil {
		return "", err
	}
	t, err := g.parse("SELECT CAST(NULL AS ", piece{text: text}, "\n)")
	if err != nil {
		return "", err
	}
	items := t.node().list("select_list")
	if !bare(t.node()) || len(items) != 1 {
		return "", refuse("a type is expected here, and nothing more")
	}
	cast, ok := items[0].(map[string]any)
	if !ok || !plainCast(cast) {
		return "", refuse("a type is expected here, and nothing more")
	}
	if err := storable(cast["cast_type"]); err != nil {
		return "", err
	}
	sql, err := g.checked(t, limits{})
	if err != nil {
		return "", err
	}
	return g.canonical(strings.TrimPrefix(sql, "SELECT "))
}

// canonical asks DuckDB for the type of a cast. This binds it, so that a name
// that is no type is found out.
func (g *gate) canonical(cast string) (string, error) {
	name, err := g.conn.Text(g.ctx, "SELECT typeof("+cast+")")
	if err != nil {
		return "", failure(err)
	}
	return name, nil
}

// plainCast tells CAST(NULL AS x) from anything that merely ends like it.
func plainCast(o node) bool {
	child := o.node("child")
	return o.string("class") == "CAST" && o.string("alias") == "" && o["try_cast"] != true &&
		child.string("class") == "CONSTANT" && child.node("value")["is_null"] == true
}

// storable refuses types that a file of the projects' storage version cannot
// hold, and those that are no type of a column.
func storable(v any) error {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if err := storable(e); err != nil {
				return err
			}
		}
	case map[string]any:
		o := node(v)
		for _, name := range []string{o.string("id"), o.string("name"), o.string("alias")} {
			switch strings.ToUpper(name) {
			case "VARIANT", "GEOMETRY", "TYPE", "NULL", "TIME_NS":
				return refuse("the type %s is not supported in projects", strings.ToUpper(name))
			}
		}
		if o.string("schema") != "" || o.string("catalog") != "" {
			return refuse("a type has no schema")
		}
		for _, e := range v {
			if err := storable(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// Default checks the default of a column and returns it as an expression. It is
// made from constants and from a few functions such as now() and uuid(): no
// column, no subquery, no parameter. Every refusal is
// InvalidColumnType, as that of a default which does not go with its column is.
func Default(ctx context.Context, conn *duck.Conn, text string) (string, error) {
	g := &gate{ctx: ctx, conn: conn}
	value, err := func() (string, error) {
		if _, err := scan(text); err != nil {
			return "", err
		}
		return g.expression(piece{text: text}, limits{
			noParameters: "a default has no parameters",
			noSubqueries: "a default has no subqueries",
			noColumns:    "a default names no columns; a text is written in single quotes",
			noStars:      "a default names no columns",
			only:         defaults,
		})
	}()
	if err == nil {
		_, err = g.canonical(value)
	}
	return value, recode(err, eider.InvalidColumnType)
}
