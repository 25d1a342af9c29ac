package worker

import (
	"os"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/duck"
)

// exported writes table b.from of a project as the file that a worker imports, and
// returns that worker.
func exported(t *testing.T, conn *duck.Conn, from, format string) *worker {
	t.Helper()
	w := workerIn(t)
	d, err := describe(t.Context(), conn, "b", from)
	if err != nil {
		t.Fatal(err)
	}
	e := Export{Format: format, Compression: "none"}
	if format == FormatParquet {
		e.Compression = "snappy"
	}
	rows, err := e.rows(t.Context(), conn, &d)
	if err == nil {
		err = conn.Exec(t.Context(), "COPY ("+rows+") TO '"+w.path(inFile)+"' ("+e.options()+")")
	}
	if err != nil {
		t.Fatalf("export as %s: %v", format, err)
	}
	return w
}

// importer returns the import of the worker's file into table b.to.
func importer(w *worker, to, format string) *importing {
	return &importing{task: &task{worker: w, stream: deaf{}}, compression: "none", Import: Import{Bucket: "b", Table: to, Format: format, Incremental: true,
		Dedup: DedupFail, CSV: CSV{Delimiter: ",", Quote: `"`, Escape: `"`, Header: true}}}
}

const values = `CREATE TABLE b.more AS SELECT '' AS empty, 'NULL' AS word, 'a"b,c' || chr(10) || 'd' AS line, ' sp ' AS spaces, '\' AS back, 'x' || chr(0) || 'y' AS nul,
	12345678901234567890.123456::DECIMAL(38,6) AS dec, 9.99::DECIMAL(18,3) AS price, 9007199254740993::HUGEINT AS total, 5::UHUGEINT AS unsigned,
	[170141183460469231731687303715884105727::HUGEINT, NULL] AS huge, {'x': 1::UHUGEINT, 'HUGEINT': [INTERVAL '1 day 00:00:00.000001']} AS strange,
	MAP {'k': '\xAA\x00'::BLOB} AS bytes, [TIMETZ '12:00:00+05:30'] AS zones, TIMESTAMPTZ '2020-01-01 00:00:00.123456+05' AS at, ['', NULL, 'NULL', 'a,b'] AS texts,
	['10'::BIT] AS bits, '{"a":["\\x41"]}'::JSON AS doc, {'a': '"', 'b c': [[]]::INTEGER[][]} AS deep, 'B,IT'::ENUM('B,IT', 'HUGEINT') AS choice, 'a\x41'::BLOB AS raw, '-inf'::DOUBLE AS least,
	[' sp ', '''q''']::VARCHAR[2] AS pair, ['NULL', NULL]::VARCHAR[2] AS words, ['a,b', '']::VARCHAR[2] AS commas, [['"', '[']]::VARCHAR[2][] AS pairs, [[NULL, ' ,'], NULL]::VARCHAR[2][2] AS square,
	{'a': ['{', 'a: b']::VARCHAR[2], 'b[3]': [1, 2]::INTEGER[2]} AS within, MAP {['x', ' ']::VARCHAR[2]: ['NULL']::VARCHAR[1]} AS keyed, [{'a': 'x, y'}, {'a': ' '}]::STRUCT(a VARCHAR)[2] AS structs,
	{'a': [' sp ', 'NULL']::VARCHAR[2], 'raw': '\xAA'::BLOB} AS mixed, ['B,IT', '[2]']::ENUM('B,IT', '[2]')[2] AS choices, NULL::VARCHAR[2] AS no_pair,
	-0.5::DECIMAL(16,16) AS half, 0.12345678901234567::DECIMAL(17,17) AS digits, 0.5::DECIMAL(38,38) AS longest, [0.12345678901234567, -0.5]::DECIMAL(17,17)[] AS fractions, {'x': -0.25}::STRUCT(x DECIMAL(38,38)) AS inner_fraction,
	MAP {0.5::DECIMAL(20,20): [0.25]::DECIMAL(20,20)[1]} AS map_of_fractions, {'x': 0.5::DECIMAL(20,20), 'raw': '\xAA'::BLOB} AS mixed_fraction`

