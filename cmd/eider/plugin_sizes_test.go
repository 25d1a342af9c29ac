package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/telemetry"
	"github.com/eiderdb/eider/core/usage"
	"github.com/eiderdb/eider/core/wasm"
	"github.com/eiderdb/eider/core/wasm/wasmtest"
	"github.com/eiderdb/eider/sdk"
)

// hostOf returns a host of the plugins.
func hostOf(t *testing.T, items ...wasm.Item) *wasm.Host {
	t.Helper()
	tel := telemetry.Discard()
	h, err := wasm.New(wasm.Options{
		Dir: t.TempDir(), Cache: wasmtest.Cache(t), Log: slog.New(slog.DiscardHandler), Tracer: tel.Tracer, Meter: tel.Meter, KV: wasm.NewKV(),
	}, items)
	mustDo(t, err)
	t.Cleanup(func() { mustDo(t, h.Close(context.Background())) })
	mustDo(t, h.Start(t.Context()))
	for _, i := range items {
		mustDo(t, h.Plugin(i.Name).Refused())
	}
	return h
}

// largeQuestions are about what is legal and as large as it may be, whatever it is made
// of: settings have at most 64 KiB, tables 1,000 columns and statements 1 MB.
func largeQuestions(t *testing.T) map[string]*policy.Question {
	t.Helper()
	const limit = 60 << 10
	var columns []any
	for i := range 1000 {
		columns = append(columns, map[string]any{"name": fmt.Sprintf("a_rather_long_name_of_a_column_%04d", i), "type": "DECIMAL(18,3)", "nullable": false, "description": "number " + fmt.Sprint(i)})
	}
	table, err := json.Marshal(map[string]any{"name": "wide", "columns": columns})
	mustDo(t, err)
	questions := map[string]*policy.Question{"table": {Operation: "create_table", Input: table, Adds: usage.Amounts{Tables: 1}}}
	// What is read of an event may be as large. The example of a policy reads this one.
	lines := strings.Repeat(`SELECT \"\u00e9\",\n  `, 1_000_000/22)
	questions["text that is read"] = &policy.Question{Operation: "create_project", Input: []byte(`{"id":"` + lines + `"}`)}
	for name, sql := range map[string]string{"lines": strings.Repeat(`SELECT \"a\",\n  `, 1_000_000/16), "letters": strings.Repeat("é", 500_000)} {
		questions["statement of "+name] = &policy.Question{Operation: "query", Input: []byte(`{"sql":"` + sql + `","mode":"read"}`)}
	}
	for name, settings := range map[string]string{
		"text": `{"a":"` + strings.Repeat("x", limit) + `"}`, "numbers": `{"a":[` + strings.Repeat("1,", limit/2) + `1]}`,
		"members":  `{"a":{` + strings.Repeat(`"":0,`, limit/5) + `"":0}}`,
		"brackets": `{"a":[` + strings.Repeat("[],", limit/3) + `[]]}`,
		"flat":     `{` + strings.Repeat(`"":0,`, limit/5) + `"":0}`, "escapes": `{"a":"` + strings.Repeat(`\"`, limit/2) + `"}`,
		"names": `{` + strings.Repeat(`"\"":0,`, limit/7) + `"":0}`,
	} {
		p := &eider.Project{ID: "p", UID: "u", Settings: []byte(settings)}
		questions["settings of "+name] = &policy.Question{Operation: "update_project", Project: p, Input: []byte(`{"settings":` + settings + `}`)}
		questions["upload with settings of "+name] = &policy.Question{Operation: "upload_file", Project: p, Adds: usage.Amounts{Bytes: 1, Files: 1}}
	}
	return questions
}

// decideAll has every plugin decide about each of the questions.
func decideAll(t *testing.T, h *wasm.Host, questions map[string]*policy.Question) {
	t.Helper()
	for what, q := range questions {
		for _, p := range h.Ordered() {
			d, err := p.Decide(t.Context(), q)
			if err != nil || d.Deny {
				t.Errorf("%s and a %s: %v, %s", p.Name(), what, err, d.Reason)
			}
		}
	}
}

