package faultshim

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var compiled = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "faultshim")
	if err != nil {
		return "", err
	}
	if _, err := Build(dir); err != nil {
		return dir, err
	}
	said, err := exec.Command("cc", "-O2", "-D_FORTIFY_SOURCE=2", "-D_FILE_OFFSET_BITS=64", "-o",
		filepath.Join(dir, "driver"), "testdata/driver.c").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("compile the driver: %w: %s", err, said)
	}
	return dir, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := compiled(); dir != "" {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// driver is a process that does single calls, in a folder of its own.
type driver struct {
	t   *testing.T
	dir string
	cmd *exec.Cmd
	in  *bufio.Writer
	out *bufio.Reader
}

func start(t *testing.T, c *Control, dir string) *driver {
	t.Helper()
	built, err := compiled()
	must(t, err)
	d := &driver{t: t, dir: dir, cmd: exec.Command(filepath.Join(built, "driver"))}
	d.cmd.Dir, d.cmd.Stderr = dir, os.Stderr
	d.cmd.Env = append(os.Environ(), c.Env(filepath.Join(built, "faultshim.so"))...)
	in, err := d.cmd.StdinPipe()
	must(t, err)
	out, err := d.cmd.StdoutPipe()
	must(t, err)
	d.in, d.out = bufio.NewWriter(in), bufio.NewReader(out)
	must(t, d.cmd.Start())
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		_ = d.cmd.Wait()
	})
	return d
}

func (d *driver) ask(line string) {
	d.t.Helper()
	fmt.Fprintln(d.in, line)
	must(d.t, d.in.Flush())
}

// do returns the result and errno, or "gone".
func (d *driver) do(line string) string {
	d.t.Helper()
	d.ask(line)
	answer, err := d.out.ReadString('\n')
	if err != nil {
		return "gone"
	}
	return strings.TrimSpace(answer)
}

func (d *driver) all(lines ...string) {
	d.t.Helper()
	for _, line := range lines {
		if answer := d.do(line); strings.HasPrefix(answer, "-1") || answer == "gone" {
			d.t.Fatalf("%s: %s", line, answer)
		}
	}
}

func (d *driver) content(name string) string {
	d.t.Helper()
	text, err := os.ReadFile(filepath.Join(d.dir, name))
	must(d.t, err)
	return string(text)
}

