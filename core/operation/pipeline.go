package operation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/schema"
	"github.com/eiderdb/eider/core/usage"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Request is what the front door hands over: an authenticated actor's request
// for one operation.
type Request struct {
	Source         schema.Source
	Method         string
	Path           string // with its query, as it came
	Actor          eider.Actor
	RequestID      string
	SourceIP       string
	IdempotencyKey string
	Begun          time.Time

	// Of a streamed operation: the body, its length or -1, and the checksums that
	// its headers declare, by which a retry is known.
	Body    io.Reader
	Length  int64
	Digests string

	// Async asks for a job, where the operation can be one.
	Async bool
}

// Response is an operation's answer.
type Response struct {
	Status   int
	Body     []byte // JSON; nil for none
	ETag     string
	Replayed bool
	Warnings []string
	Headers  map[string]string
	// Content is the body of a Stream, instead of Body. Its Ended must be called.
	Content *Content
}

// Options is what a pipeline is made of.
type Options struct {
	Set      *Set
	Store    *metadata.Store
	Audit    *audit.Log
	Usage    *usage.Book
	Policies *policy.Chain
	Log      *slog.Logger
	Tracer   trace.Tracer
	Meter    metric.Meter
	// Project finds the newest incarnation with the id, purged or not; ProjectIn
	// the one with the uid, as a transaction sees it.
	Project   func(id string) (eider.Project, bool)
	ProjectIn func(ctx context.Context, tx *Tx, uid string) (eider.Project, error)
	// Standing refuses an actor whose key was revoked since; nil refuses nobody.
	Standing func(context.Context, *Tx, eider.Actor) error
	// Full reports that the disk is nearly full.
	Full func() bool
	// Behind returns why no change may be made while a sink lags that changes wait
	// for; nil: none is waited for.
	Behind func() error
	// Jobs keeps calls that run as jobs; nil: there are none.
	Jobs *Jobs
	// LogReads gives reads rows too.
	LogReads bool
}

// Pipeline runs calls, always in the same order:
//
//	visible? -> authorise -> decode and validate -> replay (idempotency)
//	-> status (locked, deleted) -> admit (disk, usage, policies)
//	-> run -> one transaction { changes, usage, idempotency record, log row }
//
// Who the actor is was found out before. A refusal anywhere leaves a row.
type Pipeline struct {
	Options
	idempotent *idempotency
	refusals   *audit.Refusals
	metrics    instruments
	running    *running
	pause      time.Duration // after the first failed try to settle a call

	base context.Context // ends when the pipeline closes
	end  context.CancelFunc
	wg   sync.WaitGroup // of background settlement

	mu    sync.Mutex
	stuck map[string]error // unfinished calls that could not be settled yet
	tried map[string]*tried
}

// Idempotency holds the records of finished calls. It is made before the store,
// which must know its table.
type Idempotency = idempotency

// NewIdempotency returns the records; they are kept for the given time.
func NewIdempotency(keep time.Duration) *Idempotency { return newIdempotency(keep) }

// Table returns the table of records, for the store.
func (i *idempotency) Table() metadata.AnyTable { return i.records }

// New returns a pipeline. Recover settles what an earlier process left.
func New(o Options, i *Idempotency) (*Pipeline, error) {
	m, err := newInstruments(o.Meter)
	if err != nil {
		return nil, err
	}
	p := &Pipeline{Options: o, idempotent: i, refusals: audit.NewRefusals(), metrics: m, running: newRunning(), pause: settlePause, stuck: map[string]error{}, tried: map[string]*tried{}}
	p.base, p.end = context.WithCancel(context.Background())
	return p, nil
}

// Do runs one call. On a refusal the response may still say that it is a replay.
func (p *Pipeline) Do(ctx context.Context, d *Declared, r *Request) (*Response, error) {
	c := newCall(p, d, r)
	ctx, span := p.Tracer.Start(c.context(ctx), "operation "+d.Name, trace.WithAttributes(
		attribute.String("eider.operation", d.Name), attribute.String("eider.call_id", c.ID)))
	c.traced(ctx)
	answer, err := p.pass(ctx, c, r, span)
	if err == nil && c.job != "" {
		return answer, nil // the span ends with the job
	}
	if err == nil && answer.Content != nil {
		p.follow(ctx, c, span, answer.Content)
		return answer, nil
	}
	defer span.End()
	if c.ticket != nil && c.Operation.Kind != KindEffect {
		c.ticket.Release()
	}
	if err != nil {
		err = p.translate(ctx, err)
		span.SetStatus(codes.Error, string(eider.CodeOf(err)))
	}
	p.metrics.count(ctx, c, err)
	return answer, err
}

// caught runs a step of the call. A panic in it is a failure like another, so
// that the call lets go of what it holds and ends with its row.
func (p *Pipeline) caught(ctx context.Context, c *Call, step func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			p.Log.ErrorContext(ctx, "a handler panicked", "operation", c.Operation.Name, "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic in %s: %v", c.Operation.Name, v)
		}
	}()
	return step()
}

