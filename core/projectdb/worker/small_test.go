package worker

import (
	"strings"
	"testing"

	"github.com/eiderdb/eider"
)

func TestColumnsOfInternalNamesAreColumns(t *testing.T) {
	conn := openProject(t, `CREATE SCHEMA b`, `CREATE TABLE b.t (_eider_place INTEGER PRIMARY KEY, n INTEGER)`)
	for _, c := range [][2]string{
		{`SELECT {'x': 1} AS _eider_row, 2 AS b`, `{"_eider_row":{"x":1},"b":2}`},
		{`SELECT 1 AS _EIDER_ROW, [2] AS _eider_row_`, `{"_EIDER_ROW":1,"_eider_row_":[2]}`},
		{`SELECT [1] AS one, 2 AS _eider_one`, `{"one":[1],"_eider_one":2}`},
	} {
		columns, rows := queried(t, conn, c[0])
		if rows != c[1]+"\n" || len(columns) != 2 {
			t.Errorf("%s: %v, %s", c[0], columns, rows)
		}
	}
	w := fileOf(t, "_eider_place,n\n7,1\n7,2\n7,3\n")
	in := importer(w, "t", FormatCSV)
	in.Dedup = DedupUpdate
	if _, err := in.run(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Text(t.Context(), `SELECT n::VARCHAR FROM b.t`); n != "3" || err != nil {
		t.Errorf("of the rows of one key %s stayed, %v", n, err)
	}
}

func TestAnExportNamesAColumnOnce(t *testing.T) {
	conn := openProject(t, `CREATE SCHEMA b`, `CREATE TABLE b.t (id INTEGER, "Ä" INTEGER, "ä" INTEGER)`)
	d, err := describe(t.Context(), conn, "b", "t")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&Export{Format: FormatJSON, Columns: []string{"id", "ID"}}).rows(t.Context(), conn, &d); eider.CodeOf(err) != eider.ValidationFailed {
		t.Errorf("twice: %v", err)
	}
	rows, err := (&Export{Format: FormatJSON, Columns: []string{"ä", "Ä"}}).rows(t.Context(), conn, &d)
	if err != nil || !strings.Contains(rows, `"ä", "Ä"`) {
		t.Errorf("%s, %v", rows, err)
	}
}

func TestAProfileLeavesOutNumbersThatAreNone(t *testing.T) {
	conn := openProject(t, `CREATE SCHEMA b`, `CREATE TABLE b.t AS FROM test_all_types()`)
	d, err := describe(t.Context(), conn, "b", "t")
	if err != nil {
		t.Fatal(err)
	}
	table := d.table()
	for _, mode := range []string{"basic", "full"} {
		p := Profile{RowCount: 3}
		if err = p.describe(t.Context(), conn, d.sql(), table.Columns, mode); err == nil && mode == "full" {
			err = p.correlate(t.Context(), conn, &table)
		}
		if err != nil || len(p.Statistics) != len(table.Columns) {
			t.Fatalf("%s: %v", mode, err)
		}
		for _, s := range p.Statistics {
			if s.ColumnName == "double" && (s.Std != nil || s.Min == nil || s.Count != 2) || s.ColumnName == "int" && s.Std == nil {
				t.Errorf("%s of %s: %+v", mode, s.ColumnName, s)
			}
		}
	}
}

func TestAnOpenQuoteIsToldByItsLine(t *testing.T) {
	conn := openProject(t, `CREATE SCHEMA b`, `CREATE TABLE b.t (id INTEGER, n VARCHAR)`)
	for content, line := range map[string]int64{
		"id,n\n1,a\n2,\"b\n3,c\n": 3, "id,n\n1,\"a\nb\"\n2,\"say \"\"x\"\"\"\n3,\"c": 5, "id,n\n1,5\" wide\n": 0, "id,n\n1,\"a\"\n": 0, "id,\"n\n1,a\n": 1,
	} {
		in := importer(fileOf(t, content), "t", FormatCSV)
		if got, err := in.openQuote(t.Context()); got != line || err != nil {
			t.Errorf("%q: line %d, %v", content, got, err)
		}
		_, err := in.run(t.Context(), conn)
		if err = in.blameFile(err); line > 0 && (eider.CodeOf(err) != eider.ImportFailed || !strings.Contains(err.Error(), "line ")) {
			t.Errorf("%q: %v", content, err)
		}
	}
}