// Every type that a project's table can have comes back from a file as it was, in
// every format, or the import says what may not.
func TestWhatIsExportedIsImportedTheSame(t *testing.T) {
	// The last moment of TIMESTAMPTZ is one that DuckDB does not read from a text.
	conn := openProject(t, `CREATE SCHEMA b`, `CREATE TABLE b.types AS SELECT * REPLACE (least(timestamp_tz, TIMESTAMPTZ '9999-12-31 23:59:59.999999+00') AS timestamp_tz) FROM test_all_types()`, values)
	for _, table := range []string{"types", "more"} {
		for _, format := range []string{FormatCSV, FormatParquet, FormatJSON} {
			w := exported(t, conn, table, format)
			if err := conn.Exec(t.Context(), "CREATE OR REPLACE TABLE b.back AS FROM b."+table+" LIMIT 0"); err != nil {
				t.Fatal(err)
			}
			out, err := importer(w, "back", format).run(t.Context(), conn)
			if err != nil {
				t.Errorf("import of %s as %s: %v", table, format, err)
				continue
			}
			d, err := describe(t.Context(), conn, "b", table)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range d.Columns {
				// As text too: two values of which DuckDB says that they are one can differ.
				differ, err := conn.Text(t.Context(), `SELECT coalesce(string_agg(concat_ws(' -> ', coalesce(a::VARCHAR, 'NULL'), coalesce(b::VARCHAR, 'NULL'))), '')
					FROM (SELECT `+quote(c.Name)+` AS a, row_number() OVER () AS n FROM b.`+table+`) FULL JOIN (SELECT `+quote(c.Name)+` AS b, row_number() OVER () AS n FROM b.back) USING (n)
					WHERE a IS DISTINCT FROM b OR a::VARCHAR IS DISTINCT FROM b::VARCHAR`)
				if warned := strings.Contains(strings.Join(out.Warnings, "\n"), "column "+c.Name+":"); err != nil || differ != "" && !warned {
					t.Errorf("%s, %s as %s: %s, %v", c.Name, c.Type, format, differ, err)
				}
			}
		}
	}
}

func TestNumbersStayNumbersInAFileWhereTheyCan(t *testing.T) {
	conn := openProject(t, `CREATE SCHEMA b`, `CREATE TABLE b.t AS SELECT sum(range) AS n, 1.5::DECIMAL(18,3) AS price FROM range(10)`)
	text, err := os.ReadFile(exported(t, conn, "t", FormatJSON).path(inFile))
	if err != nil || string(text) != `{"n":45,"price":1.500}`+"\n" {
		t.Errorf("%s, %v", text, err)
	}
	kind, err := conn.Text(t.Context(), `SELECT typeof(n) FROM read_parquet('`+exported(t, conn, "t", FormatParquet).path(inFile)+`')`)
	if kind != "DECIMAL(38,0)" || err != nil {
		t.Errorf("a sum is a %s in Parquet, %v", kind, err)
	}
}

func TestQuotedNothingIsAnEmptyText(t *testing.T) {
	conn := openProject(t, `CREATE SCHEMA b`)
	for content, want := range map[string]string{
		"1,\"\"\n2,\n3,NULL\n": `[(1, ''), (2, NULL), (3, 'NULL')]`,
		"\"\",\"a\"\n":         "misfit",
	} {
		w := workerIn(t)
		if err := os.WriteFile(w.path(inFile), []byte("id,n\n"+content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := conn.Exec(t.Context(), `CREATE OR REPLACE TABLE b.t (id INTEGER, n VARCHAR)`); err != nil {
			t.Fatal(err)
		}
		in := importer(w, "t", FormatCSV)
		_, err := in.run(t.Context(), conn)
		got, textErr := conn.Text(t.Context(), `SELECT list((id, n))::VARCHAR FROM b.t`)
		if in.emptyMisfit(err) { // a program that quotes every field
			got = "misfit"
			in.quotedNulls = true
			if out, err := in.run(t.Context(), conn); err != nil || len(out.Warnings) != 1 {
				t.Errorf("%q again: %v, %v", content, out, err)
			}
		} else if err != nil || textErr != nil {
			t.Error(err, textErr)
		}
		if got != want {
			t.Errorf("%q is %s", content, got)
		}
	}
}

// DuckDB's reader of CSV takes what is no time of a zone for NULL.
func TestATextThatIsNoTimeIsNotImportedAsNull(t *testing.T) {
	conn := openProject(t, `CREATE SCHEMA b`)
	for _, kind := range []string{"TIMESTAMPTZ", "TIMETZ", "TIMESTAMPTZ[]", "STRUCT(a TIMETZ)", "TIMESTAMP", "DATE", "INTERVAL", "UUID"} {
		w := workerIn(t)
		if err := os.WriteFile(w.path(inFile), []byte("v\nnever\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := conn.Exec(t.Context(), `CREATE OR REPLACE TABLE b.t (v `+kind+`)`); err != nil {
			t.Fatal(err)
		}
		if out, err := importer(w, "t", FormatCSV).run(t.Context(), conn); err == nil {
			t.Errorf("%s: %v rows", kind, out.Rows)
		}
	}
}
