package gate_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb/gate"
	"github.com/eiderdb/eider/core/projectdb/gate/hostile"
)

// pass lets the gate look at a case and returns what would run of it.
func pass(ctx context.Context, conn *duck.Conn, c hostile.Case, p hostile.Paths) (string, error) {
	input := c.With(p)
	switch c.Kind {
	case hostile.Select:
		checked, err := gate.Select(ctx, conn, input)
		return checked.SQL, err
	case hostile.Write:
		checked, err := gate.Write(ctx, conn, input)
		return checked.SQL, err
	case hostile.Where:
		where, err := gate.Where(ctx, conn, input)
		return "DELETE FROM sales.orders WHERE " + where, err
	case hostile.Type:
		name, err := gate.Type(ctx, conn, input)
		return "CREATE TABLE sales.made (c " + name + ")", err
	case hostile.Default:
		value, err := gate.Default(ctx, conn, input)
		return "ALTER TABLE sales.orders ALTER name SET DEFAULT " + value, err
	}
	panic(c.Kind)
}

// locked opens a project as the worker does: its settings made, then locked.
func locked(t testing.TB, path string, setup []string) *duck.DB {
	t.Helper()
	ctx := context.Background()
	db, err := duck.Open(ctx, path, duck.Options{MemoryLimit: "256MB"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	conn := connect(t, db)
	for _, sql := range append(setup, "SET enable_external_access = false", "SET lock_configuration = true") {
		if err := conn.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	return db
}

func connect(t testing.TB, db *duck.DB) *duck.Conn {
	t.Helper()
	conn, err := db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// state is all that a case might have changed.
const state = `SELECT concat_ws(E'\n',
	(SELECT string_agg(o::VARCHAR, ';' ORDER BY id) FROM sales.orders AS o),
	(SELECT string_agg(call_id, ';') FROM _eider.calls),
	(SELECT string_agg(coalesce(sql, '-') || schema_name || table_name, ';' ORDER BY schema_name, table_name) FROM duckdb_tables() WHERE NOT internal),
	(SELECT string_agg(view_name, ';') FROM duckdb_views() WHERE NOT internal),
	(SELECT string_agg(schema_name, ';' ORDER BY schema_name) FROM duckdb_schemas() WHERE NOT internal),
	(SELECT string_agg(database_name || coalesce(path, ''), ';' ORDER BY database_name) FROM duckdb_databases()),
	(SELECT string_agg(name || coalesce(value, ''), ';' ORDER BY name) FROM duckdb_settings()),
	(SELECT count(*)::VARCHAR FROM duckdb_functions() WHERE NOT internal),
	(SELECT count(*)::VARCHAR FROM duckdb_indexes()),
	(SELECT count(*)::VARCHAR FROM duckdb_sequences()))`

func TestHostileInputIsRefusedAndChangesNothing(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	paths := hostile.Paths{File: filepath.Join(dir, "secret.csv"), Own: filepath.Join(dir, "db", "data.duckdb"), Out: filepath.Join(dir, "out")}
	if err := errors.Join(os.WriteFile(paths.File, []byte(hostile.Secret), 0o600), os.Mkdir(filepath.Dir(paths.Own), 0o700)); err != nil {
		t.Fatal(err)
	}
	db := locked(t, paths.Own, hostile.Setup())
	before := look(t, db)
	for i, c := range hostile.Cases() {
		conn := connect(t, db)
		sql, err := pass(ctx, conn, c, paths)
		if err == nil {
			// It is run, so that the test also says what would have happened.
			t.Errorf("case %d passes: %s %.200s\n\tas %.300s\n\twhich answers %v", i, c.Kind, c.Input, sql, conn.Exec(ctx, sql))
		} else if err := clear(c, err, dir); err != nil {
			t.Errorf("case %d: %s %.200s: %v", i, c.Kind, c.Input, err)
		}
		if n, err := conn.Text(ctx, "SELECT count(*)::VARCHAR FROM sales.orders"); err != nil || n != "3" {
			t.Errorf("case %d: %s %.200s: the next statement answers %q, %v", i, c.Kind, c.Input, n, err)
		}
	}
	if after := look(t, db); after != before {
		t.Errorf("something has changed:\n%s\nwas\n%s", after, before)
	}
	if _, err := os.Stat(paths.Out); err == nil {
		t.Error("a file was written")
	}
}

func look(t *testing.T, db *duck.DB) string {
	t.Helper()
	text, err := connect(t, db).Text(context.Background(), state)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// clear holds a refusal to its code, and to a message that says something and
// shows nothing of the server.
func clear(c hostile.Case, err error, dir string) error {
	var refusal *eider.Error
	switch {
	case !errors.As(err, &refusal):
		return fmt.Errorf("no refusal: %w", err)
	case string(refusal.Code) != c.Code:
		return fmt.Errorf("code %s, want %s: %s", refusal.Code, c.Code, refusal.Message)
	case len(refusal.Message) < 15 || len(refusal.Message) > 500:
		return fmt.Errorf("unclear: %q", refusal.Message)
	case strings.Contains(refusal.Message, hostile.Secret):
		return fmt.Errorf("shows the file: %q", refusal.Message)
	case strings.Contains(refusal.Message, filepath.Join(dir, "db")) && !strings.Contains(c.Input, "{own}"):
		return fmt.Errorf("shows a path: %q", refusal.Message)
	}
	return nil
}

func TestTableOfHostileInputsIsLongAndOfEveryKind(t *testing.T) {
	kinds, seen := map[hostile.Kind]int{}, map[string]bool{}
	for _, c := range hostile.Cases() {
		kinds[c.Kind]++
		if key := string(c.Kind) + c.Input; seen[key] {
			t.Errorf("twice: %s %.100s", c.Kind, c.Input)
		} else {
			seen[key] = true
		}
	}
	if len(seen) < 120 || len(kinds) != 5 {
		t.Errorf("%d cases of %v", len(seen), kinds)
	}
}

// A bomb is nothing to the gate: its functions have their use.
func TestBombsPassTheGateForTheConfinementToStop(t *testing.T) {
	conn := connect(t, locked(t, "", hostile.Setup()))
	for _, c := range hostile.Bombs() {
		if _, err := pass(context.Background(), conn, c, hostile.Paths{}); err != nil {
			t.Errorf("%s: %v", c.Input, err)
		}
	}
}
