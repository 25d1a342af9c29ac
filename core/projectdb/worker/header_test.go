package worker

import (
	"os"
	"strings"
	"testing"

	"github.com/eiderdb/eider"
)

// A column may be called what DuckDB calls a field without a name.
func TestAColumnCalledLikeAFieldWithoutANameIsImported(t *testing.T) {
	wide := "a, b, c, d, e, f, g, h, i, j, k, column11"
	conn := openProject(t, `CREATE SCHEMA b`, `CREATE TABLE b.two AS SELECT 'x' AS a, 'y' AS column1`, `CREATE TABLE b.none AS FROM b.two LIMIT 0`,
		`CREATE TABLE b.three AS SELECT 1 AS a, 2 AS b, 3 AS column2`, `CREATE TABLE b.wide AS SELECT * FROM (VALUES (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)) AS v(`+wide+`)`)
	for _, table := range []string{"two", "none", "three", "wide"} {
		w := exported(t, conn, table, FormatCSV)
		if err := conn.Exec(t.Context(), `CREATE OR REPLACE TABLE b.back AS FROM b.`+table+` LIMIT 0`); err != nil {
			t.Fatal(err)
		}
		out, err := importer(w, "back", FormatCSV).run(t.Context(), conn)
		if err != nil || len(out.Warnings) > 0 {
			t.Errorf("%s: %v, %v", table, out.Warnings, err)
		}
		if n, err := conn.Text(t.Context(), `SELECT count(*)::VARCHAR FROM (FROM b.`+table+` EXCEPT FROM b.back)`); n != "0" || err != nil {
			t.Errorf("%s: %s rows are missing, %v", table, n, err)
		}
	}
}

// A line that has more fields than the header fills no column with them.
func TestALineLongerThanTheHeaderIsToldByItsNumber(t *testing.T) {
	conn := openProject(t, `CREATE SCHEMA b`, `CREATE TABLE b.t (a VARCHAR, column1 VARCHAR)`)
	w := workerIn(t)
	for _, text := range []string{"a\n1,2\n", "a\n1\n2,3\n"} {
		if err := os.WriteFile(w.path(inFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		in := importer(w, "t", FormatCSV)
		_, err := in.run(t.Context(), conn)
		if err = in.blameFile(err); eider.CodeOf(err) != eider.ImportFailed || !strings.Contains(err.Error(), "line ") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
