package disk

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// recorder keeps the steps, with paths below its root, and fails some.
type recorder struct {
	root  string
	steps []string
	fail  func(n int, op Op) error // n counts from 0
}

func (r *recorder) hook(op Op) error {
	line := op.Kind + " " + r.rel(op.Path)
	if op.To != "" {
		line += " -> " + r.rel(op.To)
	}
	var err error
	if r.fail != nil {
		err = r.fail(len(r.steps), op)
	}
	if err != nil {
		line += ": " + err.Error()
	}
	r.steps = append(r.steps, line)
	return err
}

func (r *recorder) rel(path string) string {
	rel, err := filepath.Rel(r.root, path)
	if err != nil {
		return path
	}
	return rel
}

// seed makes the file old, a file source of 3 MiB and the folder dir.
func seed(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	write(t, filepath.Join(root, "old"), "old")
	write(t, filepath.Join(root, "source"), strings.Repeat("eider", 600<<10))
	must(t, os.Mkdir(filepath.Join(root, "dir"), 0o700))
	return root
}

func TestStepsComeInTheirOrder(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(f *FS, at func(string) string) error
	}{
		{"write_new", func(f *FS, at func(string) string) error { return f.WriteFile(at("new"), []byte("new"), 0o600) }},
		{"write_over", func(f *FS, at func(string) string) error { return f.WriteFile(at("old"), []byte("new"), 0o600) }},
		{"write_after_crash", func(f *FS, at func(string) string) error {
			return errors.Join(os.WriteFile(at("old.new"), []byte("ha"), 0o600), f.WriteFile(at("old"), []byte("new"), 0o600))
		}},
		{"create", func(f *FS, at func(string) string) error { return f.CreateFile(at("new"), []byte("new"), 0o600) }},
		{"copy_and_move", func(f *FS, at func(string) string) error {
			return errors.Join(f.CopyFile(at("copy"), at("source"), 0o600), f.Rename(at("copy"), at("dir/copy")),
				f.SyncDir(at("dir")), f.SyncDir(at(".")))
		}},
		{"mkdir", func(f *FS, at func(string) string) error { return f.Mkdir(at("dir/a"), 0o700) }},
		{"mkdir_all", func(f *FS, at func(string) string) error { return f.MkdirAll(at("dir/a/b/c"), 0o700) }},
		{"mkdir_all_there", func(f *FS, at func(string) string) error { return f.MkdirAll(at("dir"), 0o700) }},
		{"remove", func(f *FS, at func(string) string) error {
			return errors.Join(f.RemoveAll(at("dir")), f.SyncDir(at(".")))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &recorder{root: seed(t)}
			f := &FS{Hook: r.hook}
			must(t, c.do(f, func(name string) string { return filepath.Join(r.root, name) }))
			golden(t, c.name, r.steps)
		})
	}
}

// A fault at each step in turn, the removal of what the fault left included: the
// golden file holds every sequence.
func TestFaultAtEachStepLeavesTheOldOrTheNewContent(t *testing.T) {
	const content = "new and longer"
	var all []string
	for n := 0; ; n++ {
		r := &recorder{root: seed(t), fail: func(i int, _ Op) error {
			if i == n {
				return syscall.EIO
			}
			return nil
		}}
		f := &FS{Hook: r.hook}
		path := filepath.Join(r.root, "old")
		write(t, path+".new", "left by a crash")
		err := f.WriteFile(path, []byte(content), 0o600)
		all = append(all, fmt.Sprintf("fault at step %d:", n))
		all = append(all, r.steps...)
		if err == nil {
			if n != len(r.steps) || read(t, path) != content {
				t.Fatalf("no error, but step %d of %q was to fail", n, r.steps)
			}
			break
		}
		if !errors.Is(err, syscall.EIO) || strings.Contains(err.Error(), r.root) {
			t.Errorf("step %d: the error is %q", n, err)
		}
		want := "old"
		if strings.HasPrefix(r.steps[n], "syncdir") {
			want = content
		}
		if got := read(t, path); got != want {
			t.Errorf("fault at %s: the file holds %q, not %q", r.steps[n], got, want)
		}
		if n > 0 { // step 0 is the removal of the old temporary file
			gone(t, path+".new")
		}
	}
	golden(t, "write_faults", all)
}

func TestFileThatCouldNotBeWrittenIsRemoved(t *testing.T) {
	for _, kind := range []string{"create", "write", "sync", "close"} {
		for name, do := range map[string]func(*FS, string) error{
			"create": func(f *FS, root string) error { return f.CreateFile(filepath.Join(root, "x"), []byte("x"), 0o600) },
			"copy": func(f *FS, root string) error {
				return f.CopyFile(filepath.Join(root, "x"), filepath.Join(root, "source"), 0o600)
			},
		} {
			r := &recorder{root: seed(t), fail: func(_ int, op Op) error {
				if op.Kind == kind {
					return syscall.ENOSPC
				}
				return nil
			}}
			err := do(&FS{Hook: r.hook}, r.root)
			if !IsFull(err) {
				t.Errorf("%s, fault at %s: %v", name, kind, err)
			}
			gone(t, filepath.Join(r.root, "x"))
			must(t, do(&FS{}, r.root)) // and may be tried again
		}
	}
}

