package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// refusedBy fails the test unless the lock is held and names the process.
func refusedBy(t *testing.T, path string, pid int) {
	t.Helper()
	l, err := Lock(path)
	if err == nil {
		l.Unlock()
	}
	var held *LockedError
	if !errors.Is(err, ErrLocked) || !errors.As(err, &held) || held.PID != pid {
		t.Fatalf("got %v, not a lock of process %d", err, pid)
	}
}

func free(t *testing.T, path string) {
	t.Helper()
	l, err := Lock(path)
	must(t, err)
	must(t, l.Unlock())
}

func TestLockIsHeldOnceAndNamesItsProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := Lock(path)
	must(t, err)
	refusedBy(t, path, os.Getpid())
	refusedBy(t, path, os.Getpid())
	must(t, l.Unlock())
	free(t, path)
}

func TestLockEndsWithItsProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	write(t, path, strings.Repeat("9", 40)) // longer than any process id
	c := hold(t, child("lock", path))
	refusedBy(t, path, c.Process.Pid)
	must(t, c.Process.Kill())
	_ = c.Wait()
	free(t, path)
}

func TestInheritedLockOutlivesUnlock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := Lock(path)
	must(t, err)
	heir := child("inherit")
	heir.ExtraFiles = []*os.File{l.File()}
	c := hold(t, heir)
	must(t, l.Unlock())
	refusedBy(t, path, os.Getpid())
	c.end(t)
	free(t, path)
}

func TestChildDoesNotInheritTheLockUnasked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := Lock(path)
	must(t, err)
	c := hold(t, child("inherit"))
	must(t, l.Unlock())
	free(t, path)
	c.end(t)
}

// A child between fork and exec has the lock's descriptor for a moment.
func TestLockIsFreeOnceUnlockReturnsWhileOthersFork(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	done, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(done)
		for range 60 {
			c := child("exit")
			if err := c.Start(); err != nil {
				failed <- err
				return
			}
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	}()
	for n := 0; ; n++ {
		l, err := Lock(path)
		if err != nil {
			t.Fatalf("after %d times: %v", n, err)
		}
		must(t, l.Unlock())
		select {
		case <-done:
			select {
			case err := <-failed:
				t.Fatal(err)
			default:
				return
			}
		default:
		}
	}
}

func TestLockOfUnknownHolder(t *testing.T) {
	for _, text := range []string{"", "x", "-", "1 2", strings.Repeat("1", 4000), "\x00\xff"} {
		path := filepath.Join(t.TempDir(), "lock")
		l, err := Lock(path)
		must(t, err)
		write(t, path, text)
		refusedBy(t, path, 0)
		must(t, l.Unlock())
	}
	for pid, text := range map[int]string{0: "locked by another process", 7: "locked by another process (process 7)"} {
		if got := fmt.Sprint(&LockedError{PID: pid}); got != text {
			t.Errorf("the text is %q", got)
		}
	}
}

func TestLockThatCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	_, err := Lock(filepath.Join(dir, "none", "lock"))
	if !errors.Is(err, syscall.ENOENT) || err.Error() != "open lock: no such file or directory" {
		t.Errorf("got %v", err)
	}
	if _, err := Lock(dir); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("of a folder: %v", err)
	}
}
