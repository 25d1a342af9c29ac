package worker

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb/gate"
)

// openProject opens a database as a project's is, after statements on it.
func openProject(t *testing.T, statements ...string) *duck.Conn {
	t.Helper()
	db, err := duck.Open(t.Context(), filepath.Join(t.TempDir(), "data.duckdb"), duck.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	for _, sql := range append([]string{createState, createCalls, createBuckets, createTables}, statements...) {
		if err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	return conn
}

func TestNamesAreFoundAsDuckDBFindsThem(t *testing.T) {
	conn := openProject(t, `CREATE SCHEMA b`, `CREATE SCHEMA "İ"`, `CREATE SCHEMA "maİn"`,
		`CREATE TABLE b."Ö" AS SELECT 1 AS "Ä", 2 AS "ä", 3 AS Z`, `CREATE TABLE b."ö" (a INTEGER)`, `CREATE TABLE b."K" (a INTEGER)`)
	for name, want := range map[string]string{"B": "b", "İ": "İ", "maİn": "maİn", "i": "", "main": "", "_eider": ""} {
		found, err := findBucket(t.Context(), conn, name)
		if found.Name != want || (err != nil) != (want == "") {
			t.Errorf("bucket %s is %q, %v", name, found.Name, err)
		}
	}
	for name, want := range map[string]string{"Ö": "Ö", "ö": "ö", "k": "K", "\u212a": "", "O": ""} {
		d, err := describe(t.Context(), conn, "B", name)
		if d.Name != want || (want == "") != (eider.CodeOf(err) == eider.TableNotFound) {
			t.Errorf("table %s is %q, %v", name, d.Name, err)
		}
		if is, err := exists(t.Context(), conn, "b", name); is != (want != "") || err != nil {
			t.Errorf("that table %s exists is %t, %v", name, is, err)
		}
	}
	d, err := describe(t.Context(), conn, "b", "Ö")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"Ä": 0, "ä": 1, "z": 2, "Z": 2} {
		if at, err := d.column(name); at != want || err != nil {
			t.Errorf("column %s is %d, %v", name, at, err)
		}
	}
	key, err := keyOf(d.table().Columns, []string{"ä", "z"})
	if err != nil || fmt.Sprint(key) != "[ä Z]" {
		t.Errorf("the key is %v, %v", key, err)
	}
}

// What is written of a name folds as the catalog's look-up does.
func TestNamesFoldAsTheCatalogFoldsThem(t *testing.T) {
	conn := openProject(t, `CREATE SCHEMA b`)
	for _, pair := range [][2]string{{"Aa", "aA"}, {"Ä", "ä"}, {"K", "\u212a"}, {"s", "ſ"}, {"İ", "i"}, {"ß", "SS"}, {"Z[", "z["}, {"@", "`"}} {
		if err := conn.Exec(t.Context(), `CREATE OR REPLACE TABLE b.`+quote(pair[0])+` (a INTEGER)`); err != nil {
			t.Fatal(err)
		}
		_, err := conn.Text(t.Context(), `SELECT count(*)::VARCHAR FROM b.`+quote(pair[1]))
		one, textErr := conn.Text(t.Context(), `SELECT (`+called("$1::VARCHAR", "$2::VARCHAR")+`)::VARCHAR`, pair[0], pair[1])
		if want := err == nil; gate.Same(pair[0], pair[1]) != want || one != fmt.Sprint(want) || textErr != nil {
			t.Errorf("%q: DuckDB finds the one by the other: %t; here %t, in SQL %s, %v", pair, want, gate.Same(pair[0], pair[1]), one, textErr)
		}
		if err := conn.Exec(t.Context(), `DROP TABLE b.`+quote(pair[0])); err != nil {
			t.Fatal(err)
		}
	}
}

func TestABucketOfTheDatabasesNameIsReadAndWritten(t *testing.T) {
	conn := openProject(t, `CREATE SCHEMA data`)
	for _, sql := range []string{
		`CREATE TABLE data.t AS SELECT 1 AS n`, `INSERT INTO Data.t VALUES (2)`, `UPDATE data.t SET n = n + 1 WHERE data.t.n > 1`,
		`CREATE VIEW data.data AS SELECT * FROM data.t`, `DELETE FROM data.t WHERE n = 1`,
		`MERGE INTO data.t AS t USING (SELECT 5 AS n) AS s ON t.n = s.n WHEN NOT MATCHED THEN INSERT VALUES (s.n)`,
	} {
		checked, err := gate.Write(t.Context(), conn, sql)
		if err == nil {
			err = conn.Exec(t.Context(), checked.SQL)
		}
		if err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	for _, sql := range []string{`SELECT sum(n)::VARCHAR FROM data.t`, `SELECT sum(data.t.n)::VARCHAR FROM data.t`, `SELECT sum(n)::VARCHAR FROM data.data`, `SELECT sum(n)::VARCHAR FROM data.data.t`} {
		checked, err := gate.Select(t.Context(), conn, sql)
		if err != nil {
			t.Errorf("%s: %v", sql, err)
			continue
		}
		if n, err := conn.Text(t.Context(), checked.SQL); n != "8" || err != nil {
			t.Errorf("%s: %s, %v", sql, n, err)
		}
	}
}
