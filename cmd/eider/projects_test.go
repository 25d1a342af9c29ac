package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/eiderdb/eider/core/app/apptest"
)

func TestProjectLives(t *testing.T) {
	s := start(t, nil)
	keys := map[string]string{"admin": s.Root}
	apptest.Run(t, s, keys, []apptest.Case{
		{Name: "create", As: "admin", Do: "POST /projects", Body: `{"id":"sales","settings":{"a":1}}`, Status: 201,
			Log: []string{"create_project in_progress", "create_project success"}},
		{Name: "taken id", As: "admin", Do: "POST /projects", Body: `{"id":"sales"}`, Status: 409, Code: "project_exists",
			Log: []string{"create_project failed"}},
		{Name: "get leaves no row", As: "admin", Do: "GET /projects/sales", Status: 200, Log: []string{}},
		{Name: "rename", As: "admin", Do: "PATCH /projects/sales", Body: `{"name":"Sales 2"}`, Status: 200, Log: []string{"update_project success"}},
		{Name: "put", As: "admin", Do: "PUT /projects/sales", Body: `{"settings":{"b":[1,2]}}`, Status: 200},
		{Name: "lock", As: "admin", Do: "PATCH /projects/sales", Body: `{"status":"locked","lock_reason":"audit"}`, Status: 200},
		{Name: "locked: rename", As: "admin", Do: "PATCH /projects/sales", Body: `{"name":"x"}`, Status: 423, Code: "project_locked"},
		{Name: "locked: delete", As: "admin", Do: "DELETE /projects/sales", Status: 423, Code: "project_locked"},
		{Name: "locked: new key", As: "admin", Do: "POST /projects/sales/api-keys", Body: `{"description":"x"}`, Status: 423, Code: "project_locked"},
		{Name: "locked: reads", As: "admin", Do: "GET /projects/sales", Status: 200},
		{Name: "unlock", As: "admin", Do: "PATCH /projects/sales", Body: `{"status":"active"}`, Status: 200},
		{Name: "reason without lock", As: "admin", Do: "PATCH /projects/sales", Body: `{"lock_reason":"x"}`, Status: 409, Code: "invalid_transition"},
		{Name: "status deleted", As: "admin", Do: "PATCH /projects/sales", Body: `{"status":"deleted"}`, Status: 422, Code: "validation_failed"},
		{Name: "undelete an active one", As: "admin", Do: "POST /projects/sales/undelete", Status: 409, Code: "not_deleted"},
		{Name: "delete", As: "admin", Do: "DELETE /projects/sales", Status: 204, Log: []string{"drop_project success"}},
		{Name: "delete again", As: "admin", Do: "DELETE /projects/sales", Status: 404, Code: "not_found"},
		{Name: "deleted: get", As: "admin", Do: "GET /projects/sales", Status: 200},
		{Name: "deleted: change", As: "admin", Do: "PATCH /projects/sales", Body: `{"name":"x"}`, Status: 404, Code: "not_found"},
		{Name: "deleted: keys", As: "admin", Do: "GET /projects/sales/api-keys", Status: 404, Code: "not_found"},
		{Name: "deleted: id is taken", As: "admin", Do: "POST /projects", Body: `{"id":"sales"}`, Status: 409, Code: "project_exists"},
		{Name: "undelete", As: "admin", Do: "POST /projects/sales/undelete", Status: 200, Log: []string{"undelete_project success"}},
		{Name: "delete once more", As: "admin", Do: "DELETE /projects/sales", Status: 204},
		{Name: "purge", As: "admin", Do: "DELETE /projects/sales?purge=true", Status: 204,
			Log: []string{"purge_project in_progress", "purge_project success"}},
		{Name: "purged: get", As: "admin", Do: "GET /projects/sales", Status: 404, Code: "not_found"},
		{Name: "purged: undelete", As: "admin", Do: "POST /projects/sales/undelete", Status: 410, Code: "purged"},
		{Name: "purged: purge", As: "admin", Do: "DELETE /projects/sales?purge=true", Status: 404, Code: "not_found"},
		{Name: "id is free again", As: "admin", Do: "POST /projects", Body: `{"id":"sales"}`, Status: 201},
		{Name: "purge an active one", As: "admin", Do: "DELETE /projects/sales?purge=true", Status: 204},
		{Name: "unknown", As: "admin", Do: "GET /projects/nobody", Status: 404, Code: "not_found"},
	})
	v := s.Want(200, s.Root, "GET /operations/verify", "")
	if v.JSON["verified"] != true {
		t.Errorf("the chain does not hold: %s", v.Body)
	}
}

