package web

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/eiderdb/eider/core/auth"
	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const headerRequestID = "X-Request-Id"

// requestID returns the caller's id if it has 1 to 128 visible ASCII characters and
// is no key, else a new one: it goes into the log, spans and answers.
func requestID(given string) string {
	if len(given) == 0 || len(given) > 128 || auth.Redact(given) != given {
		return uuid.Must(uuid.NewV7()).String()
	}
	for i := 0; i < len(given); i++ {
		if given[i] <= ' ' || given[i] > '~' {
			return uuid.Must(uuid.NewV7()).String()
		}
	}
	return given
}

type instruments struct {
	total    metric.Int64Counter
	seconds  metric.Float64Histogram
	inFlight metric.Int64UpDownCounter
	known    *labelled
}

// ended is what requests are counted by.
type ended struct {
	method, pattern string
	status          int
}

// labels are the attributes of one kind of request, made once: making them took
// five times as long as counting.
type labels struct {
	total   []metric.AddOption
	seconds []metric.RecordOption
}

// labelled holds all that were made: as few as there are methods, routes and
// statuses.
type labelled struct {
	mu   sync.RWMutex
	made map[ended]labels
}

func newInstruments(m metric.Meter) (i instruments, err error) {
	i.known = &labelled{made: map[ended]labels{}}
	if i.total, err = m.Int64Counter("duckdb_api_requests_total", metric.WithDescription("Requests by route and status")); err != nil {
		return i, fmt.Errorf("create duckdb_api_requests_total: %w", err)
	}
	if i.seconds, err = m.Float64Histogram("duckdb_api_request_duration_seconds", metric.WithDescription("Time from headers to answer")); err != nil {
		return i, fmt.Errorf("create duckdb_api_request_duration_seconds: %w", err)
	}
	if i.inFlight, err = m.Int64UpDownCounter("duckdb_api_requests_in_flight", metric.WithDescription("Requests being served")); err != nil {
		return i, fmt.Errorf("create duckdb_api_requests_in_flight: %w", err)
	}
	up, err := m.Int64ObservableGauge("duckdb_api_up", metric.WithDescription("1 while the server answers"))
	if err != nil {
		return i, fmt.Errorf("create duckdb_api_up: %w", err)
	}
	_, err = m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(up, 1)
		return nil
	}, up)
	return i, err
}

// methods are those that have a name in metrics and spans; a caller may send any
// word.
var methods = map[string]bool{"GET": true, "HEAD": true, "POST": true, "PUT": true, "PATCH": true, "DELETE": true, "OPTIONS": true}

// allMethods lists them, for Allow.
func allMethods() string {
	return strings.Join(slices.Sorted(maps.Keys(methods)), ", ")
}

func methodName(m string) string {
	if methods[m] {
		return m
	}
	return "OTHER"
}

// headerCarrier reads W3C trace context from a request.
type headerCarrier struct{ c *fiber.Ctx }

func (h headerCarrier) Get(key string) string { return h.c.Get(key) }
func (h headerCarrier) Set(string, string)    {}
func (h headerCarrier) Keys() []string        { return nil }

// observe begins a server span for the exchange. What it returns ends the span
// and counts the request, with its status and why its answer was cut, if it was.
func (s *Server) observe(x *Exchange) func(status int, cut error) {
	begun := time.Now()
	pattern, method := x.Pattern(), methodName(x.method)
	ctx := propagation.TraceContext{}.Extract(x.ctx, headerCarrier{x.fiber})
	ctx, span := s.tracer.Start(ctx, method+" "+pattern, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", method), attribute.String("http.route", pattern),
		attribute.String("eider.request_id", x.id)))
	x.ctx = ctx
	s.metrics.inFlight.Add(ctx, 1)
	return func(status int, cut error) {
		s.metrics.inFlight.Add(ctx, -1)
		span.SetAttributes(attribute.Int("http.response.status_code", status))
		if status >= 500 || cut != nil {
			span.SetStatus(codes.Error, "")
		}
		span.End()
		s.metrics.count(ctx, ended{method, pattern, status}, time.Since(begun))
		s.log.DebugContext(ctx, "request", "method", method, "route", pattern, "status", status, "source_ip", x.ip,
			"duration_ms", float64(time.Since(begun).Microseconds())/1000)
	}
}

func (i instruments) count(ctx context.Context, e ended, took time.Duration) {
	l := i.known.of(e)
	i.seconds.Record(ctx, took.Seconds(), l.seconds...)
	i.total.Add(ctx, 1, l.total...)
}

func (k *labelled) of(e ended) labels {
	k.mu.RLock()
	l, ok := k.made[e]
	k.mu.RUnlock()
	if ok {
		return l
	}
	where := []attribute.KeyValue{attribute.String("method", e.method), attribute.String("endpoint", e.pattern)}
	l.seconds = []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(where...))}
	l.total = []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(append(where, attribute.Int("status_code", e.status))...))}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.made[e] = l
	return l
}

// forwardedFor returns the addresses that proxies noted. Each may have added a
// header line instead of a word: the first line alone would be the client's own.
func forwardedFor(c *fiber.Ctx) string {
	return string(bytes.Join(c.Request().Header.PeekAll(fiber.HeaderXForwardedFor), []byte(",")))
}

// sourceIP returns the client's address. Behind trusted proxies it is the last
// address of X-Forwarded-For that is not one of them.
func sourceIP(remote net.Addr, forwarded string, trusted []netip.Prefix) string {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok {
		return "local"
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	hops := strings.Split(forwarded, ",")
	for i := len(hops) - 1; i >= 0 && isTrusted(ip, trusted); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		ip = hop.Unmap().WithZone("")
	}
	return ip.String()
}

func isTrusted(ip netip.Addr, trusted []netip.Prefix) bool {
	for _, p := range trusted {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}
