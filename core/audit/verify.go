package audit

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/eiderdb/eider/core/metadata"
)

// Verification is what a walk along the chain found.
type Verification struct {
	Verified bool  `json:"verified"`
	FirstID  int64 `json:"first_id"`
	LastID   int64 `json:"last_id"`
	Checked  int64 `json:"checked"`
	// Without one, nothing but the rows themselves says that they are all there.
	Checkpoints int64   `json:"checkpoints" doc:"Checkpoints with a valid signature that rows were compared with"`
	Unproven    bool    `json:"unproven,omitempty" doc:"The start found no checkpoint to compare the log with, as where they or their key are lost: those that there are now were signed since, and rows may be missing at what was its end"`
	BrokenAt    *Broken `json:"broken_at,omitempty" doc:"The first of the breaks"`
	// A log that somebody has changed is broken where they did it, and nowhere else.
	Breaks        []Broken `json:"breaks,omitempty" doc:"Every place where the chain does not hold, by id; at most 100"`
	BreaksOmitted int64    `json:"breaks_omitted,omitempty" doc:"Breaks that are not among them"`
	Epoch         int64    `json:"epoch,omitempty" doc:"Epoch of the last row; absent in a log that has lost nothing"`
	// Of a log that was lost before a rebuild, archives are what is left.
	OtherArchives []string `json:"other_archives,omitempty" doc:"With archive: files in archive/ of which this log does not go on, as of one that was lost before a rebuild; they were not walked"`
	// A restored folder has a new key, and archives of the old one.
	OtherKeys []string `json:"other_keys,omitempty" doc:"With archive: files in archive/ whose manifest another key has signed than the server's, as before a restore: their rows were walked, and their signature was not compared"`
}

// A walk holds no transaction: it reads a page at a time. A page is a range of
// ids and not a number of rows, so that rows with one id are never on two pages.
const verifyPage = 4096

const (
	selectRange = selectRow + `WHERE id >= $1 AND id <= $2 ORDER BY id`
	// What stands beside the canonical row must follow from it, or a search would
	// not find the row.
	selectMisled = `SELECT id, coalesce(request_id, ''), request_hash FROM operations_log
		WHERE id >= $1 AND id <= $2 AND request_hash IS NOT NULL ORDER BY id`
	// Rows with ids that none is ever given: they are on nobody's way.
	selectStrays = selectRow + `WHERE id < 1 OR id > $1 OR id IS NULL ORDER BY id LIMIT ` + maxStrays
	maxStrays    = "100" // as many as are named
	selectNext   = selectRow + `WHERE id > $1 AND id <= ` + lastID + ` ORDER BY id LIMIT 1`
)

// Verify walks the chain from row from (0: the first) to row to (0: the newest)
// and names every break. Checkpoints, if any, must name rows of the chain; one that
// names a row behind its end is a truncation, told with the first row that is gone.
func Verify(ctx context.Context, v *metadata.View, from, to int64, checkpoints []Checkpoint) (Verification, error) {
	if changed, err := retyped(ctx, v.Query); err != nil || changed != "" {
		return unreadable(changed), err
	}
	head, err := readHead(ctx, v)
	if err != nil {
		return Verification{}, err
	}
	walk := walker{view: v, next: max(from, 1)}
	walk.expect(checkpoints, to == 0 || to > head.ID, head.ID)
	if to == 0 || to > head.ID {
		to = head.ID
	}
	if err := walk.begin(ctx, to == head.ID); err != nil {
		return Verification{}, fmt.Errorf("read the log: %w", err)
	}
	return walk.table(ctx, to)
}

