package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/waittest"
)

// recorded is a closed register of n rows whose file each case gets a copy of.
func recorded(t *testing.T, n int) (r *register, sealed []audit.Row) {
	t.Helper()
	r = begin(t)
	for len(sealed) < n {
		sealed = append(sealed, r.stage(rows(min(n-len(sealed), 2000))...)...)
	}
	r.close()
	return r, sealed
}

// altered opens a copy of the register after the statements have changed it.
func (r *register) altered(t *testing.T, statements ...string) *register {
	t.Helper()
	c := &register{TB: t, dir: t.TempDir(), signer: r.signer}
	text, err := os.ReadFile(r.path())
	must(t, err)
	must(t, os.WriteFile(c.path(), text, 0o600))
	c.sql(statements...)
	must(t, c.open())
	return c
}

// put is the statement that replaces a row, id and hashes as the row has them.
func put(r audit.Row) string {
	var values []string
	for _, v := range r.Values() {
		switch v := v.(type) {
		case []byte:
			values = append(values, fmt.Sprintf("from_hex('%x')", v))
		case string:
			values = append(values, "'"+strings.ReplaceAll(v, "'", "''")+"'")
		case interface{ UnixMicro() int64 }:
			values = append(values, fmt.Sprintf("make_timestamptz(%d)", v.UnixMicro()))
		default:
			values = append(values, fmt.Sprint(v))
		}
	}
	return "INSERT INTO operations_log VALUES (" + strings.Join(values, ", ") + ")"
}

func remove(id int64) string { return fmt.Sprintf("DELETE FROM operations_log WHERE id = %d", id) }

// rehashed returns the row with the hash of its content.
func rehashed(r audit.Row) audit.Row {
	r.Hash = audit.HashOf(r)
	return r
}

// linked returns the rows chained anew behind prev, as one who forges all of them
// would do it.
func linked(prev []byte, rows []audit.Row) (all []audit.Row) {
	for _, r := range rows {
		r.PrevHash = prev
		r = rehashed(r)
		all, prev = append(all, r), r.Hash
	}
	return all
}

