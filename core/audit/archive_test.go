package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/metadata"
)

var updateGolden = flag.Bool("update-order", false, "write the order of steps anew")

// archive does what archive_log does, with no more than most rows. It returns how
// many rows are gone.
func (r *register) archive(dir string, before time.Time, most int64) int64 {
	r.Helper()
	first, last, err := r.log.Archivable(context.Background(), r.store.View(), before, r.log.Head().ID, most)
	must(r, err)
	if last < first || first == 0 {
		return 0
	}
	must(r, r.log.MayCut(last))
	name, err := audit.FreeName(dir, r.log.EpochAt(last), first, last)
	must(r, err)
	m, err := audit.WriteArchive(context.Background(), r.store.View(), &disk.FS{}, r.signer, dir, name, first, last)
	must(r, err)
	details, err := json.Marshal(m.Archived)
	must(r, err)
	_, err = r.store.Write(context.Background(), func(tx *metadata.Tx) error {
		audit.Cut(tx, last)
		tx.Stage(&audit.Row{Operation: audit.ArchiveOperation, Status: eider.StatusSuccess, Details: string(details), Count: 1})
		return nil
	})
	must(r, err)
	return last
}

// yearOfLog has ten rows of each of four months.
func yearOfLog(t *testing.T) *register {
	t.Helper()
	r := begin(t)
	for month := time.January; month <= time.April; month++ {
		r.log.SetClock(func() time.Time { return time.Date(2026, month, 10, 0, 0, 0, 0, time.UTC) })
		r.stage(rows(10)...)
	}
	return r
}

func march(day int) time.Time { return time.Date(2026, time.March, day, 0, 0, 0, 0, time.UTC) }

func (r *register) verifyArchive(dir string) audit.Verification {
	r.Helper()
	v, err := audit.VerifyArchive(context.Background(), r.store.View(), dir, r.signer, nil)
	must(r, err)
	return v
}

func TestClosedMonthsAreArchivedAndTheChainHolds(t *testing.T) {
	r, dir := yearOfLog(t), t.TempDir()
	for _, want := range []int64{7, 10, 17, 20, 0} { // January, then February; March is not over
		if last := r.archive(dir, march(1), 7); last != want {
			t.Errorf("rows to %d are archived, want %d", last, want)
		}
	}
	for range 2 { // also for a log that is opened again
		v := r.verify()
		if !v.Verified || v.FirstID != 21 || v.LastID != 44 || v.Checked != 24 {
			t.Errorf("the log alone: %+v %+v", v, v.BrokenAt)
		}
		if v := r.verifyArchive(dir); !v.Verified || v.FirstID != 1 || v.LastID != 44 || v.Checked != 44 {
			t.Errorf("with the archives: %+v %+v", v, v.BrokenAt)
		}
		r.reopen()
	}
	page, err := r.log.List(t.Context(), r.store.View(), audit.Filter{Limit: 100})
	must(t, err)
	if len(page) != 24 {
		t.Errorf("%d rows are listed", len(page))
	}
	if first, last, err := r.log.Archivable(t.Context(), r.store.View(), march(400), 25, 100); err != nil || first != 21 || last != 25 {
		t.Errorf("of what a follower has not seen, rows %d to %d go: %v", first, last, err)
	}
}

func TestUnfinishedCallIsNeverArchived(t *testing.T) {
	r, dir := begin(t), t.TempDir()
	r.log.SetClock(func() time.Time { return march(1) })
	r.stage(rows(5)...)
	r.stage(audit.Row{CallID: "long", Status: eider.StatusInProgress}) // 6
	r.stage(rows(5)...)
	if last := r.archive(dir, march(100), 100); last != 5 {
		t.Errorf("rows to %d are archived", last)
	}
	if last := r.archive(dir, march(100), 100); last != 0 {
		t.Errorf("the intent was archived: %d", last)
	}
	if err := r.log.MayCut(6); err == nil {
		t.Error("the intent may be cut")
	}
}

