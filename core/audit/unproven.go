package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/eiderdb/eider/core/disk"
)

// unprovenFile is the word that a command leaves beside the checkpoints where it
// found none to compare the log with: it signs new ones, and the next start would
// find those and say nothing.
const unprovenFile = "unproven"

// KeepUnproven leaves the word for the next start if this one could not compare the
// log with a checkpoint. It must be kept before the keeper runs.
func (l *Log) KeepUnproven() error {
	if l.keeper == nil || l.Proven() {
		return nil
	}
	var files disk.FS
	text := fmt.Appendf(nil, "%s: there was no checkpoint to compare the log with, which ended at row %d\n", time.Now().UTC().Format(time.RFC3339), l.Head().ID)
	if err := files.WriteFile(filepath.Join(l.keeper.dir, unprovenFile), text, 0o600); err != nil {
		return fmt.Errorf("keep that no checkpoint was found: %w", err)
	}
	return nil
}

// UnprovenTold forgets the word, once a server has told it in its log and its health.
func (l *Log) UnprovenTold() error {
	if l.keeper == nil {
		return nil
	}
	err := os.Remove(filepath.Join(l.keeper.dir, unprovenFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("forget that no checkpoint was found: %w", err)
	}
	return syncFolder(l.keeper.dir)
}

// heedWord tells what a command has found before.
func (l *Log) heedWord() error {
	text, err := os.ReadFile(filepath.Join(l.keeper.dir, unprovenFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read whether a checkpoint was found before: %w", err)
	}
	l.log.Error("a command that was run before had no checkpoint to compare the log with: rows may be missing at what was its end", "said", string(text))
	l.examined(true)
	return nil
}