func TestVerifyNamesWhatWasDoneAndWhere(t *testing.T) {
	r, sealed := recorded(t, 30)
	signed := func(ids ...int64) (all []audit.Checkpoint) {
		for _, id := range ids {
			row := sealed[id-1]
			all = append(all, r.signer.Sign(audit.Head{ID: row.ID, Hash: row.Hash, Time: row.Time}))
		}
		return all
	}
	moved := func(from, to int64) audit.Row {
		row := sealed[from-1]
		row.ID = to
		return rehashed(row)
	}
	forged := sealed[9]
	forged.Details = `{"n": 0}`
	appended := sealed[29]
	appended.ID, appended.PrevHash = 31, sealed[29].Hash
	tail := func(from int64) (all []string) {
		changed := append([]audit.Row(nil), sealed[from-1:]...)
		changed[0].ActorID = "somebody else"
		for _, row := range linked(sealed[from-2].Hash, changed) {
			all = append(all, remove(row.ID), put(row))
		}
		return all
	}
	for _, c := range []struct {
		name        string
		statements  []string
		checkpoints []audit.Checkpoint
		breaks      string // every one; "" holds
	}{
		{name: "nothing", checkpoints: signed(1, 15, 30)},
		{"details altered", []string{`UPDATE operations_log SET details = '{}' WHERE id = 10`}, nil, "altered 10"},
		{"first row altered", []string{`UPDATE operations_log SET status = 'denied' WHERE id = 1`}, nil, "altered 1"},
		{"last row altered", []string{`UPDATE operations_log SET actor_id = 'x' WHERE id = 30`}, nil, "altered 30"},
		{"time altered by a microsecond", []string{`UPDATE operations_log SET timestamp = timestamp + INTERVAL 1 MICROSECOND WHERE id = 7`}, nil, "altered 7"},
		{"hash altered", []string{`UPDATE operations_log SET hash = prev_hash WHERE id = 9`}, nil, "altered 9"},
		{"link altered", []string{`UPDATE operations_log SET prev_hash = hash WHERE id = 9`}, nil, "altered 9"},
		{"two altered", []string{`UPDATE operations_log SET details = '' WHERE id IN (20, 12)`}, nil, "altered 12, altered 20"},
		{"all altered", []string{`UPDATE operations_log SET actor_name = 'nobody' WHERE id < 4`}, nil, "altered 1, altered 2, altered 3"},
		{"altered and hashed anew", []string{remove(10), put(rehashed(forged))}, nil, "reordered 11"},
		{"altered and hashed anew under a checkpoint", []string{remove(10), put(rehashed(forged))}, signed(10), "checkpoint 10, reordered 11"},
		{"one missing", []string{remove(5)}, nil, "missing 5"},
		{"several missing", []string{remove(5), remove(6), remove(8)}, nil, "missing 5-6, missing 8"},
		{"the first missing", []string{remove(1), remove(2)}, nil, "missing 1-2"},
		{"renumbered over a gap", []string{remove(5), `UPDATE operations_log SET id = id - 1 WHERE id > 5`}, nil, "missing 5, reordered 5-29"},
		{"renumbered over a wide gap", []string{remove(5), remove(6), remove(7), `UPDATE operations_log SET id = id - 3 WHERE id > 7`}, nil, "missing 5-7, reordered 5-27"},
		{"a row there twice", []string{put(sealed[3])}, nil, "inserted 4"},
		{"another with the id of one", []string{put(moved(9, 4))}, nil, "inserted 4"},
		{"the last there twice", []string{put(sealed[29])}, nil, "inserted 30"},
		{"one before the first", []string{put(moved(4, 0))}, nil, "inserted 0"},
		{"one far before the first", []string{put(moved(4, -7))}, nil, "inserted -7"},
		{"one as far behind as numbers go", []string{put(moved(4, 1<<63-1)), put(moved(5, 1<<63-2)), put(moved(6, -1<<63))}, signed(30), "inserted -9223372036854775808, inserted 9223372036854775806, inserted 9223372036854775807"},
		{"one behind the last that there may be", []string{put(moved(4, 1<<53))}, nil, "inserted 9007199254740992"},
		{"one put between, with all behind it moved on", []string{`UPDATE operations_log SET id = id + 1 WHERE id > 9`, put(moved(3, 10))}, nil, "inserted 10, reordered 11-31"},
		{"one put between without a hash of its own", []string{`UPDATE operations_log SET id = id + 1 WHERE id > 9`, put(func() audit.Row { r := sealed[2]; r.ID, r.Details = 10, "x"; return r }())}, nil, "inserted 10, reordered 11-31"},
		{"one appended without a chain", []string{put(moved(9, 31))}, nil, "reordered 31"},
		{"one appended far behind", []string{put(moved(9, 40))}, nil, "missing 31-39"},
		{"one moved far behind", []string{`UPDATE operations_log SET id = 45 WHERE id = 6`}, nil, "missing 6, missing 31-44, reordered 45"},
		{"two exchanged", []string{`UPDATE operations_log SET id = 99 WHERE id = 6`, `UPDATE operations_log SET id = 6 WHERE id = 7`, `UPDATE operations_log SET id = 7 WHERE id = 99`}, nil, "reordered 6, reordered 7"},
		{"two exchanged that are far apart", []string{`UPDATE operations_log SET id = 30 - id WHERE id IN (3, 27)`}, nil, "reordered 3, reordered 27"},
		{"two exchanged and hashed anew", []string{remove(6), remove(7), put(moved(7, 6)), put(moved(6, 7))}, nil, "reordered 6, reordered 7, reordered 8"},
		{"changed, deleted, inserted and exchanged", []string{
			`UPDATE operations_log SET details = '' WHERE id = 3`, remove(8), put(moved(2, 12)), `UPDATE operations_log SET id = 41 - id WHERE id IN (20, 21)`,
		}, nil, "altered 3, missing 8, inserted 12, reordered 20, reordered 21"},
		{"cut", []string{remove(29), remove(30)}, signed(10, 30, 20), "truncated 29-30"},
		{"cut, and nobody signed what is gone", []string{remove(29), remove(30)}, signed(28), ""},
		{"emptied", []string{`DELETE FROM operations_log`}, signed(30), "truncated 1-30"},
		{"cut and altered", []string{remove(30), `UPDATE operations_log SET details = '' WHERE id = 12`}, signed(30), "altered 12, truncated 30"},
		{"the tail forged whole", tail(21), signed(10, 20, 25, 30), "checkpoint 25, checkpoint 30"},
		{"the tail forged whole, and nobody signed it", tail(21), signed(20), ""},
		{"one appended with a chain", []string{put(rehashed(appended))}, signed(30), ""},
		{"another hash signed too", nil, append(signed(8, 9), r.signer.Sign(audit.Head{ID: 8, Hash: sealed[9].Hash})), "checkpoint 8"},
		{"signed in another epoch", nil, []audit.Checkpoint{r.signer.Sign(audit.Head{ID: 8, Hash: sealed[7].Hash, Epoch: 5})}, "checkpoint 8"},
		{"emptied, and nobody signed", []string{`DELETE FROM operations_log`}, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := r.altered(t, c.statements...).verify(c.checkpoints...)
			wantBreaks(t, v, c.breaks)
			if strings.HasPrefix(c.breaks, "altered") && !strings.Contains(c.breaks, "truncated") && !strings.Contains(c.breaks, "missing") && (v.Checked != 30 || v.FirstID != 1 || v.LastID != 30) {
				t.Errorf("checked %d, %d to %d", v.Checked, v.FirstID, v.LastID)
			}
		})
	}
}

