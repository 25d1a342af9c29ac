package operation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/auth"
	"github.com/eiderdb/eider/core/metadata"
	"go.opentelemetry.io/otel/codes"
)

// effect runs a call that touches files or project databases:
//
//	commit the intent: rows, claims, and an in_progress row with the plan
//	do the effect; only here does the client's context count
//	commit the outcome: rows, idempotency record, final row, claims released
//
// An effect that fails is undone, and its final row says failed; so is one whose
// outcome is refused. If undoing or the outcome fails, no final row is written
// and the claims stay: the call is settled in the background, now or after the
// next start, by the same steps.
func (p *Pipeline) effect(ctx context.Context, c *Call, e *effectSteps) (any, error) {
	p.makeRoom(ctx, c, e)
	intent, err := p.intend(ctx, c, e)
	if err != nil {
		p.letGo(c)
		return nil, err
	}
	finish := context.WithoutCancel(ctx)
	if c.Operation.Ends && c.Project != nil {
		p.running.end(ctx, c.Project.UID) // reads and streams, which hold nothing
	}
	ctx, ended := p.running.begin(ctx, c)
	defer ended()
	defer c.endBodyWith(ctx)()
	var out any
	failure := left(because(ctx, p.perform(ctx, c, e)))
	if failure == nil {
		if out, err = p.finish(finish, c, e, *intent); err == nil {
			return out, nil
		}
		if !forGood(err) {
			p.later(c, err, func(ctx context.Context) error { return p.settle(ctx, c, e, *intent) })
			return nil, unsettled(err)
		}
		failure = err
	}
	if err := p.undo(finish, c, e, *intent, failure); err != nil {
		p.later(c, err, func(ctx context.Context) error {
			c.Detail("settled", "undone")
			err := p.undo(c.context(ctx), c, e, *intent, failure)
			if errors.Is(err, ErrApplied) {
				return p.settle(ctx, c, e, *intent)
			}
			return err
		})
	}
	return nil, failure
}

// left gives the failure of a call whose caller has left the code that says so,
// for its row.
func left(err error) error {
	if _, refused := refusalIn(err); refused || !errors.Is(err, context.Canceled) {
		return err
	}
	return eider.Errorf(eider.Cancelled, "the request was cancelled").Because(err)
}

// ErrApplied is what Undo returns of an effect that is there after all and does
// not go away any more, as one whose outcome was unknown. It is finished instead.
var ErrApplied = errors.New("the effect is there, although it was given up")

// forGood reports that an outcome was refused, as by a hook, and will be again:
// it is not only that the storage or the moment does not allow it.
func forGood(err error) bool {
	if _, refused := refusalIn(err); !refused {
		return false
	}
	switch eider.CodeOf(err) {
	case eider.OperationInProgress, eider.StorageUnavailable, eider.StorageFull, eider.ShuttingDown, eider.ProjectRestarted,
		eider.RequestTimeout, eider.Cancelled, eider.RateLimited, eider.Internal:
		return false
	}
	return true
}

// errTried ends a transaction that was only to see what would be refused.
var errTried = errors.New("tried")

// makeRoom ends what runs below the project of a call that would be refused for
// that alone. One that is refused anyway, as by If-Match, ends nothing.
func (p *Pipeline) makeRoom(ctx context.Context, c *Call, e *effectSteps) {
	if !c.Operation.Ends || c.Project == nil || !p.running.any(c.Project.UID) {
		return
	}
	var refusal error
	_, err := p.Store.Write(ctx, func(tx *Tx) error {
		refusal = tx.Try(func() error {
			return p.caught(ctx, c, func() error {
				_, err := p.stageIntent(ctx, tx, c, e)
				return err
			})
		})
		return errTried
	})
	if errors.Is(err, errTried) && eider.CodeOf(refusal) == eider.OperationInProgress {
		p.running.end(ctx, c.Project.UID)
	}
}

func unsettled(err error) error {
	e := eider.Errorf(eider.StorageUnavailable, "the outcome could not be recorded yet; it will be, and the resource stays reserved until then")
	e.RetryAfter = time.Second
	return e.Because(err)
}

// intend commits the intent and returns its row.
func (p *Pipeline) intend(ctx context.Context, c *Call, e *effectSteps) (*audit.Row, error) {
	var row *audit.Row
	var refusal error
	err := p.commit(ctx, func(tx *Tx) error {
		row = nil
		refusal = tx.Try(func() error {
			return p.caught(ctx, c, func() (err error) {
				row, err = p.stageIntent(ctx, tx, c, e)
				return err
			})
		})
		if refusal != nil {
			return p.conclude(ctx, tx, c, nil, refusal, 0)
		}
		return nil
	})
	if err != nil {
		p.notKept(ctx, c, err)
		return nil, err
	}
	return row, refusal
}

