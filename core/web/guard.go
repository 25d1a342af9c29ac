package web

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/eiderdb/eider"
	"github.com/valyala/fasthttp"
)

// singular are the headers that decide who asks, and whether the request may be
// done.
var singular = [...]string{"authorization", "if-match", "idempotency-key", "x-idempotency-key"}

// checkHeaders refuses what fasthttp lets pass and a proxy before us might read
// otherwise: two lengths, a length beside chunks, no or two hosts, folded lines,
// lines that end without a carriage return, a space before the colon. Such a pair
// of readings is how requests are smuggled. Nor may there be two of the singular
// ones.
func checkHeaders(h *fasthttp.RequestHeader) error {
	hosts, lengths, encodings := 0, 0, 0
	seen := make([]string, 0, len(singular))
	for rest := h.RawHeaders(); len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte("\r\n"))
		rest = after
		if len(line) == 0 {
			break
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ended || !ok || !isToken(name) || bytes.IndexByte(value, '\n') >= 0 {
			return badHeaders()
		}
		lower := strings.ToLower(string(name))
		if slices.Contains(singular[:], lower) {
			if slices.Contains(seen, lower) {
				return eider.Errorf(eider.MalformedRequest, "the header %s may be given once", lower)
			}
			seen = append(seen, lower)
		}
		switch lower {
		case "host":
			hosts++
		case "content-length":
			lengths++
		case "transfer-encoding":
			encodings++
			if !strings.EqualFold(strings.TrimSpace(string(value)), "chunked") {
				return badHeaders()
			}
		}
	}
	if hosts > 1 || lengths > 1 || encodings > 1 || (lengths > 0 && encodings > 0) || (hosts == 0 && h.IsHTTP11()) {
		return badHeaders()
	}
	return nil
}

// checkVersion refuses versions that this server does not speak: fasthttp takes any
// word that begins with HTTP/.
func checkVersion(h *fasthttp.RequestHeader) error {
	if v := string(h.Protocol()); v != "HTTP/1.1" && v != "HTTP/1.0" {
		return eider.Errorf(eider.MalformedRequest, "the version must be HTTP/1.1 or HTTP/1.0")
	}
	return nil
}

func badHeaders() error {
	return eider.Errorf(eider.MalformedRequest, "the request's headers are not valid HTTP")
}

// isToken reports whether a header's name is one (RFC 9110 section 5.6.2).
func isToken(name []byte) bool {
	for _, c := range name {
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !alnum && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return len(name) > 0
}

// guard reads a request's body once. A connection that is cut looks like a clean
// end to fasthttp: the guard counts, and says so. Each read has a deadline of its
// own, so that a slow client may take its time and a stalled one may not.
type guard struct {
	stream  io.Reader // nil: no body
	conn    net.Conn
	timeout time.Duration
	until   time.Time // no read goes on for longer; zero: each has its timeout
	length  int64     // -1: chunked
	read    int64
	err     error // sticky
}

func newGuard(ctx *fasthttp.RequestCtx, timeout time.Duration) *guard {
	g := &guard{conn: ctx.Conn(), timeout: timeout, length: int64(ctx.Request.Header.ContentLength())}
	if ctx.Request.IsBodyStream() {
		g.stream = ctx.RequestBodyStream()
	} else {
		g.err = io.EOF
	}
	return g
}

var errCut = eider.Errorf(eider.BodyIncomplete, "the connection ended before the body did")

func (g *guard) Read(p []byte) (int, error) {
	if g.err != nil {
		return 0, g.err
	}
	if err := g.conn.SetReadDeadline(g.deadline()); err != nil {
		g.err = errCut.Because(err)
		return 0, g.err
	}
	n, err := g.stream.Read(p)
	g.read += int64(n)
	g.err = g.ended(err)
	return n, g.err
}

func (g *guard) deadline() time.Time {
	if !g.until.IsZero() {
		return g.until
	}
	return time.Now().Add(g.timeout)
}

func (g *guard) ended(err error) error {
	var timeout net.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &timeout) && timeout.Timeout():
		return eider.Errorf(eider.RequestTimeout, "the body paused for too long").Because(err)
	case !errors.Is(err, io.EOF):
		return errCut.Because(err)
	case g.length >= 0 && g.read != g.length:
		return errCut.Because(io.ErrUnexpectedEOF)
	}
	return io.EOF
}

// A body that nobody wanted is read up to maxDrain bytes and for drainWithin, so
// that the connection can be used again. More closes it.
const (
	maxDrain    = 256 << 10
	drainWithin = time.Second
)

// finish reports whether the connection may serve another request: only if the
// body was read to its end.
func (g *guard) finish() bool {
	if g.err == nil && g.length-g.read <= maxDrain {
		g.until = time.Now().Add(drainWithin)
		_, _ = io.CopyN(io.Discard, g, maxDrain+1)
	}
	return errors.Is(g.err, io.EOF)
}

// all reads the body, up to a limit in bytes.
func (g *guard) all(limit int64) ([]byte, error) {
	if g.length > limit {
		return nil, tooLarge(limit)
	}
	body, err := io.ReadAll(io.LimitReader(g, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > limit {
		return nil, tooLarge(limit)
	}
	return body, nil
}

func tooLarge(limit int64) error {
	return eider.Errorf(eider.BodyTooLarge, "the body may have at most %d bytes", limit)
}
