package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/config"
)

const walName = "metadata.duckdb.wal"

// killedFolder is what a server left that was killed with changes in its
// write-ahead log alone.
type killedFolder struct {
	dir   string
	ids   []string // of the projects, as they were acknowledged
	head  int64    // newest row of the log
	marks []mark
	wal   []byte
}

// mark says that rows up to head were acknowledged with size bytes in the log.
type mark struct{ size, head int64 }

// killFolder makes one. If grown is set a part of the projects is in the database
// already, and the log holds the rest; else the log holds everything.
func killFolder(t *testing.T, grown bool) *killedFolder {
	t.Helper()
	k := &killedFolder{dir: filepath.Join(t.TempDir(), "d")}
	s := serve(t, k.dir)
	for i := range 5 {
		if grown && i == 2 {
			s.stop(t)
			s = serve(t, k.dir)
		}
		k.ids = append(k.ids, fmt.Sprintf("p%d", i))
		s.Want(201, childKey, "POST /projects", fmt.Sprintf(`{"id":%q}`, k.ids[i]))
		info, err := os.Stat(filepath.Join(k.dir, walName))
		mustDo(t, err)
		k.head = s.head(t)
		k.marks = append(k.marks, mark{info.Size(), k.head})
	}
	// A checkpoint follows its commit at once and does not hold it up.
	apptest.Eventually(t, "the checkpoint names the newest row", func() bool { return checkpointed(k.dir) == k.head })
	s.kill()
	mustDo(t, os.WriteFile(filepath.Join(k.dir, "root.key"), []byte(childKey+"\n"), 0o600))
	var err error
	k.wal, err = os.ReadFile(filepath.Join(k.dir, walName))
	mustDo(t, err)
	return k
}

