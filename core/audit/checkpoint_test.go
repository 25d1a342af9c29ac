package audit

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func signer(t *testing.T, path string) *Signer {
	t.Helper()
	s, err := LoadSigner(path, true)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func head(id int64) Head {
	return Head{ID: id, Hash: bytes.Repeat([]byte{byte(id)}, 32), Time: time.Date(2026, 1, 1, 0, 0, int(id), 123456000, time.UTC)}
}

func keeper(t *testing.T) (*Keeper, string) {
	t.Helper()
	dir := t.TempDir()
	return NewKeeper(dir, signer(t, filepath.Join(t.TempDir(), "signing.key")), slog.New(slog.DiscardHandler)), dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestACheckpointIsValidUnderItsKeyAsItWasSigned(t *testing.T) {
	s, other := signer(t, filepath.Join(t.TempDir(), "a")), signer(t, filepath.Join(t.TempDir(), "b"))
	c := s.Sign(head(5))
	text, err := json.Marshal(c)
	must(t, err)
	var read Checkpoint
	must(t, json.Unmarshal(text, &read))
	if !s.Valid(c) || !s.Valid(read) {
		t.Error("its own key refuses it")
	}
	if other.Valid(c) || other.KeyID() == s.KeyID() {
		t.Error("another key takes it for its own")
	}
	for name, change := range map[string]func(*Checkpoint){
		"id": func(c *Checkpoint) { c.ID++ }, "hash": func(c *Checkpoint) { c.Hash = strings.Repeat("0", 64) },
		"time": func(c *Checkpoint) { c.Time = c.Time.Add(time.Microsecond) }, "signature": func(c *Checkpoint) { c.Signature = "00" + c.Signature[2:] },
		"no signature": func(c *Checkpoint) { c.Signature = "" }, "no hex": func(c *Checkpoint) { c.Signature = "x" },
	} {
		changed := c
		change(&changed)
		if s.Valid(changed) {
			t.Errorf("valid with another %s", name)
		}
	}
}

func TestTheSigningKeyIsMadeOnceForItsOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signing.key")
	if _, err := LoadSigner(path, false); err == nil {
		t.Error("a key that is not there was loaded")
	}
	must(t, os.WriteFile(path+".new", []byte("half a k"), 0o644)) // of a crash
	first := signer(t, path)
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if again := signer(t, path); again.KeyID() != first.KeyID() {
		t.Error("the second load made another key")
	}
	left, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	if len(left) != 1 {
		t.Errorf("beside the key: %v", left)
	}
	for _, text := range []string{"", "nonsense", "-----BEGIN EIDER SIGNING KEY-----\nAAAA\n-----END EIDER SIGNING KEY-----\n"} {
		must(t, os.WriteFile(path, []byte(text), 0o600))
		if _, err := LoadSigner(path, true); err == nil {
			t.Errorf("%q was taken for a key, or replaced", text)
		}
	}
}

// TestTheSlotThatIsWrittenIsNeverTheNewest spoils the slot that was written last,
// as a power cut would: what is found then is the checkpoint before, whatever the
// ids are.
func TestTheSlotThatIsWrittenIsNeverTheNewest(t *testing.T) {
	for name, ids := range map[string][]int64{
		"one by one": {1, 2, 3, 4}, "groups of two": {2, 4, 6, 8}, "odd": {1, 3, 5}, "mixed": {3, 4, 6, 7, 9},
	} {
		t.Run(name, func(t *testing.T) {
			k, dir := keeper(t)
			for i, id := range ids {
				if i%2 == 0 {
					must(t, k.Keep(head(id))) // a new process each time
				} else {
					must(t, k.Keep(head(ids[i-1]), head(id)))
				}
				path := filepath.Join(dir, headFile)
				whole, err := os.ReadFile(path)
				must(t, err)
				wantNewest(t, k, id)
				if i == 0 {
					continue
				}
				last := bytes.LastIndex(whole, []byte(`"id":`+itoa(id)+`,`))
				for _, spoil := range []func([]byte){
					func(b []byte) { clear(b[last:]) }, func(b []byte) { copy(b[last:], "garbage") }, func(b []byte) { b[last+80] ^= 1 },
				} {
					torn := bytes.Clone(whole)
					end := (last/slotSize + 1) * slotSize
					spoil(torn[:min(end, len(torn))])
					must(t, os.WriteFile(path, torn, 0o600))
					wantNewest(t, k, ids[i-1])
				}
				must(t, os.WriteFile(path, whole, 0o600))
			}
		})
	}
}

func itoa(id int64) string { return string(rune('0' + id)) }

func wantNewest(t *testing.T, k *Keeper, id int64) {
	t.Helper()
	c, foreign, err := k.signer.Newest(k.dir)
	must(t, err)
	if c == nil || c.ID != id || foreign {
		t.Errorf("the newest checkpoint is %+v, want %d", c, id)
	}
}

func TestACheckpointOfAnotherKeyDoesNotCount(t *testing.T) {
	k, dir := keeper(t)
	must(t, k.Keep(head(3)))
	other := signer(t, filepath.Join(t.TempDir(), "other"))
	if c, foreign, err := other.Newest(dir); c != nil || !foreign || err != nil {
		t.Errorf("another key finds %v, foreign %v, %v", c, foreign, err)
	}
	must(t, NewKeeper(dir, other, k.log).Keep(head(4)))
	if c, foreign, err := k.signer.Newest(dir); c != nil || !foreign || err != nil { // it went on in the first slot
		t.Errorf("after another key wrote: %v, foreign %v, %v", c, foreign, err)
	}
}

func TestGarbageInPlaceOfTheHeadFileIsNoCheckpoint(t *testing.T) {
	k, dir := keeper(t)
	for name, text := range map[string]string{
		"empty": "", "zeros": strings.Repeat("\x00", 2*slotSize), "garbage": strings.Repeat("{x", slotSize), "null": "null", "short": "{", "huge": strings.Repeat(" ", 5*slotSize),
	} {
		must(t, os.WriteFile(filepath.Join(dir, headFile), []byte(text), 0o600))
		if c, _, err := k.signer.Newest(dir); c != nil || err != nil {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
	must(t, k.Keep(head(9)))
	wantNewest(t, k, 9)
}

func TestTheHistoryOutlivesHalfALine(t *testing.T) {
	k, dir := keeper(t)
	path := filepath.Join(dir, historyFile)
	must(t, k.Keep(head(1)))
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString(`{"id":2,"hash":"00`)
	must(t, err)
	must(t, f.Close())
	must(t, k.Keep(head(3)))
	must(t, k.Keep(head(4)))
	kept, err := Checkpoints(dir, k.signer)
	must(t, err)
	var ids []int64
	for _, c := range kept {
		if c.altered {
			t.Errorf("checkpoint %d counts as altered", c.ID)
		}
		ids = append(ids, c.ID)
	}
	if len(ids) != 4 || ids[0] != 4 || ids[1] != 1 || ids[2] != 3 || ids[3] != 4 {
		t.Errorf("kept: %v, want the newest, then 1, 3, 4", ids)
	}
}

func TestCheckpointsAreThoseOfTheKeyAndTellWhichWereAltered(t *testing.T) {
	k, dir := keeper(t)
	must(t, k.Keep(head(1)))
	must(t, NewKeeper(t.TempDir(), k.signer, k.log).Keep(head(9))) // elsewhere
	path := filepath.Join(dir, historyFile)
	text, err := os.ReadFile(path)
	must(t, err)
	other, err := json.Marshal(signer(t, filepath.Join(t.TempDir(), "other")).Sign(head(7)))
	must(t, err)
	altered := strings.Replace(string(text), `"id":1`, `"id":5`, 1)
	must(t, os.WriteFile(path, []byte(string(text)+altered+string(other)+"\n"), 0o600))
	kept, err := Checkpoints(dir, k.signer)
	must(t, err)
	if len(kept) != 3 || kept[1].altered || !kept[2].altered || kept[2].ID != 5 {
		t.Errorf("kept: %+v", kept)
	}
	if none, err := Checkpoints(t.TempDir(), k.signer); len(none) != 0 || err != nil {
		t.Errorf("of an empty folder: %v, %v", none, err)
	}
}

func TestResetSetsAsideWhatWasKept(t *testing.T) {
	k, dir := keeper(t)
	must(t, k.Reset()) // nothing yet
	must(t, k.Keep(head(8)))
	must(t, k.Reset())
	if c, _, err := k.signer.Newest(dir); c != nil || err != nil {
		t.Errorf("after a reset: %v, %v", c, err)
	}
	aside, err := filepath.Glob(filepath.Join(dir, "*.before-*"))
	must(t, err)
	if len(aside) != 2 {
		t.Errorf("set aside: %v", aside)
	}
	must(t, k.Keep(head(3)))
	wantNewest(t, k, 3)
}

// TestACheckpointThatFailedIsWrittenAgain closes the file under the writer, which
// is as good as a disk that fails.
func TestACheckpointThatFailedIsWrittenAgain(t *testing.T) {
	k, dir := keeper(t)
	var log bytes.Buffer
	k.log = slog.New(slog.NewTextHandler(&log, nil))
	w, err := k.openSlots()
	must(t, err)
	working := w.file
	w.write(head(1))
	must(t, working.Close())
	w.sync() // fails: the slot that was written may be lost
	w.write(head(1))
	w.write(head(2))
	if n := strings.Count(log.String(), "could not be kept"); n != 1 {
		t.Errorf("told %d times: %s", n, log.String())
	}
	w.file, err = os.OpenFile(filepath.Join(dir, headFile), os.O_RDWR, 0)
	must(t, err)
	defer w.file.Close()
	w.write(head(2))
	w.sync()
	wantNewest(t, k, 2)
	if w.failing || w.dirty {
		t.Errorf("failing %v, dirty %v", w.failing, w.dirty)
	}
}

func TestARepairIsRememberedWhole(t *testing.T) {
	dir := t.TempDir()
	if r, err := readRepair(dir); r != nil || err != nil {
		t.Errorf("in an empty folder: %v, %v", r, err)
	}
	want := Repair{Head: 3, Hash: "aa", Lost: 9, Kept: "elsewhere", Bytes: 77, At: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	must(t, WriteRepair(dir, Repair{Head: 1, Kept: strings.Repeat("x", 1000)}))
	must(t, WriteRepair(dir, want))
	got, err := readRepair(dir)
	must(t, err)
	if *got != want {
		t.Errorf("%+v", got)
	}
	must(t, os.WriteFile(filepath.Join(dir, repairFile), []byte("{"), 0o600))
	if _, err := readRepair(dir); err == nil {
		t.Error("half a word was read")
	}
}