func control(t *testing.T) *Control {
	t.Helper()
	c, err := New(t.TempDir())
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func texts(t *testing.T, c *Control) []string {
	t.Helper()
	calls, err := c.Calls()
	must(t, err)
	var all []string
	for _, call := range calls {
		all = append(all, call.String())
	}
	return all
}

// Each call by each of its names: without a rule it does what it should and is
// listed, with one it fails and does nothing.
func TestEachCallIsSeenAndCanFail(t *testing.T) {
	for _, c := range []struct {
		line, good, text string
		kind             Kind
		touches          bool // the content of f, which is "0123456789"
	}{
		{"open f", "0 0", "open f", Open, false},
		{"openat f", "0 0", "open f", Open, false},
		{"reopen f", "0 0", "open f", Open, false},
		{"creat f", "0 0", "open f", Open, true},
		{"write abc", "3 0", "write f", Write, true},
		{"writev ab c", "3 0", "write f", Write, true},
		{"pwrite abc 4", "3 0", "pwrite f", Pwrite, true},
		{"pwritev ab c", "3 0", "pwrite f", Pwrite, true},
		{"fsync", "0 0", "fsync f", Fsync, false},
		{"fdatasync", "0 0", "fdatasync f", Fdatasync, false},
		{"ftruncate 3", "0 0", "truncate f", Truncate, true},
		{"fallocate 64", "0 0", "fallocate f", Fallocate, true},
		{"posix_fallocate 64", "0 0", "fallocate f", Fallocate, true},
		{"rename g f", "0 0", "rename g -> f", Rename, true},
		{"renameat g f", "0 0", "rename g -> f", Rename, true},
		{"unlink g", "0 0", "unlink g", Unlink, false},
		{"unlinkat g", "0 0", "unlink g", Unlink, false},
		{"remove g", "0 0", "unlink g", Unlink, false},
	} {
		t.Run(c.line, func(t *testing.T) {
			faults := control(t)
			d := start(t, faults, t.TempDir())
			prepare := func() {
				must(t, faults.Arm())
				must(t, os.WriteFile(filepath.Join(d.dir, "g"), []byte("g"), 0o600))
				must(t, os.WriteFile(filepath.Join(d.dir, "f"), []byte("0123456789"), 0o600))
				d.all("open f")
			}
			prepare()
			must(t, faults.Arm(Rule{Call: c.kind, Errno: syscall.EIO}))
			if got := d.do(c.line); got != "-1 5" {
				t.Errorf("with a fault it answers %q", got)
			}
			if got, want := texts(t, faults), c.text+": input/output error"; !slices.Equal(got, []string{want}) {
				t.Errorf("with a fault the calls are %q", got)
			}
			if d.content("f") != "0123456789" || d.content("g") != "g" {
				t.Errorf("with a fault the files hold %q and %q", d.content("f"), d.content("g"))
			}
			prepare()
			must(t, faults.Arm())
			if got := d.do(c.line); got != c.good {
				t.Errorf("it answers %q", got)
			}
			if got := texts(t, faults); !slices.Equal(got, []string{c.text}) {
				t.Errorf("the calls are %q", got)
			}
			if touched := d.content("f") != "0123456789"; touched != c.touches {
				t.Errorf("the file holds %q", d.content("f"))
			}
		})
	}
}

func TestEffects(t *testing.T) {
	for _, c := range []struct {
		name, line, answer, content string
		rule                        Rule
	}{
		{"short", "write abcdef", "4 0", "abcd", Rule{Call: Write, Short: 4}},
		{"short of no more", "write abc", "3 0", "abc", Rule{Call: Write, Short: 4}},
		{"short pwrite", "pwrite abcdef 1", "4 0", "\x00abcd", Rule{Call: Pwrite, Short: 4}},
		{"short vector", "writev ab cd", "1 0", "a", Rule{Call: Write, Short: 1}},
		{"short, an error too", "write abcdef", "-1 28", "abcd", Rule{Call: Write, Short: 4, Errno: syscall.ENOSPC}},
		{"short and dead", "write abcdef", "gone", "abcd", Rule{Call: Write, Short: 4, Kill: true}},
		{"dead", "write abcdef", "gone", "", Rule{Call: Write, Kill: true}},
		{"done and dead", "write abcdef", "gone", "abcdef", Rule{Call: Write, Done: true, Kill: true}},
		{"done, an error all the same", "write abcdef", "-1 5", "abcdef", Rule{Call: Write, Done: true, Errno: syscall.EIO}},
		{"late", "write abcdef", "6 0", "abcdef", Rule{Call: Write, Delay: time.Millisecond}},
		{"late and wrong", "write abcdef", "-1 5", "", Rule{Call: Write, Delay: time.Millisecond, Errno: syscall.EIO}},
		{"another call", "write abcdef", "6 0", "abcdef", Rule{Call: Pwrite, Errno: syscall.EIO}},
		{"any call", "write abcdef", "-1 5", "", Rule{Errno: syscall.EIO}},
		{"another file", "write abcdef", "6 0", "abcdef", Rule{Path: "data.duckdb.wal", Errno: syscall.EIO}},
		{"a part of the path", "write abcdef", "-1 5", "", Rule{Path: "data.", Errno: syscall.EIO}},
		{"the end of the path", "write abcdef", "-1 5", "", Rule{Path: "/data.duckdb$", Errno: syscall.EIO}},
		{"not its end", "write abcdef", "6 0", "abcdef", Rule{Path: "/data$", Errno: syscall.EIO}},
		{"no effect", "write abcdef", "6 0", "abcdef", Rule{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			faults := control(t)
			d := start(t, faults, t.TempDir())
			d.all("open data.duckdb")
			must(t, faults.Arm(c.rule))
			if got := d.do(c.line); got != c.answer {
				t.Errorf("it answers %q", got)
			}
			if got := d.content("data.duckdb"); got != c.content {
				t.Errorf("the file holds %q", got)
			}
			calls, err := faults.Calls()
			must(t, err)
			if len(calls) != 1 || calls[0].Killed != c.rule.Kill || calls[0].PID != d.cmd.Process.Pid {
				t.Errorf("the calls are %+v", calls)
			}
		})
	}
}

func TestRulesCountFromArmOn(t *testing.T) {
	eio, full := syscall.EIO, syscall.ENOSPC
	for _, c := range []struct {
		name  string
		rules []Rule
		want  string // of five fsyncs
	}{
		{"none", nil, "....."},
		{"each", []Rule{{Errno: eio}}, "55555"},
		{"the first", []Rule{{Nth: 1, Errno: eio}}, "5...."},
		{"the third", []Rule{{Nth: 3, Errno: eio}}, "..5.."},
		{"from the third on", []Rule{{Nth: 3, Onward: true, Errno: eio}}, "..555"},
		{"the first rule that is due", []Rule{{Nth: 2, Errno: eio}, {Nth: 2, Onward: true, Errno: full}}, ".5888"},
		{"others count on", []Rule{{Call: Write, Errno: eio}, {Nth: 5, Errno: full}}, "....8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			faults := control(t)
			d := start(t, faults, t.TempDir())
			d.all("open f", "fsync", "fsync")
			for range 2 { // arming again starts anew, in the process that runs
				must(t, faults.Arm(c.rules...))
				got := ""
				for range 5 {
					answer := d.do("fsync")
					if answer == "0 0" {
						answer = "."
					}
					got += answer[len(answer)-1:]
				}
				if got != c.want {
					t.Errorf("the answers are %s, not %s", got, c.want)
				}
			}
		})
	}
}

