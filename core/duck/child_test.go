package duck

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// This test binary as a child of itself is a process that opens the database in
// its argument and does single steps, so that a test may fault its files, kill
// it, or meet its lock.
const childVariable = "EIDER_DUCK_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "" {
		code := m.Run()
		if library, err := shim(); err == nil {
			_ = os.RemoveAll(filepath.Dir(library))
		}
		if path, err := grownOnce(); err == nil {
			_ = os.RemoveAll(filepath.Dir(path))
		}
		os.Exit(code)
	}
	if err := serve(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// sentinels are the kinds of error by name, for tables.
var sentinels = map[string]error{
	"locked": ErrLocked, "newer": ErrNewer, "corrupt": ErrCorrupt, "wal": ErrWAL, "fatal": ErrFatal, "full": ErrFull, "sync": ErrSync,
	"io": ErrIO, "readonly": ErrReadOnly, "constraint": ErrConstraint, "interrupted": ErrInterrupted, "aborted": ErrAborted, "closed": ErrClosed,
	"deadline": context.DeadlineExceeded,
}

// kindsOf names what an error is: "fatal sync", "other" for none of the kinds,
// "" for nil.
func kindsOf(err error) string {
	if err == nil {
		return ""
	}
	var names []string
	for name, sentinel := range sentinels {
		if errors.Is(err, sentinel) {
			names = append(names, name)
		}
	}
	if names == nil {
		return "other"
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// answer is what a child says of a step.
type answer struct {
	Kinds string // of the step's error
	Text  string // the error
	Dead  string // the kinds of Dead
	Rows  int
}

func serve(path string) error {
	ctx := context.Background()
	var db *DB
	var conn *Conn
	left := 0 // steps of a journal until the process is killed; 0: never
	o := Options{steps: func(string) error {
		if left--; left == 0 {
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return nil
	}}
	steps := map[string]func() (int, error){
		"open": func() (int, error) {
			var err error
			if db, err = Open(ctx, path, o); err != nil {
				return 0, err
			}
			conn, err = db.Conn(ctx)
			return 0, err
		},
		"create":   func() (int, error) { return 0, conn.Exec(ctx, "CREATE TABLE t (id BIGINT PRIMARY KEY, text TEXT)") },
		"commit":   func() (int, error) { return 0, commitRows(conn, 10) },
		"large":    func() (int, error) { return 0, commitRows(conn, 40000) },
		"append":   func() (int, error) { return 0, conn.Append("t", [][]any{{int64(-1), "x"}}) },
		"exec":     func() (int, error) { return 0, conn.Exec(ctx, "SELECT 1") },
		"rollback": func() (int, error) { return 0, conn.Rollback() },
		"count": func() (int, error) {
			var n int
			err := scanOne(db, &n, "SELECT count(*) FROM t")
			return n, err
		},
		"checkpoint": func() (int, error) { return 0, db.Checkpoint(ctx) },
		"conn": func() (int, error) {
			c, err := db.Conn(ctx)
			if err == nil {
				err = c.Close()
			}
			return 0, err
		},
		"close":   func() (int, error) { return 0, errors.Join(conn.Close(), db.Close()) },
		"abandon": func() (int, error) { return 0, errors.Join(conn.Close(), db.CloseAsIs()) },
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		step, ok := steps[in.Text()]
		if n, err := fmt.Sscanf(in.Text(), "kill at %d", &left); err == nil && n == 1 {
			step, ok = func() (int, error) { return 0, nil }, true
		}
		if !ok {
			return fmt.Errorf("no step %q", in.Text())
		}
		var a answer
		var err error
		if a.Rows, err = step(); err != nil {
			a.Kinds, a.Text = kindsOf(err), err.Error()
		}
		if db != nil {
			a.Dead = kindsOf(db.Dead())
		}
		if err := json.NewEncoder(os.Stdout).Encode(a); err != nil {
			return err
		}
	}
	return in.Err()
}

// commitRows adds n rows behind the newest in one transaction.
func commitRows(c *Conn, n int) error {
	var newest int64
	if err := scanOne(c.db, &newest, "SELECT coalesce(max(id), 0) FROM t"); err != nil {
		return err
	}
	rows := make([][]any, n)
	for i := range rows {
		rows[i] = []any{newest + 1 + int64(i), fmt.Sprintf("row %x of %x", uint64(i+1)*0x9e3779b97f4a7c15, newest)}
	}
	if err := c.Begin(context.Background()); err != nil {
		return err
	}
	if err := c.Append("t", rows); err != nil {
		return errors.Join(err, c.Rollback())
	}
	return c.Commit()
}

func scanOne(db *DB, dest any, query string, args ...any) error {
	rows, err := db.Query(context.Background(), query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(dest); err != nil {
			return err
		}
	}
	return rows.Err()
}

// child is such a process.
type child struct {
	*exec.Cmd
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Scanner
}

// startChild starts one; prepare may change how, before it runs.
func startChild(t *testing.T, path string, prepare ...func(*exec.Cmd)) *child {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", path)
	cmd.Env = append(os.Environ(), childVariable+"=1")
	cmd.Stderr = os.Stderr
	for _, p := range prepare {
		p(cmd)
	}
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	c := &child{cmd, t, in, bufio.NewScanner(out)}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return c
}

// do takes a step. It fails the test if the process has gone.
func (c *child) do(step string) answer {
	c.t.Helper()
	a, ok := c.try(step)
	if !ok {
		c.t.Fatalf("%s: the process has gone: %v", step, c.Wait())
	}
	return a
}

func (c *child) try(step string) (a answer, ok bool) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in, step); err != nil {
		return a, false
	}
	if !c.out.Scan() {
		return a, false
	}
	must(c.t, json.Unmarshal(c.out.Bytes(), &a))
	return a, true
}

// all takes steps that must go well.
func (c *child) all(steps ...string) {
	c.t.Helper()
	for _, step := range steps {
		if a := c.do(step); a.Text != "" {
			c.t.Fatalf("%s: %s", step, a.Text)
		}
	}
}

// end lets the process end, which must be with 0.
func (c *child) end() {
	c.t.Helper()
	must(c.t, c.in.Close())
	must(c.t, c.Wait())
}

func (c *child) kill() {
	c.t.Helper()
	must(c.t, c.Process.Signal(syscall.SIGKILL))
	_ = c.Wait()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
