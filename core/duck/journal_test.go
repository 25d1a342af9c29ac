package duck

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/eiderdb/eider/core/disk/faultshim"
)

// A journal that is torn, or not of this file, or whose checkpoint came to its end,
// is of no use and does no harm.
func TestJournalThatIsNotInForceChangesNothing(t *testing.T) {
	torn, want := interruptedAt(t, faultshim.Rule{Call: faultshim.Pwrite, Nth: 1}) // nothing is overwritten yet
	journal, err := os.ReadFile(JournalPath(torn))
	must(t, err)
	ended, wantEnded := interruptedAt(t, faultshim.Rule{Call: faultshim.Unlink})
	for _, c := range []struct {
		name, base, want string
		journal          []byte // nil: that of the base
	}{
		{"ended", ended, wantEnded, nil},
		{"of another file", torn, want, changedAt(journal, headerSize+16+16*2, 0x40)},
		{"empty", torn, want, []byte{}},
		{"cut in the table", torn, want, journal[:20]},
		{"cut in the headers", torn, want, journal[:headerSize]},
		{"cut in half", torn, want, journal[:len(journal)/2]},
		{"cut by a byte", torn, want, journal[:len(journal)-1]},
		{"one byte too long", torn, want, append(bytes.Clone(journal), 0)},
		{"not begun as one", torn, want, changedAt(journal, 0, 1)},
		{"flip in the count", torn, want, changedAt(journal, 8, 1)},
		{"flip in the table", torn, want, changedAt(journal, 40, 1)},
		{"flip in a block", torn, want, changedAt(journal, len(journal)/2, 1)},
		{"flip in the sum", torn, want, changedAt(journal, len(journal)-1, 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := copyOf(t, c.base)
			if c.journal != nil {
				must(t, os.WriteFile(JournalPath(path), c.journal, 0o600))
			}
			before, err := os.ReadFile(path)
			must(t, err)
			must(t, Recover(path, nil))
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the file was changed: %v", err)
			}
			if holds(t, path, c.want) {
				t.Error("something was put back")
			}
		})
	}
}

func changedAt(b []byte, at int, mask byte) []byte {
	b = bytes.Clone(b)
	b[at] ^= mask
	return b
}

