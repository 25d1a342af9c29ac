package app

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/backup"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/telemetry"
)

// Restored says what a restore has brought back.
type Restored struct {
	Backup  string   `json:"backup"`
	LogID   int64    `json:"log_id"`
	Entries int      `json:"entries"`
	Bytes   int64    `json:"size_bytes"`
	Epoch   int64    `json:"epoch"`
	Damaged []string `json:"damaged"` // files that are not what was backed up
	// Projects and Files tell whether the backup holds databases and storage files.
	Projects bool `json:"projects"`
	Files    bool `json:"files"`
}

// Restore makes a data folder, which must be empty, of a backup:
//
//	read the whole backup; a metadata database that is not what it was is refused
//	copy everything but the metadata
//	copy the metadata, walk its chain, leave word for the next start
//	rename the metadata to its name: only now is it a data folder
//
// The next start logs the restore, as the beginning of a new epoch.
func (a *App) Restore(ctx context.Context, from string, tell func(done, of int)) (done Restored, err error) {
	if err := a.emptyFolder(); err != nil {
		return done, fmt.Errorf("a backup is restored into an empty folder: %w", err)
	}
	m, err := backup.Read(from)
	if err != nil {
		return done, err
	}
	if a.telemetry = a.options.Telemetry; a.telemetry == nil {
		a.telemetry = telemetry.Discard()
	}
	if err := a.options.Files.MkdirAll(a.Settings.Top.DataDir, 0o700); err != nil {
		return done, err
	}
	lock, err := disk.Lock(a.Settings.path(lockFile))
	if err != nil {
		return done, fmt.Errorf("lock the data folder: %w", err)
	}
	defer lock.Unlock()
	done = Restored{Backup: m.ID, LogID: m.LogID, Damaged: []string{}, Projects: m.Projects, Files: m.Files}
	if done.Damaged, err = backup.Check(ctx, from, m); err != nil {
		return done, err
	}
	for _, wrong := range done.Damaged {
		if strings.HasPrefix(wrong, backup.Metadata) {
			return done, fmt.Errorf("the backup is damaged: %s", wrong)
		}
	}
	r := &restore{app: a, from: from, done: &done, tell: tell, of: m.Entries}
	return done, r.run(ctx, m)
}

type restore struct {
	app  *App
	from string
	done *Restored
	of   int
	tell func(done, of int)
	dirs map[string]bool
}

func (r *restore) run(ctx context.Context, m backup.Manifest) error {
	files, settings := r.app.options.Files, &r.app.Settings
	r.dirs = map[string]bool{settings.Top.DataDir: true}
	if err := backup.Contents(r.from, m, func(e backup.Entry) error { return r.copy(ctx, e) }); err != nil {
		return err
	}
	if err := r.completeProjects(); err != nil {
		return err
	}
	if err := files.MkdirAll(settings.path(auditDir), 0o700); err != nil {
		return err
	}
	for dir := range r.dirs {
		if err := files.SyncDir(dir); err != nil {
			return err
		}
	}
	head, err := r.app.settleCopy(ctx, settings.path(freshMetadata))
	if err != nil {
		return fmt.Errorf("open the restored metadata: %w", err)
	}
	if head.ID < m.LogID {
		return fmt.Errorf("the restored log ends at row %d, the manifest says %d", head.ID, m.LogID)
	}
	r.done.LogID, r.done.Epoch = head.ID, audit.NextEpoch(time.Now(), head.Epoch)
	err = audit.WriteRepair(settings.path(auditDir), audit.Repair{
		Head: head.ID, Hash: hex.EncodeToString(head.Hash), Lost: head.ID, At: time.Now().UTC(),
		Operation: "restore", Epoch: r.done.Epoch, From: m.ID,
	})
	if err != nil {
		return err
	}
	if err := files.Rename(settings.path(freshMetadata), settings.path(metadataFile)); err != nil {
		return err
	}
	return files.SyncDir(settings.Top.DataDir)
}

// copy copies one file. The metadata gets its name last.
func (r *restore) copy(ctx context.Context, e backup.Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	name := e.Path
	if suffix, ok := strings.CutPrefix(name, backup.Metadata); ok {
		name = freshMetadata + suffix
	}
	to := r.app.Settings.path(name)
	if dir := filepath.Dir(to); !r.dirs[dir] {
		if err := r.app.options.Files.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		r.dirs[dir] = true
	}
	err := r.app.options.Files.CopyFile(to, filepath.Join(r.from, e.Path), 0o600)
	if errors.Is(err, fs.ErrNotExist) && slices.ContainsFunc(r.done.Damaged, func(w string) bool { return strings.HasPrefix(w, e.Path+":") }) {
		return nil // told already; the check at the end finds what lacks it
	}
	if err != nil {
		return err
	}
	r.done.Entries++
	r.done.Bytes += e.Size
	r.tell(r.done.Entries, r.of)
	return nil
}

// completeProjects makes in every project's folder what no backup holds.
func (r *restore) completeProjects() error {
	files := r.app.options.Files
	folders, err := filepath.Glob(r.app.Settings.path("duckdb", "project_*"))
	if err != nil {
		return err
	}
	for _, folder := range folders {
		for _, dir := range []string{"db", "in", "out"} {
			if err := files.MkdirAll(filepath.Join(folder, dir), 0o700); err != nil {
				return err
			}
		}
		if err := files.CreateFile(filepath.Join(folder, "lock"), nil, 0o600); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		r.dirs[folder] = true
	}
	return nil
}
