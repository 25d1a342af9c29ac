package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/wasm/wasmtest"
)

// withPlugins starts a server whose settings name plugins, as YAML.
func withPlugins(t *testing.T, items string) *apptest.Server {
	t.Helper()
	o := app.Options{Modules: modules(), Version: "test", PluginCache: wasmtest.Cache(t)}
	return apptest.Start(t, t.TempDir(), o, map[string]string{"plugins.items": items})
}

// A guest made by the standard Go toolchain denies a request: the caller and the
// log are told by whom and why.
func TestAPluginDeniesARequest(t *testing.T) {
	t.Parallel()
	dir := wasmtest.Guest(t, wasmtest.Manifest)
	s := withPlugins(t, `[{name: gate, path: "`+dir+`", config: {do: deny, on: create_project, reason: not today}}]`)
	a := s.Want(403, s.Root, "POST /projects", `{"id":"sales"}`)
	if a.Code() != "denied_by_policy" || a.Text("plugin") != "gate" || a.Text("reason") != "not today" || a.Text("decision_id") == "" {
		t.Errorf("denied with %s", a.Body)
	}
	d := decisionOf(t, s, "create_project")
	if d.Status != "denied" || d.Plugin != "gate" || d.Version != "1.0.0" || len(d.SHA256) != 64 || d.Fuel <= 0 ||
		d.Outcome != "deny" || d.Reason != "not today" || d.ID != a.Text("decision_id") {
		t.Errorf("the row says %+v", d)
	}
	s.Want(201, s.Root, "POST /api-keys", `{"description":"ci"}`)
	if d := decisionOf(t, s, "create_api_key"); d.Status != "success" || d.Plugin != "gate" || d.Outcome != "allow" || len(d.SHA256) != 64 || d.Fuel <= 0 || d.ID == "" {
		t.Errorf("the row of an allowed call says %+v", d)
	}
	s.Want(200, s.Root, "GET /projects", "")
	shown := s.Want(200, s.Root, "GET /plugins/gate", "")
	if !strings.Contains(string(shown.Body), `"state":"ready"`) || !strings.Contains(string(shown.Body), `"denials":1`) {
		t.Errorf("it is shown as %s", shown.Body)
	}
}

// decision is what the newest row of an operation says about the policies.
type decision struct {
	Status, Plugin, Version, SHA256, Outcome, Reason string
	Fuel                                             int64
	ID                                               string `json:"decision_id"`
}

func decisionOf(t *testing.T, s *apptest.Server, operation string) (d decision) {
	t.Helper()
	rows := s.Want(200, s.Root, "GET /operations?limit=1&operation="+operation, "").List("operations")
	if len(rows) != 1 {
		t.Fatalf("there is no row of %s", operation)
	}
	text, err := json.Marshal(rows[0]["decision"])
	must(t, err)
	must(t, json.Unmarshal(text, &d))
	d.Status = rows[0]["status"].(string)
	return d
}

// onPlugins are the rows of an operation on a plugin, oldest first: the resource, the
// status and some of the details.
func onPlugins(s *apptest.Server, operation string, details ...string) string {
	var all []string
	for _, row := range s.Want(200, s.Root, "GET /operations?operation="+operation, "").List("operations") {
		text := row["resource_id"].(string) + " " + row["status"].(string)
		given, _ := row["details"].(map[string]any)
		for _, name := range details {
			text += fmt.Sprint(" ", given[name])
		}
		all = append(all, text)
	}
	slices.Reverse(all)
	return strings.Join(all, ", ")
}

