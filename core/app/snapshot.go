package app

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/backup"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/metadata/duckdb"
)

// migrationBackup begins the names of the backups that are made before a migration.
const migrationBackup = "migration-"

// backUpBefore copies the metadata before the migrations that it lacks: it is the
// way back to the version that wrote it.
func (a *App) backUpBefore(ctx context.Context, engine *duckdb.Engine) error {
	behind, err := engine.Behind(ctx, a.Registry.Migrations)
	if err != nil || !behind {
		return err
	}
	head, err := headOrNone(ctx, engine.Query)
	if err != nil {
		return err
	}
	at := time.Now().UTC()
	id := migrationBackup + at.Format("20060102T150405.000")
	final := a.Settings.path("backups", id)
	w, err := backup.NewWriter(a.options.Files, a.Settings.path("backups", ".new-"+id), nil)
	if err != nil {
		return fmt.Errorf("back the metadata up before a migration: %w", err)
	}
	var leftOut []string
	err = engine.Snapshot(ctx, func(suffix string, r io.Reader) error { return w.Put(ctx, backup.Metadata+suffix, r, "") })
	if err == nil {
		err = w.LinkFolder(ctx, backup.Folder{
			Root: a.Settings.Top.DataDir, Name: archiveDir,
			Known: func(path string) backup.Entry {
				size, sum := audit.ArchiveSum(a.Settings.path(archiveDir), filepath.Base(path))
				return backup.Entry{Size: size, SHA256: sum}
			},
			Damaged: func(path string) { leftOut = append(leftOut, path+": not what its manifest says") },
		})
	}
	if err == nil {
		_, err = w.Finish(backup.Manifest{
			ID: id, CreatedAt: at, Version: a.options.Version, LogID: head.ID, LogHash: hex.EncodeToString(head.Hash), LeftOut: leftOut,
		}, final)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("back the metadata up before a migration: %w", err), a.options.Files.RemoveAll(w.Path("")))
	}
	if len(leftOut) > 0 {
		a.telemetry.Log.Error("archives of the log are damaged, and not in the backup before the migration", "backup", id, "files", leftOut)
	}
	a.telemetry.Log.Info("the metadata was backed up before a migration", "backup", id)
	return nil
}

// settleCopy opens a copy of the metadata, folds its log into it, and walks the
// chain: what it returns is what the copy holds for good.
func (a *App) settleCopy(ctx context.Context, path string) (head audit.Head, err error) {
	engine, err := a.openCopy(ctx, path, false)
	if err != nil {
		return head, err
	}
	err = engine.Fold(ctx)
	if err == nil {
		head, err = verifyCopy(ctx, engine)
	}
	return head, errors.Join(err, engine.Close())
}

// examineCopy opens a copy of the metadata that was settled, to read alone, and walks
// the chain. What is wrong with the copy, and not with reading it, is
// backup.ErrDamaged.
func (a *App) examineCopy(ctx context.Context, path string) (head audit.Head, err error) {
	engine, err := a.openCopy(ctx, path, true)
	if err == nil {
		head, err = verifyCopy(ctx, engine)
		err = errors.Join(err, engine.Close())
	}
	if errors.Is(err, duck.ErrCorrupt) || errors.Is(err, duck.ErrWAL) || errors.Is(err, errChain) {
		err = fmt.Errorf("%w: %w", backup.ErrDamaged, err)
	}
	return head, err
}

func (a *App) openCopy(ctx context.Context, path string, readOnly bool) (*duckdb.Engine, error) {
	return duckdb.Open(ctx, duckdb.Options{
		Path: path, Threads: 1, MemoryLimit: fmt.Sprintf("%dB", a.Settings.Metadata.Memory), ReadOnly: readOnly, Log: a.telemetry.Log,
	})
}

// errChain says that the log in a copy does not hold.
var errChain = errors.New("the log in the copy does not hold")

func verifyCopy(ctx context.Context, engine *duckdb.Engine) (audit.Head, error) {
	v, err := audit.Verify(ctx, metadata.NewView(engine), 0, 0, nil)
	if err != nil {
		return audit.Head{}, err
	}
	if !v.Verified {
		return audit.Head{}, fmt.Errorf("%w at row %d: %s", errChain, v.BrokenAt.ID, v.BrokenAt.Detail)
	}
	return audit.ReadHead(ctx, engine.Query)
}
