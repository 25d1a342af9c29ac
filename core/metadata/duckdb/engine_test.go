package duckdb_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/metadata/duckdb"
	"github.com/eiderdb/eider/core/metadata/metadatatest"
)

func fresh(t *testing.T) metadatatest.Opener {
	path := filepath.Join(t.TempDir(), "metadata.duckdb")
	return func(t testing.TB) metadata.Engine { return open(t, duckdb.Options{Path: path}) }
}

func open(t testing.TB, o duckdb.Options) *duckdb.Engine {
	t.Helper()
	e, err := duckdb.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestConformance(t *testing.T) { metadatatest.Run(t, fresh) }

func TestStore(t *testing.T) { metadatatest.RunStore(t, fresh) }
