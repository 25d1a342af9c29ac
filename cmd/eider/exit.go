package main

import (
	"errors"
	"syscall"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/metadata"
)

// exits lists what a command's failure means, the first that fits. docs/operating.md
// says what to do about each.
var exits = []struct {
	code int
	is   func(error) bool
}{
	{2, is(errSettings)},
	{3, is(disk.ErrLocked, duck.ErrLocked)},
	{7, is(metadata.ErrNewer, duck.ErrNewer)},
	{10, is(audit.ErrBehind)},
	{11, is(audit.ErrForked, errBroken)},
	{9, is(duck.ErrWAL)},
	{12, func(err error) bool { var s *app.StorageError; return errors.As(err, &s) }},
	{6, is(syscall.EADDRINUSE)},
	{5, func(err error) bool {
		return disk.IsFull(err) || errors.Is(err, duck.ErrFull) || errors.Is(err, metadata.ErrFull)
	}},
	{4, func(err error) bool { return disk.IsReadOnly(err) || errors.Is(err, duck.ErrReadOnly) }},
	{8, is(duck.ErrCorrupt)},
}

func is(kinds ...error) func(error) bool {
	return func(err error) bool {
		for _, k := range kinds {
			if errors.Is(err, k) {
				return true
			}
		}
		return false
	}
}

func exitCode(err error) int {
	for _, e := range exits {
		if e.is(err) {
			return e.code
		}
	}
	return 1
}
