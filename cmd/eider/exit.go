package main

import (
	"errors"
	"regexp"
	"strings"
	"syscall"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/metadata"
)

// exits lists what a command's failure means, the first that fits, and what to do
// about it where the error does not say. docs/operating.md says more.
var exits = []struct {
	code   int
	is     func(error) bool
	advice string
}{
	{2, is(app.ErrSettings), ""},
	{3, is(disk.ErrLocked, duck.ErrLocked), ""},
	{7, is(metadata.ErrNewer, duck.ErrNewer), "use the version of eider that wrote it, or a newer one; nothing was changed"},
	{10, is(audit.ErrBehind), "nothing was changed; if the rows cannot be brought back from a copy, `eider repair --wal` accepts the loss"},
	{11, is(audit.ErrForked, audit.ErrUnchained, errBroken), ""},
	{13, is(errLess), ""},
	{8, is(app.ErrRestoring, app.ErrRebuilding), "nothing was changed"},
	{1, is(app.ErrWhole), "nothing was changed; the report of a rebuild that has ended is in the log (GET /operations?operation=rebuild): start the server; `eider rebuild --yes` rebuilds all the same"},
	{8, is(duck.ErrCorrupt, app.ErrNoMetadata), "nothing was changed; bring metadata.duckdb back from a backup"},
	{9, is(duck.ErrWAL), "nothing was changed; `eider repair --wal --dry-run` shows what of it can be read, `eider repair --wal` keeps that"},
	{12, func(err error) bool {
		var s *app.StorageError
		return errors.As(err, &s) || is(duck.ErrSync, metadata.ErrSync, syscall.EIO)(err)
	}, "start again once the disk is well: what was acknowledged is kept"},
	{6, is(syscall.EADDRINUSE), "another process listens there: end it, or choose another address with --listen"},
	{5, func(err error) bool {
		return disk.IsFull(err) || errors.Is(err, duck.ErrFull) || errors.Is(err, metadata.ErrFull)
	}, "there is no room below the data folder: make some, and start again"},
	{4, func(err error) bool {
		return disk.IsReadOnly(err) || errors.Is(err, duck.ErrReadOnly) || errors.Is(err, syscall.ENOTDIR)
	}, "the data folder must be a folder that this user may write"},
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

// forDevelopers is what DuckDB adds to an error that it takes for its own.
var forDevelopers = regexp.MustCompile(`(?s)\nThis error signals an assertion failure within DuckDB.*?Stack Trace:\n*(?:[^\n]*\[0x[0-9a-f]+\]\n*)*`)

// tell returns an error as an operator reads it.
func tell(err error) string {
	text := strings.TrimSpace(forDevelopers.ReplaceAllString(err.Error(), "\n"))
	for _, e := range exits {
		if e.is(err) && e.advice != "" {
			return text + "\n" + e.advice
		} else if e.is(err) {
			break
		}
	}
	return text
}