// forge writes an archive anew with a change.
func forge(t *testing.T, path, change string) {
	t.Helper()
	db, err := duck.Open(t.Context(), "", duck.Options{})
	must(t, err)
	conn, err := db.Conn(t.Context())
	must(t, err)
	must(t, conn.Exec(t.Context(), fmt.Sprintf("CREATE TABLE rows AS SELECT * FROM read_parquet('%s')", path)))
	must(t, conn.Exec(t.Context(), change))
	must(t, conn.Exec(t.Context(), fmt.Sprintf("COPY (SELECT * FROM rows ORDER BY id) TO '%s' (FORMAT parquet)", path)))
	must(t, conn.Close())
	must(t, db.Close())
}

// folder puts one in the place of a file.
func folder(t *testing.T, path string) {
	t.Helper()
	must(t, os.Remove(path))
	must(t, os.Mkdir(path, 0o700))
}

// inManifest changes the manifest of an archive.
func inManifest(t *testing.T, archive, old, changed string) {
	t.Helper()
	text, err := os.ReadFile(archive + ".json")
	must(t, err)
	forged := regexp.MustCompile(old).ReplaceAll(text, []byte(changed))
	if string(forged) == string(text) {
		t.Fatalf("there is no %s in %s", old, text)
	}
	must(t, os.WriteFile(archive+".json", forged, 0o600))
}

// signer returns one with a key of its own.
func signer(t *testing.T) *audit.Signer {
	t.Helper()
	s, err := audit.LoadSigner(filepath.Join(t.TempDir(), "signing.key"), true)
	must(t, err)
	return s
}

