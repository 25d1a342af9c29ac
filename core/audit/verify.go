package audit

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
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

// A walk holds no transaction: it reads a page at a time. A page is a range of
// ids and not a number of rows, so that rows with one id are never on two pages.
const verifyPage = 4096

const (
	selectRange = selectRow + `WHERE id >= $1 AND id <= $2 ORDER BY id`
	// What stands beside the canonical row must follow from it, or a search would
	// not find the row.
	selectMisled = `SELECT id, request_id, request_hash FROM operations_log
		WHERE id >= $1 AND id <= $2 AND request_hash IS NOT NULL ORDER BY id`
	// No row was ever given an id below 1.
	selectBelow = selectRow + `WHERE id < 1 ORDER BY id LIMIT 1`
	selectNext  = selectRow + `WHERE id > $1 ORDER BY id LIMIT 1`
)

// Verify walks the chain from row from (0: the first) to row to (0: the newest)
// and stops at the first break. Checkpoints, if any, must name rows of the
// chain; one that names a row behind its end is a truncation, told with the
// first row that is gone.
func Verify(ctx context.Context, v *metadata.View, from, to int64, checkpoints []Checkpoint) (Verification, error) {
	return verify(ctx, v, from, to, checkpoints, nil)
}

// verify is Verify for a first row that must follow prev, if that is not nil.
func verify(ctx context.Context, v *metadata.View, from, to int64, checkpoints []Checkpoint, prev []byte) (Verification, error) {
	head, err := readHead(ctx, v)
	if err != nil {
		return Verification{}, err
	}
	from = max(from, 1)
	walk := walker{view: v, next: from, from: from, prev: prev, signed: map[int64][]string{}}
	walk.expect(checkpoints, to == 0 || to > head.ID, head.ID)
	if to == 0 || to > head.ID {
		to = head.ID
	}
	if err := walk.begin(ctx); err != nil {
		return Verification{}, fmt.Errorf("read the log: %w", err)
	}
	for walk.next <= to && walk.found == nil {
		if err := walk.read(ctx, min(to, walk.next+verifyPage-1)); err != nil {
			return Verification{}, fmt.Errorf("read the log: %w", err)
		}
		if walk.found != nil && walk.found.Kind == "missing" { // or archived while they were read
			if cut, err := walk.afterCut(ctx); err != nil {
				return Verification{}, fmt.Errorf("read the log: %w", err)
			} else if cut {
				walk.found = nil
			}
		}
	}
	if walk.found == nil {
		walk.found = walk.broken
	}
	return Verification{walk.found == nil, walk.first, walk.last, walk.checked, walk.found}, nil
}

type walker struct {
	view        *metadata.View
	prev        []byte // nil where the row before the first is not there
	next        int64
	from        int64 // where misled goes on
	signed      map[int64][]string
	first, last int64
	checked     int64
	found       *Broken
	broken      *Broken // what checkpoints tell, only if the rows themselves hold
}

// expect notes what the checkpoints say, also of the log's end where that is
// asked for.
func (w *walker) expect(checkpoints []Checkpoint, end bool, head int64) {
	newest, altered := int64(0), int64(0)
	for _, c := range checkpoints {
		if c.altered {
			altered = c.ID
			continue
		}
		w.signed[c.ID] = append(w.signed[c.ID], c.Hash)
		newest = max(newest, c.ID)
	}
	switch {
	case end && newest > head:
		w.broken = &Broken{head + 1, "truncated", fmt.Sprintf("a checkpoint names row %d, the log ends at row %d", newest, head)}
	case altered != 0:
		w.broken = &Broken{altered, "checkpoint", fmt.Sprintf("the checkpoint of row %d does not carry its key's signature", altered)}
	}
}

// begin finds what the first row must follow.
func (w *walker) begin(ctx context.Context) error {
	if cut, err := w.afterCut(ctx); cut || err != nil {
		return err
	}
	if w.prev != nil {
		return nil
	}
	if w.next > 1 {
		before, err := w.query(ctx, selectRange, w.next-1, w.next-1)
		if err == nil && len(before) > 0 {
			w.prev = before[0].Hash
		}
		return err
	}
	w.prev = genesis()
	below, err := w.query(ctx, selectBelow)
	if err == nil && len(below) > 0 {
		w.fail(below[0].ID, "inserted", "row %d has an id that is never given", below[0].ID)
	}
	return err
}

// afterCut has the walk begin behind the rows that are archived, if a row of the
// log proves that they are: it names the last of them, whose hash the first that is
// left must follow. That row is in the chain itself, and was committed with the cut.
func (w *walker) afterCut(ctx context.Context) (bool, error) {
	first, err := w.query(ctx, selectNext, 0)
	if err != nil || len(first) == 0 || first[0].ID <= w.next {
		return false, err
	}
	proofs, err := w.query(ctx, selectArchived)
	if err != nil {
		return false, err
	}
	for i := range proofs {
		var said Archived
		if json.Unmarshal([]byte(proofs[i].Details), &said) == nil && said.Last == first[0].ID-1 && said.LastHash == hex.EncodeToString(first[0].PrevHash) {
			w.next, w.from, w.prev = first[0].ID, first[0].ID, first[0].PrevHash
			return true, nil
		}
	}
	return false, nil
}

// read checks the rows up to last.
func (w *walker) read(ctx context.Context, last int64) error {
	rows, err := w.query(ctx, selectRange, w.next, last)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		if rows, err = w.query(ctx, selectNext, last); err != nil {
			return err
		}
	}
	if len(rows) == 0 { // somebody takes rows away while they are read
		w.fail(w.next, "missing", "rows from %d on are missing", w.next)
	}
	w.page(rows)
	return w.misled(ctx, last)
}

// misled looks for a row up to last that its request's id would not find.
func (w *walker) misled(ctx context.Context, last int64) error {
	rows, err := w.view.Query(ctx, selectMisled, w.from, last)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id, hash int64
		var request string
		if err := rows.Scan(&id, &request, &hash); err != nil {
			return err
		}
		if hash != requestHash(request) && (w.found == nil || id < w.found.ID) {
			w.found = &Broken{id, "altered", fmt.Sprintf("row %d does not have the hash of its request's id", id)}
		}
	}
	w.from = last + 1
	return rows.Err()
}

func (w *walker) query(ctx context.Context, sql string, args ...any) ([]Row, error) {
	rows, err := w.view.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return readRows(rows)
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
		case r.ID > w.next:
			w.fail(w.next, "missing", "rows %d to %d are missing", w.next, r.ID-1)
		case i+1 < len(rows) && rows[i+1].ID == r.ID:
			w.fail(r.ID, "inserted", "row %d is there twice", r.ID)
		case !bytes.Equal(r.hash(), r.Hash):
			w.fail(r.ID, "altered", "row %d does not have the hash of its content", r.ID)
		case w.prev != nil && !bytes.Equal(r.PrevHash, w.prev):
			w.fail(r.ID, "reordered", "row %d does not follow the row before it", r.ID)
		case !w.asSigned(r):
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

func (w *walker) asSigned(r *Row) bool {
	for _, hash := range w.signed[r.ID] {
		if hash != hex.EncodeToString(r.Hash) {
			return false
		}
	}
	return true
}
