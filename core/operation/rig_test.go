package operation_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/metadata/duckdb"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/schema"
	"github.com/eiderdb/eider/core/usage"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// thing is what the operations of these tests are about: a row of a hot table.
type thing struct {
	ID    string `json:"id"`
	State string `json:"state"`
}

func newThings() *metadata.Table[thing] {
	return metadata.NewTable(metadata.Def[thing]{
		Name: "things", Hot: true, Missing: eider.NotFound, Noun: "thing",
		Columns: []metadata.Column{{Name: "id"}, {Name: "state"}},
		Key:     func(t *thing) string { return t.ID },
		Encode:  func(t *thing) []any { return []any{t.ID, t.State} },
		Decode: func(scan func(...any) error) (t thing, err error) {
			return t, scan(&t.ID, &t.State)
		},
	})
}

// register is the register of projects, as a module would bring it.
func newRegister() *metadata.Table[eider.Project] {
	return metadata.NewTable(metadata.Def[eider.Project]{
		Name: "projects", Hot: true, Missing: eider.NotFound, Noun: "project",
		Columns: []metadata.Column{{Name: "uid"}, {Name: "id"}, {Name: "status"}},
		Key:     func(p *eider.Project) string { return p.UID },
		Encode:  func(p *eider.Project) []any { return []any{p.UID, p.ID, string(p.Status)} },
		Decode: func(scan func(...any) error) (p eider.Project, err error) {
			return p, scan(&p.UID, &p.ID, (*string)(&p.Status))
		},
		Unique: map[string]func(*eider.Project) (string, bool){"id": func(p *eider.Project) (string, bool) { return p.ID, true }},
	})
}

var tables = metadata.Migration{Owner: "test", Number: 1, SQL: []string{
	`CREATE TABLE things (id TEXT PRIMARY KEY, state TEXT NOT NULL)`,
	`CREATE TABLE projects (uid TEXT PRIMARY KEY, id TEXT NOT NULL, status TEXT NOT NULL)`,
}}

// TestMain bounds the random tests: each of their steps is a commit or opens a
// database. More are run with -rapid.checks.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "30"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// rig is a pipeline on a real store, whose commits and whose disk fail as a
// test wants.
type rig struct {
	*operation.Pipeline
	dir      string
	engine   *faulty
	things   *metadata.Table[thing]
	register *metadata.Table[eider.Project]
	log      *lines

	declare []func(*rig, *operation.Set)
	options func(*operation.Options)

	mu   sync.Mutex
	full bool
}

// openRig opens a rig in dir, which may hold what an earlier one left.
func openRig(dir string, options func(*operation.Options), declare ...func(*rig, *operation.Set)) (*rig, error) {
	r := &rig{dir: dir, log: &lines{}, declare: declare, options: options}
	return r, r.open()
}

func (r *rig) open() error {
	ctx := context.Background()
	inner, err := duckdb.Open(ctx, duckdb.Options{Path: filepath.Join(r.dir, "metadata.duckdb"), Threads: 1})
	if err != nil {
		return err
	}
	r.engine, r.things, r.register = &faulty{Engine: inner}, newThings(), newRegister()
	set, records, book := operation.NewSet(), operation.NewIdempotency(time.Hour), usage.NewBook()
	for _, declare := range r.declare {
		declare(r, set)
	}
	logger := slog.New(slog.NewTextHandler(r.log, nil))
	log := audit.NewLog(nil, logger)
	store, err := metadata.Open(ctx, metadata.Options{
		Engine: r.engine, Sealer: log, Log: logger, Housekeeping: []string{"idempotency_keys"}, NoteEvery: time.Millisecond,
		Tables:     []metadata.AnyTable{r.things, r.register, book.Table, records.Table()},
		Migrations: append(append(append(audit.Migrations(), usage.Migrations()...), operation.Migrations()...), tables),
	})
	if err != nil {
		return err
	}
	chain, err := policy.NewChain(nil, logger)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	o := operation.Options{
		Set: set, Store: store, Audit: log, Usage: book, Policies: chain, Log: logger,
		Tracer: tracenoop.NewTracerProvider().Tracer("test"), Meter: metricnoop.NewMeterProvider().Meter("test"),
		Project: func(id string) (eider.Project, bool) {
			p, err := r.register.By(ctx, store.View(), "id", id)
			return p, err == nil
		},
		ProjectIn: func(ctx context.Context, tx *operation.Tx, uid string) (eider.Project, error) {
			return r.register.Get(ctx, tx, uid)
		},
		Full: func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.full },
	}
	if r.options != nil {
		r.options(&o)
	}
	if r.Pipeline, err = operation.New(o, records); err != nil {
		return errors.Join(err, store.Close())
	}
	r.Hasten()
	return nil
}

func (r *rig) close() error {
	r.Close(context.Background())
	return r.Store.Close()
}

