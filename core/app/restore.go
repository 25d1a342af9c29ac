package app

import (
	"context"
	"encoding/hex"
	"encoding/json"
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
	// LeftOut are files that were missing or damaged when the backup was made.
	LeftOut []string `json:"left_out"`
	// Projects and Files tell whether the backup holds databases and storage files.
	Projects bool `json:"projects"`
	Files    bool `json:"files"`
}

// restoreFile is there from the beginning of a restore to its end. While it is, only a
// restore of the same backup goes on in the folder: it is not whole, and without its
// metadata it would look like one that was never used.
const restoreFile = ".restore.json"

// ErrRestoring says that a restore was begun and is not finished.
var ErrRestoring = errors.New("a restore was begun in the data folder and is not finished; run `eider restore` of the same backup again")

// restoring is what restoreFile holds.
type restoring struct {
	Backup   string    `json:"backup"`
	Contents string    `json:"contents_sha256"` // of the backup's list
	At       time.Time `json:"at"`
}

// Restore makes a data folder, which must be empty, of a backup:
//
//	read the whole backup; a metadata database that is not what it was is refused
//	leave word that it was begun
//	copy everything but the metadata
//	copy the metadata, walk its chain, leave word for the next start
//	rename the metadata to its name; remove the first word: only now is it a data folder
//
// The next start logs the restore, as the beginning of a new epoch. Killed anywhere it is
// run again, and makes anew what it had made.
func (a *App) Restore(ctx context.Context, from string, tell func(done, of int)) (done Restored, err error) {
	if a.Settings.Top.DataDir, err = filepath.Abs(a.Settings.Top.DataDir); err != nil {
		return done, err
	}
	m, notThere := backup.Read(from)
	if _, err := a.mayRestore(m); err != nil { // before anything is made there
		return done, err
	}
	if notThere != nil {
		return done, notThere
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
	again, err := a.mayRestore(m)
	if err != nil {
		return done, err
	}
	done = Restored{Backup: m.ID, LogID: m.LogID, Damaged: []string{}, LeftOut: append([]string{}, m.LeftOut...), Projects: m.Projects, Files: m.Files}
	wrong, _, err := backup.Check(ctx, from, m)
	if err != nil {
		return done, err
	}
	done.Damaged = append(done.Damaged, wrong...)
	for _, wrong := range done.Damaged {
		if strings.HasPrefix(wrong, backup.Metadata) {
			return done, fmt.Errorf("the backup is damaged: %s", wrong)
		}
	}
	if err := a.beginRestore(m); err != nil {
		return done, fmt.Errorf("leave word of the restore: %w", err)
	}
	r := &restore{app: a, from: from, done: &done, tell: tell, of: m.Entries, again: again}
	if err := r.run(ctx, m); err != nil {
		return done, err
	}
	if err := a.options.Files.Remove(a.Settings.path(restoreFile)); err != nil {
		return done, err
	}
	return done, a.syncData()
}

// mayRestore refuses a data folder that holds anything but a restore of the same backup
// that is not finished. It reports whether it holds that.
func (a *App) mayRestore(m backup.Manifest) (again bool, err error) {
	text, err := os.ReadFile(a.Settings.path(restoreFile))
	if errors.Is(err, fs.ErrNotExist) {
		err := disk.MustBeEmpty(a.Settings.Top.DataDir, lockFile, restoreFile+disk.NewSuffix, lostFolder)
		if err == nil { // a new file system brings one, which is root's
			if err = disk.MustBeEmpty(a.Settings.path(lostFolder)); errors.Is(err, fs.ErrPermission) {
				err = nil
			}
		}
		if err != nil {
			return false, fmt.Errorf("a backup is restored into an empty folder: %w", err)
		}
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var word restoring
	if err := json.Unmarshal(text, &word); err != nil {
		return false, fmt.Errorf("%s: %w", restoreFile, err)
	}
	if word.Backup != m.ID || word.Contents != m.Contents {
		return false, fmt.Errorf("%w: it was of %s; or empty the folder", ErrRestoring, word.Backup)
	}
	return true, nil
}

func (a *App) beginRestore(m backup.Manifest) error {
	text, err := json.Marshal(restoring{m.ID, m.Contents, time.Now().UTC()})
	if err != nil {
		return err
	}
	return a.options.Files.WriteFile(a.Settings.path(restoreFile), text, 0o600)
}

// restored returns ErrRestoring while a restore is not finished.
func (a *App) restored() error {
	there, err := a.options.Files.Exists(a.Settings.path(restoreFile))
	if err == nil && there {
		err = ErrRestoring
	}
	return err
}

type restore struct {
	app  *App
	from string
	done *Restored
	of   int
	tell func(done, of int)
	dirs map[string]bool
	// again: the folder may hold files that an earlier try has made.
	again bool
}

func (r *restore) run(ctx context.Context, m backup.Manifest) error {
	files, settings := r.app.options.Files, &r.app.Settings
	r.dirs = map[string]bool{settings.Top.DataDir: true}
	for _, suffix := range []string{".wal", ".journal"} { // of a copy that was being opened
		if err := r.anew(settings.path(freshMetadata + suffix)); err != nil {
			return err
		}
	}
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
	if slices.Contains(r.done.Damaged, e.Path+backup.Unread) {
		return nil // as where it is missing
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
	if err := r.anew(to); err != nil {
		return err
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

// anew removes what an earlier try has made.
func (r *restore) anew(path string) error {
	if !r.again {
		return nil
	}
	if err := r.app.options.Files.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
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
