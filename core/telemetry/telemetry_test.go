package telemetry

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eiderdb/eider/core/telemetry/telemetrytest"
	"github.com/eiderdb/eider/core/waittest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// opened opens telemetry with what change makes of the defaults.
func opened(t *testing.T, out io.Writer, change func(*Config)) *Telemetry {
	t.Helper()
	c := Defaults()
	change(&c)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	o, err := Open(t.Context(), c, "1.2.3", out)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func otlp(protocol, endpoint string) func(*Config) {
	return func(c *Config) {
		c.Traces, c.Metrics, c.Protocol, c.Endpoint, c.Service = "otlp", "both", protocol, endpoint, "eider-test"
	}
}

func TestSpansAndMetricsReachTheReceiver(t *testing.T) {
	for protocol, receiver := range map[string]*telemetrytest.Receiver{"http": telemetrytest.HTTP(t), "grpc": telemetrytest.GRPC(t)} {
		o := opened(t, io.Discard, otlp(protocol, receiver.Addr))
		ctx, parent := o.Tracer.Start(t.Context(), "parent", trace.WithAttributes(attribute.String("eider.request_id", "r1")))
		_, child := o.Tracer.Start(ctx, "child")
		child.End()
		parent.End()
		count(t, o, "eider_things_total", 3)
		if text := metricsText(t, o, ""); !strings.Contains(text, "eider_things_total 3") {
			t.Errorf("%s: with both, Prometheus is told %s", protocol, text)
		}
		if err := o.Close(t.Context()); err != nil {
			t.Fatalf("%s: %v", protocol, err)
		}
		spans := receiver.Spans()
		if len(spans) != 2 || spans[0].Name != "child" || spans[1].Name != "parent" {
			t.Fatalf("%s: %d spans came: %v", protocol, len(spans), spans)
		}
		id := parent.SpanContext().SpanID()
		if !bytes.Equal(spans[0].ParentSpanId, id[:]) || !bytes.Equal(spans[0].TraceId, spans[1].TraceId) || len(spans[1].ParentSpanId) != 0 {
			t.Errorf("%s: the child is not the parent's: %v", protocol, spans)
		}
		if got := telemetrytest.Attribute(spans[1].Attributes, "eider.request_id"); got != "r1" {
			t.Errorf("%s: the attribute is %q", protocol, got)
		}
		if got := receiver.Resource("service.name") + " " + receiver.Resource("service.version"); got != "eider-test 1.2.3" {
			t.Errorf("%s: the resource is %q", protocol, got)
		}
		if m := receiver.Metric("eider_things_total"); m == nil || m.GetSum().GetDataPoints()[0].GetAsInt() != 3 {
			t.Errorf("%s: the counter came as %v", protocol, m)
		}
	}
}

func count(t *testing.T, o *Telemetry, name string, n int64) {
	t.Helper()
	counter, err := o.Meter.Int64Counter(name)
	if err != nil {
		t.Fatal(err)
	}
	counter.Add(t.Context(), n)
}

func metricsText(t *testing.T, o *Telemetry, accept string) string {
	t.Helper()
	var b strings.Builder
	if _, err := o.WriteMetrics(&b, accept); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// manySpans is more than the queue of the exporter holds (2048) and than it
// sends at once (512).
const manySpans = 10_000

// A receiver that takes what comes and never answers holds nobody up: not who
// ends a span, and Close only for its bound. Its metrics are sent in spite of
// traces that hang.
func TestReceiverThatHangsHoldsNobodyUp(t *testing.T) {
	for protocol, receiver := range map[string]*telemetrytest.Receiver{"http": telemetrytest.Hanging(t), "grpc": telemetrytest.HangingGRPC(t)} {
		o := opened(t, io.Discard, otlp(protocol, receiver.Addr))
		o.closeWithin = 300 * time.Millisecond
		endSpans(t, o)
		waittest.Until(t, protocol+": an export hangs", func() bool { return receiver.Requests() == 1 })
		endSpans(t, o) // while it hangs
		count(t, o, "eider_things_total", 1)
		if err := o.Close(t.Context()); err == nil {
			t.Errorf("%s: what hangs was sent", protocol)
		}
		if n := receiver.Requests(); n != 2 {
			t.Errorf("%s: %d requests came, want one of traces and one of metrics", protocol, n)
		}
	}
}

func endSpans(t *testing.T, o *Telemetry) {
	for range manySpans {
		_, span := o.Tracer.Start(t.Context(), "one of many")
		span.End()
	}
}

func TestReceiverThatIsAwayHoldsNobodyUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, protocol := range []string{"http", "grpc"} {
		o := opened(t, io.Discard, otlp(protocol, nobody))
		o.closeWithin = 300 * time.Millisecond
		endSpans(t, o)
		if err := o.Close(t.Context()); err == nil {
			t.Errorf("%s: everything was sent to nobody", protocol)
		}
	}
}

// A receiver that stays away does not fill the log.
func TestLossesAreToldOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := &losses{log: slog.New(slog.NewTextHandler(&out, nil))}
		for i := range 150 { // one a second
			l.Handle(fmt.Errorf("failure %d", i))
			time.Sleep(time.Second)
		}
		for _, want := range []string{`error="failure 0" untold=0`, `error="failure 60" untold=59`, `error="failure 120" untold=59`} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s is not told", want)
			}
		}
		if n := strings.Count(out.String(), "\n"); n != 3 {
			t.Errorf("%d lines were logged: %s", n, out.String())
		}
	})
}

