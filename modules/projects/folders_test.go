package projects

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/disk"
)

var update = flag.Bool("update", false, "write the golden files anew")

// desk is a data folder whose steps are recorded, and fail where a test says so.
type desk struct {
	t *testing.T
	folders
	plan  projectPlan
	steps []string
	fail  func(n int) bool // n counts from 0 since the last call of from
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{projectsDir, trashDir} {
		must(t, os.Mkdir(filepath.Join(root, dir), 0o700))
	}
	template := filepath.Join(root, ".template.duckdb")
	must(t, os.WriteFile(template, []byte("an empty database"), 0o600))
	d := &desk{t: t}
	d.folders = folders{root: root, template: template, files: &disk.FS{Hook: d.hook}}
	project := eider.Project{ID: "sales", UID: "01970000-0000-7abc-9123-456789abcdef", Name: "Sales", Status: eider.ProjectActive}
	d.plan = projectPlan{Call: "01970000-0000-7abc-8123-00000000ca11", UID: project.UID, ID: project.ID, Folder: folderOf(project), Sidecar: newSidecar(project, 0)}
	return d
}

func (d *desk) hook(op disk.Op) error {
	line := op.Kind + " " + d.rel(op.Path)
	if op.To != "" {
		line += " -> " + d.rel(op.To)
	}
	n := len(d.steps)
	d.steps = append(d.steps, line)
	if d.fail != nil && d.fail(n) {
		return syscall.EIO
	}
	return nil
}

func (d *desk) rel(path string) string {
	rel, err := filepath.Rel(d.root, path)
	must(d.t, err)
	return rel
}

// with runs do while the steps that fail says fail.
func (d *desk) with(fail func(n int) bool, do func() error) error {
	d.steps, d.fail = nil, fail
	defer func() { d.fail = nil }()
	return do()
}

func (d *desk) create() error { return d.folders.create(d.t.Context(), d.plan) }

// left lists every file in the projects' folders and the trash, with content.
func (d *desk) left() string {
	var found []string
	for _, top := range []string{projectsDir, trashDir} {
		must(d.t, filepath.WalkDir(d.path(top), func(path string, e os.DirEntry, err error) error {
			if err != nil || path == d.path(top) {
				return err
			}
			line := d.rel(path)
			if !e.IsDir() && e.Name() != lockFile { // a lock holds its last owner's id
				text, err := os.ReadFile(path)
				must(d.t, err)
				line += " = " + string(text)
			}
			found = append(found, line)
			return nil
		}))
	}
	return strings.Join(found, "\n")
}

// settle does what the pipeline does with a call that was left unfinished, and
// reports whether it found the effect applied.
func (d *desk) settle(applied func() (bool, error), undo func() error) bool {
	d.t.Helper()
	done, err := applied()
	must(d.t, err)
	if !done {
		must(d.t, undo())
	}
	return done
}

func (d *desk) settleCreate() bool {
	return d.settle(func() (bool, error) { return d.complete(d.plan.Folder) }, func() error { return d.uncreate(d.plan) })
}

func (d *desk) settlePurge() bool {
	return d.settle(func() (bool, error) { return d.discarded(d.plan) }, func() error { return d.undiscard(d.plan) })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func only(n int) func(int) bool  { return func(i int) bool { return i == n } }
func since(n int) func(int) bool { return func(i int) bool { return i >= n } }

// The order of writes, fsyncs and renames is the reason why a crash leaves
// nothing half: each golden file holds one sequence.
func TestStepsComeInTheirOrder(t *testing.T) {
	for _, c := range []struct {
		name  string
		ready func(d *desk) error
		do    func(d *desk) error
	}{
		{"create", nothing, (*desk).create},
		{"create_settled", (*desk).create, func(d *desk) error { d.settleCreate(); return nil }},
		{"create_undone", (*desk).create, func(d *desk) error { return d.uncreate(d.plan) }},
		{"create_undone_before_its_rename", nothing, func(d *desk) error { return d.uncreate(d.plan) }},
		{"purge", (*desk).create, func(d *desk) error { return d.discard(d.plan) }},
		{"purge_settled", (*desk).purged, func(d *desk) error { d.settlePurge(); return nil }},
		{"purge_undone", (*desk).purged, func(d *desk) error { return d.undiscard(d.plan) }},
		{"purge_undone_before_its_rename", (*desk).create, func(d *desk) error { return d.undiscard(d.plan) }},
		{"trash_emptied", (*desk).purged, func(d *desk) error { return d.emptyTrash(noCalls) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t)
			must(t, c.ready(d))
			must(t, d.with(nil, func() error { return c.do(d) }))
			golden(t, c.name, d.steps)
		})
	}
}

