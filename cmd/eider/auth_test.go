package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/operation"
)

// These tests walk over what is declared, so that a route that is added is
// covered by itself.

// doors are the routes that need no key.
var doors = map[string]bool{
	"GET /": true, "GET /health": true, "GET /health/live": true, "GET /health/ready": true, "GET /metrics": true,
	"GET /openapi.json": true, "GET /docs": true,
}

func options() app.Options { return app.Options{Modules: modules(), Version: "test"} }

var pathParameter = regexp.MustCompile(`\{[a-z_]+\}`)

// filled puts the project's id, and something for every other pathParameter, into a
// path.
func filled(path, project string) string {
	return pathParameter.ReplaceAllStringFunc(path, func(name string) string {
		if name == "{id}" {
			return project
		}
		return "1"
	})
}

// documentedRoutes returns every method and path of the OpenAPI document, and
// whether it asks for a key.
func documentedRoutes(t *testing.T, s *apptest.Server) map[string]bool {
	t.Helper()
	var document struct {
		Paths map[string]map[string]struct {
			Security []any `json:"security"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(s.Want(200, "", "GET /openapi.json", "").Body, &document); err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for path, methods := range document.Paths {
		for method, op := range methods {
			all[strings.ToUpper(method)+" "+path] = len(op.Security) > 0
		}
	}
	return all
}

// declaredRoute is a route of an operation, with its query.
type declaredRoute struct {
	*operation.Declared
	method, path string
}

func declaredRoutes(s *apptest.Server) []declaredRoute {
	var all []declaredRoute
	for _, d := range s.App.Registry.Operations.All() {
		for _, r := range d.Routes() {
			if r[0] != operation.Internal {
				all = append(all, declaredRoute{d, r[0], r[1]})
			}
		}
	}
	return all
}

func (r declaredRoute) on(project string) string { return r.method + " " + filled(r.path, project) }

func TestEveryRouteButTheDoorsRefusesAWrongKey(t *testing.T) {
	s := start(t, nil)
	key := project(t, s, "p")
	routes := documentedRoutes(t, s)
	for _, r := range declaredRoutes(s) {
		routes[r.method+" "+r.path] = true
	}
	if len(routes) < 25 {
		t.Fatalf("there are %d routes only", len(routes))
	}
	wrong := map[string]string{
		"no key": "", "another secret": key[:len(key)-1] + "x", "unknown id": "eider_0123456789abcdef_" + strings.Repeat("0", 64), "nonsense": "x",
	}
	for route, guarded := range routes {
		if guarded == doors[route] {
			t.Errorf("%s: guarded %v, a door %v", route, guarded, doors[route])
		}
		method, path, _ := strings.Cut(route, " ")
		for name, token := range wrong {
			a := s.Do(token, method+" "+filled(path, "p"), "")
			if doors[route] {
				if a.Status != 200 {
					t.Errorf("%s with %s answered %d: %s", route, name, a.Status, a.Body)
				}
				continue
			}
			if a.Status != 401 || a.Header.Get("Www-Authenticate") != "Bearer" || (method != "HEAD" && a.Code() != "unauthorized") {
				t.Errorf("%s with %s answered %d %s, %q", route, name, a.Status, a.Code(), a.Header.Get("Www-Authenticate"))
			}
		}
	}
}

func TestOtherProjectDoesNotExistOnAnyRoute(t *testing.T) {
	s := start(t, nil)
	keys := map[string]string{"project_admin": project(t, s, "a")}
	project(t, s, "b")
	for _, scope := range []string{"project_read", "project_write"} {
		keys[scope] = s.Want(201, keys["project_admin"], "POST /projects/a/api-keys", `{"description":"k","scope":"`+scope+`"}`).Text("api_key")
	}
	routes := 0
	for _, r := range declaredRoutes(s) {
		if !r.OnProject() {
			continue
		}
		routes++
		for scope, key := range keys {
			other, none := s.Do(key, r.on("b"), ""), s.Do(key, r.on("c"), "")
			if other.Status != 404 || (r.method != "HEAD" && other.Code() != "not_found") {
				t.Errorf("%s as %s of a answered %d %s", r.on("b"), scope, other.Status, other.Body)
			}
			if told(other, "b") != told(none, "c") {
				t.Errorf("%s tells that there is a project:\n%s\n%s", r.on("b"), told(other, "b"), told(none, "c"))
			}
		}
	}
	if routes < 12 {
		t.Fatalf("there are %d routes of projects only", routes)
	}
	for _, row := range s.Want(200, s.Root, "GET /operations?project_id=b&limit=1000", "").List("operations") {
		if row["operation"] != "create_project" {
			t.Errorf("the project has a row of a stranger: %v", row)
		}
	}
}

// told is what an answer tells, but for what is the request's own.
func told(a apptest.Answer, id string) string {
	delete(a.JSON, "request_id")
	delete(a.JSON, "instance")
	text, _ := json.Marshal(a.JSON)
	return fmt.Sprint(a.Status, a.Header.Get("Etag"), a.Header.Get("Allow"), strings.ReplaceAll(string(text), "project "+id, "project X"))
}

// openOnPurpose names the operations that are open to lower roles than their
// kind or route suggests, and why.
var openOnPurpose = map[string]string{
	"verify_file": "an effect, to be run as a job, that reads bytes again and changes nothing",
	"list_jobs":   "shows the jobs alone of projects that the key may see",
	"get_job":     "a job exists only for who may see its project",
	"cancel_job":  "a job exists only for who may see its project",
}

// A key does on no route what its role does not allow, and whatever is refused
// changes nothing.
func TestRolesHoldOnEveryRoute(t *testing.T) {
	s := start(t, nil)
	keys := map[eider.Role]string{eider.ProjectAdmin: project(t, s, "p")}
	for _, role := range []eider.Role{eider.ProjectRead, eider.ProjectWrite} {
		keys[role] = s.Want(201, keys[eider.ProjectAdmin], "POST /projects/p/api-keys", `{"description":"k","scope":"`+role.String()+`"}`).Text("api_key")
	}
	before, head := s.Want(200, s.Root, "GET /projects/p", "").Body, s.App.Kernel.Audit.Head().ID
	changes, met := map[string]bool{}, map[string]bool{}
	for _, r := range declaredRoutes(s) {
		reads := r.Kind == operation.KindRead || r.Kind == operation.KindStream
		if !reads {
			changes[r.Name] = true
		}
		toReaders, toProjects := !reads && r.Role < eider.ProjectWrite, !r.OnProject() && r.Role != eider.Admin
		met[r.ID] = toReaders || toProjects
		if toReaders && openOnPurpose[r.ID] == "" {
			t.Errorf("%s changes something and is open to readers", r.ID)
		}
		if toProjects && openOnPurpose[r.ID] == "" {
			t.Errorf("%s concerns the server and is open to %s", r.ID, r.Role)
		}
		for role, key := range keys {
			if role >= r.Role && !r.Local {
				if reads {
					if a := s.Do(key, r.on("p"), ""); a.Status == 401 || a.Status == 403 {
						t.Errorf("%s as %s answered %d: %s", r.on("p"), role, a.Status, a.Body)
					}
				}
				continue
			}
			a := s.Do(key, r.on("p"), "")
			if a.Status != 403 || (r.method != "HEAD" && a.Code() != "forbidden") {
				t.Errorf("%s as %s answered %d %s", r.on("p"), role, a.Status, a.Body)
			}
		}
	}
	if len(changes) < 8 {
		t.Fatalf("there are these changes only: %v", changes)
	}
	for id := range openOnPurpose {
		if !met[id] {
			t.Errorf("%s is open to nobody whom its kind and route keep out: it is no exception", id)
		}
	}
	for _, row := range s.Rows(head) {
		if name, status, _ := strings.Cut(row, " "); changes[name] && status != "denied" {
			t.Errorf("the walk left a row %s", row)
		}
	}
	if after := s.Want(200, s.Root, "GET /projects/p", "").Body; string(after) != string(before) {
		t.Errorf("the project was\n%s\nand is\n%s", before, after)
	}
}

// The operations that are open on purpose show a key nothing of another's
// project, and let a reader change nothing.
func TestWhatIsOpenOnPurposeShowsNothingElseAndChangesNothing(t *testing.T) {
	s := start(t, nil)
	owner, other := project(t, s, "p"), project(t, s, "other")
	reader := s.Want(201, owner, "POST /projects/p/api-keys", `{"description":"k","scope":"project_read"}`).Text("api_key")
	file := s.Want(201, owner, "POST /projects/p/files?name=x", "bytes", "Content-Type: application/octet-stream").Text("id")
	shown := func() (all []string) {
		for _, path := range []string{"/projects/p", "/projects/p/files", "/projects/p/files/" + file, "/projects/p/files/" + file + "/download"} {
			a := s.Do(s.Root, "GET "+path, "")
			all = append(all, fmt.Sprint(a.Status, a.Header.Get("Etag"), " ", string(a.Body)))
		}
		return all
	}
	before := shown()
	s.Want(200, reader, "POST /projects/p/files/"+file+"/verify", "")
	id := s.Want(202, reader, "POST /projects/p/files/"+file+"/verify", "", "Prefer: respond-async").Text("job_id")
	apptest.Eventually(t, "the job ends", func() bool { return s.Want(200, reader, "GET /jobs/"+id, "").Text("status") == "succeeded" })
	if after := shown(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("a reader's verification changed\n%s\nto\n%s", before, after)
	}
	for _, do := range []string{"GET", "DELETE"} {
		hidden, none := s.Do(other, do+" /jobs/"+id, ""), s.Do(other, do+" /jobs/none", "")
		if hidden.Status != 404 || hidden.Code() != "job_not_found" || told(hidden, "") != told(none, "") {
			t.Errorf("%s of another project's job answered %d %s; of none %s", do, hidden.Status, hidden.Body, none.Body)
		}
	}
	for key, jobs := range map[string]int{owner: 1, reader: 1, other: 0, s.Root: 1} {
		if list := s.Want(200, key, "GET /jobs", "").List("jobs"); len(list) != jobs {
			t.Errorf("a key is shown %d jobs, want %d: %v", len(list), jobs, list)
		}
	}
	if a := s.Want(409, reader, "DELETE /jobs/"+id, ""); a.Code() != "job_finished" {
		t.Errorf("a reader that cancels its own job, which has ended, is told %s", a.Code())
	}
	others := s.Want(202, owner, "POST /projects/p/files/"+file+"/verify", "", "Prefer: respond-async").Text("job_id")
	if a := s.Want(403, reader, "DELETE /jobs/"+others, ""); a.Code() != "forbidden" {
		t.Errorf("a reader that cancels is told %s", a.Code())
	}
}

func TestKeysOpenAProjectOnlyWhileItLives(t *testing.T) {
	s := start(t, nil)
	key := project(t, s, "p")
	for _, step := range []struct {
		do, body string
		status   int
		key      int // what the key gets afterwards
	}{
		{"PATCH /projects/p", `{"status":"locked"}`, 200, 200},
		{"PATCH /projects/p", `{"status":"active"}`, 200, 200},
		{"DELETE /projects/p", "", 204, 401},
		{"POST /projects/p/undelete", "", 200, 200},
		{"DELETE /projects/p", "", 204, 401},
		{"DELETE /projects/p?purge=true", "", 204, 401},
		{"POST /projects", `{"id":"p"}`, 201, 401}, // another incarnation
	} {
		s.Want(step.status, s.Root, step.do, step.body)
		a := s.Do(key, "GET /projects/p", "")
		if a.Status != step.key {
			t.Errorf("after %s %s the key gets %d: %s", step.do, step.body, a.Status, a.Body)
		}
		if step.key == 401 && a.Text("message") != "this API key is not valid" {
			t.Errorf("after %s the key is told %q", step.do, a.Text("message"))
		}
	}
}

// A key counts as used where it opens something, and not where it is refused.
func TestRefusedKeyDoesNotCountAsUsed(t *testing.T) {
	s := start(t, map[string]string{"http.metrics_role": "admin"})
	key := project(t, s, "p")
	admin := s.Want(201, s.Root, "POST /api-keys", `{"description":"admin"}`)
	used := func(path string) any {
		return s.Want(200, s.Root, "GET "+path+"?include_revoked=true", "").List("api_keys")[0]["last_used_at"]
	}
	s.Want(204, s.Root, "DELETE /projects/p", "")
	s.Want(401, key, "GET /projects/p", "")
	s.Want(401, key, "DELETE /projects/p?purge=true", "")
	s.Want(200, s.Root, "POST /projects/p/undelete", "")
	if at := used("/projects/p/api-keys"); at != nil {
		t.Errorf("a key that was refused was used at %v", at)
	}
	s.Want(200, key, "GET /projects/p", "")
	if at := used("/projects/p/api-keys"); at == nil {
		t.Error("a key that was let in was not used")
	}
	s.Want(200, admin.Text("api_key"), "GET /metrics", "")
	if at := used("/api-keys"); at == nil {
		t.Error("a key that scraped was not used")
	}
}

// A key in the grace of its rotation ends by itself: it does not stand in for the
// one that replaced it.
func TestKeyInItsGraceIsNotAnotherAdminKey(t *testing.T) {
	s := start(t, nil)
	owner := project(t, s, "p")
	id := s.Want(200, owner, "GET /projects/p/api-keys", "").List("api_keys")[0]["id"].(string)
	fresh := s.Want(201, owner, "POST /projects/p/api-keys/"+id+"/rotate", `{"grace_seconds":600}`)
	path := "DELETE /projects/p/api-keys/"
	if a := s.Want(400, owner, path+fresh.Text("id"), ""); a.Code() != "cannot_revoke_last_admin_key" {
		t.Errorf("to revoke the successor is %s", a.Code())
	}
	temporary := s.Want(201, owner, "POST /projects/p/api-keys", `{"description":"a day","expires_in_days":1}`).Text("id")
	s.Want(204, owner, path+temporary, "")
	s.Want(204, owner, path+id, "") // the old one may go at once
	s.Want(200, fresh.Text("api_key"), "GET /projects/p", "")

	s.Want(201, fresh.Text("api_key"), "POST /projects/p/api-keys", `{"description":"another"}`)
	s.Want(204, fresh.Text("api_key"), path+fresh.Text("id"), "")
}

func TestRotatedKeyWorksForItsGraceAndNoLonger(t *testing.T) {
	t.Parallel() // it waits
	s := start(t, nil)
	old := project(t, s, "p")
	id := s.Want(200, old, "GET /projects/p/api-keys", "").List("api_keys")[0]["id"].(string)
	fresh := s.Want(201, old, "POST /projects/p/api-keys/"+id+"/rotate", `{"grace_seconds":1}`).Text("api_key")
	if expires := s.Want(200, fresh, "GET /projects/p/api-keys/"+id, "").Text("expires_at"); expires == "" {
		t.Error("the old key does not say when it ends")
	}
	apptest.Eventually(t, "the old key ends", func() bool { return s.Do(old, "GET /projects/p", "").Status == 401 })
	s.Want(200, fresh, "GET /projects/p", "")
	if a := s.Want(400, fresh, "POST /projects/p/api-keys/"+id+"/rotate", ""); a.Code() != "cannot_rotate_revoked_key" {
		t.Errorf("to rotate a key that has ended is %s", a.Code())
	}
}

// An anonymous flood costs one row a minute for each address, and a host may own
// every address of an IPv6 /64.
func TestAnonymousRefusalsAreOneRowForEachAddress(t *testing.T) {
	s := start(t, map[string]string{"http.trusted_proxies": "127.0.0.1"})
	head := s.App.Kernel.Audit.Head().ID
	for i := range 10 {
		for _, address := range []string{"203.0.113.1", "203.0.113.2", fmt.Sprintf("2001:db8:1:2::%x", i+1), fmt.Sprintf("2001:db8:1:3:%x::1", i+1)} {
			s.Want(401, "", "GET /projects", "", "X-Forwarded-For: "+address)
			s.Want(401, "wrong", fmt.Sprintf("DELETE /projects/p%d", i), "", "X-Forwarded-For: "+address)
		}
	}
	if rows := s.Rows(head); len(rows) != 4 {
		t.Errorf("80 refusals of 4 sources left %v", rows)
	}
	s.Stop()
	s = apptest.Start(t, s.Dir, options(), nil)
	counted := map[string]float64{}
	for _, row := range s.Want(200, s.Root, "GET /operations?status=denied&limit=1000", "").List("operations") {
		n, more := row["count"].(float64)
		if !more {
			n = 1
		}
		source, _ := row["source_ip"].(string)
		if strings.Contains(source, ":") {
			source = source[:len("2001:db8:1:2")]
		}
		counted[source] += n
	}
	if want := map[string]float64{"203.0.113.1": 20, "203.0.113.2": 20, "2001:db8:1:2": 20, "2001:db8:1:3": 20}; fmt.Sprint(counted) != fmt.Sprint(want) {
		t.Errorf("the rows stand for %v refusals, want %v", counted, want)
	}
}

func TestMetricsCanBeKeptForAdmins(t *testing.T) {
	s := start(t, map[string]string{"http.metrics_role": "admin"})
	key := project(t, s, "p")
	admin := s.Want(201, s.Root, "POST /api-keys", `{"description":"scraper"}`).Text("api_key")
	apptest.Run(t, s, map[string]string{"root": s.Root, "admin": admin, "p": key}, []apptest.Case{
		{Name: "no key", Do: "GET /metrics", Status: 401, Code: "unauthorized", Log: []string{"get_metrics denied"}},
		{Name: "a project's key", As: "p", Do: "GET /metrics", Status: 403, Code: "forbidden", Log: []string{"get_metrics denied"}},
		{Name: "an admin's", As: "admin", Do: "GET /metrics", Status: 200, Log: []string{}},
		{Name: "the root key", As: "root", Do: "GET /metrics", Status: 200, Log: []string{}},
	})
	if _, err := apptest.TryStart(t, t.TempDir(), options(), map[string]string{"http.metrics_role": "project_admin"}); err == nil {
		t.Error("another role was accepted")
	}
}