func TestSamplingIsTheCallersWhereItHasDecided(t *testing.T) {
	for _, c := range []struct {
		ratio  float64
		parent string // of the caller: "" none
		kept   int
	}{
		{1, "", 1}, {0, "", 0}, {1, "unsampled", 0}, {0, "sampled", 1},
	} {
		receiver := telemetrytest.HTTP(t)
		o := opened(t, io.Discard, func(cfg *Config) {
			otlp("http", receiver.Addr)(cfg)
			cfg.SampleRatio = c.ratio
		})
		ctx := t.Context()
		if c.parent != "" {
			ctx = trace.ContextWithRemoteSpanContext(ctx, remote(c.parent == "sampled"))
		}
		_, span := o.Tracer.Start(ctx, "one")
		if c.parent != "" && span.SpanContext().TraceID() != remote(true).TraceID() {
			t.Errorf("%+v: the trace is not the caller's", c)
		}
		span.End()
		if err := o.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if n := len(receiver.Spans()); n != c.kept {
			t.Errorf("%+v: %d spans were kept", c, n)
		}
	}
}

func remote(sampled bool) trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.TraceFlags(0).WithSampled(sampled), Remote: true,
	})
}

// Where traces are off, log lines and rows still have the caller's trace.
func TestTheCallersTraceIsKeptWhereTracesAreOff(t *testing.T) {
	o := opened(t, io.Discard, func(c *Config) { c.Traces = "off" })
	ctx, span := o.Tracer.Start(trace.ContextWithRemoteSpanContext(t.Context(), remote(true)), "one")
	if got := trace.SpanContextFromContext(ctx).TraceID(); got != remote(true).TraceID() || span.IsRecording() {
		t.Errorf("the trace is %s, recording %v", got, span.IsRecording())
	}
	if err := o.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSpansOnStdoutAndLogLinesDoNotMix(t *testing.T) {
	var out bytes.Buffer // which no two may write to at once
	o := opened(t, &out, func(c *Config) { c.Traces = "stdout" })
	const each = 600 // more than the exporter waits for
	var wg sync.WaitGroup
	wg.Go(func() {
		for range each {
			_, span := o.Tracer.Start(t.Context(), "a span")
			span.End()
		}
	})
	wg.Go(func() {
		for range each {
			o.Log.Info("a line")
		}
	})
	wg.Wait()
	if err := o.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	spans, lines := 0, 0
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		var one struct {
			Name string `json:"Name"`
			Msg  string `json:"msg"`
		}
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if one.Name == "a span" {
			spans++
		}
		if one.Msg == "a line" {
			lines++
		}
	}
	if spans != each || lines != each {
		t.Errorf("%d spans and %d lines came, want %d each", spans, lines, each)
	}
}