// walker goes along the chain and notes what does not hold. A break is told once:
// what follows it is compared with the row as it stands, or with nothing where that
// says nothing of it.
type walker struct {
	view        *metadata.View // nil: what is walked is no table
	prev        []byte         // nil where the row before is not there, or not what it was
	next        int64
	signed      map[int64][]Checkpoint
	epochs      epochs
	first, last int64
	checked     int64
	compared    int64 // checkpoints
	chainOnly   bool  // not what stands beside the canonical row
	breaks      breaks
	others      []string // archives of other logs
	foreign     []string // archives that another key has signed
	copied      bool     // an archive by itself, of rows that were walked
}

// expect notes what the checkpoints say, also of the log's end where that is
// asked for.
func (w *walker) expect(checkpoints []Checkpoint, end bool, head int64) {
	w.signed = map[int64][]Checkpoint{}
	newest := int64(0)
	for _, c := range checkpoints {
		if c.altered {
			w.breaks.add(Broken{ID: c.ID, Kind: "checkpoint", Detail: fmt.Sprintf("the checkpoint of row %d does not carry its key's signature", c.ID)})
			continue
		}
		if slices.Contains(w.signed[c.ID], c) { // the newest is in the history as well
			continue
		}
		w.signed[c.ID] = append(w.signed[c.ID], c)
		newest = max(newest, c.ID)
	}
	if end && newest > head {
		w.breaks.add(Broken{ID: head + 1, LastID: lastOf(head+1, newest), Kind: "truncated", Detail: fmt.Sprintf("a checkpoint names row %d, the log ends at row %d", newest, head)})
	}
}

// table walks the rows that are in the database, up to one, and returns what the
// whole walk has found.
func (w *walker) table(ctx context.Context, to int64) (Verification, error) {
	for w.next <= to {
		if err := w.read(ctx, min(to, w.next+verifyPage-1), to); err != nil {
			return Verification{}, fmt.Errorf("read the log: %w", err)
		}
	}
	return w.result(), nil
}

func (w *walker) result() Verification {
	found := w.breaks.told(w.first, w.last)
	v := Verification{
		Verified: len(found) == 0, FirstID: w.first, LastID: w.last, Checked: w.checked, Checkpoints: w.compared,
		Breaks: found, BreaksOmitted: w.breaks.omitted, OtherArchives: w.others, OtherKeys: w.foreign,
	}
	if len(found) > 0 {
		v.BrokenAt = &found[0]
	}
	if w.checked > 0 {
		v.Epoch = w.epochs.of(w.last)
	}
	return v
}

// begin finds what the first row must follow. The end says that the walk goes to the
// newest row.
func (w *walker) begin(ctx context.Context, end bool) (err error) {
	if w.epochs, err = readEpochs(w.view.Query(ctx, selectEpochs)); err != nil {
		return err
	}
	if w.next == 1 || end {
		if err := w.strays(ctx, w.next == 1, end); err != nil {
			return err
		}
	}
	if cut, err := w.afterCut(ctx); cut || err != nil {
		return err
	}
	if w.next > 1 {
		before, err := w.query(ctx, selectRange, w.next-1, w.next-1)
		if err == nil && len(before) > 0 {
			w.prev = before[0].Hash
		}
		return err
	}
	w.prev = genesis()
	return nil
}

// strays names rows that no walk comes to, before the first and behind the last that
// there may be.
func (w *walker) strays(ctx context.Context, begin, end bool) error {
	found, err := w.query(ctx, selectStrays, maxID)
	for i := range found {
		r := &found[i]
		if begin && r.ID < 1 || end && r.ID > maxID {
			w.fail(r.ID, 0, "inserted", "row %d has an id that is never given", r.ID)
		}
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
			w.next, w.prev = first[0].ID, first[0].PrevHash
			return true, nil
		}
	}
	return false, nil
}

// read checks the rows up to last, of those that end at to.
func (w *walker) read(ctx context.Context, last, to int64) error {
	from := w.next
	rows, err := w.query(ctx, selectRange, from, last)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		if rows, err = w.query(ctx, selectNext, last); err != nil {
			return err
		}
	}
	if len(rows) == 0 { // somebody takes rows away while they are read
		if cut, err := w.afterCut(ctx); cut || err != nil {
			return err
		}
		w.missing(to + 1)
		return nil
	}
	if err := w.page(ctx, rows); err != nil || w.chainOnly {
		return err
	}
	return w.misled(ctx, from, last)
}