// A mode that was set holds across restarts, until the settings name another or it
// is set back; each load has its row, and what a plugin counts is counted on.
func TestModesHoldAndLoadsAreLoggedAcrossRestarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broken := wasmtest.Guest(t, wasmtest.Manifest+"operations: [drop_project]\n")
	counts := wasmtest.Guest(t, wasmtest.Manifest+"operations: [create_api_key]\n")
	o := app.Options{Modules: modules(), Version: "test", PluginCache: wasmtest.Cache(t)}
	start := func(mode string) *apptest.Server {
		return apptest.Start(t, dir, o, map[string]string{"plugins.items": `[
			{name: broken, path: "` + broken + `", mode: ` + mode + `, guests: 1, config: {refuse: out of order}},
			{name: counts, path: "` + counts + `", guests: 1, priority: 1, capabilities: [kv], config: {do: count, limit: "2"}}]`})
	}
	drop := func(s *apptest.Server, status int, id string) {
		t.Helper()
		s.Want(201, s.Root, "POST /projects", `{"id":"`+id+`"}`)
		if a := s.Want(status, s.Root, "DELETE /projects/"+id, ""); status == 403 && a.Text("reason") != "the policy could not decide: it is not loaded" {
			t.Errorf("refused with %s", a.Body)
		}
	}
	modes := func(s *apptest.Server, want string) {
		t.Helper()
		a := s.Want(200, s.Root, "GET /plugins/broken", "")
		if got := a.Text("mode") + " " + a.Text("settings_mode") + " " + a.Text("state") + " " + a.Text("kind"); got != want+" policy" {
			t.Errorf("it is %s, want %s", got, want)
		}
	}
	key := func(s *apptest.Server, status int) {
		t.Helper()
		s.Want(status, s.Root, "POST /api-keys", `{"description":"k"}`)
	}

	s := start("enforce")
	if got := onPlugins(s, "load_plugin", "at", "version", "mode"); got != "counts success start 1.0.0 enforce, broken failed start <nil> enforce" {
		t.Errorf("the loads are logged as %s", got)
	}
	drop(s, 403, "a")
	key(s, 201)
	s.Want(200, s.Root, "PUT /plugins/broken/mode", `{"mode":"dry_run"}`)
	drop(s, 204, "b")
	if d := decisionOf(t, s, "drop_project"); d.Status != "success" || d.Outcome != "would_deny" {
		t.Errorf("the row in dry_run says %+v", d)
	}
	s.Stop()

	s = start("enforce")
	modes(s, "dry_run enforce not_loaded")
	drop(s, 204, "c")
	key(s, 201)
	if a := s.Want(429, s.Root, "POST /api-keys", `{"description":"k"}`); a.Text("reason") != "3 of 2" {
		t.Errorf("what was counted before the restart: %s", a.Body)
	}
	s.Want(200, s.Root, "PUT /plugins/broken/mode", `{"mode":"enforce"}`) // the way back
	s.Want(200, s.Root, "PUT /plugins/broken/mode", `{"mode":"off"}`)
	s.Stop()

	s = start("warn") // who wrote that knew better
	modes(s, "warn warn not_loaded")
	if got := onPlugins(s, "set_plugin_mode", "before", "mode"); got != "broken success enforce dry_run, broken success dry_run enforce, broken success enforce off, broken success off <nil>" {
		t.Errorf("the modes are logged as %s", got)
	}
	s.Stop()

	s = start("enforce") // what ended stays ended
	modes(s, "enforce enforce not_loaded")
	if got := onPlugins(s, "load_plugin"); strings.Count(got, "counts success") != 4 || strings.Count(got, "broken failed") != 4 {
		t.Errorf("four starts are logged as %s", got)
	}
}

