// Package operation is the one way by which anything happens: a named action by
// an actor on a resource, declared once.
//
// From a declaration come the route, the document, validation, the role check,
// the policy call, the idempotency record, span and metrics, and the row in
// operations_log. What a handler may touch is what its signature gives it: a
// View reads, a Tx stages rows, the effect of an Effect has neither.
//
// Always true: a change is durable together with its success row; a refused
// call leaves no change; an effect that was begun is finished or undone. The
// package knows no HTTP and no module.
package operation

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/schema"
	"github.com/eiderdb/eider/core/usage"
)

// Tx is the overlay in which a handler stages rows.
type Tx = metadata.Tx

// View reads what is committed.
type View = metadata.View

// Nothing is the answer of an operation that answers 204.
type Nothing struct{}

// Kind says which of the kinds of declaration an operation is.
type Kind string

// The kinds of declaration.
const (
	KindRead   Kind = "read"
	KindWrite  Kind = "write"
	KindEffect Kind = "effect"
	KindStream Kind = "stream"
)

// reads reports whether the operation changes nothing.
func (k Kind) reads() bool { return k == KindRead || k == KindStream }

// Internal is the method of a route that is called from inside the server only.
const Internal = "CALL"

// Spec is what a module declares of an operation besides its handler.
type Spec struct {
	// Name is the operation's name in the log, such as create_project. Reads
	// have one too, for spans, metrics, refusals and policies.
	Name string
	// ID is the operation's own where several share a name; Name if empty.
	ID string
	// Route is a method and a path, such as "GET /projects/{id}", perhaps with a
	// query that chooses among operations of one path. An operation
	// under /projects/{id} concerns that project. Also lists further routes to
	// the same handler.
	Route string
	Also  []string
	// Role is the least role; on a project's route it is held on the project.
	Role eider.Role
	// Target is the type of the resource in the log, such as project.
	Target string
	// Summary and Description are for the document.
	Summary     string
	Description string
	// Status is the answer's status: 200 if 0, 204 for Nothing.
	Status int
	// Errors lists the codes that the handler may answer, for the document.
	Errors []eider.Code
	// Statuses are those of codes that this operation answers with another status
	// than others do, for the document.
	Statuses map[eider.Code]int
	// Accepts lists the forms of a streamed body, Answers what a stream answers
	// where it succeeds, and Headers those that another answer has of its own. They
	// are for the document, which cannot see them in a type.
	Accepts []schema.Media
	Answers []schema.Answer
	Headers []schema.Header

	// Locked allows a change while the project is locked, Deleted while it is
	// deleted, Purged even afterwards.
	Locked, Deleted, Purged bool
	// Local operations are for commands over admin.sock alone.
	Local bool
	// Frees marks an operation that gives space back, or mends what others wait for:
	// it goes on when the disk is nearly full, and while a strict sink lags.
	Frees bool
	// Ungoverned operations are not asked of policies: they are what a policy that
	// denies everything is mended by.
	Ungoverned bool
	// Tagged answers an ETag over the body and honours If-None-Match.
	Tagged bool
	// Slow marks an operation that may take over 50 ms: it is cancelled when
	// the client leaves.
	Slow bool
	// Streamed says that the request's body is no JSON: the handler reads it from
	// its Call. Signed lets the operation be called by a signed URL.
	Streamed, Signed bool
	// Async lets a caller have the operation run as a job (Prefer: respond-async,
	// RFC 7240).
	Async bool
	// Reserve is what each call adds to usage; Adds, if set, what one with this
	// input adds besides, as far as it is known beforehand.
	Reserve usage.Amounts
	Adds    func(c *Call, in any) usage.Amounts
	// Makes, if set, returns the id of the project that a call with this input is to
	// make: policies that are for some projects are asked about those too.
	Makes func(in any) string
	// Ends marks an operation that first cancels the effects and streams that run
	// below its project.
	Ends bool
}

// Declared is an operation with its types put away.
type Declared struct {
	Spec
	Kind   Kind
	Input  *schema.Description // of the request
	Output reflect.Type        // of the answer; Nothing has no body

	decode func(schema.Source) (any, error)
	run    func(ctx context.Context, p *Pipeline, c *Call, in any) (any, error)
	settle func(ctx context.Context, p *Pipeline, c *Call, intent audit.Row) error // of an effect
	revert func(ctx context.Context, tx *Tx, c *Call) error                        // of an effect
	divert func(c *Call, in any, async bool) (*Declared, error)                    // of a stream
}

