// Package telemetrytest has a receiver of OTLP for tests: a real server, over
// HTTP or gRPC, that decodes what it is sent, or that hangs.
package telemetrytest

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	metricservice "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	traceservice "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// Receiver is a running receiver.
type Receiver struct {
	// Addr is its host:port.
	Addr string

	mu       sync.Mutex
	spans    []*trace.ResourceSpans
	metrics  []*metrics.ResourceMetrics
	requests int
	bytes    []byte

	hangs   bool
	release chan struct{}
}

// HTTP starts a receiver of OTLP over HTTP.
func HTTP(t testing.TB) *Receiver { return (&Receiver{}).http(t) }

// Hanging starts a receiver over HTTP that takes requests and never answers,
// until the test is over.
func Hanging(t testing.TB) *Receiver { return (&Receiver{hangs: true}).http(t) }

func (r *Receiver) http(t testing.TB) *Receiver {
	r.release = make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(r.serve))
	r.Addr = s.Listener.Addr().String()
	t.Cleanup(func() {
		close(r.release)
		s.CloseClientConnections()
		s.Close()
	})
	return r
}

func (r *Receiver) serve(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.came(body)
	if r.hangs {
		<-r.release
		return
	}
	switch q.URL.Path {
	case "/v1/traces":
		var request traceservice.ExportTraceServiceRequest
		if err = proto.Unmarshal(body, &request); err == nil {
			r.takeSpans(request.ResourceSpans)
		}
	case "/v1/metrics":
		var request metricservice.ExportMetricsServiceRequest
		if err = proto.Unmarshal(body, &request); err == nil {
			r.takeMetrics(request.ResourceMetrics)
		}
	default:
		http.NotFound(w, q)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf") // an empty answer is an empty message
}

// GRPC starts a receiver of OTLP over gRPC.
func GRPC(t testing.TB) *Receiver { return (&Receiver{}).grpc(t) }

// HangingGRPC starts a receiver over gRPC that takes calls and never answers,
// until the test is over.
func HangingGRPC(t testing.TB) *Receiver { return (&Receiver{hangs: true}).grpc(t) }

func (r *Receiver) grpc(t testing.TB) *Receiver {
	r.release = make(chan struct{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	traceservice.RegisterTraceServiceServer(s, traceServer{r: r})
	metricservice.RegisterMetricsServiceServer(s, metricServer{r: r})
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	r.Addr = l.Addr().String()
	t.Cleanup(func() {
		close(r.release)
		s.Stop()
		if err := <-served; err != nil {
			t.Errorf("serve OTLP: %v", err)
		}
	})
	return r
}

type traceServer struct {
	traceservice.UnimplementedTraceServiceServer
	r *Receiver
}

func (s traceServer) Export(_ context.Context, q *traceservice.ExportTraceServiceRequest) (*traceservice.ExportTraceServiceResponse, error) {
	s.r.sent(q)
	s.r.takeSpans(q.ResourceSpans)
	return &traceservice.ExportTraceServiceResponse{}, nil
}

type metricServer struct {
	metricservice.UnimplementedMetricsServiceServer
	r *Receiver
}

func (s metricServer) Export(_ context.Context, q *metricservice.ExportMetricsServiceRequest) (*metricservice.ExportMetricsServiceResponse, error) {
	s.r.sent(q)
	s.r.takeMetrics(q.ResourceMetrics)
	return &metricservice.ExportMetricsServiceResponse{}, nil
}

func (r *Receiver) sent(m proto.Message) {
	body, err := proto.Marshal(m)
	if err != nil {
		panic(err) // it has just been decoded
	}
	r.came(body)
	if r.hangs {
		<-r.release
	}
}

func (r *Receiver) came(body []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	r.bytes = append(r.bytes, body...)
}

func (r *Receiver) takeSpans(all []*trace.ResourceSpans) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spans = append(r.spans, all...)
}

func (r *Receiver) takeMetrics(all []*metrics.ResourceMetrics) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.metrics = append(r.metrics, all...)
}

// Requests returns how many requests have come, answered or not.
func (r *Receiver) Requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests
}

// Bytes returns all that has come, as it came.
func (r *Receiver) Bytes() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.bytes)
}

// Spans returns the spans that have come.
func (r *Receiver) Spans() []*trace.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*trace.Span
	for _, resource := range r.spans {
		for _, scope := range resource.ScopeSpans {
			all = append(all, scope.Spans...)
		}
	}
	return all
}

// Resource returns an attribute of the resource that spans and metrics are of;
// where they differ, each value.
func (r *Receiver) Resource(name string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []string
	for _, one := range r.spans {
		found = append(found, Attribute(one.GetResource().GetAttributes(), name))
	}
	for _, one := range r.metrics {
		found = append(found, Attribute(one.GetResource().GetAttributes(), name))
	}
	return strings.Join(slices.Compact(found), " ")
}

// Metric returns the newest state of an instrument, nil if none has come.
func (r *Receiver) Metric(name string) *metrics.Metric {
	r.mu.Lock()
	defer r.mu.Unlock()
	var newest *metrics.Metric
	for _, resource := range r.metrics {
		for _, scope := range resource.ScopeMetrics {
			for _, m := range scope.Metrics {
				if m.Name == name {
					newest = m
				}
			}
		}
	}
	return newest
}

// Attribute returns the value of an attribute, a text or a whole number, as a
// text; "" if it has none.
func Attribute(all []*common.KeyValue, name string) string {
	for _, a := range all {
		if a.Key != name {
			continue
		}
		if n, ok := a.Value.Value.(*common.AnyValue_IntValue); ok {
			return strconv.FormatInt(n.IntValue, 10)
		}
		return a.Value.GetStringValue()
	}
	return ""
}