// A new file under an old name begins without the old one's journal, and an empty
// one is no database, as ever.
func TestJournalOfAFileThatIsGone(t *testing.T) {
	path, _ := headerTorn(t, 10)
	empty := copyOf(t, path)
	must(t, os.Truncate(empty, 0))
	if _, err := Open(t.Context(), empty, Options{}); kindsOf(err) != "corrupt" {
		t.Errorf("an empty file: %v", err)
	}
	must(t, os.Remove(path))
	must(t, Recover(path, nil))
	if _, err := os.Stat(JournalPath(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the journal is left: %v", err)
	}
}

// What a recovery overwrites is kept beside the file, in the form of a journal.
func TestRecoveryKeepsWhatItOverwrites(t *testing.T) {
	path, want := headerTorn(t, 10)
	before, err := os.ReadFile(path)
	must(t, err)
	if !holds(t, copyOf(t, path), want) {
		t.Error("nothing was put back")
	}
	must(t, Recover(path, nil))
	after, err := os.ReadFile(path)
	must(t, err)
	kept, err := os.ReadFile(undonePath(path))
	must(t, err)
	at := 16 + 16*int(kept[8])
	for i := range int(kept[8]) {
		e := kept[16+16*i:]
		from := int(e[0]) | int(e[1])<<8 | int(e[2])<<16 | int(e[3])<<24
		size := int(e[8]) | int(e[9])<<8 | int(e[10])<<16
		copy(after[from:from+size], kept[at:at+size])
		at += size
	}
	if !bytes.Equal(before, after) {
		t.Error("with what was kept put back, the file is not as it was")
	}
	if err := Recover(path, nil); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

// Who may only read is told what to do, and a recovered copy can be read.
func TestReadOnlyOpenNamesTheJournal(t *testing.T) {
	path, want := headerTorn(t, 10)
	before, err := os.ReadFile(path)
	must(t, err)
	if _, err = Open(t.Context(), path, Options{ReadOnly: true}); kindsOf(err) != "corrupt" || !strings.Contains(err.Error(), "journal") {
		t.Errorf("got %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("reading has changed the file: %v", err)
	}
	must(t, Recover(path, nil))
	db, err := Open(t.Context(), path, Options{ReadOnly: true})
	must(t, err)
	if got := contentOf(t, db); got != want {
		t.Errorf("it holds %s", got)
	}
	must(t, db.Close())
}

// A file that another process uses is not touched, whatever lies beside it.
func TestRecoveryLeavesAFileThatIsInUse(t *testing.T) {
	torn, _ := headerTorn(t, 10)
	path, _ := grown(t)
	p := startChild(t, path)
	p.all("open")
	journal, err := os.ReadFile(JournalPath(torn))
	must(t, err)
	must(t, os.WriteFile(JournalPath(path), journal, 0o600))
	var locked *LockedError
	if err := Recover(path, nil); !errors.As(err, &locked) || locked.PID != fmt.Sprint(p.Process.Pid) {
		t.Errorf("got %v", err)
	}
	p.all("close")
	p.end()
}

// A process that reads its database for the journal keeps DuckDB's lock on it.
func TestCheckpointKeepsTheLock(t *testing.T) {
	path, _ := grown(t)
	p := startChild(t, path)
	p.all("open", "commit", "checkpoint", "commit", "checkpoint")
	if _, err := Open(t.Context(), path, Options{}); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v", err)
	}
	p.all("close")
	p.end()
}

// Where a checkpoint fails and the instance goes on, the next must not take what
// the first has left in the file for the original.
func TestFailedCheckpointLeavesItsJournalInForce(t *testing.T) {
	path, _ := grown(t)
	db, err := Open(t.Context(), path, Options{})
	must(t, err)
	reader, err := db.Conn(t.Context())
	must(t, err)
	must(t, reader.Begin(t.Context()))
	must(t, reader.Exec(t.Context(), "UPDATE t SET text = 'held' WHERE id = 1"))
	if err := db.Checkpoint(t.Context()); err == nil || db.Dead() != nil {
		t.Fatalf("a checkpoint beside a transaction: %v", err)
	}
	first, err := os.Stat(JournalPath(path))
	must(t, err)
	if err := db.Checkpoint(t.Context()); err == nil {
		t.Fatal("a checkpoint beside a transaction")
	}
	if second, err := os.Stat(JournalPath(path)); err != nil || !os.SameFile(first, second) {
		t.Errorf("the journal was replaced: %v", err)
	}
	must(t, reader.Rollback())
	must(t, db.Checkpoint(t.Context()))
	if _, err := os.Stat(JournalPath(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the journal is left: %v", err)
	}
	must(t, errors.Join(reader.Close(), db.Close()))
}

// A checkpoint without its journal must not begin.
func TestCheckpointNeedsItsJournal(t *testing.T) {
	for _, c := range []struct {
		step  string
		errno syscall.Errno
		kinds string
	}{
		{"create journal", syscall.EACCES, "other"}, // the step's own errors are not those of calls
		{"write journal", syscall.ENOSPC, "other"},
		{"sync journal", syscall.EIO, "other"},
		{"rename journal", syscall.EIO, "other"},
	} {
		path, want := grown(t)
		before, err := os.ReadFile(path)
		must(t, err)
		db, err := Open(t.Context(), path, Options{steps: func(step string) error {
			if step == c.step {
				return c.errno
			}
			return nil
		}})
		must(t, err)
		if err := db.Checkpoint(t.Context()); !errors.Is(err, c.errno) || db.Dead() != nil {
			t.Errorf("%s: %v", c.step, err)
		}
		must(t, db.Close())
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s failed and the file was changed: %v", c.step, err)
		}
		holds(t, path, want)
	}
}

// DuckDB makes no checkpoint by itself: not in large commits, not at an open that
// replays them, not at the end. Its headers would tell.
func TestNoCheckpointComesByItself(t *testing.T) {
	path, _ := grown(t)
	before, err := os.ReadFile(path)
	must(t, err)
	for range 2 {
		db, err := Open(t.Context(), path, Options{})
		must(t, err)
		conn, err := db.Conn(t.Context())
		must(t, err)
		must(t, conn.Exec(t.Context(), "INSERT INTO late SELECT i, repeat(md5(i::TEXT), 20) FROM range(40000) r(i)")) // 25 MB of log
		must(t, conn.Exec(t.Context(), "INSERT INTO late SELECT i, md5(i::TEXT) FROM range(300000) r(i)"))            // blocks beside the log
		must(t, errors.Join(conn.Close(), db.CloseAsIs()))
	}
	after, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(before[:blocksAt], after[:blocksAt]) {
		t.Error("a header has changed")
	}
}
