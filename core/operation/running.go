package operation

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/eiderdb/eider"
)

// running holds the effects and streams under way of each project, so that who
// deletes the project can end them first.
type running struct {
	mu    sync.Mutex
	calls map[string]map[*Call]*run // by the project's uid
}

type run struct {
	cancel context.CancelCauseFunc
	why    error
	done   chan struct{}
}

func newRunning() *running { return &running{calls: map[string]map[*Call]*run{}} }

// errEnded is why a change ended whose project is being deleted.
var errEnded = eider.Errorf(eider.OperationInProgress, "the project is being deleted")

// errGone is why a read or a stream ended then: others are told the same.
var errGone = eider.Errorf(eider.NotFound, "the project was deleted while this ran")

// begin returns a context that ends with the project, and what to call at the
// end of the call.
func (r *running) begin(ctx context.Context, c *Call) (context.Context, func()) {
	if c.Project == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	one := &run{cancel, errEnded, make(chan struct{})}
	if c.Operation.Kind.reads() {
		one.why = errGone
	}
	uid := c.Project.UID
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls[uid] == nil {
		r.calls[uid] = map[*Call]*run{}
	}
	r.calls[uid][c] = one
	return ctx, sync.OnceFunc(func() {
		cancel(nil)
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.calls[uid], c)
		if len(r.calls[uid]) == 0 {
			delete(r.calls, uid)
		}
		close(one.done)
	})
}

// bind has a read or a stream end with its project, from before it begins: the
// returned context is for all of it. unbind is called at its end, which of a stream
// comes after its handler has returned.
func (p *Pipeline) bind(ctx context.Context, c *Call) context.Context {
	c.unbind = func() {}
	if c.Operation.Kind == KindStream || c.Operation.Kind == KindRead && c.Operation.Slow {
		ctx, c.unbind = p.running.begin(ctx, c)
	}
	return ctx
}

// any reports whether something runs below the project.
func (r *running) any(uid string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.calls[uid]) > 0
}

// cancel ends what runs below the project, without waiting for it.
func (r *running) cancel(uid string) []*run {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*run
	for _, one := range r.calls[uid] {
		one.cancel(one.why)
		all = append(all, one)
	}
	return all
}

// endWithin is what cancelled calls have to end.
const endWithin = 5 * time.Second

// end cancels what runs below the project and waits for it. What does not end in
// time still holds its claims, and refuses who asked.
func (r *running) end(ctx context.Context, uid string) {
	all := r.cancel(uid)
	if len(all) == 0 {
		return
	}
	late := time.NewTimer(endWithin)
	defer late.Stop()
	for _, one := range all {
		select {
		case <-one.done:
		case <-ctx.Done():
			return
		case <-late.C:
			return
		}
	}
}

// because returns the refusal for which ctx was cancelled, if there was one and
// err says no more than that it was.
func because(ctx context.Context, err error) error {
	var refusal *eider.Error
	if err != nil && errors.Is(err, context.Canceled) && errors.As(context.Cause(ctx), &refusal) {
		return refusal.Because(err)
	}
	return err
}

// Interrupter is a body whose reads can be made to end: a client that sends
// nothing must not keep a call from ending.
type Interrupter interface{ Interrupt() }

// endBodyWith has reads of the call's body end when ctx does, until the returned
// function is called.
func (c *Call) endBodyWith(ctx context.Context) (release func()) {
	body, ok := c.Body.(Interrupter)
	if !ok {
		return func() {}
	}
	c.Body = &boundBody{ctx, c.Body}
	stop := context.AfterFunc(ctx, body.Interrupt)
	return func() { stop() }
}

// boundBody tells why its reads were ended.
type boundBody struct {
	ctx  context.Context
	body io.Reader
}

func (b *boundBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if eider.CodeOf(err) == eider.RequestTimeout && b.ctx.Err() != nil {
		err = b.ctx.Err() // an interrupted read looks like one that waited too long
	}
	return n, err
}
