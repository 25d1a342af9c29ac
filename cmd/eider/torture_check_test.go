package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/duck"
)

// life is a project as the log of operations tells it.
type life struct {
	status string
	name   string
	keys   map[string]bool
}

// logRow is what the checks need of a row.
type logRow struct {
	ID         int64
	RequestID  string `json:"request_id"`
	ProjectID  string `json:"project_id"`
	Operation  string
	ResourceID string `json:"resource_id"`
	Status     string
	Details    struct {
		Name, Status, Settled string
		APIKeyID              string `json:"api_key_id"`
	}
}

// check compares everything, once every call is settled: what the clients were
// told with the rows of the log, the register with what these rows say, and the
// folders with the register.
func (w *world) check() {
	w.t.Helper()
	checkSettled(w.t, w.server)
	rows := w.newRows()
	w.accountFor(rows)
	for _, r := range rows {
		if r.Status == "success" {
			w.tell(r)
		}
	}
	w.compareRegister(registered(w.t, w.server))
	checkFolders(w.t, w.server)
	for _, c := range w.clients {
		for _, id := range c.own {
			c.states[id] = ""
			if l := w.register[id]; l != nil {
				c.states[id] = l.status
			}
		}
	}
}

func (w *world) get(path string) apptest.Answer {
	w.t.Helper()
	return w.server.Want(200, childKey, "GET "+path, "")
}

// newRows reads the rows of the log since the last check, oldest first.
func (w *world) newRows() []logRow {
	w.t.Helper()
	var all []logRow
	for cursor := ""; ; {
		a := w.get("/operations?all_rows=true&limit=1000" + cursor)
		var page struct {
			Operations []logRow
			NextCursor string `json:"next_cursor"`
		}
		if err := json.Unmarshal(a.Body, &page); err != nil {
			w.t.Fatalf("read the log: %v", err)
		}
		for _, r := range page.Operations {
			if r.ID > w.seen {
				all = append(all, r)
			}
		}
		if page.NextCursor == "" || page.Operations[len(page.Operations)-1].ID <= w.seen {
			break
		}
		cursor = "&cursor=" + page.NextCursor
	}
	slices.Reverse(all)
	if len(all) > 0 {
		w.seen = all[len(all)-1].ID
	}
	return all
}

// accountFor checks that what was acknowledged happened once, that what was
// refused did not, and that what was never answered did not happen twice.
func (w *world) accountFor(rows []logRow) {
	w.t.Helper()
	done := map[string]int{}
	for _, r := range rows {
		if r.Status == "success" {
			done[r.RequestID]++
		}
		if r.Details.Settled != "" {
			w.settled++
		}
		if _, known := w.requests[r.RequestID]; !known {
			w.t.Errorf("row %d, %s %s of request %s, was not asked for since the last check", r.ID, r.Operation, r.Status, r.RequestID)
		}
	}
	for _, r := range w.requests {
		switch n := done[r.id]; {
		case r.status == 0 && (r.key != "" || n > 1):
			w.t.Errorf("%s %s (key %q) was never answered and done %d times", r.id, r.do, r.key, n)
		case r.status >= 200 && r.status < 300 && n != 1:
			w.t.Errorf("%s %s (key %q) was acknowledged with %d and done %d times", r.id, r.do, r.key, r.status, n)
		case r.status >= 300 && n != 0:
			w.t.Errorf("%s %s (key %q) was refused with %d and done %d times", r.id, r.do, r.key, r.status, n)
		}
		if r.status != 0 {
			w.acknowledged++
		}
		if r.sentAgain {
			w.again++
		}
	}
	clear(w.requests)
}

// tell applies a row to what is known of its project.
func (w *world) tell(r logRow) {
	l := w.register[r.ProjectID]
	if r.Operation == "create_project" {
		if l != nil {
			w.t.Errorf("row %d makes project %s, which is %s", r.ID, r.ProjectID, l.status)
		}
		l = &life{status: "active", name: r.Details.Name, keys: map[string]bool{}}
		if r.Details.APIKeyID != "" {
			l.keys[r.Details.APIKeyID] = true
		}
		w.register[r.ProjectID] = l
		return
	}
	if l == nil {
		w.t.Errorf("row %d, %s, is of project %s, which is not there", r.ID, r.Operation, r.ProjectID)
		return
	}
	switch r.Operation {
	case "update_project":
		if r.Details.Name != "" {
			l.name = r.Details.Name
		}
		if r.Details.Status != "" {
			l.status = r.Details.Status
		}
	case "create_api_key":
		l.keys[r.ResourceID] = true
	case "drop_project":
		l.status = "deleted"
	case "undelete_project":
		l.status = "active"
	case "purge_project":
		delete(w.register, r.ProjectID)
	default:
		w.t.Errorf("row %d is a %s", r.ID, r.Operation)
	}
}

