package tables

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/projectdb/wire"
	"github.com/eiderdb/eider/core/projectdb/worker"
	"go.opentelemetry.io/otel/metric/noop"
)

// asWorker makes the test binary a worker.
const asWorker = "worker-of-the-test"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == asWorker {
		if err := worker.Serve(slog.Default(), func(wire.Setup) error { return nil }); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// module returns the module over a supervisor with one project.
func module(t *testing.T) (*Tables, projectdb.Project) {
	t.Helper()
	dir, exe := t.TempDir(), ""
	for _, sub := range []string{"db", "in", "out"} {
		must(t, os.MkdirAll(filepath.Join(dir, "p", sub), 0o700))
	}
	must(t, duck.CreateTemplate(t.Context(), filepath.Join(dir, "p/db/data.duckdb")))
	must(t, os.WriteFile(filepath.Join(dir, "p/lock"), nil, 0o600))
	exe, err := os.Executable()
	must(t, err)
	s, err := projectdb.New(projectdb.Options{
		Settings: projectdb.Defaults(), Command: []string{exe, asWorker}, Dir: dir, Log: slog.Default(), Meter: noop.Meter{},
	})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	f := New()
	f.databases, f.log = s, slog.Default()
	return f, projectdb.Project{UID: "p", Folder: "p"}
}

// planOf is the plan of a change as it is found after a crash: without a tenant's
// texts.
func planOf(t *testing.T, c *change) *change {
	t.Helper()
	text, err := json.Marshal(c)
	must(t, err)
	found := &change{}
	must(t, json.Unmarshal(text, found))
	return found
}

// A change that is there is found, with all that its answer needs, by a server and
// a worker that know nothing else of it, and is not given up.
func TestChangeThatIsThereIsFoundAgain(t *testing.T) {
	f, p := module(t)
	ctx := t.Context()
	column := worker.Column{Name: "id", Type: "INTEGER", Nullable: true}
	steps := []struct {
		op   string
		what worker.Target
		sees func(*worker.Changed) bool
	}{
		{"create_bucket", worker.Target{Bucket: "b"}, func(c *worker.Changed) bool { return c.Bucket.Name == "b" && c.Measured.Buckets == 1 }},
		{"create_table", worker.Target{Bucket: "b", Table: "t", Columns: []worker.Column{column}}, func(c *worker.Changed) bool {
			return c.Table.Name == "t" && len(c.Table.Columns) == 1 && c.Measured.Tables == 1
		}},
		{"add_key", worker.Target{Bucket: "b", Table: "t", Key: []string{"id"}}, func(c *worker.Changed) bool { return len(c.Table.PrimaryKey) == 1 }},
		{"delete_rows", worker.Target{Bucket: "b", Table: "t", Where: "id = 1"}, func(c *worker.Changed) bool { return c.Deleted == 0 && c.Rows == 0 }},
		{"drop_table", worker.Target{Bucket: "b", Table: "t"}, func(c *worker.Changed) bool { return c.Measured.Tables == 0 }},
		{"drop_bucket", worker.Target{Bucket: "b"}, func(c *worker.Changed) bool { return c.Measured.Buckets == 0 }},
	}
	for _, step := range steps {
		c := &change{Project: p, Op: step.op, Call: "call-" + step.op, whole: step.what, Target: worker.Target{Bucket: step.what.Bucket, Table: step.what.Table}}
		if applied, err := f.isApplied(ctx, c); applied || err != nil {
			t.Fatalf("%s is there before it was: %v, %v", step.op, applied, err)
		}
		must(t, f.isNotApplied(ctx, c))
		must(t, f.apply(ctx, c))
		must(t, f.databases.CloseProject(ctx, p.UID))
		found := planOf(t, c)
		if applied, err := f.isApplied(ctx, found); !applied || err != nil {
			t.Fatalf("%s is not found: %v", step.op, err)
		}
		if !step.sees(found.changed) {
			t.Errorf("of %s is found %+v", step.op, found.changed)
		}
		if f.isNotApplied(ctx, found) == nil {
			t.Errorf("%s is given up although it is there", step.op)
		}
	}
}

// A caller that leaves does not decide: the change is there, or it is not, and
// its plan says the same.
func TestChangeWhoseCallerLeavesIsDoneOrNot(t *testing.T) {
	f, p := module(t)
	must(t, f.apply(t.Context(), &change{Project: p, Op: "create_bucket", Call: "first", whole: worker.Target{Bucket: "b"}}))
	left, leave := context.WithCancel(t.Context())
	leave()
	c := &change{Project: p, Op: "drop_bucket", Call: "second", whole: worker.Target{Bucket: "b"}}
	if err := f.apply(left, c); err == nil {
		t.Fatal("it was done for a caller that had left")
	}
	must(t, f.isNotApplied(t.Context(), c))
	must(t, f.apply(t.Context(), c))
	c.changed = nil
	must(t, f.apply(left, c)) // an answer that was lost behind the commit looks like this
	if c.changed == nil || c.changed.Measured.Buckets != 0 {
		t.Errorf("of the change is known %+v", c.changed)
	}
	if err := f.apply(t.Context(), c); eider.CodeOf(err) != eider.BucketNotFound {
		t.Errorf("a second time it answers %v", err)
	}
}

func TestPlanHoldsNoTextOfATenant(t *testing.T) {
	c := &change{Op: "delete_rows", whole: worker.Target{Where: "name = 'somebody'"}}
	if found := planOf(t, c); found.whole.Where != "" || found.Target.Where != "" {
		t.Errorf("the plan holds %+v", found)
	}
}
