package duck

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/eiderdb/eider/core/disk/faultshim"
)

var shim = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "duck-shim")
	if err != nil {
		return "", err
	}
	return faultshim.Build(dir)
})

// faulty starts a child whose files can be faulted, with a table of ten rows.
func faulty(t *testing.T, path string) (*child, *faultshim.Control) {
	t.Helper()
	library, err := shim()
	must(t, err)
	control, err := faultshim.New(t.TempDir())
	must(t, err)
	t.Cleanup(func() { must(t, control.Close()) })
	c := startChild(t, path, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, control.Env(library)...) })
	c.all("open", "create", "commit")
	return c, control
}

// rowsLeft opens the file in a process that has no faults.
func rowsLeft(t *testing.T, path string) int {
	t.Helper()
	db, err := Open(t.Context(), path, Options{})
	must(t, err)
	var n int
	must(t, scanOne(db, &n, "SELECT count(*) FROM t"))
	must(t, db.Close())
	return n
}

// Each fault is met at one step. What the instance has said durable is there
// afterwards, and what it has refused is not.
func TestFaultsOfTheDisk(t *testing.T) {
	type rule = faultshim.Rule
	const log, file = ".wal", "x.duckdb$"
	for _, c := range []struct {
		name  string
		rules []rule
		step  string
		kinds string
		dead  bool
		rows  int // after one more commit, where the instance lives
	}{
		{"log: no space", []rule{{Call: faultshim.Write, Path: log, Nth: 1, Errno: syscall.ENOSPC}}, "commit", "full", false, 20},
		{"log: no quota", []rule{{Call: faultshim.Write, Path: log, Nth: 1, Errno: syscall.EDQUOT}}, "commit", "full", false, 20},
		{"log: too large", []rule{{Call: faultshim.Write, Path: log, Nth: 1, Errno: syscall.EFBIG}}, "commit", "full", false, 20},
		{"log: bad disk", []rule{{Call: faultshim.Write, Path: log, Nth: 1, Errno: syscall.EIO}}, "commit", "io", false, 20},
		{"log: no space for all of it", []rule{{Call: faultshim.Write, Path: log, Nth: 1, Short: 10}, {Call: faultshim.Write, Path: log, Nth: 2, Errno: syscall.ENOSPC}}, "commit", "full", false, 20},
		{"log: no space in a large commit", []rule{{Call: faultshim.Write, Path: log, Nth: 20, Errno: syscall.ENOSPC}}, "large", "full", false, 20},
		{"log: short writes", []rule{{Call: faultshim.Write, Path: log, Short: 100}}, "commit", "", false, 30},
		{"log: fsync", []rule{{Call: faultshim.Fsync, Path: log, Nth: 1, Errno: syscall.EIO}}, "commit", "fatal sync", true, 10},
		{"log: fsync under an appender", []rule{{Call: faultshim.Fsync, Path: log, Nth: 1, Errno: syscall.EIO}}, "append", "fatal sync", true, 10},
		{"log: fsync without space", []rule{{Call: faultshim.Fsync, Path: log, Nth: 1, Errno: syscall.ENOSPC}}, "commit", "fatal sync", true, 10},
		{"log: fsync without quota", []rule{{Call: faultshim.Fsync, Path: log, Nth: 1, Errno: syscall.EDQUOT}}, "append", "fatal sync", true, 10},
		{"checkpoint: log's fsync", []rule{{Call: faultshim.Fsync, Path: log, Errno: syscall.EIO}}, "checkpoint", "fatal sync", true, 10},
		{"checkpoint: first fsync", []rule{{Call: faultshim.Fsync, Path: file, Nth: 1, Errno: syscall.EIO}}, "checkpoint", "fatal sync", true, 10},
		{"checkpoint: second fsync", []rule{{Call: faultshim.Fsync, Path: file, Nth: 2, Errno: syscall.EIO}}, "checkpoint", "fatal sync", true, 10},
		{"checkpoint: no space", []rule{{Call: faultshim.Pwrite, Path: file, Nth: 1, Errno: syscall.ENOSPC}}, "checkpoint", "fatal full", true, 10},
		{"checkpoint: no space in the log", []rule{{Call: faultshim.Write, Path: log, Nth: 1, Errno: syscall.ENOSPC}}, "checkpoint", "fatal full", true, 10},
		{"checkpoint: bad disk", []rule{{Call: faultshim.Pwrite, Path: file, Nth: 2, Errno: syscall.EIO}}, "checkpoint", "fatal io", true, 10},
		{"checkpoint: the log stays", []rule{{Call: faultshim.Unlink, Path: log, Errno: syscall.EIO}}, "checkpoint", "fatal io", true, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.duckdb")
			p, control := faulty(t, path)
			must(t, control.Arm(c.rules...))
			met := p.do(c.step)
			if met.Kinds != c.kinds || (met.Dead != "") != c.dead {
				t.Errorf("got %q, dead %q: %s", met.Kinds, met.Dead, met.Text)
			}
			if c.dead {
				refusesAll(t, p, control, c.kinds)
			} else {
				p.all("exec", "commit", "checkpoint", "close")
			}
			p.end()
			if n := rowsLeft(t, path); n != c.rows {
				t.Errorf("%d rows are left", n)
			}
		})
	}
}