// compareRegister compares the projects and their keys with what the log says.
func (w *world) compareRegister(projects map[string]eider.Project) {
	w.t.Helper()
	got, want := map[string]string{}, map[string]string{}
	for id, p := range projects {
		got[id] = fmt.Sprint(p.Status, " ", p.Name, w.keysOf(p))
	}
	for id, l := range w.register {
		want[id] = fmt.Sprint(l.status, " ", l.name)
		if l.status != "deleted" {
			want[id] += fmt.Sprint(" ", slices.Sorted(maps.Keys(l.keys)))
		}
	}
	if !maps.Equal(got, want) {
		w.t.Errorf("the register says\n%v\nthe log says\n%v", got, want)
	}
	metrics := string(w.get("/metrics").Body)
	if line := fmt.Sprintf("\nduckdb_projects_total %d\n", len(want)); !strings.Contains(metrics, line) {
		w.t.Errorf("%d projects are there, and the metrics do not say so", len(want))
	}
}

// keysOf lists the keys of a project; those of a deleted one are not shown.
func (w *world) keysOf(p eider.Project) string {
	w.t.Helper()
	if p.Status == eider.ProjectDeleted {
		return ""
	}
	var ids []string
	for _, k := range w.get("/projects/" + p.ID + "/api-keys").List("api_keys") {
		ids = append(ids, k["id"].(string))
	}
	slices.Sort(ids)
	return fmt.Sprint(" ", ids)
}

// checkSettled waits until no call is unfinished and verifies the chain.
func checkSettled(t *testing.T, c *child) {
	t.Helper()
	apptest.Eventually(t, "every call is settled", func() bool {
		return len(c.Want(200, childKey, "GET /operations?status=in_progress&limit=1", "").List("operations")) == 0
	})
	if a := c.Want(200, childKey, "GET /operations/verify", ""); a.JSON["verified"] != true {
		t.Errorf("the chain does not hold: %s", a.Body)
	}
}

// registered returns the projects of the register by id.
func registered(t *testing.T, c *child) map[string]eider.Project {
	t.Helper()
	var page struct{ Projects []eider.Project }
	if err := json.Unmarshal(c.Want(200, childKey, "GET /projects?status=all&limit=1000", "").Body, &page); err != nil {
		t.Fatalf("read the register: %v", err)
	}
	all := map[string]eider.Project{}
	for _, p := range page.Projects {
		all[p.ID] = p
	}
	return all
}

// checkFolders checks that there is one whole folder for each project, and no
// other.
func checkFolders(t *testing.T, c *child) {
	t.Helper()
	want := map[string]bool{}
	for _, p := range registered(t, c) {
		folder := filepath.Dir(filepath.Dir(p.DBPath))
		want[filepath.Base(folder)] = true
		checkFolder(t, c.Dir, p)
	}
	for _, name := range strings.Fields(listing(t, filepath.Join(c.Dir, "duckdb"))) {
		if !want[name] {
			t.Errorf("the folder %s has no project", name)
		}
	}
}

func checkFolder(t *testing.T, dir string, p eider.Project) {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, p.DBPath))
	if err != nil || info.Size() != p.SizeBytes {
		t.Errorf("the database of %s: %v, want %d bytes", p.ID, err, p.SizeBytes)
		return
	}
	folder := filepath.Dir(filepath.Dir(filepath.Join(dir, p.DBPath)))
	apptest.Eventually(t, "project.json of "+p.ID+" tells its state", func() bool {
		var side eider.Project
		text, err := os.ReadFile(filepath.Join(folder, "project.json"))
		return err == nil && json.Unmarshal(text, &side) == nil && side.UID == p.UID && side.Status == p.Status && side.Name == p.Name &&
			listing(t, folder) == "db in lock out project.json"
	})
}

// checkDatabases opens every project's database as DuckDB does.
func checkDatabases(t *testing.T, c *child) {
	t.Helper()
	for _, p := range registered(t, c) {
		db, err := duck.Open(t.Context(), filepath.Join(c.Dir, p.DBPath), duck.Options{})
		if err != nil {
			t.Errorf("open the database of %s: %v", p.ID, err)
			continue
		}
		if err := db.Close(); err != nil {
			t.Errorf("close the database of %s: %v", p.ID, err)
		}
	}
}

// checkTrash waits until the trash is empty.
func checkTrash(t *testing.T, c *child) {
	t.Helper()
	apptest.Eventually(t, "the trash is empty", func() bool { return listing(t, filepath.Join(c.Dir, "trash")) == "" })
}
