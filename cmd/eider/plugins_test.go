package main

import (
	"encoding/json"
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
	var log struct {
		Operations []struct {
			Operation, Status string
			Decision          struct {
				Plugin, Version, SHA256, Outcome, Reason string
				Fuel                                     int64
				DecisionID                               string `json:"decision_id"`
			}
		}
	}
	found := s.Want(200, s.Root, "GET /operations?operation=create_project", "")
	if err := json.Unmarshal(found.Body, &log); err != nil || len(log.Operations) != 1 {
		t.Fatalf("%v, %s", err, found.Body)
	}
	d := log.Operations[0].Decision
	if log.Operations[0].Status != "denied" || d.Plugin != "gate" || d.Version != "1.0.0" || len(d.SHA256) != 64 || d.Fuel <= 0 ||
		d.Reason != "not today" || d.DecisionID != a.Text("decision_id") {
		t.Errorf("the row says %+v", log.Operations[0])
	}
	s.Want(200, s.Root, "GET /projects", "")
	shown := s.Want(200, s.Root, "GET /plugins/gate", "")
	if !strings.Contains(string(shown.Body), `"state":"ready"`) || !strings.Contains(string(shown.Body), `"denials":1`) {
		t.Errorf("it is shown as %s", shown.Body)
	}
}
