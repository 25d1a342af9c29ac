package web

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/telemetry"
	"github.com/eiderdb/eider/core/waittest"
	"github.com/google/uuid"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/trace"
)

func TestRequestID(t *testing.T) {
	d := newDoor(t, nil)
	d.Handle("GET", "/", RouteOptions{}, func(x *Exchange) error {
		if telemetry.RequestID(x.Context()) != x.RequestID() {
			t.Error("the context has another id")
		}
		return x.Bytes(200, "text/plain", []byte(x.RequestID()))
	})
	d.open(t)
	for given, kept := range map[string]bool{
		"a": true, "0123-abc_./:~!": true, strings.Repeat("a", 128): true, strings.Repeat("a", 129): false,
		"": false, "two words": false, "caf\xc3\xa9": false,
	} {
		a := d.do(t, "GET", "/", "X-Request-Id: "+given)
		id := a.Header.Get("X-Request-Id")
		if id != a.body {
			t.Errorf("the answer says %q, the handler %q", id, a.body)
		}
		if kept != (id == given) {
			t.Errorf("%q became %q", given, id)
		}
		if parsed, err := uuid.Parse(id); !kept && (err != nil || parsed.Version() != 7) {
			t.Errorf("%q was replaced by %q, which is no UUIDv7", given, id)
		}
	}
	// Refusals at every stage have one: of the router, of the door, and of the
	// parser, which forgets the caller's.
	for _, line := range []string{"GET /nowhere", "BREW /"} {
		if p := d.do(t, strings.Fields(line)[0], strings.Fields(line)[1], "X-Request-Id: mine").problem(t); p.RequestID != "mine" {
			t.Errorf("%s is answered with the id %q", line, p.RequestID)
		}
	}
	w := d.dial(t)
	w.send("GET / HTTP/9\r\nX-Request-Id: mine\r\n\r\n")
	w.answer("GET").problem(t)
}

func TestSpanContinuesTheCallersTrace(t *testing.T) {
	d := newDoor(t, nil)
	d.Handle("GET", "/projects/{id}", RouteOptions{}, func(x *Exchange) error {
		return x.Bytes(200, "text/plain", []byte(trace.SpanContextFromContext(x.Context()).TraceID().String()))
	})
	d.Handle("GET", "/fail", RouteOptions{}, func(*Exchange) error { return fmt.Errorf("broken") })
	d.open(t)
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	if a := d.do(t, "GET", "/projects/a", "traceparent: 00-"+id+"-00f067aa0ba902b7-01"); a.body != id {
		t.Errorf("the trace is %s", a.body)
	}
	if a := d.do(t, "GET", "/projects/a", "traceparent: nonsense"); a.StatusCode != 200 || a.body == id {
		t.Errorf("answered %d %s", a.StatusCode, a.body)
	}
	d.do(t, "GET", "/fail")
	d.do(t, "GET", "/secret/path")
	waittest.Until(t, "all spans have ended", func() bool { return len(d.spans.Ended()) == 4 })
	names := map[string]codes.Code{}
	for _, span := range d.spans.Ended() {
		names[span.Name()] = span.Status().Code
		if span.SpanKind() != trace.SpanKindServer {
			t.Errorf("%s is of kind %v", span.Name(), span.SpanKind())
		}
	}
	if fmt.Sprint(names) != fmt.Sprint(map[string]codes.Code{"GET /projects/{id}": codes.Unset, "GET /fail": codes.Error, "GET unmatched": codes.Unset}) {
		t.Errorf("the spans are %v", names)
	}
}

// A metric's labels come from the routes and never from the caller, who could
// make any number of them.
func TestMetricsNameRoutesAndNoPaths(t *testing.T) {
	d := newDoor(t, nil)
	d.Handle("GET", "/projects/{id}", RouteOptions{}, text("one"))
	d.open(t)
	for i := range 5 {
		d.do(t, "GET", fmt.Sprintf("/projects/p%d", i))
		d.do(t, "GET", fmt.Sprintf("/nowhere/%d", i))
		d.do(t, fmt.Sprintf("BREW%d", i), "/projects/a")
	}
	d.do(t, "DELETE", "/projects/a")
	w := d.dial(t)
	w.send("nonsense\r\n\r\n")
	w.answer("GET")
	want := map[string]int64{
		"GET /projects/{id} 200": 5, "GET unmatched 404": 5, "OTHER unmatched 405": 5, "DELETE unmatched 405": 1,
	}
	var got map[string]int64
	waittest.Until(t, "all requests are counted", func() bool {
		got = d.counted(t)
		n := int64(0)
		for _, c := range got {
			n += c
		}
		return n == 17
	})
	for key, n := range want {
		if got[key] != n {
			t.Errorf("%s is counted %d times; want %d (%v)", key, got[key], n, got)
		}
	}
	if len(got) != len(want)+1 {
		t.Errorf("counted were %v", got)
	}
	up := d.metric(t, "duckdb_api_up").Data.(sdkmetric.Gauge[int64]).DataPoints
	if len(up) != 1 || up[0].Value != 1 {
		t.Errorf("duckdb_api_up is %v", up)
	}
	for _, m := range d.metric(t, "duckdb_api_request_duration_seconds").Data.(sdkmetric.Histogram[float64]).DataPoints {
		if _, has := m.Attributes.Value("status_code"); has {
			t.Error("durations have a status")
		}
	}
	waittest.Until(t, "nothing is in flight", func() bool { return d.inFlight(t) == 0 })
}

