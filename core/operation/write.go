package operation

import (
	"context"
	"errors"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
	"go.opentelemetry.io/otel/attribute"
)

// write runs a handler that changes metadata alone, in one transaction with its
// idempotency record and its row. A refused change and the row that reports it
// share a transaction too. Where that fails the refusal is not told: it may be
// for what a neighbour had staged, and is gone with the group; the row is then
// that of the failure, if that much can be written.
func (p *Pipeline) write(ctx context.Context, c *Call, handle func(*Tx) (any, error)) (any, error) {
	defer p.letGo(c)
	var out any
	var refusal error
	err := p.commit(ctx, func(tx *Tx) error {
		refusal = tx.Try(func() error {
			return p.caught(ctx, c, func() (err error) {
				if err = p.recheck(ctx, tx, c); err == nil {
					out, err = handle(tx)
				}
				if err == nil && c.Operation.Ends && c.Project != nil {
					tx.After(func() { p.running.cancel(c.Project.UID) })
				}
				return err
			})
		})
		return p.conclude(ctx, tx, c, out, refusal, 0)
	})
	if err != nil {
		p.notKept(ctx, c, err)
		return nil, err
	}
	return out, refusal
}

// notKept leaves the row of a call of which nothing was kept. What was refused
// without a row has none here either, and a job gets it with its end.
func (p *Pipeline) notKept(ctx context.Context, c *Call, failure error) {
	if c.job == "" {
		p.refused(ctx, c, failure)
	}
}

// conclude stages how the call ended: its idempotency record and its final row.
// A refusal that leaves neither is returned, so that nothing is committed.
func (p *Pipeline) conclude(ctx context.Context, tx *Tx, c *Call, out any, refusal error, intent int64) error {
	if err := p.idempotent.store(ctx, tx, c, out, refusal); err != nil {
		return err
	}
	if err := p.concludeJob(ctx, tx, c, out, refusal); err != nil {
		return err
	}
	if c.ticket != nil {
		if err := c.ticket.Settle(ctx, tx); err != nil {
			return err
		}
	}
	if refusal == nil {
		row := c.row(eider.StatusSuccess, nil)
		row.IntentID = intent
		tx.Stage(row)
		return nil
	}
	row := c.row(ending(refusal), refusal)
	row.IntentID = intent
	if intent == 0 && !p.admits(c, refusal) {
		if c.idempotency == nil || !kept(refusal) {
			return refusal
		}
		return nil
	}
	tx.Stage(row)
	return nil
}

// ending is the status of a refused call's row.
func ending(refusal error) eider.OperationStatus {
	switch eider.CodeOf(refusal) {
	case eider.Unauthorized, eider.Forbidden, eider.DeniedByPolicy, eider.RateLimited, eider.QuotaExceeded:
		return eider.StatusDenied
	}
	if errors.Is(refusal, errInvisible) {
		return eider.StatusDenied
	}
	return eider.StatusFailed
}

// admits decides once for a call whether its refusal gets a row of its own.
func (p *Pipeline) admits(c *Call, refusal error) bool {
	if c.admitted == nil {
		ok := p.refusals.Admit(*c.row(ending(refusal), refusal))
		c.admitted = &ok
	}
	return *c.admitted
}

// commit hands fn to the writer, under a span that says how many shared the
// commit.
func (p *Pipeline) commit(ctx context.Context, fn func(*Tx) error) error {
	return p.commitBy(ctx, p.Store.Write, fn)
}

func (p *Pipeline) commitBy(ctx context.Context, write func(context.Context, func(*Tx) error) (metadata.Receipt, error), fn func(*Tx) error) error {
	ctx, span := p.Tracer.Start(ctx, "metadata write")
	defer span.End()
	receipt, err := write(ctx, fn)
	span.SetAttributes(
		attribute.Int("eider.group_size", receipt.Group),
		attribute.Int64("eider.waited_us", receipt.Waited.Microseconds()),
		attribute.Int64("eider.commit_us", receipt.Commit.Microseconds()))
	return err
}

// refused leaves the row of a call that was refused before it ran. Reads leave
// one only where they were denied.
func (p *Pipeline) refused(ctx context.Context, c *Call, refusal error) {
	if code := eider.CodeOf(refusal); errors.Is(refusal, context.Canceled) && (code == eider.Internal || code == eider.Cancelled) {
		return // nobody was refused: the caller has left
	}
	if c.Operation.Kind == KindRead && ending(refusal) != eider.StatusDenied && !p.LogReads {
		return
	}
	if !p.admits(c, refusal) {
		return
	}
	err := p.commit(context.WithoutCancel(ctx), func(tx *Tx) error {
		tx.Stage(c.row(ending(refusal), refusal))
		return nil
	})
	if err != nil {
		p.Log.ErrorContext(ctx, "a refusal could not be logged", "operation", c.Operation.Name, "error", err)
	}
}

// Refuse leaves the row of a request that was refused at the door, before its
// actor or its operation was known. d is nil where no operation was named.
func (p *Pipeline) Refuse(ctx context.Context, d *Declared, r *Request, refusal error) {
	if d == nil {
		d = &Declared{Spec: Spec{Name: "authenticate", Target: "server"}, Kind: KindWrite}
	}
	c := newCall(p, d, r)
	c.traced(ctx)
	p.metrics.count(ctx, c, refusal)
	p.refused(ctx, c, refusal)
}

// readDone leaves the row of a read, where reads are logged or it was denied.
func (p *Pipeline) readDone(ctx context.Context, c *Call, refusal error) error {
	if !p.LogReads {
		if refusal != nil {
			p.refused(ctx, c, refusal)
		}
		return refusal
	}
	status := eider.StatusSuccess
	if refusal != nil {
		status = ending(refusal)
	}
	err := p.commit(context.WithoutCancel(ctx), func(tx *Tx) error {
		tx.Stage(c.row(status, refusal))
		return nil
	})
	return errors.Join(refusal, err)
}

// flushRefusals writes the rows for refusals that were counted.
func (p *Pipeline) flushRefusals(ctx context.Context, last bool) {
	due := p.refusals.Due(last)
	if len(due) == 0 {
		return
	}
	err := p.commit(ctx, func(tx *Tx) error {
		for i := range due {
			row := due[i]
			tx.Stage(&row)
		}
		return nil
	})
	if err != nil {
		p.Log.ErrorContext(ctx, "counted refusals could not be logged", "rows", len(due), "error", err)
	}
}

// Tend does the pipeline's housekeeping until ctx ends: counted refusals and
// expired idempotency records.
func (p *Pipeline) Tend(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	swept := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p.flushRefusals(ctx, false)
		if time.Since(swept) < time.Minute || p.Audit.Behind() > 0 {
			continue
		}
		swept = time.Now()
		if err := p.idempotent.sweep(ctx, p.Store); err != nil && ctx.Err() == nil {
			p.Log.Warn("expired idempotency records could not be swept", "error", err)
		}
	}
}
