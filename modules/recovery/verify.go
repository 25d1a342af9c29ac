package recovery

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/backup"
	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/operation"
)

// Verified is what reading a backup again has found.
type Verified struct {
	ID       string   `json:"id"`
	Verified bool     `json:"verified"`
	LogID    int64    `json:"log_id"`
	Entries  int64    `json:"entries"`
	Problems []string `json:"problems"`
	LeftOut  []string `json:"left_out,omitempty" doc:"Storage files and archives of the log that were missing or damaged when it was made, and so are not in it"`
}

func (r *Recovery) planVerify(ctx context.Context, tx *operation.Tx, in backupPath) (*backupPlan, error) {
	plan, err := r.planExpire(ctx, tx, in)
	if err == nil && r.isMissing(in.Backup) {
		err = eider.Errorf(eider.NotFound, "the backup's folder is not in its place: the list calls it missing")
	}
	return plan, err
}

// isMissing reports whether the folder of backups is there, and lacks the backup.
func (r *Recovery) isMissing(id string) bool {
	if _, err := os.Stat(r.folder()); err != nil {
		return false
	}
	_, err := os.Stat(r.final(id))
	return errors.Is(err, os.ErrNotExist)
}

func (r *Recovery) planExpire(ctx context.Context, tx *operation.Tx, in backupPath) (*backupPlan, error) {
	operation.From(ctx).Resource(in.Backup)
	row, err := r.backups.Get(ctx, tx, in.Backup)
	return &backupPlan{ID: row.ID, CreatedAt: row.CreatedAt, Projects: row.Projects, Files: row.Files}, err
}

// unread tells that a backup could not be read, which says nothing about what is in it.
func unread(err error) error {
	return eider.Errorf(eider.StorageUnavailable, "the backup cannot be read now").Because(err)
}

// verify reads everything, and opens the metadata, once its bytes are those that
// were written. It writes nothing there.
func (r *Recovery) verify(ctx context.Context, plan *backupPlan) (err error) {
	dir := r.final(plan.ID)
	if _, err := os.Stat(dir); err != nil { // it may be on a disk that is not mounted
		return unread(err)
	}
	lost := func(err error) bool { return errors.Is(err, backup.ErrDamaged) || errors.Is(err, os.ErrNotExist) }
	plan.manifest, err = backup.Read(dir)
	switch {
	case lost(err):
		r.kernel.Log.Error("a backup cannot be read", "backup", plan.ID, "error", err)
		plan.wrong = []string{"manifest.json: missing or damaged"}
		return nil
	case err != nil:
		return unread(err)
	}
	wrong, failed, err := backup.Check(ctx, dir, plan.manifest)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case lost(err):
		wrong = append(wrong, "contents.ndjson: missing or damaged")
	case errors.Join(err, failed) != nil:
		return unread(errors.Join(err, failed))
	}
	if plan.wrong = wrong; len(wrong) > 0 {
		return r.lookAgain(ctx, wrong)
	}
	head, err := r.kernel.ExamineCopy(ctx, filepath.Join(dir, backup.Metadata))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case lost(err):
		r.kernel.Log.Error("the metadata in a backup does not hold", "backup", plan.ID, "error", err)
		plan.wrong = append(plan.wrong, backup.Metadata+": cannot be opened, or its log does not hold")
	case err != nil:
		return unread(err)
	case head.ID != plan.manifest.LogID:
		plan.wrong = append(plan.wrong, fmt.Sprintf("%s: ends at row %d, the manifest says %d", backup.Metadata, head.ID, plan.manifest.LogID))
	}
	return nil
}

// lookAgain reads the storage files whose copies are damaged: a link to them is the same
// bytes. What it finds is told to their module, and from then on by every check.
func (r *Recovery) lookAgain(ctx context.Context, wrong []string) error {
	damaged := map[string]bool{}
	for _, one := range wrong {
		path, _, _ := strings.Cut(one, ": ")
		damaged[path] = true
	}
	for _, source := range r.kernel.Checks() {
		if source.Stored == nil {
			continue
		}
		err := source.Stored(ctx, func(f check.Stored) error {
			if !damaged[f.Path] {
				return nil
			}
			sum, size, err := disk.Sum(ctx, filepath.Join(r.kernel.Dir, f.Path))
			if ctx.Err() == nil && !errors.Is(err, os.ErrNotExist) { // missing is another finding
				f.Found(err == nil && size == f.Size && sum == f.SHA256)
			}
			return ctx.Err()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *Recovery) keepVerified(ctx context.Context, tx *operation.Tx, plan *backupPlan) (Verified, error) {
	out := Verified{ID: plan.ID, Verified: len(plan.wrong) == 0, LogID: plan.manifest.LogID, Entries: int64(plan.manifest.Entries), Problems: append([]string{}, plan.wrong...), LeftOut: plan.manifest.LeftOut}
	operation.From(ctx).Detail("verified", out.Verified)
	row, err := r.backups.Get(ctx, tx, plan.ID)
	if err != nil {
		return out, err
	}
	row.Status = damaged
	if out.Verified {
		at := time.Now().UTC().Truncate(time.Microsecond)
		row.Status, row.VerifiedAt = complete, &at
	}
	return out, r.backups.Put(ctx, tx, row)
}
