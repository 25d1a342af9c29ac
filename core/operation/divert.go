package operation

import "github.com/eiderdb/eider"

// Divert looks at the input of a stream's call, and names the effect that the
// call is instead; nil: it is the stream. async says that the caller prefers a
// job.
type Divert[In any] func(c *Call, in In, async bool) (*Declared, error)

// StreamOr is Stream for an operation of which some calls change something or run
// on as a job. Those are calls of the effect from the moment at which their input
// is known: with its role, its idempotency record, its state of the project and
// its rows. The effect takes the same input and has no route.
func StreamOr[In any](s *Set, spec Spec, divert Divert[In], handle StreamHandler[In]) {
	d := declareStream(s, spec, handle)
	d.divert = func(c *Call, in any, async bool) (*Declared, error) { return divert(c, in.(In), async) }
	s.add(d)
}

// Declared returns the operation that the handle calls.
func (h *Handle[In, Out]) Declared() *Declared { return h.d }

// Keyed reports whether a call can have an idempotency key.
func (d *Declared) Keyed() bool { return !d.Kind.reads() || d.divert != nil }

// diverted makes the call one of the effect that its input asks for.
func (p *Pipeline) diverted(c *Call, in any, async bool) error {
	if c.Operation.divert == nil {
		return nil
	}
	to, err := c.Operation.divert(c, in, async)
	if err != nil || to == nil {
		return err
	}
	if c.Actor.Role < to.Role {
		return eider.Errorf(eider.Forbidden, "this key may not do that: it needs the role %s", to.Role)
	}
	c.request, c.Operation = c.Operation.Input, to
	return nil
}