func TestSourceIPIsTheLastThatNoTrustedProxyWrote(t *testing.T) {
	trusted, err := (&Config{TrustedProxies: []string{"10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::ffff:198.51.100.7", "fe80::1"}}).proxies()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ remote, forwarded, want string }{
		{"203.0.113.9", "", "203.0.113.9"},
		{"203.0.113.9", "1.1.1.1", "203.0.113.9"},
		{"10.0.0.1", "", "10.0.0.1"},
		{"10.0.0.1", "1.1.1.1", "1.1.1.1"},
		{"10.0.0.1", "6.6.6.6, 1.1.1.1", "1.1.1.1"},
		{"10.0.0.1", "6.6.6.6, 1.1.1.1, 10.9.9.9,192.0.2.1", "1.1.1.1"},
		{"10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"},
		{"10.0.0.1", "1.1.1.1, nonsense", "10.0.0.1"},
		{"10.0.0.1", "nonsense, 10.0.0.2", "10.0.0.2"},
		{"10.0.0.1", "1.1.1.1,", "10.0.0.1"},
		{"192.0.2.1", "1.1.1.1", "1.1.1.1"},
		{"192.0.2.2", "1.1.1.1", "192.0.2.2"},
		{"198.51.100.7", "1.1.1.1", "1.1.1.1"},
		{"::ffff:10.0.0.1", "::ffff:1.1.1.1", "1.1.1.1"},
		{"2001:db8::1", "2001:db9::1", "2001:db9::1"},
		{"fe80::1%eth0", "fe80::2%eth1", "fe80::2"},
	} {
		addr, err := net.ResolveIPAddr("ip", c.remote)
		if err != nil {
			t.Fatal(err)
		}
		if got := sourceIP(&net.TCPAddr{IP: addr.IP, Zone: addr.Zone, Port: 1}, c.forwarded, trusted); got != c.want {
			t.Errorf("%s with %q is %s; want %s", c.remote, c.forwarded, got, c.want)
		}
	}
	if got := sourceIP(&net.UnixAddr{}, "1.1.1.1", trusted); got != "local" {
		t.Errorf("on a socket it is %s", got)
	}
}

// A proxy may add a line of its own to the caller's. The first line alone would be
// whatever the caller wrote.
func TestForwardedForIsReadFromAllItsLines(t *testing.T) {
	d := newDoor(t, func(c *Config) { c.TrustedProxies = []string{"127.0.0.1"} })
	d.Handle("GET", "/", RouteOptions{}, func(x *Exchange) error { return x.Bytes(200, "text/plain", []byte(x.SourceIP())) })
	d.open(t)
	if a := d.do(t, "GET", "/", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 1.1.1.1"); a.body != "1.1.1.1" {
		t.Errorf("the client is %s; want 1.1.1.1", a.body)
	}
}

func TestConfigThatCannotWorkIsRefused(t *testing.T) {
	for word, change := range map[string]func(*Config){
		"tls.cert":        func(c *Config) { c.TLS.Cert = "a" },
		"tls.key":         func(c *Config) { c.TLS.Key = "a" },
		"metrics_role":    func(c *Config) { c.MetricsRole = "all" },
		"header_timeout":  func(c *Config) { c.HeaderTimeout = 0 },
		"read_timeout":    func(c *Config) { c.ReadTimeout = -1 },
		"write_timeout":   func(c *Config) { c.WriteTimeout = 0 },
		"idle_timeout":    func(c *Config) { c.IdleTimeout = 0 },
		"max_connections": func(c *Config) { c.MaxConnections = 0 },
		"body_limit":      func(c *Config) { c.BodyLimit = 0 },
		"10.0.0.0/33":     func(c *Config) { c.TrustedProxies = []string{"10.0.0.0/33"} },
		"proxy.local":     func(c *Config) { c.TrustedProxies = []string{"10.0.0.1", "proxy.local"} },
	} {
		c := Defaults()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: the error is %v", word, err)
		}
	}
	c := Defaults()
	if err := c.Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
}
