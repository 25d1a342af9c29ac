package operation_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/usage"
	"github.com/eiderdb/eider/core/waittest"
)

// The events of these tests.
type (
	named   struct{ thing thing }
	unnamed struct{}
)

// naming is a rig whose operations add a thing and emit it: in a write, in the
// intent of an effect, and in the outcome of one.
type naming struct {
	*rig
	files   map[string]bool // what the effects have made
	emitted []string
}

func newNaming(t *testing.T, hooks ...func(context.Context, *operation.Tx, named) error) *naming {
	t.Helper()
	n := &naming{files: map[string]bool{}}
	n.rig = newRig(t, nil, func(r *rig, s *operation.Set) {
		n.declare(r, s)
		for _, hook := range hooks {
			operation.On(s, hook)
		}
		operation.On(s, func(context.Context, *operation.Tx, unnamed) error { return errTaken })
	})
	return n
}

func (n *naming) declare(r *rig, s *operation.Set) {
	add := func(ctx context.Context, tx *operation.Tx, id string) (thing, error) {
		it := thing{id, "named"}
		if err := r.things.Put(ctx, tx, it); err != nil {
			return it, err
		}
		return it, operation.Emit(ctx, tx, named{it})
	}
	operation.Write(s, operation.Spec{Name: "write", Route: "POST /write", Role: eider.Admin, Target: "thing"},
		func(ctx context.Context, tx *operation.Tx, in putBox) (thing, error) { return add(ctx, tx, in.ID) })
	for _, at := range []string{"intent", "outcome"} {
		operation.Effect(s, operation.Spec{Name: at, Route: "POST /" + at, Role: eider.Admin, Target: "thing"},
			operation.Steps[putBox, thing, thing]{
				Intent: func(ctx context.Context, tx *operation.Tx, in putBox) (thing, error) {
					if at == "intent" {
						return add(ctx, tx, in.ID)
					}
					return thing{ID: in.ID}, nil
				},
				Claims:  noClaims,
				Effect:  func(_ context.Context, plan thing) error { n.files[plan.ID] = true; return nil },
				Applied: func(_ context.Context, plan thing) (bool, error) { return n.files[plan.ID], nil },
				Undo:    func(_ context.Context, plan thing) error { delete(n.files, plan.ID); return nil },
				Outcome: func(ctx context.Context, tx *operation.Tx, plan thing) (thing, error) {
					if at == "outcome" {
						return add(ctx, tx, plan.ID)
					}
					return plan, nil
				},
				Revert: func(ctx context.Context, tx *operation.Tx, plan thing) error {
					return r.things.Delete(ctx, tx, plan.ID)
				},
			})
	}
}

var emitters = []string{"write", "intent", "outcome"}

func TestHooksRunInOrderInsideTheTransaction(t *testing.T) {
	var n *naming
	follow := func(name string) func(context.Context, *operation.Tx, named) error {
		return func(ctx context.Context, tx *operation.Tx, e named) error {
			if _, err := n.things.Get(ctx, tx, e.thing.ID); err != nil {
				t.Errorf("%s does not see what the handler has staged: %v", name, err)
			}
			if n.thing(e.thing.ID) != "" {
				t.Errorf("%s comes after the commit", name)
			}
			n.emitted = append(n.emitted, name)
			return n.things.Put(ctx, tx, thing{e.thing.ID + name, operation.From(ctx).ID})
		}
	}
	n = newNaming(t, follow("first"), follow("second"))
	for _, op := range emitters {
		n.emitted = nil
		if _, err := n.do(call{op: op, body: `{"id":"` + op + `"}`}); err != nil {
			t.Errorf("%s: %v", op, err)
		}
		if got := fmt.Sprint(n.emitted); got != "[first second]" {
			t.Errorf("%s: %s ran", op, got)
		}
		rows := n.rows(0)
		for _, name := range n.emitted {
			if call := n.thing(op + name); call == "" || call != rows[len(rows)-1].CallID {
				t.Errorf("%s: %s has left %q in the call %s", op, name, call, rows[len(rows)-1].CallID)
			}
		}
	}
}