// Somebody who can change the table can also have it take what it was made to refuse.
func TestNullsAreNamedAndKeepNobodyFromReading(t *testing.T) {
	r, _ := recorded(t, 30)
	columns := audit.ColumnNames()
	var statements, want []string
	for i, name := range columns[1:] {
		statements = append(statements, "ALTER TABLE operations_log ALTER "+name+" DROP NOT NULL", fmt.Sprintf("UPDATE operations_log SET %s = NULL WHERE id = %d", name, i+2))
		want = append(want, fmt.Sprintf("altered %d", i+2))
	}
	statements = append(statements, "ALTER TABLE operations_log ALTER id DROP NOT NULL", "UPDATE operations_log SET id = NULL WHERE id = 28")
	c := r.altered(t, statements...)
	wantBreaks(t, c.verify(), "inserted 0, "+strings.Join(append(want, "missing 28"), ", "))
	all, err := c.log.List(t.Context(), c.store.View(), audit.Filter{Limit: 100})
	if must(t, err); len(all) != 29 {
		t.Errorf("%d rows are listed", len(all))
	}
	walked := 0
	_, err = c.log.Walk(t.Context(), c.store.View(), audit.Filter{AllRows: true}, func(page []audit.Row) error { walked += len(page); return nil })
	if must(t, err); walked != 29 {
		t.Errorf("%d rows are walked", walked)
	}
	for id := range columns[1:] {
		_, err := c.log.Get(t.Context(), c.store.View(), int64(id+2))
		must(t, err)
	}
	if _, ok, err := c.log.Oldest(t.Context(), c.store.View()); err != nil || !ok {
		t.Errorf("the oldest row has a time: %v, %v", ok, err)
	}
	if sealed := c.stage(row(1)); sealed[0].ID != 31 {
		t.Errorf("the next row is %d", sealed[0].ID)
	}
}

// A row that was put there with a large id is named, and nobody counts up to it.
func TestRowFarBehindStopsNobody(t *testing.T) {
	r, sealed := recorded(t, 3)
	for _, c := range []struct{ id, next int64 }{{1<<63 - 1, 4}, {1<<63 - 2, 4}, {1 << 53, 4}, {1 << 52, 1<<52 + 1}} {
		row := sealed[1]
		row.ID = c.id
		c, next := r.altered(t, put(row)), c.next
		if got := c.stage(audit.Row{Operation: "after", Status: eider.StatusSuccess}); got[0].ID != next {
			t.Errorf("behind row %d the next is %d", row.ID, got[0].ID)
		}
		if v := c.verify(); v.Verified {
			t.Errorf("row %d is not named", row.ID)
		}
		found, err := c.log.List(t.Context(), c.store.View(), audit.Filter{Limit: 1})
		if must(t, err); len(found) != 1 || found[0].ID != next {
			t.Errorf("beside row %d the newest is %+v", row.ID, found)
		}
		last := int64(0)
		_, err = c.log.Walk(t.Context(), c.store.View(), audit.Filter{AllRows: true}, func(page []audit.Row) error { last = page[len(page)-1].ID; return nil })
		if must(t, err); last != next {
			t.Errorf("beside row %d a walk ends at %d", row.ID, last)
		}
		s := &sink{}
		_, stop := c.follow(map[string]*sink{"f": s})
		waittest.Until(t, "a follower comes to the end", func() bool { return c.cursor("f") == next })
		stop()
	}
	// The last that there may be is no reason to begin anew with others.
	full := sealed[1]
	full.ID = 1<<53 - 1
	if _, err := r.altered(t, put(full)).try(row(1)); err == nil {
		t.Error("a row was written behind the last")
	}
}