func TestUndeleteRestoresTheSameBytesAndPurgeRemovesThem(t *testing.T) {
	s := start(t, nil)
	key := project(t, s, "p")
	path := filepath.Join(s.Dir, s.Want(200, s.Root, "GET /projects/p", "").Text("db_path"))
	if err := os.WriteFile(path, []byte("what the tenant stored"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Want(204, s.Root, "DELETE /projects/p", "")
	s.Want(401, key, "GET /projects/p", "")
	s.Want(200, s.Root, "POST /projects/p/undelete", "")
	if text, err := os.ReadFile(path); err != nil || string(text) != "what the tenant stored" {
		t.Fatalf("after undelete the file holds %q, %v", text, err)
	}
	s.Want(200, key, "GET /projects/p", "")
	s.Want(204, s.Root, "DELETE /projects/p?purge=true", "")
	if _, err := os.Stat(filepath.Dir(filepath.Dir(path))); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
	apptest.Eventually(t, "the trash is emptied", func() bool {
		left, err := os.ReadDir(filepath.Join(s.Dir, "trash"))
		return err == nil && len(left) == 0
	})

	second := project(t, s, "p")
	s.Want(401, key, "GET /projects/p", "")
	rows := s.Want(200, second, "GET /projects/p/operations", "").List("operations")
	if len(rows) != 1 || rows[0]["operation"] != "create_project" {
		t.Errorf("the new owner of the id sees %v", rows)
	}
	if keys := s.Want(200, second, "GET /projects/p/api-keys", "").List("api_keys"); len(keys) != 1 {
		t.Errorf("the new owner of the id sees %d keys", len(keys))
	}
	all := s.Want(200, s.Root, "GET /operations?project_id=p&operation=purge_project", "").List("operations")
	if len(all) != 1 {
		t.Errorf("the trail of the purged project has %d purges", len(all))
	}
}

func TestPurgeJobTakesWhatIsDue(t *testing.T) {
	s := start(t, map[string]string{"projects.retention": "0s", "projects.purge_every": "1s"})
	project(t, s, "p")
	s.Want(204, s.Root, "DELETE /projects/p", "")
	apptest.Eventually(t, "the project is purged", func() bool { return s.Do(s.Root, "GET /projects/p", "").Status == 404 })
	rows := s.Want(200, s.Root, "GET /operations?operation=purge_project", "").List("operations")
	if len(rows) != 1 || rows[0]["actor"].(map[string]any)["type"] != "system" {
		t.Errorf("the purge is logged as %v", rows)
	}
}

func TestOfManyPostsOfOneIDOneWins(t *testing.T) {
	s := start(t, nil)
	const clients = 32
	var wg sync.WaitGroup
	statuses := make([]int, clients)
	for i := range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if a, err := s.Try(s.Root, "POST /projects", `{"id":"one"}`); err == nil {
				statuses[i] = a.Status
			}
		}()
	}
	wg.Wait()
	count := map[int]int{}
	for _, status := range statuses {
		count[status]++
	}
	if count[201] != 1 || count[409] != clients-1 {
		t.Fatalf("got %v, want one 201 and %d 409", count, clients-1)
	}
}

