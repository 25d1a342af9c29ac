package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/backup"
	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
)

// rebuild makes the rows of backups again, of the manifests in their folder: those that
// were made before are listed, verified and removed in their turn like others.
func (r *Recovery) rebuild(ctx context.Context, report *check.Rebuild) error {
	all, err := r.unlisted(ctx, report)
	if err != nil || len(all) == 0 {
		return errors.Join(err, ctx.Err())
	}
	return report.Commit(ctx, "backup", map[string]any{"backups": len(all)}, func(tx *metadata.Tx) error {
		return r.list(ctx, tx, all)
	})
}

// unlisted returns the backups in the folder of backups that have no row. It tells the
// report what is there, and what cannot be listed.
func (r *Recovery) unlisted(ctx context.Context, report *check.Rebuild) (all []Backup, err error) {
	entries, err := os.ReadDir(r.folder())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the folder of backups: %w", errors.Unwrap(err))
	}
	for n, e := range entries {
		report.Tell("backups", n+1, len(entries))
		if strings.HasPrefix(e.Name(), ".") {
			continue // one that was not finished
		}
		m, err := backup.Read(r.final(e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is none
		}
		if err != nil {
			report.Lose(fmt.Sprintf("backup %s: its manifest cannot be read", e.Name()))
			continue
		}
		if m.ID != e.Name() {
			report.Lose(fmt.Sprintf("backup %s: by its manifest it is a copy of backup %s, and is listed once its folder has that name", e.Name(), m.ID))
			continue
		}
		report.Count("backups", 1)
		if _, err := r.backups.Get(ctx, r.kernel.View, m.ID); err == nil {
			continue // an earlier try has brought it back
		}
		all = append(all, Backup{
			ID: m.ID, Status: complete, CreatedAt: m.CreatedAt.UTC(), Projects: m.Projects, Files: m.Files,
			LogID: m.LogID, Entries: int64(m.Entries), SizeBytes: m.SizeBytes,
		})
	}
	return all, nil
}

func (r *Recovery) list(ctx context.Context, tx *metadata.Tx, all []Backup) error {
	for _, b := range all {
		if err := r.backups.Put(ctx, tx, b); err != nil {
			return err
		}
	}
	return nil
}

// foundBackups are those that a restored register does not know.
type foundBackups struct{ Backups []Backup }

// declareList declares how backups are listed again that are newer than the one from which
// the register was restored, where they are kept outside the data folder.
func (r *Recovery) declareList(reg *core.Registry) {
	r.listOp = operation.Write(reg.Operations, operation.Spec{
		Name: "rebuild", ID: "list_found_backups", Route: operation.Internal + " /admin/backups/found", Role: eider.Admin, Target: "backup", Frees: true,
	}, func(ctx context.Context, tx *operation.Tx, in foundBackups) (operation.Nothing, error) {
		operation.From(ctx).Detail("backups", len(in.Backups))
		return operation.Nothing{}, r.list(ctx, tx, in.Backups)
	})
}

const selectRestored = `
	SELECT operation, details FROM operations_log
	WHERE status = 'success' AND (operation = 'restore' AND resource_type = 'metadata' OR operation = 'rebuild' AND resource_type = 'backup')
	ORDER BY id DESC LIMIT 2`

// listFound lists the backups that a restored register lacks, once after a restore.
func (r *Recovery) listFound(ctx context.Context) error {
	if r.looked {
		return nil
	}
	rows, err := r.kernel.View.Query(ctx, selectRestored)
	if err != nil {
		return err
	}
	var found []string // a restore and what listed the others behind it, newest first
	for rows.Next() && err == nil {
		var operation, details string
		var said struct {
			From string `json:"from"`
		}
		err = rows.Scan(&operation, &details)
		if found = append(found, operation); operation == "restore" && json.Unmarshal([]byte(details), &said) == nil && r.restoredFrom == "" {
			r.restoredFrom = said.From
		}
	}
	err = errors.Join(err, rows.Err())
	rows.Close()
	if err != nil {
		return err
	}
	if len(found) > 0 && found[0] == "restore" {
		all, err := r.unlisted(ctx, &check.Rebuild{Tell: func(string, int, int) {}})
		if err != nil {
			return err
		}
		if len(all) > 0 {
			if _, err := r.listOp.Do(ctx, r.kernel.Pipeline, keeper, "", foundBackups{all}); err != nil {
				return fmt.Errorf("list the backups that are there: %w", err)
			}
			r.kernel.Log.Info("backups are listed that the restored register did not know", "backups", len(all))
		}
	}
	r.looked = true
	return nil
}
