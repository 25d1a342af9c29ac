package gate

import (
	"slices"
	"strings"
)

// query checks a whole SELECT and returns the text to run.
func (g *gate) query(p piece, l limits) (string, error) {
	t, err := g.parse("", p, "")
	if err != nil {
		return "", err
	}
	return g.checked(t, l)
}

// checked looks at a tree and returns its text.
func (g *gate) checked(t *tree, l limits) (string, error) {
	w := walk{limits: l, offset: t.offset}
	if err := w.value(map[string]any(t.root)); err != nil {
		return "", err
	}
	if err := g.settle(w.doubts); err != nil {
		return "", err
	}
	return g.write(t)
}

// expression checks one expression and returns its text in brackets.
//
// It is parsed as the list of a SELECT. A text that would end it and go on, such
// as `1 FROM x` or `1) OR (1`, leaves a tree that has more than one expression,
// or none at all. The new line ends a comment.
func (g *gate) expression(p piece, l limits) (string, error) {
	t, err := g.parse("SELECT ", p, "\n")
	if err != nil {
		return "", err
	}
	items := t.node().list("select_list")
	if !bare(t.node()) || len(items) != 1 || isStar(items[0]) || alias(items[0]) != "" {
		return "", refuseAt(p.start, "one expression is expected here, and nothing more")
	}
	sql, err := g.checked(t, l)
	if err != nil {
		return "", err
	}
	return "(" + strings.TrimPrefix(sql, "SELECT ") + ")", nil
}

func alias(v any) string {
	o, _ := v.(map[string]any)
	return node(o).string("alias")
}

// returning checks the list of RETURNING.
func (g *gate) returning(p piece) (string, error) {
	t, err := g.parse("SELECT ", p, "\n")
	if err != nil {
		return "", err
	}
	if !bare(t.node()) {
		return "", refuseAt(p.start, "a list of expressions is expected after RETURNING, and nothing more")
	}
	sql, err := g.checked(t, limits{})
	return strings.TrimPrefix(sql, "SELECT "), err
}

// sources checks what stands behind FROM or USING.
func (g *gate) sources(p piece) (string, error) {
	t, err := g.parse("SELECT 1 FROM ", p, "\n")
	if err != nil {
		return "", err
	}
	if !bare(t.node(), "from_table") || len(t.node().list("select_list")) != 1 {
		return "", refuseAt(p.start, "tables are expected here, and nothing more")
	}
	sql, err := g.checked(t, limits{})
	if err != nil {
		return "", err
	}
	from, ok := strings.CutPrefix(sql, "SELECT 1 FROM ")
	if !ok {
		return "", unfaithful(nil)
	}
	return from, nil
}

// with checks the WITH before a statement that writes.
func (g *gate) with(p piece) (string, error) {
	t, err := g.parse("", p, "\nSELECT 1")
	if err != nil {
		return "", err
	}
	if !bare(t.node(), "cte_map") || len(t.node().list("select_list")) != 1 {
		return "", refuseAt(p.start, "WITH is not understood here")
	}
	sql, err := g.checked(t, limits{})
	if err != nil {
		return "", err
	}
	with, ok := strings.CutSuffix(sql, "SELECT 1")
	if !ok {
		return "", unfaithful(nil)
	}
	return with + " ", nil
}

// rows checks the VALUES of an INSERT. They are not run as a SELECT: DuckDB casts
// what stands behind INSERT .. VALUES to the columns, value by value.
func (g *gate) rows(p piece) (string, error) {
	t, err := g.parse("", p, "")
	if err != nil {
		return "", err
	}
	listed := onlyValues(t.node(), t.node().node("from_table"))
	sql, err := g.checked(t, limits{})
	if err != nil || !listed {
		return sql, err
	}
	sql = strings.TrimSuffix(strings.TrimPrefix(sql, "SELECT * FROM ("), ") AS valueslist")
	return sql, nil
}

// onlyValues reports whether a node is VALUES, which DuckDB reads as SELECT *
// FROM (VALUES ..) AS valueslist. From is what the node reads from.
func onlyValues(n, from node) bool {
	items := n.list("select_list")
	return bare(n, "from_table") && len(items) == 1 && isStar(items[0]) &&
		from.string("type") == "EXPRESSION_LIST" && from.string("alias") == "valueslist" && from["sample"] == nil
}

// bare reports whether a node is SELECT with a list and nothing more, but for
// these keys.
func bare(n node, but ...string) bool {
	if n.string("type") != "SELECT_NODE" {
		return false
	}
	for key, v := range n {
		switch key {
		case "type", "select_list":
		case "aggregate_handling":
			if v != "STANDARD_HANDLING" {
				return false
			}
		case "from_table":
			if !slices.Contains(but, key) && n.node(key).string("type") != "EMPTY" {
				return false
			}
		case "cte_map":
			if !slices.Contains(but, key) && len(n.node(key).list("map")) > 0 {
				return false
			}
		default:
			if list, ok := v.([]any); !ok || len(list) > 0 {
				return false
			}
		}
	}
	return true
}
