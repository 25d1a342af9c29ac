package confine_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/eiderdb/eider/core/projectdb/confine"
)

// holds reports whether what an attempt is kept back by is there on this machine.
func holds(layer string, s confine.State) bool {
	return layer == "landlock" && s.Landlock.Holds || layer == "seccomp" && s.Seccomp.Holds ||
		layer == "either" && (s.Landlock.Holds || s.Seccomp.Holds)
}

func TestConfinedProcessCannot(t *testing.T) {
	for name, user := range users() {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, user)
			before := tree(t, filepath.Dir(s.Root))
			c, state := confined(t, s, user, confine.Limits{})
			for name, a := range attempts() {
				if !holds(a.layer, state) {
					t.Logf("not tried, for lack of %s: %s", a.layer, name)
					continue
				}
				if a := c.do("try", name); a.Error == "" {
					t.Errorf("%s: done", name)
				}
				if a := c.do("try on an old thread", name); a.Error == "" {
					t.Errorf("%s, on a thread that was there before: done", name)
				}
			}
			if after := tree(t, filepath.Dir(s.Root)); state.Confined() && after != before {
				t.Errorf("files have changed:\n%s\nwere:\n%s", after, before)
			}
			if stat, err := os.ReadFile(proc(s.Victim, "stat")); err != nil || strings.Contains(string(stat), ") Z ") {
				t.Errorf("the other process has ended: %s %v", stat, err)
			}
			c.ok("work", "write in db")
		})
	}
}

// The same without Apply: every attempt is one that works.
func TestUnconfinedProcessCan(t *testing.T) {
	for name, user := range users() {
		t.Run(name, func(t *testing.T) {
			c := startChild(t, scene{}, user)
			for name := range attempts() {
				c.scene = newScene(t, user)
				if a := c.do("try", name); a.Error != "" {
					t.Errorf("%s: %s", name, a.Error)
				}
			}
		})
	}
}

func TestConfinedProcessCannotCall(t *testing.T) {
	s := newScene(t, 0)
	free := startChild(t, s, 0)
	c, state := confined(t, s, 0, confine.Limits{})
	if !state.Seccomp.Holds {
		t.Log("not tried: this machine has no filter of system calls to test")
		return
	}
	hidden := map[string]bool{"clone3": true, "openat2": true}
	shown := 0
	for name := range rawCalls() {
		want := unix.EPERM
		if hidden[name] {
			want = unix.ENOSYS
		}
		if a := c.do("raw", name); a.Errno != int(want) {
			t.Errorf("%s: %q, want %v", name, a.Error, want)
		}
		// What a container refuses by itself shows nothing, but must not be all.
		if a := free.do("raw", name); a.Errno != int(want) {
			shown++
		} else {
			t.Logf("%s is refused without the filter too", name)
		}
	}
	if shown < len(rawCalls())/2 {
		t.Errorf("only %d of %d calls would have been answered otherwise without the filter", shown, len(rawCalls()))
	}
}

func TestConfinedProcessCanWork(t *testing.T) {
	for name, user := range users() {
		t.Run(name, func(t *testing.T) {
			c, _ := confined(t, newScene(t, user), user, confine.Limits{Memory: 1 << 30, FileSize: 1 << 20, Files: 64})
			go echo(c.peer)
			for name := range work() {
				if a := c.do("work", name); a.Error != "" {
					t.Errorf("%s: %s", name, a.Error)
				}
			}
		})
	}
}

func echo(f *os.File) {
	b := make([]byte, 64)
	for {
		n, err := f.Read(b)
		if err != nil {
			return
		}
		if _, err := f.Write(b[:n]); err != nil {
			return
		}
	}
}

func TestEveryThreadIsConfined(t *testing.T) {
	c := startChild(t, newScene(t, 0), 0)
	c.ok("open", ":memory:") // DuckDB's threads are there before
	state := c.apply(confine.Limits{Memory: 1 << 30})
	c.ok("query", "SELECT sum(a) FROM range(3000000) t(a)")
	tasks, err := filepath.Glob(proc(c.Process.Pid, "task/*/status"))
	must(t, err)
	if len(tasks) < 6 {
		t.Fatalf("only %d threads", len(tasks))
	}
	for _, path := range tasks {
		text, err := os.ReadFile(path)
		must(t, err)
		if state.NoNewPrivs.Holds && !strings.Contains(string(text), "NoNewPrivs:\t1") {
			t.Errorf("%s lacks no_new_privs", path)
		}
		if state.Seccomp.Holds && !strings.Contains(string(text), "Seccomp:\t2") {
			t.Errorf("%s lacks the filter", path)
		}
	}
	score, err := os.ReadFile(proc(c.Process.Pid, "oom_score_adj"))
	must(t, err)
	if n, err := strconv.Atoi(strings.TrimSpace(string(score))); state.OOMScore.Holds && (err != nil || n < 800) {
		t.Errorf("score %s", score)
	}
}

