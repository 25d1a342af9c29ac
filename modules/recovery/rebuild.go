package recovery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/eiderdb/eider/core/backup"
	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/core/metadata"
)

// rebuild makes the rows of backups again, of the manifests in their folder: those that
// were made before are listed, verified and removed in their turn like others.
func (r *Recovery) rebuild(ctx context.Context, report *check.Rebuild) error {
	entries, err := os.ReadDir(r.folder())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the folder of backups: %w", errors.Unwrap(err))
	}
	var found []Backup
	for n, e := range entries {
		report.Tell("backups", n+1, len(entries))
		if strings.HasPrefix(e.Name(), ".") {
			continue // one that was not finished
		}
		m, err := backup.Read(r.final(e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is none
		}
		if err != nil || m.ID != e.Name() {
			report.Lose(fmt.Sprintf("backup %s: its manifest cannot be read", e.Name()))
			continue
		}
		report.Count("backups", 1)
		if _, err := r.backups.Get(ctx, r.kernel.View, m.ID); err == nil {
			continue // an earlier try has brought it back
		}
		found = append(found, Backup{
			ID: m.ID, Status: complete, CreatedAt: m.CreatedAt.UTC(), Projects: m.Projects, Files: m.Files,
			LogID: m.LogID, Entries: int64(m.Entries), SizeBytes: m.SizeBytes,
		})
	}
	if len(found) == 0 {
		return ctx.Err()
	}
	return report.Commit(ctx, "backup", map[string]any{"backups": len(found)}, func(tx *metadata.Tx) error {
		for _, b := range found {
			if err := r.backups.Put(ctx, tx, b); err != nil {
				return err
			}
		}
		return nil
	})
}
