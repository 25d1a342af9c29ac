package operation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/eiderdb/eider"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Jobs keeps the calls that run on after their caller was answered. core/job
// provides it.
type Jobs struct {
	// Begin stages the job of a call and returns its id.
	Begin func(tx *Tx, c *Call) (string, error)
	// Run runs do when there is room, with a context that ends when the job is
	// cancelled.
	Run func(ctx context.Context, id string, do func(context.Context))
	// Conclude stages how the job of a call ended, if it has one. A job ends as its
	// call ends, in the same transaction.
	Conclude func(ctx context.Context, tx *Tx, c *Call, result json.RawMessage, refusal error) error
	// Progress tells how far a job is.
	Progress func(id string, fraction float64, rows int64)
}

// Progress tells how far the call is: a fraction from 0 to 1, and rows or bytes
// done. Nobody asks where the call is no job.
func (c *Call) Progress(fraction float64, rows int64) {
	if c.job != "" {
		c.pipeline.Jobs.Progress(c.job, fraction, rows)
	}
}

// accepted is the answer of a call that runs on as a job.
type accepted struct {
	JobID string `json:"job_id"`
}

// checkAsync panics where a declaration cannot be a job: a read has no end that
// could be told, unless it is another operation then, and a streamed body ends
// with its request.
func (d *Declared) checkAsync() {
	if d.Async && (!d.Keyed() || d.Streamed) {
		panic(fmt.Sprintf("operation: %q cannot run as a job", d.ID))
	}
}

// asJob answers 202 and runs the call as a job. Its idempotency key answers
// the same job again.
func (p *Pipeline) asJob(ctx context.Context, c *Call, in any, span trace.Span) (*Response, error) {
	var id string
	err := p.commit(ctx, func(tx *Tx) (err error) {
		if id, err = p.Jobs.Begin(tx, c); err != nil {
			return err
		}
		if c.idempotency == nil {
			return nil
		}
		return p.idempotent.keepAnswer(ctx, tx, c, 202, accepted{id})
	})
	if err != nil {
		p.notBegun(ctx, c, err)
		return nil, err
	}
	if c.idempotency != nil {
		p.idempotent.release(c.idempotency.Key)
		c.idempotency = nil
	}
	yes := true
	c.job, c.admitted = id, &yes // how a job ends is always a row
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		defer span.End()
		ctx, over := p.during(ctx)
		defer over()
		p.Jobs.Run(ctx, id, func(ctx context.Context) { p.runJob(ctx, c, in, span) })
	}()
	body, err := encode(accepted{id})
	return &Response{Status: 202, Body: body, Warnings: c.warnings, Headers: acceptedHeaders(id)}, err
}

// acceptedHeaders tell where to ask for the job, and that the request's Prefer
// was heeded (RFC 7240).
func acceptedHeaders(id string) map[string]string {
	return map[string]string{"Location": "/jobs/" + id, "Preference-Applied": "respond-async"}
}

// replayAccepted returns the headers of a stored answer, if it was that of a
// job.
func (d *Declared) replayAccepted(status int64, body string) map[string]string {
	var a accepted
	if !d.Async || status != 202 || json.Unmarshal([]byte(body), &a) != nil || a.JobID == "" {
		return nil
	}
	return acceptedHeaders(a.JobID)
}

// notBegun leaves the row of a call that could not be made a job. The job is no
// item of the log, so that a commit whose outcome was unknown may have kept it
// all the same: then it ends here.
func (p *Pipeline) notBegun(ctx context.Context, c *Call, failure error) {
	defer p.letGo(c)
	if errors.Is(failure, context.Canceled) {
		return // before anything was staged
	}
	p.refused(ctx, c, failure)
	ctx = context.WithoutCancel(ctx)
	err := p.commit(ctx, func(tx *Tx) error { return p.Jobs.Conclude(ctx, tx, c, nil, failure) })
	if err != nil {
		p.Log.ErrorContext(ctx, "a job that did not begin may be left queued until the next start", "call", c.ID, "error", err)
	}
}

// during returns a context with ctx's values that ends when the pipeline does,
// not when the request does; over lets go of it.
func (p *Pipeline) during(ctx context.Context) (_ context.Context, over func()) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(p.base, func() { cancel(interrupted()) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

func (p *Pipeline) runJob(ctx context.Context, c *Call, in any, span trace.Span) {
	defer p.letGoUnlessHeld(c)
	err := p.caught(ctx, c, func() error {
		_, err := c.Operation.run(ctx, p, c, in)
		return err
	})
	p.metrics.count(ctx, c, err)
	if err == nil {
		return
	}
	err = p.translate(ctx, because(ctx, err))
	span.SetStatus(codes.Error, string(eider.CodeOf(err)))
	if c.Settled || c.concluded.Load() {
		return // it has its end, or gets it with its settlement
	}
	end := func(ctx context.Context) error {
		return p.commit(ctx, func(tx *Tx) error { return p.conclude(ctx, tx, c, nil, err, 0) })
	}
	if failed := end(context.WithoutCancel(ctx)); failed != nil {
		p.Log.ErrorContext(ctx, "the end of a job could not be recorded yet", "job", c.job, "error", failed)
		p.background(c, func(ctx context.Context) error { return end(c.context(ctx)) })
	}
}

// letGoUnlessHeld ends the reservation of a job's call, unless it is still to be
// settled.
func (p *Pipeline) letGoUnlessHeld(c *Call) {
	if !c.Settled {
		p.letGo(c)
	}
}

// concludeJob stages the end of the call's job.
func (p *Pipeline) concludeJob(ctx context.Context, tx *Tx, c *Call, out any, refusal error) error {
	if p.Jobs == nil || (c.job == "" && !c.Settled) {
		return nil
	}
	var result json.RawMessage
	if refusal == nil {
		var err error
		if result, err = encode(redacted(out)); err != nil {
			return err
		}
	} else if errors.Is(refusal, context.Canceled) {
		refusal = because(ctx, refusal)
	}
	tx.After(func() { c.concluded.Store(true) })
	return p.Jobs.Conclude(ctx, tx, c, result, refusal)
}
