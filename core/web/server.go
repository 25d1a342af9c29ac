// Package web is the front door: Fiber on fasthttp, and the only import of
// either.
//
// It serves routes from declarations, and answers everything, the router's and
// the parser's refusals included, as problem+json with a request id. What
// fasthttp would let pass, cut or buffer stands behind a guard (guard.go); each
// cure has its test. The package knows operations, and nothing of what they do.
package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eiderdb/eider"
	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// maxHeader bounds a request's headers, in bytes.
const maxHeader = 16 << 10

// readAhead is how much of a body fasthttp reads before it calls the handler.
// It is no limit where bodies are streamed; but within it a body that is cut is
// malformed HTTP without a request id, and one deadline holds for all reads.
const readAhead = 1

// Deps is what a server reports to.
type Deps struct {
	Log    *slog.Logger
	Tracer trace.Tracer
	Meter  metric.Meter
}

// Server serves routes on one or more listeners.
type Server struct {
	config  Config
	log     *slog.Logger
	tracer  trace.Tracer
	metrics instruments
	trusted []netip.Prefix
	app     *fiber.App
	root    *node
	hub     *hub

	base      context.Context // of every request
	end       context.CancelFunc
	listeners []*listener
	serving   []net.Listener // the same, with TLS where it is on
	draining  atomic.Bool
}

// New returns a server without routes and listeners.
func New(c Config, d Deps) (*Server, error) {
	trusted, err := c.proxies()
	if err != nil {
		return nil, err
	}
	metrics, err := newInstruments(d.Meter)
	if err != nil {
		return nil, err
	}
	h, err := newHub()
	if err != nil {
		return nil, err
	}
	s := &Server{config: c, log: d.Log, tracer: d.Tracer, metrics: metrics, trusted: trusted, root: newNode(), hub: h}
	base, end := context.WithCancelCause(context.Background())
	s.base, s.end = base, func() { end(errStopping) } // the log says so too, where a call is ended by it
	s.app = fiber.New(fiber.Config{
		DisableStartupMessage: true, Immutable: true, CaseSensitive: true, StrictRouting: true, UnescapePath: false,
		StreamRequestBody: true, DisablePreParseMultipartForm: true, BodyLimit: readAhead,
		ReadBufferSize: maxHeader, ReadTimeout: time.Duration(c.HeaderTimeout), IdleTimeout: time.Duration(c.IdleTimeout),
		Concurrency: c.MaxConnections + spareWorkers, ServerHeader: "eider",
	})
	s.app.Use(func(c *fiber.Ctx) error {
		s.serve(c)
		return nil
	})
	server := s.app.Server()
	handler := s.app.Handler()
	server.Handler = func(ctx *fasthttp.RequestCtx) { s.door(ctx, handler) }
	server.ErrorHandler = s.unparsed
	server.ExpectHandler = s.expect
	server.HeaderReceived = func(*fasthttp.RequestHeader) fasthttp.RequestConfig {
		return fasthttp.RequestConfig{ReadTimeout: time.Duration(c.ReadTimeout)} // for the first byte of the body
	}
	server.SecureErrorLogMessage = true
	server.CloseOnShutdown = true
	return s, nil
}

// Handle adds a route. Patterns hold parameters as {name}, a segment each. GET
// routes answer HEAD too.
func (s *Server) Handle(method, pattern string, o RouteOptions, h Handler) {
	s.root.add(method, pattern, o, h)
}

// ListenOptions say how a listener is opened.
type ListenOptions struct {
	TLS  bool        // use http.tls, if it is set
	Mode os.FileMode // of a unix socket's file
}

// Listen opens an address, host:port or unix:PATH, under a name that requests
// can ask for. It may be called several times before Serve.
func (s *Server) Listen(name, address string, o ListenOptions) error {
	raw, err := listen(address, o.Mode)
	if err != nil {
		return err
	}
	l := newListener(raw, name, time.Duration(s.config.WriteTimeout), s.log)
	var serving net.Listener = l
	if o.TLS && s.config.TLS.Cert != "" {
		cert, err := newCertificate(s.config.TLS, s.log)
		if err != nil {
			return errors.Join(err, raw.Close())
		}
		serving = tls.NewListener(l, cert.config())
	}
	s.listeners, s.serving = append(s.listeners, l), append(s.serving, s.bounded(l, serving))
	return nil
}

