package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
)

// slow is a module with an effect that works until it may finish.
type slow struct {
	begun  chan string
	finish chan struct{}
}

func newSlow() *slow { return &slow{make(chan string, 100), make(chan struct{})} }

type slowInput struct {
	ID   string `path:"id" json:"-"`
	Name string `json:"name" required:"true" maxLength:"20"`
}

type slowPlan struct{ Name, UID string }

type slowDone struct {
	Name string `json:"name"`
	Text string `json:"text,omitempty"`
}

func (w *slow) Name() string { return "slow" }

func (w *slow) Declare(r *core.Registry) error {
	operation.Effect(r.Operations, operation.Spec{
		Name: "work", Route: "POST /projects/{id}/work", Role: eider.ProjectWrite, Target: "work", Async: true, Slow: true,
	}, operation.Steps[slowInput, slowPlan, slowDone]{
		Intent: func(ctx context.Context, _ *operation.Tx, in slowInput) (slowPlan, error) {
			return slowPlan{in.Name, operation.From(ctx).Project.UID}, nil
		},
		Claims: func(p slowPlan) []metadata.Claim {
			return []metadata.Claim{{Resource: "work:" + p.Name, Exclusive: true}, {Resource: operation.ProjectResource(p.UID)}}
		},
		Effect: w.work,
		Applied: func(_ context.Context, p slowPlan) (bool, error) {
			return strings.HasPrefix(p.Name, "applied"), nil
		},
		Undo:   func(context.Context, slowPlan) error { return nil },
		Revert: func(context.Context, *operation.Tx, slowPlan) error { return nil },
		Outcome: func(_ context.Context, _ *operation.Tx, p slowPlan) (slowDone, error) {
			if p.Name == "long" {
				return slowDone{p.Name, strings.Repeat("x", 64<<10)}, nil
			}
			return slowDone{Name: p.Name}, nil
		},
	})
	return nil
}

