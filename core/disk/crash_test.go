package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var errCrash = errors.New("the machine went down")

// lossy is a disk that keeps only what it must: the content of a synced file,
// the entries of a synced folder. Of what was done to a folder since, it keeps
// the first few; a file that was not synced it tears.
type lossy struct {
	now     map[string]*inode // as processes see it
	durable map[string]*inode // as of the last syncdir
	pending []func(map[string]*inode)
}

type inode struct {
	content string
	synced  bool
}

func newLossy() *lossy {
	return &lossy{now: map[string]*inode{}, durable: map[string]*inode{}}
}

func (l *lossy) apply(op Op, content string) {
	change := func(do func(map[string]*inode)) {
		do(l.now)
		l.pending = append(l.pending, do)
	}
	switch op.Kind {
	case "create":
		made := &inode{}
		change(func(m map[string]*inode) { m[op.Path] = made })
	case "write":
		l.now[op.Path].content, l.now[op.Path].synced = content, false
	case "sync":
		l.now[op.Path].synced = true
	case "rename":
		moved := l.now[op.Path]
		change(func(m map[string]*inode) { delete(m, op.Path); m[op.To] = moved })
	case "remove":
		change(func(m map[string]*inode) { delete(m, op.Path) })
	case "syncdir":
		for _, do := range l.pending {
			do(l.durable)
		}
		l.pending = nil
	}
}

// after returns what a crash leaves if the first few pending changes of the
// folder reached it.
func (l *lossy) after(kept int) map[string]string {
	left := map[string]*inode{}
	for name, i := range l.durable {
		left[name] = i
	}
	for _, do := range l.pending[:kept] {
		do(left)
	}
	found := map[string]string{}
	for name, i := range left {
		found[name] = i.content
		if !i.synced {
			found[name] = "torn"
		}
	}
	return found
}

// Whatever is written, wherever the machine goes down and whatever of the
// unsynced it loses: each file holds what WriteFile last returned for, or what it
// was writing, whole; and the next start writes over what was left.
func TestCrashLeavesOldOrNewContent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		root, err := os.MkdirTemp("", "crash")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(root)
		names := []string{"a", "b"}
		acknowledged := map[string]string{}
		model, writing, crashAt, step := newLossy(), "", rapid.IntRange(0, 40).Draw(t, "crash at step"), 0
		f := &FS{Hook: func(op Op) error {
			if step++; step > crashAt {
				return errCrash
			}
			model.apply(op, writing)
			return nil
		}}
		name := ""
		for n := 0; ; n++ {
			name = rapid.SampledFrom(names).Draw(t, "file")
			writing = fmt.Sprint(n, strings.Repeat("x", rapid.IntRange(0, 9000).Draw(t, "length")))
			err = f.WriteFile(filepath.Join(root, name), []byte(writing), 0o600)
			if err != nil {
				break
			}
			acknowledged[name] = writing
		}
		if !errors.Is(err, errCrash) {
			t.Fatalf("failed before the crash: %v", err)
		}
		check := func(what string, found func(string) (string, bool)) {
			for _, n := range names {
				old, was := acknowledged[n]
				got, is := found(n)
				if whole := got == old && is == was || n == name && got == writing; !whole {
					t.Fatalf("%s: %s holds %.20q (there: %v), not %.20q", what, n, got, is, old)
				}
			}
		}
		check("process killed", func(n string) (string, bool) {
			text, err := os.ReadFile(filepath.Join(root, n))
			return string(text), err == nil
		})
		for kept := range len(model.pending) + 1 {
			left := model.after(kept)
			check(fmt.Sprintf("power lost, %d of %d changes kept", kept, len(model.pending)), func(n string) (string, bool) {
				text, ok := left[filepath.Join(root, n)]
				return text, ok
			})
		}
		for _, n := range names { // the next start
			if err := (&FS{}).WriteFile(filepath.Join(root, n), []byte("anew"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if left := list(t, root); !slices.Equal(left, names) {
			t.Fatalf("%q are left", left)
		}
	})
}

func list(t interface{ Fatal(...any) }, dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
