package recovery

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/backup"
	"github.com/eiderdb/eider/core/metadata"
)

// tendEvery is how often it is asked whether a backup is due.
const tendEvery = time.Minute

var keeper = eider.Actor{Type: eider.ActorSystem, ID: "backups", Name: "backups", Role: eider.Admin}

const selectFirst = `SELECT timestamp FROM operations_log ORDER BY id LIMIT 1`

// migrationBackup begins the ids of those that a start makes before it migrates. They are
// in the list once a rebuild or a restore has found them. They are the way back to
// an older version, and people remove them.
const migrationBackup = "migration-"

// holds reports whether a backup holds all that another does, as far as either says.
func (b *Backup) holds(other *Backup) bool {
	return (b.Projects || !other.Projects) && (b.Files || !other.Files)
}

// scheduled is what a backup that is made by itself holds.
func (r *Recovery) scheduled() *Backup {
	return &Backup{Projects: r.settings.BackupProjects, Files: r.settings.BackupFiles}
}

// isThere reports whether a whole backup is in its place: its row may have outlived its
// folder, or the disk that holds it may not be mounted.
func (r *Recovery) isThere(b *Backup) bool {
	if b.Status != complete {
		return false
	}
	m, err := backup.Read(r.final(b.ID))
	return err == nil && m.ID == b.ID
}

// kept returns the backups that are made and kept by themselves or by people, newest
// first.
func (r *Recovery) kept() (all []Backup) {
	r.backups.Scan(metadata.Range[Backup]{Order: byNewest, Descending: true}, func(b *Backup) bool {
		if b.Status != running && !strings.HasPrefix(b.ID, migrationBackup) {
			all = append(all, *b)
		}
		return true
	})
	return all
}

// lastWhole returns the newest whole backup that is in its place and holds what scheduled
// ones do.
func (r *Recovery) lastWhole() (Backup, bool) { return lastWhole(r.kept(), r.scheduled(), r.isThere) }

func lastWhole(newestFirst []Backup, like *Backup, isThere func(*Backup) bool) (Backup, bool) {
	for _, b := range newestFirst {
		if b.holds(like) && isThere(&b) {
			return b, true
		}
	}
	return Backup{}, false
}

// tendBackups makes the backup that is due, and removes those beyond what is kept.
func (r *Recovery) tendBackups(ctx context.Context) error {
	if err := r.listFound(ctx); err != nil {
		return err
	}
	if r.settings.BackupEvery > 0 {
		last, err := r.lastBackup(ctx)
		if err != nil {
			return err
		}
		if time.Since(last) >= time.Duration(r.settings.BackupEvery) {
			in := makeBackup{Projects: &r.settings.BackupProjects, Files: &r.settings.BackupFiles}
			if _, err := r.backupOp.Do(ctx, r.kernel.Pipeline, keeper, "", in); err != nil {
				return fmt.Errorf("the scheduled backup: %w", err)
			}
		}
	}
	var failed []error
	for _, id := range surplus(r.kept(), r.settings.BackupKeep, r.isThere) {
		if id == r.restoredFrom { // whoever went back to it may have to once more
			continue
		}
		_, err := r.expireOp.Do(ctx, r.kernel.Pipeline, keeper, "", backupPath{id})
		if eider.CodeOf(err) != eider.OperationInProgress {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// surplus returns the backups that are not kept any more: each has as many newer ones as
// are kept that are whole, in their place, and hold all that it holds. So nothing lesser
// ever takes the place of a fuller one, and nothing that is lost that of one that is there.
func surplus(newestFirst []Backup, keep int, isThere func(*Backup) bool) (ids []string) {
	var whole []Backup // newer than the one that is looked at
	for _, b := range newestFirst {
		n := 0
		for i := range whole {
			if whole[i].holds(&b) {
				n++
			}
		}
		if n >= keep {
			ids = append(ids, b.ID)
		} else if isThere(&b) {
			whole = append(whole, b)
		}
	}
	return ids
}

// lastBackup is when the newest backup was made of those that the schedule asks for, or
// when the server was first used.
func (r *Recovery) lastBackup(ctx context.Context) (last time.Time, err error) {
	if b, ok := r.lastWhole(); ok {
		return b.CreatedAt, nil
	}
	rows, err := r.kernel.View.Query(ctx, selectFirst)
	if err != nil {
		return last, err
	}
	defer rows.Close()
	last = time.Now()
	if rows.Next() {
		err = rows.Scan(&last)
	}
	return last, errors.Join(err, rows.Err())
}
