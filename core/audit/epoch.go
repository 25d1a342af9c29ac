package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
)

// An epoch is a stretch of the log in which an id names one row and never another.
// A restore, a rebuild and a repair of the write-ahead log begin a new one: the log
// goes on from an older state, or from nothing, and gives ids out again. Its number is in the details of its first
// row, in the checkpoints of its rows, and in the rows that archive older ones, so
// that it outlives the first row's archiving. A log that has lost nothing is in
// epoch 0.

// NextEpoch returns the number of an epoch that begins now, behind the epoch before.
// A rebuild does not know that one: so the number is the time, in milliseconds.
func NextEpoch(now time.Time, before int64) int64 { return max(now.UnixMilli(), before+1) }

// epochBegun is the first row of an epoch: 0 where that is archived.
type epochBegun struct{ id, epoch int64 }

// The rows that tell of epochs: an archive_log row of the one that it is in.
const selectEpochs = selectRow + `
	WHERE operation IN ('restore', 'rebuild', 'repair', '` + ArchiveOperation + `') AND status = 'success'
		AND id >= 1 AND id <= ` + lastID + ` AND (resource_type = 'metadata' OR operation = '` + ArchiveOperation + `')
	ORDER BY id`

// epochOf returns the epoch that the row tells of, 0 if it tells of none.
func epochOf(r *Row) int64 {
	begins := r.ResourceType == "metadata" && (r.Operation == "restore" || r.Operation == "rebuild" || r.Operation == "repair")
	if r.Status != eider.StatusSuccess || !begins && r.Operation != ArchiveOperation {
		return 0
	}
	var said struct {
		Epoch int64 `json:"epoch"`
	}
	if json.Unmarshal([]byte(r.Details), &said) != nil {
		return 0
	}
	return said.Epoch
}

// epochs are the epochs of a log, in their order.
type epochs []epochBegun

// note takes what a row tells. Rows are noted in their order.
func (e *epochs) note(r *Row) {
	epoch := epochOf(r)
	if epoch == 0 {
		return
	}
	at, known := slices.BinarySearchFunc(*e, epoch, func(b epochBegun, epoch int64) int { return cmp.Compare(b.epoch, epoch) })
	begun := epochBegun{r.ID, epoch}
	if r.Operation == ArchiveOperation { // what began it is archived
		begun.id = 0
	}
	switch {
	case !known:
		*e = slices.Insert(*e, at, begun)
	case (*e)[at].id == 0: // the walk along an archive finds it
		(*e)[at].id = begun.id
	}
}

func (e epochs) newest() int64 {
	if len(e) == 0 {
		return 0
	}
	return e[len(e)-1].epoch
}

// of returns the epoch of a row.
func (e epochs) of(id int64) int64 {
	for _, begun := range slices.Backward(e) {
		if begun.id <= id {
			return begun.epoch
		}
	}
	return 0
}

// exact returns the epoch of a row, if the row that began it is known.
func (e epochs) exact(id int64) (epoch int64, known bool) {
	for _, begun := range slices.Backward(e) {
		if begun.id <= id {
			return begun.epoch, begun.id > 0
		}
	}
	return 0, true
}

// end returns the last row up to which all are in the epoch of a row.
func (e epochs) end(id, upTo int64) int64 {
	for _, begun := range e {
		if begun.id > id && begun.id <= upTo {
			return begun.id - 1
		}
	}
	return upTo
}

func readEpochs(rows metadata.Rows, err error) (all epochs, _ error) {
	if err != nil {
		return nil, fmt.Errorf("read the epochs: %w", err)
	}
	found, err := readRows(rows)
	if err != nil {
		return nil, fmt.Errorf("read the epochs: %w", err)
	}
	for i := range found {
		all.note(&found[i])
	}
	return all, nil
}

// EpochAt returns the epoch of a row that is durable.
func (l *Log) EpochAt(id int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epochs.of(id)
}

// Seen returns up to which row the log still holds what somebody has seen who has come
// to a row of an epoch: to an earlier one, where those behind it were lost and their
// ids are given out again. False where nobody can tell: the log does not know the
// epoch, or what began the next one is archived.
func (l *Log) Seen(epoch, id int64) (upTo int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epochs.seen(epoch, id, l.head.ID)
}

func (e epochs) seen(epoch, id, head int64) (upTo int64, ok bool) {
	known := epoch == 0
	for _, begun := range e {
		switch {
		case begun.epoch == epoch:
			known = true
		case begun.epoch > epoch:
			return min(id, begun.id-1), known && begun.id > 0
		}
	}
	return id, known && id <= head
}

// sameEpoch returns how far rows from first on may be read so that all are in one
// epoch.
func (l *Log) sameEpoch(first, upTo int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epochs.end(first, upTo)
}

// PastHead returns the cursors that are behind the head, as those of a log that lost
// rows: whoever has them waits for ids that are given out again.
func PastHead(ctx context.Context, cursors *metadata.Table[Cursor], r metadata.Reader, head int64) (past []Cursor, err error) {
	for _, name := range cursors.Keys() {
		c, err := cursors.Get(ctx, r, name)
		if err != nil {
			return nil, fmt.Errorf("read the cursor of %s: %w", name, err)
		}
		if c.LogID > head {
			past = append(past, c)
		}
	}
	return past, nil
}
