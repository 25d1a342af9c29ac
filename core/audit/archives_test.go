package audit_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/waittest"
)

// sums returns a checksum of each file in the folder.
func sums(t *testing.T, dir string) map[string][sha256.Size]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	all := map[string][sha256.Size]byte{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		must(t, err)
		all[e.Name()] = sha256.Sum256(text)
	}
	return all
}

// rebuilt is a log that was begun anew after another was lost, of as many rows in the
// same months as yearOfLog has: its archives are of the same ranges.
func rebuilt(t *testing.T, epoch int64) *register {
	t.Helper()
	r := begin(t)
	for month := time.January; month <= time.April; month++ {
		r.log.SetClock(func() time.Time { return time.Date(2026, month, 10, 0, 0, 0, 0, time.UTC) })
		if month == time.January {
			r.stage(audit.Row{Operation: "rebuild", ResourceType: "metadata", Status: eider.StatusSuccess, Details: `{"epoch":70}`, Count: 1})
			r.stage(rows(9)...)
			continue
		}
		r.stage(rows(10)...)
	}
	if r.log.EpochAt(1) != epoch {
		t.Fatalf("the first row is in epoch %d", r.log.EpochAt(1))
	}
	return r
}

// The archives of a log that was lost are all that is left of it.
func TestArchivesOfALostLogStayAndAreNotTakenForTheNewOnes(t *testing.T) {
	lost, dir := yearOfLog(t), t.TempDir()
	for lost.archive(dir, march(1), 100) > 0 {
	}
	left := sums(t, dir)
	r := rebuilt(t, 70)
	others := []string{audit.ArchiveName(0, 1, 10), audit.ArchiveName(0, 11, 20)}
	if v := r.verifyArchive(dir); !v.Verified || v.FirstID != 1 || v.LastID != 40 || v.Checked != 40 || !slices.Equal(v.OtherArchives, others) {
		t.Errorf("before anything is archived: %+v %+v", v, v.BrokenAt)
	}
	for r.archive(dir, march(1), 100) > 0 {
	}
	now := sums(t, dir)
	for name, sum := range left {
		if now[name] != sum {
			t.Errorf("%s of the lost log was written over", name)
		}
	}
	if v := r.verifyArchive(dir); !v.Verified || v.FirstID != 1 || v.LastID != 42 || v.Checked != 42 || v.Epoch != 70 || !slices.Equal(v.OtherArchives, others) {
		t.Errorf("with archives of both: %+v %+v", v, v.BrokenAt)
	}
	if v := lost.verifyArchive(dir); !v.Verified || v.Checked != 42 || len(v.OtherArchives) != 2 {
		t.Errorf("the lost log, found again: %+v %+v", v, v.BrokenAt)
	}

	s := &receiver{size: 100}
	f := r.sinks()
	f.Archive = dir
	stop := run(f, "s", func(_ context.Context, b audit.Batch) (int64, error) {
		if b.Epoch != 70 {
			return 0, errors.New("rows of another epoch")
		}
		return s.take(t.Context(), b)
	})
	waittest.Until(t, "a sink gets the new log from its first row on", func() bool { return len(s.got()) == 42 })
	must(t, stop())

	must(t, r.store.Close())
	r.sql(`UPDATE operations_log SET details = 'x' WHERE id = 25`)
	must(t, r.open())
	forge(t, filepath.Join(dir, audit.ArchiveName(70, 1, 10)), `UPDATE rows SET actor_name = 'x' WHERE id = 2`)
	wantBreaks(t, r.verifyArchive(dir), "altered 2, altered 25")
}

// After a loss the log goes on from an older state: archives of what came behind that
// are not its own, those of what came before are.
func TestArchivesFollowTheLineOfTheirLog(t *testing.T) {
	first, dir := begin(t), t.TempDir()
	first.log.SetClock(func() time.Time { return march(1) })
	first.stage(rows(12)...)
	must(t, first.store.Close())
	text, err := os.ReadFile(first.path())
	must(t, err)
	must(t, first.open())
	first.log.SetClock(func() time.Time { return march(1) })
	first.stage(rows(13)...)
	for range 3 { // 1-8, 9-16, 17-24
		first.archive(dir, march(100), 8)
	}
	whole := len(sums(t, dir))

	r := &register{TB: t, dir: t.TempDir(), signer: first.signer}
	must(t, os.WriteFile(r.path(), text, 0o600))
	must(t, r.open())
	r.log.SetClock(func() time.Time { return march(1) })
	r.beginEpoch(70) // row 13
	r.stage(rows(12)...)
	others := []string{audit.ArchiveName(0, 9, 16), audit.ArchiveName(0, 17, 24)}
	check := func(when string) {
		t.Helper()
		v := r.verifyArchive(dir)
		if !v.Verified || v.Checked != r.log.Head().ID || len(v.OtherArchives) < 2 || !slices.Equal(v.OtherArchives[:2], others) {
			t.Errorf("%s: %+v %+v", when, v, v.BrokenAt)
		}
	}
	check("before anything is archived again")
	for range 3 {
		r.archive(dir, march(100), 8)
		check("while it is archived")
	}
	if now := len(sums(t, dir)); now != 2*whole {
		t.Errorf("%d files became %d", whole, now)
	}
	// The range 1-8 is there twice. Without one of them the other does, and without
	// both it is missing, whatever others there are.
	for _, name := range []string{"operations-000000000001-000000000008.parquet", "operations-000000000001-000000000008-2.parquet"} {
		check("before " + name + " goes")
		must(t, os.Remove(filepath.Join(dir, name)))
		must(t, os.Remove(filepath.Join(dir, name+".json")))
	}
	wantBreaks(t, r.verifyArchive(dir), "missing 1-8")
	if v := first.verifyArchive(dir); v.Verified || v.BrokenAt.Kind != "missing" || v.BrokenAt.LastID != 8 {
		t.Errorf("the first log: %+v", v.BrokenAt)
	}
}

func TestNoArchiveIsWrittenOver(t *testing.T) {
	r, dir := yearOfLog(t), t.TempDir()
	name := audit.ArchiveName(0, 1, 10)
	for _, there := range []string{name, name + ".json"} {
		must(t, os.WriteFile(filepath.Join(dir, there), []byte("of another"), 0o600))
		_, err := audit.WriteArchive(t.Context(), r.store.View(), &disk.FS{}, r.signer, dir, name, 1, 10)
		if !errors.Is(err, audit.ErrArchived) || len(sums(t, dir)) != 1 {
			t.Errorf("with %s it says %v", there, err)
		}
		must(t, os.Remove(filepath.Join(dir, there)))
	}
}