// The routes of plugins: the order in which they are asked, one of them, a try
// without effect, a new version, and one that is refused.
func TestTheRoutesOfPlugins(t *testing.T) {
	t.Parallel()
	manifest := wasmtest.Manifest + "operations: [create_project]\n"
	dir := wasmtest.Folder(t, wasmtest.Policy(nil, nil), manifest)
	s := withPlugins(t, `[{name: b, path: "`+dir+`", guests: 1}, {name: a, path: "`+dir+`", guests: 1, projects: ["sales-*"], percent: 50},
		{name: first, path: "`+dir+`", guests: 1, priority: 9, mode: dry_run}, {name: gone, path: "`+t.TempDir()+`", mode: off},
		{name: only, path: "`+dir+`", guests: 1, projects: ["only-*"]}]`)
	list := s.Want(200, s.Root, "GET /plugins", "")
	var order []string
	for _, p := range list.List("plugins") {
		order = append(order, fmt.Sprint(p["name"], " ", p["mode"], " ", p["state"], " ", p["percent"]))
	}
	if got := strings.Join(order, ", "); got != "first dry_run ready 100, a enforce ready 50, b enforce ready 100, gone off off 100, only enforce ready 100" || list.JSON["total"] != 5.0 {
		t.Errorf("shown as %s", got)
	}
	one := s.Want(200, s.Root, "GET /plugins/b", "")
	for _, name := range []string{"manifest", "sha256", "mode", "state", "calls", "denials", "errors", "p50_us", "p99_us", "memory_bytes"} {
		if _, ok := one.JSON[name]; !ok {
			t.Errorf("%s is not shown: %s", name, one.Body)
		}
	}
	s.Want(200, s.Root, "PUT /plugins/b/mode", `{"mode":"warn"}`, "If-Match: "+one.Header.Get("ETag"))
	for do, body := range map[string]string{"PUT /plugins/b/mode": `{"mode":"off"}`, "POST /plugins/b/reload": ""} {
		if a := s.Do(s.Root, do, body, "If-Match: "+one.Header.Get("ETag")); a.Status != 412 || a.Code() != "precondition_failed" {
			t.Errorf("%s of what has changed since: %s", do, a.Body)
		}
	}
	s.Want(200, s.Root, "PUT /plugins/b/mode", `{"mode":"enforce"}`)
	event := `{"event":{"operation":"create_project","input":{"id":"x"}}}`
	if a := s.Want(200, s.Root, "POST /plugins/b/test", event); a.Text("decision") != "allow" || a.JSON["fuel"].(float64) <= 0 {
		t.Errorf("the try says %s", a.Body)
	}
	if a := s.Want(200, s.Root, "GET /plugins/b", ""); a.JSON["calls"] != 0.0 || a.Header.Get("ETag") != one.Header.Get("ETag") {
		t.Errorf("a try is counted: %s, %s", a.Header, a.Body)
	}

	denies := wasmtest.Policy(wasmtest.Answer(`{"decision":"deny","reason":"new","retry_after_ms":1500}`), nil)
	wasmtest.Put(t, dir, denies, strings.Replace(manifest, "1.0.0", "2.0.0", 1))
	if a := s.Want(200, s.Root, "POST /plugins/b/reload", ""); a.Text("version") != "2.0.0" {
		t.Errorf("loaded as %s", a.Body)
	}
	if a := s.Want(200, s.Root, "POST /plugins/b/test", event); a.Text("decision") != "deny" || a.Text("reason") != "new" || a.JSON["retry_after_ms"] != 2000.0 {
		t.Errorf("the try of the new version says %s", a.Body)
	}
	s.Want(403, s.Root, "POST /projects", `{"id":"x"}`)
	wasmtest.Put(t, dir, wasmtest.Policy(wasmtest.Cat(0x00), nil), strings.Replace(manifest, "1.0.0", "3.0.0", 1))
	if a := s.Want(422, s.Root, "POST /plugins/b/reload", ""); a.Code() != "plugin_refused" || !strings.Contains(a.Text("detail"), "self-test") {
		t.Errorf("refused with %s", a.Body)
	}
	if a := s.Want(200, s.Root, "GET /plugins/b", ""); a.Text("version") != "2.0.0" || a.Text("state") != "ready" || !strings.Contains(a.Text("last_error"), "self-test") {
		t.Errorf("after it: %s", a.Body)
	}
	if got := onPlugins(s, "load_plugin", "version"); !strings.HasSuffix(got, "b success 2.0.0, b failed <nil>") {
		t.Errorf("the loads are logged as %s", got)
	}
	for do, want := range map[string]string{
		"GET /plugins/none": "plugin_not_found", "POST /plugins/none/reload": "plugin_not_found", "PUT /plugins/none/mode": "plugin_not_found",
		"POST /plugins/none/test": "plugin_not_found", "PUT /plugins/b/mode": "validation_failed", "POST /plugins/gone/test": "plugin_refused",
	} {
		body := map[string]string{"PUT /plugins/none/mode": `{"mode":"off"}`, "PUT /plugins/b/mode": `{"mode":"loud"}`, "POST /plugins/none/test": event, "POST /plugins/gone/test": event}[do]
		if a := s.Do(s.Root, do, body); a.Code() != want {
			t.Errorf("%s: %s", do, a.Body)
		}
	}
	wasmtest.Put(t, dir, denies, manifest)
	newProjectsOf(t, s)
	modes := []string{"off", "warn", "enforce", "dry_run"}
	oneOfManyMatches(t, s, len(modes), func(n int) (do, body string) { return "PUT /plugins/a/mode", `{"mode":"` + modes[n] + `"}` })
	oneOfManyMatches(t, s, 2, func(n int) (do, body string) {
		wasmtest.Put(t, dir, denies, strings.Replace(manifest, "1.0.0", fmt.Sprint(n, ".0.0"), 1))
		return "POST /plugins/a/reload", ""
	})
}

// newProjectsOf: a policy for some projects is asked about the making of those.
func newProjectsOf(t *testing.T, s *apptest.Server) {
	t.Helper()
	s.Want(200, s.Root, "POST /plugins/only/reload", "")
	s.Want(200, s.Root, "PUT /plugins/b/mode", `{"mode":"off"}`)
	if a := s.Want(403, s.Root, "POST /projects", `{"id":"only-1"}`); a.Text("plugin") != "only" {
		t.Errorf("refused with %s", a.Body)
	}
	s.Want(201, s.Root, "POST /projects", `{"id":"other-1"}`)
}

