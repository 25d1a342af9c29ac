package worker

import (
	"bytes"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb/gate"
)

// returnedBy returns the columns and rows of a statement that writes.
func returnedBy(t *testing.T, conn *duck.Conn, sql string, args ...any) (columns []QueryColumn, rows string) {
	t.Helper()
	checked, err := gate.Write(t.Context(), conn, sql)
	out := Executed{}
	if err == nil {
		err = out.run(t.Context(), conn, checked, args, 100)
	}
	if err != nil {
		t.Errorf("%s: %v", sql, err)
	}
	for _, row := range out.Rows {
		rows += string(row) + "\n"
	}
	return out.Columns, rows
}

// queried returns those of a query.
func queried(t *testing.T, conn *duck.Conn, sql string) ([]QueryColumn, string) {
	t.Helper()
	p := presentation{form: FormLines, sql: sql}
	b, columns, err := p.stream(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	var text bytes.Buffer
	out := &outgoing{send: func(p []byte) ([]byte, error) { text.Write(p); return nil, nil }}
	r := p.renderer(out, columns, b.Schema())
	batch, err := b.Next()
	if err == nil {
		err = r.rows(batch)
		batch.Release()
	}
	if err == nil {
		err = out.flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return columns, text.String()
}

func TestReturnedValuesOfEveryTypeAreThoseOfAQuery(t *testing.T) {
	conn := openProject(t, `CREATE SCHEMA b`, `CREATE TABLE b.from AS SELECT * FROM test_all_types()`, values, `CREATE TABLE b.t AS FROM b.from LIMIT 0`, `CREATE TABLE b.u AS FROM b.more LIMIT 0`)
	for from, to := range map[string]string{"from": "t", "more": "u"} {
		columns, rows := returnedBy(t, conn, `INSERT INTO b.`+to+` SELECT * FROM b.`+from+` RETURNING *`)
		wantColumns, want := queried(t, conn, `SELECT * FROM b.`+to)
		for i := range wantColumns {
			if i >= len(columns) || columns[i] != wantColumns[i] {
				t.Errorf("column %d of %v is %v", i, wantColumns[i], columns[i])
			}
		}
		a, b := strings.Split(rows, "\n"), strings.Split(want, "\n")
		for i := range b {
			if i >= len(a) || a[i] != b[i] {
				t.Errorf("returned\n%s\nqueried\n%s", a[min(i, len(a)-1)], b[i])
			}
		}
		if columns, rows := returnedBy(t, conn, `DELETE FROM b.`+to+` WHERE false RETURNING *`); rows != "" || len(columns) != len(wantColumns) || columns[0] != wantColumns[0] || columns[12] != wantColumns[12] {
			t.Errorf("of no row: %v, %s", columns, rows)
		}
	}
}

func TestReturnedExpressionsAreRendered(t *testing.T) {
	conn := openProject(t, `CREATE SCHEMA b`, `CREATE TABLE b.t (id INTEGER, n HUGEINT, k DOUBLE)`)
	for _, c := range [][2]string{
		{`INSERT INTO b.t VALUES (1, 170141183460469231731687303715884105727, 'nan') RETURNING *`, `{"id":1,"n":170141183460469231731687303715884105727,"k":"NaN"}`},
		{`INSERT INTO b.t VALUES (2, 5, 1) RETURNING t.*, n + 1 AS more, id`, `{"id":2,"n":5,"k":1.0,"more":6,"id":2}`},
		{`UPDATE b.t SET k = 2 WHERE id = 2 RETURNING * EXCLUDE (k), [n] AS "a ""b"`, `{"id":2,"n":5,"a \"b":[5]}`},
		{`UPDATE b.t SET k = 3 WHERE id = 2 RETURNING COLUMNS('n|k')`, `{"n":5,"k":3.0}`},
		{`UPDATE b.t SET n = NULL WHERE id = 2 RETURNING n, TIMETZ '12:00:00+05:30' AS at, {'a': n} AS s`, `{"n":null,"at":"12:00:00+05:30","s":{"a":null}}`},
		{`DELETE FROM b.t WHERE id = $1 RETURNING n`, `{"n":null}`},
		{`MERGE INTO b.t USING (SELECT 9 AS id) AS s ON t.id = s.id WHEN NOT MATCHED THEN INSERT (id, n) VALUES (s.id, 7) RETURNING merge_action, n`, `{"merge_action":"INSERT","n":7}`},
		{`DELETE FROM b.t WHERE id = 9 RETURNING id, k`, `{"id":9,"k":null}`},
	} {
		var args []any
		if strings.Contains(c[0], "$1") {
			args = []any{int64(2)}
		}
		if _, rows := returnedBy(t, conn, c[0], args...); rows != c[1]+"\n" {
			t.Errorf("%s:\n%swant\n%s", c[0], rows, c[1])
		}
	}
}
