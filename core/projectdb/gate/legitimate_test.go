package gate_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb/gate"
)

// statements reads a file of one statement a line.
func statements(t testing.TB, path string) []string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		all = append(all, lines.Text())
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// answer is what a query answers: names, types, and rows in the order of their
// text, because few of the queries ask for one.
func answer(db *duck.DB, sql string) ([]string, error) {
	rows, err := db.Query(context.Background(), sql)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.ColumnTypes()
	if err != nil {
		return nil, err
	}
	head := ""
	for _, c := range columns {
		name := c.Name()
		if strings.ContainsAny(name, "(>.") {
			name = "an expression" // named after what DuckDB has written: see Select
		}
		head += fmt.Sprintf("%s %s|", name, c.DatabaseTypeName())
	}
	var all []string
	for rows.Next() {
		values, pointers := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			pointers[i] = &values[i]
		}
		if err := rows.Scan(pointers...); err != nil {
			return nil, err
		}
		all = append(all, fmt.Sprint(values))
	}
	slices.Sort(all)
	return append([]string{head}, all...), rows.Err()
}

func TestLegitimateQueriesPassAndAnswerAsWithoutTheGate(t *testing.T) {
	ctx := context.Background()
	db := locked(t, "", statements(t, "testdata/setup.sql"))
	conn := connect(t, db)
	queries := statements(t, "testdata/reads.sql")
	if len(queries) < 120 {
		t.Errorf("only %d queries", len(queries))
	}
	for _, sql := range queries {
		checked, err := gate.Select(ctx, conn, sql)
		if err != nil {
			t.Errorf("%s: %v", sql, err)
			continue
		}
		want, err := answer(db, sql)
		if err != nil {
			t.Errorf("without the gate: %s: %v", sql, err)
			continue
		}
		if got, err := answer(db, checked.SQL); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n\tas %s\n\tanswers %v, %v\n\tnot     %v", sql, checked.SQL, got, err, want)
		}
	}
}

// contents is all that a statement may have changed.
func contents(ctx context.Context, conn *duck.Conn) (string, error) {
	tables, err := conn.Text(ctx, `SELECT string_agg(format('SELECT {} || coalesce(string_agg(t::VARCHAR, ''; '' ORDER BY t::VARCHAR), '''') AS c FROM {}.{} AS t',
			'''' || replace(d, '''', '''''') || '''', '"' || s || '"', '"' || replace(n, '"', '""') || '"'), ' UNION ALL ')
		FROM (SELECT schema_name AS s, table_name AS n, coalesce(sql, '') AS d FROM duckdb_tables() WHERE NOT internal
			UNION ALL SELECT schema_name, view_name, '' FROM duckdb_views() WHERE NOT internal)`)
	if err != nil {
		return "", err
	}
	return conn.Text(ctx, "SELECT string_agg(c, '\n' ORDER BY c) FROM ("+tables+")")
}

// done runs a statement in a transaction that is rolled back, and returns what it
// would have left.
func done(ctx context.Context, conn *duck.Conn, sql string) (left string, err error) {
	if err := conn.Begin(ctx); err != nil {
		return "", err
	}
	if err = conn.Exec(ctx, sql); err == nil {
		left, err = contents(ctx, conn)
	}
	if rolled := conn.Rollback(); err == nil {
		err = rolled
	}
	return left, err
}

func TestLegitimateChangesPassAndDoAsWithoutTheGate(t *testing.T) {
	ctx := context.Background()
	conn := connect(t, locked(t, "", statements(t, "testdata/setup.sql")))
	before, err := contents(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	same := 0
	for _, sql := range statements(t, "testdata/writes.sql") {
		checked, err := gate.Write(ctx, conn, sql)
		if err != nil {
			t.Errorf("%s: %v", sql, err)
			continue
		}
		want, err := done(ctx, conn, sql)
		if err != nil {
			t.Errorf("without the gate: %s: %v", sql, err)
			continue
		}
		if got, err := done(ctx, conn, checked.SQL); err != nil || got != want {
			t.Errorf("%s\n\tas %s\n\tleaves %v, %v\n\tnot    %v", sql, checked.SQL, got, err, want)
		}
		if want == before {
			same++
		}
		if checked.Target.Table == "" || checked.Kind == "" {
			t.Errorf("%s: kind %q, target %v", sql, checked.Kind, checked.Target)
		}
	}
	if same > 6 {
		t.Errorf("%d statements change nothing: the test shows nothing", same)
	}
}
