package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/telemetry"
	"github.com/eiderdb/eider/core/telemetry/telemetrytest"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// logged is where a server's log goes, for tests that read it while it grows.
type logged struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.String()
}

// lines returns the lines whose member has the value.
func (l *logged) lines(t *testing.T, member, value string) []map[string]any {
	t.Helper()
	var all []map[string]any
	for _, text := range strings.Split(strings.TrimSpace(l.String()), "\n") {
		line := map[string]any{}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("a line of the log is no JSON: %v: %s", err, text)
		}
		if line[member] == value {
			all = append(all, line)
		}
	}
	return all
}

// observed starts a server that sends its spans and metrics to the receiver. It
// is stopped, and telemetry closed, by the returned function.
func observed(t *testing.T, addr string, out *logged) (*apptest.Server, func() error) {
	t.Helper()
	c := telemetry.Defaults()
	c.Traces, c.Metrics, c.Protocol, c.Endpoint, c.LogLevel = "otlp", "both", "http", addr, "debug"
	o, err := telemetry.Open(t.Context(), c, "test", out)
	if err != nil {
		t.Fatal(err)
	}
	s := apptest.Start(t, t.TempDir(), app.Options{Modules: modules(), Telemetry: o, Policies: []policy.Item{
		{Name: "quota", Policy: quota{10}, Mode: policy.Enforce},
	}}, nil)
	return s, func() error {
		s.Stop()
		return o.Close(t.Context())
	}
}

func TestTraceOfACreationShowsEveryStage(t *testing.T) {
	receiver, out := telemetrytest.HTTP(t), &logged{}
	s, stop := observed(t, receiver.Addr, out)
	const caller, callersSpan = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	key := s.Want(201, s.Root, "POST /projects", `{"id":"p"}`,
		"traceparent: 00-"+caller+"-"+callersSpan+"-01", "X-Request-Id: r1").Text("api_key")
	s.Want(200, key, "GET /projects/p", "")
	rows := s.Want(200, s.Root, "GET /operations?operation=create_project&all_rows=true", "").List("operations")
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	tree := map[string]*tracepb.Span{} // of the caller's trace, by id
	for _, span := range receiver.Spans() {
		if hex.EncodeToString(span.TraceId) == caller {
			tree[hex.EncodeToString(span.SpanId)] = span
		}
	}
	var paths []string
	for _, span := range tree {
		paths = append(paths, spanPath(tree, span, callersSpan))
	}
	want := map[string]int{
		"POST /projects": 1,
		"POST /projects > operation create_project":                  1,
		"POST /projects > operation create_project > policy":         1,
		"POST /projects > operation create_project > metadata write": 2, // intent and outcome
		"POST /projects > operation create_project > effect project": 1,
	}
	for _, p := range paths {
		want[p]--
	}
	for p, missing := range want {
		if missing != 0 {
			t.Errorf("%s is there %d times too few; the spans are\n%s", p, missing, strings.Join(paths, "\n"))
		}
	}
	call := rows[0]["call_id"].(string)
	for _, span := range tree {
		checkSpan(t, span, call)
	}
	for _, row := range rows {
		if row["trace_id"] != caller || row["request_id"] != "r1" {
			t.Errorf("the row of the log has trace %v and request %v", row["trace_id"], row["request_id"])
		}
	}
	for _, secret := range []string{s.Root, key} {
		if bytes.Contains(receiver.Bytes(), []byte(secret)) || strings.Contains(out.String(), secret) {
			t.Error("a key is in the spans or in the log")
		}
	}
	lines := out.lines(t, "request_id", "r1")
	if len(lines) == 0 {
		t.Error("no line of the log is of the request")
	}
	for _, line := range lines {
		span, _ := line["span_id"].(string)
		if line["trace_id"] != caller || tree[span] == nil {
			t.Errorf("a line of the request is of another trace: %v", line)
		}
	}
}

// A statement is followed into the project's worker, and tells nothing of its text.
func TestTraceOfAQueryReachesItsWorker(t *testing.T) {
	receiver, out := telemetrytest.HTTP(t), &logged{}
	s, stop := observed(t, receiver.Addr, out)
	const caller, callersSpan = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	created := s.Want(201, s.Root, "POST /projects", `{"id":"p"}`)
	s.Want(200, s.Root, "POST /projects/p/query", statement("SELECT 'hunter2' AS secret"), "traceparent: 00-"+caller+"-"+callersSpan+"-01")
	s.Want(400, s.Root, "POST /projects/p/query", statement("SELECT hunter2"), "traceparent: 00-"+caller+"-"+callersSpan+"-01")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	tree := map[string]*tracepb.Span{}
	for _, span := range receiver.Spans() {
		if hex.EncodeToString(span.TraceId) == caller {
			tree[hex.EncodeToString(span.SpanId)] = span
		}
	}
	const route = "POST /projects/{id}/query"
	paths := map[string]int{}
	for _, span := range tree {
		path := spanPath(tree, span, callersSpan)
		if failed := span.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR; failed {
			path += " failed"
		}
		paths[path]++
		if strings.HasPrefix(span.Name, "worker ") {
			if got := telemetrytest.Attribute(span.Attributes, "eider.project_uid"); got != created.Text("uid") {
				t.Errorf("%s is of project %q, want %q", span.Name, got, created.Text("uid"))
			}
		}
	}
	for path, want := range map[string]int{
		route: 2, route + " > operation query": 1, route + " > operation query failed": 1, route + " > operation query > worker query": 1,
		route + " > operation query > worker query > worker start": 1, // the first statement alone
		route + " > operation query > worker query failed":         1,
	} {
		if paths[path] != want {
			t.Errorf("%s is there %d times, want %d; the spans are %v", path, paths[path], want, paths)
		}
	}
	if bytes.Contains(receiver.Bytes(), []byte("hunter2")) || strings.Contains(out.String(), "hunter2") {
		t.Error("the text of a statement is in the spans or in the log")
	}
}

