package gate

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/eiderdb/eider"
)

func TestTreesAreTheSameWhereOnlyPlacesDiffer(t *testing.T) {
	g := &gate{ctx: context.Background(), conn: memory(t)}
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"SELECT  a FROM t", "select a\nfrom t -- x", true},
		{"VALUES (1)", "SELECT * FROM (VALUES (1)) AS valueslist", true},
		{"SELECT a FROM t", "SELECT b FROM t", false},
		{"SELECT a FROM t", "SELECT a FROM t WHERE true", false},
		{"SELECT a FROM t", "SELECT a, a FROM t", false},
		{"SELECT 1", "SELECT 1.0", false},
		{"SELECT a FROM t LIMIT 1", "SELECT a FROM t LIMIT 2", false},
		{"SELECT * FROM t", "SELECT * EXCLUDE (a) FROM t", false},
		{"SELECT * FROM (VALUES (1)) AS valueslist", "SELECT * FROM (VALUES (1)) AS valueslist(a)", false},
		{"SELECT * FROM (VALUES (1)) AS valueslist", "SELECT * FROM (SELECT * EXCLUDE (a) FROM (VALUES (1)) AS valueslist) AS valueslist", false},
	} {
		a, err := g.parse("", piece{text: c.a}, "")
		b, other := g.parse("", piece{text: c.b}, "")
		if err := errors.Join(err, other); err != nil {
			t.Fatal(err)
		}
		if got := same(map[string]any(a.node()), map[string]any(b.node())); got != c.want {
			t.Errorf("%s and %s: %v", c.a, c.b, got)
		}
	}
}

// DuckDB has bugs in writing statements back: what comes back otherwise is
// refused rather than run with another meaning.
func TestStatementThatIsWrittenBackOtherwiseIsRefused(t *testing.T) {
	g := &gate{ctx: context.Background(), conn: memory(t)}
	tree, err := g.parse("", piece{text: "SELECT 1.5"}, "")
	if err != nil {
		t.Fatal(err)
	}
	constant := tree.node().list("select_list")[0].(map[string]any)
	node(constant).node("value")["type"] = map[string]any{"id": "SMALLINT"} // no text is read as one
	node(constant).node("value")["value"] = 1
	if sql, err := g.write(tree); eider.CodeOf(err) != eider.StatementNotAllowed || !strings.Contains(err.Error(), "another way") {
		t.Errorf("%q, %v", sql, err)
	}
}

// An unused WINDOW never reaches the tree, so the text itself must not run.
func TestWhatTheTreeLacksIsNotRun(t *testing.T) {
	checked, err := Select(context.Background(), memory(t), "SELECT 1 AS a WINDOW w AS (ORDER BY getvariable('x'))")
	if err != nil || checked.SQL != "SELECT 1 AS a" {
		t.Errorf("%q, %v", checked.SQL, err)
	}
}

func TestPartsThatAreNotKnownAreRefused(t *testing.T) {
	for _, o := range []node{
		{"type": "SELECT_NODE", "brand_new": true},
		{"class": "BRAND_NEW", "type": "X"},
		{"type": "BRAND_NEW_REF"},
		{"class": "BOUND_FUNCTION", "type": "BOUND_FUNCTION"},
		{"type": "COLUMN_DATA"},
		{"type": "SHOW_REF"},
		{"type": "SHOW_REF", "table_name": "databases", "query": map[string]any{}},
		{"class": "FUNCTION", "type": "FUNCTION", "function_name": "lower", "export_state": true},
		{"class": "FUNCTION", "type": "FUNCTION", "function_name": "lower", "catalog": "system"},
		{"type": "TABLE_FUNCTION", "function": map[string]any{"function_name": "range", "filter": map[string]any{}}},
		{"type": "TABLE_FUNCTION"},
	} {
		w := walk{}
		if err := w.value(map[string]any(o)); refusal(err) == nil {
			t.Errorf("%v passes: %v", o, err)
		}
	}
}

func TestScanFindsTokensAsDuckDBDoes(t *testing.T) {
	for sql, want := range map[string]string{
		`SELECT a.b, "c""d" FROM t`:        `SELECT|a|.|b|,|"c""d"|FROM|t`,
		`'it''s' E'a\'b' x'ff' e`:          `'it''s'|E'a\'b'|x'ff'|e`,
		`$$a'b$$ $t$ $$ $t$ $1 $name ? ?2`: `$$a'b$$|$t$ $$ $t$|$1|$name|?|?2`,
		"a -- b\nc /* d /* e */ f */ g":    `a|c|g`,
		`1.5e3 1_000 0x1F a1 _b é`:         `1.5e3|1_000|0x1F|a1|_b|é`,
		`a->>'b' <> -1;`:                   `a|-|>|>|'b'|<|>|-|1|;`,
		`'\' 'x'`:                          `'\'|'x'`,
	} {
		text, err := scan(sql)
		if err != nil {
			t.Errorf("%s: %v", sql, err)
			continue
		}
		var got []string
		for _, token := range text.tokens {
			got = append(got, token.text)
		}
		if strings.Join(got, "|") != want {
			t.Errorf("%s: %s", sql, strings.Join(got, "|"))
		}
	}
}

func TestBoundsHoldExactly(t *testing.T) {
	if _, err := scan(strings.Repeat("(", maxNesting) + strings.Repeat(")", maxNesting)); err != nil {
		t.Error(err)
	}
	if _, err := scan(strings.Repeat("(", maxNesting+1) + strings.Repeat(")", maxNesting+1)); err == nil {
		t.Error("one bracket too many passes")
	}
	if _, err := scan(strings.Repeat(" ", maxText)); err != nil {
		t.Error(err)
	}
	if _, err := scan(strings.Repeat(" ", maxText+1)); err == nil {
		t.Error("one byte too many passes")
	}
}

// The brackets of a type are counted before it is parsed; this is what stands
// behind that count.
func TestOnlyACastOfNullIsTakenForAType(t *testing.T) {
	g := &gate{ctx: context.Background(), conn: memory(t)}
	for sql, want := range map[string]bool{
		"SELECT CAST(NULL AS INTEGER)":          true,
		"SELECT CAST(NULL AS INTEGER)::VARCHAR": false,
		"SELECT CAST(1 AS INTEGER)":             false,
		"SELECT TRY_CAST(NULL AS INTEGER)":      false,
		"SELECT CAST(NULL AS INTEGER) AS x":     false,
		"SELECT NULL":                           false,
	} {
		tree, err := g.parse("", piece{text: sql}, "")
		if err != nil {
			t.Fatal(err)
		}
		if got := plainCast(tree.node().list("select_list")[0].(map[string]any)); got != want {
			t.Errorf("%s: %v", sql, got)
		}
	}
}

func BenchmarkSelect(b *testing.B) {
	conn := memory(b)
	for b.Loop() {
		if _, err := Select(context.Background(), conn, "SELECT a, count(*) FROM t WHERE b > 3 AND c IN (1, 2, 3) GROUP BY a ORDER BY 2 DESC LIMIT 10"); err != nil {
			b.Fatal(err)
		}
	}
}