// pass takes the call through its stages.
func (p *Pipeline) pass(ctx context.Context, c *Call, r *Request, span trace.Span) (*Response, error) {
	in, answer, err := p.admit(ctx, c, r)
	if err != nil || answer != nil {
		return answer, err
	}
	if r.Async && c.Operation.Async && p.Jobs != nil {
		return p.asJob(ctx, c, in, span)
	}
	var out any
	bound := p.bind(ctx, c)
	err = because(bound, p.caught(ctx, c, func() (err error) {
		out, err = c.Operation.run(bound, p, c, in)
		return err
	}))
	if c.bound = bound; err != nil || c.Operation.Kind != KindStream {
		c.unbind()
	}
	switch {
	case c.Operation.Kind == KindRead:
		err = p.readDone(ctx, c, err)
	case c.Operation.Kind == KindStream && err != nil:
		p.refused(ctx, c, err)
	}
	if err != nil {
		return nil, err
	}
	err = p.caught(ctx, c, func() (err error) {
		answer, err = respond(c, out)
		return err
	})
	if err != nil {
		c.unbind()
	}
	return answer, err
}

// admit takes the call to the point where it may run. It returns a response
// where the call is a replay.
func (p *Pipeline) admit(ctx context.Context, c *Call, r *Request) (in any, replayed *Response, err error) {
	err = p.caught(ctx, c, func() (err error) {
		in, replayed, err = p.examine(ctx, c, r)
		if err != nil || replayed != nil {
			return err
		}
		return p.allow(ctx, c, in)
	})
	if replayed != nil {
		return nil, replayed, err
	}
	if err != nil {
		p.letGo(c)
		p.refused(ctx, c, err)
		return nil, nil, err
	}
	return in, nil, nil
}

func (p *Pipeline) examine(ctx context.Context, c *Call, r *Request) (any, *Response, error) {
	if err := p.visible(c, r); err != nil {
		return nil, nil, err
	}
	if c.Operation.Local && c.Actor.Type != eider.ActorLocal {
		return nil, nil, eider.Errorf(eider.Forbidden, "this is for commands on the server's own machine")
	}
	if c.Actor.Role < c.Operation.Role {
		return nil, nil, eider.Errorf(eider.Forbidden, "this key may not do that: it needs the role %s", c.Operation.Role)
	}
	in, err := c.Operation.decode(r.Source)
	if err != nil {
		return nil, nil, err
	}
	if err := p.diverted(c, in, r.Async); err != nil {
		return nil, nil, err
	}
	if r.IdempotencyKey != "" && !c.Operation.Kind.reads() {
		answer, err := p.replay(ctx, c, r)
		if err != nil || answer != nil {
			return nil, answer, err
		}
	}
	return in, nil, p.status(c, c.Project)
}

// visible finds the project of the call. One that the actor may not see does
// not exist for it.
func (p *Pipeline) visible(c *Call, r *Request) error {
	if !c.Operation.OnProject() {
		return nil
	}
	id := r.Source.Param("id")
	if err := eider.CheckProjectID(id); err != nil {
		return err
	}
	if c.Operation.Target == "project" {
		c.resource = id
	}
	found, ok := p.Project(id)
	if !ok || found.Status == eider.ProjectCreating || !c.Actor.Sees(found.ID, found.UID) {
		if c.Actor.Role < eider.Admin {
			return noProject(id).Because(errInvisible)
		}
		return noProject(id)
	}
	c.Project = &found
	return nil
}

// errInvisible marks a 404 that hides a project: it is logged as denied.
var errInvisible = errors.New("the actor may not see this project")

func noProject(id string) *eider.Error {
	return eider.Errorf(eider.NotFound, "there is no project %s", id)
}

// status refuses what the state of the project does not allow. It is asked at
// the door and again inside the transaction.
func (p *Pipeline) status(c *Call, project *eider.Project) error {
	if !c.Operation.OnProject() {
		return nil
	}
	switch project.Status {
	case eider.ProjectLocked:
		if c.Operation.Kind.reads() || c.Operation.Locked {
			return nil
		}
		return eider.Errorf(eider.ProjectIsLocked, "project %s is locked", project.ID)
	case eider.ProjectDeleted, eider.ProjectPurging:
		if c.Operation.Deleted {
			return nil
		}
		return noProject(project.ID)
	case eider.ProjectPurged:
		if c.Operation.Purged {
			return nil
		}
		return noProject(project.ID)
	}
	return nil
}

// recheck reads the project again inside the transaction: between the door and
// here it may have been locked or deleted. A change waits for nobody: where an
// effect holds the project, it is refused.
func (p *Pipeline) recheck(ctx context.Context, tx *Tx, c *Call) error {
	if !c.Operation.OnProject() {
		return nil
	}
	if err := tx.MustBeFree(ProjectResource(c.Project.UID)); err != nil {
		return err
	}
	now, err := p.ProjectIn(ctx, tx, c.Project.UID)
	if err != nil {
		return err
	}
	return p.status(c, &now)
}