// again closes the rig and opens it on the same data, as after a crash.
func (r *rig) again() error {
	if err := r.close(); err != nil {
		return err
	}
	if err := r.open(); err != nil {
		return err
	}
	r.Recover()
	return nil
}

// newRig is openRig for a test, which closes it.
func newRig(t testing.TB, options func(*operation.Options), declare ...func(*rig, *operation.Set)) *rig {
	t.Helper()
	r, err := openRig(t.TempDir(), options, declare...)
	must(t, err)
	t.Cleanup(func() { must(t, r.close()) })
	return r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// project puts a project with this status into the register.
func (r *rig) project(id string, status eider.ProjectStatus) {
	err := r.Record(context.Background(), audit.Row{Operation: "test", Status: eider.StatusSuccess}, func(tx *operation.Tx) error {
		return r.register.Put(context.Background(), tx, eider.Project{ID: id, UID: "uid-" + id, Status: status})
	})
	if err != nil {
		panic(err)
	}
}

func (r *rig) setFull(full bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.full = full
}

var root = eider.Actor{Type: eider.ActorRoot, Role: eider.Admin}

// call is a request, short.
type call struct {
	op, id, body, key string
	as                *eider.Actor // root if nil
}

func (c call) request(d *operation.Declared) *operation.Request {
	method, path, _ := strings.Cut(d.Route, " ")
	actor := root
	if c.as != nil {
		actor = *c.as
	}
	return &operation.Request{
		Method: method, Path: strings.ReplaceAll(path, "{id}", c.id), Actor: actor, RequestID: "r", SourceIP: "192.0.2.1",
		IdempotencyKey: c.key, Source: schema.Source{
			Param:  func(string) string { return c.id },
			Header: func(string) string { return "" },
			Body:   []byte(c.body), ContentType: "application/json",
		},
	}
}

func (r *rig) do(c call) (*operation.Response, error) {
	d := r.Set.Named(c.op)
	return r.Do(context.Background(), d, c.request(d))
}

// rows returns the log's rows with an id above after, oldest first.
func (r *rig) rows(after int64) []audit.Row {
	all, err := r.Audit.List(context.Background(), r.Store.View(), audit.Filter{AllRows: true, Limit: 1 << 20})
	if err != nil {
		panic(err)
	}
	var newer []audit.Row
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].ID > after {
			newer = append(newer, all[i])
		}
	}
	return newer
}

// told returns rows as "operation status code".
func told(rows []audit.Row) string {
	var all []string
	for _, r := range rows {
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Operation, r.Status, r.Code)))
	}
	return strings.Join(all, ", ")
}

// thing returns the state of the thing's row, "" where there is none.
func (r *rig) thing(id string) string {
	found, err := r.things.Get(context.Background(), r.Store.View(), id)
	if err != nil {
		return ""
	}
	return found.State
}

// quiet fails the test unless nothing is held: no claims, keys or reservations,
// and no call is unfinished.
func (r *rig) quiet(t testing.TB, claims ...string) {
	t.Helper()
	if open := r.Audit.Unfinished(); len(open) > 0 {
		t.Errorf("unfinished: %s", told(open))
	}
	if n := r.Held(); n > 0 {
		t.Errorf("%d idempotency keys are held", n)
	}
	ticket := r.Usage.Reserve("", usage.Amounts{})
	defer ticket.Release()
	_, seen, err := ticket.Seen(context.Background(), r.Store.View())
	must(t, err)
	held, err := r.Usage.Of(context.Background(), r.Store.View(), usage.Server)
	must(t, err)
	if seen != held {
		t.Errorf("a reservation is left: %+v where %+v is held", seen, held)
	}
	for _, resource := range claims {
		if r.claimed(resource) {
			t.Errorf("%s is claimed", resource)
		}
	}
}

var errLook = errors.New("only looked")

func (r *rig) claimed(resource string) bool {
	_, err := r.Store.Write(context.Background(), func(tx *operation.Tx) error {
		if err := tx.MustBeFree(resource); err != nil {
			return err
		}
		return errLook
	})
	return !errors.Is(err, errLook)
}

// fate is what becomes of a commit: an error instead of it, or after it.
type fate struct{ before, after error }

// faulty is an engine whose commits fail as a test wants.
type faulty struct {
	metadata.Engine
	mu   sync.Mutex
	next func(*metadata.Batch) fate
}

func (f *faulty) Commit(ctx context.Context, b *metadata.Batch) error {
	f.mu.Lock()
	next := f.next
	f.mu.Unlock()
	if next == nil {
		return f.Engine.Commit(ctx, b)
	}
	meets := next(b)
	if meets.before != nil {
		return meets.before
	}
	return errors.Join(f.Engine.Commit(ctx, b), meets.after)
}

func (f *faulty) meets(next func(*metadata.Batch) fate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next = next
}

// lines collects what is logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
