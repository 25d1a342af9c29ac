package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/disk/faultshim"
	"golang.org/x/sys/unix"
)

// terminal opens a pseudo-terminal: its end for a person, and that for a process.
func terminal(t *testing.T) (person, process *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	mustDo(t, err)
	t.Cleanup(func() { person.Close() })
	mustDo(t, unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	mustDo(t, err)
	process, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	mustDo(t, err)
	t.Cleanup(func() { process.Close() })
	return person, process
}

// firstStart starts a server without a root key in the settings until it serves,
// stops it, and returns its log.
func firstStart(t *testing.T, dir string, stderr *os.File) string {
	t.Helper()
	return stoppedOnce(t, dir, stderr, nil, "the server serves", func(log string) bool { return strings.Contains(log, "eider serves") })
}

// stoppedOnce starts a server, tells it to stop once ok holds of its log or whatever else,
// waits for its end, and returns the log.
func stoppedOnce(t *testing.T, dir string, stderr *os.File, environ []string, what string, ok func(log string) bool) string {
	t.Helper()
	exe, err := os.Executable()
	mustDo(t, err)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	mustDo(t, err)
	defer log.Close()
	c := exec.Command(exe, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0")
	c.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "EIDER_") })
	c.Env = append(c.Env, "EIDER_TEST_AS_COMMAND=1", "EIDER_STORAGE_MIN_FREE=1MiB", "EIDER_STORAGE_BALLAST=0")
	c.Env = append(c.Env, environ...)
	c.Stdout, c.Stderr = log, stderr
	mustDo(t, c.Start())
	defer c.Process.Kill()
	said := func() string {
		text, err := os.ReadFile(log.Name())
		mustDo(t, err)
		return string(text)
	}
	apptest.Eventually(t, what, func() bool { return ok(said()) })
	mustDo(t, c.Process.Signal(syscall.SIGTERM))
	mustDo(t, c.Wait())
	return said()
}

func rootKeyIn(t *testing.T, dir string) string {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, "root.key"))
	mustDo(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("root.key has mode %v", info.Mode())
	}
	text, err := os.ReadFile(filepath.Join(dir, "root.key"))
	mustDo(t, err)
	key, _, _ := strings.Cut(string(text), "\n")
	return key
}

// The root key is made at the first start. The log, which may be sent anywhere,
// names its file only; a person at a terminal is shown it, once.
func TestRootKeyIsMadeAtTheFirstStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	plain, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	mustDo(t, err)
	log := firstStart(t, dir, plain)
	key := rootKeyIn(t, dir)
	if !strings.Contains(log, `"msg":"a root key was made","file":"`+filepath.Join(dir, "root.key")+`"`) {
		t.Errorf("the log does not name the file: %s", log)
	}
	said, err := os.ReadFile(plain.Name())
	mustDo(t, err)
	if strings.Contains(log+string(said), key) {
		t.Error("the key is shown where nobody reads it")
	}
	mustDo(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		mustDo(t, err)
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("others may look at %s: %v", path, info.Mode())
		}
		return err
	}))
	if log := firstStart(t, dir, plain); strings.Contains(log, "root key was made") || rootKeyIn(t, dir) != key {
		t.Error("the second start made another key")
	}
}

func TestRootKeyIsShownOnATerminalOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	person, process := terminal(t)
	log := firstStart(t, dir, process)
	key := rootKeyIn(t, dir)
	firstStart(t, dir, process)
	fmt.Fprintln(process, "that is all")
	var shown strings.Builder
	for !strings.Contains(shown.String(), "that is all") {
		b := make([]byte, 4096)
		n, err := person.Read(b)
		mustDo(t, err)
		shown.Write(b[:n])
	}
	if n := strings.Count(shown.String(), key); n != 1 || strings.Contains(log, key) {
		t.Errorf("it is shown %d times on the terminal: %s", n, shown.String())
	}
}

func TestKeyCreateRootReplacesTheKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	s, err := startHere(t, dir)
	mustDo(t, err)
	old := s.Root
	replace := func(from string) string {
		t.Helper()
		r := runEider(t, "key", "create", "--root", "--data-dir", dir, "EIDER_AUTH_ROOT_KEY=")
		fresh := strings.TrimSpace(r.out)
		if r.code != 0 || !strings.Contains(r.message, from) || !strings.Contains(r.message, filepath.Join(dir, "root.key")) || fresh != rootKeyIn(t, dir) {
			t.Errorf("it ended with %d: %s%s", r.code, r.out, r.message)
		}
		return fresh
	}
	fresh := replace("asking the server that runs on")
	s.Want(401, old, "GET /projects", "")
	s.Want(200, fresh, "GET /projects", "")
	s.Stop()
	last := replace("no server runs on")
	s, err = startHere(t, dir)
	mustDo(t, err)
	defer s.Stop()
	s.Want(401, fresh, "GET /projects", "")
	if rows := s.Want(200, last, "GET /operations?operation=create_root_key", "").List("operations"); len(rows) != 2 {
		t.Errorf("%d rows tell of the keys", len(rows))
	}
}

// A first start that meets a full disk or is killed, at whatever call of DuckDB,
// leaves nothing in the way of the second.
func TestFirstStartIsRepeatable(t *testing.T) {
	library, err := faultshim.Build(t.TempDir())
	mustDo(t, err)
	run := func(rules ...faultshim.Rule) (string, ended, []faultshim.Call) {
		control, err := faultshim.New(t.TempDir())
		mustDo(t, err)
		defer control.Close()
		mustDo(t, control.Arm(rules...))
		dir := filepath.Join(t.TempDir(), "d")
		l := filepath.Join(t.TempDir(), "taken") // the last step of a start fails, and ends it
		mustDo(t, os.WriteFile(l, nil, 0o600))
		r := runEider(t, append(control.Env(library), "serve", "--data-dir", dir, "--listen", "unix:"+l)...)
		calls, err := control.Calls()
		mustDo(t, err)
		return dir, r, faultshim.Of(calls, "", "metadata")
	}
	_, _, calls := run()
	if len(calls) < 10 {
		t.Fatalf("only the calls %v", calls)
	}
	for n := 1; n <= len(calls); n += max(1, len(calls)/9) {
		for name, rule := range map[string]faultshim.Rule{
			"full":   {Path: "metadata", Nth: n, Errno: syscall.ENOSPC},
			"killed": {Path: "metadata", Nth: n, Kill: true},
		} {
			if name == "full" && calls[n-1].Kind == faultshim.Truncate {
				continue // needs no room; where it fails DuckDB ends the process
			}
			dir, r, _ := run(rule)
			what := fmt.Sprintf("%s at call %d of %d, %v", name, n, len(calls), calls[n-1])
			if name == "full" && r.code != 5 && r.code != 12 && !strings.Contains(r.message, "not a socket") {
				t.Errorf("%s: it ended with %d: %.500s", what, r.code, r.message)
			}
			s, err := startHere(t, dir)
			if err != nil {
				t.Errorf("%s: the second start: %v", what, err)
				continue
			}
			s.Stop()
		}
	}
}
