package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Repair is the word that `eider repair --wal` leaves for the next start: the
// log ends at Head, and the rows up to Lost are known to be gone.
type Repair struct {
	Head  int64     `json:"head"`
	Hash  string    `json:"hash"`
	Lost  int64     `json:"lost_up_to"`
	Kept  string    `json:"original_kept_as"`
	Bytes int64     `json:"wal_bytes_dropped"`
	At    time.Time `json:"at"`
}

// WriteRepair leaves the word in dir.
func WriteRepair(dir string, r Repair) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, repairFile)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", repairFile, err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", repairFile, err)
	}
	return syncFolder(dir)
}

func readRepair(dir string) (*Repair, error) {
	text, err := os.ReadFile(filepath.Join(dir, repairFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", repairFile, err)
	}
	var r Repair
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", repairFile, err)
	}
	return &r, nil
}

// Repaired returns the loss that the operator has accepted and that has no row
// yet, or nil.
func (l *Log) Repaired() *Repair {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.repaired
}

// RepairLogged forgets the word of a repair, once a row reports it.
func (l *Log) RepairLogged() error {
	l.mu.Lock()
	l.repaired = nil
	l.mu.Unlock()
	if l.keeper == nil {
		return nil
	}
	err := os.Remove(filepath.Join(l.keeper.dir, repairFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncFolder(l.keeper.dir)
}

// Checkpoints returns the checkpoints kept in dir that this key signed: the
// history and the newest.
func Checkpoints(dir string, signer *Signer) ([]Checkpoint, error) {
	newest, err := NewestCheckpoint(dir, signer)
	if err != nil {
		return nil, err
	}
	var kept []Checkpoint
	if newest != nil {
		kept = append(kept, *newest)
	}
	text, err := os.ReadFile(filepath.Join(dir, historyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return kept, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", historyFile, err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		var c Checkpoint
		if json.Unmarshal([]byte(line), &c) == nil && signer.Valid(c) {
			kept = append(kept, c)
		}
	}
	return kept, nil
}

// NewestCheckpoint returns the newest checkpoint kept in dir, nil if none.
func NewestCheckpoint(dir string, signer *Signer) (*Checkpoint, error) {
	newest, _, err := signer.readSlots(filepath.Join(dir, headFile))
	return newest, err
}
