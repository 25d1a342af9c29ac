package metadata_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/metadata"
)

type item struct{ ID string }

func itemDef() metadata.Def[item] {
	return metadata.Def[item]{
		Name: "items", Columns: []metadata.Column{{Name: "id", Kind: metadata.Text}}, Hot: true,
		Key: func(i *item) string { return i.ID }, Encode: func(i *item) []any { return []any{i.ID} },
		Decode: func(scan func(...any) error) (i item, err error) { return i, scan(&i.ID) },
	}
}

type noLog struct{}

func (noLog) Load(context.Context, *metadata.View) error { return nil }
func (noLog) Seal(*metadata.Group) error                 { return nil }
func (noLog) Sealed(*metadata.Group)                     {}
func (noLog) Kept(*metadata.Group) bool                  { return false }

func openStore(t *testing.T, tables []metadata.AnyTable, migrations ...metadata.Migration) *metadata.Store {
	t.Helper()
	s, err := metadata.Open(t.Context(), metadata.Options{
		Engine: newDatabase().open(t), Tables: tables, Migrations: migrations, Sealer: noLog{},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestMistakeInADeclarationPanics(t *testing.T) {
	table := metadata.NewTable(itemDef())
	store := openStore(t, []metadata.AnyTable{table})
	migration := func(owner string, number int) metadata.Migration {
		return metadata.Migration{Owner: owner, Number: number}
	}
	for name, mistake := range map[string]func(){
		"a unique index of a table that is not hot": func() {
			def := itemDef()
			def.Hot, def.Unique = false, map[string]func(*item) (string, bool){"id": nil}
			metadata.NewTable(def)
		},
		"an order of a table that is not hot": func() {
			def := itemDef()
			def.Hot, def.Orders = false, map[string]func(a, b *item) int{"id": nil}
			metadata.NewTable(def)
		},
		"no such order":              func() { table.Scan(metadata.Range[item]{Order: "none"}, func(*item) bool { return true }) },
		"no such index":              func() { _, _ = table.By(t.Context(), store.View(), "none", "") },
		"migrations that begin at 2": func() { openStore(t, nil, migration("a", 2)) },
		"migrations with a gap":      func() { openStore(t, nil, migration("a", 1), migration("b", 1), migration("a", 3)) },
		"migrations with a double":   func() { openStore(t, nil, migration("a", 1), migration("a", 1)) },
		"migrations that run back":   func() { openStore(t, nil, migration("a", 1), migration("a", 2), migration("a", 1)) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			mistake()
		}()
	}
}

// A function that panics is its caller's error, and no one else's.
func TestPanicIsAnError(t *testing.T) {
	store := openStore(t, nil)
	if _, err := store.Write(t.Context(), func(*metadata.Tx) error { panic("provoked") }); err == nil {
		t.Error("a panic is no error")
	}
	refusal := errors.New("refused")
	if _, err := store.Write(t.Context(), func(*metadata.Tx) error { return refusal }); err != refusal {
		t.Errorf("a refusal comes back as %v", err)
	}
	receipt, err := store.Write(t.Context(), func(*metadata.Tx) error { return nil })
	if err != nil || receipt.Group != 1 {
		t.Errorf("got %+v, %v", receipt, err)
	}
}

func TestTimesThatMayBeNull(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("east", 3600))
	if metadata.NullTime(time.Time{}) != nil || metadata.NullTime(at) != at {
		t.Error("a time is stored as NULL, or the zero time is not")
	}
	if !metadata.OrZero(nil).IsZero() {
		t.Error("NULL is not the zero time")
	}
	if got := metadata.OrZero(&at); !got.Equal(at) || got.Location() != time.UTC {
		t.Errorf("%v comes back as %v", at, got)
	}
}