// ProjectResource is the name under which a project is claimed.
func ProjectResource(uid string) string { return "project:" + uid }

func (p *Pipeline) replay(ctx context.Context, c *Call, r *Request) (*Response, error) {
	held, old, err := p.idempotent.claim(ctx, p.Store.View(), r)
	if err != nil {
		return nil, err
	}
	if old != nil {
		return old.replay(c.Operation)
	}
	c.idempotency = held
	return nil, nil
}

// letGo ends the call's hold on its idempotency key and its reservation.
func (p *Pipeline) letGo(c *Call) {
	if c.idempotency != nil {
		p.idempotent.release(c.idempotency.Key)
	}
	if c.ticket != nil {
		c.ticket.Release()
	}
}

// allow reserves what the call adds and asks the policies.
func (p *Pipeline) allow(ctx context.Context, c *Call, in any) error {
	if c.Operation.Kind.reads() && p.Policies.Len() == 0 {
		return nil
	}
	if !c.Operation.Kind.reads() && !c.Operation.Frees && p.Full() {
		return eider.Errorf(eider.StorageFull, "the disk is nearly full; deletes go on")
	}
	if !c.Operation.Kind.reads() && !c.Operation.Frees && p.Behind != nil {
		if err := p.Behind(); err != nil {
			return err
		}
	}
	adds := c.Operation.Reserve
	if c.Operation.Adds != nil {
		adds = adds.Plus(c.Operation.Adds(c, in))
	}
	uid := ""
	if c.Project != nil {
		uid = c.Project.UID
	}
	c.ticket, c.adds = p.Usage.Reserve(uid, adds), adds
	if c.Operation.Makes != nil {
		c.makes = c.Operation.Makes(in)
	}
	return p.ask(ctx, c, false)
}

// Extend adds to what the call has reserved, and asks the policies again with
// the new amounts: a body of unknown length grows while it is read.
func (c *Call) Extend(ctx context.Context, a usage.Amounts) error {
	c.ticket.Extend(a)
	c.adds = c.adds.Plus(a)
	err := c.pipeline.ask(ctx, c, true)
	if err != nil { // the call may ask for less
		c.ticket.Extend(usage.Amounts{}.Minus(a))
		c.adds = c.adds.Minus(a)
	}
	return err
}

func (p *Pipeline) ask(ctx context.Context, c *Call, extends bool) error {
	ctx, span := p.Tracer.Start(ctx, "policy", trace.WithAttributes(attribute.Int("eider.policies", p.Policies.Len())))
	defer span.End()
	if p.Policies.Len() == 0 || c.Operation.Ungoverned {
		return nil
	}
	if err := c.given(); err != nil {
		return err
	}
	q := policy.Question{
		Operation: c.Operation.Name, Actor: c.Actor, ResourceType: c.Operation.Target, ResourceID: c.resource,
		Project: c.Project, Makes: c.makes, RequestID: c.RequestID, SourceIP: c.SourceIP, Method: c.method, Route: c.Operation.pattern(),
		Time: c.begun, Input: c.input, Adds: c.adds, Extends: extends,
	}
	var err error
	if q.ProjectUsage, q.ServerUsage, err = c.ticket.Seen(ctx, p.Store.View()); err != nil {
		return err
	}
	verdict := p.Policies.Ask(ctx, &q)
	if err := ctx.Err(); err != nil {
		return err
	}
	c.outcome, c.warnings = verdict.JSON(), verdict.Warnings
	if verdict.Denial != nil {
		span.SetAttributes(attribute.String("eider.denied_by", verdict.Denial.Plugin))
		return verdict.Denial
	}
	return nil
}

// given makes of the request what policies are told of it.
func (c *Call) given() (err error) {
	if described := cmp.Or(c.request, c.Operation.Input); c.input == nil && described != nil {
		if c.input, err = described.Given(c.source); err != nil {
			return fmt.Errorf("what the policies are told: %w", err)
		}
	}
	return nil
}

// translate gives every error that leaves the pipeline a code, and logs what
// the caller is not told.
func (p *Pipeline) translate(ctx context.Context, err error) error {
	if e, ok := refusalIn(err); ok {
		if e.Code == eider.Internal || e.Code == eider.StorageUnavailable {
			p.Log.ErrorContext(ctx, "an operation failed", "error", err)
		}
		return err
	}
	if errors.Is(err, context.Canceled) {
		return eider.Errorf(eider.Cancelled, "the request was cancelled").Because(err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return eider.Errorf(eider.RequestTimeout, "the request took too long").Because(err)
	}
	p.Log.ErrorContext(ctx, "an operation failed", "error", err)
	return Public(err)
}

func refusalIn(err error) (*eider.Error, bool) {
	var e *eider.Error
	ok := errors.As(err, &e)
	return e, ok
}

// Close stops background settlement and writes what refusals were counted.
func (p *Pipeline) Close(ctx context.Context) {
	p.end()
	p.wg.Wait()
	p.flushRefusals(ctx, true)
}
