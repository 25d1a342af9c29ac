package cases

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/wasm"
)

// ReceiverURL stands in a configuration for where a sink's requests are received.
const ReceiverURL = "${receiver}"

// Answer is what the receiver answers: 200 with nothing if it is left out.
type Answer struct {
	Status  int               `yaml:"status"`
	Headers map[string]string `yaml:"headers"`
	Body    string            `yaml:"body"`
	None    bool              `yaml:"none"` // the connection breaks
}

// Sent is what the receiver must have got with the last request.
type Sent struct {
	Requests *int              `yaml:"requests"` // how many of them there were
	Method   string            `yaml:"method"`
	Headers  map[string]string `yaml:"headers"`
	Body     []string          `yaml:"body"` // parts of it
}

// receiver answers a sink's requests, on this machine.
type receiver struct {
	listener net.Listener
	server   *http.Server

	mu       sync.Mutex
	answer   Answer
	requests int
	last     *http.Request
	body     string
}

func receive() (*receiver, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("receive what a sink posts: %w", err)
	}
	r := &receiver{listener: listener}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = r.server.Serve(listener) }() // it ends with close
	return r, nil
}

func (r *receiver) address() string { return r.listener.Addr().String() }

func (r *receiver) close() { _ = r.server.Close() }

// ServeHTTP keeps the request and answers as the case says.
func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	r.last, r.body = request, string(body)
	if r.answer.None {
		panic(http.ErrAbortHandler)
	}
	for name, value := range r.answer.Headers {
		w.Header().Set(name, value)
	}
	if r.answer.Status != 0 {
		w.WriteHeader(r.answer.Status)
	}
	_, _ = io.WriteString(w, r.answer.Body)
}

// named returns the configuration with the receiver's address in it.
func (r *receiver) named(v any) any {
	switch v := v.(type) {
	case string:
		return strings.ReplaceAll(v, ReceiverURL, "http://"+r.address())
	case map[string]any:
		all := map[string]any{}
		for name, value := range v {
			all[name] = r.named(value)
		}
		return all
	case []any:
		all := make([]any, len(v))
		for i := range v {
			all[i] = r.named(v[i])
		}
		return all
	}
	return v
}

// give gives the sink the case's batch.
func (b *Bench) give(ctx context.Context, p *wasm.Plugin, f File, c Case, r Result) (Result, error) {
	given, err := batchOf(lay(f.Batch, c.Batch))
	if err != nil {
		return r, err
	}
	b.receiver.mu.Lock()
	b.receiver.answer, b.receiver.requests, b.receiver.last, b.receiver.body = c.Answer, 0, nil, ""
	b.receiver.mu.Unlock()
	var receipt wasm.Receipt
	asked := false
	for n := range max(1, c.Times) {
		given.Attempt += min(n, 1)
		if receipt, asked, err = p.Give(ctx, given); err != nil {
			r.Wrong = "it could not answer: " + err.Error()
			return r, nil
		}
	}
	word := "ok"
	switch {
	case !asked:
		word = "none"
	case receipt.Retry:
		word = "retry"
	}
	r.Got = word
	if receipt.Reason != "" {
		r.Got += fmt.Sprintf(", %q", receipt.Reason)
	}
	var wrong []string
	w := &c.Want
	if w.Receipt != "" && w.Receipt != word {
		wrong = append(wrong, "want "+w.Receipt)
	}
	if w.Reason != nil && *w.Reason != receipt.Reason {
		wrong = append(wrong, fmt.Sprintf("want reason %q", *w.Reason))
	}
	if w.RetryAfterMS != nil && *w.RetryAfterMS != receipt.After.Milliseconds() {
		wrong = append(wrong, fmt.Sprintf("it says after %d ms, want %d", receipt.After.Milliseconds(), *w.RetryAfterMS))
	}
	if w.Sent != nil {
		wrong = append(wrong, b.receiver.compare(w.Sent)...)
	}
	if len(wrong) > 0 {
		r.Wrong = r.Got + ": " + strings.Join(wrong, ", ")
	}
	return r, nil
}

func (r *receiver) compare(want *Sent) (wrong []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if want.Requests != nil && *want.Requests != r.requests {
		wrong = append(wrong, fmt.Sprintf("want %d requests, there were %d", *want.Requests, r.requests))
	}
	if r.last == nil {
		if want.Method != "" || len(want.Headers) > 0 || len(want.Body) > 0 {
			wrong = append(wrong, "nothing was sent")
		}
		return wrong
	}
	if want.Method != "" && want.Method != r.last.Method {
		wrong = append(wrong, fmt.Sprintf("it was sent by %s, want %s", r.last.Method, want.Method))
	}
	for name, value := range want.Headers {
		if got := r.last.Header.Get(name); got != value {
			wrong = append(wrong, fmt.Sprintf("header %s was %q, want %q", name, got, value))
		}
	}
	for _, part := range want.Body {
		if !strings.Contains(r.body, part) {
			wrong = append(wrong, fmt.Sprintf("%q is not in the body %q", part, r.body))
		}
	}
	return wrong
}

// batchOf reads a batch: its rows are as the API shows them.
func batchOf(given map[string]any) (b audit.Batch, err error) {
	text, err := json.Marshal(given)
	if err != nil {
		return b, fmt.Errorf("batch: %w", err)
	}
	var in struct {
		Epoch   int64
		Attempt int
		Rows    []audit.SinkRow
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return b, fmt.Errorf("batch: %w", err)
	}
	if len(in.Rows) == 0 {
		return b, fmt.Errorf("the batch has no rows")
	}
	b.Epoch, b.Attempt = in.Epoch, max(1, in.Attempt)
	for _, r := range in.Rows {
		row := audit.Row{
			ID: r.ID, CallID: r.CallID, Time: r.Timestamp, RequestID: r.RequestID, TraceID: r.TraceID,
			ActorType: r.Actor.Type, ActorID: r.Actor.ID, ActorName: r.Actor.Name, SourceIP: r.SourceIP, ProjectUID: r.ProjectUID,
			Operation: r.Operation.Operation, ResourceType: r.ResourceType, ResourceID: r.ResourceID, Details: string(r.Details),
			Duration: time.Duration(r.DurationMS * float64(time.Millisecond)), Status: r.Status, Code: r.ErrorCode, Decision: string(r.Decision),
			IntentID: r.IntentID, Count: max(1, r.Count),
		}
		if r.ProjectID != nil {
			row.ProjectID = *r.ProjectID
		}
		if r.ErrorMessage != nil {
			row.Error = *r.ErrorMessage
		}
		b.Rows = append(b.Rows, row)
	}
	return b, nil
}
