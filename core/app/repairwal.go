package app

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
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
	KeptBytes   int64  `json:"kept_bytes"`    // of its shortest prefix that leads to Head
	Head        int64  `json:"head"`          // newest row of operations_log that can be brought back
	Checkpoint  int64  `json:"checkpoint"`    // newest row that a checkpoint names
	Missing     int64  `json:"missing"`       // rows between the two
	Original    string `json:"original"`      // where the files were copied to
	NothingToDo bool   `json:"nothing_to_do"` // everything is there and replays, or Original tells of a repair before
}

// RepairWAL makes the metadata of a stopped server open again: it keeps the
// originals, finds the longest prefix of the write-ahead log that replays, and
// leaves word of what is missing, which the next start logs. With dryRun it
// changes nothing.
func (a *App) RepairWAL(ctx context.Context, dryRun bool) (report WALReport, err error) {
	if a.Settings.Top.DataDir, err = filepath.Abs(a.Settings.Top.DataDir); err != nil {
		return report, err
	}
	if err := a.Used(); err != nil {
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

// Used returns an error if the data folder holds no metadata: a command that
// works on what a server left behind must not make a new data folder where a
// name was mistyped.
func (a *App) Used() error {
	if err := a.restored(); err != nil {
		return err
	}
	_, err := os.Stat(a.Settings.path(metadataFile))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no %s in the data folder %s", metadataFile, a.Settings.Top.DataDir)
	}
	return err
}

// scratchFolder begins the name of the folder in which prefixes are tried.
const scratchFolder = ".repair-"

// walRepair is one repair. It tries prefixes of the log on a copy of the database
// and touches the originals only once it knows what they hold.
type walRepair struct {
	app      *App
	database string
	files    *disk.FS
	scratch  string
	cut      int64      // length of the longest prefix that opens
	head     audit.Head // with it
}

func (w *walRepair) run(ctx context.Context, dryRun bool) (report WALReport, err error) {
	if report.WALBytes, err = size(w.database + ".wal"); err != nil {
		return report, err
	}
	newest, err := w.newest()
	if err != nil {
		return report, err
	}
	if err := w.copyDatabase(); err != nil {
		return report, err
	}
	defer os.RemoveAll(w.scratch)
	if err := w.longest(ctx, report.WALBytes); err != nil {
		return report, err
	}
	report.Head, report.KeptBytes = w.head.ID, w.cut
	if newest != nil {
		report.Checkpoint = newest.ID
		report.Missing = max(0, newest.ID-w.head.ID)
	}
	if report.NothingToDo = w.cut == report.WALBytes && report.Missing == 0; report.NothingToDo {
		return report, nil
	}
	before, err := readRepair(w.app.Settings.path(auditDir))
	if err != nil {
		return report, err
	}
	if report.NothingToDo = report.WALBytes == 0 && accepts(before, w.head); report.NothingToDo {
		report.Original = before.Kept
		return report, nil
	}
	if report.KeptBytes, err = w.shortest(ctx); err != nil || dryRun {
		return report, err
	}
	return report, w.apply(ctx, &report)
}

// newest returns the newest checkpoint. It makes no signing key where there is
// none: then there is no checkpoint either.
func (w *walRepair) newest() (*audit.Checkpoint, error) {
	path := w.app.Settings.Audit.SigningKey
	if path == "" {
		path = w.app.Settings.path(auditDir, signingFile)
	}
	signer, err := audit.LoadSigner(path, false)
	if errors.Is(err, fs.ErrNotExist) && w.app.Settings.Audit.SigningKey == "" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return audit.NewestCheckpoint(w.app.Settings.path(auditDir), signer)
}

// copyDatabase makes the scratch folder, and removes those of repairs that were
// killed.
func (w *walRepair) copyDatabase() (err error) {
	old, err := filepath.Glob(w.app.Settings.path(scratchFolder + "*"))
	if err != nil {
		return err
	}
	for _, dir := range old {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	if w.scratch, err = os.MkdirTemp(w.app.Settings.Top.DataDir, scratchFolder); err != nil {
		return err
	}
	if err := w.copyWhole(); err != nil {
		return errors.Join(err, os.RemoveAll(w.scratch))
	}
	return nil
}

// copyWhole copies the database as it was before a checkpoint that was cut short,
// if there was one: the next start puts the journal back by itself.
func (w *walRepair) copyWhole() error {
	if err := w.files.CopyFile(w.copy(), w.database, 0o600); err != nil {
		return err
	}
	there, err := size(duck.JournalPath(w.database))
	if err != nil || there == 0 {
		return err
	}
	if err := w.files.CopyFile(duck.JournalPath(w.copy()), duck.JournalPath(w.database), 0o600); err != nil {
		return err
	}
	return duck.Recover(w.copy(), slog.New(slog.DiscardHandler))
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

// longest finds the longest prefix of the write-ahead log with which the database
// opens. A prefix that ends inside an entry replays up to it; one that holds a
// damaged entry whole is refused: so the lengths that open are those up to a
// bound, which is found by halving.
func (w *walRepair) longest(ctx context.Context, all int64) (err error) {
	if w.head, err = w.try(ctx, all); err == nil {
		w.cut = all
		return nil
	}
	if err = blame(err); errors.Is(err, duck.ErrCorrupt) {
		return fmt.Errorf("it is not the write-ahead log that is damaged, but %s: %w", metadataFile, err)
	}
	if w.head, err = w.try(ctx, 0); err != nil {
		return fmt.Errorf("%s does not open even without its write-ahead log: %w", metadataFile, err)
	}
	return halve(ctx, 0, all, func(n int64) bool {
		head, err := w.try(ctx, n)
		if err == nil {
			w.cut, w.head = n, head
		}
		return err != nil
	})
}

// shortest returns the length of the shortest prefix that leads to the same head.
// What follows it is no row of the log, and where the log is torn or damaged it
// is what cannot be read.
func (w *walRepair) shortest(ctx context.Context) (int64, error) {
	least := int64(0)
	if head, err := w.try(ctx, 0); err != nil || head.ID == w.head.ID {
		return least, err
	}
	least = w.cut
	return least, halve(ctx, 0, w.cut, func(n int64) bool {
		head, err := w.try(ctx, n)
		reaches := err == nil && head.ID == w.head.ID
		if reaches {
			least = n
		}
		return reaches
	})
}

// halve asks beyond about lengths between two, for the first of which it is false
// and for the last true, until it has asked about both sides of where it turns.
func halve(ctx context.Context, first, last int64, beyond func(int64) bool) error {
	for last-first > 1 && ctx.Err() == nil {
		if middle := first + (last-first)/2; beyond(middle) {
			last = middle
		} else {
			first = middle
		}
	}
	return ctx.Err()
}

// try opens the copy with the first n bytes of the log, and reads its head.
func (w *walRepair) try(ctx context.Context, n int64) (head audit.Head, err error) {
	if err := w.copyLog(n); err != nil {
		return head, err
	}
	db, err := duck.Open(ctx, w.copy(), duck.Options{ReadOnly: true})
	if err != nil {
		return head, err
	}
	head, err = headOrNone(ctx, db.Query)
	return head, errors.Join(err, db.Close())
}

// copyLog puts the first n bytes of the log beside the copy. They are not synced:
// nothing is kept.
func (w *walRepair) copyLog(n int64) error {
	log := w.copy() + ".wal"
	if err := os.Remove(log); n == 0 {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	from, err := os.Open(w.database + ".wal")
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyN(to, from, n)
	return errors.Join(err, to.Close())
}

// apply keeps the originals, cuts the log, folds what is left into the database
// and leaves word for the next start.
func (w *walRepair) apply(ctx context.Context, report *WALReport) error {
	settings := &w.app.Settings
	at := time.Now().UTC()
	report.Original = settings.path(lostFolder, "metadata-"+at.Format("20060102T150405.000"))
	if err := w.files.MkdirAll(report.Original, 0o700); err != nil {
		return err
	}
	for _, name := range []string{metadataFile, metadataFile + ".wal", duck.JournalPath(metadataFile)} {
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
		Head: w.head.ID, Hash: hex.EncodeToString(w.head.Hash), Lost: max(report.Checkpoint, report.Head), Kept: report.Original,
		Bytes: report.WALBytes - report.KeptBytes, At: at, Epoch: audit.NextEpoch(at, w.head.Epoch),
	})
	if err != nil {
		return err
	}
	return w.fold(ctx, report.WALBytes, report.KeptBytes)
}

// fold cuts the log where it is damaged and folds the rest into the database. Where
// what leads to the head is followed by what opens to be read only, that goes too.
func (w *walRepair) fold(ctx context.Context, all, kept int64) error {
	if all > w.cut {
		if err := os.Truncate(w.database+".wal", w.cut); err != nil {
			return err
		}
	}
	db, err := duck.Open(ctx, w.database, duck.Options{})
	if errors.Is(err, duck.ErrWAL) && kept < w.cut {
		if err := os.Truncate(w.database+".wal", kept); err != nil {
			return err
		}
		db, err = duck.Open(ctx, w.database, duck.Options{})
	}
	if err != nil {
		return err
	}
	if err := errors.Join(db.Checkpoint(ctx), db.Close()); err != nil {
		return err
	}
	return errors.Join(w.dropLog(ctx), w.files.SyncDir(w.app.Settings.Top.DataDir))
}

// dropLog removes what DuckDB leaves of a log in which it found nothing. First the
// database must show that it holds everything without it.
func (w *walRepair) dropLog(ctx context.Context) error {
	log, aside := w.database+".wal", filepath.Join(w.scratch, "dropped.wal")
	renamed := os.Rename(log, aside)
	if renamed != nil && !errors.Is(renamed, fs.ErrNotExist) {
		return renamed
	}
	db, err := duck.Open(ctx, w.database, duck.Options{ReadOnly: true})
	if err == nil {
		var head audit.Head
		head, err = headOrNone(ctx, db.Query)
		if err == nil && !bytes.Equal(head.Hash, w.head.Hash) {
			err = fmt.Errorf("the repaired database ends at row %d, its copy at row %d", head.ID, w.head.ID)
		}
		err = errors.Join(err, db.Close())
	}
	if err != nil && renamed == nil {
		err = errors.Join(err, os.Rename(aside, log))
	}
	return err
}
