package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"syscall"

	"github.com/eiderdb/eider"
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
	ended  func(sent int64, err error) // of the answer; nil: nobody asks
	end    func(error)                 // of the request; nil while the handler runs
	sent   int64
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
	counted := &counter{w: w, n: &b.sent}
	err = b.write(counted)
	return b.sent, err
}

// counter counts what it hands on, and leaves the kernel its way of copying a
// file.
type counter struct {
	w io.Writer
	n *int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	*c.n += int64(n)
	if err != nil {
		err = left(err)
	}
	return n, err
}

// left is why an answer ends that its client does not take: it has closed the
// connection, or read nothing for too long.
func left(err error) error {
	return eider.Errorf(eider.Cancelled, "the client left before it had the whole answer").Because(err)
}

// unsent tells a client that left from a file that cannot be read.
func unsent(err error) error {
	for _, gone := range []error{syscall.EPIPE, syscall.ECONNRESET, syscall.ETIMEDOUT, os.ErrDeadlineExceeded, net.ErrClosed} {
		if errors.Is(err, gone) {
			return left(err)
		}
	}
	return err
}

// copyBuffer is how much of a file is read at a time where the kernel does not
// send it, in bytes.
const copyBuffer = 128 << 10

// lookEvery is how much of a file is sent between two looks whether the rest is
// still wanted, in bytes.
const lookEvery = 4 << 20

// sendFile sends the next length bytes of the file, while ended returns nil: by
// the kernel where the connection is not encrypted.
func (c *counter) sendFile(file *os.File, length int64, plain bool, ended func() error) error {
	send := func(part io.Reader) (int64, error) {
		return io.CopyBuffer(struct{ io.Writer }{c.w}, part, make([]byte, copyBuffer))
	}
	if into, ok := c.w.(io.ReaderFrom); ok && plain {
		send = into.ReadFrom
	}
	for length > 0 {
		if err := ended(); err != nil {
			return err
		}
		part := min(length, lookEvery)
		n, err := send(io.LimitReader(file, part))
		*c.n += n
		length -= n
		if err == nil && n < part {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return unsent(err)
		}
	}
	return nil
}

// Close ends the request. fasthttp calls it in every case: also when the answer
// has no body, is replaced, or could not be sent.
func (b *stream) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	if b.err != nil {
		level := slog.LevelWarn
		if eider.CodeOf(b.err) == eider.Cancelled {
			level = slog.LevelInfo
		}
		b.log.Log(b.ctx, level, "an answer was cut", "error", b.err)
	}
	if b.ended != nil {
		b.ended(b.sent, b.err)
	}
	if b.end != nil {
		b.end(b.err)
	}
	return nil
}
