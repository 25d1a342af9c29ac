package duckdb_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/metadata/duckdb"
)

// killed returns the files of an engine that was killed with commits in its
// write-ahead log.
func killed(t *testing.T) (database, log []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "metadata.duckdb")
	e := open(t, duckdb.Options{Path: path})
	must(t, e.Migrate(t.Context(), migrations))
	for i := range 20 {
		must(t, e.Commit(t.Context(), inserts(fmt.Sprint(i))))
	}
	database, err := os.ReadFile(path)
	must(t, err)
	log, err = os.ReadFile(path + ".wal")
	must(t, err)
	must(t, e.Close())
	return database, log
}

func inserts(id string) *metadata.Batch {
	return &metadata.Batch{Changes: []metadata.Change{{
		Table: &metadata.Spec{Name: "rows", Columns: []metadata.Column{{Name: "id", Kind: metadata.Text}}}, Insert: [][]any{{id}}}}}
}

// A start that is refused for what it finds must leave what it found: from a
// damaged log more rows may be had than DuckDB shows.
func TestEngineThatWroteNothingLeavesTheLogAsItWas(t *testing.T) {
	database, log := killed(t)
	flipped := bytes.Clone(log)
	flipped[0] ^= 1
	for _, c := range []struct {
		name    string
		log     []byte
		migrate bool
	}{
		{"whole", log, true},
		{"cut in half", log[:len(log)/2], true},
		{"cut by a byte", log[:len(log)-1], true},
		{"not begun as a log", flipped, false},
	} {
		path := filepath.Join(t.TempDir(), "metadata.duckdb")
		must(t, os.WriteFile(path, database, 0o600))
		must(t, os.WriteFile(path+".wal", c.log, 0o600))
		for range 2 {
			e := open(t, duckdb.Options{Path: path})
			if c.migrate {
				must(t, e.Migrate(t.Context(), migrations))
			}
			rows, err := e.Query(t.Context(), "SELECT 1")
			must(t, err)
			must(t, rows.Close())
			must(t, e.Maintain(t.Context()))
			must(t, e.Close())
		}
		for name, want := range map[string][]byte{path: database, path + ".wal": c.log} {
			if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %s has %d bytes, had %d: %v", c.name, filepath.Base(name), len(got), len(want), err)
			}
		}
	}
}

func TestCloseFoldsTheLogOfAnEngineThatWrote(t *testing.T) {
	database, log := killed(t)
	path := filepath.Join(t.TempDir(), "metadata.duckdb")
	must(t, os.WriteFile(path, database, 0o600))
	must(t, os.WriteFile(path+".wal", log, 0o600))
	e := open(t, duckdb.Options{Path: path})
	must(t, e.Commit(t.Context(), inserts("new")))
	must(t, e.Close())
	if info, err := os.Stat(path + ".wal"); err == nil && info.Size() > 0 {
		t.Errorf("%d bytes of log are left", info.Size())
	}
	if n := rowsIn(t, path); n != 21 {
		t.Errorf("%d rows", n)
	}
}

func rowsIn(t *testing.T, path string) int {
	t.Helper()
	store, rows, err := openStore(path, false, nil)
	must(t, err)
	defer store.Close()
	return rows.Len()
}

func TestMaintainFoldsTheLogOnceItIsLarge(t *testing.T) {
	const most = 64 << 10
	path := filepath.Join(t.TempDir(), "metadata.duckdb")
	e := open(t, duckdb.Options{Path: path, CheckpointSize: most})
	must(t, e.Migrate(t.Context(), migrations))
	largest, folded := int64(0), 0
	for i := range 60 {
		before, err := e.WALSize()
		must(t, err)
		must(t, e.Commit(t.Context(), inserts(fmt.Sprintf("%d %s", i, bytes.Repeat([]byte{'x'}, 4<<10)))))
		must(t, e.Maintain(t.Context()))
		after, err := e.WALSize()
		must(t, err)
		largest = max(largest, after)
		if after < before {
			folded++
		}
	}
	if largest >= most || folded < 2 {
		t.Errorf("the log grew to %d bytes and was folded %d times", largest, folded)
	}
	must(t, e.Close())
	if n := rowsIn(t, path); n != 60 {
		t.Errorf("%d rows", n)
	}
}

// Reopening must end what reads: a connection that stays would keep the old
// instance, and the file would be opened twice.
func TestReopenCutsOffWhatIsRead(t *testing.T) {
	e := open(t, duckdb.Options{Path: filepath.Join(t.TempDir(), "metadata.duckdb")})
	must(t, e.Migrate(t.Context(), migrations))
	rows, err := e.Query(context.Background(), "SELECT range FROM range(1000000)")
	must(t, err)
	if !rows.Next() {
		t.Fatal("no row")
	}
	must(t, e.Reopen(t.Context()))
	for rows.Next() {
	}
	if rows.Err() == nil {
		t.Error("rows of the old instance ended as if they were all")
	}
	must(t, rows.Close())
	must(t, e.Commit(t.Context(), inserts("new")))
	must(t, e.Close())
}
