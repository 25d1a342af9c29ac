package wasm

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/usage"
)

// Event is what a policy is asked about, as docs/plugin-abi.md describes it.
type Event struct {
	Operation string        `json:"operation"`
	TimeMS    int64         `json:"time_ms"`
	Actor     EventActor    `json:"actor"`
	Resource  EventResource `json:"resource"`
	Project   *EventProject `json:"project"`
	Usage     EventUsage    `json:"usage"`
	Request   EventRequest  `json:"request"`
	Input     rawJSON       `json:"input"`
	Extends   bool          `json:"extends"`
}

// EventActor is who acts.
type EventActor struct {
	Type      string `json:"type"`
	ID        string `json:"id"`
	Name      string `json:"name"`
	Role      string `json:"role"`
	ProjectID string `json:"project_id"`
}

// EventResource is what is acted on.
type EventResource struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

// EventProject is the project that the operation concerns.
type EventProject struct {
	ID       string  `json:"id"`
	UID      string  `json:"uid"`
	Name     string  `json:"name"`
	Status   string  `json:"status"`
	Settings rawJSON `json:"settings"`
}

// EventUsage is what would be held with the call.
type EventUsage struct {
	Project usage.Amounts `json:"project"`
	Server  usage.Amounts `json:"server"`
	Adds    usage.Amounts `json:"adds"`
}

// EventRequest is how the call came.
type EventRequest struct {
	ID       string `json:"id"`
	SourceIP string `json:"source_ip"`
	Method   string `json:"method"`
	Route    string `json:"route"`
}

// rawJSON is a JSON text; an empty one is null.
type rawJSON []byte

// MarshalJSON returns the text.
func (r rawJSON) MarshalJSON() ([]byte, error) { return r.text(), nil }

// UnmarshalJSON keeps a copy of the text.
func (r *rawJSON) UnmarshalJSON(b []byte) error {
	*r = append((*r)[:0], b...)
	return nil
}

func (r rawJSON) text() []byte {
	if len(r) == 0 {
		return []byte("null")
	}
	return r
}

// maxEvent is the most that a guest is given at a time.
const maxEvent = 4 << 20

func eventOf(q *policy.Question) *Event {
	e := &Event{
		Operation: q.Operation, TimeMS: q.Time.UnixMilli(),
		Actor:    EventActor{string(q.Actor.Type), q.Actor.ID, q.Actor.Name, q.Actor.Role.String(), q.Actor.ProjectID},
		Resource: EventResource{q.ResourceType, q.ResourceID},
		Usage:    EventUsage{q.ProjectUsage, q.ServerUsage, q.Adds},
		Request:  EventRequest{q.RequestID, q.SourceIP, q.Method, q.Route},
		Input:    rawJSON(q.Input),
		Extends:  q.Extends,
	}
	if q.Time.IsZero() {
		e.TimeMS = time.Now().UnixMilli()
	}
	if q.Project != nil {
		e.Project = projectOf(q.Project)
	}
	return e
}

func projectOf(p *eider.Project) *EventProject {
	settings := rawJSON(p.Settings)
	if len(settings) == 0 {
		settings = rawJSON("{}")
	}
	return &EventProject{p.ID, p.UID, p.Name, string(p.Status), settings}
}

// flat appends the event in the flat encoding.
func (e *Event) flat(b []byte) []byte {
	w := flatWriter{append(b, flatVersion)}
	w.text(e.Operation)
	w.i64(e.TimeMS)
	w.text(e.Actor.Type, e.Actor.ID, e.Actor.Name, e.Actor.Role, e.Actor.ProjectID, e.Resource.Type, e.Resource.ID)
	if e.Project == nil {
		w.b = append(w.b, 0)
	} else {
		w.b = append(w.b, 1)
		w.text(e.Project.ID, e.Project.UID, e.Project.Name, e.Project.Status)
		w.bytes(e.Project.Settings.text())
	}
	for _, a := range []usage.Amounts{e.Usage.Project, e.Usage.Server, e.Usage.Adds} {
		w.i64(a.Projects, a.Bytes, a.Files, a.Tables, a.Rows)
	}
	w.text(e.Request.ID, e.Request.SourceIP, e.Request.Method, e.Request.Route)
	w.bytes(e.Input.text())
	extends := byte(0)
	if e.Extends {
		extends = 1
	}
	return append(w.b, extends)
}

func (e *Event) encode(flat bool, b []byte) ([]byte, error) {
	if flat {
		b = e.flat(b)
	} else {
		var err error
		if b, err = e.json(b); err != nil {
			return nil, err
		}
	}
	if len(b) > maxEvent {
		return nil, policy.Unable("the event is too large")
	}
	return b, nil
}