// Addr returns the address of a listener, nil if there is none with the name.
func (s *Server) Addr(name string) net.Addr {
	for _, l := range s.listeners {
		if l.name == name {
			return l.Addr()
		}
	}
	return nil
}

// Serve answers on all listeners until Shutdown, or until one of them fails.
func (s *Server) Serve() error {
	var wg sync.WaitGroup
	failed := make([]error, len(s.serving))
	for i, l := range s.serving {
		wg.Add(1)
		go func() {
			defer wg.Done()
			failed[i] = s.app.Server().Serve(l)
			for _, other := range s.listeners {
				_ = other.Close()
			}
		}()
	}
	wg.Wait()
	return errors.Join(failed...)
}

// Draining reports whether the server is about to stop.
func (s *Server) Draining() bool { return s.draining.Load() }

// Drain makes readiness false; the listeners stay open.
func (s *Server) Drain() { s.draining.Store(true) }

// cutAfter is what cancelled requests have to end before they are cut.
const cutAfter = time.Second

// Shutdown stops accepting and lets running requests end within
// http.drain_timeout; then it cancels them, and a second later cuts their
// connections.
func (s *Server) Shutdown() error {
	s.Drain()
	defer s.hub.close()
	drain := time.Duration(s.config.DrainTimeout)
	// One call for both: fasthttp forgets its listeners in the first, and would
	// wait for nothing in a second.
	ctx, cancel := context.WithTimeout(context.Background(), drain+cutAfter)
	defer cancel()
	patience := time.AfterFunc(drain, s.end)
	err := s.app.Server().ShutdownWithContext(ctx)
	patience.Stop()
	s.end()
	for _, l := range s.listeners {
		_ = l.Close()
		l.cut()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // they were cut, which is what the deadline is for
	}
	return err
}

// door stands before Fiber, which answers an unknown method by itself.
func (s *Server) door(ctx *fasthttp.RequestCtx, inside fasthttp.RequestHandler) {
	err := checkVersion(&ctx.Request.Header)
	if err == nil {
		err = checkHeaders(&ctx.Request.Header)
	}
	if err != nil {
		s.reject(ctx, err)
		return
	}
	if !methods[string(ctx.Method())] {
		s.reject(ctx, eider.Errorf(eider.MethodNotAllowed, "the method is not one that this server knows"))
		return
	}
	inside(ctx)
}

// reject answers a request that gets no further, and closes its connection.
func (s *Server) reject(ctx *fasthttp.RequestCtx, err error) {
	id := requestID(string(ctx.Request.Header.Peek(headerRequestID)))
	if eider.CodeOf(err) == eider.MethodNotAllowed {
		ctx.Response.Header.Set("Allow", allMethods())
	}
	status := refuse(ctx, err, "", id)
	ctx.Response.Header.Set(headerRequestID, id)
	secure(&ctx.Response.Header)
	ctx.SetConnectionClose()
	lingering(ctx.Conn())
	s.metrics.count(context.Background(), ended{methodName(string(ctx.Method())), unmatched, status}, 0)
	s.log.Debug("request refused at the door", "request_id", id, "status", status)
}

// unparsed answers what could not be read as a request, without repeating it.
func (s *Server) unparsed(ctx *fasthttp.RequestCtx, err error) {
	var small *fasthttp.ErrSmallBuffer
	var timeout net.Error
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = errCut.Because(err)
	case errors.As(err, &small):
		err = eider.Errorf(eider.HeadersTooLarge, "the headers may have at most %d bytes", maxHeader)
	case errors.As(err, &timeout) && timeout.Timeout():
		err = eider.Errorf(eider.RequestTimeout, "the request did not arrive in time")
	default:
		err = eider.Errorf(eider.MalformedRequest, "the request is not valid HTTP")
	}
	s.reject(ctx, err)
}

// expect answers `Expect: 100-continue` before the body is sent: a body that is
// too large for any route need not come.
func (s *Server) expect(ctx *fasthttp.RequestCtx) int {
	limit := int64(s.config.BodyLimit)
	if s.streams(ctx) {
		return fasthttp.StatusContinue
	}
	if int64(ctx.Request.Header.ContentLength()) > limit {
		s.reject(ctx, tooLarge(limit))
		return fasthttp.StatusRequestEntityTooLarge
	}
	return fasthttp.StatusContinue
}

