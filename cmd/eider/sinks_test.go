package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/wasm/wasmtest"
)

const sinkManifest = "name: guest\nversion: 1.0.0\nabi: 1\nkind: sink\n"

// shownSink is what GET /plugins/{name} says of a sink.
type shownSink struct {
	Kind, State string
	Sink        struct {
		State            string
		Cursor, Behind   int64
		Failures         int
		Error            string
		Strict           bool
		OldestAt, NextAt string
		Batch            *struct {
			FirstID int64 `json:"first_id"`
			LastID  int64 `json:"last_id"`
		}
	}
}

func shownAs(t *testing.T, s *apptest.Server, name string) (out shownSink) {
	t.Helper()
	a := s.Want(200, s.Root, "GET /plugins/"+name, "")
	if err := json.Unmarshal(a.Body, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// A strict sink that takes nothing holds changes up, and nothing else. What it does
// not take can be skipped, which is an operation with its row; and once it is mended,
// changes go on.
func TestChangesWaitForAStrictSink(t *testing.T) {
	t.Parallel()
	dir := wasmtest.Folder(t, wasmtest.Sink(`{"status":"retry","reason":"poisoned"}`, nil, nil), sinkManifest)
	file := filepath.Join(t.TempDir(), "log.ndjson")
	o := app.Options{Modules: modules(), Version: "test", PluginCache: wasmtest.Cache(t)}
	s := apptest.Start(t, t.TempDir(), o, map[string]string{
		"plugins.items": `[{name: siem, path: "` + dir + `"}]`, "audit.strict_sinks": `[siem, file]`, "audit.strict_lag": "1s", "audit.file": file,
	})
	s.Want(201, s.Root, "POST /projects", `{"id":"before"}`)
	apptest.Eventually(t, "changes are refused", func() bool {
		return s.Do(s.Root, "PATCH /projects/before", `{"name":"x"}`).Code() == "audit_sink_behind"
	})
	refused := s.Want(503, s.Root, "POST /projects", `{"id":"sales"}`)
	if refused.Header.Get("Retry-After") == "" || !strings.Contains(refused.Text("message"), "siem") {
		t.Errorf("refused with %v %s", refused.Header, refused.Body)
	}
	s.Want(200, s.Root, "GET /projects/before", "")
	s.Want(200, s.Root, "GET /operations", "")
	s.Want(204, s.Root, "DELETE /projects/before", "")
	health := s.Want(200, "", "GET /health", "")
	if !strings.Contains(string(health.Body), `"accepts_writes":false`) || !strings.Contains(string(health.Body), `"sinks":true`) {
		t.Errorf("health says %s", health.Body)
	}

	shown := shownAs(t, s, "siem")
	if sink := shown.Sink; sink.State != "retrying" || !sink.Strict || sink.Cursor != 0 || sink.Batch == nil || !strings.Contains(sink.Error, "poisoned") {
		t.Fatalf("it is shown as %+v", shown)
	}
	skip := fmt.Sprintf(`"first_id":%d,"last_id":%d`, shown.Sink.Batch.FirstID, shown.Sink.Batch.LastID)
	dry := s.Want(200, s.Root, "POST /plugins/siem/skip", "{"+skip+"}")
	if dry.Text("plugin") != "siem" || !strings.Contains(string(dry.Body), `"dry_run":true`) || shownAs(t, s, "siem").Sink.Cursor != 0 {
		t.Errorf("a dry run answers %s", dry.Body)
	}
	s.Want(404, s.Root, "POST /plugins/none/skip", "{"+skip+`,"dry_run":false}`)
	s.Want(412, s.Root, "POST /plugins/siem/skip", `{"first_id":1000,"last_id":1000,"dry_run":false}`)
	s.Want(200, s.Root, "POST /plugins/siem/skip", "{"+skip+`,"dry_run":false}`)
	if at := shownAs(t, s, "siem").Sink.Cursor; at < shown.Sink.Batch.LastID {
		t.Errorf("the cursor is at %d", at)
	}
	s.Want(412, s.Root, "POST /plugins/siem/skip", "{"+skip+`,"dry_run":false}`) // once
	rows := s.Want(200, s.Root, "GET /operations?operation=skip_batch&status=success&limit=1", "")
	if !strings.Contains(string(rows.Body), skip) || !strings.Contains(string(rows.Body), `"dry_run":false`) || !strings.Contains(string(rows.Body), `"resource_id":"siem"`) {
		t.Errorf("the row of the skip says %s", rows.Body)
	}

	wasmtest.Put(t, dir, wasmtest.Sink(`{"status":"ok"}`, nil, nil), sinkManifest)
	s.Want(200, s.Root, "POST /plugins/siem/reload", "")
	apptest.Eventually(t, "it follows", func() bool { return shownAs(t, s, "siem").Sink.State == "following" })
	apptest.Eventually(t, "changes go on", func() bool { return s.Do(s.Root, "POST /projects", `{"id":"sales"}`).Status == 201 })

	// The file has everything, in its order.
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	next := 1
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		var row struct{ ID int }
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(line, `{"checkpoint":`) {
			continue
		}
		if row.ID != next {
			t.Fatalf("row %d stands in place of %d", row.ID, next)
		}
		next++
	}
	if next < 10 {
		t.Errorf("the file has %d rows", next-1)
	}
}

// A sink whose folder is not there when the server starts is followed from its first row
// as soon as it can be loaded; changes wait for it before, where they are to. The file
// that the server writes is shown like the others, and all of them in the metrics.
func TestASinkIsFollowedOnceItCanBeRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := app.Options{Modules: modules(), Version: "1.2.3", PluginCache: wasmtest.Cache(t)}
	s := apptest.Start(t, t.TempDir(), o, map[string]string{
		"plugins.items": `[{name: siem, path: "` + dir + `", fail: open}, {name: later, path: "` + dir + `", fail: open}]`, "audit.strict_sinks": `[siem]`, "audit.strict_lag": "1s",
		"audit.file": filepath.Join(t.TempDir(), "log.ndjson"),
	})
	apptest.Eventually(t, "changes wait for it", func() bool {
		return s.Do(s.Root, "POST /projects", `{"id":"none"}`).Code() == "audit_sink_behind"
	})
	metrics := func(line string) bool {
		return strings.Contains(string(s.Want(200, "", "GET /metrics", "").Body), line)
	}
	if shown := shownAs(t, s, "siem"); shown.Kind != "unknown" || shown.State != "not_loaded" || shown.Sink.State != "retrying" || shown.Sink.Cursor != 0 {
		t.Errorf("shown as %+v", shown)
	}
	if a := s.Want(200, s.Root, "GET /plugins/later", ""); a.JSON["sink"] != nil {
		t.Errorf("of one that may be a policy: %s", a.Body)
	}
	if !metrics(`eider_sink_state{sink="siem",state="retrying"} 1`) || metrics(`eider_sink_failures_total{sink="siem"} 0`) || !metrics(`eider_sink_failures_total{sink="file"} 0`) {
		t.Errorf("the metrics are %s", s.Want(200, "", "GET /metrics", "").Body)
	}

	wasmtest.Put(t, dir, wasmtest.Sink(`{"status":"ok"}`, nil, nil), sinkManifest)
	s.Want(200, s.Root, "POST /plugins/siem/reload", "")
	s.Want(200, s.Root, "POST /plugins/later/reload", "")
	apptest.Eventually(t, "changes go on", func() bool { return s.Do(s.Root, "POST /projects", `{"id":"sales"}`).Status == 201 })
	for _, name := range []string{"siem", "later"} {
		apptest.Eventually(t, name+" has taken all", func() bool {
			shown := shownAs(t, s, name)
			return shown.Kind == "sink" && shown.Sink.State == "following" && shown.Sink.Cursor > 3 && shown.Sink.Behind == 0
		})
	}
	apptest.Eventually(t, "so say the metrics", func() bool {
		return metrics(`eider_sink_state{sink="siem",state="following"} 1`) && metrics(`eider_sink_lag_rows{sink="siem"} 0`) && !metrics(`eider_sink_rows_total{sink="siem"} 0`)
	})

	file := s.Want(200, s.Root, "GET /plugins/file", "")
	shown := shownAs(t, s, "file")
	if shown.Kind != "sink" || shown.State != "ready" || shown.Sink.State != "following" || file.Text("mode") != "enforce" || file.Text("version") != "1.2.3" || file.JSON["calls"] == 0.0 {
		t.Errorf("the file is shown as %s", file.Body)
	}
	if list := s.Want(200, s.Root, "GET /plugins", ""); list.JSON["total"] != 3.0 || list.List("plugins")[2]["name"] != "file" {
		t.Errorf("the list is %s", list.Body)
	}
	for do, body := range map[string]string{"PUT /plugins/file/mode": `{"mode":"off"}`, "POST /plugins/file/reload": "", "POST /plugins/file/test": `{"event":{}}`} {
		if a := s.Do(s.Root, do, body); a.Code() != "plugin_refused" {
			t.Errorf("%s: %s", do, a.Body)
		}
	}
	if a := s.Do(s.Root, "POST /plugins/file/skip", `{"first_id":1000,"last_id":1000}`); a.Code() != "precondition_failed" {
		t.Errorf("a skip of rows that are not due: %s", a.Body)
	}
}