// Nothing is left of a change that a hook refuses: not the handler's rows, not
// those of the hooks before, not the effect.
func TestRefusedHookRefusesTheWholeChange(t *testing.T) {
	for name, c := range map[string]struct {
		refuse func() error
		code   eider.Code
		sticks bool // an outcome that fails so is tried again
	}{
		"refuses": {func() error { return errTaken }, eider.ProjectExists, false},
		"fails":   {func() error { return errFailed }, eider.Internal, true},
		"panics":  {func() error { panic("provoked") }, eider.Internal, true},
	} {
		t.Run(name, func(t *testing.T) {
			var n *naming
			var mu sync.Mutex
			refusing := true
			n = newNaming(t, func(ctx context.Context, tx *operation.Tx, e named) error {
				if err := n.Usage.Add(ctx, tx, "", usage.Amounts{Tables: 1}); err != nil {
					return err
				}
				return n.things.Put(ctx, tx, thing{e.thing.ID + " hooked", ""})
			}, func(context.Context, *operation.Tx, named) error {
				mu.Lock()
				defer mu.Unlock()
				if !refusing {
					return nil
				}
				return c.refuse()
			})
			for _, op := range emitters {
				if c.sticks && op == "outcome" {
					continue // see the next test
				}
				before := n.Audit.Head().ID
				if _, err := n.do(call{op: op, body: `{"id":"a"}`}); err == nil {
					t.Errorf("%s went well", op)
				}
				want := op + " failed " + string(c.code)
				if op == "outcome" {
					want = "outcome in_progress, " + want
				}
				if got := told(n.rows(before)); got != want {
					t.Errorf("%s: the log got %q, want %q", op, got, want)
				}
				if keys := n.things.Keys(); len(keys) > 0 || len(n.files) > 0 {
					t.Errorf("%s: there are %v and the files %v", op, keys, n.files)
				}
				if held, err := n.Usage.Of(context.Background(), n.Store.View(), usage.Server); err != nil || held != (usage.Amounts{}) {
					t.Errorf("%s: the usage is %+v, %v", op, held, err)
				}
				n.quiet(t)
			}
			mu.Lock()
			refusing = false
			mu.Unlock()
			if _, err := n.do(call{op: "write", body: `{"id":"a"}`}); err != nil || n.thing("a") == "" {
				t.Errorf("without the refusal: %v", err)
			}
		})
	}
}

// A hook that fails in an outcome may pass later: the outcome is tried again.
func TestHookThatFailsInAnOutcomeIsRunAgain(t *testing.T) {
	failures := 3
	n := newNaming(t, func(context.Context, *operation.Tx, named) error {
		if failures--; failures >= 0 {
			return errFailed
		}
		return nil
	})
	if _, err := n.do(call{op: "outcome", body: `{"id":"a"}`}); eider.CodeOf(err) != eider.StorageUnavailable {
		t.Errorf("told %v", err)
	}
	waittest.Until(t, "the call is settled", func() bool { return len(n.Audit.Unfinished()) == 0 })
	if got := told(n.rows(0)); got != "outcome in_progress, outcome success" || n.thing("a") == "" {
		t.Errorf("the log got %q, the thing is %q", got, n.thing("a"))
	}
}

// An operation that is called from inside the server has all that a call has.
func TestHandleRunsAWholeCall(t *testing.T) {
	ctx := context.Background()
	g := &gate{}
	var writes *operation.Handle[nameless, thing]
	var effects *operation.Handle[nameless, thing]
	job := eider.Actor{Type: eider.ActorSystem, Name: "sweeper", Role: eider.Admin}
	refusal := error(nil)
	r := newRig(t, g.options, func(r *rig, s *operation.Set) {
		spec := operation.Spec{Name: "sweep", Route: operation.Internal + " /projects/{id}", Role: eider.Admin, Target: "project", Reserve: usage.Amounts{Files: 1}}
		writes = operation.Write(s, spec, func(ctx context.Context, _ *operation.Tx, _ nameless) (thing, error) {
			return thing{ID: operation.From(ctx).Project.UID}, refusal
		})
		spec.Name = "purge"
		effects = operation.Effect(s, spec, operation.Steps[nameless, thing, thing]{
			Intent: func(ctx context.Context, _ *operation.Tx, _ nameless) (thing, error) {
				return thing{ID: operation.From(ctx).Project.UID}, nil
			},
			Claims: noClaims, Effect: func(context.Context, thing) error { return refusal },
			Undo:    func(context.Context, thing) error { return nil },
			Outcome: func(_ context.Context, _ *operation.Tx, plan thing) (thing, error) { return plan, nil },
			Revert:  func(context.Context, *operation.Tx, thing) error { return nil },
		})
	})
	r.project("p", eider.ProjectActive)
	for _, c := range []struct {
		name    string
		project string
		prepare func()
		rows    string // of "sweep", "purge" alike; an effect has an intent besides where it begins
		begins  bool
	}{
		{"allowed", "p", func() {}, "success", true},
		{"refused by the handler", "p", func() { refusal = errTaken }, "failed project_exists", true},
		{"panics", "p", func() { g.panics = true }, "denied denied_by_policy", false},
		{"denied", "p", func() { g.closed = true }, "denied denied_by_policy", false},
		{"locked", "p", func() { r.project("p", eider.ProjectLocked) }, "failed project_locked", false},
		{"unknown", "q", func() {}, "failed not_found", false},
	} {
		refusal, g.closed, g.panics = nil, false, false
		r.project("p", eider.ProjectActive)
		c.prepare()
		for op, do := range map[string]func() (thing, error){
			"sweep": func() (thing, error) { return writes.Do(ctx, r.Pipeline, job, c.project, nameless{}) },
			"purge": func() (thing, error) { return effects.Do(ctx, r.Pipeline, job, c.project, nameless{}) },
		} {
			before := r.Audit.Head().ID
			out, err := do()
			if ok := c.rows == "success"; ok != (err == nil) || ok && out.ID != "uid-p" {
				t.Errorf("%s, %s: %+v, %v", op, c.name, out, err)
			}
			rows, want := r.rows(before), op+" "+c.rows
			if op == "purge" && c.begins {
				want = "purge in_progress, " + want
			}
			if got := told(rows); got != want {
				t.Errorf("%s, %s: the log got %q, want %q", op, c.name, got, want)
			}
			if last := rows[len(rows)-1]; last.ActorType != eider.ActorSystem || last.ActorName != "sweeper" {
				t.Errorf("%s, %s: done by %+v", op, c.name, last)
			}
			r.quiet(t)
		}
	}
}

