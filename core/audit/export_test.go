package audit

import (
	"context"
	"path/filepath"
	"time"
)

// What the tests beside the package need of its inside.
const (
	HeadFile    = headFile
	HistoryFile = historyFile
	RepairFile  = repairFile
	SlotSize    = slotSize
	VerifyPage  = verifyPage
	FirstWindow = firstWindow
	FollowBatch = followBatch
)

// SetClock replaces the log's clock.
func (l *Log) SetClock(now func() time.Time) { l.now = now }

// HashOf returns the hash that the row should have.
func HashOf(r Row) []byte { return r.hash() }

// Values returns the columns of the row.
func (r *Row) Values() []any { return r.values() }

// Keep writes checkpoints of the heads in turn, as a keeper that is told of one
// after the other, and records the newest.
func (k *Keeper) Keep(heads ...Head) error {
	w, err := k.openSlots()
	if err != nil {
		return err
	}
	defer w.file.Close()
	for _, h := range heads {
		w.write(h)
		w.sync()
	}
	w.record()
	return nil
}

// Newest returns the newest checkpoint, and whether one is foreign.
func (s *Signer) Newest(dir string) (*Checkpoint, bool, error) {
	found, err := s.readSlots(filepath.Join(dir, headFile))
	return found.newest, found.foreign, err
}

// SetRest replaces the waiting between two tries.
func (f *Followers) SetRest(rest func(ctx context.Context, pause time.Duration)) { f.rest = rest }

// RequestHash returns what stands beside a request's id.
func RequestHash(id string) int64 { return requestHash(id) }

// ColumnNames returns those of the log's columns that are in a row's hash.
func ColumnNames() (names []string) {
	for _, c := range filed {
		names = append(names, c.Name)
	}
	return names
}
