// Package metadatatest is the conformance suite of metadata engines: what the
// store relies on, whatever keeps the tables.
package metadatatest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/metadata"
)

// Opener opens an engine on the database that the test has to itself. Calling
// it again after Close opens the same database.
type Opener func(t testing.TB) metadata.Engine

var things = metadata.Spec{Name: "things", Columns: []metadata.Column{
	{Name: "id", Kind: metadata.Text}, {Name: "n", Kind: metadata.Int}, {Name: "ok", Kind: metadata.Bool},
	{Name: "happened", Kind: metadata.Time}, {Name: "raw", Kind: metadata.Bytes}, {Name: "note", Kind: metadata.Text},
}}

var first = metadata.Migration{Owner: "suite", Number: 1, SQL: []string{
	`CREATE TABLE things (id TEXT PRIMARY KEY, n BIGINT, ok BOOLEAN, happened TIMESTAMPTZ, raw BYTEA, note TEXT)`}}

// Run runs the suite. open is called with a fresh database for each test.
func Run(t *testing.T, fresh func(t *testing.T) Opener) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Opener)
	}{
		{"batch is durable", batchIsDurable},
		{"values come back equal", valuesComeBack},
		{"failing batch keeps nothing", failingBatchKeepsNothing},
		{"migrations run once and forward only", migrationsRunOnce},
		{"failing migration keeps nothing", failingMigration},
		{"reads do not see a batch that failed and see one that did not", readsSeeCommitted},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, fresh(t)) })
	}
}

func migrated(t *testing.T, open Opener) metadata.Engine {
	t.Helper()
	e := open(t)
	must(t, e.Migrate(context.Background(), []metadata.Migration{first}))
	return e
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func thing(id string, n int64) []any {
	return []any{id, n, true, time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC), []byte{0, 1, 255}, "é \"quoted\" {}"}
}

func batchIsDurable(t *testing.T, open Opener) {
	ctx := context.Background()
	e := migrated(t, open)
	must(t, e.Commit(ctx, &metadata.Batch{Changes: []metadata.Change{{Table: &things, Insert: [][]any{thing("a", 1), thing("b", 2), thing("c", 3)}}}}))
	must(t, e.Commit(ctx, &metadata.Batch{Changes: []metadata.Change{{
		Table: &things, Insert: [][]any{thing("d", 4)}, Update: [][]any{thing("b", 20)}, Delete: []any{"a"}}}}))
	must(t, e.Maintain(ctx))
	must(t, e.Close())

	e = migrated(t, open)
	defer e.Close()
	want(t, e, map[string]int64{"b": 20, "c": 3, "d": 4})
}

func want(t *testing.T, e metadata.Engine, want map[string]int64) {
	t.Helper()
	rows, err := e.Query(context.Background(), `SELECT id, n FROM things`)
	must(t, err)
	defer rows.Close()
	got := map[string]int64{}
	for rows.Next() {
		var id string
		var n int64
		must(t, rows.Scan(&id, &n))
		got[id] = n
	}
	must(t, rows.Err())
	if len(got) != len(want) {
		t.Fatalf("the table holds %v, want %v", got, want)
	}
	for id, n := range want {
		if got[id] != n {
			t.Fatalf("the table holds %v, want %v", got, want)
		}
	}
}

func valuesComeBack(t *testing.T, open Opener) {
	ctx := context.Background()
	e := migrated(t, open)
	defer e.Close()
	full, empty := thing("full", -1<<63), []any{"empty", nil, nil, nil, nil, nil}
	must(t, e.Commit(ctx, &metadata.Batch{Changes: []metadata.Change{{Table: &things, Insert: [][]any{full, empty}}}}))
	rows, err := e.Query(ctx, `SELECT n, ok, happened, raw, note FROM things WHERE id = $1`, "full")
	must(t, err)
	defer rows.Close()
	if !rows.Next() {
		t.Fatal("the row is not there")
	}
	var n int64
	var ok bool
	var at time.Time
	var raw []byte
	var note string
	must(t, rows.Scan(&n, &ok, &at, &raw, &note))
	if n != -1<<63 || !ok || !at.Equal(full[3].(time.Time)) || string(raw) != "\x00\x01\xff" || note != full[5] {
		t.Fatalf("came back as %v %v %v %v %q", n, ok, at, raw, note)
	}
}

