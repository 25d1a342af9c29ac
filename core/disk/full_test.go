package disk

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// Real faults: a limit on the size of files, which every machine has, and a
// small and then a read-only tmpfs, where a user namespace may be made.
func TestRealFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		mount bool
	}{{"limit", false}, {"tmpfs", true}, {"readonly", true}} {
		t.Run(c.name, func(t *testing.T) {
			cmd := child(c.name, t.TempDir())
			if c.mount {
				cmd.SysProcAttr = mountable()
			}
			var said bytes.Buffer
			cmd.Stderr = &said
			err := cmd.Run()
			var exit *exec.ExitError
			if c.mount && err != nil && (!errors.As(err, &exit) || strings.HasPrefix(said.String(), noMount)) {
				t.Logf("only the limit was tried: this machine lets nobody mount: %v %s", err, said.String())
				return
			}
			if err != nil {
				t.Fatalf("%v: %s", err, said.String())
			}
		})
	}
}

const noMount = "mount: "

func mountTmpfs(dir string) error {
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=4m"); err != nil {
		return fmt.Errorf(noMount+"%w", err)
	}
	return nil
}

func underLimit(args []string) error {
	signal.Ignore(syscall.SIGXFSZ)
	limit := &syscall.Rlimit{Cur: 1 << 20, Max: 1 << 20}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, limit); err != nil {
		return err
	}
	return tooMuch(args[0], syscall.EFBIG)
}

func onTmpfs(args []string) error {
	if err := mountTmpfs(args[0]); err != nil {
		return err
	}
	return errors.Join(tooMuch(args[0], syscall.ENOSPC), ballast(args[0]))
}

func onReadOnly(args []string) error {
	dir := args[0]
	if err := mountTmpfs(dir); err != nil {
		return err
	}
	path, f := filepath.Join(dir, "x"), &FS{}
	if err := f.WriteFile(path, []byte("old"), 0o600); err != nil {
		return err
	}
	if err := syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		return fmt.Errorf(noMount+"%w", err)
	}
	for what, err := range map[string]error{
		"write": f.WriteFile(path, []byte("new"), 0o600), "mkdir": f.MkdirAll(path+"/y", 0o700),
		"rename": f.Rename(path, path+"2"), "remove": f.RemoveAll(path),
	} {
		if !IsReadOnly(err) && !errors.Is(err, syscall.ENOTDIR) {
			return fmt.Errorf("%s: %v", what, err)
		}
	}
	_, err := OpenSpace(dir, 1, 1<<20)
	if !IsReadOnly(err) {
		return fmt.Errorf("ballast: %v", err)
	}
	return holds(path, "old")
}

func holds(path, content string) error {
	if text, err := os.ReadFile(path); err != nil || string(text) != content {
		return fmt.Errorf("%s holds %d bytes: %v", filepath.Base(path), len(text), err)
	}
	return nil
}

// tooMuch writes 8 MiB where there is no room for them.
func tooMuch(dir string, errno error) error {
	path, f := filepath.Join(dir, "x"), &FS{}
	large := filepath.Join(dir, "large")
	if err := f.WriteFile(path, []byte("old"), 0o600); err != nil {
		return err
	}
	for what, err := range map[string]error{
		"write":  f.WriteFile(path, make([]byte, 8<<20), 0o600),
		"create": f.CreateFile(large, make([]byte, 8<<20), 0o600),
		"copy":   f.CopyFile(large, "/proc/self/exe", 0o600),
	} {
		if !IsFull(err) || !errors.Is(err, errno) || strings.Contains(err.Error(), dir) {
			return fmt.Errorf("%s: %v", what, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		return fmt.Errorf("%v are left: %v", entries, err)
	}
	return holds(path, "old")
}

// ballast fills the 4 MiB past a minimum of 1 MiB, with a ballast of half of that, until nothing goes any more.
func ballast(dir string) error {
	s, err := OpenSpace(dir, 1<<20, 512<<10)
	if err != nil {
		return err
	}
	path, f := filepath.Join(dir, ballastFile), &FS{}
	there := func() bool { _, err := os.Lstat(path); return err == nil }
	if s.lowNow() || !there() {
		return errors.New("low, or no ballast, at first")
	}
	var fill []string
	write := func() error {
		name := filepath.Join(dir, fmt.Sprint("fill", len(fill)))
		err := f.CreateFile(name, make([]byte, 64<<10), 0o600)
		if err == nil {
			fill = append(fill, name)
		}
		return err
	}
	states := []string{}
	for err = write(); err == nil; err = write() {
		state := fmt.Sprintf("low %v, ballast %v", s.lowNow(), there())
		if len(states) == 0 || states[len(states)-1] != state {
			states = append(states, state)
		}
	}
	if !IsFull(err) {
		return err
	}
	for _, name := range fill {
		if err := f.RemoveAll(name); err != nil {
			return err
		}
		states = append(states, fmt.Sprintf("low %v, ballast %v", s.lowNow(), there()))
	}
	want := []string{"low false, ballast true", "low true, ballast true", "low true, ballast false", "low false, ballast true"}
	if got := slices.Compact(states); !slices.Equal(got, want) {
		return fmt.Errorf("the states are %q", got)
	}
	return nil
}