// oneOfManyMatches: of changes under one ETag that come at once one passes, also where
// all are committed together, or wait for each other. What else is written meanwhile makes
// groups of them.
func oneOfManyMatches(t *testing.T, s *apptest.Server, rounds int, change func(n int) (do, body string)) {
	t.Helper()
	const callers = 8
	for n := range rounds {
		do, body := change(n)
		match := "If-Match: " + s.Want(200, s.Root, "GET /plugins/a", "").Header.Get("ETag")
		passed := make(chan bool)
		for range callers {
			go func() {
				_, err := s.Try(s.Root, "POST /api-keys", `{"description":"beside"}`)
				a, failed := s.Try(s.Root, do, body, match)
				if err := errors.Join(err, failed); err != nil || a.Status != 200 && a.Status != 412 {
					t.Errorf("%v, %s", err, a.Body)
				}
				passed <- a.Status == 200
			}()
		}
		count := 0
		for range callers {
			if <-passed {
				count++
			}
		}
		if count != 1 {
			t.Errorf("of %d times %s %s under one ETag %d passed", callers, do, body, count)
		}
	}
}

// After each hostile guest the server answers others as before: a policy beside it
// decides, projects are made and read, and the server is healthy. What it costs them is
// measured by `go run ./bench -run hostile`.
func TestNeighboursOfHostileGuestsAreServed(t *testing.T) {
	t.Parallel()
	benign := wasmtest.Folder(t, wasmtest.Policy(nil, nil), wasmtest.Manifest)
	dir := wasmtest.Folder(t, wasmtest.Policy(nil, nil), wasmtest.Manifest)
	s := withPlugins(t, `[{name: benign, path: "`+benign+`", guests: 1}, {name: hostile, path: "`+dir+`", guests: 1, priority: 9, projects: [evil], capabilities: [log, kv]},
		{name: shared, path: "`+wasmtest.Guest(t, wasmtest.Manifest)+`", guests: 1, config: {do: panic, on: drop_project}}]`)
	s.Want(201, s.Root, "POST /projects", `{"id":"evil"}`)
	for n, c := range wasmtest.Hostile() {
		wasmtest.Put(t, dir, c.Policy(true), wasmtest.Manifest)
		s.Want(200, s.Root, "POST /plugins/hostile/reload", "")
		s.Want(200, s.Root, "PATCH /projects/evil", `{"name":"first"}`) // it does its worst at the second
		if a := s.Want(403, s.Root, "PATCH /projects/evil", `{"name":"second"}`); a.Text("plugin") != "hostile" || !strings.Contains(a.Text("reason"), c.Want) {
			t.Errorf("%s: %s", c.Name, a.Body)
		}
		id := fmt.Sprint("p", n)
		s.Want(201, s.Root, "POST /projects", `{"id":"`+id+`"}`)
		s.Want(200, s.Root, "GET /projects/"+id, "")
		if h := s.Want(200, "", "GET /health", ""); h.Text("status") != "healthy" {
			t.Errorf("after %s: %s", c.Name, h.Body)
		}
	}
	if a := s.Want(200, s.Root, "GET /plugins/benign", ""); a.JSON["errors"] != 0.0 || a.JSON["denials"] != 0.0 || a.JSON["replaced"] != 0.0 || a.JSON["calls"].(float64) < float64(2*len(wasmtest.Hostile())) {
		t.Errorf("the policy beside them: %s", a.Body)
	}
	// Nor does it harm others of a policy that all share to die of what one project sends.
	s.Want(200, s.Root, "PUT /plugins/hostile/mode", `{"mode":"off"}`)
	for range 15 {
		if a := s.Want(403, s.Root, "DELETE /projects/evil", ""); a.Text("plugin") != "shared" || a.Text("reason") != "the policy could not decide: it failed" {
			t.Errorf("refused with %s", a.Body)
		}
	}
	s.Want(200, s.Root, "PATCH /projects/p0", `{"name":"others go on"}`)
	s.Want(200, s.Root, "PATCH /projects/evil", `{"name":"and so does this"}`)
	if h, a := s.Want(200, "", "GET /health", ""), s.Want(200, s.Root, "GET /plugins/shared", ""); h.Text("status") != "healthy" || a.Text("state") != "ready" || a.JSON["errors"] != 15.0 {
		t.Errorf("after that: %s, %s", h.Body, a.Body)
	}
}
