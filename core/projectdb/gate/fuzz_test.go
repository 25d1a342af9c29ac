package gate

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb/gate/hostile"
)

// called collects what a text calls, and reads from, by another way than walk
// does: every name under a key, wherever it stands.
type called struct{ functions, sources, tables []string }

func (c *called) add(v any, source bool) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			c.add(e, false)
		}
	case map[string]any:
		if name, ok := v["function_name"].(string); ok && source {
			c.sources = append(c.sources, strings.ToLower(name))
		} else if ok {
			c.functions = append(c.functions, strings.ToLower(name))
		}
		if name, ok := v["table_name"].(string); ok && v["type"] == "BASE_TABLE" {
			c.tables = append(c.tables, strings.ToLower(node(v).string("schema_name")+"."+name))
		}
		for key, e := range v {
			c.add(e, key == "function")
		}
	}
}

func calls(g *gate, sql string) (called, error) {
	t, err := g.parse("", piece{text: sql}, "")
	if err != nil {
		return called{}, err
	}
	var c called
	c.add(map[string]any(t.root), false)
	return c, nil
}

// harmless holds a text that has passed to the lists.
func harmless(t *testing.T, g *gate, sql string) {
	c, err := calls(g, sql)
	if err != nil {
		t.Fatalf("what has passed does not parse: %v\n%s", err, sql)
	}
	for _, name := range c.functions {
		if !scalars[name].allowed {
			t.Errorf("%s has passed\n%s", name, sql)
		}
	}
	for _, name := range c.sources {
		if !tableFunctions[name].allowed {
			t.Errorf("%s has passed in FROM\n%s", name, sql)
		}
	}
	for _, name := range c.tables {
		if strings.HasPrefix(name, "_eider.") || strings.HasPrefix(name, "pg_catalog.") || strings.HasSuffix(name, ".csv") {
			t.Errorf("%s has passed\n%s", name, sql)
		}
	}
}

func fuzzed(f *testing.F, kinds ...hostile.Kind) *duck.Conn {
	for _, c := range hostile.Cases() {
		for _, kind := range kinds {
			if c.Kind == kind && len(c.Input) < 1000 {
				f.Add(c.Input)
			}
		}
	}
	conn := memory(f)
	for _, sql := range hostile.Setup() {
		if err := conn.Exec(context.Background(), sql); err != nil {
			f.Fatal(err)
		}
	}
	for _, sql := range []string{"SET enable_external_access = false", "SET lock_configuration = true"} {
		if err := conn.Exec(context.Background(), sql); err != nil {
			f.Fatal(err)
		}
	}
	return conn
}

// answered fails on an error that is no refusal: the caller would see a 500.
func answered(t *testing.T, err error) {
	if e := refusal(err); e == nil || e.Code == eider.Internal {
		t.Errorf("no refusal: %v", err)
	}
}

func FuzzWhatPassesSelectCallsNothingOutsideTheLists(f *testing.F) {
	text, err := os.ReadFile("testdata/reads.sql")
	if err != nil {
		f.Fatal(err)
	}
	for _, sql := range strings.Split(string(text), "\n") {
		f.Add(sql)
	}
	conn := fuzzed(f, hostile.Select)
	f.Fuzz(func(t *testing.T, sql string) {
		checked, err := Select(context.Background(), conn, sql)
		if err != nil {
			answered(t, err)
			return
		}
		body := strings.TrimPrefix(checked.SQL, "EXPLAIN ")
		body = strings.TrimPrefix(strings.TrimPrefix(body, "ANALYZE "), "(FORMAT json) ")
		harmless(t, &gate{ctx: context.Background(), conn: conn}, body)
	})
}

func FuzzWhatPassesWhereIsOneConditionAndNothingMore(f *testing.F) {
	for _, clause := range []string{"id = 1", "name LIKE 'a%' -- x", "id IN (SELECT 1)", "CASE WHEN true THEN id > 1 END", "E'\\'' = name"} {
		f.Add(clause)
	}
	conn := fuzzed(f, hostile.Where)
	g := &gate{ctx: context.Background(), conn: conn}
	f.Fuzz(func(t *testing.T, clause string) {
		where, err := Where(context.Background(), conn, clause)
		if err != nil {
			answered(t, err)
			return
		}
		sql := "SELECT 1 FROM sales.orders WHERE " + where
		harmless(t, g, sql)
		tree, err := g.parse("", piece{text: sql + " ORDER BY 7"}, "")
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		n := tree.node()
		modifiers := n.list("modifiers")
		delete(n, "modifiers")
		delete(n, "where_clause")
		if len(modifiers) != 1 || !bare(n, "from_table") || n.node("from_table").string("type") != "BASE_TABLE" {
			t.Errorf("more than a condition: %s", sql)
		}
	})
}

func FuzzWhatPassesWriteIsOneStatementOfItsKind(f *testing.F) {
	text, err := os.ReadFile("testdata/writes.sql")
	if err != nil {
		f.Fatal(err)
	}
	for _, sql := range strings.Split(string(text), "\n") {
		f.Add(strings.NewReplacer("shop.people", "sales.orders", "plain", "sales.orders").Replace(sql))
	}
	conn := fuzzed(f, hostile.Write)
	f.Fuzz(func(t *testing.T, sql string) {
		checked, err := Write(context.Background(), conn, sql)
		if err != nil {
			answered(t, err)
			return
		}
		for _, word := range []string{"read_", "glob", "duckdb_", "_eider", "current_setting", "getvariable"} {
			if strings.Contains(strings.ToLower(unquoted(t, checked.SQL)), word) {
				t.Errorf("%s has passed: %s", word, checked.SQL)
			}
		}
	})
}

// unquoted leaves out literals and quoted names.
func unquoted(t *testing.T, sql string) string {
	text, err := scan(sql)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for i, token := range text.tokens {
		if token.kind == word && i+1 < len(text.tokens) && (text.tokens[i+1].text == "(" || text.tokens[i+1].text == ".") {
			words = append(words, token.text)
		}
	}
	return strings.Join(words, " ")
}
