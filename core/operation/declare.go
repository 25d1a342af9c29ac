package operation

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/schema"
)

// Read declares an operation that changes nothing.
func Read[In, Out any](s *Set, spec Spec, handle func(context.Context, *View, In) (Out, error)) {
	d := declare[In, Out](s, spec, KindRead)
	d.run = func(ctx context.Context, p *Pipeline, _ *Call, in any) (any, error) {
		return handle(ctx, p.Store.View(), in.(In))
	}
	s.add(d)
}

// Write declares an operation that changes metadata alone. handle may run more
// than once for one call (see metadata.Tx) and touches nothing but rows.
func Write[In, Out any](s *Set, spec Spec, handle func(context.Context, *Tx, In) (Out, error)) *Handle[In, Out] {
	d := declare[In, Out](s, spec, KindWrite)
	d.run = func(ctx context.Context, p *Pipeline, c *Call, in any) (any, error) {
		return p.write(ctx, c, func(tx *Tx) (any, error) { return handle(ctx, tx, in.(In)) })
	}
	s.add(d)
	return &Handle[In, Out]{d}
}

// Steps are the parts of an operation that touches files or project databases.
// After Intent commits, the call ends in one of two ways, also across crashes:
// Effect and Outcome, or Undo and Revert.
type Steps[In, Plan, Out any] struct {
	// Intent checks, stages the rows that make the call visible as unfinished,
	// and returns the plan, which is stored as JSON and holds no secrets.
	Intent func(context.Context, *Tx, In) (Plan, error)
	// Claims lists what nobody else may change meanwhile.
	Claims func(Plan) []metadata.Claim
	// Effect does the work. It is idempotent and stops when ctx ends.
	Effect func(context.Context, Plan) error
	// Applied reports whether the effect is complete and durable.
	Applied func(context.Context, Plan) (bool, error)
	// Undo removes every trace of an effect that is not complete. Idempotent.
	Undo func(context.Context, Plan) error
	// Outcome stages the rows of success. If it refuses for good, as where a hook
	// does, the effect is undone; any other error of it is tried again.
	Outcome func(context.Context, *Tx, Plan) (Out, error)
	// Revert stages the rows as they were before Intent.
	Revert func(context.Context, *Tx, Plan) error
}

// Effect declares an operation that touches files or project databases.
func Effect[In, Plan, Out any](s *Set, spec Spec, steps Steps[In, Plan, Out]) *Handle[In, Out] {
	d := declare[In, Out](s, spec, KindEffect)
	d.run = func(ctx context.Context, p *Pipeline, c *Call, in any) (any, error) {
		return p.effect(ctx, c, erase(steps, func(ctx context.Context, tx *Tx) (Plan, error) {
			return steps.Intent(ctx, tx, in.(In))
		}))
	}
	d.settle = func(ctx context.Context, p *Pipeline, c *Call, intent audit.Row) error {
		var plan Plan
		if err := json.Unmarshal(c.unfinished.Plan, &plan); err != nil {
			return fmt.Errorf("read the plan of call %s: %w", c.ID, err)
		}
		e := erase(steps, nil)
		e.plan = plan
		return p.settle(ctx, c, e, intent)
	}
	d.revert = func(ctx context.Context, tx *Tx, c *Call) error {
		var plan Plan
		if err := json.Unmarshal(c.unfinished.Plan, &plan); err != nil {
			return fmt.Errorf("read the plan of call %s: %w", c.ID, err)
		}
		return steps.Revert(ctx, tx, plan)
	}
	s.add(d)
	return &Handle[In, Out]{d}
}

// effectSteps are Steps with the types put away; plan is set by intent.
type effectSteps struct {
	plan    any
	intent  func(context.Context, *Tx) (any, error)
	claims  func(plan any) []metadata.Claim
	effect  func(context.Context, any) error
	applied func(context.Context, any) (bool, error)
	undo    func(context.Context, any) error
	outcome func(context.Context, *Tx, any) (any, error)
	revert  func(context.Context, *Tx, any) error
}

func erase[In, Plan, Out any](s Steps[In, Plan, Out], intent func(context.Context, *Tx) (Plan, error)) *effectSteps {
	return &effectSteps{
		intent:  func(ctx context.Context, tx *Tx) (any, error) { return intent(ctx, tx) },
		claims:  func(plan any) []metadata.Claim { return s.Claims(plan.(Plan)) },
		effect:  func(ctx context.Context, plan any) error { return s.Effect(ctx, plan.(Plan)) },
		applied: func(ctx context.Context, plan any) (bool, error) { return s.Applied(ctx, plan.(Plan)) },
		undo:    func(ctx context.Context, plan any) error { return s.Undo(ctx, plan.(Plan)) },
		outcome: func(ctx context.Context, tx *Tx, plan any) (any, error) { return s.Outcome(ctx, tx, plan.(Plan)) },
		revert:  func(ctx context.Context, tx *Tx, plan any) error { return s.Revert(ctx, tx, plan.(Plan)) },
	}
}

func declare[In, Out any](s *Set, spec Spec, kind Kind) *Declared {
	if strings.HasPrefix(spec.Route, Internal+" ") { // nobody sends it
		return &Declared{Spec: spec, Kind: kind, Output: reflect.TypeFor[Out]()}
	}
	input, err := schema.InputOf[In](s.Schemas)
	if err != nil {
		panic(fmt.Sprintf("operation %s: %v", spec.Name, err))
	}
	return &Declared{
		Spec: spec, Kind: kind, Input: input.Description(), Output: reflect.TypeFor[Out](),
		decode: func(src schema.Source) (any, error) { return input.Decode(src) },
	}
}

// Handle calls a declared operation from inside the server, as a job does: with
// its policies, its row and everything else that a call has.
type Handle[In, Out any] struct{ d *Declared }

// Do runs the operation as the actor. The project, if it concerns one, is named
// by id.
func (h *Handle[In, Out]) Do(ctx context.Context, p *Pipeline, actor eider.Actor, project string, in In) (Out, error) {
	out, err := p.internal(ctx, h.d, actor, project, in)
	if err != nil {
		return *new(Out), err
	}
	return out.(Out), nil
}