func TestHostileProjectIDsAreRefusedAndLeaveNoFile(t *testing.T) {
	s := start(t, nil)
	parent := listing(t, filepath.Dir(s.Dir))
	for _, id := range []string{"..", ".", "a/b", "../x", "%2e%2e", "", strings.Repeat("a", 65), "a\u0000", "a\nb", "-a", "_a", "ä", "a b", "a.b", "a\\\\b", "\u202e"} {
		a := s.Do(s.Root, "POST /projects", fmt.Sprintf(`{"id":%q}`, id))
		if a.Status != 422 && a.Status != 400 {
			t.Errorf("POST with id %q answered %d %s", id, a.Status, a.Body)
		}
	}
	for _, path := range []string{"/projects/..", "/projects/%2e%2e", "/projects/a%2Fb", "/projects/%00", "/projects/", "/projects/" + strings.Repeat("a", 65), "/projects/%2e%2e%2f%2e%2e", "/projects/a%0ab"} {
		for _, method := range []string{"GET", "PATCH", "DELETE"} {
			a := s.Do(s.Root, method+" "+path, "")
			if a.Status != 422 || a.Code() != "validation_failed" {
				t.Errorf("%s %s answered %d %s", method, path, a.Status, a.Body)
			}
		}
	}
	for _, path := range []string{"/projects/%zz", "/projects/%"} {
		if a := s.Do(s.Root, "GET "+path, ""); a.Status != 400 && a.Status != 422 {
			t.Errorf("GET %s answered %d", path, a.Status)
		}
	}
	if after := listing(t, filepath.Dir(s.Dir)); after != parent {
		t.Errorf("files beside the data folder: %s, before: %s", after, parent)
	}
	if entries := listing(t, filepath.Join(s.Dir, "duckdb")); entries != "" {
		t.Errorf("the projects' folder holds %s", entries)
	}
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func TestProjectsAreListedInEveryOrder(t *testing.T) {
	s := start(t, nil)
	for i := range 25 {
		s.Want(201, s.Root, "POST /projects", fmt.Sprintf(`{"id":"p%02d","name":"Name %c"}`, i, 'z'-rune(i)))
	}
	s.Want(200, s.Root, "PATCH /projects/p03", `{"status":"locked"}`)
	s.Want(204, s.Root, "DELETE /projects/p04", "")
	first := s.Want(200, s.Root, "GET /projects?limit=1", "")
	if first.List("projects")[0]["id"] != "p24" || first.JSON["total"] != 24.0 {
		t.Errorf("newest first: %s", first.Body)
	}
	for query, want := range map[string]float64{
		"status=locked": 1, "status=deleted": 1, "status=active": 23, "status=all": 25, "name_contains=NAME": 24, "name_contains=name%20z": 1,
	} {
		if a := s.Want(200, s.Root, "GET /projects?"+query, ""); a.JSON["total"] != want {
			t.Errorf("%s: total %v, want %v", query, a.JSON["total"], want)
		}
	}
	for _, sort := range []string{"created_at", "-created_at", "name", "-name", "updated_at", "-updated_at", "size_bytes", "-size_bytes"} {
		whole := ids(s.Want(200, s.Root, "GET /projects?limit=1000&sort="+sort, ""))
		var paged []string
		query := "GET /projects?limit=7&sort=" + sort
		for page := s.Want(200, s.Root, query, ""); ; {
			paged = append(paged, ids(page)...)
			next := page.Text("next_cursor")
			if next == "" {
				break
			}
			page = s.Want(200, s.Root, query+"&cursor="+next, "")
		}
		if strings.Join(whole, " ") != strings.Join(paged, " ") || len(whole) != 24 {
			t.Errorf("sort=%s: pages give %v, want %v", sort, paged, whole)
		}
	}
	cursor := first.Text("next_cursor")
	for query, code := range map[string]string{
		"sort=name&cursor=" + cursor: "invalid_cursor", "cursor=nonsense": "invalid_cursor", "limit=0": "validation_failed",
		"limit=1001": "validation_failed", "limit=x": "validation_failed", "offset=-1": "validation_failed", "sort=secret": "validation_failed",
		"colour=red": "validation_failed", "offset=2&cursor=" + cursor: "validation_failed",
	} {
		if a := s.Do(s.Root, "GET /projects?"+query, ""); a.Code() != code {
			t.Errorf("%s: %d %s, want %s", query, a.Status, a.Code(), code)
		}
	}
}

func ids(a apptest.Answer) []string {
	var all []string
	for _, p := range a.List("projects") {
		all = append(all, p["id"].(string))
	}
	return all
}

func TestSidecarFollowsTheRegister(t *testing.T) {
	s := start(t, nil)
	project(t, s, "p")
	folder := filepath.Dir(filepath.Dir(filepath.Join(s.Dir, s.Want(200, s.Root, "GET /projects/p", "").Text("db_path"))))
	s.Want(200, s.Root, "PATCH /projects/p", `{"name":"after","settings":{"k":"v"}}`)
	apptest.Eventually(t, "project.json tells the new name", func() bool {
		text, err := os.ReadFile(filepath.Join(folder, "project.json"))
		return err == nil && strings.Contains(string(text), `"after"`) && strings.Contains(string(text), `{"k":"v"}`)
	})
	if entries := listing(t, folder); entries != "db in lock out project.json" {
		t.Errorf("the folder holds %s", entries)
	}
}

func TestETagsGuardChanges(t *testing.T) {
	s := start(t, nil)
	project(t, s, "p")
	etag := s.Want(200, s.Root, "GET /projects/p", "").Header.Get("ETag")
	s.Want(304, s.Root, "GET /projects/p", "", "If-None-Match: "+etag)
	changed := s.Want(200, s.Root, "PATCH /projects/p", `{"name":"b"}`, "If-Match: "+etag).Header.Get("ETag")
	if a := s.Want(412, s.Root, "PATCH /projects/p", `{"name":"c"}`, "If-Match: "+etag); a.Code() != "precondition_failed" {
		t.Errorf("code %s", a.Code())
	}
	s.Want(412, s.Root, "DELETE /projects/p", "", "If-Match: "+etag)
	if now := s.Want(200, s.Root, "GET /projects/p", "").Header.Get("ETag"); now != changed {
		t.Errorf("PATCH answered ETag %s, GET %s", changed, now)
	}
	s.Want(204, s.Root, "DELETE /projects/p", "", "If-Match: "+changed)
}