func nothing(*desk) error { return nil }

func noCalls() []audit.Row { return nil }

func (d *desk) purged() error { return errors.Join(d.create(), d.discard(d.plan)) }

func golden(t *testing.T, name string, steps []string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	got := strings.Join(steps, "\n") + "\n"
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if got != string(want) {
		t.Errorf("the steps are\n%s, %s has\n%s", got, path, want)
	}
}

// Step n fails, once or for good, as of a crash; then undoing fails at its step
// m, once. Whatever n and m are, there is a whole project in the end or no trace.
func TestFaultAtEachStepOfACreateIsUndoneOrCompleted(t *testing.T) {
	whole := newDesk(t)
	must(t, whole.create())
	eachFault(t, func(t *testing.T, fail func(int) bool, m int) (steps int, ended bool) {
		d := newDesk(t)
		err := d.with(fail, d.create)
		steps = len(d.steps)
		if err == nil {
			if d.left() != whole.left() {
				t.Errorf("created: %s", d.left())
			}
			return steps, true
		}
		if code := eider.CodeOf(refusal(err)); code != eider.StorageUnavailable || strings.Contains(err.Error(), d.root) {
			t.Errorf("the caller is told %s: %v", code, err)
		}
		failed := d.with(only(m), func() error { return d.uncreate(d.plan) })
		if d.settleCreate() {
			if d.left() != whole.left() {
				t.Errorf("settled as complete: %s", d.left())
			}
		} else if d.left() != "" {
			t.Errorf("undone: %s", d.left())
		}
		return steps, failed == nil
	})
}

func TestFaultAtEachStepOfAPurgeIsUndoneOrCompleted(t *testing.T) {
	whole := newDesk(t)
	must(t, whole.create())
	eachFault(t, func(t *testing.T, fail func(int) bool, m int) (steps int, ended bool) {
		d := newDesk(t)
		must(t, d.create())
		err := d.with(fail, func() error { return d.discard(d.plan) })
		steps = len(d.steps)
		failed := err
		if err != nil {
			failed = d.with(only(m), func() error { return d.undiscard(d.plan) })
		}
		if !d.settlePurge() {
			if d.left() != whole.left() {
				t.Errorf("undone: %s", d.left())
			}
			return steps, failed == nil
		}
		must(t, d.emptyTrash(noCalls))
		if d.left() != "" {
			t.Errorf("purged: %s", d.left())
		}
		return steps, failed == nil
	})
}

// eachFault runs try with a fault at each step n of an effect, once and for
// good, and each step m of its undoing, until it says that m met none.
func eachFault(t *testing.T, try func(t *testing.T, fail func(int) bool, m int) (steps int, ended bool)) {
	t.Helper()
	for name, faults := range map[string]func(int) func(int) bool{"once": only, "for good": since} {
		n := 0
		for met := true; met; n++ {
			for m, ended := 0, false; !ended; m++ {
				t.Run(fmt.Sprintf("%s at %d, undoing at %d", name, n, m), func(t *testing.T) {
					var steps int
					steps, ended = try(t, faults(n), m)
					met = steps > n
				})
				if t.Failed() {
					return
				}
			}
		}
		if n < 4 {
			t.Fatalf("only %d steps", n-1)
		}
	}
}

// A folder that is being removed must not look complete to whoever settles the
// call: removal takes its name first.
func TestHalfRemovedFolderIsNeverTakenForAProject(t *testing.T) {
	d := newDesk(t)
	must(t, d.create())
	fail := func(n int) bool { return strings.HasPrefix(d.steps[n], "remove") }
	if err := d.with(fail, func() error { return d.uncreate(d.plan) }); err == nil {
		t.Fatal("the removal did not fail")
	}
	must(t, os.Remove(d.path(projectsDir, ".new-"+d.plan.Call, sidecarFile))) // as far as it came
	if d.settleCreate() || d.left() != "" {
		t.Errorf("settled, there is left: %s", d.left())
	}
}

