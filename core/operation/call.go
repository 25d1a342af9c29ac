package operation

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/schema"
	"github.com/eiderdb/eider/core/usage"
	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
)

// Call is one run of an operation. Handlers find it in their context.
type Call struct {
	ID        string
	Operation *Declared
	Actor     eider.Actor
	RequestID string
	TraceID   string
	SourceIP  string
	// Project is the project of the call as it was found at the door; a handler
	// that decides by its state reads it again from its Tx.
	Project *eider.Project
	// Settled says that the call is finished after a crash or a failure, with
	// nobody waiting for its answer.
	Settled bool
	// Body is what a streamed operation is sent, Length its length or -1, and
	// ContentType its type. Body is nil where the call is settled.
	Body        io.Reader
	Length      int64
	ContentType string

	pipeline *Pipeline
	set      *Set
	begun    time.Time
	resource string
	outcome  string // the policies' verdicts, JSON
	warnings []string
	method   string
	source   schema.Source
	request  *schema.Description // of the operation that was asked for: an effect has none that it was diverted to
	input    json.RawMessage     // for the policies, once they were asked
	adds     usage.Amounts
	makes    string // the project's id
	ticket   *usage.Ticket

	idempotency *claimed
	unfinished  unfinished
	admitted    *bool // whether a refusal of this call gets a row, once asked

	bound  context.Context // of a stream: see bind
	unbind func()

	job       string // its id, where the call is one
	concluded atomic.Bool

	mu      sync.Mutex // a stream writes details while its row is made
	details map[string]any
}

// unfinished is what the details of an in_progress row hold, so that the call
// can be settled by whoever finds it.
type unfinished struct {
	// Operation is the id of the declaration: several may share the name that
	// the row has. Rows of older versions lack it.
	Operation   string           `json:"operation,omitempty"`
	Plan        json.RawMessage  `json:"plan"`
	Claims      []metadata.Claim `json:"claims"`
	Idempotency *idempotencyKey  `json:"idempotency,omitempty"`
	// Reserved is what the call had reserved when its intent was committed.
	Reserved usage.Amounts `json:"reserved,omitzero"`
}

type callKey struct{}

// From returns the call that ctx belongs to. Outside a call it panics: a
// handler is never without.
func From(ctx context.Context) *Call { return ctx.Value(callKey{}).(*Call) }

func (c *Call) context(ctx context.Context) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

func newCall(p *Pipeline, d *Declared, r *Request) *Call {
	c := &Call{
		ID: uuid.Must(uuid.NewV7()).String(), Operation: d, Actor: r.Actor, RequestID: r.RequestID,
		SourceIP: r.SourceIP, Body: r.Body, Length: r.Length, ContentType: r.Source.ContentType,
		pipeline: p, set: p.Set, begun: r.Begun, details: map[string]any{}, method: r.Method, source: r.Source,
	}
	if c.begun.IsZero() {
		c.begun = time.Now()
	}
	return c
}

func (c *Call) traced(ctx context.Context) {
	if span := trace.SpanContextFromContext(ctx); span.HasTraceID() {
		c.TraceID = span.TraceID().String()
	}
}

// Detail adds a fact to the call's log row. It holds no secret. Setting it
// again replaces it.
func (c *Call) Detail(name string, value any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.details[name] = value
}

// Resource names the resource for the log where the path does not.
func (c *Call) Resource(id string) { c.resource = id }

// In puts the call under a project that the path does not name, such as one
// that it creates.
func (c *Call) In(p eider.Project) { c.Project = &p }

// StillMay refuses where, since the call began, its project was deleted or locked
// or its key was revoked: an outcome that would add to the project is undone
// instead. A body may take hours to come.
func (c *Call) StillMay(ctx context.Context, tx *Tx) error {
	now, err := c.pipeline.ProjectIn(ctx, tx, c.Project.UID)
	if err != nil {
		return err
	}
	if err := c.pipeline.status(c, &now); err != nil {
		return err
	}
	if c.pipeline.Standing == nil {
		return nil
	}
	return c.pipeline.Standing(ctx, tx, c.Actor)
}

// row returns the call's row with the status, as far as the call knows.
func (c *Call) row(status eider.OperationStatus, refusal error) *audit.Row {
	r := &audit.Row{
		CallID: c.ID, RequestID: c.RequestID, TraceID: c.TraceID,
		ActorType: c.Actor.Type, ActorID: c.Actor.ID, ActorName: c.Actor.Name, SourceIP: c.SourceIP,
		Operation: c.Operation.Name, ResourceType: c.Operation.Target, ResourceID: c.resource,
		Duration: time.Since(c.begun), Status: status, Decision: c.outcome, Count: 1,
	}
	switch {
	case c.Project != nil:
		r.ProjectID, r.ProjectUID = c.Project.ID, c.Project.UID
	case c.Actor.ProjectUID != "": // refused at another's door: told to its own project
		r.ProjectID, r.ProjectUID = c.Actor.ProjectID, c.Actor.ProjectUID
	}
	if refusal != nil {
		r.Code, r.Error = string(eider.CodeOf(refusal)), logged(Public(refusal))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.details) > 0 {
		if text, err := json.Marshal(c.details); err == nil {
			r.Details = string(text)
		}
	}
	return r
}

// logged returns what the log keeps of a refusal. A tenant's values may stand in
// what is said of its statement, which the caller may read and the log must not
// keep. Who repeats them says so in Logged; besides, all between the first quote and
// the last is left out.
func logged(refusal *eider.Error) string {
	const quotes = "'\"`"
	if refusal.Logged != "" {
		return refusal.Logged
	}
	switch refusal.Code {
	case eider.QueryFailed, eider.ImportFailed, eider.InvalidWhereClause, eider.DuplicateKeyValue, eider.StatementNotAllowed,
		eider.InvalidColumnType, eider.InvalidPrimaryKey, eider.InvalidFormat:
		first, last := strings.IndexAny(refusal.Message, quotes), strings.LastIndexAny(refusal.Message, quotes)
		if first >= 0 {
			return refusal.Message[:first] + "?" + refusal.Message[last+1:]
		}
	}
	return refusal.Message
}

// resumed returns the call that an intent row left unfinished.
// Its Operation is nil if this version does not know it.
func resumed(p *Pipeline, r audit.Row) (*Call, error) {
	c := &Call{
		ID: r.CallID, RequestID: r.RequestID, TraceID: r.TraceID, SourceIP: r.SourceIP,
		Actor:   eider.Actor{Type: r.ActorType, ID: r.ActorID, Name: r.ActorName},
		Settled: true, pipeline: p, set: p.Set, begun: r.Time, resource: r.ResourceID, details: map[string]any{}, outcome: r.Decision,
	}
	if r.ProjectUID != "" {
		c.Project = &eider.Project{ID: r.ProjectID, UID: r.ProjectUID}
	}
	err := json.Unmarshal([]byte(r.Details), &c.unfinished)
	c.Operation = p.Set.Named(cmp.Or(c.unfinished.Operation, r.Operation))
	if k := c.unfinished.Idempotency; k != nil {
		c.idempotency = p.idempotent.resume(*k)
	}
	return c, err
}

// Public returns the refusal that a caller may read: the error's own, or
// Internal with a neutral text.
func Public(err error) *eider.Error {
	if e, ok := refusalIn(err); ok {
		return e
	}
	return eider.Errorf(eider.Internal, "something went wrong in the server; the request id finds it in the log").Because(err)
}
