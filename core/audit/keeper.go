package audit

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/eiderdb/eider/core/metadata"
)

// What a start may find wrong between the log and its newest checkpoint, or behind it.
var (
	// ErrBehind: rows that were durable are gone, as after a WAL was cut.
	ErrBehind = errors.New("the log is behind its newest checkpoint")
	// ErrForked: the row that the checkpoint names has another hash.
	ErrForked = errors.New("the log does not match its newest checkpoint")
	// ErrUnchained: a row behind the checkpoint does not follow. What would be written
	// behind it, and signed, would not either.
	ErrUnchained = errors.New("the end of the log does not hold")
)

const (
	headFile    = "head"
	historyFile = "checkpoints.ndjson"
	repairFile  = "repair.json"

	syncEvery    = time.Second // how much a power cut can take from the head file
	historyEvery = time.Minute
)

// Keeper keeps signed checkpoints outside the database: the newest in a file
// that is overwritten after every group, and one a minute in a history. It runs
// behind the writer and slows no commit.
type Keeper struct {
	dir    string
	signer *Signer
	log    *slog.Logger

	mu    sync.Mutex
	next  Head
	woken chan struct{}
}

// NewKeeper returns a keeper of checkpoints in dir, which must exist.
func NewKeeper(dir string, signer *Signer, log *slog.Logger) *Keeper {
	return &Keeper{dir: dir, signer: signer, log: log, woken: make(chan struct{}, 1)}
}

// Reset sets the checkpoints aside: after an accepted loss some name rows that
// are gone, while their ids are given out again.
func (k *Keeper) Reset() error {
	aside := ".before-" + time.Now().UTC().Format("20060102T150405.000")
	for _, name := range []string{headFile, historyFile} {
		path := filepath.Join(k.dir, name)
		err := os.Rename(path, path+aside)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set the checkpoints aside: %w", err)
		}
	}
	return syncFolder(k.dir)
}

func (k *Keeper) keep(h Head) {
	k.mu.Lock()
	k.next = h
	k.mu.Unlock()
	select {
	case k.woken <- struct{}{}:
	default:
	}
}

func (k *Keeper) pending() Head {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.next
}

// Run writes checkpoints until ctx ends, then the last one.
func (k *Keeper) Run(ctx context.Context) error {
	w, err := k.openSlots()
	if err != nil {
		return err
	}
	defer w.file.Close()
	syncs, history := time.NewTicker(syncEvery), time.NewTicker(historyEvery)
	defer syncs.Stop()
	defer history.Stop()
	for {
		select {
		case <-k.woken:
			w.write(k.pending())
		case <-syncs.C:
			w.write(k.pending()) // one that failed before
			w.sync()
		case <-history.C:
			w.record()
		case <-ctx.Done():
			w.write(k.pending())
			w.sync()
			w.record()
			return nil
		}
	}
}

// checkHead compares the table's head with the newest checkpoint. A loss that
// the operator has accepted with `eider repair --wal` is returned instead.
func (l *Log) checkHead(ctx context.Context, v *metadata.View, head Head) (*Repair, error) {
	if l.keeper == nil {
		return nil, nil
	}
	found, err := l.keeper.signer.newest(l.keeper.dir)
	if err != nil {
		return nil, err
	}
	if err := l.heedWord(); err != nil {
		return nil, err
	}
	if found.foreign {
		l.log.Error("a checkpoint was signed by another key and does not count: was the signing key lost or replaced?", "dir", l.keeper.dir)
	}
	repaired, err := l.acceptedLoss(head)
	if repaired != nil || err != nil {
		return repaired, err
	}
	newest := found.newest
	if newest != nil {
		l.examined(false)
	}
	if newest == nil {
		if head.ID > 0 {
			l.log.Error("there is no checkpoint to compare the log with: rows may be missing at its end", "head", head.ID)
		}
		l.examined(head.ID > 0)
		return nil, chained(ctx, v, max(1, head.ID-1), head)
	}
	if head.ID < newest.ID {
		return nil, fmt.Errorf("%w: the log ends at row %d, the checkpoint says %d; `eider repair --wal` shows what is lost",
			ErrBehind, head.ID, newest.ID)
	}
	hash, err := hashOf(ctx, v, newest.ID)
	if err != nil {
		return nil, err
	}
	if hash == "" {
		first, err := oneID(ctx, v, selectFirstOfLog)
		if err != nil {
			return nil, err
		}
		if first > newest.ID { // archived before a later checkpoint could be kept
			return nil, chained(ctx, v, newest.ID, head)
		}
	}
	if hash != newest.Hash {
		return nil, fmt.Errorf("%w: row %d has another hash", ErrForked, newest.ID)
	}
	return nil, chained(ctx, v, newest.ID, head)
}

// chained returns ErrUnchained if a row from the given one on, up to the head, is not
// what was written, or does not follow. Those are few: a checkpoint comes after every
// group, and a power cut takes no more than a second of them.
func chained(ctx context.Context, v *metadata.View, from int64, head Head) error {
	if head.ID >= maxID {
		return fmt.Errorf("%w: row %d is the last that a log can have: somebody has put it there", ErrUnchained, head.ID)
	}
	walk := walker{view: v, next: from, chainOnly: true}
	if from == 1 {
		walk.prev = genesis()
	}
	found, err := walk.table(ctx, head.ID)
	if err == nil && !found.Verified {
		err = fmt.Errorf("%w: %s", ErrUnchained, found.BrokenAt.Detail)
	}
	return err
}

// examined keeps what the first look at the checkpoints found: later ones find
// those of this process.
func (l *Log) examined(unproven bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.proven == nil {
		proven := !unproven
		l.proven = &proven
	}
}

// Proven reports whether the start could compare the log with a checkpoint, or had
// nothing to compare. Until the next start it is false where the checkpoints, or the
// key that signed them, were lost: now, or when a command was run before, of which
// KeepUnproven tells.
func (l *Log) Proven() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.proven == nil || *l.proven
}

// acceptedLoss returns the word of a repair, if it is about this head. Once the
// log has grown behind the repair the word is spent and removed: it must not
// excuse a second loss that ends at the same row.
func (l *Log) acceptedLoss(head Head) (*Repair, error) {
	repaired, err := readRepair(l.keeper.dir)
	if err != nil {
		return nil, err
	}
	if repaired != nil && repaired.Head == head.ID && repaired.Hash == hex.EncodeToString(head.Hash) {
		return repaired, nil
	}
	if repaired != nil && head.ID > repaired.Head {
		return nil, removeRepair(l.keeper.dir)
	}
	return nil, nil
}

func hashOf(ctx context.Context, v *metadata.View, id int64) (string, error) {
	rows, err := v.Query(ctx, selectRow+`WHERE id = $1`, id)
	if err != nil {
		return "", fmt.Errorf("read row %d: %w", id, err)
	}
	found, err := readRows(rows)
	if err != nil || len(found) == 0 {
		return "", err
	}
	return hex.EncodeToString(found[0].Hash), nil
}