func TestMetricsAreWrittenInTheFormThatIsAskedFor(t *testing.T) {
	o := opened(t, io.Discard, func(*Config) {})
	count(t, o, "eider_things_total", 3)
	for name, value := range map[string]float64{"eider_waits_seconds": .003, "eider_group_size": 7} {
		h, err := o.Meter.Float64Histogram(name, metric.WithExplicitBucketBoundaries(1, 10))
		if err != nil {
			t.Fatal(err)
		}
		h.Record(t.Context(), value)
	}
	for accept, c := range map[string]struct {
		contentType string
		lines       []string
	}{
		"": {"text/plain; version=0.0.4", []string{"# TYPE eider_things_total counter", "eider_things_total 3", "go_goroutines "}},
		"text/plain": {"text/plain; version=0.0.4", []string{
			`eider_waits_seconds_bucket{le="0.0025"} 0`, `eider_waits_seconds_bucket{le="0.005"} 1`, // seconds have the same bounds everywhere
			`eider_group_size_bucket{le="1"} 0`, `eider_group_size_bucket{le="10"} 1`, // others their own
			"process_start_time_seconds ",
		}},
		"application/openmetrics-text; version=1.0.0": {"application/openmetrics-text; version=1.0.0", []string{"# TYPE eider_things counter", "eider_things_total 3.0", "# EOF"}},
	} {
		var b strings.Builder
		got, err := o.WriteMetrics(&b, accept)
		if err != nil || !strings.HasPrefix(got, c.contentType) {
			t.Errorf("%q is answered as %s, %v", accept, got, err)
		}
		for _, line := range c.lines {
			if !strings.Contains("\n"+b.String(), "\n"+line) {
				t.Errorf("%q: there is no line %s in:\n%s", accept, line, b.String())
			}
		}
	}
}

func TestMetricsThatAreOffAreAnEmptyPage(t *testing.T) {
	o := opened(t, io.Discard, func(c *Config) { c.Metrics = "off" })
	count(t, o, "eider_things_total", 3)
	if text := metricsText(t, o, "text/plain"); text != "" {
		t.Errorf("the page is %q", text)
	}
	if text := metricsText(t, o, "application/openmetrics-text"); text != "# EOF\n" {
		t.Errorf("the page is %q", text)
	}
}

// A label that takes ever new values costs a bounded number of series.
func TestSeriesOfAnInstrumentAreBounded(t *testing.T) {
	o := opened(t, io.Discard, func(*Config) {})
	counter, err := o.Meter.Int64Counter("eider_things_total")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 * cardinality {
		counter.Add(t.Context(), 1, metric.WithAttributes(attribute.Int("i", i)))
	}
	if n := strings.Count(metricsText(t, o, ""), "\neider_things_total{"); n != cardinality {
		t.Errorf("there are %d series, want %d", n, cardinality)
	}
}

