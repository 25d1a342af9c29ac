package duck_test

import (
	"context"
	"errors"
	"testing"

	"github.com/eiderdb/eider/core/duck"
)

func TestPreparedStatementSaysItsKindAndHasNotRun(t *testing.T) {
	ctx := context.Background()
	db, err := duck.Open(ctx, "", duck.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Exec(ctx, "CREATE TABLE t (a INTEGER)"); err != nil {
		t.Fatal(err)
	}
	for sql, want := range map[string]string{
		"SELECT 1":                   "SELECT",
		"FROM t":                     "SELECT",
		"INSERT INTO t VALUES ($1)":  "INSERT",
		"UPDATE t SET a = 1":         "UPDATE",
		"DELETE FROM t":              "DELETE",
		"CREATE TABLE u AS SELECT 1": "CREATE",
		"CREATE VIEW u AS SELECT 1":  "CREATE",
		"EXPLAIN SELECT 1":           "EXPLAIN",
		"DROP TABLE t":               "OTHER",
		"COPY (SELECT 1) TO 'x'":     "OTHER",
		"SET threads = 1":            "OTHER",
		"MERGE INTO t USING t AS s USING (a) WHEN MATCHED THEN DELETE": "MERGE",
	} {
		s, err := conn.Prepare(ctx, sql)
		if err != nil {
			t.Errorf("%s: %v", sql, err)
			continue
		}
		if s.Type() != want {
			t.Errorf("%s: %s, want %s", sql, s.Type(), want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, sql := range []string{"SELECT 1; SELECT 2", "PIVOT t ON a USING count(*)", "SELEC", "", "SELECT * FROM nowhere"} {
		if s, err := conn.Prepare(ctx, sql); err == nil {
			t.Errorf("%q is prepared as %s", sql, s.Type())
		}
	}
	if n, err := conn.Text(ctx, "SELECT count(*)::VARCHAR FROM duckdb_tables() WHERE table_name = $1", "t"); err != nil || n != "1" {
		t.Errorf("a prepared statement has run: %s tables, %v", n, err)
	}
}

func TestTextIsOneValueThatIsText(t *testing.T) {
	ctx := context.Background()
	db, err := duck.Open(ctx, "", duck.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := conn.Text(ctx, "SELECT ?::VARCHAR || 'b'", "a"); err != nil || got != "ab" {
		t.Errorf("%q, %v", got, err)
	}
	for _, sql := range []string{"SELECT 1", "SELECT 'a' WHERE false", "SELECT NULL::VARCHAR", "SELECT error('x')", "SELECT 1; SELECT 'a'"} {
		if got, err := conn.Text(ctx, sql); err == nil {
			t.Errorf("%s: %q", sql, got)
		}
	}
	if err := conn.Exec(ctx, "SELECT 1"); err != nil {
		t.Errorf("the connection is of no more use: %v", err)
	}
}

// DuckDB answers the COMMIT of a transaction in which a statement has failed as
// if all were well.
func TestFailedTextAndPrepareKeepTheTransactionFromBeingCommitted(t *testing.T) {
	ctx := context.Background()
	db, err := duck.Open(ctx, "", duck.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for name, fail := range map[string]func() error{
		"text":    func() error { _, err := conn.Text(ctx, "SELECT error('x')"); return err },
		"prepare": func() error { _, err := conn.Prepare(ctx, "SELECT * FROM nowhere"); return err },
	} {
		if err := conn.Begin(ctx); err != nil {
			t.Fatal(err)
		}
		if err := fail(); err == nil {
			t.Fatalf("%s has not failed", name)
		}
		if err := conn.Commit(); !errors.Is(err, duck.ErrAborted) {
			t.Errorf("%s: the commit answers %v", name, err)
		}
	}
}
