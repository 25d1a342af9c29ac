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
	"syscall"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/disk"
	"github.com/google/uuid"
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

// complete reports whether the folder has its final name, for good: the process
// that renamed it may have ended before it synced the parent.
func (f folders) complete(folder string) (bool, error) {
	there, err := f.exists(databaseIn(folder))
	if err != nil || !there {
		return false, err
	}
	return true, f.files.SyncDir(f.path(projectsDir))
}

func (f folders) exists(folder string) (bool, error) {
	_, err := os.Lstat(f.path(folder))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// uncreate removes what create left. The final folder belongs to this
// incarnation alone and was never shown to anybody; it loses its name first,
// because one that is half removed would look complete to whoever settles the
// call after a crash.
func (f folders) uncreate(plan projectPlan) error {
	fresh := f.path(projectsDir, ".new-"+plan.Call)
	there, err := f.exists(plan.Folder)
	if err != nil {
		return err
	}
	if there {
		if err := f.files.Rename(f.path(plan.Folder), fresh); err != nil {
			return err
		}
		if err := f.files.SyncDir(f.path(projectsDir)); err != nil {
			return err
		}
	}
	if err := f.files.RemoveAll(fresh); err != nil {
		return err
	}
	return f.files.SyncDir(f.path(projectsDir))
}

// discard moves the folder into the trash, under the lock that its worker would
// hold.
func (f folders) discard(plan projectPlan) error {
	if done, err := f.discarded(plan); err != nil || done {
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
	for _, m := range plan.moves() {
		there, err := f.exists(m.from)
		if err != nil {
			return err
		}
		if there {
			err = f.move(m.from, m.to)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// moved is a folder's place and its place in the trash.
type moved struct{ from, to string }

// moves lists what a purge moves. The project's own folder, under whose lock it
// happens, is the last.
func (plan projectPlan) moves() []moved {
	trash := filepath.Join(trashDir, plan.Call)
	var all []moved
	for i, other := range plan.Others {
		all = append(all, moved{other, fmt.Sprintf("%s.%d", trash, i+1)})
	}
	return append(all, moved{plan.Folder, trash})
}

// discarded reports whether all folders have left their places, for good.
func (f folders) discarded(plan projectPlan) (bool, error) {
	for _, m := range plan.moves() {
		there, err := f.exists(m.from)
		if err != nil || there {
			return false, err
		}
	}
	for _, m := range plan.moves() {
		if err := f.syncMove(m.from, m.to); err != nil {
			return false, err
		}
	}
	return true, nil
}

// undiscard moves the folders back. What is back already is synced all the same:
// left in the trash by a power cut it would be deleted there.
func (f folders) undiscard(plan projectPlan) error {
	for _, m := range plan.moves() {
		there, err := f.exists(m.to)
		if err != nil {
			return err
		}
		if there {
			err = f.move(m.to, m.from)
		} else {
			err = f.syncMove(m.to, m.from)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f folders) move(from, to string) error {
	if err := f.files.Rename(f.path(from), f.path(to)); err != nil {
		return err
	}
	return f.syncMove(from, to)
}

// syncMove makes a rename durable. Where it goes comes first: a crash between
// the two may then show the folder twice, and never lose it.
func (f folders) syncMove(from, to string) error {
	if err := f.files.SyncDir(f.path(filepath.Dir(to))); err != nil {
		return err
	}
	return f.files.SyncDir(f.path(filepath.Dir(from)))
}

// emptyTrash deletes what calls that have ended left in the trash. What an
// unfinished call moved there may have to come back: those calls are asked for
// once the trash was read, because a call that moves a folder in the meantime
// would be missing among those asked for before.
//
// Nothing but what has a call's name is deleted. Whatever else is there was put
// there by somebody else, and may be all that there is of it.
func (f folders) emptyTrash(unfinished func() []audit.Row) error {
	entries, err := os.ReadDir(f.path(trashDir))
	if err != nil {
		return fmt.Errorf("read the trash: %w", err)
	}
	held := map[string]bool{}
	for _, r := range unfinished() {
		held[r.CallID] = true
	}
	var failed []error
	for _, e := range entries {
		call, _, _ := strings.Cut(e.Name(), ".") // what belongs to the call has an ending
		if isCall(call) && !held[call] {
			failed = append(failed, f.files.RemoveAll(f.path(trashDir, e.Name())))
		}
	}
	return errors.Join(failed...)
}

// isCall reports whether a name can be the id of a call.
func isCall(name string) bool {
	id, err := uuid.Parse(name)
	return err == nil && id.String() == name
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

// refusal tells the caller what the disk refused. What else goes wrong stays
// as it is.
func refusal(err error) error {
	var errno syscall.Errno
	switch {
	case errors.As(err, new(*eider.Error)) || !errors.As(err, &errno):
		return err
	case disk.IsFull(err):
		return eider.Errorf(eider.StorageFull, "the disk is full").Because(err)
	}
	return eider.Errorf(eider.StorageUnavailable, "the project's folder cannot be written").Because(err)
}