// Routes returns every method and path of the operation.
func (d *Declared) Routes() [][2]string {
	var all [][2]string
	for _, route := range append([]string{d.Route}, d.Also...) {
		if method, path, ok := strings.Cut(route, " "); ok {
			all = append(all, [2]string{method, path})
		}
	}
	return all
}

// OnProject reports whether the operation concerns the project that its path
// names as {id}.
func (d *Declared) OnProject() bool {
	path := d.pattern()
	return path == "/projects/{id}" || strings.HasPrefix(path, "/projects/{id}/")
}

// pattern returns the path of the first route, without a query.
func (d *Declared) pattern() string {
	_, path, _ := strings.Cut(d.Route, " ")
	path, _, _ = strings.Cut(path, "?")
	return path
}

// Set is all that was declared.
type Set struct {
	Schemas *schema.Registry

	all   []*Declared
	named map[string]*Declared
	hooks map[reflect.Type][]any
}

// NewSet returns a set in which nothing is declared.
func NewSet() *Set {
	return &Set{Schemas: schema.New(), named: map[string]*Declared{}, hooks: map[reflect.Type][]any{}}
}

// All returns the operations in the order of their declaration.
func (s *Set) All() []*Declared { return s.all }

// Named returns the operation with the id, nil if there is none.
func (s *Set) Named(id string) *Declared { return s.named[id] }

// add panics on a mistake in a declaration, at start.
func (s *Set) add(d *Declared) {
	if d.ID == "" {
		d.ID = d.Name
	}
	if s.named[d.ID] != nil || d.Name == "" {
		panic(fmt.Sprintf("operation: %q is declared twice or has no name", d.ID))
	}
	d.checkAsync()
	d.checkContent()
	if d.Status == 0 {
		d.Status = 200
		if d.Kind != KindStream && d.Output == reflect.TypeFor[Nothing]() {
			d.Status = 204
		}
	}
	s.named[d.ID] = d
	s.all = append(s.all, d)
}

// checkContent panics where a declaration leaves open what a client sends or gets.
func (d *Declared) checkContent() {
	switch headed, ok := reflect.Zero(d.Output).Interface().(Headed); {
	case d.Input == nil: // nobody sends it
	case d.Streamed != (len(d.Accepts) > 0):
		panic(fmt.Sprintf("operation: %q must say what bodies it accepts if they are streamed, and only then", d.ID))
	case (d.Kind == KindStream) != (len(d.Answers) > 0):
		panic(fmt.Sprintf("operation: %q must say what it answers if it is a stream, and only then", d.ID))
	case ok:
		for name := range headed.Headers() {
			if !slices.ContainsFunc(d.Headers, func(h schema.Header) bool { return h.Name == name }) {
				panic(fmt.Sprintf("operation: %q answers a header %s, which it does not declare", d.ID, name))
			}
		}
	}
}

// Documented returns what the operation answers where it succeeds.
func (d *Declared) Documented() []schema.Answer {
	if d.Kind == KindStream {
		return d.Answers
	}
	answer := schema.Answer{Status: d.Status, Headers: d.Headers}
	if d.Output != reflect.TypeFor[Nothing]() {
		answer.Media = []schema.Media{schema.JSONOf(d.Output)}
	}
	return []schema.Answer{answer}
}

// On registers a hook: do runs inside the transaction of whoever emits an E, in
// the order of registration, and may refuse. What may fail or wait for long
// belongs into a job or a follower.
func On[E any](s *Set, do func(ctx context.Context, tx *Tx, event E) error) {
	key := reflect.TypeFor[E]()
	s.hooks[key] = append(s.hooks[key], do)
}

// Emit runs the hooks for the event and returns the first refusal.
func Emit[E any](ctx context.Context, tx *Tx, event E) error {
	for _, hook := range From(ctx).set.hooks[reflect.TypeFor[E]()] {
		if err := hook.(func(context.Context, *Tx, E) error)(ctx, tx, event); err != nil {
			return err
		}
	}
	return nil
}