// misled looks for rows that their request's id would not find.
func (w *walker) misled(ctx context.Context, from, last int64) error {
	rows, err := w.view.Query(ctx, selectMisled, from, last)
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
		if hash != requestHash(request) && !w.breaks.has(id) {
			w.fail(id, 0, "altered", "row %d does not have the hash of its request's id", id)
		}
	}
	return rows.Err()
}

func (w *walker) query(ctx context.Context, sql string, args ...any) ([]Row, error) {
	rows, err := w.view.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return readRows(rows)
}

// fail notes a break, up to last where that is another row.
func (w *walker) fail(id, last int64, kind, format string, args ...any) {
	w.breaks.add(Broken{ID: id, LastID: lastOf(id, last), Kind: kind, Detail: fmt.Sprintf(format, args...)})
}

// missing notes that rows before upTo are not there, and goes on with that one.
func (w *walker) missing(upTo int64) {
	w.fail(w.next, upTo-1, "missing", "%s missing", span(w.next, upTo-1, "is", "are"))
	w.next, w.prev = upTo, nil
}

// page checks rows that come one after the other, those with one id together.
func (w *walker) page(ctx context.Context, rows []Row) error {
	for n := 0; len(rows) > 0; rows = rows[n:] {
		for n = 1; n < len(rows) && rows[n].ID == rows[0].ID; n++ {
		}
		if rows[0].ID > w.next && w.view != nil { // archived while they were read?
			if _, err := w.afterCut(ctx); err != nil {
				return err
			}
		}
		if rows[0].ID < w.next {
			continue
		}
		if rows[0].ID > w.next {
			w.missing(rows[0].ID)
		}
		w.one(rows[:n])
	}
	return nil
}

// one checks the row of an id, of which there should be no other.
func (w *walker) one(same []Row) {
	r, whole := w.best(same)
	w.epochs.note(r)
	switch {
	case len(same) > 1:
		w.fail(r.ID, 0, "inserted", "row %d is there %d times", r.ID, len(same))
	case !whole:
		w.breaks.addAltered(r)
	case w.prev != nil && !bytes.Equal(r.PrevHash, w.prev):
		w.fail(r.ID, 0, "reordered", "row %d does not follow the row before it", r.ID)
	default:
		w.compare(r)
	}
	if w.checked == 0 {
		w.first = r.ID
	}
	w.last, w.prev, w.next = r.ID, r.Hash, r.ID+1
	if !whole {
		w.prev = nil
	}
	w.checked++
}

// best returns the row to go on with, and whether it has the hash of its content.
func (w *walker) best(same []Row) (best *Row, whole bool) {
	for i := range same {
		r := &same[i]
		if r.holed || !bytes.Equal(r.hash(), r.Hash) {
			continue
		}
		if best, whole = r, true; w.prev == nil || bytes.Equal(r.PrevHash, w.prev) {
			return best, true
		}
	}
	if best == nil {
		best = &same[0]
	}
	return best, whole
}

// compare looks whether the row is what was signed.
func (w *walker) compare(r *Row) {
	for _, c := range w.signed[r.ID] {
		w.compared++
		epoch, known := w.epochs.exact(r.ID)
		switch {
		case c.Epoch != 0 && known && c.Epoch != epoch:
			w.fail(r.ID, 0, "checkpoint", "row %d is in epoch %d, and its checkpoint was signed in epoch %d", r.ID, epoch, c.Epoch)
		case c.Hash != hex.EncodeToString(r.Hash):
			w.fail(r.ID, 0, "checkpoint", "row %d does not have the hash that was signed", r.ID)
		default:
			continue
		}
		return
	}
}
