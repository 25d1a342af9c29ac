package duckdb_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/metadata/duckdb"
	"github.com/eiderdb/eider/core/metadata/metadatatest"
)

func TestConformance(t *testing.T) {
	metadatatest.Run(t, func(t *testing.T) metadatatest.Opener {
		path := filepath.Join(t.TempDir(), "metadata.duckdb")
		return func(t *testing.T) metadata.Engine {
			e, err := duckdb.Open(context.Background(), duckdb.Options{Path: path})
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
	})
}