func TestTrashOfAnUnfinishedCallIsKept(t *testing.T) {
	d := newDesk(t)
	must(t, d.purged())
	must(t, d.emptyTrash(func() []audit.Row { return []audit.Row{{CallID: d.plan.Call}} }))
	must(t, d.undiscard(d.plan))
	if there, err := d.complete(d.plan.Folder); err != nil || !there {
		t.Errorf("the folder is there: %v, %v", there, err)
	}
}

// The trash may be a link to what is not ours, or somebody may have kept there
// what is. Only what purges have moved there is deleted.
func TestTrashKeepsWhatNoCallMovedThere(t *testing.T) {
	d := newDesk(t)
	must(t, d.purged())
	must(t, os.Rename(d.path(trashDir), d.path("elsewhere")))
	must(t, os.Symlink(d.path("elsewhere"), d.path(trashDir)))
	names := []string{"passwd", "ssl", ".hidden", "sales.1", strings.ToUpper(d.plan.Call), "{" + d.plan.Call + "}"}
	for _, name := range names {
		must(t, os.Mkdir(d.path("elsewhere", name), 0o700))
		must(t, os.WriteFile(d.path("elsewhere", name, "file"), nil, 0o600))
	}
	must(t, d.emptyTrash(noCalls))
	var left []string
	entries, err := os.ReadDir(d.path("elsewhere"))
	must(t, err)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	slices.Sort(names)
	if !slices.Equal(left, names) {
		t.Errorf("there is left %q, want %q", left, names)
	}
}

// A purge that begins while the trash is emptied is unfinished, and what it moves
// there is not deleted.
func TestTrashIsReadBeforeTheUnfinishedCallsAreAskedFor(t *testing.T) {
	d := newDesk(t)
	must(t, d.create())
	must(t, d.emptyTrash(func() []audit.Row {
		must(t, d.discard(d.plan)) // its intent came too late for this list
		return nil
	}))
	must(t, d.undiscard(d.plan))
	if there, err := d.complete(d.plan.Folder); err != nil || !there {
		t.Errorf("the folder is there: %v, %v", there, err)
	}
}

func TestPurgeWaitsForWhoHoldsTheLock(t *testing.T) {
	d := newDesk(t)
	must(t, d.create())
	lock, err := disk.Lock(d.path(d.plan.Folder, lockFile))
	must(t, err)
	if err := refusal(d.discard(d.plan)); eider.CodeOf(err) != eider.OperationInProgress {
		t.Errorf("a project in use: %v", err)
	}
	must(t, lock.Unlock())
	must(t, d.discard(d.plan))
}

func TestErrorsOfTheDiskTellTheCaller(t *testing.T) {
	for _, c := range []struct {
		err  error
		code eider.Code
	}{
		{syscall.ENOSPC, eider.StorageFull}, {syscall.EDQUOT, eider.StorageFull}, {syscall.EFBIG, eider.StorageFull},
		{syscall.EIO, eider.StorageUnavailable}, {syscall.EROFS, eider.StorageUnavailable}, {syscall.EMFILE, eider.StorageUnavailable},
		{eider.Errorf(eider.OperationInProgress, "in use").Because(syscall.EAGAIN), eider.OperationInProgress},
		{errors.New("a mistake"), eider.Internal}, {nil, ""},
	} {
		wrapped := c.err
		if c.err != nil {
			wrapped = fmt.Errorf("write data.duckdb: %w", c.err)
		}
		if code := eider.CodeOf(refusal(wrapped)); code != c.code {
			t.Errorf("%v is told as %q, want %q", c.err, code, c.code)
		}
	}
}

// Whatever an id is, its folder is one name below the projects' folder, and two
// incarnations never share it.
func TestFolderIsOneNamePerIncarnation(t *testing.T) {
	var names []string
	for _, p := range []eider.Project{
		{ID: "a", UID: "01970000-0000-7abc-9123-456789abcdef"}, {ID: "a", UID: "01970000-0000-7abc-9123-556789abcdef"},
		{ID: strings.Repeat("z", 64), UID: "01970000-0000-7abc-9123-456789abcdef"},
	} {
		folder := folderOf(p)
		dir, name := filepath.Split(folder)
		if dir != projectsDir+"/" || !strings.HasPrefix(name, "project_"+p.ID+".") || len(name) != len("project_.12345678")+len(p.ID) {
			t.Errorf("%s lies in %s", p.ID, folder)
		}
		if slices.Contains(names, folder) {
			t.Errorf("two projects lie in %s", folder)
		}
		names = append(names, folder)
	}
}
