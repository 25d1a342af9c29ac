package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ErrLocked says that another process holds a lock. See LockedError.
var ErrLocked = errors.New("locked by another process")

// LockedError names who took a lock, as far as the file tells. If that process
// is gone, a child that inherited the lock still holds it.
type LockedError struct{ PID int }

// Error is a sentence for an operator.
func (e *LockedError) Error() string {
	if e.PID == 0 {
		return ErrLocked.Error()
	}
	return fmt.Sprintf("%v (process %d)", ErrLocked, e.PID)
}

// Unwrap returns ErrLocked.
func (e *LockedError) Unwrap() error { return ErrLocked }

// FileLock is a held lock. It ends with its process, whatever happens to that,
// unless a child inherited it: then it ends with the last of them.
type FileLock struct {
	file   *os.File
	shared bool // with a child
}

// Lock takes the lock of a file (flock), which is made if it does not exist, and
// writes this process's id into it. It never waits: a lock that is held is a
// LockedError.
func Lock(path string) (*FileLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", filepath.Base(path), errors.Unwrap(asPathError(err)))
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, &LockedError{PID: readPID(f)}
		}
		return nil, errors.Join(fmt.Errorf("flock %s: %w", filepath.Base(path), err), f.Close())
	}
	// Who holds it is for messages only; a full disk must not keep the lock away.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return &FileLock{file: f}, nil
}

func readPID(f *os.File) int {
	text, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}

// File is the locked file, for exec.Cmd.ExtraFiles: a child that gets it holds
// the lock too, after Unlock as well, until it ends or closes it.
func (l *FileLock) File() *os.File {
	l.shared = true
	return l.file
}

// Unlock gives the lock back: it is free on return, unless File was asked for and
// a child may hold it.
func (l *FileLock) Unlock() error {
	var err error
	if !l.shared {
		// Closing alone does not do: any child that is being started has every
		// descriptor until its exec has closed them, and the lock with it. With an
		// heir it must do, for this ends the lock for all who hold it.
		err = syscall.Flock(int(l.file.Fd()), syscall.LOCK_UN)
	}
	return errors.Join(err, l.file.Close())
}
