package wasm_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/wasm"
	w "github.com/eiderdb/eider/core/wasm/wasmtest"
)

const sinkManifest = "name: guest\nversion: 1.0.0\nabi: 1\nkind: sink\ncapabilities: [log, kv, http]\nhttp: {hosts: ['*']}\n"

// sink loads a sink whose module answers each batch with the text.
func sink(t *testing.T, manifest, answer string, item wasm.Item) *wasm.Plugin {
	t.Helper()
	item.Name, item.Path, item.Guests = "x", w.Folder(t, w.Sink(answer, nil, nil), sinkManifest+manifest), 1
	h, chain := host(t, item)
	if h.Plugin(item.Name).Kind() != wasm.Sink || chain.Len() != 0 {
		t.Fatalf("it is a %s, %d policies", h.Plugin(item.Name).Kind(), chain.Len())
	}
	return h.Plugin("x")
}

func logRows(n int) (rows []audit.Row) {
	for i := range n {
		rows = append(rows, audit.Row{ID: int64(i + 1), Operation: []string{"create_project", "query", "upload_file"}[i%3], ProjectID: []string{"sales", "ops"}[i%2],
			Status: []eider.OperationStatus{"success", "failed"}[i/2%2], ActorType: eider.ActorKey, ActorID: "k1"})
	}
	return rows
}

// takenBy gives the sink rows until it has taken all, and returns the last row of
// each step.
func takenBy(t *testing.T, p *wasm.Plugin, rows []audit.Row) (steps []int64) {
	t.Helper()
	for len(rows) > 0 {
		last, err := p.Take(t.Context(), audit.Batch{Rows: rows, Attempt: 1})
		if err != nil {
			t.Fatal(err)
		}
		steps = append(steps, last)
		rows = slices.DeleteFunc(slices.Clone(rows), func(r audit.Row) bool { return r.ID <= last })
	}
	return steps
}

func TestSinkIsGivenAsManyRowsAsItsManifestSays(t *testing.T) {
	p := sink(t, "batch: {rows: 4, bytes: 64KiB}\n", `{"status":"ok"}`, wasm.Item{})
	if got := fmt.Sprint(takenBy(t, p, logRows(10))); got != "[4 8 10]" {
		t.Errorf("steps of %s", got)
	}
	rows := logRows(4)
	for i := range rows {
		rows[i].Details = `{"x":"` + strings.Repeat("x", 30<<10) + `"}`
	}
	if got := fmt.Sprint(takenBy(t, p, rows)); got != "[2 4]" {
		t.Errorf("rows of 30 KiB are taken in steps of %s", got)
	}
	rows[1].Details = `{"x":"` + strings.Repeat("x", 100<<10) + `"}` // more than a batch has, but one row must go
	if got := fmt.Sprint(takenBy(t, p, rows)); got != "[1 2 4]" {
		t.Errorf("with one of 100 KiB in steps of %s", got)
	}
	p.SetMode(policy.Off)
	if _, err := p.Take(t.Context(), audit.Batch{Rows: rows}); !errors.Is(err, audit.ErrPaused) {
		t.Errorf("off: %v", err)
	}
}

// What its manifest and the operator leave out moves the cursor all the same.
func TestSinkIsGivenTheRowsThatItWants(t *testing.T) {
	for _, c := range []struct {
		manifest string
		projects []string
		want     string // last row of each step, with two rows a batch
		calls    int64
	}{
		{"", nil, "[2 4 6 8 10 12]", 6},
		{"operations: [query, 'create_*']\n", nil, "[3 6 9 12]", 4},
		{"operations: [drop_project]\n", nil, "[12]", 0},
		{"when: 'status == \"failed\" && actor.id == \"k1\"'\n", nil, "[6 10 12]", 3},
		{"when: 'operation == \"query\"'\n", nil, "[7 12]", 2},
		{"when: 'no.such == 1'\n", nil, "", 0}, // is refused when it is loaded
		{"", []string{"sal*"}, "[4 8 12]", 3},
		{"when: 'resource_type == \"\" && resource_id == \"\" && error_code == \"\" && project_id == \"ops\" && actor.missing == 1'\n", nil, "", 6},
	} {
		t.Run(c.manifest+fmt.Sprint(c.projects), func(t *testing.T) {
			manifest := "batch: {rows: 2}\n" + c.manifest
			if strings.Contains(c.manifest, "no.such") {
				h, _ := host(t, wasm.Item{Name: "x", Path: w.Folder(t, w.Sink("{}", nil, nil), sinkManifest+manifest)})
				if h.Plugin("x").State() != "not_loaded" {
					t.Error("it is loaded")
				}
				return
			}
			p := sink(t, manifest, `{"status":"ok"}`, wasm.Item{Projects: c.projects})
			if got := fmt.Sprint(takenBy(t, p, logRows(12))); c.want != "" && got != c.want {
				t.Errorf("steps of %s, want %s", got, c.want)
			}
			if got := p.Figures().Calls; got != c.calls && c.want != "" {
				t.Errorf("it was asked %d times, want %d", got, c.calls)
			}
		})
	}
}

