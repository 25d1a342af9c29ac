package tables

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/projectdb/wire"
	"github.com/eiderdb/eider/core/projectdb/worker"
)

// relay hands bytes on from a worker to a client. One frame at a time is on its
// way: a client that reads slowly holds the statement up, and no memory.
//
//	worker -> gRPC -> run (one goroutine) -> data -> copy (the connection's)
//
// It ends when the statement does, when the statement's time is over, or when it
// is abandoned.
type relay struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	limit   time.Duration
	asked   time.Time
	started chan struct{} // closed once head is set
	data    chan []byte
	done    chan struct{} // closed once end and err are set
	head    worker.QueryHead
	end     worker.QueryEnd
	err     error

	progress func(fraction float64, rows int64) // may be nil

	// The statement's time runs only while it computes: not before it begins, nor
	// while the client takes rows.
	mu    sync.Mutex
	left  time.Duration
	since time.Time
	timer *time.Timer
}

// newRelay returns a relay for a statement that may take as long as limit, of which
// left is left.
func newRelay(ctx context.Context, limit, left time.Duration) *relay {
	r := &relay{limit: limit, left: left, asked: time.Now(), started: make(chan struct{}), data: make(chan []byte), done: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	r.timer = time.AfterFunc(left, func() { r.cancel(errTimeout) })
	r.timer.Stop()
	return r
}

// errTimeout is why a statement was stopped whose time is over.
var errTimeout = errors.New("the statement's time is over")

// errAbandoned is why one was stopped for whose rows nobody waits.
var errAbandoned = errors.New("nobody waits for the rows")

// run has the worker do what is asked for.
func (r *relay) run(databases *projectdb.Supervisor, project projectdb.Project, request wire.Request) {
	defer close(r.done)
	defer r.pause()
	r.err = databases.Run(r.ctx, project, request, projectdb.Sinks{Begun: r.resume, Head: r.takeHead, Data: r.take, Progress: r.progress}, &r.end)
	if r.err != nil {
		r.err = r.why(r.err)
	}
}

func (r *relay) takeHead(text json.RawMessage) error {
	if err := json.Unmarshal(text, &r.head); err != nil {
		return fmt.Errorf("%w: its head: %w", projectdb.ErrLie, err)
	}
	close(r.started) // there is one head: see projectdb.Sinks
	return nil
}

// take hands a frame to the client. Meanwhile the statement's time stands still.
func (r *relay) take(p []byte) error {
	r.pause()
	defer r.resume()
	select {
	case r.data <- p:
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

func (r *relay) pause() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer.Stop() {
		r.left -= time.Since(r.since)
	}
}

func (r *relay) resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.since = time.Now()
	r.timer.Reset(max(r.left, time.Millisecond))
}

// rest is what is left of the time of a statement that does not run.
func (r *relay) rest() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.left
}

// why tells a statement that was stopped from one that failed.
func (r *relay) why(err error) error { return overdue(r.ctx, err, r.limit) }

// overdue returns the refusal of a statement whose time is over, and any other
// error as it is.
func overdue(ctx context.Context, err error, timeout time.Duration) error {
	if errors.Is(context.Cause(ctx), errTimeout) {
		return eider.Errorf(eider.QueryTimeout, "the statement did not end within %d ms", timeout.Milliseconds()).Because(err)
	}
	return err
}

// copy writes what comes until the statement has ended, and returns how.
func (r *relay) copy(w io.Writer) error {
	for {
		select {
		case p := <-r.data:
			if _, err := w.Write(p); err != nil {
				r.abandon()
				return err
			}
		case <-r.done:
			return r.err
		}
	}
}

// abandon stops the statement.
func (r *relay) abandon() { r.cancel(errAbandoned) }

// Close stops the statement, if it still runs.
func (r *relay) Close() error {
	r.abandon()
	return nil
}
