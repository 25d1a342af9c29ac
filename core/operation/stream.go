package operation

import (
	"context"
	"io"
	"os"
	"sync"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Content is an answer of bytes, sent after the handler has returned. Its bytes
// come from File or from Write.
type Content struct {
	Status  int // 200 if 0
	Type    string
	Headers map[string]string // besides the type and the length
	// Length is that of the body in bytes, -1 if it is not known beforehand.
	Length int64
	// File is sent from where it stands, Length bytes of it, and closed.
	File *os.File
	// Write writes the body; it is not called where none is wanted. Its error
	// cuts the connection, so that the client sees that the body is not whole.
	Write func(ctx context.Context, w io.Writer) error
	// Closing, if set, is closed when the answer has ended.
	Closing io.Closer

	ctx   context.Context
	ended sync.Once
	end   func(sent int64, err error)
}

// Context ends when the rest is not to be sent any more, and when the answer has
// ended.
func (c *Content) Context() context.Context { return c.ctx }

// Err returns why the rest is not to be sent, nil where it is.
func (c *Content) Err() error { return because(c.ctx, c.ctx.Err()) }

// Send writes the body that Write makes.
func (c *Content) Send(w io.Writer) error { return because(c.ctx, c.Write(c.ctx, w)) }

// Ended tells how many bytes were sent and why no more. Whoever sends the
// content calls it in every case; only the first call counts.
func (c *Content) Ended(sent int64, err error) {
	c.ended.Do(func() {
		if c.File != nil {
			_ = c.File.Close() // it was only read
		}
		if c.Closing != nil {
			_ = c.Closing.Close()
		}
		c.end(sent, err)
	})
}

// Stream declares an operation that reads, and answers with bytes. Its row is
// queued when the last byte is known and nobody waits for it; one that still
// runs after a second has an in_progress row from then on.
func Stream[In any](s *Set, spec Spec, handle StreamHandler[In]) {
	s.add(declareStream(s, spec, handle))
}

// StreamHandler begins the answer of a stream.
type StreamHandler[In any] func(context.Context, *View, In) (*Content, error)

func declareStream[In any](s *Set, spec Spec, handle StreamHandler[In]) *Declared {
	d := declare[In, Nothing](s, spec, KindStream)
	d.run = func(ctx context.Context, p *Pipeline, _ *Call, in any) (any, error) {
		return handle(ctx, p.Store.View(), in.(In))
	}
	d.settle = func(ctx context.Context, p *Pipeline, c *Call, intent audit.Row) error {
		c.Detail("settled", "interrupted")
		return p.commit(ctx, func(tx *Tx) error { return p.conclude(ctx, tx, c, nil, interrupted(), intent.ID) })
	}
	return d
}

// announceAfter is how long a stream runs without a row.
const announceAfter = time.Second

// streaming is a stream under way: its rows are written in turn.
type streaming struct {
	p     *Pipeline
	c     *Call
	timer *time.Timer

	mu     sync.Mutex
	intent *audit.Row // in_progress, once it is committed
	ended  bool
}

// follow keeps the call of a content open until its last byte is sent.
func (p *Pipeline) follow(ctx context.Context, c *Call, span trace.Span, content *Content) {
	content.ctx = c.bound
	ctx = context.WithoutCancel(ctx)
	s := &streaming{p: p, c: c}
	p.wg.Add(1)
	s.timer = time.AfterFunc(announceAfter, func() { s.announce(ctx) })
	content.end = func(sent int64, err error) {
		s.timer.Stop()
		c.unbind()
		go func() {
			defer p.wg.Done()
			defer span.End()
			c.Detail("sent_bytes", sent)
			if err != nil {
				err = p.translate(ctx, err)
				span.SetStatus(codes.Error, string(eider.CodeOf(err)))
			}
			p.metrics.count(ctx, c, err)
			s.conclude(ctx, err)
			p.letGo(c)
		}()
	}
}

func (s *streaming) announce(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	var row *audit.Row
	err := s.p.commit(ctx, func(tx *Tx) (err error) {
		row, err = s.p.inProgress(tx, s.c, nil, nil)
		return err
	})
	if err != nil {
		s.p.Log.ErrorContext(ctx, "the row of a running stream could not be logged", "operation", s.c.Operation.Name, "error", err)
		return
	}
	s.intent = row
}

func (s *streaming) conclude(ctx context.Context, refusal error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	intent := int64(0)
	if s.intent != nil {
		intent = s.intent.ID
	}
	err := s.p.commitBy(ctx, s.p.Store.WriteLater, func(tx *Tx) error { return s.p.conclude(ctx, tx, s.c, nil, refusal, intent) })
	if err != nil && eider.CodeOf(err) != eider.CodeOf(refusal) {
		s.p.Log.ErrorContext(ctx, "the row of a stream could not be logged", "operation", s.c.Operation.Name, "error", err)
	}
}
