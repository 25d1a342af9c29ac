package confine_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/eiderdb/eider/core/projectdb/confine"
)

// This test binary as a child of itself is a worker that confines itself when it
// is told, and then tries things. What it tried is judged by its parent too.
const childVariable = "EIDER_CONFINE_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "" {
		os.Exit(m.Run())
	}
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// scene is what there is to be reached for, apart from the project's folder.
type scene struct {
	Root    string // the project's folder
	Other   string // that of another project
	Outside string // a folder that everybody may write to
	Parent  int    // the process that started this one
	Victim  int    // a process of the same user
	TCP     string // an address that answers
	Socket  string // a Unix socket that answers
}

// request is one step of a child.
type request struct {
	Do     string
	Arg    string
	Scene  scene
	Limits confine.Limits
}

type answer struct {
	Error string
	Errno int
	Text  string
	State confine.State
}

func serve() error {
	old := oldThread()
	d := &database{}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var r request
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			return err
		}
		a := r.answer(d, old)
		if err := json.NewEncoder(os.Stdout).Encode(a); err != nil {
			return err
		}
	}
	return in.Err()
}

func (r request) answer(d *database, old func(func() error) error) answer {
	var a answer
	var err error
	switch r.Do {
	case "apply":
		a.State, err = confine.Apply(r.Limits)
	case "hide":
		err = hide(r.Arg)
	case "try":
		err = attempts()[r.Arg].do(r.Scene)
	case "raw":
		err = raw(r.Arg)
	case "try on an old thread":
		err = old(func() error { return attempts()[r.Arg].do(r.Scene) })
	case "work":
		err = work()[r.Arg](r.Scene)
	case "open":
		err = d.open(r.Arg)
	case "query":
		a.Text, err = d.query(r.Arg)
	case "close":
		err = d.close()
	default:
		err = fmt.Errorf("no step %q", r.Do)
	}
	if err != nil {
		a.Error, a.Errno = err.Error(), errnoOf(err)
	}
	return a
}

// oldThread starts a thread before anything is confined, and returns how to run
// something on it.
func oldThread() func(func() error) error {
	in, out := make(chan func() error), make(chan error)
	go func() {
		runtime.LockOSThread()
		for f := range in {
			out <- f()
		}
	}()
	in <- func() error { return nil }
	<-out
	return func(f func() error) error {
		in <- f
		return <-out
	}
}

// child is such a process.
type child struct {
	*exec.Cmd
	t     *testing.T
	in    io.WriteCloser
	out   *bufio.Reader
	scene scene
	peer  *os.File // the other end of its socket, which is its file 3
}

// startChild starts one, as another user if that is not 0.
func startChild(t *testing.T, s scene, user int) *child {
	t.Helper()
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	must(t, err)
	theirs := os.NewFile(uintptr(ends[0]), "theirs")
	defer theirs.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{childVariable + "=1", "HOME=" + s.Outside, "SECRET=of the worker", "MALLOC_ARENA_MAX=2"}
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	if user != 0 {
		cmd.SysProcAttr = as(user)
	}
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	c := &child{cmd, t, in, bufio.NewReader(out), s, os.NewFile(uintptr(ends[1]), "ours")}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = c.peer.Close()
	})
	return c
}

// do takes a step. It fails the test if the process has gone.
func (c *child) do(do, arg string) answer { return c.send(request{Do: do, Arg: arg, Scene: c.scene}) }

func (c *child) send(r request) answer {
	c.t.Helper()
	must(c.t, json.NewEncoder(c.in).Encode(r))
	line, err := c.out.ReadBytes('\n')
	if err != nil {
		c.t.Fatalf("%s %s: the process has gone: %v", r.Do, r.Arg, c.Wait())
	}
	var a answer
	must(c.t, json.Unmarshal(line, &a))
	return a
}

// confined is a child that has confined itself. What does not hold here is
// printed, and what depends on it is not tried.
func confined(t *testing.T, s scene, user int, l confine.Limits) (*child, confine.State) {
	t.Helper()
	c := startChild(t, s, user)
	state := c.apply(l)
	expected(t, state)
	return c, state
}

// expected fails the test where the kernel has a thing that does not hold: what
// is left untried is left for its sake alone, not for that of a broken rule.
func expected(t *testing.T, s confine.State) {
	t.Helper()
	if s.LandlockABI > 0 && !s.Landlock.Holds {
		t.Errorf("the kernel has Landlock: %s", s.Landlock.Why)
	}
	action := uint32(unix.SECCOMP_RET_KILL_PROCESS)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	if errno == 0 && !s.Seccomp.Holds {
		t.Errorf("the kernel has seccomp: %s", s.Seccomp.Why)
	}
	for _, l := range []confine.Layer{s.NoNewPrivs, s.Files, s.CoreDumps, s.Undumpable} {
		if !l.Holds {
			t.Errorf("every kernel has this: %s", l.Why)
		}
	}
}

func (c *child) apply(l confine.Limits) confine.State {
	c.t.Helper()
	l.Root = c.scene.Root
	a := c.send(request{Do: "apply", Limits: l})
	if a.Error != "" {
		c.t.Fatalf("confine: %s", a.Error)
	}
	c.t.Log(a.State)
	return a.State
}

// ok takes a step that must go well.
func (c *child) ok(do, arg string) string {
	c.t.Helper()
	a := c.do(do, arg)
	if a.Error != "" {
		c.t.Fatalf("%s %s: %s", do, arg, a.Error)
	}
	return a.Text
}

// newProject makes a project's folder with a file in each of its folders.
func newProject(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"db", "in", "out"} {
		must(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
		write(t, filepath.Join(dir, name, "file"), secret)
	}
	write(t, filepath.Join(dir, "project.json"), secret)
	write(t, filepath.Join(dir, "lock"), "")
}

const secret = "what another must not see"

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