// wantBreaks compares what a walk found with its kinds and rows.
func wantBreaks(t *testing.T, v audit.Verification, want string) {
	t.Helper()
	var all []string
	for _, b := range v.Breaks {
		text := fmt.Sprintf("%s %d", b.Kind, b.ID)
		if b.LastID != 0 {
			text += fmt.Sprintf("-%d", b.LastID)
		}
		if all = append(all, text); b.Detail == "" {
			t.Errorf("%s has no detail", text)
		}
	}
	if got := strings.Join(all, ", "); got != want {
		t.Errorf("broken are\n%s, want\n%s\n%+v", got, want, v.Breaks)
	}
	if v.Verified != (want == "") || v.Verified != (v.BrokenAt == nil) || v.BrokenAt != nil && *v.BrokenAt != v.Breaks[0] {
		t.Errorf("verified %v, broken at %+v", v.Verified, v.BrokenAt)
	}
}

// Of very many breaks some are named and the others counted.
func TestVerifyBoundsWhatItNames(t *testing.T) {
	r, _ := recorded(t, 300)
	v := r.altered(t, `UPDATE operations_log SET details = 'x' WHERE id > 20`).verify()
	if v.Verified || len(v.Breaks) != 100 || v.BreaksOmitted != 180 || v.Breaks[99].ID != 120 || v.Checked != 300 {
		t.Errorf("%d breaks and %d omitted, %d checked", len(v.Breaks), v.BreaksOmitted, v.Checked)
	}
	v = r.altered(t, remove(9), `UPDATE operations_log SET id = id - 1 WHERE id > 9`).verify()
	if len(v.Breaks) != 2 || v.BrokenAt.Kind != "missing" || v.BrokenAt.ID != 9 || v.Breaks[1].LastID != 108 || v.BreaksOmitted != 191 {
		t.Errorf("%+v, %d omitted", v.Breaks, v.BreaksOmitted)
	}
}

func TestVerifyWalksARange(t *testing.T) {
	r, sealed := recorded(t, 20)
	broken := r.altered(t, `UPDATE operations_log SET details = '' WHERE id = 10`)
	forged := sealed[9]
	forged.ActorID = "somebody else"
	relinked := r.altered(t, remove(10), put(rehashed(forged)))
	future := []audit.Checkpoint{r.signer.Sign(audit.Head{ID: 25, Hash: sealed[0].Hash})}
	for _, c := range []struct {
		r           *register
		from, to    int64
		checkpoints []audit.Checkpoint
		first, last int64
		kind        string
		id          int64
	}{
		{broken, 1, 9, nil, 1, 9, "", 0},
		{broken, 0, 9, nil, 1, 9, "", 0},
		{broken, 12, 0, nil, 12, 20, "", 0},
		{broken, 11, 15, nil, 11, 15, "", 0},
		{broken, 5, 15, nil, 5, 15, "altered", 10},
		{broken, 10, 10, nil, 10, 10, "altered", 10},
		{relinked, 1, 10, nil, 1, 10, "", 0},
		{relinked, 11, 12, nil, 11, 12, "reordered", 11}, // it follows no longer
		{relinked, 12, 0, nil, 12, 20, "", 0},
		{broken, 12, 500, nil, 12, 20, "", 0},
		{broken, 30, 40, nil, 0, 0, "", 0},
		{broken, 15, 12, nil, 0, 0, "", 0},
		{broken, 12, 0, future, 12, 20, "truncated", 21},
		{broken, 12, 24, future, 12, 20, "truncated", 21},
		{broken, 12, 20, future, 12, 20, "", 0}, // the end was not asked for
		{broken, -5, 9, nil, 1, 9, "", 0},
	} {
		v, err := audit.Verify(t.Context(), c.r.store.View(), c.from, c.to, c.checkpoints)
		must(t, err)
		name := fmt.Sprintf("rows %d to %d", c.from, c.to)
		if v.FirstID != c.first || v.LastID != c.last || v.Verified != (c.kind == "") {
			t.Errorf("%s: %+v %+v", name, v, v.BrokenAt)
		}
		if c.kind != "" && (v.BrokenAt == nil || v.BrokenAt.Kind != c.kind || v.BrokenAt.ID != c.id) {
			t.Errorf("%s: broken at %+v, want %s at %d", name, v.BrokenAt, c.kind, c.id)
		}
	}
}

