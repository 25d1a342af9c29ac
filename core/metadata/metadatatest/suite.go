// Package metadatatest is the conformance suite of metadata engines: what the
// store relies on, whatever keeps the tables.
package metadatatest

import (
	"context"
	"errors"
	"fmt"
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

var others = metadata.Spec{Name: "others", Columns: []metadata.Column{{Name: "n", Kind: metadata.Int}, {Name: "note", Kind: metadata.Text}}}

var first = metadata.Migration{Owner: "suite", Number: 1, SQL: []string{
	`CREATE TABLE things (id TEXT PRIMARY KEY, n BIGINT, ok BOOLEAN, happened TIMESTAMPTZ, raw BYTEA, note TEXT)`,
	`CREATE TABLE others (n BIGINT NOT NULL, note TEXT NOT NULL)`}}

// Run runs the suite. open is called with a fresh database for each test.
func Run(t *testing.T, fresh func(t *testing.T) Opener) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Opener)
	}{
		{"batch is durable", batchIsDurable},
		{"batch is whole over its tables", batchIsWhole},
		{"large batch", largeBatch},
		{"empty batch", emptyBatch},
		{"failing batch keeps nothing", failingBatchKeepsNothing},
		{"cancelled commit is whole or nothing", cancelledCommit},
		{"values come back equal", valuesComeBack},
		{"values that would be stored as others are refused", valuesRefused},
		{"random values come back equal", randomValues},
		{"migrations run once and forward only", migrationsRunOnce},
		{"migrations run in order", migrationsInOrder},
		{"failing migration keeps nothing", failingMigration},
		{"reads see what is committed", readsSeeCommitted},
		{"reads go on beside commits", readsBesideCommits},
		{"open rows keep what they have seen", openRows},
		{"query refuses what it cannot run", queryRefuses},
		{"an engine that is reopened has everything", reopenedHasAll},
		{"a closed engine refuses", closedRefuses},
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

// count returns how many things there are.
func count(t testing.TB, e metadata.Engine) int64 {
	t.Helper()
	n, err := counted(e)
	must(t, err)
	return n
}

func counted(e metadata.Engine) (n int64, err error) {
	rows, err := e.Query(context.Background(), `SELECT count(*) FROM things`)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		err = rows.Scan(&n)
	}
	return n, errors.Join(err, rows.Err())
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

func batchIsWhole(t *testing.T, open Opener) {
	ctx := context.Background()
	e := migrated(t, open)
	defer e.Close()
	must(t, e.Commit(ctx, &metadata.Batch{Changes: []metadata.Change{
		{Table: &things, Insert: [][]any{thing("a", 1), thing("b", 1)}}, {Table: &others, Insert: [][]any{{int64(1), "x"}}}}}))
	bad := metadata.Change{Table: &others, Insert: [][]any{{"no number", "y"}}}
	for _, batch := range [][]metadata.Change{
		{{Table: &things, Insert: [][]any{thing("c", 2)}}, bad},
		{{Table: &things, Update: [][]any{thing("a", 2)}}, bad},
		{{Table: &things, Delete: []any{"b"}}, bad},
		{bad, {Table: &things, Delete: []any{"b"}}},
	} {
		if err := e.Commit(ctx, &metadata.Batch{Changes: batch}); !errors.Is(err, metadata.ErrRolledBack) {
			t.Errorf("%v: %v, want ErrRolledBack", batch, err)
		}
		want(t, e, map[string]int64{"a": 1, "b": 1})
	}
	// A table whose rows are only appended needs no key.
	must(t, e.Commit(ctx, &metadata.Batch{Changes: []metadata.Change{{Table: &others, Insert: [][]any{{int64(1), "x"}}}}}))
}

func largeBatch(t *testing.T, open Opener) {
	ctx := context.Background()
	const n = 5000
	e := migrated(t, open)
	var rows, changed [][]any
	var gone []any
	for i := range int64(n) {
		id := fmt.Sprint(i)
		rows = append(rows, thing(id, i))
		switch i % 3 {
		case 0:
			changed = append(changed, thing(id, -i))
		case 1:
			gone = append(gone, id)
		}
	}
	must(t, e.Commit(ctx, &metadata.Batch{Changes: []metadata.Change{{Table: &things, Insert: rows}}}))
	must(t, e.Commit(ctx, &metadata.Batch{Changes: []metadata.Change{{Table: &things, Update: changed, Delete: gone}}}))
	must(t, e.Close())
	e = migrated(t, open)
	defer e.Close()
	left := map[string]int64{}
	for i := range int64(n) {
		switch i % 3 {
		case 0:
			left[fmt.Sprint(i)] = -i
		case 2:
			left[fmt.Sprint(i)] = i
		}
	}
	want(t, e, left)
}

func emptyBatch(t *testing.T, open Opener) {
	e := migrated(t, open)
	defer e.Close()
	for _, b := range []metadata.Batch{{}, {Changes: []metadata.Change{{Table: &things}}}, {Changes: []metadata.Change{{Table: &things, Delete: []any{"no such key"}}}}} {
		must(t, e.Commit(context.Background(), &b))
	}
	want(t, e, nil)
}

func failingBatchKeepsNothing(t *testing.T, open Opener) {
	ctx := context.Background()
	e := migrated(t, open)
	defer e.Close()
	must(t, e.Commit(ctx, &metadata.Batch{Changes: []metadata.Change{{Table: &things, Insert: [][]any{thing("a", 1)}}}}))
	nowhere := metadata.Spec{Name: "nowhere", Columns: things.Columns}
	for name, bad := range map[string]metadata.Change{
		"duplicate key":               {Table: &things, Insert: [][]any{thing("b", 1), thing("a", 2)}},
		"key twice":                   {Table: &things, Insert: [][]any{thing("b", 1), thing("b", 2)}},
		"no key":                      {Table: &things, Insert: [][]any{thing("b", 1), {nil, int64(1), true, time.Now(), []byte{}, ""}}},
		"too few values":              {Table: &things, Insert: [][]any{thing("b", 1), {"x"}}},
		"too many values":             {Table: &things, Insert: [][]any{thing("b", 1), append(thing("c", 1), "")}},
		"too few values in an update": {Table: &things, Insert: [][]any{thing("b", 1)}, Update: [][]any{{"a", int64(2)}}},
		"no such table":               {Table: &nowhere, Insert: [][]any{thing("b", 1)}},
	} {
		err := e.Commit(ctx, &metadata.Batch{Changes: []metadata.Change{bad}})
		if !errors.Is(err, metadata.ErrRolledBack) {
			t.Errorf("%s: %v, want ErrRolledBack", name, err)
		}
		must(t, e.Dead())
		want(t, e, map[string]int64{"a": 1})
	}
	must(t, e.Commit(ctx, &metadata.Batch{Changes: []metadata.Change{{Table: &things, Insert: [][]any{thing("b", 2)}}}}))
	want(t, e, map[string]int64{"a": 1, "b": 2})
}

// A commit may heed a context until it has begun to make the batch durable.
func cancelledCommit(t *testing.T, open Opener) {
	e := migrated(t, open)
	defer e.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := e.Commit(ctx, &metadata.Batch{Changes: []metadata.Change{{Table: &things, Insert: [][]any{thing("a", 1), thing("b", 2)}}}})
	switch {
	case err == nil:
		want(t, e, map[string]int64{"a": 1, "b": 2})
	case errors.Is(err, metadata.ErrRolledBack):
		want(t, e, nil)
	default:
		t.Errorf("a cancelled commit ends with %v", err)
	}
	must(t, e.Commit(context.Background(), &metadata.Batch{Changes: []metadata.Change{{Table: &things, Insert: [][]any{thing("c", 3)}}}}))
}