// A receipt is of the whole batch, or it is none: whatever a sink answers, its rows
// are taken only where it says so.
func TestSinkThatAnswersNoReceiptHasTakenNothing(t *testing.T) {
	trap := w.Cat(0x00)
	endless := w.Cat(loop, empty, br, 0, end)
	grow := w.Cat(loop, empty, w.I32(1), 0x40, 0, drop, br, 0, end)
	for _, c := range []struct {
		name, answer string
		code         []byte
		want         string
		after        time.Duration
	}{
		{"ok", `{"status":"ok","unknown":[1]}`, nil, "", 0},
		{"retry", `{"status":"retry","reason":"busy","retry_after_ms":1500}`, nil, "it wants the batch again: busy", 1500 * time.Millisecond},
		{"retry never", `{"status":"retry","retry_after_ms":9223372036854775807}`, nil, "wants the batch again", 24 * time.Hour},
		{"retry before", `{"status":"retry","retry_after_ms":-1}`, nil, "wants the batch again", 0},
		{"skip", `{"status":"skip"}`, nil, "malformed", 0},
		{"part", `{"status":"ok 3 of 4"}`, nil, "malformed", 0},
		{"nothing", `{}`, nil, "malformed", 0},
		{"no JSON", `ok`, nil, "malformed", 0},
		{"no UTF-8", "\xff", nil, "malformed", 0},
		{"traps", `{"status":"ok"}`, trap, "it failed", 0},
		{"hangs", `{"status":"ok"}`, endless, "ran out of fuel", 0},
		{"grows", `{"status":"ok"}`, grow, "ran out of fuel", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, _ := host(t, wasm.Item{Name: "x", Path: w.Folder(t, w.Sink(c.answer, c.code, nil), sinkManifest), Guests: 1, Fuel: 1_000_000})
			p := h.Plugin("x")
			for range 3 { // the guest after it is another one
				last, err := p.Take(t.Context(), audit.Batch{Rows: logRows(4), Attempt: 1})
				if c.want == "" {
					if err != nil || last != 4 {
						t.Errorf("%d, %v", last, err)
					}
					continue
				}
				refusal := &audit.NotTaken{}
				if last != 0 || !errors.As(err, &refusal) || !strings.Contains(err.Error(), c.want) || refusal.First != 1 || refusal.Last != 4 || refusal.After != c.after {
					t.Fatalf("%d, %+v, want %s", last, err, c.want)
				}
			}
		})
	}
}