// TestVerifySeesWhatLiesWherePagesMeet has more rows than a page, and the break
// at the last row of the first page or the first of the second.
func TestVerifySeesWhatLiesWherePagesMeet(t *testing.T) {
	const page = int64(audit.VerifyPage)
	r, sealed := recorded(t, 2*audit.VerifyPage+50)
	for _, c := range []struct {
		name      string
		statement string
		kind      string
		id        int64
	}{
		{"whole", `SELECT 1`, "", 0},
		{"last of a page twice", put(sealed[page-1]), "inserted", page},
		{"first of a page twice", put(sealed[page]), "inserted", page + 1},
		{"last of a page gone", remove(page), "missing", page},
		{"first of a page gone", remove(page + 1), "missing", page + 1},
		{"a whole page gone", fmt.Sprintf(`DELETE FROM operations_log WHERE id > %d AND id <= %d`, page, 2*page), "missing", page + 1},
		{"more than a page gone", fmt.Sprintf(`DELETE FROM operations_log WHERE id > %d AND id <= %d`, page-5, 2*page+5), "missing", page - 4},
		{"first of a page altered", fmt.Sprintf(`UPDATE operations_log SET details = '' WHERE id = %d`, page+1), "altered", page + 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := r.altered(t, c.statement).verify()
			if v.Verified != (c.kind == "") || c.kind != "" && (v.BrokenAt.Kind != c.kind || v.BrokenAt.ID != c.id) {
				t.Errorf("%+v %+v, want %s at %d", v, v.BrokenAt, c.kind, c.id)
			}
			if c.kind != "" && len(v.Breaks) != 1 {
				t.Errorf("%+v", v.Breaks)
			}
			if strings.Contains(c.name, "page gone") && !strings.HasPrefix(v.BrokenAt.Detail, fmt.Sprintf("row%s %d", map[bool]string{true: "s"}[v.BrokenAt.LastID != 0], c.id)) {
				t.Error(v.BrokenAt.Detail)
			}
		})
	}
}

func TestVerifyNamesTheCheckpointThatWasAltered(t *testing.T) {
	r := begin(t)
	for n := range 3 {
		r.stage(row(n))
		r.keep()
	}
	path := filepath.Join(r.kept, audit.HistoryFile)
	text, err := os.ReadFile(path)
	must(t, err)
	kept := func() []audit.Checkpoint {
		all, err := audit.Checkpoints(r.kept, r.signer)
		must(t, err)
		return all
	}
	if v := r.verify(kept()...); !v.Verified || len(kept()) != 4 {
		t.Fatalf("as it was kept: %+v of %d checkpoints", v.BrokenAt, len(kept()))
	}
	hash := fmt.Appendf(nil, "%x", r.log.Head().Hash)
	second := bytes.SplitAfter(text, []byte("\n"))[1]
	at := bytes.Index(second, []byte(`"hash":"`)) + len(`"hash":"`)
	altered := bytes.Clone(second)
	copy(altered[at:], hash)
	must(t, os.WriteFile(path, bytes.Replace(text, second, altered, 1), 0o600))
	if v := r.verify(kept()...); v.Verified || v.BrokenAt.Kind != "checkpoint" || v.BrokenAt.ID != 2 {
		t.Errorf("with an altered checkpoint: %+v", v.BrokenAt)
	}
}

