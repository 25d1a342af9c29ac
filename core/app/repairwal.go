package app

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/duck"
)

// WALReport says what a repair of the metadata's write-ahead log found.
type WALReport struct {
	WALBytes    int64  `json:"wal_bytes"`     // of the log as it was
	KeptBytes   int64  `json:"kept_bytes"`    // of its longest prefix that replays
	Head        int64  `json:"head"`          // newest row of operations_log then
	Checkpoint  int64  `json:"checkpoint"`    // newest row that a checkpoint names
	Missing     int64  `json:"missing"`       // rows between the two
	Original    string `json:"original"`      // where both files were copied to
	NothingToDo bool   `json:"nothing_to_do"` // everything is there and replays
}

// RepairWAL makes the metadata of a stopped server open again: it keeps the
// originals, finds the longest prefix of the write-ahead log that replays, and
// leaves word of what is missing, which the next start logs. With dryRun it
// changes nothing.
func (a *App) RepairWAL(ctx context.Context, dryRun bool) (report WALReport, err error) {
	if a.Settings.Top.DataDir, err = filepath.Abs(a.Settings.Top.DataDir); err != nil {
		return report, err
	}
	lock, err := disk.Lock(a.Settings.path(lockFile))
	if errors.Is(err, disk.ErrLocked) {
		return report, fmt.Errorf("a server uses the data folder %s; stop it first: %w", a.Settings.Top.DataDir, err)
	}
	if err != nil {
		return report, fmt.Errorf("lock the data folder: %w", err)
	}
	defer lock.Unlock()
	w := &walRepair{app: a, database: a.Settings.path(metadataFile), files: a.options.Files}
	return w.run(ctx, dryRun)
}

type walRepair struct {
	app      *App
	database string
	files    *disk.FS
	scratch  string
	head     audit.Head
}

func (w *walRepair) run(ctx context.Context, dryRun bool) (report WALReport, err error) {
	if report.WALBytes, err = size(w.database + ".wal"); err != nil {
		return report, err
	}
	signer, err := w.app.signer()
	if err != nil {
		return report, err
	}
	if w.scratch, err = os.MkdirTemp(w.app.Settings.Top.DataDir, ".repair-"); err != nil {
		return report, err
	}
	defer os.RemoveAll(w.scratch)
	if err := w.files.CopyFile(w.copy(), w.database, 0o600); err != nil {
		return report, err
	}
	if report.KeptBytes, err = w.longest(ctx, report.WALBytes); err != nil {
		return report, err
	}
	report.Head = w.head.ID
	newest, err := audit.NewestCheckpoint(w.app.Settings.path(auditDir), signer)
	if err != nil {
		return report, err
	}
	if newest != nil {
		report.Checkpoint = newest.ID
		report.Missing = max(0, newest.ID-w.head.ID)
	}
	report.NothingToDo = report.KeptBytes == report.WALBytes && report.Missing == 0
	if dryRun || report.NothingToDo {
		return report, nil
	}
	return report, w.apply(ctx, &report)
}

func size(path string) (int64, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (w *walRepair) copy() string { return filepath.Join(w.scratch, metadataFile) }

// longest returns the length of the longest prefix of the write-ahead log with
// which the database opens. A prefix that ends inside an entry replays up to
// it; one that holds a damaged entry whole is refused: so the lengths that open
// are those up to a bound, which is found by halving.
func (w *walRepair) longest(ctx context.Context, all int64) (int64, error) {
	if err := w.try(ctx, all); err == nil {
		return all, nil
	}
	if err := w.try(ctx, 0); err != nil {
		return 0, fmt.Errorf("%s does not open even without its write-ahead log: %w", metadataFile, err)
	}
	opens, fails := int64(0), all
	for fails-opens > 1 {
		middle := opens + (fails-opens)/2
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if w.try(ctx, middle) == nil {
			opens = middle
		} else {
			fails = middle
		}
	}
	return opens, w.try(ctx, opens)
}

// try opens the copy with the first n bytes of the log, and reads its head.
func (w *walRepair) try(ctx context.Context, n int64) error {
	wal := w.copy() + ".wal"
	if err := os.Remove(wal); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if n > 0 {
		if err := w.files.CopyFile(wal, w.database+".wal", 0o600); err != nil {
			return err
		}
		if err := os.Truncate(wal, n); err != nil {
			return err
		}
	}
	db, err := duck.Open(ctx, w.copy(), duck.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	head, err := audit.ReadHead(ctx, db.Query)
	if err == nil {
		w.head = head
	}
	return errors.Join(err, db.Close())
}

// apply keeps the originals, cuts the log, folds what is left into the database
// and leaves word for the next start.
func (w *walRepair) apply(ctx context.Context, report *WALReport) error {
	settings := &w.app.Settings
	at := time.Now().UTC()
	report.Original = settings.path("lost+found", "metadata-"+at.Format("20060102T150405.000"))
	if err := w.files.MkdirAll(report.Original, 0o700); err != nil {
		return err
	}
	for _, name := range []string{metadataFile, metadataFile + ".wal"} {
		if n, err := size(settings.path(name)); err != nil || (n == 0 && name != metadataFile) {
			continue
		}
		if err := w.files.CopyFile(filepath.Join(report.Original, name), settings.path(name), 0o600); err != nil {
			return err
		}
	}
	if err := w.files.SyncDir(report.Original); err != nil {
		return err
	}
	err := audit.WriteRepair(settings.path(auditDir), audit.Repair{
		Head: w.head.ID, Hash: hex.EncodeToString(w.head.Hash), Lost: report.Checkpoint, Kept: report.Original,
		Bytes: report.WALBytes - report.KeptBytes, At: at,
	})
	if err != nil {
		return err
	}
	if report.WALBytes > 0 {
		if err := os.Truncate(w.database+".wal", report.KeptBytes); err != nil {
			return err
		}
	}
	db, err := duck.Open(ctx, w.database, duck.Options{})
	if err != nil {
		return err
	}
	return errors.Join(db.Checkpoint(ctx), db.Close(), w.files.SyncDir(settings.Top.DataDir))
}