// The process that comes after one that was killed is not killed again: counts
// are the test's, not the process's.
func TestCountsGoOnInTheNextProcess(t *testing.T) {
	faults, dir := control(t), t.TempDir()
	must(t, faults.Arm(Rule{Call: Fsync, Path: "/f$", Nth: 2, Kill: true}))
	first := start(t, faults, dir)
	first.all("open f", "fsync")
	if got := first.do("fsync"); got != "gone" {
		t.Fatalf("it answers %q", got)
	}
	second := start(t, faults, dir)
	second.all("open f", "fsync", "fsync")
	calls, err := faults.Calls()
	must(t, err)
	var got []string
	for i, call := range Of(calls, Fsync, "/f$") {
		got = append(got, fmt.Sprintf("%d %v %v", i+1, call.PID == first.cmd.Process.Pid, call.Killed))
	}
	if want := []string{"1 true false", "2 true true", "3 false false", "4 false false"}; !slices.Equal(got, want) {
		t.Errorf("the fsyncs are %q", got)
	}
}

// What a test of an operation does: list its calls, then kill it in each.
func TestEachPointOfAnOperation(t *testing.T) {
	operation := []string{"open x.new", "write new", "fsync", "rename x.new x"}
	faults := control(t)
	must(t, faults.Arm())
	start(t, faults, t.TempDir()).all(operation...)
	want := []string{"open x.new", "write x.new", "fsync x.new", "rename x.new -> x"}
	if got := texts(t, faults); !slices.Equal(got, want) {
		t.Fatalf("the calls are %q", got)
	}
	for n := range want {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "x"), []byte("old"), 0o600))
		must(t, faults.Arm(Rule{Nth: n + 1, Kill: true}))
		d := start(t, faults, dir)
		for i, line := range operation {
			if got := d.do(line); (got == "gone") != (i >= n) {
				t.Fatalf("killed at %d, step %d answers %q", n, i, got)
			}
			if i == n {
				break
			}
		}
		if got := d.content("x"); got != "old" {
			t.Errorf("killed before %s: the file holds %q", want[n], got)
		}
	}
}

func TestDelayedCallHoldsItsProcessOnly(t *testing.T) {
	faults := control(t)
	must(t, faults.Arm(Rule{Path: "/slow$", Call: Fsync, Delay: time.Hour}))
	slow, other := start(t, faults, t.TempDir()), start(t, faults, t.TempDir())
	slow.all("open slow")
	other.all("open other")
	slow.ask("fsync")
	for begun := uint64(0); begun < 3; runtime.Gosched() { // two opens and the fsync
		head := make([]byte, 8)
		_, err := faults.file.ReadAt(head, 8)
		must(t, err)
		begun = binary.NativeEndian.Uint64(head)
	}
	other.all("fsync", "write x")
	if got := texts(t, faults); !slices.Equal(got, []string{"open slow", "open other", "fsync other", "write other"}) {
		t.Errorf("the calls are %q", got)
	}
}

