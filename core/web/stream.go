package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
)

// stream is the body of an answer that is written after its handler has
// returned, on the connection's own goroutine. The request ends with it.
//
// It hands fasthttp what it writes (fasthttp.BodyWriterTo). To be read instead,
// through a pipe, would send 4 KiB at a time.
type stream struct {
	ctx    context.Context
	log    *slog.Logger
	write  func(io.Writer) error
	end    func(error) // of the request; nil while the handler runs
	err    error
	closed bool
}

// SupportsBodyWriteTo has WriteTo called, and Read never.
func (b *stream) SupportsBodyWriteTo() bool { return true }

// Read is what makes this a body.
func (b *stream) Read([]byte) (int, error) { return 0, errors.ErrUnsupported }

// WriteTo writes the body. Its error makes fasthttp cut the connection before
// the last chunk; a panic is an error like another.
func (b *stream) WriteTo(w io.Writer) (_ int64, err error) {
	defer func() {
		if v := recover(); v != nil {
			b.log.ErrorContext(b.ctx, "a stream panicked", "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", v)
		}
		b.err = err
	}()
	return 0, b.write(w)
}

// Close ends the request. fasthttp calls it in every case: also when the answer
// has no body, is replaced, or could not be sent.
func (b *stream) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	if b.err != nil {
		b.log.WarnContext(b.ctx, "an answer was cut", "error", b.err)
	}
	if b.end != nil {
		b.end(b.err)
	}
	return nil
}
