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
	if recovered < rounds*4/5 { // of a header 33 bytes may be all that changes
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
