package web

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/config"
	"github.com/eiderdb/eider/core/waittest"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// door is a server under test, with what it reports.
type door struct {
	*Server
	addr   string
	log    *record
	spans  *tracetest.SpanRecorder
	reader *sdkmetric.ManualReader
	served chan error
	once   sync.Once
}

// record is a log that can be read while it is written.
type record struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

func newDoor(t testing.TB, change func(*Config)) *door {
	t.Helper()
	c := Defaults()
	c.Listen = "127.0.0.1:0"
	c.DrainTimeout = config.Duration(5 * time.Second)
	if change != nil {
		change(&c)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	d := &door{log: &record{}, spans: tracetest.NewSpanRecorder(), reader: sdkmetric.NewManualReader(), served: make(chan error, 1)}
	server, err := New(c, Deps{
		Log:    slog.New(slog.NewTextHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Tracer: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(d.spans)).Tracer("test"),
		Meter:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(d.reader)).Meter("test"),
	})
	if err != nil {
		t.Fatal(err)
	}
	d.Server = server
	return d
}

// open listens and serves until the test ends, and then looks for goroutines
// that stayed.
func (d *door) open(t testing.TB) *door {
	t.Helper()
	if err := d.Listen("public", d.config.Listen, ListenOptions{TLS: true, Mode: 0o660}); err != nil {
		t.Fatal(err)
	}
	d.addr = d.Addr("public").String()
	go func() { d.served <- d.Serve() }()
	t.Cleanup(func() { d.shut(t) })
	return d
}

func (d *door) shut(t testing.TB) {
	d.once.Do(func() {
		if err := d.Shutdown(); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-d.served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		waittest.Until(t, "no goroutine of the server is left", func() bool {
			for _, own := range []string{"web.(*hub).run", "web.(*Server).", "web.(*listener).", "fasthttp.(*workerPool).workerFunc"} {
				if strings.Contains(stacks(), own) {
					return false
				}
			}
			return true
		})
	})
}

// stacks returns the stacks of all goroutines but the caller's.
func stacks() string {
	buf := make([]byte, 4<<20)
	_, others, _ := strings.Cut(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	return others
}

// wire is a connection on which a test writes what it wants.
type wire struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func (d *door) dial(t testing.TB) *wire { return dialTo(t, d.Addr("public")) }

func dialTo(t testing.TB, addr net.Addr) *wire {
	t.Helper()
	c, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		t.Fatal(err)
	}
	return newWire(t, c)
}

func newWire(t testing.TB, c net.Conn) *wire {
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &wire{t, c, bufio.NewReader(c)}
}

func (w *wire) send(text string) {
	w.t.Helper()
	if _, err := io.WriteString(w.Conn, text); err != nil {
		w.t.Fatal(err)
	}
}

// answer is a response that was read to its end.
type answer struct {
	*http.Response
	body string
}

func (w *wire) answer(method string) answer {
	w.t.Helper()
	response, err := http.ReadResponse(w.r, &http.Request{Method: method})
	if err != nil {
		w.t.Fatalf("no answer: %v", err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatalf("the answer is cut: %v", err)
	}
	return answer{response, string(body)}
}

// ended reports whether the server has closed the connection, with nothing more
// on it.
func (w *wire) ended() bool {
	w.t.Helper()
	rest, err := io.ReadAll(w.r)
	if len(rest) > 0 {
		w.t.Errorf("unexpected bytes on the connection: %q", rest)
	}
	return err == nil || !isTimeout(err)
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}

func (a answer) problem(t testing.TB) problem {
	t.Helper()
	if got := a.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type is %q; want application/problem+json (body %q)", got, a.body)
	}
	var p problem
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("the body %q is not a problem: %v", a.body, err)
	}
	if p.Status != a.StatusCode || p.Title == "" || p.Type == "" || p.Detail == "" || p.Detail != p.Message {
		t.Errorf("the problem %+v does not fit the status %d", p, a.StatusCode)
	}
	if p.RequestID == "" || p.RequestID != a.Header.Get("X-Request-Id") {
		t.Errorf("request_id is %q, X-Request-Id %q", p.RequestID, a.Header.Get("X-Request-Id"))
	}
	if a.Header.Get("X-Content-Type-Options") != "nosniff" || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("the security headers are missing: %v", a.Header)
	}
	return p
}

// do sends one request on a connection of its own.
func (d *door) do(t testing.TB, method, target string, header ...string) answer {
	t.Helper()
	w := d.dial(t)
	w.send(method + " " + target + " HTTP/1.1\r\nHost: eider\r\nConnection: close\r\n" + lines(header) + "\r\n")
	return w.answer(method)
}

func lines(header []string) string {
	var b strings.Builder
	for _, line := range header {
		b.WriteString(line + "\r\n")
	}
	return b.String()
}

// counted returns how many requests were counted, by method, endpoint and status.
func (d *door) counted(t testing.TB) map[string]int64 {
	t.Helper()
	all := map[string]int64{}
	sum, _ := d.metric(t, "duckdb_api_requests_total").Data.(metricdata.Sum[int64])
	for _, m := range sum.DataPoints {
		var words []string
		for _, key := range []string{"method", "endpoint", "status_code"} {
			value, _ := m.Attributes.Value(attribute.Key(key))
			words = append(words, value.String())
		}
		all[strings.Join(words, " ")] = m.Value
	}
	return all
}

// metric returns what was measured, nothing where nothing was.
func (d *door) metric(t testing.TB, name string) metricdata.Metrics {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := d.reader.Collect(context.Background(), &all); err != nil {
		t.Fatal(err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name == name {
				return m
			}
		}
	}
	return metricdata.Metrics{}
}

func (d *door) inFlight(t testing.TB) (n int64) {
	sum, _ := d.metric(t, "duckdb_api_requests_in_flight").Data.(metricdata.Sum[int64])
	for _, m := range sum.DataPoints {
		n += m.Value
	}
	return n
}

// text answers with a text.
func text(s string) Handler {
	return func(x *Exchange) error { return x.Bytes(200, "text/plain", []byte(s)) }
}

// echo answers with the body of the request.
func echo(x *Exchange) error {
	body, err := x.Body()
	if err != nil {
		return err
	}
	return x.Bytes(200, "text/plain", body)
}

func itoa(n int) string { return strconv.Itoa(n) }
