package operation_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/schema"
)

// gate is a policy that denies while it is closed, and counts who asked.
type gate struct {
	closed, panics bool
	asked          int
}

func (g *gate) Decide(context.Context, *policy.Question) (policy.Decision, error) {
	g.asked++
	if g.panics {
		panic("provoked")
	}
	return policy.Decision{Deny: g.closed, Reason: "closed"}, nil
}

func (g *gate) options(o *operation.Options) {
	chain, err := policy.NewChain([]policy.Item{{Name: "gate", Policy: g, Mode: policy.Enforce}}, slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err)
	}
	o.Policies = chain
}

type nameIn struct {
	ID   string `path:"id" json:"-"`
	Name string `json:"name" required:"true"`
}

type nameless struct {
	ID string `path:"id" json:"-"`
}

var errTaken = eider.Errorf(eider.ProjectExists, "it is taken")

// The stages in their order, and how each one refuses. A call that every stage
// from one on would refuse is refused by that one, and reaches none behind it.
func TestStagesAreAskedInTheirOrder(t *testing.T) {
	g, ran := &gate{}, 0
	r := newRig(t, g.options, func(_ *rig, s *operation.Set) {
		operation.Write(s, operation.Spec{Name: "name_thing", Route: "POST /projects/{id}/things", Role: eider.ProjectWrite, Target: "thing"},
			func(context.Context, *operation.Tx, nameIn) (thing, error) {
				ran++
				return thing{}, errTaken
			})
	})
	stages := []struct {
		name   string
		refuse func(*call)
		want   string
	}{
		{"visible", func(c *call) { c.as.ProjectID, c.as.ProjectUID = "q", "uid-q" }, "name_thing denied not_found"},
		{"authorise", func(c *call) { c.as.Role = eider.ProjectRead }, "name_thing denied forbidden"},
		{"decode", func(c *call) { c.body = `{"nmae":"b"}` }, "name_thing failed validation_failed"},
		{"replay", func(c *call) { c.key = "used" }, "name_thing failed idempotency_conflict"},
		{"status", func(*call) { r.project("p", eider.ProjectLocked) }, "name_thing failed project_locked"},
		{"disk", func(*call) { r.setFull(true) }, "name_thing failed storage_full"},
		{"policy", func(*call) { g.closed = true }, "name_thing denied denied_by_policy"},
		{"run", func(*call) {}, "name_thing failed project_exists"},
	}
	writer := eider.Actor{Type: eider.ActorKey, ID: "k", Role: eider.ProjectWrite, ProjectID: "p", ProjectUID: "uid-p"}
	r.project("p", eider.ProjectActive)
	if _, err := r.do(call{op: "name_thing", id: "p", body: `{"name":"a"}`, key: "used", as: &writer}); !errors.Is(err, errTaken) {
		t.Fatalf("the first call with the key: %v", err)
	}
	for first, stage := range stages {
		r.project("p", eider.ProjectActive)
		r.setFull(false)
		g.closed, g.asked, ran = false, 0, 0
		as := writer
		c := call{op: "name_thing", id: "p", body: `{"name":"b"}`, as: &as}
		for _, s := range stages[first:] {
			s.refuse(&c)
		}
		before := r.Audit.Head().ID
		answer, err := r.do(c)
		if answer != nil || err == nil {
			t.Errorf("%s: answered %v, %v", stage.name, answer, err)
		}
		if got := told(r.rows(before)); got != stage.want {
			t.Errorf("%s: the log got %q, want %q", stage.name, got, stage.want)
		}
		if asked := stage.name == "policy" || stage.name == "run"; (g.asked > 0) != asked {
			t.Errorf("%s: the policy was asked %d times", stage.name, g.asked)
		}
		if (ran > 0) != (stage.name == "run") {
			t.Errorf("%s: the handler ran %d times", stage.name, ran)
		}
		r.quiet(t)
	}
}

// What was found at the door is found again in the transaction.
func TestProjectIsLockedBetweenDoorAndTransaction(t *testing.T) {
	var r *rig
	g := &gate{}
	r = newRig(t, func(o *operation.Options) {
		g.options(o)
		find := o.Project
		o.Project = func(id string) (eider.Project, bool) {
			p, ok := find(id)
			p.Status = eider.ProjectActive // as it was a moment ago
			return p, ok
		}
	}, declareKinds)
	for status, want := range map[eider.ProjectStatus]string{
		eider.ProjectLocked: "failed project_locked", eider.ProjectDeleted: "failed not_found", eider.ProjectPurged: "failed not_found",
	} {
		r.project("p", status)
		for _, kind := range []string{"write", "effect"} {
			before := r.Audit.Head().ID
			if _, err := r.do(call{op: kind, id: "p"}); err == nil {
				t.Errorf("%s on a project that is %s went well", kind, status)
			}
			if got := told(r.rows(before)); got != kind+" "+want {
				t.Errorf("%s on a project that is %s: the log got %q, want %q", kind, status, got, want)
			}
		}
	}
	r.quiet(t)
}

// declareKinds declares an operation of each kind that succeeds, or ends as its
// rig's handler wants.
func declareKinds(_ *rig, s *operation.Set) { kinds{}.declare(nil, s) }

// kinds is an operation of each kind, on a project. end is what their handlers
// do; an effect does it in its Intent.
type kinds struct{ end func() error }

func (k kinds) ends() error {
	if k.end == nil {
		return nil
	}
	return k.end()
}