// streams reports whether the request is for a route that takes long bodies.
func (s *Server) streams(ctx *fasthttp.RequestCtx) bool {
	parts, err := segments(string(ctx.Request.Header.RequestURI()))
	if err != nil {
		return false
	}
	place, _ := s.root.find(parts, nil)
	if place == nil {
		return false
	}
	e := place.endpoint(string(ctx.Method()))
	return e != nil && e.options.Streamed
}

func secure(h *fasthttp.ResponseHeader) {
	h.Set("X-Content-Type-Options", "nosniff")
	if len(h.Peek("Cache-Control")) == 0 {
		h.Set("Cache-Control", "no-store")
	}
}

// serve finds the route and runs its handler.
func (s *Server) serve(c *fiber.Ctx) {
	ctx, cancel := context.WithCancel(s.base)
	x := &Exchange{
		server: s, fiber: c, ctx: ctx, method: c.Method(), target: string(c.Request().Header.RequestURI()),
		guard: newGuard(c.Context(), time.Duration(s.config.ReadTimeout)),
		ip:    sourceIP(c.Context().RemoteAddr(), forwardedFor(c), s.trusted),
	}
	x.identify()
	err := s.route(x)
	observed := s.observe(x)
	unwatch := func() {}
	if x.endpoint != nil && x.endpoint.options.Watch {
		unwatch = s.hub.watch(c.Context().Conn(), cancel)
	}
	if err == nil {
		err = s.run(x)
	}
	if err = s.explain(x, err); err != nil {
		s.logCause(x, err)
		refuse(c.Context(), err, instance(x.target), x.id)
	}
	secure(&c.Response().Header)
	if !x.guard.finish() {
		c.Context().SetConnectionClose()
		lingering(c.Context().Conn())
	}
	status := c.Response().StatusCode()
	end := func(cut error) {
		unwatch()
		cancel()
		observed(status, cut)
	}
	if x.stream == nil || x.stream.closed {
		end(nil)
		return
	}
	x.stream.end = end
}

// errStopping is why calls end that run for longer than a stop waits.
var errStopping = eider.Errorf(eider.ShuttingDown, "the server is shutting down")

// explain says why a request was cancelled: its client has left, or the server
// could wait no longer.
func (s *Server) explain(x *Exchange, err error) error {
	cancelled := errors.Is(err, context.Canceled) || eider.CodeOf(err) == eider.Cancelled
	switch {
	case !cancelled || x.ctx.Err() == nil:
		return err
	case s.base.Err() != nil:
		return errStopping.Because(err)
	}
	return eider.Errorf(eider.Cancelled, "the request was cancelled").Because(err)
}

// instance is the path of the request, without its query, which may hold what
// should not be repeated.
func instance(target string) string {
	path, _, _ := strings.Cut(target, "?")
	return path
}

func (s *Server) route(x *Exchange) error {
	parts, err := segments(x.target)
	if err != nil {
		return err
	}
	_, query, _ := strings.Cut(x.target, "?")
	if x.query, err = url.ParseQuery(query); err != nil {
		return eider.Errorf(eider.MalformedRequest, "the query is not a valid one")
	}
	place, values := s.root.find(parts, nil)
	if place == nil {
		return eider.Errorf(eider.NotFound, "there is nothing at this path")
	}
	e := place.endpoint(x.method)
	if e == nil {
		x.SetHeader("Allow", place.allowed())
		return eider.Errorf(eider.MethodNotAllowed, "this path does not take that method")
	}
	x.endpoint, x.values = e, values
	return nil
}

// run calls the handler; its panic is an error like another.
func (s *Server) run(x *Exchange) (err error) {
	defer func() {
		if v := recover(); v != nil {
			s.log.ErrorContext(x.ctx, "a handler panicked", "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	if s.expectsOther(x) {
		return eider.Errorf(eider.ExpectationFailed, "only 100-continue can be expected")
	}
	return x.endpoint.handler(x)
}

func (s *Server) expectsOther(x *Exchange) bool {
	expect := x.Header("Expect")
	return expect != "" && !strings.EqualFold(expect, "100-continue")
}

// logCause logs what a caller is not told. Refusals are told in full.
func (s *Server) logCause(x *Exchange, err error) {
	var e *eider.Error
	if errors.As(err, &e) && e.Code != eider.Internal {
		return
	}
	s.log.ErrorContext(x.ctx, "a request failed", "route", x.Pattern(), "error", err)
}