// The library must go on when a worker has closed what it inherited, and may
// make no large file.
func TestClosedDescriptorsAndLimitsDoNotMatter(t *testing.T) {
	built, err := compiled()
	must(t, err)
	faults, dir := control(t), t.TempDir()
	must(t, faults.Arm(Rule{Path: "/f$", Call: Write, Nth: 2, Errno: syscall.EIO}))
	cmd := exec.Command("/bin/sh", "-c", "ulimit -f 1; exec 3>&- 4>&- 5>&-; exec "+filepath.Join(built, "driver"))
	cmd.Dir, cmd.Env = dir, append(os.Environ(), faults.Env(filepath.Join(built, "faultshim.so"))...)
	cmd.Stdin = strings.NewReader("open f\nwrite a\nwrite b\nwrite c\n")
	out, err := cmd.Output()
	must(t, err)
	if got := string(out); got != "0 0\n1 0\n-1 5\n1 0\n" {
		t.Errorf("it answers %q", got)
	}
	calls, err := faults.Calls()
	must(t, err)
	if got := Of(calls, Write, "/f$"); len(got) != 3 {
		t.Errorf("the writes are %+v", got)
	}
}

func TestManyProcessesShareOneList(t *testing.T) {
	faults := control(t)
	must(t, faults.Arm(Rule{Call: Write, Nth: 100, Errno: syscall.EIO}))
	var wait sync.WaitGroup
	refused := make(chan string, 400)
	for range 4 {
		d := start(t, faults, t.TempDir())
		d.all("open f")
		wait.Go(func() {
			for range 100 {
				if got := d.do("write x"); got != "1 0" {
					refused <- got
				}
			}
		})
	}
	wait.Wait()
	if n := len(refused); n != 1 {
		t.Errorf("%d writes were refused", n)
	}
	calls, err := faults.Calls()
	must(t, err)
	if got := len(Of(calls, Write, "")); got != 400 {
		t.Errorf("%d writes are listed", got)
	}
	for i, call := range calls {
		if call.N != i+1 {
			t.Fatalf("call %d has the number %d", i+1, call.N)
		}
	}
}

func TestUselessRulesAreRefused(t *testing.T) {
	faults := control(t)
	for name, rules := range map[string][]Rule{
		"long path": {{Path: strings.Repeat("x", 256)}},
		"long kind": {{Call: Kind(strings.Repeat("x", 32))}},
		"negative":  {{Nth: -1}},
		"many":      make([]Rule, 33),
	} {
		if faults.Arm(rules...) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestProcessWithoutItsControlDoesNotRun(t *testing.T) {
	built, err := compiled()
	must(t, err)
	cmd := exec.Command(filepath.Join(built, "driver"))
	cmd.Env = []string{"LD_PRELOAD=" + filepath.Join(built, "faultshim.so"), "EIDER_FAULTS=" + filepath.Join(t.TempDir(), "none")}
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 126 {
		t.Errorf("got %v", err)
	}
}

func TestOverlongListIsAnError(t *testing.T) {
	faults := control(t)
	_, err := faults.file.WriteAt(binary.NativeEndian.AppendUint64(nil, logSize+1), usedAt)
	must(t, err)
	if _, err := faults.Calls(); err == nil {
		t.Error("read")
	}
	must(t, faults.Arm())
	if calls, err := faults.Calls(); err != nil || len(calls) != 0 {
		t.Errorf("after Arm: %v, %v", calls, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("1 2 write 3 4 5 -1 . /a")
	f.Add("1 2 rename 0 0 0 0 ! /a\t/b")
	f.Fuzz(func(t *testing.T, line string) {
		if call, ok := parse(line); ok && call.Path == "" && call.To != "" && !strings.Contains(line, "\t") {
			t.Errorf("%q is %+v", line, call)
		}
	})
}
