package duck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/eiderdb/eider/core/disk/faultshim"
)

// grown returns a database that has been folded several times, so that its
// metadata lies in several blocks that are partly free, and that has more in its
// write-ahead log; and what is in it.
func grown(t *testing.T) (path, content string) {
	t.Helper()
	base, err := grownOnce()
	must(t, err)
	path = copyOf(t, base)
	reader := copyOf(t, base)
	db, err := Open(t.Context(), reader, Options{})
	must(t, err)
	content = contentOf(t, db)
	must(t, db.CloseAsIs())
	return path, content
}

var grownOnce = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "duck-grown")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "x.duckdb")
	return path, grow(path)
})

func grow(path string) error {
	ctx := context.Background()
	db, err := Open(ctx, path, Options{})
	if err != nil {
		return err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	var columns []string
	for i := range 150 {
		columns = append(columns, fmt.Sprintf("(i %% %d)::TEXT AS c%d", i+3, i))
	}
	for _, statement := range []string{
		"CREATE TABLE t (id BIGINT PRIMARY KEY, text TEXT)",
		"CREATE TABLE wide AS SELECT i, i % 7 AS a, md5(i::TEXT) AS b, i::DOUBLE AS c, i % 2 = 0 AS d FROM range(20000) r(i)",
		"CREATE TABLE broad AS SELECT " + strings.Join(columns, ", ") + " FROM range(10) r(i)",
		"CREATE TABLE gone AS SELECT md5(i::TEXT) FROM range(30000) r(i)",
		"CHECKPOINT",
		"INSERT INTO t SELECT i, md5(i::TEXT) FROM range(-5000, -1) r(i)",
		"DELETE FROM wide WHERE a = 3",
		"CHECKPOINT",
		"DROP TABLE gone",
		"CREATE VIEW v AS SELECT count(*) AS n FROM wide",
		"CHECKPOINT",
		"UPDATE wide SET b = 'changed' WHERE a = 4",
		"UPDATE broad SET c3 = 'changed'",
		"INSERT INTO t SELECT i, md5(i::TEXT) FROM range(1, 4000) r(i)",
		"CREATE TABLE late AS SELECT i, md5(i::TEXT) FROM range(1000) r(i)",
	} {
		err = errors.Join(err, conn.Exec(ctx, statement))
	}
	return errors.Join(err, conn.Close(), db.CloseAsIs())
}

func contentOf(t *testing.T, db *DB) (content string) {
	t.Helper()
	must(t, scanOne(db, &content, `SELECT format('{} {} {} {} {} {}', count(*), bit_xor(hash(t)), (SELECT bit_xor(hash(wide)) FROM wide),
		(SELECT bit_xor(hash(broad)) FROM broad), (SELECT bit_xor(hash(late)) FROM late), (SELECT n FROM v)) FROM t`))
	return content
}

// holds opens a database, as a start does, and checks that it has the content and
// can go on: write, fold, and be opened again.
func holds(t *testing.T, path, want string) (recovered bool) {
	t.Helper()
	var log bytes.Buffer
	for range 2 {
		db, err := Open(t.Context(), path, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatalf("open: %v", err)
		}
		if got := contentOf(t, db); got != want {
			t.Errorf("it holds %s, want %s", got, want)
		}
		for _, name := range []string{".journal", ".journal.new"} {
			if _, err := os.Stat(path + name); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is left: %v", name, err)
			}
		}
		conn, err := db.Conn(t.Context())
		must(t, err)
		must(t, conn.Exec(t.Context(), "CREATE OR REPLACE TABLE after AS SELECT 1"))
		must(t, db.Checkpoint(t.Context()))
		must(t, errors.Join(conn.Close(), db.Close()))
	}
	return strings.Contains(log.String(), "a checkpoint was cut short")
}

// copyOf copies the database with what lies beside it.
func copyOf(t *testing.T, path string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.CopyFS(dir, os.DirFS(filepath.Dir(path))))
	return filepath.Join(dir, filepath.Base(path))
}

