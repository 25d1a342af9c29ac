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

	"github.com/eiderdb/eider/core/disk"
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

	// Operation is what to call it in the log, where it is no repair: restore or
	// rebuild. Each begins a new epoch.
	Operation string `json:"operation,omitempty"`
	Epoch     int64  `json:"epoch,omitempty"`
	From      string `json:"from,omitempty"` // the backup
}

// WriteRepair leaves the word in dir.
func WriteRepair(dir string, r Repair) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	var files disk.FS
	if err := files.WriteFile(filepath.Join(dir, repairFile), text, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", repairFile, err)
	}
	return nil
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
	return removeRepair(l.keeper.dir)
}

func removeRepair(dir string) error {
	err := os.Remove(filepath.Join(dir, repairFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", repairFile, err)
	}
	return syncFolder(dir)
}

// Checkpoints returns the checkpoints kept in dir under this key: the newest and
// the history. One of the history that does not carry the key's signature was
// altered, and Verify says so; those of other keys and half lines of a crash are
// left out.
func Checkpoints(dir string, signer *Signer) ([]Checkpoint, error) {
	head, err := signer.readSlots(filepath.Join(dir, headFile))
	if err != nil {
		return nil, err
	}
	var kept []Checkpoint
	if head.newest != nil {
		kept = append(kept, *head.newest)
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
		if json.Unmarshal([]byte(line), &c) != nil || c.Key != signer.KeyID() {
			continue
		}
		c.altered = !signer.Valid(c)
		kept = append(kept, c)
	}
	return kept, nil
}