func (w *slow) work(ctx context.Context, p slowPlan) error {
	operation.From(ctx).Progress(0.25, 250)
	w.begun <- p.Name
	select {
	case <-w.finish:
	case <-ctx.Done():
		return ctx.Err()
	}
	operation.From(ctx).Progress(0.75, 750)
	if p.Name == "twice" {
		w.begun <- "again"
		select {
		case <-w.finish:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func startSlow(t *testing.T, dir string, settings map[string]string) (*apptest.Server, *slow) {
	t.Helper()
	w := newSlow()
	return apptest.Start(t, dir, app.Options{Modules: append(modules(), w), Version: "test"}, settings), w
}

const async = "Prefer: respond-async"

// runs begins work in project p as a job and returns the job's id.
func runs(t *testing.T, s *apptest.Server, key, name string) string {
	t.Helper()
	return s.Want(202, key, "POST /projects/p/work", `{"name":"`+name+`"}`, async).Text("job_id")
}

// endOf waits for the end of a job and of its call, and returns the job, having
// compared both: how is its status and code, then the statuses of its rows. Lists
// show a row a moment after its commit.
func endOf(t *testing.T, s *apptest.Server, id, how string) apptest.Answer {
	t.Helper()
	var a apptest.Answer
	var rows []string
	apptest.Eventually(t, "the job and its call end", func() bool {
		a = s.Want(200, s.Root, "GET /jobs/"+id, "")
		rows = nil
		for _, row := range s.Want(200, s.Root, "GET /operations?all_rows=true&limit=1000", "").List("operations") {
			if row["call_id"] == a.Text("call_id") {
				rows = append(rows, row["status"].(string))
			}
		}
		return a.Text("ended_at") != "" && len(rows) > 0 && rows[0] != "in_progress"
	})
	slices.Reverse(rows)
	if is := outcomeOf(a.JSON) + ": " + strings.Join(rows, " "); is != how {
		t.Errorf("the job and its rows are %q, want %q", is, how)
	}
	return a
}

func TestLongWorkIsAJob(t *testing.T) {
	s, w := startSlow(t, t.TempDir(), nil)
	key := project(t, s, "p")
	a := s.Want(202, key, "POST /projects/p/work", `{"name":"twice"}`, "Prefer: wait=1, Respond-Async")
	id := a.Text("job_id")
	if fieldNames(a.JSON) != "job_id" || a.Header.Get("Location") != "/jobs/"+id || a.Header.Get("Preference-Applied") != "respond-async" {
		t.Errorf("answered %v %s", a.Header, a.Body)
	}
	const always = "call_id created_at ended_at id operation progress project_id rows_done started_at status"
	for _, when := range []struct {
		progress, rows float64
	}{{0.25, 250}, {0.75, 750}} {
		<-w.begun
		now := s.Want(200, key, "GET /jobs/"+id, "")
		if now.Text("status") != "running" || now.JSON["progress"] != when.progress || now.JSON["rows_done"] != when.rows ||
			fieldNames(now.JSON) != always || now.Text("started_at") == "" || now.JSON["ended_at"] != nil || now.Text("project_id") != "p" {
			t.Errorf("while it runs the job is %s", now.Body)
		}
		w.finish <- struct{}{}
	}
	end := endOf(t, s, id, "succeeded: in_progress success")
	if fieldNames(end.JSON) != strings.Replace(always, "rows_done", "result rows_done", 1) || end.JSON["progress"] != 1.0 {
		t.Errorf("the job ended as %s", end.Body)
	}
	if result, _ := json.Marshal(end.JSON["result"]); string(result) != `{"name":"twice"}` {
		t.Errorf("its result is %s", result)
	}
	close(w.finish)
	long := endOf(t, s, runs(t, s, key, "long"), "succeeded: in_progress success")
	if long.JSON["result"] != nil || long.JSON["result_too_long"] != true {
		t.Errorf("a long result is told as %.200s", long.Body)
	}
	if now := s.Want(200, key, "POST /projects/p/work", `{"name":"now"}`); now.Text("name") != "now" {
		t.Errorf("without the preference it answered %s", now.Body)
	}
}

func fieldNames(object map[string]any) string {
	var names []string
	for name := range object {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// What is refused before work may begin is answered as ever.
func TestRefusalsComeDirectlyAndAreNoJobs(t *testing.T) {
	s, _ := startSlow(t, t.TempDir(), nil)
	key, other := project(t, s, "p"), project(t, s, "other")
	reader := s.Want(201, key, "POST /projects/p/api-keys", `{"description":"k","scope":"project_read"}`).Text("api_key")
	const do, body = "POST /projects/p/work", `{"name":"x"}`
	prefer := []string{async}
	keys := map[string]string{"p": key, "other": other, "reader": reader}
	apptest.Run(t, s, keys, []apptest.Case{
		{Name: "no key", Do: do, Body: body, Headers: prefer, Status: 401, Code: "unauthorized", Log: []string{"work denied"}},
		{Name: "a reader", As: "reader", Do: do, Body: body, Headers: prefer, Status: 403, Code: "forbidden", Log: []string{"work denied"}},
		{Name: "another's project", As: "other", Do: do, Body: body, Headers: prefer, Status: 404, Code: "not_found", Log: []string{"work denied"}},
		{Name: "a wrong body", As: "p", Do: do, Body: `{"nme":"x"}`, Headers: prefer, Status: 422, Code: "validation_failed", Log: []string{"work failed"}},
	})
	s.Want(200, s.Root, "PATCH /projects/p", `{"status":"locked"}`)
	apptest.Run(t, s, keys, []apptest.Case{
		{Name: "a locked project", As: "p", Do: do, Body: body, Headers: prefer, Status: 423, Code: "project_locked", Log: []string{"work failed"}},
	})
	if list := s.Want(200, s.Root, "GET /jobs", ""); list.JSON["total"] != 0.0 {
		t.Errorf("there are jobs: %s", list.Body)
	}
}

func TestCancelOverTheAPI(t *testing.T) {
	s, w := startSlow(t, t.TempDir(), map[string]string{"jobs.max_running": "1"})
	key := project(t, s, "p")
	running, queued := runs(t, s, key, "running"), runs(t, s, key, "queued")
	<-w.begun
	for _, id := range []string{queued, running} { // the other order frees the slot
		head := s.App.Kernel.Audit.Head().ID
		if a := s.Want(202, key, "DELETE /jobs/"+id, ""); a.Text("id") != id {
			t.Errorf("to cancel job %s answered %s", id, a.Body)
		}
		if rows := s.Rows(head); !slices.Contains(rows, "cancel_job success") {
			t.Errorf("to cancel left %v", rows)
		}
	}
	endOf(t, s, running, "cancelled client_closed_request: in_progress failed")
	endOf(t, s, queued, "cancelled client_closed_request: failed")
	for _, id := range []string{running, queued} {
		if a := s.Want(409, key, "DELETE /jobs/"+id, ""); a.Code() != "job_finished" {
			t.Errorf("to cancel what has ended is %s", a.Code())
		}
	}
	if a := s.Want(404, key, "DELETE /jobs/none", ""); a.Code() != "job_not_found" {
		t.Errorf("to cancel none is %s", a.Code())
	}
	for _, row := range s.Want(200, key, "GET /projects/p/operations?operation=cancel_job&status=success", "").List("operations") {
		if id := row["resource_id"]; id != running && id != queued {
			t.Errorf("the row of a cancel names %v", id)
		}
	}
}

func TestIdempotencyKeyAnswersTheSameJob(t *testing.T) {
	s, w := startSlow(t, t.TempDir(), map[string]string{"jobs.max_running": "1"})
	key := project(t, s, "p")
	send := func(name string) apptest.Answer {
		return s.Do(key, "POST /projects/p/work", `{"name":"`+name+`"}`, async, "Idempotency-Key: k-"+name)
	}
	first, queued := send("a"), send("b")
	<-w.begun
	same := func(when string, was, is apptest.Answer) {
		t.Helper()
		if is.Status != 202 || is.Text("job_id") != was.Text("job_id") || is.Header.Get("Location") != was.Header.Get("Location") ||
			is.Header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("%s the key answered %d %s %v, first %s", when, is.Status, is.Body, is.Header, was.Body)
		}
	}
	same("while it runs", first, send("a"))
	same("while it waits", queued, send("b"))
	w.finish <- struct{}{}
	endOf(t, s, first.Text("job_id"), "succeeded: in_progress success")
	same("after its end", first, send("a"))
	s.Stop()
	s, _ = startSlow(t, s.Dir, nil)
	same("after a restart", first, send("a"))
	same("after a restart that ended it", queued, send("b"))
	if list := s.Want(200, key, "GET /jobs", ""); list.JSON["total"] != 2.0 {
		t.Errorf("there are more jobs: %s", list.Body)
	}
}

// A job ends as its call ends, whatever ends the server. A copy of its folder is
// what a kill leaves.
func TestNoJobIsLostByARestart(t *testing.T) {
	dir := t.TempDir()
	s, w := startSlow(t, dir, map[string]string{"jobs.max_running": "2", "jobs.max_per_project": "2"})
	key := project(t, s, "p")
	applied := runs(t, s, key, "applied")
	<-w.begun
	cut := runs(t, s, key, "cut")
	<-w.begun
	queued := runs(t, s, key, "queued")
	killed := copyFolder(t, dir)

	s.Stop()
	s, _ = startSlow(t, dir, nil)
	endOf(t, s, applied, "failed interrupted: in_progress failed") // it was told to end, and did
	endOf(t, s, cut, "failed interrupted: in_progress failed")
	endOf(t, s, queued, "failed interrupted: failed")

	s, w = startSlow(t, killed, nil)
	if end := endOf(t, s, applied, "succeeded: in_progress success"); fmt.Sprint(end.JSON["result"]) != "map[name:applied]" {
		t.Errorf("it ended as %s", end.Body)
	}
	endOf(t, s, cut, "failed interrupted: in_progress failed")
	endOf(t, s, queued, "failed interrupted: failed")
	close(w.finish)
	endOf(t, s, runs(t, s, key, "cut"), "succeeded: in_progress success")
	if v := s.Want(200, s.Root, "GET /operations/verify", ""); v.JSON["verified"] != true {
		t.Errorf("the chain does not hold: %s", v.Body)
	}
}

// What a job was to work on may be gone when its turn comes.
func TestJobFailsWhereItsIntentIsRefused(t *testing.T) {
	s, w := startSlow(t, t.TempDir(), map[string]string{"jobs.max_running": "1"})
	key := project(t, s, "p")
	gone := project(t, s, "gone")
	var files, jobs []string
	blocking := runs(t, s, key, "blocking")
	<-w.begun
	for key, id := range map[string]string{key: "p", gone: "gone"} {
		file := s.Want(201, key, "POST /projects/"+id+"/files?name=x", "bytes", "Content-Type: application/octet-stream").Text("id")
		files = append(files, "/projects/"+id+"/files/"+file)
		jobs = append(jobs, s.Want(202, key, "POST /projects/"+id+"/files/"+file+"/verify", "", async).Text("job_id"))
	}
	for _, file := range files {
		if strings.HasPrefix(file, "/projects/p/") {
			s.Want(204, s.Root, "DELETE "+file, "")
		}
	}
	s.Want(204, s.Root, "DELETE /projects/gone", "")
	close(w.finish)
	endOf(t, s, blocking, "succeeded: in_progress success")
	for i, file := range files {
		if strings.HasPrefix(file, "/projects/p/") {
			endOf(t, s, jobs[i], "failed file_not_found: failed")
		} else {
			endOf(t, s, jobs[i], "failed not_found: failed")
		}
	}
}

// Whoever deletes a project ends its jobs first.
func TestDeletedProjectEndsItsJobs(t *testing.T) {
	s, w := startSlow(t, t.TempDir(), nil)
	key := project(t, s, "p")
	id := runs(t, s, key, "a")
	<-w.begun
	s.Want(204, s.Root, "DELETE /projects/p", "")
	endOf(t, s, id, "failed operation_in_progress: in_progress failed")
	s.Want(401, key, "GET /jobs/"+id, "")
	s.Want(204, s.Root, "DELETE /projects/p?purge=true", "")
	again := project(t, s, "p") // another incarnation sees nothing of it
	if a := s.Want(404, again, "GET /jobs/"+id, ""); a.Code() != "job_not_found" {
		t.Errorf("a new project's key is told %s", a.Body)
	}
	if list := s.Want(200, again, "GET /jobs", ""); list.JSON["total"] != 0.0 {
		t.Errorf("a new project's key sees %s", list.Body)
	}
}

func TestVerifyTellsWhatADiskHasLost(t *testing.T) {
	s := start(t, nil)
	key := project(t, s, "p")
	file := s.Want(201, key, "POST /projects/p/files?name=x", strings.Repeat("bytes", 1<<20), "Content-Type: application/octet-stream")
	do := "POST /projects/p/files/" + file.Text("id") + "/verify"
	verify := func() string { return s.Want(202, key, do, "", async).Text("job_id") }
	whole := endOf(t, s, verify(), "succeeded: in_progress success")
	if whole.JSON["rows_done"] != float64(5<<20) || fmt.Sprint(whole.JSON["result"].(map[string]any)["checksum_sha256"]) != file.Text("checksum_sha256") {
		t.Errorf("the job ended as %s", whole.Body)
	}
	path := filepath.Join(s.Dir, "files", file.Text("path"))
	content, err := os.ReadFile(path)
	must(t, err)
	must(t, os.Chmod(path, 0o600))
	for how, damage := range map[string]func() error{
		"checksum_mismatch":      func() error { content[3<<20] ^= 1; return os.WriteFile(path, content, 0o600) },
		"file_content_not_found": func() error { return os.Remove(path) },
	} {
		must(t, os.WriteFile(path, content, 0o600))
		must(t, damage())
		endOf(t, s, verify(), "failed "+how+": in_progress failed")
	}
}

func TestListOfJobsByStatusAndPage(t *testing.T) {
	s, w := startSlow(t, t.TempDir(), map[string]string{"jobs.max_running": "2", "jobs.max_per_project": "2"})
	key, other := project(t, s, "p"), project(t, s, "other")
	var all []string
	states := map[string][]string{}
	keep := func(id, status string) {
		all = append(all, id)
		states[status] = append(states[status], id)
	}
	for i := range 7 {
		id := runs(t, s, key, fmt.Sprint("cancelled", i))
		s.Want(202, key, "DELETE /jobs/"+id, "")
		apptest.Eventually(t, "it ends", func() bool { return s.Want(200, key, "GET /jobs/"+id, "").Text("ended_at") != "" })
		keep(id, "cancelled")
	}
	for len(w.begun) > 0 {
		<-w.begun
	}
	for i := range 9 {
		id := runs(t, s, key, fmt.Sprint("w", i))
		if i < 2 {
			<-w.begun
			keep(id, "running")
		} else {
			keep(id, "queued")
		}
	}
	states[""] = all
	for status, want := range states {
		for _, limit := range []int{1, 3, len(want), 1000} {
			if got := jobPages(t, s, key, status, limit); !slices.Equal(got, newestFirst(want)) {
				t.Errorf("status %q by %d lists\n%v, want\n%v", status, limit, got, newestFirst(want))
			}
		}
	}
	if got := jobPages(t, s, other, "", 5); len(got) != 0 {
		t.Errorf("another project's key lists %v", got)
	}
	for query, code := range map[string]string{"cursor=x": "invalid_cursor", "status=done": "validation_failed", "limit=0": "validation_failed"} {
		if a := s.Do(key, "GET /jobs?"+query, ""); a.Code() != code {
			t.Errorf("%s answered %d %s", query, a.Status, a.Body)
		}
	}
	close(w.finish)
	for _, id := range append(states["running"], states["queued"]...) {
		endOf(t, s, id, "succeeded: in_progress success")
	}
}

func newestFirst(ids []string) []string {
	ids = slices.Clone(ids)
	slices.Reverse(ids)
	return ids
}

// jobPages returns the ids of all pages of a list, whose total must hold.
func jobPages(t *testing.T, s *apptest.Server, key, status string, limit int) (ids []string) {
	t.Helper()
	query, cursor := fmt.Sprintf("GET /jobs?limit=%d", limit), ""
	if status != "" {
		query += "&status=" + status
	}
	for total := -1.0; ; {
		a := s.Want(200, key, query+cursor, "")
		page := a.List("jobs")
		for _, one := range page {
			ids = append(ids, one["id"].(string))
		}
		next := a.Text("next_cursor")
		if total = a.JSON["total"].(float64); len(page) > limit || (next == "" && int(total) != len(ids)) {
			t.Errorf("%s: a page of %d, %d in all, total %v", query, len(page), len(ids), total)
		}
		if next == "" {
			return ids
		}
		cursor = "&cursor=" + next
	}
}
