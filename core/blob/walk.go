package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// State is what there is of a blob.
type State struct {
	Whole     bool      // its bytes have their final name
	Described bool      // something stands beside them
	Touched   time.Time // when any of its files was last
}

// Survey is what a walk tells of the store. Links are not followed: what lies behind
// one is not the store's.
type Survey struct {
	Blob func(Key, State) error
	// Other is told of all else: by its path, relative to the store's root, and once for
	// all below it. Nil does not ask.
	Other func(path string) error
}

// Walk visits the blobs, whatever their state, none of whose files was touched
// since before.
func (l *Local) Walk(ctx context.Context, before time.Time, visit func(Key) error) error {
	return l.Look(ctx, Survey{Blob: func(k Key, is State) error {
		if is.Touched.After(before) {
			return nil
		}
		return visit(k)
	}})
}

// Look visits all that is in the store, once.
func (l *Local) Look(ctx context.Context, s Survey) error {
	if s.Other == nil {
		s.Other = func(string) error { return nil }
	}
	return l.each(ctx, "", func(project fs.DirEntry) error {
		if !project.IsDir() || !isName(project.Name()) {
			return s.Other(project.Name())
		}
		return l.each(ctx, project.Name(), func(fan fs.DirEntry) error {
			dir := filepath.Join(project.Name(), fan.Name())
			if !fan.IsDir() || len(fan.Name()) != 2 {
				return s.Other(dir)
			}
			return l.lookInto(ctx, dir, s)
		})
	})
}

// lookInto visits what is in one folder: each blob once, however many files it has.
func (l *Local) lookInto(ctx context.Context, dir string, s Survey) error {
	project, fan := filepath.Split(dir)
	project = filepath.Clean(project)
	found := map[string]State{}
	err := l.each(ctx, dir, func(e fs.DirEntry) error {
		id, _, _ := strings.Cut(e.Name(), ".")
		suffix := e.Name()[len(id):]
		if !e.Type().IsRegular() || !isName(id) || !strings.HasSuffix(id, fan) || !slices.Contains(suffixes, suffix) {
			return s.Other(filepath.Join(dir, e.Name()))
		}
		info, err := e.Info()
		if err != nil {
			return nil // it has gone meanwhile
		}
		is := found[id]
		is.Whole = is.Whole || suffix == ""
		is.Described = is.Described || suffix == sumsSuffix && describes(info)
		if info.ModTime().After(is.Touched) {
			is.Touched = info.ModTime()
		}
		found[id] = is
		return nil
	})
	if err != nil {
		return err
	}
	for id, is := range found {
		if err := s.Blob(Key{project, id}, is); err != nil {
			return err
		}
	}
	return nil
}

// describes reports whether a file can tell of a blob: a link is not ours, and a crash
// of the machine may leave one without content.
func describes(info fs.FileInfo) bool { return info.Mode().IsRegular() && info.Size() > 0 }

// IsDescribed reports whether something stands beside the bytes, as State does.
func (l *Local) IsDescribed(k Key) (bool, error) {
	if err := k.check(); err != nil {
		return false, err
	}
	info, err := os.Lstat(l.path(k) + sumsSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("sums of blob %s: %w", k.ID, errors.Unwrap(err))
	}
	return describes(info), nil
}

// each visits what is in a folder below the root.
func (l *Local) each(ctx context.Context, dir string, visit func(fs.DirEntry) error) error {
	entries, err := os.ReadDir(filepath.Join(l.root, dir))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the folder %s: %w", filepath.Base(dir), errors.Unwrap(err))
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := visit(e); err != nil {
			return err
		}
	}
	return nil
}