// checkpointed returns the newest row that a checkpoint names.
func checkpointed(dir string) (newest int64) {
	text, err := os.ReadFile(filepath.Join(dir, "audit", "head"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		var c struct{ ID int64 }
		if json.Unmarshal([]byte(line), &c) == nil {
			newest = max(newest, c.ID)
		}
	}
	return newest
}

// damaged returns a copy of the folder whose log is changed.
func (k *killedFolder) damaged(t *testing.T, change func([]byte) []byte) string {
	t.Helper()
	dir := copyFolder(t, k.dir)
	mustDo(t, os.WriteFile(filepath.Join(dir, walName), change(slices.Clone(k.wal)), 0o600))
	return dir
}

// readable is the newest row that must come back if the log is sound up to at.
func (k *killedFolder) readable(at int) (head int64) {
	for _, m := range k.marks {
		if m.size <= int64(at) {
			head = m.head
		}
	}
	return head
}

func cut(at int) func([]byte) []byte { return func(b []byte) []byte { return b[:at] } }

func flip(at, bit int) func([]byte) []byte {
	return func(b []byte) []byte { b[at] ^= 1 << bit; return b }
}

func fill(at int, with func(i int) byte) func([]byte) []byte {
	return func(b []byte) []byte {
		for i := at; i < len(b); i++ {
			b[i] = with(i)
		}
		return b
	}
}

func garbage(at int) func([]byte) []byte {
	return fill(at, func(i int) byte { return byte(i*i*31 + i*7) })
}
func zeros(at int) func([]byte) []byte { return fill(at, func(int) byte { return 0 }) }

// startHere starts a server in this process, which costs less than one of its own.
func startHere(t *testing.T, dir string) (*apptest.Server, error) {
	t.Helper()
	return apptest.TryStart(t, dir, app.Options{Modules: modules(), Version: "test"}, nil)
}

// repairHere is `eider repair --wal`.
func repairHere(t *testing.T, dir string, dryRun bool) app.WALReport {
	t.Helper()
	a, err := app.New(app.Options{Modules: modules(), Version: "test"})
	mustDo(t, err)
	mustDo(t, a.Load(config.Sources{Flags: map[string]string{"data_dir": dir}}))
	report, err := a.RepairWAL(context.Background(), dryRun)
	mustDo(t, err)
	return report
}

// startsWholeOrRefuses checks that a start on a damaged folder shows everything,
// or refuses and leaves each byte as it was. It reports whether it refused.
func (k *killedFolder) startsWholeOrRefuses(t *testing.T, dir string) bool {
	t.Helper()
	before := contents(t, dir)
	s, err := startHere(t, dir)
	if err == nil {
		defer s.Stop()
		if got := projectIDs(s); !slices.Equal(got, k.ids) {
			t.Errorf("it starts with the projects %v of %v", got, k.ids)
		}
		return false
	}
	if code := exitCode(err); code != 9 && code != 10 {
		t.Errorf("it ends with %d: %v", code, err)
	}
	if !strings.Contains(tell(err), "eider repair --wal") || strings.Contains(tell(err), "Stack Trace") {
		t.Errorf("it says %s", tell(err))
	}
	if what := changed(before, contents(t, dir)); what != nil {
		t.Errorf("the refused start changed: %v", what)
	}
	return true
}

func projectIDs(s *apptest.Server) []string {
	ids := []string{}
	for _, p := range s.Want(200, childKey, "GET /projects?limit=1000", "").List("projects") {
		ids = append(ids, p["id"].(string))
	}
	slices.Sort(ids)
	return ids
}

// comesBack repairs a folder whose log is damaged from at on, and checks what is
// there then.
func (k *killedFolder) comesBack(t *testing.T, dir string, at int) {
	t.Helper()
	before := contents(t, dir)
	dry := repairHere(t, dir, true)
	if what := changed(before, contents(t, dir)); what != nil {
		t.Errorf("the dry run changed: %v", what)
	}
	report := repairHere(t, dir, false)
	if dry.Original = report.Original; dry != report {
		t.Errorf("the dry run says %+v, the repair %+v", dry, report)
	}
	if report.Head < k.readable(at) || report.Checkpoint != k.head || report.Missing != k.head-report.Head || report.KeptBytes > int64(at) {
		t.Errorf("row %d of %d can be read, the repair says %+v", k.readable(at), k.head, report)
	}
	kept := contents(t, report.Original)
	for _, name := range []string{"metadata.duckdb", walName} {
		if kept[name] != before[name] {
			t.Errorf("of %s is kept %s, it was %s", name, kept[name], before[name])
		}
	}
	if again := repairHere(t, dir, false); !again.NothingToDo || again.Original != report.Original {
		t.Errorf("a second repair says %+v", again)
	}
	s, err := startHere(t, dir)
	if err != nil {
		t.Fatalf("after the repair: %v", err)
	}
	defer s.Stop()
	if got := projectIDs(s); !slices.Equal(got, k.ids[:len(got)]) {
		t.Errorf("there are the projects %v of %v", got, k.ids)
	}
	k.isLogged(t, s, report)
}

func (k *killedFolder) isLogged(t *testing.T, s *apptest.Server, report app.WALReport) {
	t.Helper()
	rows := s.Want(200, childKey, "GET /operations?operation=repair", "").List("operations")
	if len(rows) != 1 || rows[0]["id"] != float64(report.Head+1) {
		t.Fatalf("the repair left the rows %v", rows)
	}
	details := rows[0]["details"].(map[string]any)
	if details["lost_up_to"] != float64(k.head) || details["head"] != float64(report.Head) || details["original_kept_as"] != "lost+found/"+filepath.Base(report.Original) {
		t.Errorf("the row of the repair says %v", details)
	}
	// Ids are given out again: so another epoch begins with that row.
	if v := s.Want(200, childKey, "GET /operations/verify", ""); details["epoch"] == nil || details["epoch"] == 0.0 || v.JSON["epoch"] != details["epoch"] {
		t.Errorf("the repair says epoch %v, and the log %s", details["epoch"], v.Body)
	}
	c := s.Want(200, childKey, "GET /health/consistency", "")
	found := c.List("findings")
	for _, f := range found { // the folders of projects whose rows are lost
		if f["kind"] != "orphan_database" || f["severity"] != "warning" {
			t.Errorf("after a repair the register is called %s", c.Body)
		}
	}
	if c.JSON["consistent"] != (len(found) == 0) {
		t.Errorf("after a repair the register is called %s", c.Body)
	}
	if v := s.Want(200, childKey, "GET /operations/verify", ""); v.JSON["verified"] != true {
		t.Errorf("the chain does not hold: %s", v.Body)
	}
}

// Whatever becomes of the log, a start has everything that was acknowledged, or
// refuses; and a repair brings back what stands before the damage.
func TestDamagedLogIsRefusedAndRepaired(t *testing.T) {
	k := killFolder(t, true)
	size := len(k.wal)
	last := int(k.marks[len(k.marks)-2].size) // the last project begins here
	for _, c := range []struct {
		name   string
		at     int
		change func([]byte) []byte
	}{
		{"cut in its head", 40, cut(40)},
		{"cut in half", size / 2, cut(size / 2)},
		{"cut between changes", last, cut(last)},
		{"cut by a byte", size - 1, cut(size - 1)},
		{"garbage", 0, garbage(0)},
		{"garbage from a third on", size / 3, garbage(size / 3)},
		{"zeros in the last change", last + 30, zeros(last + 30)},
		{"a bit of the first byte", 0, flip(0, 3)},
		{"a bit in the middle", size / 2, flip(size/2, 1)},
		{"a bit of the last byte", size - 1, flip(size-1, 0)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := k.damaged(t, c.change)
			if !k.startsWholeOrRefuses(t, dir) {
				t.Fatal("it starts")
			}
			k.comesBack(t, dir, c.at)
		})
	}
}