// A sink reaches the hosts that the operator names, and a private address only where
// that is said besides.
func TestSinkThatPostsIsHeldToItsHosts(t *testing.T) {
	var mu sync.Mutex
	var bodies []string
	receiver := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		bodies = append(bodies, string(text))
	}))
	t.Cleanup(receiver.Close)
	at := strings.TrimPrefix(receiver.URL, "http://")
	request, err := json.Marshal(map[string]any{"method": "POST", "url": receiver.URL, "body": "hello"})
	if err != nil {
		t.Fatal(err)
	}
	// http_request(ptr, len, buf, limit) of the text at 64; its answer goes to 2048.
	var put []byte
	for i, c := range request {
		put = w.Cat(put, w.I32(64+i), w.I32(int(c)), 0x3a, 0, 0)
	}
	// unreachable unless it answers with a length: a code below zero traps
	post := w.Cat(put, w.I32(64), w.I32(len(request)), w.I32(2048), w.I32(900), call, 0, w.I32(0), 0x48, 0x04, empty, 0x00, end)
	module := w.Sink(`{"status":"ok"}`, post, func(m *w.Module) {
		m.Imports = []w.Import{{Module: "eider", Name: "http_request", Params: "iiii", Results: "i"}}
	})
	for _, c := range []struct {
		name   string
		item   wasm.Item
		posted bool
	}{
		{"named, and as private", wasm.Item{Capabilities: []string{"http"}, HTTPHosts: []string{at}, HTTPPrivate: []string{at}}, true},
		{"not as private", wasm.Item{Capabilities: []string{"http"}, HTTPHosts: []string{at}}, false},
		{"not named", wasm.Item{Capabilities: []string{"http"}, HTTPHosts: []string{"siem.example"}, HTTPPrivate: []string{at}}, false},
		{"not granted", wasm.Item{HTTPHosts: []string{at}, HTTPPrivate: []string{at}}, false},
	} {
		c.item.Name, c.item.Path, c.item.Guests = "x", w.Folder(t, module, sinkManifest), 1
		h, _ := host(t, c.item)
		_, err := h.Plugin("x").Take(t.Context(), audit.Batch{Rows: logRows(1), Attempt: 1})
		mu.Lock()
		posted := len(bodies) == 1 && bodies[0] == "hello"
		if (err == nil) != c.posted || posted != c.posted {
			t.Errorf("%s: %v, %v", c.name, err, bodies)
		}
		bodies = nil
		mu.Unlock()
	}
}

// What was not granted can be imported, and says so each time; the clock stands.
func TestNothingIsGrantedThatTheOperatorDidNotGrant(t *testing.T) {
	orTrap := func(want int64) []byte { return w.Cat(w.I64(want), 0x52, 0x04, empty, 0x00, end) }
	wide := func(code []byte) []byte { return w.Cat(code, 0xac) } // i32 to i64
	zeros := func(params string) (code []byte) {
		for _, p := range params {
			if p == 'l' {
				code = w.Cat(code, w.I64(0))
			} else {
				code = w.Cat(code, w.I32(0))
			}
		}
		return code
	}
	for name, params := range map[string]string{
		"log": "iii", "kv_get": "iiii", "kv_set": "iiiil", "kv_delete": "ii", "kv_add": "iilli", "kv_cas": "iiiiiil",
		"metadata_read": "iiii", "http_request": "iiii", "clock_now_ms": "",
	} {
		code, results := wide(w.Cat(zeros(params), call, 0)), "i"
		if name == "clock_now_ms" {
			code, results = w.Cat(call, 0), "l"
		}
		module := w.Sink(`{"status":"ok"}`, w.Cat(code, orTrap(-2)), func(m *w.Module) {
			m.Imports = []w.Import{{Module: "eider", Name: name, Params: params, Results: results}}
		})
		manifest := "name: guest\nversion: 1.0.0\nabi: 1\nkind: sink\ncapabilities: [log, kv, metadata.read, http, clock]\nhttp: {hosts: ['*']}\n"
		h, _ := host(t, wasm.Item{Name: "x", Path: w.Folder(t, module, manifest), Guests: 1})
		if _, err := h.Plugin("x").Take(t.Context(), audit.Batch{Rows: logRows(1), Attempt: 1}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A sink is not asked to decide, and whoever tries is told why.
func TestASinkDecidesNothing(t *testing.T) {
	folder := w.Folder(t, w.Sink(`{"status":"ok"}`, nil, nil), strings.Replace(w.Manifest, "policy", "sink", 1))
	h, _ := host(t, wasm.Item{Name: "x", Path: folder})
	u := policy.Unable("")
	if _, err := h.Plugin("x").Try(t.Context(), &wasm.Event{}); !errors.As(err, &u) || !strings.Contains(string(u), "is a sink") {
		t.Error(err)
	}
}
