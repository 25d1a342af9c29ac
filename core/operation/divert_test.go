package operation_test

import (
	"context"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/schema"
	"github.com/eiderdb/eider/core/waittest"
)

type diverse struct {
	ID   string `path:"id" json:"-"`
	Mode string `json:"mode,omitempty"`
}

func declareDiverse(_ *rig, s *operation.Set) {
	spec := operation.Spec{Name: "do", ID: "do_change", Route: operation.Internal + " /projects/{id}/do", Role: eider.ProjectWrite, Target: "thing"}
	change := operation.Effect(s, spec, operation.Steps[diverse, thing, thing]{
		Intent: func(context.Context, *operation.Tx, diverse) (thing, error) { return thing{}, nil },
		Claims: noClaims, Effect: func(context.Context, thing) error { return nil },
		Applied: func(context.Context, thing) (bool, error) { return true, nil }, Undo: func(context.Context, thing) error { return nil },
		Outcome: func(context.Context, *operation.Tx, thing) (thing, error) { return thing{}, nil },
		Revert:  func(context.Context, *operation.Tx, thing) error { return nil },
	})
	spec.ID, spec.Route, spec.Role = "", "POST /projects/{id}/do", eider.ProjectRead
	spec.Answers = []schema.Answer{{Status: 200}}
	operation.StreamOr(s, spec, func(_ *operation.Call, in diverse, _ bool) (*operation.Declared, error) {
		switch in.Mode {
		case "change":
			return change.Declared(), nil
		case "refused":
			return nil, errTaken
		}
		return nil, nil
	}, func(context.Context, *operation.View, diverse) (*operation.Content, error) {
		return &operation.Content{}, nil
	})
}

// A call of a stream that is an effect is one in everything: its role, its key,
// the state of its project and its rows.
func TestStreamThatIsAnEffectHasTheRulesOfOne(t *testing.T) {
	r := newRig(t, nil, declareDiverse)
	r.project("p", eider.ProjectActive)
	r.project("locked", eider.ProjectLocked)
	reader := eider.Actor{Type: eider.ActorKey, ID: "k", Role: eider.ProjectRead, ProjectID: "p", ProjectUID: "uid-p"}
	for name, c := range map[string]struct {
		call call
		code eider.Code
		rows string
	}{
		"a change":      {call{id: "p", body: `{"mode":"change"}`, key: "k"}, "", "do in_progress, do success"},
		"a reader":      {call{id: "p", body: `{"mode":"change"}`, as: &reader}, eider.Forbidden, "do denied forbidden"},
		"locked":        {call{id: "locked", body: `{"mode":"change"}`}, eider.ProjectIsLocked, "do failed project_locked"},
		"refused":       {call{id: "p", body: `{"mode":"refused"}`}, eider.ProjectExists, "do failed project_exists"},
		"a wrong input": {call{id: "p", body: `{"mod":"change"}`}, eider.ValidationFailed, "do failed validation_failed"},
	} {
		c.call.op = "do"
		before := r.Audit.Head().ID
		_, err := r.do(c.call)
		if code := eider.CodeOf(err); (err != nil) != (c.code != "") || (err != nil && code != c.code) {
			t.Errorf("%s: answered %v", name, err)
		}
		if got := told(r.rows(before)); got != c.rows {
			t.Errorf("%s: the log got %q, want %q", name, got, c.rows)
		}
	}
	again, err := r.do(call{op: "do", id: "p", body: `{"mode":"change"}`, key: "k"})
	if err != nil || !again.Replayed {
		t.Errorf("again with its key it answered %+v, %v", again, err)
	}
	read, err := r.do(call{op: "do", id: "locked", body: `{}`, key: "k"})
	if err != nil || read.Content == nil {
		t.Fatalf("a read answered %+v, %v", read, err)
	}
	read.Content.Ended(0, nil)
	waittest.Until(t, "the read has its row", func() bool { rows := r.rows(0); return rows[len(rows)-1].ProjectID == "locked" })
	r.quiet(t)
}