// controlled starts a child on a copy, whose files can be faulted.
func controlled(t *testing.T, path string) (*child, *faultshim.Control) {
	t.Helper()
	library, err := shim()
	must(t, err)
	control, err := faultshim.New(t.TempDir())
	must(t, err)
	t.Cleanup(func() { must(t, control.Close()) })
	return startChild(t, path, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, control.Env(library)...) }), control
}

// tears are the faults of the nth call of a kind. What a write leaves half done is
// what a power cut leaves, too. How many blocks a checkpoint writes may differ by
// one: so calls are counted by their kind.
func tears(n int, c faultshim.Call) (all []faultshim.Rule) {
	rule := faultshim.Rule{Call: c.Kind, Nth: n, Kill: true}
	if torture() || c.Kind != faultshim.Pwrite {
		done := rule
		done.Done = true
		all = append(all, rule, done)
	}
	if c.Kind != faultshim.Pwrite {
		return all
	}
	shorts := []int{10, 512, c.Size / 2, 4096, 8192}
	if c.Size <= headerSize {
		shorts = shorts[:3]
	}
	if !torture() {
		shorts = shorts[n%len(shorts):][:1]
	}
	for _, rule.Short = range shorts {
		all = append(all, rule)
	}
	return all
}

func torture() bool { return os.Getenv("EIDER_TORTURE_ROUNDS") != "" }

// A checkpoint overwrites metadata that is in use. Killed in any call, and with any
// write half done, it loses nothing.
func TestTornCheckpointLosesNothing(t *testing.T) {
	base, want := grown(t)
	calls := checkpointCalls(t, copyOf(t, base))
	var recovered atomic.Int64
	cases, counts := 0, map[faultshim.Kind]int{}
	t.Run("cases", func(t *testing.T) {
		for _, call := range calls {
			counts[call.Kind]++
			for _, rule := range tears(counts[call.Kind], call) {
				cases++
				t.Run(fmt.Sprintf("%v %d, %d of %d bytes, done %v", call, rule.Nth, rule.Short, call.Size, rule.Done), func(t *testing.T) {
					t.Parallel()
					path := copyOf(t, base)
					p, control := controlled(t, path)
					p.all("open")
					must(t, control.Arm(rule))
					if _, alive := p.try("checkpoint"); alive { // there was a write less
						p.kill()
					}
					_ = p.Wait()
					if holds(t, path, want) {
						recovered.Add(1)
					}
				})
			}
		}
	})
	if n := recovered.Load(); cases < 20 || n < 3 {
		t.Errorf("only %d cases, of which in %d something was put back: %v", cases, n, calls)
	}
}

// Nor does a header that is half written, wherever it ends.
func TestTornHeaderLosesNothing(t *testing.T) {
	for _, short := range []int{1, 20, 512} {
		path, want := headerTorn(t, short)
		recovered := holds(t, path, want)
		if !recovered && short <= 20 { // behind its words stand zeros
			t.Errorf("of %d bytes of the header nothing was put back", short)
		}
	}
}

// The steps of the journal itself, and of putting it back, are no system calls
// that the shim sees.
func TestKilledAtAnyStepOfTheJournal(t *testing.T) {
	base, want := grown(t)
	torn, _ := headerTorn(t, 10)
	for _, c := range []struct {
		base, prepare, step string
		least               int // steps
	}{{base, "open", "checkpoint", 7}, {torn, "", "open", 10}} {
		n := 1
		for ; ; n++ {
			path := copyOf(t, c.base)
			p := startChild(t, path)
			if c.prepare != "" {
				p.all(c.prepare)
			}
			p.all(fmt.Sprintf("kill at %d", n))
			a, alive := p.try(c.step)
			p.kill()
			holds(t, path, want)
			if alive && a.Text == "" {
				break
			}
		}
		if n <= c.least {
			t.Errorf("%s: only %d steps", c.step, n-1)
		}
	}
}

