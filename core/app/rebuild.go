package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/google/uuid"
)

// rebuildFile is there from the beginning of a rebuild to its end. While it is, only
// a rebuild opens the folder.
const rebuildFile = ".rebuild.json"

// ErrRebuilding says that a rebuild was begun and is not finished: the register
// lacks what it has not come to.
var ErrRebuilding = errors.New("a rebuild of the register was begun and is not finished; run `eider rebuild` again, it goes on where it stopped")

// ErrRebuilt says that a rebuild is finished, and that only its server did not end well.
var ErrRebuilt = errors.New("the register is made again, and nothing of it is lost, but the server that did it did not end well; start the server once that is mended")

// rebuilding is what rebuildFile holds.
type rebuilding struct {
	Epoch int64     `json:"epoch"`
	At    time.Time `json:"at"`
	Kept  string    `json:"original_kept_as"` // relative to the data folder
	// Aside says that the old metadata is out of the way: what has its name now is the
	// new one.
	Aside bool `json:"aside"`
}

// Rebuilt says what a rebuild has brought back.
type Rebuilt struct {
	Epoch  int64          `json:"epoch"`
	Kept   string         `json:"original_kept_as"`
	Counts map[string]int `json:"counts"`
	Lost   []string       `json:"lost"`
	// LogID is the newest row of the log that is lost of which a folder tells.
	LogID int64 `json:"log_id"`
}

// Rebuild makes the register of a stopped server again, from the folders alone:
//
//	leave word that it was begun
//	move what is left of the metadata, its checkpoints and the root key to lost+found
//	open a new one, whose first row begins a new epoch
//	have each module bring back its rows, from its folders
//	log what was brought back; remove the word
//
// Killed anywhere it goes on where it stopped: rows that are there are left alone.
// Metadata that can be read is ErrWhole, unless anyway.
func (a *App) Rebuild(ctx context.Context, anyway bool, tell func(what string, done, of int)) (done Rebuilt, err error) {
	if a.Settings.Top.DataDir, err = filepath.Abs(a.Settings.Top.DataDir); err != nil {
		return done, err
	}
	if _, err := os.Stat(a.Settings.path("duckdb")); err != nil {
		return done, fmt.Errorf("%s is no data folder: it has no folder duckdb", a.Settings.Top.DataDir)
	}
	if err := a.restored(); err != nil {
		return done, err
	}
	word, err := a.beginRebuild(ctx, anyway)
	if err != nil {
		return done, err
	}
	done = Rebuilt{Epoch: word.Epoch, Kept: word.Kept, Lost: []string{}}
	a.rebuilding = true
	if err := a.Open(ctx); err != nil {
		return done, err
	}
	whole := false
	defer func() {
		closed := a.Close()
		if whole && closed != nil { // what it says is in the log, too
			closed = fmt.Errorf("%w: %w", ErrRebuilt, closed)
		}
		err = errors.Join(err, closed)
	}()
	a.Start()
	if a.Kernel.Audit.Head().ID == 0 {
		if err := a.recordRebuild(ctx, "metadata", map[string]any{"epoch": word.Epoch, "original_kept_as": word.Kept}, nil); err != nil {
			return done, err
		}
	}
	r := &check.Rebuild{Workers: max(4, runtime.NumCPU()), Tell: tell, Commit: a.recordRebuild}
	for _, source := range a.Registry.Checks {
		if source.Rebuild == nil {
			continue
		}
		if err := source.Rebuild(ctx, r); err != nil {
			return done, fmt.Errorf("rebuild %s: %w", source.Name, err)
		}
	}
	counts, lost := r.Result()
	done.Counts, done.Lost, done.LogID = counts, append(done.Lost, lost...), r.Newest()
	if err := a.recordRebuild(ctx, "metadata", done, nil); err != nil {
		return done, err
	}
	if err := os.Remove(a.Settings.path(rebuildFile)); err != nil {
		return done, err
	}
	if err := a.syncData(); err != nil {
		return done, err
	}
	whole = true
	return done, nil
}

// beginRebuild moves the old metadata aside, or finds that this was done.
func (a *App) beginRebuild(ctx context.Context, anyway bool) (word rebuilding, err error) {
	lock, err := disk.Lock(a.Settings.path(lockFile))
	if errors.Is(err, disk.ErrLocked) {
		return word, fmt.Errorf("a server uses the data folder %s; stop it first: %w", a.Settings.Top.DataDir, err)
	}
	if err != nil {
		return word, fmt.Errorf("lock the data folder: %w", err)
	}
	defer lock.Unlock()
	text, err := os.ReadFile(a.Settings.path(rebuildFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if !anyway {
			if err := a.mustBeBroken(ctx); err != nil {
				return word, err
			}
		}
		at := time.Now().UTC()
		word = rebuilding{Epoch: audit.NextEpoch(at, 0), At: at, Kept: filepath.Join(lostFolder, "metadata-"+at.Format("20060102T150405.000"))}
		if err := a.writeRebuilding(word); err != nil {
			return word, err
		}
	case err != nil:
		return word, err
	default:
		if err := json.Unmarshal(text, &word); err != nil {
			return word, fmt.Errorf("%s: %w", rebuildFile, err)
		}
	}
	if word.Aside {
		return word, nil
	}
	if err := a.setAside(word.Kept); err != nil {
		return word, fmt.Errorf("move the old metadata aside: %w", err)
	}
	word.Aside = true
	return word, a.writeRebuilding(word)
}

func (a *App) writeRebuilding(word rebuilding) error {
	text, err := json.Marshal(word)
	if err != nil {
		return err
	}
	return a.options.Files.WriteFile(a.Settings.path(rebuildFile), text, 0o600)
}

// setAside moves what tells of the old register, and the old root key: whoever lost
// the register may have lost the key to somebody. Beside them a copy would do, but
// there may be no room for one.
func (a *App) setAside(to string) error {
	files := a.options.Files
	kept := a.Settings.path(to)
	if err := files.MkdirAll(kept, 0o700); err != nil {
		return err
	}
	for _, name := range []string{
		duck.JournalPath(metadataFile), metadataFile + ".wal", metadataFile, freshMetadata, rootKeyFile,
		filepath.Join(auditDir, "head"), filepath.Join(auditDir, "checkpoints.ndjson"), filepath.Join(auditDir, "repair.json"), filepath.Join(auditDir, "unproven"),
	} {
		err := files.Rename(a.Settings.path(name), filepath.Join(kept, filepath.Base(name)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, dir := range []string{kept, a.Settings.Top.DataDir, a.Settings.path(auditDir)} {
		if err := files.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// finished returns ErrRebuilding while a rebuild is not, ErrRestoring while a restore is
// not.
func (a *App) finished() error {
	if err := a.restored(); err != nil {
		return err
	}
	there, err := a.options.Files.Exists(a.Settings.path(rebuildFile))
	if err == nil && there && !a.rebuilding {
		err = ErrRebuilding
	}
	return err
}

func (a *App) recordRebuild(ctx context.Context, resource string, details any, stage func(*metadata.Tx) error) error {
	text, err := json.Marshal(details)
	if err != nil {
		return err
	}
	return a.Kernel.Pipeline.Record(ctx, audit.Row{
		CallID: uuid.Must(uuid.NewV7()).String(), ActorType: eider.ActorSystem, ActorName: "rebuild",
		Operation: "rebuild", ResourceType: resource, Status: eider.StatusSuccess, Details: string(text),
	}, stage)
}
