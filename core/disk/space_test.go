package disk

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// lowNow asks past the cache.
func (s *Space) lowNow() bool {
	s.mu.Lock()
	s.checked, s.tried = time.Time{}, time.Time{}
	s.mu.Unlock()
	return s.Low()
}

func sizeOf(t *testing.T, path string) (size, allocated int64) {
	t.Helper()
	var st syscall.Stat_t
	err := syscall.Lstat(path, &st)
	if errors.Is(err, syscall.ENOENT) {
		return -1, -1
	}
	must(t, err)
	return st.Size, st.Blocks * 512
}

func TestBallastIsMadeAtItsSize(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, ballastFile)
	for _, want := range []int64{1 << 20, 2 << 20, 1 << 20, 0, 1 << 16} {
		s, err := OpenSpace(dir, 1, want)
		must(t, err)
		size, allocated := sizeOf(t, path)
		if want == 0 && size != -1 || want > 0 && (size != want || allocated < want) {
			t.Errorf("a ballast of %d has %d bytes, %d of them allocated", want, size, allocated)
		}
		if s.Low() {
			t.Error("low with all the room there is")
		}
	}
}

func TestHalfABallastIsMadeWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, ballastFile)
	write(t, path, "of a crash")
	_, err := OpenSpace(dir, 1, 1<<20)
	must(t, err)
	if size, allocated := sizeOf(t, path); size != 1<<20 || allocated < size {
		t.Errorf("it has %d bytes, %d allocated", size, allocated)
	}
}

func TestBallastNeverPointsElsewhere(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "x")
	write(t, outside, "x")
	must(t, os.Symlink(outside, filepath.Join(dir, ballastFile)))
	_, err := OpenSpace(dir, 1, 1<<20)
	if !errors.Is(err, syscall.ELOOP) || read(t, outside) != "x" {
		t.Errorf("got %v, and outside %d bytes", err, len(read(t, outside)))
	}
}

func TestBallastIsGivenBackOnce(t *testing.T) {
	s, err := OpenSpace(t.TempDir(), 1, 1<<20)
	must(t, err)
	for n, want := range []bool{true, false} {
		if got, err := s.Release(); got != want || err != nil {
			t.Errorf("call %d: %v, %v", n, got, err)
		}
	}
	must(t, s.Restore())
	if got, err := s.Release(); !got || err != nil {
		t.Errorf("after Restore: %v, %v", got, err)
	}
}

func TestNoBallastWhereThereIsNoRoomAboveTheMinimum(t *testing.T) {
	dir := t.TempDir()
	probe := &Space{dir: dir}
	all, err := probe.Free()
	must(t, err)
	s, err := OpenSpace(dir, all, 1<<40)
	must(t, err)
	gone(t, filepath.Join(dir, ballastFile))
	if !s.Low() {
		t.Error("not low")
	}
}

func TestAnswerOfLowIsKept(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenSpace(dir, 1, 0)
	must(t, err)
	if s.Low() {
		t.Fatal("low")
	}
	s.checked = time.Now().Add(time.Hour) // it stays fresh
	s.minFree = 1 << 62
	if s.Low() {
		t.Error("asked again")
	}
	if !s.lowNow() {
		t.Error("not low when asked again")
	}
	must(t, os.Remove(dir)) // nobody can tell now
	if !s.lowNow() {
		t.Error("an error changed the answer")
	}
}

func TestFolderThatIsNotThereIsRefused(t *testing.T) {
	if _, err := OpenSpace(filepath.Join(t.TempDir(), "none"), 1, 1<<20); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkLow(b *testing.B) {
	s, err := OpenSpace(b.TempDir(), 1, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			s.Low()
		}
	})
}
