package duckdb

import (
	"context"
	"io"

	"github.com/eiderdb/eider/core/metadata"
)

// Snapshot copies the database while the writer goes on; see duck.DB.Snapshot.
// Checkpoints wait until it is over.
func (e *Engine) Snapshot(ctx context.Context, write func(suffix string, r io.Reader) error) error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	e.snapshots.Add(1)
	defer e.snapshots.Add(-1)
	return translate(e.db.Snapshot(ctx, write))
}

// Fold folds the write-ahead log into the file.
func (e *Engine) Fold(ctx context.Context) error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return translate(e.db.Checkpoint(ctx))
}

// Behind reports whether the database lacks some of the migrations, and has been
// migrated before.
func (e *Engine) Behind(ctx context.Context, all []metadata.Migration) (bool, error) {
	rows, err := e.Query(ctx, `SELECT 1 FROM duckdb_tables() WHERE table_name = 'schema_version'`)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	if !rows.Next() {
		return false, rows.Err()
	}
	applied, err := e.versions(ctx)
	if err != nil || len(applied) == 0 {
		return false, err
	}
	for _, m := range all {
		if m.Number > applied[m.Owner] {
			return true, nil
		}
	}
	return false, nil
}