func TestFileThatIsThereIsNeitherOverwrittenNorRemoved(t *testing.T) {
	root, f := seed(t), &FS{}
	old := filepath.Join(root, "old")
	for name, err := range map[string]error{
		"create": f.CreateFile(old, []byte("x"), 0o600),
		"copy":   f.CopyFile(old, filepath.Join(root, "source"), 0o600),
	} {
		if !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := read(t, old); got != "old" {
		t.Errorf("the file holds %q", got)
	}
}

func TestErrorNamesTheStepAndKeepsTheNumberWithoutThePath(t *testing.T) {
	root, f := seed(t), &FS{}
	in := func(name string) string { return filepath.Join(root, name) }
	must(t, os.Mkdir(in("blocked.new"), 0o700))
	write(t, in("blocked.new/x"), "")
	for _, c := range []struct {
		name, text string
		err        error
		is         error
	}{
		{"mkdir", "mkdir dir: file exists", f.Mkdir(in("dir"), 0o700), syscall.EEXIST},
		{"mkdir under a file", "mkdir x: not a directory", f.MkdirAll(in("old/x"), 0o700), syscall.ENOTDIR},
		{"create", "create x: no such file or directory", f.CreateFile(in("none/x"), nil, 0o600), syscall.ENOENT},
		{"copy from nothing", "open none: no such file or directory", f.CopyFile(in("x"), in("none"), 0o600), syscall.ENOENT},
		{"copy from a folder", "is a directory", f.CopyFile(in("y"), in("dir"), 0o600), syscall.EISDIR},
		{"write", "create x.new: no such file or directory", f.WriteFile(in("none/x"), nil, 0o600), syscall.ENOENT},
		{"write over a folder", "rename dir.new: file exists", f.WriteFile(in("dir"), nil, 0o600), syscall.EEXIST},
		{"temporary file in the way", "remove blocked.new: directory not empty", f.WriteFile(in("blocked"), nil, 0o600), syscall.ENOTEMPTY},
		{"rename", "rename none: no such file or directory", f.Rename(in("none"), in("x")), syscall.ENOENT},
		{"sync", "syncdir none: no such file or directory", f.SyncDir(in("none")), syscall.ENOENT},
		{"name too long", "file name too long", f.CreateFile(in(strings.Repeat("x", 256)), nil, 0o600), syscall.ENAMETOOLONG},
	} {
		if c.err == nil || !errors.Is(c.err, c.is) {
			t.Errorf("%s: %v is not %v", c.name, c.err, c.is)
			continue
		}
		if text := c.err.Error(); !strings.Contains(text, c.text) || strings.Contains(text, root) {
			t.Errorf("%s: the text is %q", c.name, text)
		}
	}
	gone(t, in("y"))
}

func TestRemovalDoesNotFollowLinks(t *testing.T) {
	root, outside, f := seed(t), seed(t), &FS{}
	in := func(name string) string { return filepath.Join(root, name) }
	must(t, os.Symlink(outside, in("dir/link")))
	must(t, os.Symlink(filepath.Join(outside, "old"), in("dir/file")))
	must(t, f.RemoveAll(in("dir")))
	must(t, os.Symlink(outside, in("link")))
	must(t, f.RemoveAll(in("link")))
	must(t, f.RemoveAll(in("none/none")))
	if got := read(t, filepath.Join(outside, "old")); got != "old" {
		t.Errorf("the file outside holds %q", got)
	}
}

// A link in the place of the temporary file or of the file is replaced, what it
// points to left alone.
func TestWritingDoesNotFollowLinks(t *testing.T) {
	root, outside, f := seed(t), seed(t), &FS{}
	path, target := filepath.Join(root, "x"), filepath.Join(outside, "old")
	for _, link := range []string{path, path + ".new"} {
		must(t, f.RemoveAll(path))
		must(t, os.Symlink(target, link))
		must(t, f.WriteFile(path, []byte("new"), 0o600))
		if read(t, path) != "new" || read(t, target) != "old" {
			t.Errorf("link at %s: wrote %q, outside %q", filepath.Base(link), read(t, path), read(t, target))
		}
	}
}

func TestWrittenFileHasItsModeAndContent(t *testing.T) {
	root, f := seed(t), &FS{}
	for _, content := range []string{"", "x", strings.Repeat("long ", 1<<20)} {
		path := filepath.Join(root, "old")
		must(t, f.WriteFile(path, []byte(content), 0o600))
		info, err := os.Stat(path)
		must(t, err)
		if read(t, path) != content || info.Mode() != 0o600 {
			t.Errorf("%d bytes: got %d with mode %v", len(content), info.Size(), info.Mode())
		}
	}
	must(t, f.CopyFile(filepath.Join(root, "copy"), filepath.Join(root, "source"), 0o600))
	if read(t, filepath.Join(root, "copy")) != read(t, filepath.Join(root, "source")) {
		t.Error("the copy differs")
	}
}

func TestErrorsAreToldApart(t *testing.T) {
	for _, c := range []struct {
		err            error
		full, readOnly bool
	}{
		{nil, false, false},
		{syscall.ENOSPC, true, false},
		{fmt.Errorf("x: %w", syscall.EDQUOT), true, false},
		{&os.PathError{Err: syscall.EFBIG}, true, false},
		{errors.Join(errors.New("x"), syscall.EROFS), false, true},
		{syscall.EACCES, false, true},
		{syscall.EPERM, false, true},
		{syscall.EIO, false, false},
		{os.ErrNotExist, false, false},
	} {
		if IsFull(c.err) != c.full || IsReadOnly(c.err) != c.readOnly {
			t.Errorf("%v: full %v, read-only %v", c.err, IsFull(c.err), IsReadOnly(c.err))
		}
	}
}

func golden(t *testing.T, name string, lines []string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	got := strings.Join(lines, "\n") + "\n"
	if *update {
		must(t, os.WriteFile(path, []byte(got), 0o644))
	}
	if want := read(t, path); got != want {
		t.Errorf("%s: the steps are\n%s\nnot\n%s", path, got, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), 0o600))
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return string(text)
}

func gone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", filepath.Base(path), err)
	}
}
