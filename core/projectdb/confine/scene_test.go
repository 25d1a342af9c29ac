package confine_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/eiderdb/eider/core/projectdb/confine"
)

// nobody is a user without rights, for tests that run as root.
const nobody = 65534

// newScene makes a project, its neighbour, a process and addresses to be reached
// for, all of which belong to the user, where that is not 0.
func newScene(t *testing.T, user int) scene {
	t.Helper()
	top := t.TempDir()
	s := scene{Root: filepath.Join(top, "project"), Other: filepath.Join(top, "other"), Outside: filepath.Join(top, "outside"), Parent: os.Getpid()}
	newProject(t, s.Root)
	newProject(t, s.Other)
	must(t, os.Mkdir(s.Outside, 0o755))
	write(t, filepath.Join(s.Outside, "secret"), secret)
	must(t, os.Symlink(filepath.Join(s.Outside, "secret"), filepath.Join(s.Root, "db", "link")))
	program, err := os.ReadFile("/bin/true")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(s.Root, "db", "program"), program, 0o755))

	sleeper := exec.Command("/bin/sleep", "1000")
	if user != 0 {
		sleeper.SysProcAttr = as(user)
	}
	must(t, sleeper.Start())
	t.Cleanup(func() {
		_ = sleeper.Process.Kill()
		_ = sleeper.Wait()
	})
	s.Victim = sleeper.Process.Pid
	s.TCP, s.Socket = listen(t, "tcp", "127.0.0.1:0"), listen(t, "unix", filepath.Join(s.Outside, "s"))
	if user != 0 {
		give(t, top, user)
	}
	return s
}

// give makes the tree the user's, and lets him walk to it.
func give(t *testing.T, top string, user int) {
	t.Helper()
	must(t, filepath.WalkDir(top, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, user, user))
	}))
	for dir := filepath.Dir(top); len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o755))
	}
}

// listen answers every connection until the test ends.
func listen(t *testing.T, network, address string) string {
	t.Helper()
	l, err := net.Listen(network, address)
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "hello")
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}

// hide makes a part of the kernel unusable, as a container may.
func hide(what string) error {
	switch what {
	case "landlock":
		return confine.Refuse(unix.SYS_LANDLOCK_CREATE_RULESET, unix.EOPNOTSUPP)
	case "landlock, built without":
		return confine.Refuse(unix.SYS_LANDLOCK_CREATE_RULESET, unix.ENOSYS)
	case "seccomp":
		return confine.Refuse(unix.SYS_SECCOMP, unix.EPERM)
	case "limits":
		return confine.Refuse(unix.SYS_PRLIMIT64, unix.EPERM)
	}
	return errors.New("cannot hide " + what)
}

func errnoOf(err error) int {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return int(errno)
	}
	return 0
}

func as(user int) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(user), Gid: uint32(user)}}
}

// users are those to try things as: this one, and one without rights.
func users() map[string]int {
	if os.Getuid() != 0 {
		return map[string]int{"user": 0}
	}
	return map[string]int{"root": 0, "user": nobody}
}

// tree tells all that there is below a folder.
func tree(t *testing.T, top string) string {
	t.Helper()
	var all strings.Builder
	must(t, filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&all, "%s %s %d:%d %d %d", path, info.Mode(), st.Uid, st.Gid, st.Nlink, st.Mtim.Sec)
		if info.Mode().IsRegular() {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&all, " %x", sha256.Sum256(text))
		}
		fmt.Fprintln(&all)
		return nil
	}))
	return all.String()
}
