package job_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/job"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/metadata/duckdb"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/schema"
	"github.com/eiderdb/eider/core/usage"
	"github.com/eiderdb/eider/core/waittest"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// rig is a pipeline with jobs on a real store, and an effect that works for as
// long as a test wants.
type rig struct {
	*operation.Pipeline
	*work
	jobs   *job.Jobs
	engine *failing
	dir    string
	slots  int
}

func newRig(t *testing.T, slots int) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir(), slots: slots}
	r.open(t)
	t.Cleanup(func() { r.close(t) })
	return r
}

func (r *rig) open(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	engine, err := duckdb.Open(ctx, duckdb.Options{Path: filepath.Join(r.dir, "metadata.duckdb"), Threads: 1})
	must(t, err)
	set, records, book := operation.NewSet(), operation.NewIdempotency(time.Hour), usage.NewBook()
	r.jobs, r.engine = job.New(r.slots, r.slots), &failing{Engine: engine}
	r.work = &work{dir: r.dir, begun: make(chan string, 100), finish: make(chan struct{})}
	r.declare(set)
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	log := audit.NewLog(nil, logger)
	store, err := metadata.Open(ctx, metadata.Options{
		Engine: r.engine, Sealer: log, Log: logger, Housekeeping: []string{"idempotency_keys", "jobs"}, NoteEvery: time.Millisecond,
		Tables:     []metadata.AnyTable{r.jobs.Table, book.Table, records.Table()},
		Migrations: append(append(append(audit.Migrations(), usage.Migrations()...), operation.Migrations()...), job.Migrations()...),
	})
	must(t, err)
	chain, err := policy.NewChain(nil, logger)
	must(t, err)
	r.Pipeline, err = operation.New(operation.Options{
		Set: set, Store: store, Audit: log, Usage: book, Policies: chain, Log: logger, Full: func() bool { return false }, Jobs: r.jobs.Hooks(),
		Tracer: tracenoop.NewTracerProvider().Tracer("test"), Meter: metricnoop.NewMeterProvider().Meter("test"),
	}, records)
	must(t, err)
	must(t, r.jobs.Recover(ctx, r.Pipeline))
	r.Recover()
}

func (r *rig) close(t *testing.T) {
	r.Close(context.Background())
	must(t, r.Store.Close())
}

// crash goes on with a copy of the folder, as it is now: what a kill leaves.
func (r *rig) crash(t *testing.T) *rig {
	t.Helper()
	next := &rig{dir: t.TempDir(), slots: r.slots}
	must(t, os.CopyFS(next.dir, os.DirFS(r.dir)))
	next.open(t)
	t.Cleanup(func() { next.close(t) })
	return next
}

// do calls the effect by its name, as a job.
func (r *rig) do(op, name, key string) (*operation.Response, error) {
	return r.Do(context.Background(), r.Set.Named(op), &operation.Request{
		Method: "POST", Path: "/" + op, Actor: eider.Actor{Type: eider.ActorRoot, Role: eider.Admin}, IdempotencyKey: key, Async: true,
		Source: schema.Source{
			Param: func(string) string { return "" }, Header: func(string) string { return "" },
			Body: []byte(`{"name":"` + name + `"}`), ContentType: "application/json",
		},
	})
}

// begin has the effect done as a job and returns the job's id.
func (r *rig) begin(t *testing.T, name string) string {
	t.Helper()
	answer, err := r.do("work", name, "")
	must(t, err)
	if answer.Status != 202 || answer.Headers["Location"] != "/jobs/"+idIn(answer) {
		t.Fatalf("answered %+v", answer)
	}
	return idIn(answer)
}

func idIn(a *operation.Response) string {
	_, id, _ := strings.Cut(string(a.Body), `{"job_id":"`)
	return strings.TrimSuffix(id, `"}`)
}

func (r *rig) get(t *testing.T, id string) job.Job {
	t.Helper()
	found, err := r.jobs.Get(context.Background(), r.Store.View(), id)
	must(t, err)
	return found
}

// ends waits for the end of a job, and wants it to agree with its rows: told is
// the status and code of the job, then its rows. Lists show a row a moment after
// its commit, when the head of the log has moved.
func (r *rig) ends(t *testing.T, id, told string) job.Job {
	t.Helper()
	var rows string
	waittest.Until(t, "job "+id+" and its call end", func() bool {
		rows = r.rowsOf(t, r.get(t, id).CallID)
		return r.get(t, id).Status.Ended() && rows != "" && !strings.HasSuffix(rows, string(eider.StatusInProgress))
	})
	found := r.get(t, id)
	if is := strings.TrimSpace(string(found.Status)+" "+found.Code) + ":" + rows; is != told {
		t.Errorf("the job and its rows are %q, want %q", is, told)
	}
	if found.EndedAt == nil || found.EndedAt.Before(found.CreatedAt) {
		t.Errorf("the job of %v ended at %v", found.CreatedAt, found.EndedAt)
	}
	return found
}

