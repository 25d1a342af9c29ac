package main

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/telemetry"
	"github.com/eiderdb/eider/core/telemetry/telemetrytest"
	"github.com/eiderdb/eider/core/wasm/wasmtest"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.yaml.in/yaml/v3"
)

// The spans of an upload, of a statement and of a backup are where they were made,
// down to each policy and worker; and what alerts and dashboard ask for is there.
func TestTelemetryShowsPoliciesWorkersAndEveryFamilyThatIsAskedFor(t *testing.T) {
	receiver, dir := telemetrytest.HTTP(t), wasmtest.Guest(t, wasmtest.Manifest)
	c := telemetry.Defaults()
	c.Traces, c.Metrics, c.Protocol, c.Endpoint = "otlp", "both", "http", receiver.Addr
	o, err := telemetry.Open(t.Context(), c, "test", &logged{})
	if err != nil {
		t.Fatal(err)
	}
	s := apptest.Start(t, t.TempDir(), app.Options{Modules: modules(), Telemetry: o, PluginCache: wasmtest.Cache(t)}, map[string]string{
		"plugins.items": `[{name: first, path: "` + dir + `", priority: 1}, {name: second, path: "` + dir + `", priority: 2}]`,
		"audit.file":    filepath.Join(t.TempDir(), "log.ndjson"),
	})
	if err := s.App.OpenWorkers(t.Context()); err != nil {
		t.Fatal(err)
	}
	key := project(t, s, "p")
	trace := func(digit string) (id, header string) {
		id = strings.Repeat(digit, 32)
		return id, "traceparent: 00-" + id + "-00f067aa0ba902b7-01"
	}
	uploaded, of := trace("1")
	s.Want(201, key, "POST /projects/p/files?name=f", "bytes", "Content-Type: text/plain", of)
	queried, of := trace("2")
	s.Want(200, key, "POST /projects/p/query", `{"sql":"SELECT 1"}`, of)
	backedUp, of := trace("3")
	s.Want(201, s.Root, "POST /admin/backups", "", of)
	s.Want(200, s.Root, "GET /health/consistency", "")
	s.Want(204, s.Root, "DELETE /projects/p?purge=true", "")
	scraped := ""
	apptest.Eventually(t, "its worker ends", func() bool {
		scraped = string(s.Want(200, "", "GET /metrics", "").Body)
		return strings.Contains(scraped, "eider_worker_ends_total")
	})
	s.Stop()
	if err := o.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	upload := "POST /projects/{id}/files"
	wantSpans(t, receiver.Spans(), uploaded, []string{
		upload, upload + " > operation register_file", upload + " > operation register_file > effect file",
		upload + " > operation register_file > metadata write", upload + " > operation register_file > metadata write",
		upload + " > operation register_file > policy",
		upload + " > operation register_file > policy > plugin first", upload + " > operation register_file > policy > plugin second",
	})
	query := "POST /projects/{id}/query > operation query"
	wantSpans(t, receiver.Spans(), queried, []string{
		"POST /projects/{id}/query", query, query + " > policy", query + " > policy > plugin first", query + " > policy > plugin second",
		query + " > worker query", query + " > worker query > worker start", query + " > metadata write",
	})
	backup := "POST /admin/backups > operation backup"
	wantSpans(t, receiver.Spans(), backedUp, []string{
		"POST /admin/backups", backup, backup + " > policy", backup + " > policy > plugin first", backup + " > policy > plugin second",
		backup + " > metadata write", backup + " > metadata write", backup + " > effect backup",
	})
	if receiver.Metric("eider_health") == nil || receiver.Metric("eider_backup_last_success_timestamp_seconds") == nil {
		t.Error("metrics are scraped and not sent")
	}

	there := map[string]bool{}
	for _, m := range metricFamily.FindAllStringSubmatch(scraped, -1) {
		there[m[1]] = true
	}
	for file, exprs := range map[string][]string{"alerts.yaml": alertExprs(t), "dashboard.json": panelExprs(t)} {
		if len(exprs) < 10 {
			t.Errorf("%s asks for %q", file, exprs)
		}
		for _, expr := range exprs {
			names := regexp.MustCompile(`\b(?:eider|duckdb)_[a-z_0-9]+`).FindAllString(expr, -1)
			if len(names) == 0 {
				t.Errorf("%s: %s names no family", file, expr)
			}
			for _, name := range names {
				family := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
				if !there[name] && !there[family] {
					t.Errorf("%s asks for %s, which is not scraped", file, name)
				}
			}
		}
	}
}

// wantSpans compares the tree of a trace with the paths of its spans.
func wantSpans(t *testing.T, all []*tracepb.Span, trace string, want []string) {
	t.Helper()
	tree, paths := map[string]*tracepb.Span{}, []string{}
	for _, span := range all {
		if hex.EncodeToString(span.TraceId) == trace {
			tree[hex.EncodeToString(span.SpanId)] = span
		}
	}
	for _, span := range tree {
		paths = append(paths, spanPath(tree, span, "00f067aa0ba902b7"))
	}
	slices.Sort(paths)
	slices.Sort(want)
	if !slices.Equal(paths, want) {
		t.Errorf("the spans are\n  %s\nnot\n  %s", strings.Join(paths, "\n  "), strings.Join(want, "\n  "))
	}
}

func alertExprs(t *testing.T) (all []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "configs", "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(text, &rules); err != nil {
		t.Fatal(err)
	}
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			if rule.Alert == "" {
				t.Errorf("a rule without a name: %s", rule.Expr)
			}
			all = append(all, rule.Expr)
		}
	}
	return all
}

func panelExprs(t *testing.T) (all []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "configs", "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			all = append(all, target.Expr)
		}
	}
	return all
}
