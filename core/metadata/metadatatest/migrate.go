package metadatatest

import (
	"context"
	"errors"
	"testing"

	"github.com/eiderdb/eider/core/metadata"
)

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

func migrationsInOrder(t *testing.T, open Opener) {
	ctx := context.Background()
	all := []metadata.Migration{
		{Owner: "b", Number: 1, SQL: []string{`CREATE TABLE t (id TEXT PRIMARY KEY)`, `INSERT INTO t VALUES ('1')`}},
		{Owner: "b", Number: 2, SQL: []string{`ALTER TABLE t ADD COLUMN n BIGINT`, `UPDATE t SET n = 2`}},
		{Owner: "a", Number: 1, SQL: []string{`CREATE TABLE u (id TEXT PRIMARY KEY, n BIGINT)`, `INSERT INTO u SELECT id, n FROM t`}},
		{Owner: "b", Number: 3, SQL: []string{`DROP TABLE t`}},
	}
	e := open(t)
	// One that fails leaves those before it applied, and is applied once it can be.
	broken := append([]metadata.Migration{}, all...)
	broken[2].SQL = append(append([]string{}, broken[2].SQL...), `INSERT INTO u SELECT id, n FROM t`)
	if e.Migrate(ctx, broken) == nil {
		t.Error("a migration that inserts a key twice passed")
	}
	must(t, e.Close())
	e = open(t)
	must(t, e.Migrate(ctx, all))
	must(t, e.Close())
	e = open(t)
	defer e.Close()
	must(t, e.Migrate(ctx, all))
	rows, err := e.Query(ctx, `SELECT id, n FROM u`)
	must(t, err)
	defer rows.Close()
	var id string
	var n, found int64
	for ; rows.Next(); found++ {
		must(t, rows.Scan(&id, &n))
	}
	if must(t, rows.Err()); found != 1 || id != "1" || n != 2 {
		t.Errorf("%d rows, the last is %q, %d", found, id, n)
	}
	if err := e.Migrate(ctx, all[:3]); !errors.Is(err, metadata.ErrNewer) {
		t.Errorf("an owner's newest migration is unknown: %v", err)
	}
}
