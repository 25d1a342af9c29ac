package gate

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// limits are what a place allows less than others do: each is the sentence that
// refuses it, empty where it is allowed.
type limits struct {
	noParameters, noSubqueries, noColumns, noStars string
	// only are the functions that may be called, nil for all that are allowed.
	only map[string]bool
}

// walk looks at every node of a tree.
//
// It does not follow a grammar: every object is looked at, wherever it stands.
// One with a class is an expression, one with a type is something else. A class,
// a type or a key that is in no list is refused, so that what a newer DuckDB
// adds does not pass unseen.
type walk struct {
	limits
	offset int
	doubts []named // tables that are allowed only if they exist
}

// named is a table that a text names.
type named struct {
	catalog string
	Name
	at int
}

func (w *walk) value(v any) error {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if err := w.value(e); err != nil {
				return err
			}
		}
	case map[string]any:
		return w.object(v)
	}
	return nil
}

func (w *walk) object(o node) error {
	if err := w.known(o); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(o)) {
		child := o[key]
		if key == "function" && o.string("type") == "TABLE_FUNCTION" {
			// The name was looked at as that of a table function; arguments remain.
			child = o.node("function")["children"]
		}
		if err := w.value(child); err != nil {
			return err
		}
	}
	return nil
}

// known decides on an object by itself.
func (w *walk) known(o node) error {
	for key := range o {
		if !keys[key] {
			return refuseAt(w.at(o), "this statement has a part that is not allowed: %s", strings.ReplaceAll(strings.ToUpper(key), "_", " "))
		}
	}
	if _, ok := o["class"]; ok {
		return w.expression(o)
	}
	if _, ok := o["type"].(string); ok {
		return w.other(o)
	}
	if query, ok := o["value"].(map[string]any); ok && query["query"] != nil && unusual("", o.string("key")) {
		return refuse("a WITH query cannot be called %q: that is the name of a catalog table or of a file", clip(o.string("key"), 40))
	}
	return nil
}

func (w *walk) expression(o node) error {
	at := w.at(o)
	switch class := o.string("class"); class {
	case "CONSTANT", "CAST", "COMPARISON", "CONJUNCTION", "OPERATOR", "CASE", "BETWEEN", "LAMBDA", "COLLATE":
		return nil
	case "COLUMN_REF":
		return w.column(o, at)
	case "POSITIONAL_REFERENCE":
		return w.deny(w.noColumns, at)
	case "STAR":
		return w.deny(w.noStars, at)
	case "DEFAULT":
		return w.deny(w.noColumns, at)
	case "PARAMETER":
		return w.deny(w.noParameters, at)
	case "SUBQUERY":
		return w.deny(w.noSubqueries, at)
	case "FUNCTION", "WINDOW":
		return w.function(o, at)
	default:
		return refuseAt(at, "an expression of the class %s is not allowed", class)
	}
}

func (w *walk) deny(why string, at int) error {
	if why == "" {
		return nil
	}
	return refuseAt(at, "%s", why)
}

// column lets the words of SQL pass that look like columns to the parser.
func (w *walk) column(o node, at int) error {
	names := o.list("column_names")
	if w.noColumns == "" || len(names) == 1 && constants[Fold(names[0].(string))] {
		return nil
	}
	return w.deny(w.noColumns, at)
}

func (w *walk) function(o node, at int) error {
	name := Fold(o.string("function_name"))
	if err := w.owner(o, name, at); err != nil {
		return err
	}
	if o["export_state"] == true {
		return refuseAt(at, "EXPORT_STATE is not allowed")
	}
	if w.only != nil && !w.only[name] {
		return refuseAt(at, "the function %s is not allowed here", clip(name, 40))
	}
	return permitted(scalars, name, at)
}

// owner refuses a function that is named with its catalog. A schema alone may
// be a column: name.upper() is upper(name).
func (w *walk) owner(o node, name string, at int) error {
	catalog, schema := o.string("catalog"), Fold(o.string("schema"))
	if catalog != "" || Reserved(schema) && schema != "main" {
		return refuseAt(at, "the function %s is named with its schema, which is not allowed", clip(name, 40))
	}
	return nil
}

// permitted looks a function up in one of the tables of functions.go.
func permitted(table map[string]verdict, name string, at int) error {
	v, ok := table[name]
	switch {
	case !ok:
		return failed(at, "there is no function %s", clip(name, 40))
	case !v.allowed:
		return refuseAt(at, "the function %s is not allowed: %s", clip(name, 40), v.why)
	}
	return nil
}

// other decides on what is no expression: nodes of queries, what stands in FROM,
// and what modifies either.
func (w *walk) other(o node) error {
	at := w.at(o)
	switch kind := o.string("type"); kind {
	case "BASE_TABLE":
		t := named{o.string("catalog_name"), Name{o.string("schema_name"), o.string("table_name")}, at}
		if t.catalog == "" && ownBucket(t.Schema) {
			o["catalog_name"] = Database
		}
		return w.table(t)
	case "TABLE_FUNCTION":
		f := o.node("function")
		name := Fold(f.string("function_name"))
		if err := w.call(f); err != nil {
			return err
		}
		if err := w.owner(f, name, at); err != nil {
			return err
		}
		return permitted(tableFunctions, name, at)
	case "SHOW_REF":
		if o["query"] == nil || o.string("table_name") != "" {
			return refuse("SHOW is not allowed: information_schema.tables and .columns say the same")
		}
		return nil
	default:
		if !types[kind] {
			return refuseAt(at, "%s is not allowed", strings.ReplaceAll(kind, "_", " "))
		}
		return nil
	}
}

// call holds the call in FROM to what is known of a call; walk goes on to its
// arguments alone.
func (w *walk) call(f node) error {
	for _, key := range []string{"filter", "order_bys", "distinct", "export_state"} {
		switch v := f[key].(type) {
		case map[string]any:
			if len(node(v).list("orders")) > 0 || key == "filter" {
				return refuseAt(w.at(f), "a table function takes no %s", key)
			}
		case bool:
			if v {
				return refuseAt(w.at(f), "a table function takes no %s", key)
			}
		}
	}
	return nil
}

// table refuses what is none of the project's tables by its name, and keeps what
// may be one to be looked up.
func (w *walk) table(t named) error {
	for _, part := range []string{t.catalog, t.Schema} {
		switch part = Fold(part); {
		case part == "information_schema" && t.catalog == "":
			return nil
		case part != "main" && Reserved(part):
			return refuseAt(t.at, "the table %s is not allowed: %s is not of the project", clip(t.whole(), 40), part)
		}
	}
	if unusual(strings.Trim(t.catalog+"."+t.Schema, "."), t.Table) {
		w.doubts = append(w.doubts, t)
	}
	return nil
}

// at returns the place of a node in the caller's text, below 0 if unknown.
func (w *walk) at(o node) int {
	number, ok := o["query_location"].(json.Number)
	if !ok {
		return -1
	}
	n, err := number.Int64()
	if err != nil || n > maxText {
		return -1
	}
	return max(-1, int(n)+w.offset)
}
