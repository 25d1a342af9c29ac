package metadatatest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/eiderdb/eider/core/metadata"
)

func insert(t testing.TB, e metadata.Engine, ids ...string) {
	t.Helper()
	change := metadata.Change{Table: &things}
	for _, id := range ids {
		change.Insert = append(change.Insert, thing(id, 1))
	}
	must(t, e.Commit(context.Background(), &metadata.Batch{Changes: []metadata.Change{change}}))
}

func readsSeeCommitted(t *testing.T, open Opener) {
	e := migrated(t, open)
	defer e.Close()
	for n := range int64(20) {
		insert(t, e, fmt.Sprint(n))
		if seen := count(t, e); seen != n+1 {
			t.Fatalf("after %d commits a read sees %d rows", n+1, seen)
		}
	}
}

// What a read counts is a whole number of batches, and never fewer than before.
func readsBesideCommits(t *testing.T, open Opener) {
	e := migrated(t, open)
	defer e.Close()
	ended := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for last := int64(0); ; {
				n, err := counted(e)
				if err != nil || n%3 != 0 || n < last {
					t.Errorf("after %d rows a read sees %d, %v", last, n, err)
				}
				last = n
				select {
				case <-ended:
					return
				default:
				}
			}
		})
	}
	for i := range 30 {
		insert(t, e, fmt.Sprint(i, "a"), fmt.Sprint(i, "b"), fmt.Sprint(i, "c"))
		must(t, e.Maintain(context.Background()))
	}
	close(ended)
	readers.Wait()
}

func openRows(t *testing.T, open Opener) {
	ctx := context.Background()
	e := migrated(t, open)
	defer e.Close()
	var ids []string
	for i := range 5000 {
		ids = append(ids, fmt.Sprint(i))
	}
	insert(t, e, ids...)
	rows, err := e.Query(ctx, `SELECT id FROM things`)
	must(t, err)
	if !rows.Next() {
		t.Fatal("no row")
	}
	insert(t, e, "late")
	must(t, e.Commit(ctx, &metadata.Batch{Changes: []metadata.Change{{Table: &things, Delete: []any{"0", "4999"}}}}))
	_ = e.Maintain(ctx) // may be kept off by the rows, and must not wait for them
	seen := 1
	for rows.Next() {
		seen++
	}
	must(t, rows.Err())
	must(t, rows.Close())
	must(t, rows.Close())
	if rows.Next() {
		t.Error("closed rows go on")
	}
	if seen != 5000 || count(t, e) != 4999 {
		t.Errorf("open rows saw %d, later ones %d", seen, count(t, e))
	}
	rows, err = e.Query(ctx, `SELECT id FROM things`)
	must(t, err)
	must(t, rows.Close()) // unread
}

func queryRefuses(t *testing.T, open Opener) {
	ctx := context.Background()
	e := migrated(t, open)
	defer e.Close()
	insert(t, e, "a")
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	for name, ask := range map[string]func() (metadata.Rows, error){
		"a cancelled query": func() (metadata.Rows, error) { return e.Query(cancelled, `SELECT 1`) },
		"no such table":     func() (metadata.Rows, error) { return e.Query(ctx, `SELECT 1 FROM nowhere`) },
		"no statement":      func() (metadata.Rows, error) { return e.Query(ctx, `SELEC 1`) },
		"too few arguments": func() (metadata.Rows, error) { return e.Query(ctx, `SELECT 1 FROM things WHERE id = $1`) },
		"two statements":    func() (metadata.Rows, error) { return e.Query(ctx, `DELETE FROM things; SELECT 1`) },
	} {
		rows, err := ask()
		if err == nil {
			rows.Next()
			if rows.Err() == nil {
				t.Errorf("%s ran", name)
			}
			must(t, rows.Close())
		}
	}
	must(t, e.Dead())
	want(t, e, map[string]int64{"a": 1})
}

func reopenedHasAll(t *testing.T, open Opener) {
	ctx := context.Background()
	e := migrated(t, open)
	insert(t, e, "a")
	must(t, e.Reopen(ctx))
	must(t, e.Dead())
	want(t, e, map[string]int64{"a": 1})
	insert(t, e, "b")
	// Readers do not know that it is reopened: they get an answer or an error.
	ended := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				rows, err := e.Query(ctx, `SELECT id FROM things`)
				if err != nil {
					continue
				}
				for n := 0; rows.Next(); n++ {
					var id string
					_ = rows.Scan(&id)
				}
				_ = rows.Close()
			}
		})
	}
	for i := range 5 {
		must(t, e.Reopen(ctx))
		insert(t, e, fmt.Sprint(i))
	}
	close(ended)
	readers.Wait()
	must(t, e.Close())
	e = migrated(t, open)
	defer e.Close()
	want(t, e, map[string]int64{"a": 1, "b": 1, "0": 1, "1": 1, "2": 1, "3": 1, "4": 1})
}

func closedRefuses(t *testing.T, open Opener) {
	e := migrated(t, open)
	insert(t, e, "a")
	must(t, e.Close())
	if rows, err := e.Query(context.Background(), `SELECT 1`); err == nil {
		rows.Close()
		t.Error("a closed engine answers")
	}
	if e.Commit(context.Background(), &metadata.Batch{Changes: []metadata.Change{{Table: &things, Insert: [][]any{thing("b", 1)}}}}) == nil {
		t.Error("a closed engine commits")
	}
}
