// Package disk does durable file operations, locks files and watches free
// space.
//
// Each step of an operation can be made to fail and can be recorded, so that
// the order of fsyncs is under test and every fault has been tried. DuckDB syncs
// files and never a folder: whoever makes, renames or removes a file calls
// SyncDir. The package knows no data folder: callers give whole paths.
package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// Op is one step: what is about to be done to a path.
type Op struct {
	Kind string // mkdir, create, write, sync, close, rename, syncdir, remove
	Path string
	To   string // of a rename
}

// FS does file operations. The zero value is the real file system.
type FS struct {
	// Hook, if set, is called before each step; an error stops the step as if
	// the system call had returned it. It is for tests. What cleans up after a
	// failed step is a step too: a hook that fails from some step on is a crash.
	Hook func(Op) error
}

func (f *FS) step(kind, path, to string, do func() error) error {
	if f.Hook != nil {
		if err := f.Hook(Op{kind, path, to}); err != nil {
			return fmt.Errorf("%s %s: %w", kind, filepath.Base(path), err)
		}
	}
	if err := do(); err != nil {
		return fmt.Errorf("%s %s: %w", kind, filepath.Base(path), errors.Unwrap(asPathError(err)))
	}
	return nil
}

// asPathError makes sure that there is something to unwrap: what os returns
// holds whole paths, which callers must not see.
func asPathError(err error) error {
	var link *os.LinkError
	if errors.As(err, &link) {
		return link
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		return path
	}
	return &fs.PathError{Err: err}
}

// Mkdir makes one folder; its parent must exist.
func (f *FS) Mkdir(path string, perm os.FileMode) error {
	return f.step("mkdir", path, "", func() error { return os.Mkdir(path, perm) })
}

// MkdirAll makes a folder and what is missing above it, and syncs the parent of
// each that it made. The parent of the last one is synced in any case: a crash
// may have come between.
func (f *FS) MkdirAll(path string, perm os.FileMode) error {
	parent := filepath.Dir(path)
	if _, err := os.Stat(parent); errors.Is(err, fs.ErrNotExist) && parent != path {
		if err := f.MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	if err := f.step("mkdir", path, "", func() error { return os.MkdirAll(path, perm) }); err != nil {
		return err
	}
	return f.SyncDir(parent)
}

// CreateFile makes a new file with the content and syncs it, not its folder. A
// file that exists is fs.ErrExist; a file that could not be written is removed.
func (f *FS) CreateFile(path string, content []byte, perm os.FileMode) error {
	return f.create(path, perm, func(w *os.File) error {
		_, err := w.Write(content)
		return err
	})
}

// CopyFile makes a new file with the content of another and syncs it, not its
// folder. The kernel copies where it can. It fails as CreateFile does.
func (f *FS) CopyFile(path, from string, perm os.FileMode) error {
	r, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("open %s: %w", filepath.Base(from), errors.Unwrap(err))
	}
	defer r.Close()
	return f.create(path, perm, func(w *os.File) error {
		_, err := io.Copy(w, r)
		return err
	})
}

// CreateFrom makes a new file with what a reader gives and syncs it, not its folder.
// It fails as CreateFile does.
func (f *FS) CreateFrom(path string, r io.Reader, perm os.FileMode) error {
	return f.create(path, perm, func(w *os.File) error {
		_, err := io.Copy(w, r)
		return err
	})
}

// Link gives a file a second name on the same file system. It syncs no folder.
func (f *FS) Link(from, to string) error {
	return f.step("link", from, to, func() error { return os.Link(from, to) })
}

func (f *FS) create(path string, perm os.FileMode, write func(*os.File) error) error {
	var w *os.File
	err := f.step("create", path, "", func() (err error) {
		w, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
		return err
	})
	if err != nil {
		return err
	}
	err = f.step("write", path, "", func() error { return write(w) })
	if err == nil {
		err = f.step("sync", path, "", w.Sync)
	}
	closed := w.Close() // in any case; only what is reported may be made to fail
	if err == nil {
		err = f.step("close", path, "", func() error { return closed })
	}
	if err != nil {
		_ = f.remove(path) // the first error tells more
	}
	return err
}

// NewSuffix is what the name of a file ends in that WriteFile has not put into its
// place yet.
const NewSuffix = ".new"

// WriteFile replaces the content of a file, or makes it: a temporary file beside
// it is written, synced and renamed, then the folder synced. Whatever fails, the
// path holds the old content or the new, whole: the new one only if the last
// step, that of the folder, failed. A crash may leave the temporary file, path +
// ".new", which the next WriteFile of the path removes. Writers of one path take
// turns: that is the caller's to see to.
func (f *FS) WriteFile(path string, content []byte, perm os.FileMode) error {
	fresh := path + NewSuffix
	if _, err := os.Lstat(fresh); !errors.Is(err, fs.ErrNotExist) { // of a crash
		if err := f.remove(fresh); err != nil {
			return err
		}
	}
	if err := f.CreateFile(fresh, content, perm); err != nil {
		return err
	}
	if err := f.Rename(fresh, path); err != nil {
		_ = f.remove(fresh)
		return err
	}
	return f.SyncDir(filepath.Dir(path))
}

func (f *FS) remove(path string) error {
	return f.step("remove", path, "", func() error { return os.Remove(path) })
}

// Rename moves a file or folder. It syncs neither parent.
func (f *FS) Rename(from, to string) error {
	return f.step("rename", from, to, func() error { return os.Rename(from, to) })
}

// RemoveAll removes a path and what is below it; a path that does not exist is
// no error. It never follows a symbolic link.
func (f *FS) RemoveAll(path string) error {
	return f.step("remove", path, "", func() error { return os.RemoveAll(path) })
}

// SyncDir makes the entries of a folder durable.
func (f *FS) SyncDir(path string) error {
	return f.step("syncdir", path, "", func() error {
		d, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(d.Sync(), d.Close())
	})
}

// Exists reports whether something has the path. It follows no symbolic link.
func (f *FS) Exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", filepath.Base(path), errors.Unwrap(err))
	}
	return true, nil
}

// IsFull reports whether an error says that there is no room.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// IsReadOnly reports whether an error says that nothing may be written here.
func IsReadOnly(err error) bool {
	return errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM)
}

// ErrNotEmpty says that a folder holds something.
var ErrNotEmpty = errors.New("the folder is not empty")

// MustBeEmpty returns ErrNotEmpty for a folder that holds anything but the names
// given; one that does not exist holds nothing.
func MustBeEmpty(path string, but ...string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !slices.Contains(but, e.Name()) {
			return fmt.Errorf("%s: %w", path, ErrNotEmpty)
		}
	}
	return nil
}