func (p *Pipeline) stageIntent(ctx context.Context, tx *Tx, c *Call, e *effectSteps) (*audit.Row, error) {
	if err := p.recheck(ctx, tx, c); err != nil {
		return nil, err
	}
	plan, err := e.intent(ctx, tx)
	if err != nil {
		return nil, err
	}
	e.plan = plan
	claims := e.claims(plan)
	if err := tx.Claim(c.ID, claims...); err != nil {
		return nil, err
	}
	return p.inProgress(tx, c, plan, claims)
}

func (p *Pipeline) inProgress(tx *Tx, c *Call, plan any, claims []metadata.Claim) (*audit.Row, error) {
	text, err := json.Marshal(plan)
	if err != nil {
		return nil, fmt.Errorf("encode the plan: %w", err)
	}
	// The log keeps no secret, also not in a plan; and a call that a crash has cut is
	// finished by its plan, so nothing is made whose name would not be in it.
	if !c.Operation.Frees && auth.Redact(string(text)) != string(text) {
		return nil, eider.Errorf(eider.ValidationFailed, "a name in this request has the form of an API key: keys are secrets, and names are not")
	}
	c.unfinished = unfinished{Operation: c.Operation.ID, Plan: text, Claims: claims, Reserved: c.adds}
	if c.idempotency != nil {
		c.unfinished.Idempotency = &c.idempotency.idempotencyKey
	}
	row := c.row(eider.StatusInProgress, nil)
	details, err := json.Marshal(c.unfinished)
	if err != nil {
		return nil, fmt.Errorf("encode the plan: %w", err)
	}
	row.Details = string(details)
	tx.Stage(row)
	return row, nil
}

// perform runs the effect.
func (p *Pipeline) perform(ctx context.Context, c *Call, e *effectSteps) error {
	ctx, span := p.Tracer.Start(ctx, "effect "+c.Operation.Target)
	defer span.End()
	err := p.caught(ctx, c, func() error { return e.effect(ctx, e.plan) })
	if err != nil {
		span.SetStatus(codes.Error, string(eider.CodeOf(err)))
	}
	return err
}

// finish commits the outcome.
func (p *Pipeline) finish(ctx context.Context, c *Call, e *effectSteps, intent audit.Row) (any, error) {
	var out any
	err := p.commit(ctx, func(tx *Tx) error {
		var err error
		if out, err = e.outcome(ctx, tx, e.plan); err != nil {
			return fmt.Errorf("outcome: %w", err)
		}
		return p.concludeEffect(ctx, tx, c, out, nil, intent)
	})
	return out, err
}

// undo removes what the effect left, then commits the failure.
func (p *Pipeline) undo(ctx context.Context, c *Call, e *effectSteps, intent audit.Row, failure error) error {
	if err := p.caught(ctx, c, func() error { return e.undo(ctx, e.plan) }); err != nil {
		return fmt.Errorf("undo: %w", err)
	}
	return p.commit(ctx, func(tx *Tx) error {
		if err := e.revert(ctx, tx, e.plan); err != nil {
			return fmt.Errorf("revert: %w", err)
		}
		return p.concludeEffect(ctx, tx, c, nil, failure, intent)
	})
}

// concludeEffect stages the second row of the call, and lets its claims and its
// idempotency key go once that is durable.
func (p *Pipeline) concludeEffect(ctx context.Context, tx *Tx, c *Call, out any, failure error, intent audit.Row) error {
	tx.Release(c.ID)
	tx.After(func() { p.letGo(c) })
	return p.conclude(ctx, tx, c, out, failure, intent.ID)
}

// later settles the call in the background. One whose caller was told that it
// failed is undone, with that failure in its row; only where nobody knows any
// more does Applied decide.
func (p *Pipeline) later(c *Call, cause error, settle func(context.Context) error) {
	p.Log.Error("a call is left unfinished and will be settled", "operation", c.Operation.Name, "call", c.ID, "error", cause)
	c.Settled = true
	p.background(c, settle)
}

// errInterrupted is why a call failed that a crash cut short.
var errInterrupted = errors.New("interrupted")

// settle finishes a call whose effect is complete and undoes any other.
func (p *Pipeline) settle(ctx context.Context, c *Call, e *effectSteps, intent audit.Row) error {
	ctx = c.context(ctx)
	applied, err := e.applied(ctx, e.plan)
	if err != nil {
		return fmt.Errorf("is the effect applied: %w", err)
	}
	if applied {
		c.Detail("settled", "finished")
		_, err := p.finish(ctx, c, e, intent)
		if !forGood(err) {
			return err
		}
		c.Detail("settled", "undone")
		return p.undo(ctx, c, e, intent, err)
	}
	c.Detail("settled", "undone")
	return p.undo(ctx, c, e, intent, interrupted())
}

func interrupted() error {
	return eider.Errorf(eider.Interrupted, "the server stopped or failed before the operation was complete").Because(errInterrupted)
}
