package tables

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestRedactedTextHoldsNoLiterals(t *testing.T) {
	for sql, want := range map[string]string{
		"SELECT * FROM t WHERE name = 'O''Brien' AND n > 1.5e3": "SELECT * FROM t WHERE name = ? AND n > ?",
		"SELECT E'a\\'b', x'00', $$secret$$, $a$it's$a$, $1":    "SELECT ?, ?, ?, ?, $1",
		"SELECT 1 -- my card is 42\n+ 2 /* and /* so */ on */":  "SELECT ? + ?",
		`SELECT "my ""col", t1.a2 FROM "s"."t"`:                 `SELECT "my ""col", t1.a2 FROM "s"."t"`,
		"SELECT 'open":                                          "SELECT ?",
		"SELECT /* open":                                        "SELECT",
		`SELECT "open 'x'`:                                      "SELECT ?",
		"SELECT $tag$ open":                                     "SELECT ?",
		"":                                                      "",
		"  SELECT\n\t1  ":                                       "SELECT ?",
		"SELECT ünï, 'ü'":                                       "SELECT ünï, ?",
	} {
		if got := redact(sql); got != want {
			t.Errorf("%q became %q, want %q", sql, got, want)
		}
	}
	if long := redact("SELECT " + strings.Repeat("ü, ", 10_000)); len(long) > maxLogged+3 || !utf8.ValidString(long) {
		t.Errorf("%d bytes", len(long))
	}
	if a, b := fingerprint(redact("SELECT 1")), fingerprint(redact("select  22")); a != b {
		t.Errorf("%s and %s", a, b)
	}
}

func FuzzRedact(f *testing.F) {
	for _, sql := range []string{"SELECT 'a'", "$a$b$a$", "/*/**/*/", "\xff'", "1.2.3", "E'\\"} {
		f.Add(sql)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		named := strings.Contains(sql, `"`) // a name may hold anything
		if got := redact(sql); !named && strings.Contains(got, "'") || !utf8.ValidString(got) && utf8.ValidString(sql) {
			t.Errorf("%q became %q", sql, got)
		}
	})
}

func TestTheFormIsTheOneAskedFor(t *testing.T) {
	for header, want := range map[string]string{
		"": "json", "*/*": "json", "application/*": "json", "text/*": "csv", "text/html, text/csv;q=0.1": "csv",
		"application/json;q=0.5, application/vnd.apache.arrow.stream": "arrow", "application/x-ndjson, */*;q=0.1": "ndjson",
	} {
		if got, err := accepted(header); err != nil || got.worker != want {
			t.Errorf("%q: %v, %v", header, got, err)
		}
	}
	for _, header := range []string{"text/html", "application/json;q=0", "nonsense"} {
		if got, err := accepted(header); err == nil {
			t.Errorf("%q: %v", header, got)
		}
	}
}
