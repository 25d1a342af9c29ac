package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ballastFile holds room that is given back when the disk is nearly full, so
// that deletes and their log rows can go on.
const ballastFile = ".ballast"

// spaceEvery is how old the answer of Low may be.
const spaceEvery = 250 * time.Millisecond

// Space watches the free space below a folder.
type Space struct {
	dir     string
	minFree int64
	ballast int64

	mu      sync.Mutex
	checked time.Time
	low     bool
}

// OpenSpace watches the file system of dir, and makes the ballast there if there
// is room for it. Sizes are bytes; a ballast of 0 is none.
func OpenSpace(dir string, minFree, ballast int64) (*Space, error) {
	s := &Space{dir: dir, minFree: minFree, ballast: ballast}
	if _, err := s.Free(); err != nil {
		return nil, err
	}
	return s, s.Restore()
}

// Free returns the bytes that may still be written.
func (s *Space) Free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return 0, fmt.Errorf("ask for free space: %w", err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// Low reports whether less than the minimum is free. The answer may be a quarter
// of a second old. When the disk gets low, the ballast is given back.
func (s *Space) Low() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.checked) < spaceEvery {
		return s.low
	}
	s.checked = time.Now()
	free, err := s.Free()
	if err != nil {
		return s.low
	}
	low := free < s.minFree
	if low && !s.low {
		_ = s.release()
	}
	s.low = low
	return low
}

func (s *Space) path() string { return filepath.Join(s.dir, ballastFile) }

func (s *Space) release() error {
	err := os.Remove(s.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Restore makes the ballast again where there is room for it above the minimum.
func (s *Space) Restore() error {
	if s.ballast == 0 {
		return s.release()
	}
	if info, err := os.Stat(s.path()); err == nil && info.Size() == s.ballast {
		return nil
	}
	free, err := s.Free()
	if err != nil || free < s.minFree+s.ballast {
		return err
	}
	f, err := os.OpenFile(s.path(), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("make the ballast: %w", err)
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, s.ballast)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		err = nil // a file system that cannot preallocate has no ballast
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = s.release()
		return fmt.Errorf("make the ballast: %w", err)
	}
	return nil
}