func TestVerifyNamesWhatWasDoneToAnArchive(t *testing.T) {
	r, dir := yearOfLog(t), t.TempDir()
	for r.archive(dir, march(1), 100) > 0 {
	}
	must(t, os.WriteFile(filepath.Join(dir, "operations-x.parquet.json"), []byte("{"), 0o600)) // none of ours
	january, february := filepath.Join(dir, audit.ArchiveName(0, 1, 10)), filepath.Join(dir, audit.ArchiveName(0, 11, 20))
	for _, c := range []struct {
		name   string
		change func(t *testing.T)
		id     int64
		kind   string
	}{
		{"an altered row", func(t *testing.T) { forge(t, february, "UPDATE rows SET actor_name = 'x' WHERE id = 13") }, 13, "altered"},
		{"a deleted row", func(t *testing.T) { forge(t, february, "DELETE FROM rows WHERE id = 13") }, 13, "missing"},
		{"a deleted last row", func(t *testing.T) { forge(t, february, "DELETE FROM rows WHERE id = 20") }, 20, "missing"},
		{"a double row", func(t *testing.T) { forge(t, january, "INSERT INTO rows SELECT * FROM rows WHERE id = 4") }, 4, "inserted"},
		{"swapped rows", func(t *testing.T) { forge(t, january, "UPDATE rows SET id = 9 - id WHERE id IN (4, 5)") }, 4, "reordered"},
		{"written anew", func(t *testing.T) { forge(t, february, "UPDATE rows SET id = id") }, 11, "altered"},
		{"no file", func(t *testing.T) { must(t, os.Remove(february)) }, 11, "missing"},
		{"no first archive", func(t *testing.T) { must(t, os.Remove(january+".json")) }, 1, "missing"},
		{"no last archive", func(t *testing.T) { must(t, os.Remove(february+".json")) }, 11, "missing"},
		{"garbage", func(t *testing.T) { must(t, os.WriteFile(february, []byte("garbage"), 0o600)) }, 11, "altered"},
		{"a garbled manifest", func(t *testing.T) { must(t, os.WriteFile(february+".json", []byte("{"), 0o600)) }, 11, "altered"},
		{"a manifest that says more", func(t *testing.T) {
			text, err := os.ReadFile(february + ".json")
			must(t, err)
			must(t, os.WriteFile(february+".json", []byte(strings.Replace(string(text), `"last": 20`, `"last": 9223372036854775807`, 1)), 0o600))
		}, 11, "altered"},
		{"another signature", func(t *testing.T) {
			text, err := os.ReadFile(february + ".json")
			must(t, err)
			must(t, os.WriteFile(february+".json", []byte(strings.Replace(string(text), `"signature": "`, `"signature": "00`, 1)), 0o600))
		}, 20, "checkpoint"},
		{"a folder for a manifest", func(t *testing.T) { folder(t, february+".json") }, 11, "altered"},
		{"a folder for an archive", func(t *testing.T) { folder(t, january) }, 1, "altered"},
		{"another prev_hash", func(t *testing.T) { inManifest(t, february, `"prev_hash": "..`, `"prev_hash": "zz`) }, 11, "altered"},
		{"another first_time", func(t *testing.T) { inManifest(t, february, `"first_time": "2026`, `"first_time": "2025`) }, 11, "altered"},
		{"another last_time", func(t *testing.T) { inManifest(t, february, `"last_time": "2026`, `"last_time": "2025`) }, 11, "altered"},
		{"another length", func(t *testing.T) { inManifest(t, january, `"bytes": `, `"bytes": 1`) }, 1, "altered"},
		{"another epoch", func(t *testing.T) { inManifest(t, january, `"checkpoint"`, `"epoch": 5, "checkpoint"`) }, 1, "altered"},
		{"an archive beside its whole copy", func(t *testing.T) {
			copied := strings.TrimSuffix(february, ".parquet") + "-2.parquet"
			for from, to := range map[string]string{february: copied, february + ".json": copied + ".json"} {
				text, err := os.ReadFile(from)
				must(t, err)
				must(t, os.WriteFile(to, []byte(strings.ReplaceAll(string(text), filepath.Base(february)+`"`, filepath.Base(copied)+`"`)), 0o600))
				t.Cleanup(func() { must(t, os.Remove(to)) })
			}
			if v := r.verifyArchive(dir); !v.Verified {
				t.Errorf("a copy is told as %+v", v.BrokenAt)
			}
			forge(t, february, "UPDATE rows SET actor_name = 'x' WHERE id = 13")
		}, 13, "altered"},
	} {
		t.Run(c.name, func(t *testing.T) {
			kept := map[string][]byte{}
			for _, path := range []string{january, february, january + ".json", february + ".json"} {
				text, err := os.ReadFile(path)
				must(t, err)
				kept[path] = text
			}
			c.change(t)
			if v := r.verifyArchive(dir); v.Verified || v.BrokenAt.ID != c.id || v.BrokenAt.Kind != c.kind {
				t.Errorf("it tells %+v %+v, want %s at row %d", v, v.BrokenAt, c.kind, c.id)
			} else if want := map[bool]int{true: 2, false: 1}[c.kind == "reordered"]; len(v.Breaks) != want || v.LastID != 42 {
				t.Errorf("up to row %d it tells %+v", v.LastID, v.Breaks)
			}
			for path, text := range kept {
				must(t, os.RemoveAll(path))
				must(t, os.WriteFile(path, text, 0o600))
			}
		})
	}
	if v := r.verifyArchive(dir); !v.Verified || len(v.OtherKeys) > 0 {
		t.Errorf("put back, it tells %+v", v)
	}
	v, err := audit.VerifyArchive(t.Context(), r.store.View(), dir, signer(t), nil)
	if must(t, err); !v.Verified || len(v.OtherKeys) != 2 {
		t.Errorf("with another key it tells %+v", v)
	}
	// Rows that somebody deletes behind the cut are not archived.
	must(t, r.store.Close())
	r.sql(`DELETE FROM operations_log WHERE id = 21`)
	must(t, r.open())
	if v := r.verify(); v.Verified || v.BrokenAt.ID != 1 || v.BrokenAt.Kind != "missing" {
		t.Errorf("the log alone tells %+v %+v", v, v.BrokenAt)
	}
	if v := r.verifyArchive(dir); v.Verified || v.BrokenAt.ID != 21 {
		t.Errorf("with the archives it tells %+v %+v", v, v.BrokenAt)
	}
}