func TestLogLinesCarryTheIDsOfRequestAndTrace(t *testing.T) {
	var out bytes.Buffer
	o := opened(t, &out, func(*Config) {})
	ctx := trace.ContextWithRemoteSpanContext(WithRequestID(t.Context(), "r1"), remote(true))
	o.Log.With("module", "keys").InfoContext(ctx, "inside", "n", 1)
	o.Log.Info("outside")
	lines := strings.Split(out.String(), "\n")
	inside, outside := map[string]any{}, map[string]any{}
	if err := json.Unmarshal([]byte(lines[0]), &inside); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(lines[1]), &outside); err != nil {
		t.Fatal(err)
	}
	id, span := remote(true).TraceID(), remote(true).SpanID()
	for name, want := range map[string]any{
		"request_id": "r1", "trace_id": hex.EncodeToString(id[:]), "span_id": hex.EncodeToString(span[:]),
		"module": "keys", "n": 1.0, "msg": "inside", "level": "INFO",
	} {
		if inside[name] != want {
			t.Errorf("%s is %v, want %v", name, inside[name], want)
		}
	}
	for _, name := range []string{"request_id", "trace_id", "span_id"} {
		if _, has := outside[name]; has {
			t.Errorf("outside of a request a line has %s", name)
		}
	}
}

func TestLogLevelAndFormatAreTheConfigs(t *testing.T) {
	for _, c := range []struct {
		level, format string
		lines         int
		first         string
	}{
		{"debug", "json", 4, `"msg":"d"`}, {"info", "json", 3, `"msg":"i"`}, {"warn", "text", 2, "msg=w"}, {"error", "text", 1, "msg=e"},
	} {
		var out bytes.Buffer
		o := opened(t, &out, func(cfg *Config) { cfg.LogLevel, cfg.LogFormat = c.level, c.format })
		o.Log.Debug("d")
		o.Log.Info("i")
		o.Log.Warn("w")
		o.Log.Error("e")
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != c.lines || !strings.Contains(lines[0], c.first) {
			t.Errorf("%+v: the log is %q", c, lines)
		}
	}
}

func TestConfigThatCannotWorkIsRefused(t *testing.T) {
	nan := 0.0
	nan /= nan
	for name, changes := range map[string][]func(*Config){
		"traces":   {func(c *Config) { c.Traces = "" }, func(c *Config) { c.Traces = "OTLP" }, func(c *Config) { c.Traces = "jaeger" }},
		"metrics":  {func(c *Config) { c.Metrics = "on" }},
		"protocol": {func(c *Config) { c.Protocol = "http/json" }},
		"endpoint": {
			func(c *Config) { c.Endpoint = "" }, func(c *Config) { c.Endpoint = "localhost" }, func(c *Config) { c.Endpoint = ":4317" },
			func(c *Config) { c.Endpoint = "http://localhost:4318" }, func(c *Config) { c.Endpoint = "localhost:4318/v1/traces" },
			func(c *Config) { c.Endpoint = "localhost:0" }, func(c *Config) { c.Endpoint = "localhost:65536" }, func(c *Config) { c.Endpoint = "localhost:otlp" },
		},
		"sample_ratio": {func(c *Config) { c.SampleRatio = -.1 }, func(c *Config) { c.SampleRatio = 1.1 }, func(c *Config) { c.SampleRatio = nan }},
		"log_level":    {func(c *Config) { c.LogLevel = "" }, func(c *Config) { c.LogLevel = "loud" }, func(c *Config) { c.LogLevel = "info+1" }},
		"log_format":   {func(c *Config) { c.LogFormat = "xml" }},
		"service":      {func(c *Config) { c.Service = "" }},
	} {
		for i, change := range changes {
			c := Defaults()
			change(&c)
			if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), name+" ") {
				t.Errorf("%s, %d: the error is %v", name, i, err)
			}
		}
	}
	for _, endpoint := range []string{"localhost:4317", "10.0.0.1:4318", "[::1]:4317", "collector.example:443"} {
		c := Defaults()
		c.Endpoint = endpoint
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}

func TestDiscardReportsNowhere(t *testing.T) {
	o := Discard()
	_, span := o.Tracer.Start(t.Context(), "one")
	if span.IsRecording() {
		t.Error("a span is recorded")
	}
	count(t, o, "eider_things_total", 2)
	if text := metricsText(t, o, ""); !strings.Contains(text, "eider_things_total 2") {
		t.Errorf("the metrics are %s", text)
	}
	if err := o.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