// After a power cut any sector of what was not synced may be the old or the new
// one. It is read in sectors of 512 bytes, of which each is thrown for.
func TestAnyMixOfSectorsIsPutBack(t *testing.T) {
	base, want := grown(t)
	old, err := os.ReadFile(base)
	must(t, err)
	path := copyOf(t, base)
	interrupt(t, path, faultshim.Rule{Call: faultshim.Unlink})
	after, err := os.ReadFile(path)
	must(t, err)
	old = append(old, make([]byte, max(0, len(after)-len(old)))...)
	mix := func(random *rand.Rand, from, to int) []byte {
		mixed := bytes.Clone(old[:max(len(old), len(after))])
		for at := from; at < min(to, len(after)); at += 512 {
			if random.IntN(2) == 0 {
				copy(mixed[at:at+512], after[at:])
			}
		}
		return mixed
	}
	rounds := 6
	if torture() {
		rounds = 60
	}
	recovered := 0
	for seed := range rounds {
		random := rand.New(rand.NewPCG(uint64(seed), 1))
		mixed := mix(random, blocksAt, len(after)) // not synced before the header is written
		if seed%3 == 0 {
			copy(mixed[blocksAt:], after[blocksAt:]) // synced, and the header torn
			for slot := range []int{1, 2} {
				copy(mixed[(slot+1)*headerSize:][:10+random.IntN(30)], after[(slot+1)*headerSize:])
			}
		}
		must(t, os.WriteFile(path, mixed, 0o600))
		trial := copyOf(t, path)
		if holds(t, trial, want) {
			recovered++
		}
	}
	if recovered < rounds-1 {
		t.Errorf("in %d rounds something was put back %d times", rounds, recovered)
	}
}

// interrupt has a process killed by the rule in a checkpoint of the database.
func interrupt(t *testing.T, path string, rule faultshim.Rule) {
	t.Helper()
	p, control := controlled(t, path)
	p.all("open")
	rule.Kill = true
	must(t, control.Arm(rule))
	if _, alive := p.try("checkpoint"); alive {
		t.Fatal("not killed")
	}
	_ = p.Wait()
}

func interruptedAt(t *testing.T, rule faultshim.Rule) (path, want string) {
	t.Helper()
	path, want = grown(t)
	interrupt(t, path, rule)
	return path, want
}

// headerTorn is a database whose checkpoint was cut short in its last write; after
// the first bytes DuckDB refuses the file at once.
func headerTorn(t *testing.T, short int) (path, want string) {
	t.Helper()
	path, want = grown(t)
	old, err := os.ReadFile(path)
	must(t, err)
	interrupt(t, path, faultshim.Rule{Call: faultshim.Fsync, Path: "x.duckdb$", Nth: 2})
	torn, err := os.ReadFile(path)
	must(t, err)
	for _, slot := range []int{1, 2} {
		copy(torn[slot*headerSize+short:(slot+1)*headerSize], old[slot*headerSize+short:])
	}
	must(t, os.WriteFile(path, torn, 0o600))
	return path, want
}

// checkpointCalls lists the calls of a checkpoint that nothing befalls.
func checkpointCalls(t *testing.T, path string) []faultshim.Call {
	t.Helper()
	p, control := controlled(t, path)
	p.all("open")
	must(t, control.Arm())
	p.all("checkpoint")
	calls, err := control.Calls()
	must(t, err)
	p.kill()
	return calls
}

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

// DuckDB makes no checkpoint by itself: not in a large commit, not after many, not
// at an open that replays, not at the end.
func TestNoCheckpointComesByItself(t *testing.T) {
	path, _ := grown(t)
	p, control := controlled(t, path)
	must(t, control.Arm())
	p.all("open", "large", "commit", "large", "append", "abandon")
	p.end()
	calls, err := control.Calls()
	must(t, err)
	if removed := faultshim.Of(calls, faultshim.Unlink, ".wal"); len(removed) > 0 {
		t.Errorf("the log was folded: %v", removed)
	}
	if synced := faultshim.Of(calls, faultshim.Fsync, "x.duckdb$"); len(synced) > 0 {
		t.Logf("the file was synced: %v", synced)
	}
}
