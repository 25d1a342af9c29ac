package duck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// StorageVersion is the storage version of project databases: the oldest DuckDB
// that can open them.
const StorageVersion = "v1.2.0"

// CreateTemplate makes a new, empty, closed database file, to be copied for new
// databases: 1.4 ms each, where making one takes 30 to 50 ms.
func CreateTemplate(ctx context.Context, path string) error {
	for _, old := range []string{path, path + ".wal", JournalPath(path)} {
		if err := os.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the old template: %w", err)
		}
	}
	db, err := Open(ctx, path, Options{Settings: map[string]string{"storage_compatibility_version": StorageVersion}})
	if err != nil {
		return fmt.Errorf("make the template: %w", err)
	}
	if err := errors.Join(db.foldBare(ctx), db.Close()); err != nil {
		return fmt.Errorf("make the template: %w", err)
	}
	if _, err := os.Stat(path + ".wal"); err == nil {
		return fmt.Errorf("the template has a write-ahead log")
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
