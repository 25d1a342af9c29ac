package blob

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/eiderdb/eider/core/disk"
)

var key = Key{"01234567-89ab-7cde-8f01-23456789abcd", "11234567-89ab-7cde-8f01-23456789abcd"}

func free(context.Context, int64) error { return nil }

func content(n int) []byte {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = r.Read(p)
	return p
}

func sumsOf(p []byte) Sums {
	m, s := md5.Sum(p), sha256.Sum256(p)
	return Sums{int64(len(p)), hex.EncodeToString(m[:]), hex.EncodeToString(s[:])}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Whatever the sizes of the body and of its reads, the sums are those of the
// bytes.
func TestSumsAreThoseOfTheBytes(t *testing.T) {
	for _, size := range []int{0, 1, smallBlock - 1, smallBlock, smallBlock + 1, 5 * smallBlock, 3*largeBlock + 7, 20 << 20} {
		for name, slow := range map[string]func(io.Reader) io.Reader{
			"whole":           func(r io.Reader) io.Reader { return r },
			"half":            iotest.HalfReader,
			"data with error": iotest.DataErrReader,
		} {
			l := NewLocal(t.TempDir(), &disk.FS{})
			p := content(size)
			u, err := l.Resume(key)
			must(t, err)
			must(t, u.Append(t.Context(), slow(bytes.NewReader(p)), 1<<30, free))
			must(t, u.Finish())
			must(t, u.Close())
			sums, whole, err := l.Whole(key)
			must(t, err)
			if !whole || sums != sumsOf(p) {
				t.Errorf("%d bytes, %s: %v, whole %v", size, name, sums, whole)
			}
			f, err := l.Open(key)
			must(t, err)
			got, err := io.ReadAll(f)
			must(t, errors.Join(err, f.Close()))
			if !bytes.Equal(got, p) {
				t.Errorf("%d bytes, %s: other bytes", size, name)
			}
		}
	}
}

// What was saved is there after a crash, with its hashes; what was not is cut.
func TestUploadGoesOnWhereItWasSaved(t *testing.T) {
	dir := t.TempDir()
	p := content(9 << 20)
	l := NewLocal(dir, &disk.FS{})
	u, err := l.Resume(key)
	must(t, err)
	must(t, u.Append(t.Context(), bytes.NewReader(p[:3<<20]), 1<<30, free))
	must(t, u.Save())
	must(t, u.Append(t.Context(), bytes.NewReader(p[3<<20:5<<20]), 1<<30, free)) // and is not saved
	must(t, u.Close())

	l = NewLocal(dir, &disk.FS{})
	if offset, err := l.Offset(key); err != nil || offset != 3<<20 {
		t.Fatalf("offset %d: %v", offset, err)
	}
	u, err = l.Resume(key)
	must(t, err)
	must(t, u.Append(t.Context(), bytes.NewReader(p[3<<20:]), 1<<30, free))
	must(t, u.Finish())
	must(t, u.Close())
	sums, whole, err := l.Whole(key)
	must(t, err)
	if !whole || sums != sumsOf(p) {
		t.Fatalf("%v, whole %v", sums, whole)
	}
	entries, err := os.ReadDir(dir + "/" + key.Project + "/cd")
	must(t, err)
	if len(entries) != 2 {
		t.Fatalf("left: %v", entries)
	}
}

// A state that was being written when the server was killed does not stay.
func TestResumeRemovesWhatASaveLeft(t *testing.T) {
	l := NewLocal(t.TempDir(), &disk.FS{})
	must(t, l.folder(key))
	left := l.path(key) + stateSuffix + disk.NewSuffix
	must(t, os.WriteFile(left, []byte("half"), 0o600))
	u, err := l.Resume(key)
	must(t, err)
	must(t, u.Close())
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestAppendStopsAtTheLimitAndAtARefusal(t *testing.T) {
	l := NewLocal(t.TempDir(), &disk.FS{})
	u, err := l.Resume(key)
	must(t, err)
	if err := u.Append(t.Context(), bytes.NewReader(content(100)), 99, free); !errors.Is(err, io.ErrShortBuffer) {
		t.Errorf("over the limit: %v", err)
	}
	full := errors.New("no more")
	asked := []int64{}
	err = u.Append(t.Context(), bytes.NewReader(content(70<<20)), 1<<40, func(_ context.Context, n int64) error {
		if asked = append(asked, n); n > 65<<20 {
			return full
		}
		return nil
	})
	// Where a step is too much, what has come may not be.
	last := asked[len(asked)-1]
	if !errors.Is(err, full) || asked[0] != growStep || asked[1] != 2*growStep || asked[2] >= 65<<20 || last > 66<<20 {
		t.Errorf("asked for %v: %v", asked, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := u.Append(ctx, bytes.NewReader(content(10)), 1<<40, free); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	must(t, u.Close())
}

// Every step of an upload fails once. Afterwards the bytes are whole or
// resumable, and never acknowledged and lost.
func TestEveryStepMayFail(t *testing.T) {
	broken := errors.New("broken")
	p := content(200 << 10)
	for step := 1; ; step++ {
		dir, n, failed := t.TempDir(), 0, ""
		l := NewLocal(dir, &disk.FS{Hook: func(op disk.Op) error {
			if n++; n == step {
				failed = op.Kind
				return broken
			}
			return nil
		}})
		err := upload(t.Context(), l, p)
		if failed == "" {
			must(t, err)
			if step < 8 {
				t.Fatalf("only %d steps", step)
			}
			return
		}
		_, done, _ := l.Whole(key)
		if !errors.Is(err, broken) && !(err == nil && done) {
			t.Fatalf("step %d (%s): %v", step, failed, err)
		}
		again := NewLocal(dir, &disk.FS{})
		if _, whole, err := again.Whole(key); err != nil {
			t.Fatalf("step %d (%s): %v", step, failed, err)
		} else if !whole {
			must(t, upload(t.Context(), again, p))
		}
		sums, whole, err := again.Whole(key)
		if err != nil || !whole || sums != sumsOf(p) {
			t.Fatalf("step %d (%s): %v, %v, %v", step, failed, sums, whole, err)
		}
	}
}

// upload sends p, from where the part stands, in two halves.
func upload(ctx context.Context, l *Local, p []byte) (err error) {
	u, err := l.Resume(key)
	if err != nil {
		return err
	}
	defer u.Close()
	rest := p[u.Offset():]
	half := len(rest) / 2
	if err := u.Append(ctx, bytes.NewReader(rest[:half]), 1<<30, free); err != nil {
		return err
	}
	if err := u.Save(); err != nil {
		return err
	}
	if err := u.Append(ctx, bytes.NewReader(rest[half:]), 1<<30, free); err != nil {
		return err
	}
	return u.Finish()
}

// faulty returns a part of 1 MiB that is saved, with 2 MiB more that are not, on a
// disk that fails where says says so.
func faulty(t *testing.T, says func(op disk.Op) bool) (l *Local, u *Upload, broken error) {
	t.Helper()
	broken = errors.New("broken")
	armed := false
	l = NewLocal(t.TempDir(), &disk.FS{Hook: func(op disk.Op) error {
		if armed && says(op) {
			return broken
		}
		return nil
	}})
	u, err := l.Resume(key)
	must(t, err)
	t.Cleanup(func() { _ = u.Close() })
	p := content(3 << 20)
	must(t, u.Append(t.Context(), bytes.NewReader(p[:1<<20]), 1<<30, free))
	must(t, u.Save())
	must(t, u.Append(t.Context(), bytes.NewReader(p[1<<20:]), 1<<30, free))
	armed = true
	return l, u, broken
}

// standsAt compares where a part stands, by itself and on the disk.
func standsAt(t *testing.T, l *Local, u *Upload, want int64) {
	t.Helper()
	saved, err := l.Offset(key)
	must(t, err)
	size, err := u.file.Size()
	must(t, err)
	if u.Offset() != want || saved != want || size != want {
		t.Errorf("it stands at %d, saved are %d, the part has %d bytes; want %d", u.Offset(), saved, size, want)
	}
}

// What cannot be saved leaves the disk: nobody is told of it, and a disk that is
// full needs the room.
func TestWhatCannotBeSavedIsCutOff(t *testing.T) {
	l, u, broken := faulty(t, func(op disk.Op) bool { return op.Kind == "write" && strings.Contains(op.Path, ".state") })
	if err := u.Keep(); !errors.Is(err, broken) {
		t.Errorf("kept: %v", err)
	}
	standsAt(t, l, u, 1<<20)
}

// After a sync that failed the kernel has forgotten what it could not write: a
// second one succeeds and has made nothing durable.
func TestFailedSyncIsNotTriedAgain(t *testing.T) {
	for name, step := range map[string]func(*Upload) error{"save": (*Upload).Save, "finish": (*Upload).Finish} {
		failed := 0
		l, u, broken := faulty(t, func(op disk.Op) bool {
			if op.Kind != "sync" || failed > 0 {
				return false
			}
			failed++
			return true
		})
		if err := step(u); !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
		if err := u.Keep(); !errors.Is(err, broken) {
			t.Errorf("%s, kept: %v", name, err)
		}
		standsAt(t, l, u, 1<<20)
	}
}

// An upload that cannot be finished stays as long as its state says; what has its
// final name, because that could not be taken back, as long as its sums say.
func TestUnfinishedUploadStaysAsLongAsItIsSaidToBe(t *testing.T) {
	for _, named := range []bool{false, true} {
		renames := 0
		l, u, broken := faulty(t, func(op disk.Op) bool {
			if op.Kind == "rename" {
				renames++
			}
			return op.Kind == "syncdir" || named && op.Kind == "rename" && renames > 1
		})
		if err := u.Finish(); !errors.Is(err, broken) {
			t.Errorf("finished: %v", err)
		}
		if err := u.Keep(); !errors.Is(err, broken) {
			t.Errorf("kept: %v", err)
		}
		if _, whole, err := l.Whole(key); err != nil || whole != named {
			t.Errorf("named %v: whole %v, %v", named, whole, err)
		}
		if !named { // the state took its place, too, before the folder failed
			standsAt(t, l, u, 3<<20)
		}
	}
}

func TestKeysThatAreNoKeysAreRefused(t *testing.T) {
	l := NewLocal(t.TempDir(), &disk.FS{})
	for _, k := range []Key{{}, {"..", "........"}, {"0123456789", "../../../etc"}, {"ABCDEFGHIJ", "0123456789"}, {"0123456789", "a/b/c/d/e/f"}} {
		if _, err := l.Resume(k); err == nil {
			t.Errorf("%v was taken", k)
		}
		if err := l.Remove(k); err == nil {
			t.Errorf("%v was removed", k)
		}
	}
}

// What is told of an upload stands with what was saved of it, and beside it once it
// is whole; of one that has lost bytes, or of which nothing was saved, nothing is.
func TestUploadKeepsWhatIsToldOfIt(t *testing.T) {
	l := NewLocal(t.TempDir(), &disk.FS{})
	type told struct {
		Sums
		Name  string
		Whole bool
	}
	begun := func() string {
		text, err := l.Begun(key)
		must(t, err)
		return string(text)
	}
	for _, part := range []string{"01234", "56789"} {
		u, err := l.Resume(key)
		must(t, err)
		u.Describe(func(sums Sums, whole bool) any { return told{sums, "n", whole} })
		must(t, u.Append(t.Context(), strings.NewReader(part), 10, free))
		if part == "01234" {
			if is := begun(); is != "" {
				t.Errorf("before a save: %s", is)
			}
			must(t, u.Save())
			if is := begun(); !strings.Contains(is, `"Name":"n","Whole":false`) {
				t.Errorf("after a save: %s", is)
			}
		} else {
			must(t, u.Finish())
		}
		must(t, u.Close())
	}
	text, err := l.Described(key)
	must(t, err)
	sums, whole, err := l.Whole(key)
	must(t, err)
	if !strings.Contains(string(text), `"Name":"n","Whole":true`) || !whole || sums != sumsOf([]byte("0123456789")) {
		t.Errorf("of the whole: %s", text)
	}
	if is := begun(); is != "" {
		t.Errorf("of the whole is said to be begun: %s", is)
	}
	must(t, l.Remove(key))
	u, err := l.Resume(key)
	must(t, err)
	u.Describe(func(Sums, bool) any { return "it" })
	must(t, u.Append(t.Context(), strings.NewReader("01234"), 10, free))
	must(t, u.Save())
	must(t, u.Close())
	must(t, os.Truncate(l.path(key)+partSuffix, 3))
	if is := begun(); is != "" {
		t.Errorf("of a part that was cut: %s", is)
	}
}