func failingBatchKeepsNothing(t *testing.T, open Opener) {
	ctx := context.Background()
	e := migrated(t, open)
	defer e.Close()
	must(t, e.Commit(ctx, &metadata.Batch{Changes: []metadata.Change{{Table: &things, Insert: [][]any{thing("a", 1)}}}}))
	for name, bad := range map[string][]any{
		"duplicate key": thing("a", 2), "too few values": {"x"}, "invalid UTF-8": {"x", int64(1), true, time.Now(), []byte{}, "\xff"},
	} {
		err := e.Commit(ctx, &metadata.Batch{Changes: []metadata.Change{{Table: &things, Insert: [][]any{thing("b", 1), bad}}}})
		if !errors.Is(err, metadata.ErrRolledBack) && !(name == "duplicate key" && err != nil) {
			t.Errorf("%s: %v, want ErrRolledBack", name, err)
		}
		want(t, e, map[string]int64{"a": 1})
	}
	must(t, e.Commit(ctx, &metadata.Batch{Changes: []metadata.Change{{Table: &things, Insert: [][]any{thing("b", 2)}}}}))
	want(t, e, map[string]int64{"a": 1, "b": 2})
}

func migrationsRunOnce(t *testing.T, open Opener) {
	ctx := context.Background()
	second := metadata.Migration{Owner: "suite", Number: 2, SQL: []string{`CREATE TABLE more (id TEXT PRIMARY KEY)`}}
	e := migrated(t, open)
	must(t, e.Migrate(ctx, []metadata.Migration{first}))
	must(t, e.Migrate(ctx, []metadata.Migration{first, second}))
	must(t, e.Close())
	e = open(t)
	defer e.Close()
	for _, known := range [][]metadata.Migration{{first}, {}} {
		if err := e.Migrate(ctx, known); !errors.Is(err, metadata.ErrNewer) {
			t.Errorf("a database newer than %v: %v, want ErrNewer", known, err)
		}
	}
}

func failingMigration(t *testing.T, open Opener) {
	ctx := context.Background()
	broken := metadata.Migration{Owner: "suite", Number: 2, SQL: []string{`CREATE TABLE more (id TEXT)`, `CREATE TABLE things (id TEXT)`}}
	e := migrated(t, open)
	defer e.Close()
	if e.Migrate(ctx, []metadata.Migration{first, broken}) == nil {
		t.Fatal("a migration that makes a table twice passed")
	}
	if rows, err := e.Query(ctx, `SELECT * FROM more`); err == nil {
		rows.Close()
		t.Fatal("half a migration was kept")
	}
	must(t, e.Migrate(ctx, []metadata.Migration{first}))
}

func readsSeeCommitted(t *testing.T, open Opener) {
	ctx := context.Background()
	e := migrated(t, open)
	defer e.Close()
	for n := range int64(20) {
		must(t, e.Commit(ctx, &metadata.Batch{Changes: []metadata.Change{{Table: &things, Insert: [][]any{thing(string(rune('a'+n)), n)}}}}))
		rows, err := e.Query(ctx, `SELECT count(*) FROM things`)
		must(t, err)
		var count int64
		rows.Next()
		must(t, rows.Scan(&count))
		must(t, rows.Close())
		if count != n+1 {
			t.Fatalf("after %d commits a read sees %d rows", n+1, count)
		}
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if rows, err := e.Query(cancelled, `SELECT 1`); err == nil {
		rows.Close()
		t.Error("a cancelled query ran")
	}
}