// Nobody counts up to a row that somebody has put far behind in an archive.
func TestArchiveIsReadUpToARowFarBehind(t *testing.T) {
	r, dir := yearOfLog(t), t.TempDir()
	r.archive(dir, march(1), 100)
	path := filepath.Join(dir, audit.ArchiveName(0, 1, 10))
	forge(t, path, `UPDATE rows SET id = 4503599627370496 WHERE id = 10`)
	var got []int64
	must(t, audit.ReadParquet(t.Context(), path, 1, 1<<53, func(page []audit.Row) error { got = append(got, idsOf(page)...); return nil }))
	if len(got) != 10 || got[9] != 1<<52 {
		t.Errorf("it holds %v", got)
	}
}

// A log that is broken keeps its evidence.
func TestBrokenLogIsNotArchived(t *testing.T) {
	r, dir := yearOfLog(t), t.TempDir()
	must(t, r.store.Close())
	r.sql(`UPDATE operations_log SET details = 'x' WHERE id = 5`)
	must(t, r.open())
	if _, err := audit.WriteArchive(t.Context(), r.store.View(), &disk.FS{}, r.signer, dir, audit.ArchiveName(0, 1, 10), 1, 10); err == nil || !strings.Contains(err.Error(), "row 5") {
		t.Errorf("it says %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it leaves %v, %v", left, err)
	}
}

// The order in which an archive is made durable, and then its rows may go: the file
// has its name only once its bytes are, and its manifest is last. Whichever step fails
// says so, and leaves no manifest: the rows stay, and the next try succeeds.
func TestOrderOfAnArchive(t *testing.T) {
	r := yearOfLog(t)
	dir := t.TempDir()
	var steps []string
	failAt := 0
	files := &disk.FS{Hook: func(op disk.Op) error {
		step := op.Kind + " " + op.Path
		if op.To != "" {
			step += " -> " + op.To
		}
		steps = append(steps, strings.ReplaceAll(strings.ReplaceAll(step, dir+"/", ""), dir, "."))
		if len(steps) == failAt {
			return syscall.EIO
		}
		return nil
	}}
	try := func(at int) error {
		steps, failAt = nil, at
		_, err := audit.WriteArchive(t.Context(), r.store.View(), files, r.signer, dir, audit.ArchiveName(0, 1, 10), 1, 10)
		return err
	}
	must(t, try(0))
	whole := slices.Clone(steps)
	got := strings.Join(whole, "\n") + "\n"
	golden := filepath.Join("testdata", "archive.golden")
	if *updateGolden {
		must(t, os.WriteFile(golden, []byte(got), 0o644))
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	if got != string(want) {
		t.Errorf("the steps are\n%snot\n%s", got, want)
	}
	for at, step := range whole {
		failAt = 0
		must(t, audit.RemoveArchive(files, dir, audit.ArchiveName(0, 1, 10)))
		if err := try(at + 1); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s fails: %v", step, err)
		}
		last := strings.HasPrefix(step, "syncdir") && at == len(whole)-1 // it has its name by then
		if m, err := audit.ReadManifest(dir, audit.ArchiveName(0, 1, 10)); err != nil || m != nil && !last {
			t.Errorf("%s failed, and there is the manifest %v, %v", step, m, err)
		}
	}
	failAt = 0
	must(t, audit.RemoveArchive(files, dir, audit.ArchiveName(0, 1, 10)))
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	must(t, try(0))
	if v := r.verifyArchive(dir); !v.Verified {
		t.Errorf("it does not hold: %+v", v.BrokenAt)
	}
}