// Before the first checkpoint the log holds the tables themselves.
func TestDamagedFirstLogIsRefusedAndRepaired(t *testing.T) {
	k := killFolder(t, false)
	size := len(k.wal)
	for _, c := range []struct {
		name   string
		at     int
		change func([]byte) []byte
	}{
		{"cut to a byte", 1, cut(1)},
		{"zeros", 0, zeros(0)},
		{"a bit of the first byte", 0, flip(0, 1)},
		{"a bit of the tables", 300, flip(300, 2)},
		{"a bit of the last change", size - 40, flip(size-40, 7)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := k.damaged(t, c.change)
			if !k.startsWholeOrRefuses(t, dir) {
				t.Fatal("it starts")
			}
			k.comesBack(t, dir, c.at)
		})
	}
}

func TestNoBitOfTheLogCanFlipUnseen(t *testing.T) {
	k := killFolder(t, true)
	refused := 0
	const steps = 40
	for i := range steps {
		at := i * len(k.wal) / steps
		dir := k.damaged(t, flip(at, i%8))
		if k.startsWholeOrRefuses(t, dir) {
			refused++
		} else {
			t.Logf("bit %d of byte %d of %d does not matter", i%8, at, len(k.wal))
		}
	}
	if refused < steps/2 {
		t.Errorf("only %d of %d flips were met", refused, steps)
	}
}

func TestSoundLogNeedsNoRepair(t *testing.T) {
	k := killFolder(t, true)
	before := contents(t, k.dir)
	for _, dry := range []bool{true, false} {
		if r := repairHere(t, k.dir, dry); !r.NothingToDo || r.Head != k.head || r.KeptBytes != int64(len(k.wal)) || r.Original != "" {
			t.Errorf("of a sound log the repair says %+v", r)
		}
	}
	if what := changed(before, contents(t, k.dir)); what != nil {
		t.Errorf("the repair of a sound log changed: %v", what)
	}
	if k.startsWholeOrRefuses(t, k.dir) {
		t.Error("it is refused")
	}
}

// The same by the command, from the refusal to the row of the log.
func TestRepairCommand(t *testing.T) {
	k := killFolder(t, true)
	half := len(k.wal) / 2
	// A bit of a record's content, whose checksum tells. One of its length would
	// make it look cut short.
	inside := half + bytes.Index(k.wal[half:], []byte("project"))
	if inside < half {
		t.Fatal("no record behind the middle of the log has text in it")
	}
	for _, c := range []struct {
		name   string
		code   int
		says   string
		change func([]byte) []byte
	}{
		{"cut", 10, "the log ends at row", cut(half)},
		{"bit", 9, "write-ahead log is damaged", flip(inside, 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := k.damaged(t, c.change)
			before := contents(t, dir)
			data := "--data-dir=" + dir
			if r := runEider(t, "serve", data); r.code != c.code || !strings.Contains(r.message, c.says) || !strings.Contains(r.message, "eider repair --wal") {
				t.Fatalf("serve ended with %d: %s", r.code, r.message)
			}
			if r := runEider(t, "audit", "verify", data); r.code != c.code {
				t.Errorf("audit verify ended with %d: %s", r.code, r.message)
			}
			dry := runEider(t, "repair", "--wal", "--dry-run", data)
			if dry.code != 0 || !strings.Contains(dry.out, "dry run: nothing was changed") || !strings.Contains(dry.out, fmt.Sprintf(" to %d, that the newest checkpoint proves", k.head)) {
				t.Errorf("the dry run ended with %d: %s%s", dry.code, dry.out, dry.message)
			}
			if what := changed(before, contents(t, dir)); what != nil {
				t.Fatalf("what only looks changed: %v", what)
			}
			var report app.WALReport
			r := runEider(t, "repair", "--wal", "--json", data)
			if err := json.Unmarshal([]byte(r.out), &report); r.code != 0 || err != nil || report.Missing == 0 {
				t.Fatalf("the repair ended with %d: %s%s", r.code, r.out, r.message)
			}
			again := runEider(t, "repair", "--wal", data)
			if again.code != 0 || !strings.Contains(again.out, "nothing to repair") || !strings.Contains(again.out, report.Original) {
				t.Errorf("the second repair ended with %d: %s%s", again.code, again.out, again.message)
			}
			s := serve(t, dir)
			k.isLogged(t, s.Server, report)
			if r := runEider(t, "repair", "--wal", data); r.code != 3 || !strings.Contains(r.message, "stop it first") {
				t.Errorf("a repair beside a running server ended with %d: %s", r.code, r.message)
			}
			s.stop(t)
			s = serve(t, dir) // only the next start has logged the loss
			k.isLogged(t, s.Server, report)
			s.kill()
		})
	}
}

// A repair that cannot keep the originals changes nothing.
func TestRepairWithoutRoomChangesNothing(t *testing.T) {
	k := killFolder(t, true)
	dir := k.damaged(t, flip(len(k.wal)/2, 1))
	before := contents(t, dir)
	if r := runEider(t, "repair", "--wal", "--data-dir="+dir, noFileGrows); r.code != 5 {
		t.Errorf("it ended with %d: %s%s", r.code, r.out, r.message)
	}
	if what := changed(before, contents(t, dir)); what != nil {
		t.Errorf("it changed: %v", what)
	}
	k.comesBack(t, dir, len(k.wal)/2)
}