const flatVersion = 1

type flatWriter struct{ b []byte }

func (w *flatWriter) i64(all ...int64) {
	for _, v := range all {
		w.b = binary.LittleEndian.AppendUint64(w.b, uint64(v))
	}
}

func (w *flatWriter) u32(v uint32) { w.b = binary.LittleEndian.AppendUint32(w.b, v) }

func (w *flatWriter) text(all ...string) {
	for _, s := range all {
		w.u32(uint32(len(s)))
		w.b = append(w.b, s...)
	}
}

func (w *flatWriter) bytes(s []byte) {
	w.u32(uint32(len(s)))
	w.b = append(w.b, s...)
}

// flatReader reads what a guest has written; what is wrong stays in err.
type flatReader struct {
	b   []byte
	err error
}

var errFlat = errors.New("the flat encoding ends too early or has another version")

func (r *flatReader) take(n uint64) []byte {
	if r.err != nil || n > uint64(len(r.b)) {
		r.err = errFlat
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *flatReader) u8() byte {
	if b := r.take(1); r.err == nil {
		return b[0]
	}
	return 0
}

func (r *flatReader) u32() uint32 {
	if b := r.take(4); r.err == nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *flatReader) i64() int64 {
	if b := r.take(8); r.err == nil {
		return int64(binary.LittleEndian.Uint64(b))
	}
	return 0
}

func (r *flatReader) bytes() []byte { return r.take(uint64(r.u32())) }

func (r *flatReader) text() string {
	b := r.bytes()
	if !utf8.Valid(b) {
		r.err = errors.New("a text is no UTF-8")
		return ""
	}
	return string(b)
}

func (r *flatReader) version() {
	if v := r.u8(); v != flatVersion {
		r.err = errFlat
	}
}

// maxReason is how much of a reason is kept, in bytes.
const maxReason = 1024

// decisionJSON is a guest's answer about an event.
type decisionJSON struct {
	Decision     string `json:"decision"`
	Reason       string `json:"reason"`
	Code         string `json:"code"`
	RetryAfterMS int64  `json:"retry_after_ms"`
}

var (
	decisionWords = []string{"allow", "deny", "warn"}
	codeWords     = []eider.Code{eider.DeniedByPolicy, eider.QuotaExceeded, eider.RateLimited}
)

// plainAllow is what the SDKs answer nearly always. Not to decode it saves a tenth of a
// call.
const plainAllow = `{"decision":"allow"}`

// decodeDecision reads a guest's answer.
func decodeDecision(flat bool, b []byte) (policy.Decision, error) {
	var d decisionJSON
	if !flat && string(b) == plainAllow {
		return policy.Decision{}, nil
	}
	if flat {
		r := &flatReader{b: b}
		r.version()
		word, code := r.u8(), r.u8()
		d.RetryAfterMS, d.Reason = r.i64(), r.text()
		if r.err == nil && (int(word) >= len(decisionWords) || int(code) >= len(codeWords)) {
			r.err = errors.New("it has a word that is not known")
		}
		if r.err != nil {
			return policy.Decision{}, r.err
		}
		d.Decision, d.Code = decisionWords[word], string(codeWords[code])
	} else {
		if !utf8.Valid(b) {
			return policy.Decision{}, errors.New("it is no UTF-8")
		}
		if err := json.Unmarshal(b, &d); err != nil {
			return policy.Decision{}, err
		}
	}
	return d.decision()
}

func (d *decisionJSON) decision() (policy.Decision, error) {
	reason := cut(d.Reason, maxReason)
	switch d.Decision {
	case "allow":
		return policy.Decision{}, nil
	case "warn":
		if reason == "" {
			reason = "it gave no reason"
		}
		return policy.Decision{Warning: []string{reason}, Reason: reason}, nil
	case "deny":
	default:
		return policy.Decision{}, fmt.Errorf("the decision %q is none of allow, deny, warn", cut(d.Decision, 32))
	}
	code := eider.Code(d.Code)
	switch code {
	case "":
		code = eider.DeniedByPolicy
	case eider.DeniedByPolicy, eider.QuotaExceeded, eider.RateLimited:
	default:
		return policy.Decision{}, fmt.Errorf("the code %q is none of denied_by_policy, quota_exceeded, rate_limited", cut(d.Code, 32))
	}
	seconds := 0
	if d.RetryAfterMS > 0 {
		seconds = int(min(math.MaxInt32, (d.RetryAfterMS-1)/1000+1))
	}
	return policy.Decision{Deny: true, Code: code, Reason: reason, Retry: seconds}, nil
}

// cut shortens a text to at most n bytes, and leaves whole characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
