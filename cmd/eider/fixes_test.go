package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/metadata"
)

// crampedEngine finds no room for a migration while held says so.
type crampedEngine struct {
	metadata.Engine
	held func() bool
}

func (e *crampedEngine) Migrate(ctx context.Context, all []metadata.Migration) error {
	if e.held() {
		return duck.ErrFull
	}
	return e.Engine.Migrate(ctx, all)
}

// A server that was stopped on a full disk starts again: it gives its ballast back,
// so that something can be deleted. Whatever of the start needs the room.
func TestStartOnAFullDiskGivesTheBallastBack(t *testing.T) {
	for _, needs := range []string{".probe.new", "database"} {
		dir := t.TempDir()
		settings := map[string]string{"storage.ballast": "1MiB"}
		s := apptest.Start(t, dir, app.Options{Modules: modules(), Version: "test"}, settings)
		project(t, s, "p")
		s.Stop()
		ballast := filepath.Join(dir, ".ballast")
		held := func() bool {
			_, err := os.Stat(ballast)
			return err == nil
		}
		if !held() {
			t.Fatal("there is no ballast")
		}
		full := app.Options{Modules: modules(), Version: "test", Files: &disk.FS{Hook: func(op disk.Op) error {
			if op.Kind == "write" && filepath.Base(op.Path) == needs && held() {
				return syscall.ENOSPC
			}
			return nil
		}}}
		if needs == "database" {
			full.Engine = func(e metadata.Engine) metadata.Engine { return &crampedEngine{e, held} }
		}
		s, err := apptest.TryStart(t, dir, full, settings)
		if err != nil {
			t.Fatalf("%s has no room: %v", needs, err)
		}
		s.Want(204, s.Root, "DELETE /projects/p?purge=true", "")
		s.Stop()
	}
}

// Without a ballast the refusal says in one line which folder has no room.
func TestStartWithoutRoomSaysWhereInOneLine(t *testing.T) {
	files := &disk.FS{Hook: func(op disk.Op) error {
		if strings.HasPrefix(filepath.Base(op.Path), ".probe") && op.Kind == "create" {
			return syscall.ENOSPC
		}
		return nil
	}}
	_, err := apptest.TryStart(t, t.TempDir(), app.Options{Modules: modules(), Version: "test", Files: files}, nil)
	if err == nil || exitCode(err) != 5 || !errors.Is(err, syscall.ENOSPC) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "remove") {
		t.Errorf("it says %v", err)
	}
}