// What is legal is never too much for the plugins that the binary brings, however large
// it is and whatever it is made of.
func TestBuiltInPluginsTakeWhatIsLarge(t *testing.T) {
	decideAll(t, hostOf(t,
		wasm.Item{Name: "naming", Path: builtGuest(t, "plugins/naming"), Guests: 1, Config: map[string]any{
			"table": map[string]any{"pattern": "[a-z][a-z0-9_]*"}, "column": map[string]any{"pattern": "[a-z][a-z0-9_]*", "forbid": "tmp.*"}}},
		wasm.Item{Name: "quota", Path: builtGuest(t, "plugins/quota"), Guests: 1, Config: map[string]any{"bytes": 1 << 40, "server": map[string]any{"bytes": 1 << 40}}},
		wasm.Item{Name: "ratelimit", Path: builtGuest(t, "plugins/ratelimit"), Guests: 1, Capabilities: []string{"kv"}, Config: map[string]any{
			"rules": []any{map[string]any{"rate": 1000}}}}), largeQuestions(t))
}

// Nor is it for the same policy and the same sink in any language, one after the other:
// no guest needs more than the default of fuel and memory, whatever came before.
func TestTheSDKsTakeWhatIsLarge(t *testing.T) {
	var policies, sinks []wasm.Item
	for _, language := range sdk.Languages() {
		policies = append(policies, wasm.Item{Name: language, Path: builtGuest(t, "sdk/"+language+"/examples/guard"), Guests: 1, Config: map[string]any{"bytes": 1 << 40}})
		sinks = append(sinks, wasm.Item{Name: language, Path: builtGuest(t, "sdk/"+language+"/examples/notify"), Guests: 1, Config: map[string]any{"url": "http://127.0.0.1/"}})
	}
	h := hostOf(t, policies...)
	for range 2 {
		decideAll(t, h, largeQuestions(t))
	}
	var many []audit.Row
	for i := range 500 {
		many = append(many, audit.Row{ID: int64(i + 1), Operation: "query", Status: eider.StatusSuccess, Details: `{"sql":"` + strings.Repeat(`\"x\"\n`, 200) + `"}`})
	}
	large := []audit.Row{{ID: 1, Operation: "query", Status: eider.StatusSuccess, Details: `{"sql":"` + strings.Repeat(`é\n`, 250_000) + `"}`}}
	for _, p := range hostOf(t, sinks...).Ordered() {
		for round := range 3 {
			for _, rows := range [][]audit.Row{many, large} {
				if r, given, err := p.Give(t.Context(), audit.Batch{Rows: rows, Attempt: 1}); err != nil || !given || r.Retry {
					t.Errorf("%s and %d rows, round %d: %v %+v, %v", p.Name(), len(rows), round, given, r, err)
				}
			}
		}
	}
}

// A statement of 1 MiB may be a row of six times that, since JSON writes some letters by
// six. A sink that could not take it would stand still until somebody skips it.
func TestTheWebhookTakesTheLargestRow(t *testing.T) {
	var got atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		got.Store(n)
	}))
	t.Cleanup(receiver.Close)
	at := strings.TrimPrefix(receiver.URL, "http://")
	h := hostOf(t, wasm.Item{Name: "webhook", Path: builtGuest(t, "plugins/audit-webhook"), Guests: 1, Capabilities: []string{"http"},
		HTTPHosts: []string{at}, HTTPPrivate: []string{at}, Config: map[string]any{"url": receiver.URL, "secret": "of the receiver"}})
	row := audit.Row{ID: 1, Operation: "query", Status: eider.StatusSuccess, Details: `{"sql":"` + strings.Repeat(`\u003c`, 1<<20) + `"}`}
	r, _, err := h.Plugin("webhook").Give(t.Context(), audit.Batch{Rows: []audit.Row{row}, Attempt: 1})
	if err != nil || r.Retry || got.Load() < 6<<20 {
		t.Errorf("it says %+v, %v, and has sent %d bytes", r, err, got.Load())
	}
}
