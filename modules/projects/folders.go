package projects

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/disk"
)

// The names in the data folder and in a project's folder.
const (
	projectsDir  = "duckdb"
	trashDir     = "trash"
	sidecarFile  = "project.json"
	lockFile     = "lock"
	databaseFile = "db/data.duckdb"
)

// folders makes, moves and removes projects' folders. Every path is made of a
// checked id and of identifiers that the server gave out, never of user text.
type folders struct {
	root     string
	files    *disk.FS
	template string
}

// folderOf returns the folder of this incarnation, relative to the data folder:
// the id and the first 8 hex digits of the uid's random part (RFC 9562, section
// 5.7: behind the version and the variant).
func folderOf(p eider.Project) string {
	hex := strings.ReplaceAll(p.UID, "-", "")
	return filepath.Join(projectsDir, "project_"+p.ID+"."+hex[13:16]+hex[17:22])
}

func databaseIn(folder string) string { return filepath.Join(folder, databaseFile) }

func (f folders) path(parts ...string) string {
	return filepath.Join(append([]string{f.root}, parts...)...)
}

func (f folders) templateSize() int64 {
	info, err := os.Stat(f.template)
	if err != nil {
		return 0
	}
	return info.Size()
}

// create builds the folder whole beside its place and moves it there at once:
//
//	mkdir .new-<call>, with db, in, out
//	copy the template, fsync it; write lock and project.json, fsync
//	fsync every folder
//	rename to the final name, fsync the parent
//
// A folder that has its final name is therefore complete.
func (f folders) create(ctx context.Context, plan projectPlan) error {
	if done, err := f.complete(plan.Folder); err != nil || done {
		return err
	}
	fresh := f.path(projectsDir, ".new-"+plan.Call)
	if err := f.files.RemoveAll(fresh); err != nil {
		return err
	}
	for _, dir := range []string{"", "db", "in", "out"} {
		if err := f.files.Mkdir(filepath.Join(fresh, dir), 0o700); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := f.fill(fresh, plan); err != nil {
		return err
	}
	if err := f.files.Rename(fresh, f.path(plan.Folder)); err != nil {
		return err
	}
	return f.files.SyncDir(f.path(projectsDir))
}

func (f folders) fill(fresh string, plan projectPlan) error {
	if err := f.files.CopyFile(filepath.Join(fresh, databaseFile), f.template, 0o600); err != nil {
		return err
	}
	if err := f.files.CreateFile(filepath.Join(fresh, lockFile), nil, 0o600); err != nil {
		return err
	}
	text, err := json.Marshal(plan.Sidecar)
	if err != nil {
		return err
	}
	if err := f.files.CreateFile(filepath.Join(fresh, sidecarFile), text, 0o600); err != nil {
		return err
	}
	if err := f.files.SyncDir(filepath.Join(fresh, "db")); err != nil {
		return err
	}
	return f.files.SyncDir(fresh)
}

// complete reports whether the folder has its final name.
func (f folders) complete(folder string) (bool, error) {
	_, err := os.Stat(f.path(databaseIn(folder)))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (f folders) exists(folder string) (bool, error) {
	_, err := os.Lstat(f.path(folder))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// uncreate removes what create left. The final folder belongs to this
// incarnation alone and was never shown to anybody.
func (f folders) uncreate(plan projectPlan) error {
	for _, folder := range []string{filepath.Join(projectsDir, ".new-"+plan.Call), plan.Folder} {
		if err := f.files.RemoveAll(f.path(folder)); err != nil {
			return err
		}
	}
	return f.files.SyncDir(f.path(projectsDir))
}

// discard moves the folder into the trash, under the lock that its worker would
// hold.
func (f folders) discard(plan projectPlan) error {
	there, err := f.exists(plan.Folder)
	if err != nil || !there {
		return err
	}
	lock, err := disk.Lock(f.path(plan.Folder, lockFile))
	if errors.Is(err, disk.ErrLocked) {
		return eider.Errorf(eider.OperationInProgress, "the project's database is in use").Because(err)
	}
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return f.move(plan.Folder, filepath.Join(trashDir, plan.Call))
}

func (f folders) undiscard(plan projectPlan) error {
	there, err := f.exists(filepath.Join(trashDir, plan.Call))
	if err != nil || !there {
		return err
	}
	return f.move(filepath.Join(trashDir, plan.Call), plan.Folder)
}

func (f folders) move(from, to string) error {
	if err := f.files.Rename(f.path(from), f.path(to)); err != nil {
		return err
	}
	if err := f.files.SyncDir(f.path(filepath.Dir(to))); err != nil {
		return err
	}
	return f.files.SyncDir(f.path(filepath.Dir(from)))
}

// emptyTrash deletes what calls that have ended left in the trash. What an
// unfinished call moved there may have to come back.
func (f folders) emptyTrash(unfinished []audit.Row) error {
	entries, err := os.ReadDir(f.path(trashDir))
	if err != nil {
		return fmt.Errorf("read the trash: %w", err)
	}
	held := map[string]bool{}
	for _, r := range unfinished {
		held[r.CallID] = true
	}
	var failed []error
	for _, e := range entries {
		if !held[e.Name()] {
			failed = append(failed, f.files.RemoveAll(f.path(trashDir, e.Name())))
		}
	}
	return errors.Join(failed...)
}

func (f folders) databaseSize(path string) (int64, error) {
	total := int64(0)
	for _, name := range []string{path, path + ".wal"} {
		info, err := os.Stat(f.path(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("measure the database: %w", err)
		}
		total += info.Size()
	}
	return total, nil
}
