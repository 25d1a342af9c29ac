package web

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/telemetry"
	"github.com/gofiber/fiber/v2"
)

// Handler answers one request. An error becomes problem+json.
type Handler func(x *Exchange) error

// RouteOptions say how a route is served.
type RouteOptions struct {
	// Watch ends the request's context when its client has left. It costs some
	// microseconds, and is for what may take over 50 ms.
	Watch bool
	// Streamed says that bodies may be of any length, as far as http.body_limit
	// is concerned.
	Streamed bool
}

// Exchange is a request and its answer. It must not be used once the handler has
// returned, but for its Context in a Stream.
type Exchange struct {
	server   *Server
	fiber    *fiber.Ctx
	ctx      context.Context
	guard    *guard
	stream   *stream // nil: the answer is whole when the handler returns
	method   string
	target   string
	endpoint *endpoint // nil: no route
	values   []string
	query    url.Values
	id       string
	ip       string
}

// Context ends when the request's client has left (on routes that watch) or the
// server stops. It carries the request's id and span.
func (x *Exchange) Context() context.Context { return x.ctx }

// Method returns the method.
func (x *Exchange) Method() string { return x.method }

// Target returns the path and query as they came.
func (x *Exchange) Target() string { return x.target }

// unmatched stands for the pattern where there is no route.
const unmatched = "unmatched"

// Pattern returns the pattern of the route.
func (x *Exchange) Pattern() string {
	if x.endpoint == nil {
		return unmatched
	}
	return x.endpoint.pattern
}

// Param returns a path parameter, decoded once and otherwise as it came.
func (x *Exchange) Param(name string) string {
	for i, p := range x.endpoint.params {
		if p == name {
			return x.values[i]
		}
	}
	return ""
}

// Query returns the query's parameters.
func (x *Exchange) Query() url.Values { return x.query }

// Header returns a header's value, "" if it is not there.
func (x *Exchange) Header(name string) string { return x.fiber.Get(name) }

// Body reads the JSON body, up to http.body_limit.
func (x *Exchange) Body() ([]byte, error) { return x.guard.all(int64(x.server.config.BodyLimit)) }

// BodyLength returns the length of the body in bytes, -1 if it was not told.
func (x *Exchange) BodyLength() int64 { return x.guard.length }

// BodyReader returns the body as a stream. It ends with an error if the
// connection is cut or pauses for too long.
func (x *Exchange) BodyReader() io.Reader { return body{x.guard} }

// body is a request's body, whose reads can be ended.
type body struct{ *guard }

// Interrupt ends the reads that wait and those that come, and with them the
// connection.
func (b body) Interrupt() {
	if own, ok := inner(b.conn); ok {
		own.interrupt()
	}
}

// RequestID returns the request's id.
func (x *Exchange) RequestID() string { return x.id }

// SourceIP returns the client's address, behind trusted proxies.
func (x *Exchange) SourceIP() string { return x.ip }

// Listener returns the name of the listener that took the connection.
func (x *Exchange) Listener() string { return listenerOf(x.fiber.Context().Conn()) }

// SetHeader sets a header of the answer.
func (x *Exchange) SetHeader(name, value string) { x.fiber.Set(name, value) }

// JSON answers with v.
func (x *Exchange) JSON(status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	return x.Bytes(status, "application/json", body)
}

// Bytes answers with a body.
func (x *Exchange) Bytes(status int, contentType string, body []byte) error {
	x.fiber.Status(status).Set(fiber.HeaderContentType, contentType)
	return x.fiber.Send(body)
}

// NoContent answers without a body.
func (x *Exchange) NoContent(status int) error {
	x.fiber.Status(status)
	return nil
}

// Stream answers with what write writes, each Write as a chunk that is sent at
// once. If write fails or panics, the connection is cut, so that the client sees
// that the answer is not whole.
//
// write is called after the handler has returned, but not for HEAD. Context
// lasts until it is done; nothing else of the exchange may be used by it.
func (x *Exchange) Stream(status int, contentType string, write func(io.Writer) error) error {
	x.stream = &stream{ctx: x.ctx, log: x.server.log, write: write}
	x.fiber.Status(status).Set(fiber.HeaderContentType, contentType)
	x.fiber.Context().SetBodyStream(x.stream, -1)
	return nil
}

// content answers with an operation's bytes.
func (x *Exchange) content(c *operation.Content) error {
	for name, value := range c.Headers {
		x.SetHeader(name, value)
	}
	if c.Status == 0 {
		c.Status = 200
	}
	x.fiber.Status(c.Status)
	if c.File == nil && c.Write == nil {
		c.Ended(0, nil)
		return nil
	}
	x.fiber.Set(fiber.HeaderContentType, c.Type)
	_, plain := x.fiber.Context().Conn().(*conn)
	release := func() bool { return false }
	if own, ok := inner(x.fiber.Context().Conn()); ok {
		release = context.AfterFunc(c.Context(), own.cut)
	}
	ended := func(sent int64, err error) {
		release()
		c.Ended(sent, err)
	}
	x.stream = &stream{ctx: x.ctx, log: x.server.log, ended: ended, write: func(w io.Writer) (err error) {
		if c.File != nil {
			err = w.(*counter).sendFile(c.File, c.Length, plain, c.Err)
		} else {
			err = c.Send(w)
		}
		if why := c.Err(); why != nil && eider.CodeOf(err) == eider.Cancelled {
			return why // it was cut: see release
		}
		return err
	}}
	x.fiber.Context().SetBodyStream(x.stream, int(c.Length))
	return nil
}

// identify gives the request its id: the caller's, if it is fit to be one.
func (x *Exchange) identify() {
	x.id = requestID(x.fiber.Get(headerRequestID))
	x.fiber.Set(headerRequestID, x.id)
	x.ctx = telemetry.WithRequestID(x.ctx, x.id)
}
