package operation

import (
	"context"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
)

// tried is a call that is being settled in the background.
type tried struct {
	call *Call
	stop context.CancelFunc
	over chan struct{} // closed once it is tried no more
}

// begin makes the context in which a call is settled, until the pipeline closes or
// the call is abandoned.
func (p *Pipeline) begin(c *Call) (context.Context, *tried) {
	base, stop := context.WithCancel(p.base)
	t := &tried{call: c, stop: stop, over: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tried[c.ID] = t
	return base, t
}

// Abandon gives up a call that is stuck: it is tried no more, its resource is free
// again, and its final row says who gave it up. Its rows become what they were
// before it, if they can; what its effect left behind is for the check to find. A
// call that has ended meanwhile is no error.
func (p *Pipeline) Abandon(ctx context.Context, call string, by eider.Actor) error {
	p.mu.Lock()
	stuck, t := p.stuck[call], p.tried[call]
	p.mu.Unlock()
	if stuck == nil {
		return nil
	}
	if t != nil {
		t.stop()
		select {
		case <-t.over:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for _, row := range p.Audit.Unfinished() {
		if row.CallID == call {
			return p.abandon(ctx, t, row, by)
		}
	}
	p.clearStuck(call)
	return nil
}

func (p *Pipeline) abandon(ctx context.Context, t *tried, intent audit.Row, by eider.Actor) error {
	c, err := resumed(p, intent)
	if t != nil {
		c = t.call
	} else if err != nil {
		c.Operation = nil // its plan cannot be read
	}
	if c.Operation == nil || c.Operation.revert == nil {
		c.Operation = &Declared{Spec: Spec{Name: intent.Operation, Target: intent.ResourceType}, Kind: KindEffect}
	}
	c.Settled = true
	c.Detail("settled", "abandoned")
	c.Detail("abandoned_by", by.Name)
	failure := eider.Errorf(eider.Interrupted, "the operation could be neither finished nor undone, and was given up by a repair")
	ctx = c.context(context.WithoutCancel(ctx))
	err = p.commit(ctx, func(tx *Tx) error {
		if revert := c.Operation.revert; revert != nil {
			reverted := tx.Try(func() error { return revert(ctx, tx, c) })
			if reverted != nil {
				p.Log.ErrorContext(ctx, "the rows of a call that is given up stay as they are", "call", c.ID, "error", reverted)
			}
		}
		return p.concludeEffect(ctx, tx, c, nil, failure, intent)
	})
	if err == nil {
		p.clearStuck(c.ID)
	}
	return err
}
