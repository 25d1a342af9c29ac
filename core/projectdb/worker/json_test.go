package worker

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/duck"
)

// oddNumbers are those that DuckDB's JSON has and RFC 8259 has not.
const (
	oddTable   = `CREATE TABLE b.t (half DECIMAL(16,16), most DECIMAL(18,18), longest DECIMAL(38,38), deep STRUCT(x DECIMAL(20,20)[]), ratio DOUBLE, ratios DOUBLE[], map MAP(VARCHAR, DECIMAL(16,16)), word VARCHAR)`
	oddNumbers = `INSERT INTO b.t VALUES
	(0.5, -0.5, -0.25, {'x': [-0.25, 0.5]}, 'nan', ['-inf', 'nan', '1.5'], MAP {'a.5': 0.5}, 'x:.5,NaN'),
	(0, 0, NULL, {'x': NULL}, '-inf', NULL, MAP {}, '-.'),
	(0.1234567890123456, 0.000000000000000001, 0.12345678901234567890123456789012345678, {'x': [0.12345678901234567890]}, 0.1, [0.1], NULL, NULL)`
)

// wellFormed complains of lines that are no JSON.
func wellFormed(t *testing.T, what string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !json.Valid([]byte(line)) {
			t.Errorf("%s: %s", what, line)
		}
	}
}

func TestWhatLeavesAsJSONIsJSON(t *testing.T) {
	db, err := duck.Open(t.Context(), filepath.Join(t.TempDir(), "data.duckdb"), duck.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, sql := range []string{`CREATE SCHEMA b`, oddTable, oddNumbers, `CREATE TABLE b.u AS FROM b.t LIMIT 0`} {
		if err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for _, columns := range []string{"*", "half, most", "deep"} { // by DuckDB, and cell by cell
		_, rows := queried(t, conn, "SELECT "+columns+" FROM b.t")
		wellFormed(t, "answer", strings.Split(strings.TrimSpace(rows), "\n")...)
		_, rows = returnedBy(t, conn, "INSERT INTO b.u FROM b.t RETURNING "+columns)
		wellFormed(t, "RETURNING", strings.Split(strings.TrimSpace(rows), "\n")...)
	}
	if _, row := queried(t, conn, `SELECT half, longest, word FROM b.t LIMIT 1`); row != `{"half":0.5000000000000000,"longest":-0.25000000000000000000000000000000000000,"word":"x:.5,NaN"}`+"\n" {
		t.Errorf("the row is %s", row)
	}
	shown, table := Preview{}, Table{Bucket: "b", Name: "t"}
	for _, name := range []string{"half", "most", "longest", "deep", "ratio", "ratios", "map", "word"} {
		table.Columns = append(table.Columns, Column{Name: name})
	}
	if err := (&task{worker: &worker{db: db}}).firstRows(t.Context(), &table, 10, &shown); err != nil || len(shown.Rows) != 3 {
		t.Errorf("a preview of %d rows, %v", len(shown.Rows), err)
	}
	for _, row := range shown.Rows {
		wellFormed(t, "preview", string(row))
	}
}

func TestAnExportAsJSONIsJSON(t *testing.T) {
	conn := openProject(t, `CREATE SCHEMA b`, oddTable, oddNumbers, `CREATE TABLE b.back AS FROM b.t LIMIT 0`)
	w := exported(t, conn, "t", FormatJSON)
	text, err := os.ReadFile(w.path(inFile))
	if err != nil {
		t.Fatal(err)
	}
	wellFormed(t, "export", strings.Split(strings.TrimSpace(string(text)), "\n")...)
	if _, err := importer(w, "back", FormatJSON).run(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	differ, err := conn.Text(t.Context(), `SELECT coalesce(string_agg(v::VARCHAR), '') FROM ((FROM b.t EXCEPT FROM b.back) UNION ALL (FROM b.back EXCEPT FROM b.t)) AS v`)
	if differ != "" || err != nil {
		t.Errorf("%s, %v", differ, err)
	}
}
