package wasm

import (
	"context"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/metadata/duckdb"
)

// counting counts what each commit changes.
type counting struct {
	metadata.Engine
	most int
}

func (c *counting) Commit(ctx context.Context, b *metadata.Batch) error {
	n := 0
	for _, change := range b.Changes {
		n += len(change.Insert) + len(change.Update) + len(change.Delete)
	}
	c.most = max(c.most, n)
	return c.Engine.Commit(ctx, b)
}

type unlogged struct{}

func (unlogged) Load(context.Context, *metadata.View) error { return nil }
func (unlogged) Seal(*metadata.Group) error                 { return nil }
func (unlogged) Sealed(*metadata.Group)                     {}
func (unlogged) Kept(*metadata.Group) bool                  { return false }

// remembers opens what plugins remember, in the folder.
func remembers(t *testing.T, dir string) (*KV, *metadata.Store, *counting) {
	t.Helper()
	engine, err := duckdb.Open(t.Context(), duckdb.Options{Path: filepath.Join(dir, "metadata.duckdb"), Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	k, c := NewKV(), &counting{Engine: engine}
	store, err := metadata.Open(t.Context(), metadata.Options{
		Engine: c, Tables: []metadata.AnyTable{k.Table}, Migrations: Migrations(), Sealer: unlogged{}, Housekeeping: []string{"plugin_state"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Open(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	return k, store, c
}

// A plugin that writes many keys does not hold up the writes of others: a group takes
// some of them, and those of other plugins beside. A server that stops keeps them all.
func TestAFloodOfKeysIsWrittenInParts(t *testing.T) {
	dir := t.TempDir()
	k, store, engine := remembers(t, dir)
	for n := range 4 * maxWritten {
		k.space("flood").set(strconv.Itoa(n), []byte("x"), 0)
	}
	k.space("other").set("a", []byte("b"), time.Hour)
	k.space("other").set("gone", nil, 0)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if engine.most > maxWritten+2 {
		t.Errorf("one group has %d rows", engine.most)
	}
	k, store, _ = remembers(t, dir)
	if got := len(k.space("flood").entries); got != 4*maxWritten {
		t.Errorf("%d keys are kept", got)
	}
	k.space("other").delete("gone")
	k.space("other").set("a", []byte("c"), 0)
	k.space("other").set("new", nil, 0)
	k.space("other").delete("new")
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	k, store, _ = remembers(t, dir)
	if v, ok := k.space("other").get("a"); !ok || string(v) != "c" || len(k.space("other").entries) != 1 {
		t.Errorf("it remembers %v", k.space("other").entries)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}