// refusesAll checks that a retired instance answers at once, closes, and touches
// no file any more.
func refusesAll(t *testing.T, p *child, control *faultshim.Control, kinds string) {
	t.Helper()
	must(t, control.Arm())
	for _, step := range []string{"exec", "append", "count", "commit", "rollback", "checkpoint", "conn"} {
		if a := p.do(step); a.Kinds != kinds {
			t.Errorf("%s on the dead instance is %q: %s", step, a.Kinds, a.Text)
		}
	}
	p.all("close")
	calls, err := control.Calls()
	must(t, err)
	if len(calls) > 0 {
		t.Errorf("the dead instance still did %v", calls)
	}
}

// A process that is killed at any write of a commit or a checkpoint loses
// nothing that was acknowledged, and shows nothing half.
func TestKilledAtAnyCall(t *testing.T) {
	for _, step := range []string{"commit", "checkpoint"} {
		p, control := faulty(t, filepath.Join(t.TempDir(), "x.duckdb"))
		must(t, control.Arm())
		p.all(step)
		calls, err := control.Calls()
		must(t, err)
		p.kill()
		if len(calls) < 2 {
			t.Fatalf("%s: only the calls %v", step, calls)
		}
		for n := range calls {
			for _, done := range []bool{false, true} {
				path := filepath.Join(t.TempDir(), "x.duckdb")
				p, control := faulty(t, path)
				must(t, control.Arm(faultshim.Rule{Nth: n + 1, Kill: true, Done: done}))
				if _, alive := p.try(step); alive {
					t.Errorf("%s: not killed at %v", step, calls[n])
				}
				_ = p.Wait()
				if rows := rowsLeft(t, path); rows != 10 && (step != "commit" || rows != 20) {
					t.Errorf("%s killed at %v, done %v: %d rows", step, calls[n], done, rows)
				}
			}
		}
	}
}

// A full file system, by a limit on the size of files, which every machine has.
func TestFileSizeLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.duckdb")
	p := startChild(t, path, func(cmd *exec.Cmd) {
		cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", `trap '' XFSZ; ulimit -f 600; exec "$0" "$1"`, "/proc/self/exe", path}
		exe, err := os.Executable()
		must(t, err)
		cmd.Args[3] = exe
	})
	p.all("open", "create", "commit")
	if a := p.do("large"); a.Kinds != "full" || a.Dead != "" {
		t.Errorf("got %q, dead %q: %s", a.Kinds, a.Dead, a.Text)
	}
	p.all("commit")
	if a := p.do("count"); a.Rows != 20 {
		t.Errorf("%d rows", a.Rows)
	}
	p.all("close")
	p.end()
	if n := rowsLeft(t, path); n != 20 {
		t.Errorf("%d rows are left", n)
	}
}

// The instance survives a full and a read-only file system where one may be
// mounted.
func TestSmallFileSystem(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.duckdb")
	mount := `mount -t tmpfs -o size=3m none "$1" || exit 77; exec "$0" "$1/x.duckdb"`
	exe, err := os.Executable()
	must(t, err)
	p := startChild(t, path, func(cmd *exec.Cmd) {
		cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", mount, exe, dir}
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
	})
	if _, ok := p.try("open"); !ok {
		t.Logf("nobody may mount here, TestFileSizeLimit has to do: %v", p.Wait())
		return
	}
	p.all("create", "commit")
	full := p.do("large")
	for ; full.Text == ""; full = p.do("large") {
	}
	if full.Kinds != "full" || full.Dead != "" {
		t.Errorf("got %q, dead %q: %s", full.Kinds, full.Dead, full.Text)
	}
	p.all("count", "commit")
	// A checkpoint needs room beside the log. Without it the instance is lost, the
	// rows are not.
	before := p.do("count").Rows
	if a := p.do("checkpoint"); a.Kinds != "" && a.Kinds != "fatal full" {
		t.Errorf("checkpoint: %q: %s", a.Kinds, a.Text)
	}
	p.all("close", "open")
	if a := p.do("count"); a.Rows != before {
		t.Errorf("%d rows, %d before", a.Rows, before)
	}
	p.all("close")
	p.end()
}

func TestUnderstandsTheShim(t *testing.T) {
	p, control := faulty(t, filepath.Join(t.TempDir(), "x.duckdb"))
	must(t, control.Arm())
	p.all("commit", "checkpoint", "commit", "close")
	calls, err := control.Calls()
	must(t, err)
	var got []string
	for _, c := range calls {
		if text := c.String(); len(got) == 0 || got[len(got)-1] != text {
			got = append(got, text)
		}
	}
	want := "write x.duckdb.wal, fsync x.duckdb.wal, write x.duckdb.wal, fsync x.duckdb.wal, pwrite x.duckdb, fsync x.duckdb, " +
		"pwrite x.duckdb, fsync x.duckdb, unlink x.duckdb.wal, open x.duckdb.wal, write x.duckdb.wal, fsync x.duckdb.wal"
	if joined := strings.Join(got, ", "); !strings.HasPrefix(joined, want) {
		t.Errorf("the calls are %s", joined)
	}
}