func (k kinds) declare(_ *rig, s *operation.Set) {
	spec := func(kind, method string) operation.Spec {
		return operation.Spec{Name: kind, Route: method + " /projects/{id}/" + kind, Role: eider.ProjectRead, Target: "thing"}
	}
	operation.Read(s, spec("read", "GET"), func(context.Context, *operation.View, nameless) (thing, error) { return thing{}, k.ends() })
	stream := spec("stream", "GET")
	stream.Answers = []schema.Answer{{Status: 200}}
	operation.Stream(s, stream, func(context.Context, *operation.View, nameless) (*operation.Content, error) {
		return &operation.Content{}, k.ends()
	})
	operation.Write(s, spec("write", "POST"), func(context.Context, *operation.Tx, nameless) (thing, error) { return thing{}, k.ends() })
	operation.Effect(s, spec("effect", "POST"), operation.Steps[nameless, thing, thing]{
		Intent: func(context.Context, *operation.Tx, nameless) (thing, error) { return thing{}, k.ends() },
		Claims: noClaims, Effect: func(context.Context, thing) error { return nil },
		Applied: func(context.Context, thing) (bool, error) { return true, nil }, Undo: func(context.Context, thing) error { return nil },
		Outcome: func(context.Context, *operation.Tx, thing) (thing, error) { return thing{}, nil },
		Revert:  func(context.Context, *operation.Tx, thing) error { return nil },
	})
}

func noClaims(thing) []metadata.Claim { return nil }

// A refused change leaves a row, whoever refuses and however; a refused read
// leaves one where it was denied.
func TestRefusalsLeaveRows(t *testing.T) {
	g := &gate{}
	var end func() error
	r := newRig(t, g.options, kinds{func() error {
		if end == nil {
			return nil
		}
		return end()
	}}.declare)
	r.project("p", eider.ProjectActive)
	stranger := eider.Actor{Type: eider.ActorKey, ID: "k", Role: eider.ProjectRead, ProjectID: "q", ProjectUID: "uid-q"}
	nobody := eider.Actor{Type: eider.ActorKey, ID: "n", Role: eider.Anonymous, ProjectID: "p", ProjectUID: "uid-p"}
	for name, c := range map[string]struct {
		call   call
		before func()
		status string // and code, of the row
		noRead bool   // a read leaves none
	}{
		"invisible":           {call{id: "p", as: &stranger}, nil, "denied not_found", false},
		"unknown":             {call{id: "x"}, nil, "failed not_found", true},
		"no id":               {call{id: "../x"}, nil, "failed validation_failed", true},
		"role":                {call{id: "p", as: &nobody}, nil, "denied forbidden", false},
		"policy":              {call{id: "p"}, func() { g.closed = true }, "denied denied_by_policy", false},
		"a policy panics":     {call{id: "p"}, func() { g.panics = true }, "denied denied_by_policy", false},
		"the handler refuses": {call{id: "p"}, func() { end = func() error { return errTaken } }, "failed project_exists", true},
		"the handler forbids": {call{id: "p"}, func() { end = func() error { return eider.Errorf(eider.Forbidden, "no") } }, "denied forbidden", false},
		"the handler fails":   {call{id: "p"}, func() { end = func() error { return errors.New("broken") } }, "failed internal", true},
		"the handler panics":  {call{id: "p"}, func() { end = func() error { panic("provoked") } }, "failed internal", true},
	} {
		for _, kind := range []string{"read", "stream", "write", "effect"} {
			g.closed, g.panics, end = false, false, nil
			if c.before != nil {
				c.before()
			}
			before := r.Audit.Head().ID
			c.call.op, c.call.key = kind, kind+name
			if _, err := r.do(c.call); err == nil {
				t.Errorf("%s, %s: it went well", kind, name)
			}
			want := kind + " " + c.status
			if kind == "read" && c.noRead {
				want = ""
			}
			if got := told(r.rows(before)); got != want {
				t.Errorf("%s, %s: the log got %q, want %q", kind, name, got, want)
			}
			r.quiet(t)
		}
	}
}

// A refusal is told once its row is durable. Where the row's group failed it is
// not told: the handler may have refused for what a neighbour had staged.
func TestRefusalWhoseGroupFailedIsNotTold(t *testing.T) {
	r := newRig(t, nil, kinds{func() error { return errTaken }}.declare)
	r.project("p", eider.ProjectActive)
	for _, kind := range []string{"write", "effect"} {
		r.engine.meets(failing)
		_, err := r.do(call{op: kind, id: "p"})
		if code := eider.CodeOf(err); code != eider.StorageUnavailable {
			t.Errorf("%s: told %s, want storage_unavailable", kind, code)
		}
		r.engine.meets(nil)
	}
	r.quiet(t)
}

func failing(*metadata.Batch) fate { return fate{before: rolledBack(errFailed)} }

// Equal refusals beyond a bound are counted, and told by one row at the end.
func TestEqualRefusalsBecomeOneRow(t *testing.T) {
	r := newRig(t, nil, kinds{func() error { return errTaken }}.declare)
	r.project("p", eider.ProjectActive)
	before := r.Audit.Head().ID
	for range 25 {
		if _, err := r.do(call{op: "write", id: "p"}); !errors.Is(err, errTaken) {
			t.Fatal(err)
		}
	}
	if n := len(r.rows(before)); n != 10 {
		t.Errorf("25 refusals left %d rows, want 10", n)
	}
	r.Close(context.Background())
	all := r.rows(before)
	if last := all[len(all)-1]; len(all) != 11 || last.Count != 15 || told([]audit.Row{last}) != "write failed project_exists" {
		t.Errorf("at the end there are %d rows, the last is %+v", len(all), last)
	}
}