func TestSignalOfFileSizeIsIgnored(t *testing.T) {
	c, _ := confined(t, newScene(t, 0), 0, full)
	text, err := os.ReadFile(proc(c.Process.Pid, "status"))
	must(t, err)
	_, mask, _ := strings.Cut(string(text), "SigIgn:\t")
	mask, _, _ = strings.Cut(mask, "\n")
	if bits, err := strconv.ParseUint(mask, 16, 64); err != nil || bits&(1<<(unix.SIGXFSZ-1)) == 0 {
		t.Errorf("ignored signals are %q", mask)
	}
}

// The kernel drops entries of /proc that nobody has open, and the rules for them.
func TestFilesOfProcThatMayBeReadStayOpen(t *testing.T) {
	c, state := confined(t, newScene(t, 0), 0, confine.Limits{})
	if !state.Landlock.Holds {
		t.Log("there are no rules on this machine")
		return
	}
	links, err := filepath.Glob(proc(c.Process.Pid, "fd/*"))
	must(t, err)
	open := map[string]bool{}
	for _, link := range links {
		to, err := os.Readlink(link)
		must(t, err)
		open[to] = true
	}
	for _, path := range []string{"/proc/meminfo", proc(c.Process.Pid, "cgroup"), proc(c.Process.Pid, "statm")} {
		if !open[path] {
			t.Errorf("%s is not among the open files %v", path, open)
		}
	}
}

// What a container may lack is told with its reason, and the rest goes on.
func TestStateTellsWhatIsLacking(t *testing.T) {
	for _, c := range []struct {
		hide  string
		lacks []string
		why   string
	}{
		{"landlock", []string{"landlock", "tcp", "scopes"}, "not switched on"},
		{"landlock, built without", []string{"landlock", "tcp", "scopes"}, "built without"},
		{"seccomp", []string{"seccomp"}, "operation not permitted"},
		{"limits", []string{"memory", "file_size", "files", "core_dumps"}, "operation not permitted"},
	} {
		t.Run(c.hide, func(t *testing.T) {
			s := newScene(t, 0)
			all := startChild(t, s, 0).apply(full)
			child := startChild(t, s, 0)
			child.ok("hide", c.hide)
			state := child.apply(full)
			if state.Confined() {
				t.Error("called confined")
			}
			for i, l := range state.Layers() {
				lacks := false
				for _, name := range c.lacks {
					lacks = lacks || name == l.Name
				}
				if had := all.Layers()[i].Holds; l.Holds != (had && !lacks) {
					t.Errorf("%s holds: %v", l.Name, l.Holds)
				}
				if lacks && !strings.Contains(l.Why, c.why) {
					t.Errorf("%s: reason %q", l.Name, l.Why)
				}
			}
			for name, a := range attempts() {
				if !holds(a.layer, state) {
					continue // it would do what the next one finds undone
				}
				if got := child.do("try", name); got.Error == "" {
					t.Errorf("%s: done", name)
				}
			}
			child.ok("work", "write in db")
		})
	}
}

var full = confine.Limits{Memory: 1 << 30, FileSize: 1 << 20, Files: 64}

func TestLimitsThatMakeNoSenseAreRefused(t *testing.T) {
	s := newScene(t, 0)
	linked := t.TempDir()
	for _, name := range []string{"in", "out"} {
		must(t, os.Mkdir(filepath.Join(linked, name), 0o755))
	}
	must(t, os.Symlink(s.Outside, filepath.Join(linked, "db")))
	for name, l := range map[string]confine.Limits{
		"no folder":         {},
		"relative folder":   {Root: "project"},
		"folder without db": {Root: s.Outside},
		"db elsewhere":      {Root: linked},
		"negative memory":   {Root: s.Root, Memory: -1},
		"negative size":     {Root: s.Root, FileSize: -1},
		"endless memory":    {Root: s.Root, Memory: 1<<63 - 1},
	} {
		c := startChild(t, s, 0)
		if a := c.send(request{Do: "apply", Limits: l}); a.Error == "" {
			t.Errorf("%s: applied", name)
		}
	}
}
