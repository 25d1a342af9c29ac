package disk

import (
	"cmp"
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

// ballastEvery is how often Low may try to make the ballast. Under a quota, which
// the free space does not show, each try takes the last room for a moment.
const ballastEvery = time.Minute

// Space watches the free space below a folder.
//
// The folder is low when less than the minimum is free, and again high only when
// the minimum and the ballast are: whoever fills the disk past the minimum would
// else eat the ballast next, a quarter of a second after it was given back.
type Space struct {
	dir     string
	minFree int64
	ballast int64 // 0: none, or none possible here

	mu      sync.Mutex
	checked time.Time
	tried   time.Time // to make the ballast
	held    bool      // it is in its place
	low     bool
}

// OpenSpace watches the file system of dir, and makes the ballast there if there
// is room for it. Sizes are bytes; a ballast of 0 is none.
func OpenSpace(dir string, minFree, ballast int64) (*Space, error) {
	s := &Space{dir: dir, minFree: minFree, ballast: ballast}
	if err := s.Restore(); err != nil {
		return nil, err
	}
	return s, nil
}

// Free returns the bytes that may still be written.
func (s *Space) Free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return 0, fmt.Errorf("ask for free space: %w", err)
	}
	// Blocks are counted in fragments where a file system tells the two apart:
	// FUSE may call 1 MiB its block and 4 KiB its fragment.
	return int64(st.Bavail) * cmp.Or(st.Frsize, st.Bsize), nil
}

// Low reports whether there is too little room for writes. The answer may be a
// quarter of a second old. When the last of the room goes, the ballast is given
// back; when it is there again, it is remade.
func (s *Space) Low() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.checked) < spaceEvery {
		return s.low
	}
	s.checked = time.Now()
	s.check()
	return s.low
}

func (s *Space) check() {
	free, err := s.Free()
	if err != nil {
		return
	}
	if s.held && free < min(s.minFree, s.ballast) {
		_, _ = s.release()
	}
	if !s.held && free >= s.minFree+s.ballast && time.Since(s.tried) > ballastEvery {
		_ = s.restore()
	}
	s.low = free < s.minFree || !s.held && free < s.minFree+s.ballast
}

func (s *Space) path() string { return filepath.Join(s.dir, ballastFile) }

// Release gives the ballast back, for a delete or a log row that met a full disk
// and is then tried once more, and reports whether there was any. Low is true
// from then on until there is room for the ballast again.
func (s *Space) Release() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	released, err := s.release()
	s.low = s.low || released
	return released, err
}

func (s *Space) release() (bool, error) {
	err := os.Remove(s.path())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("remove the ballast: %w", errors.Unwrap(err))
	}
	s.held = false
	return err == nil, nil
}

// Restore makes the ballast again where there is room for it above the minimum.
// That there is none is no error.
func (s *Space) Restore() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.restore()
}

func (s *Space) restore() error {
	if s.ballast <= 0 {
		_, err := s.release() // of a start with another setting
		return err
	}
	free, err := s.Free()
	if err != nil {
		return err
	}
	missing := s.ballast
	if info, err := os.Lstat(s.path()); err == nil {
		missing -= info.Size()
	}
	s.held = missing == 0
	if s.held || free < s.minFree+missing {
		return nil
	}
	s.tried = time.Now()
	err = s.fill()
	if err == nil {
		s.held = true
		return nil
	}
	_, _ = s.release()
	switch {
	case errors.Is(err, syscall.EOPNOTSUPP):
		s.ballast = 0 // a file system that cannot preallocate has no ballast
		return nil
	case IsFull(err):
		return nil
	}
	return fmt.Errorf("make the ballast: %w", err)
}

// fill brings the file to the size of the ballast, with every block its own.
func (s *Space) fill() error {
	f, err := os.OpenFile(s.path(), os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return errors.Unwrap(err)
	}
	err = f.Truncate(0)
	if err == nil {
		err = syscall.EINTR // tmpfs gives up at any signal
	}
	for errors.Is(err, syscall.EINTR) {
		err = unix.Fallocate(int(f.Fd()), 0, 0, s.ballast)
	}
	return errors.Join(err, f.Close())
}