// TestVerifyHoldsWhileTheLogGrows walks again and again beside a writer.
func TestVerifyHoldsWhileTheLogGrows(t *testing.T) {
	r := begin(t)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := r.try(row(n), row(n+1), row(n+2)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for range 50 {
		if v := r.verify(); !v.Verified {
			t.Errorf("%+v", v.BrokenAt)
		}
	}
	close(stop)
	<-stopped
	r.wantVerified(r.log.Head().ID)
}

// TestAToolReadsTheHeadWithoutAStore is what a repair does.
func TestAToolReadsTheHeadWithoutAStore(t *testing.T) {
	r, sealed := recorded(t, 3)
	db, err := duck.Open(context.Background(), r.path(), duck.Options{ReadOnly: true})
	must(t, err)
	defer db.Close()
	head, err := audit.ReadHead(t.Context(), db.Query)
	must(t, err)
	if head.ID != 3 || !bytes.Equal(head.Hash, sealed[2].Hash) || !head.Time.Equal(sealed[2].Time) {
		t.Errorf("the head is %+v", head)
	}
}

// A time that no calendar has, and a NUL, are named and keep nobody from reading.
func TestTimesAndTextsThatNoRowHasKeepNobodyFromReading(t *testing.T) {
	r, _ := recorded(t, 8)
	c := r.altered(t, `UPDATE operations_log SET timestamp = 'infinity' WHERE id = 2`, `UPDATE operations_log SET timestamp = '-infinity' WHERE id = 3`,
		`UPDATE operations_log SET timestamp = '20000-01-01' WHERE id = 4`, `UPDATE operations_log SET timestamp = '0044-03-15 (BC)' WHERE id = 5`,
		`UPDATE operations_log SET actor_name = 'a' || chr(0) || 'b' WHERE id = 6`, `UPDATE operations_log SET timestamp = 'infinity' WHERE id = 8`)
	wantBreaks(t, c.verify(), "altered 2, altered 3, altered 4, altered 5, altered 6, altered 8")
	all, err := c.log.List(t.Context(), c.store.View(), audit.Filter{Limit: 100})
	if must(t, err); len(all) != 8 {
		t.Errorf("%d rows are listed", len(all))
	}
	for i := range all {
		_, err := json.Marshal(all[i].API())
		must(t, err)
		_, err = json.Marshal([]any{all[i].CloudEvent(0), all[i].OCSF(0), all[i].Evidence()})
		must(t, err)
	}
	path := filepath.Join(t.TempDir(), "o.parquet")
	file, err := audit.NewParquet(t.Context(), path)
	must(t, err)
	_, err = c.log.Walk(t.Context(), c.store.View(), audit.Filter{AllRows: true}, func(page []audit.Row) error { return file.Add(page) })
	must(t, errors.Join(err, file.Write(), file.Close()))
	read := 0
	must(t, audit.ReadParquet(t.Context(), path, 1, 100, func(page []audit.Row) error { read += len(page); return nil }))
	if read != 8 {
		t.Errorf("%d rows are exported", read)
	}
	if sealed := c.stage(row(1)); sealed[0].ID != 9 || sealed[0].Time.Year() > 9999 {
		t.Errorf("the next row is %d at %s", sealed[0].ID, sealed[0].Time)
	}
}

// A column of another type is named, and nothing is written behind rows that nobody
// can read.
func TestColumnOfAnotherTypeIsNamed(t *testing.T) {
	r, _ := recorded(t, 3)
	for name, kind := range map[string]string{
		"duration_us": "VARCHAR", "timestamp": "TIMESTAMP", "details": "JSON", "refusals": "INTEGER", "hash": "VARCHAR", "id": "VARCHAR",
	} {
		c := &register{TB: t, dir: t.TempDir(), signer: r.signer}
		text, err := os.ReadFile(r.path())
		must(t, err)
		must(t, os.WriteFile(c.path(), text, 0o600))
		c.sql(fmt.Sprintf("ALTER TABLE operations_log ALTER %s TYPE %s", name, kind))
		if err := c.open(); !errors.Is(err, audit.ErrUnchained) || !strings.Contains(err.Error(), "the column "+name) {
			t.Errorf("%s %s: it opens with %v", name, kind, err)
		}
		db, err := duck.Open(t.Context(), c.path(), duck.Options{ReadOnly: true})
		must(t, err)
		view := metadata.NewView(reading{db: db})
		for _, archived := range []bool{false, true} {
			v, err := audit.Verify(t.Context(), view, 0, 0, nil)
			if archived {
				v, err = audit.VerifyArchive(t.Context(), view, t.TempDir(), r.signer, nil)
			}
			if must(t, err); v.Verified || v.BrokenAt == nil || v.BrokenAt.Kind != "altered" || !strings.Contains(v.BrokenAt.Detail, name) {
				t.Errorf("%s %s: it tells %+v", name, kind, v)
			}
		}
		must(t, db.Close())
	}
}

// reading is a database that only answers.
type reading struct {
	metadata.Engine
	db *duck.DB
}

func (r reading) Query(ctx context.Context, sql string, args ...any) (metadata.Rows, error) {
	return r.db.Query(ctx, sql, args...)
}
