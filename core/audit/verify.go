package audit

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"

	"github.com/eiderdb/eider/core/metadata"
)

// Broken is one place where the chain does not hold.
type Broken struct {
	ID     int64  `json:"id"`
	Kind   string `json:"kind" enum:"altered,missing,inserted,reordered,truncated,checkpoint"`
	Detail string `json:"detail"`
}

// Verification is what a walk along the chain found.
type Verification struct {
	Verified bool    `json:"verified"`
	FirstID  int64   `json:"first_id"`
	LastID   int64   `json:"last_id"`
	Checked  int64   `json:"checked"`
	BrokenAt *Broken `json:"broken_at,omitempty"`
}

// A walk holds no transaction: it reads a page at a time.
const selectPage = selectRow + `WHERE id > $1 AND id <= $2 ORDER BY id LIMIT 10000`

// Verify walks the chain from row from (0: the first) to row to (0: the newest)
// and stops at the first break. Checkpoints, if any, must name rows of the
// chain; one that names a row behind its end is a truncation.
func Verify(ctx context.Context, v *metadata.View, from, to int64, checkpoints []Checkpoint) (Verification, error) {
	head, err := readHead(ctx, v)
	if err != nil {
		return Verification{}, err
	}
	walk := walker{signed: map[int64]string{}}
	for _, c := range checkpoints {
		if c.ID > head.ID && (to == 0 || to > head.ID) {
			walk.broken = &Broken{c.ID, "truncated", fmt.Sprintf("a checkpoint names row %d, the log ends at row %d", c.ID, head.ID)}
		}
		walk.signed[c.ID] = c.Hash
	}
	if to == 0 || to > head.ID {
		to = head.ID
	}
	if from <= 1 {
		from = 1
		walk.prev = genesis()
	}
	walk.next = from
	for walk.next <= to && walk.found == nil {
		rows, err := v.Query(ctx, selectPage, walk.next-1, to)
		if err != nil {
			return Verification{}, fmt.Errorf("read the log: %w", err)
		}
		page, err := readRows(rows)
		if err != nil {
			return Verification{}, fmt.Errorf("read the log: %w", err)
		}
		if len(page) == 0 {
			walk.fail(walk.next, "missing", "rows %d to %d are missing", walk.next, to)
		}
		walk.page(page)
	}
	if walk.found == nil {
		walk.found = walk.broken
	}
	return Verification{walk.found == nil, walk.first, walk.last, walk.checked, walk.found}, nil
}

type walker struct {
	prev        []byte // nil where the walk starts inside the chain
	next        int64
	signed      map[int64]string
	first, last int64
	checked     int64
	found       *Broken
	broken      *Broken // a truncation, told only if the rows themselves hold
}

func (w *walker) fail(id int64, kind, format string, args ...any) {
	if w.found == nil {
		w.found = &Broken{id, kind, fmt.Sprintf(format, args...)}
	}
}

func (w *walker) page(rows []Row) {
	for i := range rows {
		r := &rows[i]
		switch {
		case r.ID < w.next:
			w.fail(r.ID, "inserted", "row %d is there twice", r.ID)
		case r.ID > w.next:
			w.fail(w.next, "missing", "rows %d to %d are missing", w.next, r.ID-1)
		case !bytes.Equal(r.hash(), r.Hash):
			w.fail(r.ID, "altered", "row %d does not have the hash of its content", r.ID)
		case w.prev != nil && !bytes.Equal(r.PrevHash, w.prev):
			w.fail(r.ID, "reordered", "row %d does not follow the row before it", r.ID)
		case w.signed[r.ID] != "" && w.signed[r.ID] != hex.EncodeToString(r.Hash):
			w.fail(r.ID, "checkpoint", "row %d does not have the hash that was signed", r.ID)
		}
		if w.found != nil {
			return
		}
		if w.checked == 0 {
			w.first = r.ID
		}
		w.last, w.prev, w.next = r.ID, r.Hash, r.ID+1
		w.checked++
	}
}