// spanPath names the span and those above it, up to the caller's.
func spanPath(tree map[string]*tracepb.Span, span *tracepb.Span, callers string) string {
	parent := hex.EncodeToString(span.ParentSpanId)
	if parent == callers {
		return span.Name
	}
	if tree[parent] == nil {
		return "(lost) > " + span.Name
	}
	return spanPath(tree, tree[parent], callers) + " > " + span.Name
}

// checkSpan compares a span's attributes with what its name promises.
func checkSpan(t *testing.T, span *tracepb.Span, call string) {
	t.Helper()
	want := map[string]map[string]string{
		"POST /projects": {
			"http.request.method": "POST", "http.route": "/projects", "http.response.status_code": "201", "eider.request_id": "r1",
		},
		"operation create_project": {"eider.operation": "create_project", "eider.call_id": call},
		"policy":                   {"eider.policies": "1"},
		"metadata write":           {"eider.group_size": "1"},
	}[span.Name]
	for name, value := range want {
		if got := telemetrytest.Attribute(span.Attributes, name); got != value {
			t.Errorf("%s: %s is %q, want %q", span.Name, name, got, value)
		}
	}
	if server := span.Kind == tracepb.Span_SPAN_KIND_SERVER; server != (span.Name == "POST /projects") {
		t.Errorf("%s is of kind %v", span.Name, span.Kind)
	}
	if span.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR {
		t.Errorf("%s has failed: %v", span.Name, span.Status)
	}
}

func TestSpansOfARefusalSayWhoDeniedItAndNotWhatWasAsked(t *testing.T) {
	receiver, out := telemetrytest.HTTP(t), &logged{}
	s, stop := observed(t, receiver.Addr, out)
	for i := range 11 {
		s.Do(s.Root, "POST /projects", `{"id":"p`+string(rune('a'+i))+`","settings":{"password":"hunter2"}}`)
	}
	s.Want(401, "eider_0123456789abcdef_wrongsecret", "GET /projects/p?token=hunter2", "")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	denied := 0
	for _, span := range receiver.Spans() {
		if telemetrytest.Attribute(span.Attributes, "eider.denied_by") == "quota" {
			denied++
		}
		if span.Name == "operation create_project" && span.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR && span.Status.Message != "quota_exceeded" {
			t.Errorf("the operation failed with %q", span.Status.Message)
		}
	}
	if denied != 1 {
		t.Errorf("%d spans were denied by the quota, want 1", denied)
	}
	for _, secret := range []string{"hunter2", "wrongsecret"} {
		if bytes.Contains(receiver.Bytes(), []byte(secret)) || strings.Contains(out.String(), secret) {
			t.Errorf("%s is in the spans or in the log", secret)
		}
	}
}

// Whoever receives telemetry can neither slow nor stop the server: it answers
// while an export hangs, and ends while it still does.
func TestServerGoesOnAndStopsWhileItsTelemetryHangs(t *testing.T) {
	t.Parallel() // it waits
	receiver, out := telemetrytest.Hanging(t), &logged{}
	s, stop := observed(t, receiver.Addr, out)
	project(t, s, "first")
	apptest.Eventually(t, "an export hangs", func() bool { return receiver.Requests() > 0 })
	project(t, s, "second")
	s.Want(200, s.Root, "GET /projects/second", "")
	if err := stop(); err == nil {
		t.Error("what hangs was sent")
	}
}

// The trace and the request are found in the log from every answer, also where
// no traces are kept.
func TestTheCallersTraceIsInTheLogWithoutTracing(t *testing.T) {
	s := start(t, nil)
	const caller = "4bf92f3577b34da6a3ce929d0e0e4736"
	s.Want(403, project(t, s, "p"), "POST /projects", `{"id":"q"}`, "traceparent: 00-"+caller+"-00f067aa0ba902b7-00", "X-Request-Id: r2")
	rows := s.Want(200, s.Root, "GET /operations?request_id=r2", "").List("operations")
	if len(rows) != 1 || rows[0]["trace_id"] != caller {
		t.Errorf("the rows are %v", rows)
	}
}