// A change with If-Match is made only if the resource is still the one that was
// read. Of many that have read the same, one is made.
func TestIfMatchLetsOneChangeThrough(t *testing.T) {
	type patch struct {
		IfMatch string `header:"If-Match" json:"-"`
		State   string `json:"state,omitempty"`
	}
	r := newRig(t, nil, func(r *rig, s *operation.Set) {
		operation.Read(s, operation.Spec{Name: "get", Route: "GET /thing", Role: eider.Admin, Target: "thing", Tagged: true},
			func(ctx context.Context, v *operation.View, _ nameless) (thing, error) {
				return r.things.Get(ctx, v, "a")
			})
		operation.Write(s, operation.Spec{Name: "patch", Route: "PATCH /thing", Role: eider.Admin, Target: "thing", Tagged: true},
			func(ctx context.Context, tx *operation.Tx, in patch) (thing, error) {
				it, err := r.things.Get(ctx, tx, "a")
				if err != nil {
					return it, err
				}
				if err := operation.CheckMatch(in.IfMatch, it); err != nil {
					return it, err
				}
				it.State = in.State
				return it, r.things.Put(ctx, tx, it)
			})
	})
	must(t, r.Record(context.Background(), audit.Row{Operation: "test", Status: eider.StatusSuccess}, func(tx *operation.Tx) error {
		return r.things.Put(context.Background(), tx, thing{"a", "new"})
	}))
	read, err := r.do(call{op: "get"})
	must(t, err)
	const writers = 16
	var wg sync.WaitGroup
	answers, errs := make([]*operation.Response, writers), make([]error, writers)
	for i := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			d := r.Set.Named("patch")
			request := call{body: fmt.Sprintf(`{"state":"s%d"}`, i)}.request(d)
			request.Source.Header = func(name string) string { return map[string]string{"If-Match": read.ETag}[name] }
			answers[i], errs[i] = r.Do(context.Background(), d, request)
		}()
	}
	wg.Wait()
	won := -1
	for i, err := range errs {
		switch {
		case err == nil && won < 0:
			won = i
		case eider.CodeOf(err) != eider.PreconditionFailed:
			t.Errorf("writer %d: %v, after %d has won", i, err, won)
		}
	}
	if now, err := r.do(call{op: "get"}); err != nil || won < 0 || now.ETag != answers[won].ETag || now.ETag == read.ETag || r.thing("a") != fmt.Sprintf("s%d", won) {
		t.Errorf("now it is %+v, %v", now, err)
	}
}

func TestEntityTagsAreComparedStrongly(t *testing.T) {
	it := thing{"a", "<b>"}
	var tag string
	r := newRig(t, nil, func(_ *rig, s *operation.Set) {
		operation.Read(s, operation.Spec{Name: "get", Route: "GET /thing", Role: eider.Admin, Target: "thing", Tagged: true},
			func(context.Context, *operation.View, nameless) (thing, error) { return it, nil })
	})
	read, err := r.do(call{op: "get"})
	must(t, err)
	if tag = read.ETag; len(tag) != 34 || !strings.HasPrefix(tag, `"`) {
		t.Errorf("the tag is %s", tag)
	}
	for header, ok := range map[string]bool{
		"": true, "*": true, " * ": true, tag: true, `"x", ` + tag: true, tag + `,"x"`: true, " " + tag + " ": true,
		`"x"`: false, "W/" + tag: false, strings.Trim(tag, `"`): false, `"x","y"`: false, ",": false,
	} {
		err := operation.CheckMatch(header, it)
		if (err == nil) != ok || err != nil && eider.CodeOf(err) != eider.PreconditionFailed {
			t.Errorf("If-Match: %s: %v, want allowed %v", header, err, ok)
		}
	}
	if err := operation.CheckMatch(tag, thing{"a", "c"}); eider.CodeOf(err) != eider.PreconditionFailed {
		t.Errorf("of another state: %v", err)
	}
	if err := operation.CheckMatch(tag, func() {}); err == nil || errors.As(err, new(*eider.Error)) {
		t.Errorf("of what is no resource: %v", err)
	}
}