// rowsOf returns the statuses of a call's rows, oldest first.
func (r *rig) rowsOf(t *testing.T, call string) (statuses string) {
	t.Helper()
	all, err := r.Audit.List(context.Background(), r.Store.View(), audit.Filter{AllRows: true, Limit: 1000})
	must(t, err)
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].CallID == call {
			statuses += " " + string(all[i].Status)
		}
	}
	return statuses
}

// has waits for the effect of that name to be under way.
func (r *rig) has(t *testing.T, name string) {
	t.Helper()
	select {
	case begun := <-r.begun:
		if begun != name {
			t.Fatalf("%s has begun, want %s", begun, name)
		}
	case <-time.After(time.Minute):
		t.Fatalf("%s does not begin", name)
	}
}

// quiet waits until nothing is left of calls that ended: what a commit lets go of
// goes a moment after it.
func (r *rig) quiet(t *testing.T) {
	t.Helper()
	waittest.Until(t, "no call is unfinished and no job that ended is in memory", func() bool {
		return len(r.Audit.Unfinished()) == 0 && r.jobs.Open() == 0
	})
}

// work is an effect that makes a file once it may finish.
type work struct {
	dir    string
	begun  chan string
	finish chan struct{}

	mu   sync.Mutex
	undo error
}

type workPlan struct {
	Name string `json:"name"`
}

type workInput struct {
	Name string `json:"name" required:"true" maxLength:"20"`
}

type workDone struct {
	Name string `json:"name"`
	Text string `json:"text,omitempty"`
}

func (w *work) declare(set *operation.Set) {
	steps := operation.Steps[workInput, workPlan, workDone]{
		Intent: func(_ context.Context, _ *operation.Tx, in workInput) (workPlan, error) {
			if in.Name == "refused" {
				return workPlan{}, eider.Errorf(eider.FileNotFound, "there is nothing to work on")
			}
			return workPlan(in), nil
		},
		Claims: func(p workPlan) []metadata.Claim { return []metadata.Claim{{Resource: "work:" + p.Name}} },
		Effect: w.run,
		Applied: func(_ context.Context, p workPlan) (bool, error) {
			_, err := os.Stat(w.path(p))
			return err == nil, nil
		},
		Undo:   w.remove,
		Revert: func(context.Context, *operation.Tx, workPlan) error { return nil },
		Outcome: func(_ context.Context, _ *operation.Tx, p workPlan) (workDone, error) {
			done := workDone{Name: p.Name}
			if p.Name == "long" {
				done.Text = strings.Repeat("x", 64<<10)
			}
			return done, nil
		},
	}
	operation.Effect(set, operation.Spec{Name: "work", Route: "POST /work", Role: eider.Admin, Target: "work", Async: true}, steps)
	operation.Write(set, operation.Spec{Name: "note", Route: "POST /note", Role: eider.ProjectWrite, Target: "work", Async: true},
		func(_ context.Context, _ *operation.Tx, in workInput) (workDone, error) {
			return workDone{Name: in.Name}, nil
		})
}

func (w *work) path(p workPlan) string { return filepath.Join(w.dir, p.Name+".done") }

func (w *work) run(ctx context.Context, p workPlan) error {
	if p.Name == "panics" {
		panic("in the effect")
	}
	operation.From(ctx).Progress(0.5, 50)
	if p.Name == "applied" {
		must(nil, os.WriteFile(w.path(p), nil, 0o600))
	}
	w.begun <- p.Name
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-w.finish:
		return os.WriteFile(w.path(p), nil, 0o600)
	}
}

func (w *work) remove(_ context.Context, p workPlan) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.undo != nil {
		return w.undo
	}
	return os.RemoveAll(w.path(p))
}

// undoing makes Undo fail, or pass again with nil.
func (w *work) undoing(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.undo = err
}

// failing is an engine that refuses, or keeps and denies, what touches a table.
type failing struct {
	metadata.Engine
	mu      sync.Mutex
	table   string
	unknown bool
	failed  int
}

// arm makes every commit that touches the table fail; one whose outcome is
// unknown fails once, and is kept. "" is no table.
func (f *failing) arm(table string, unknown bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.table, f.unknown, f.failed = table, unknown, 0
}

// refused reports whether a commit has failed.
func (f *failing) refused() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed > 0
}

// meets reports whether the batch fails, and whether it is kept.
func (f *failing) meets(b *metadata.Batch) (fails, kept bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range b.Changes {
		if c.Table.Name == f.table && (!f.unknown || f.failed == 0) {
			f.failed++
			return true, f.unknown
		}
	}
	return false, true
}

func (f *failing) Commit(ctx context.Context, b *metadata.Batch) error {
	fails, kept := f.meets(b)
	var err error
	if kept {
		err = f.Engine.Commit(ctx, b)
	}
	if !fails {
		return err
	}
	if kept {
		return errors.Join(err, errors.New("the answer is lost"))
	}
	return metadata.ErrRolledBack
}

func must(t testing.TB, err error) {
	if err == nil {
		return
	}
	if t == nil {
		panic(err)
	}
	t.Helper()
	t.Fatal(err)
}
