package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/metadata"
)

// members are the names of an object's members, in order.
func members(o map[string]any) string { return strings.Join(slices.Sorted(maps.Keys(o)), " ") }

func TestKeysHaveTheFieldsOfTheContract(t *testing.T) {
	s := start(t, nil)
	first := project(t, s, "p")
	const shown = "created_at description expires_at id key_prefix last_used_at project_id scope"
	made := s.Want(201, first, "POST /projects/p/api-keys", `{"description":"ci","scope":"project_write","expires_in_days":1}`)
	if got := members(made.JSON); got != "api_key "+shown {
		t.Errorf("a new key has %s", got)
	}
	if made.Text("scope") != "project_write" || made.Text("project_id") != "p" || made.Text("description") != "ci" {
		t.Errorf("a new key is %s", made.Body)
	}
	one := s.Want(200, first, "GET /projects/p/api-keys/"+made.Text("id"), "")
	if got := members(one.JSON); got != shown || one.JSON["last_used_at"] != nil {
		t.Errorf("a key has %s: %s", got, one.Body)
	}
	s.Want(200, made.Text("api_key"), "GET /projects/p", "")
	if used := s.Want(200, first, "GET /projects/p/api-keys/"+made.Text("id"), "").Text("last_used_at"); used == "" {
		t.Error("a key that was used does not say when")
	}
	list := s.Want(200, first, "GET /projects/p/api-keys", "")
	if members(list.JSON) != "api_keys count" || list.JSON["count"] != 2.0 || len(list.List("api_keys")) != 2 {
		t.Errorf("the list is %s", list.Body)
	}
	s.Want(204, first, "DELETE /projects/p/api-keys/"+made.Text("id"), "")
	s.Want(204, first, "DELETE /projects/p/api-keys/"+made.Text("id"), "") // once more
	if list := s.Want(200, first, "GET /projects/p/api-keys", ""); list.JSON["count"] != 1.0 {
		t.Errorf("after a revocation the list is %s", list.Body)
	}
	if list := s.Want(200, first, "GET /projects/p/api-keys?include_revoked=true", ""); list.JSON["count"] != 2.0 || list.List("api_keys")[1]["revoked_at"] == nil {
		t.Errorf("with the revoked ones the list is %s", list.Body)
	}
	server := s.Want(201, s.Root, "POST /api-keys", `{"description":"ops"}`)
	if server.JSON["project_id"] != nil || server.Text("scope") != "admin" || server.JSON["expires_at"] != nil {
		t.Errorf("a server-wide key is %s", server.Body)
	}
	for _, answer := range []apptest.Answer{one, list, server} {
		if strings.Contains(string(answer.Body), "hash") {
			t.Errorf("an answer has a hash: %s", answer.Body)
		}
	}
}

func TestKeysAreCheckedBeforeTheyAreMade(t *testing.T) {
	s := start(t, nil)
	key := project(t, s, "p")
	for body, field := range map[string]string{
		`{}`: "description", `{"description":""}`: "description", `{"description":"` + strings.Repeat("x", 257) + `"}`: "description",
		`{"description":"a\u0000b"}`: "description", `{"description":7}`: "description",
		`{"description":"x","scope":"admin"}`: "scope", `{"description":"x","scope":"none"}`: "scope", `{"description":"x","scope":""}`: "scope",
		`{"description":"x","expires_in_days":0}`: "expires_in_days", `{"description":"x","expires_in_days":366}`: "expires_in_days",
		`{"description":"x","expires_in_days":-1}`: "expires_in_days", `{"description":"x","expires_in_days":1.5}`: "expires_in_days",
		`{"description":"x","expires_in_days":"30"}`: "expires_in_days", `{"description":"x","expire_in_days":30}`: "expire_in_days",
	} {
		a := s.Do(key, "POST /projects/p/api-keys", body)
		if errors := a.List("errors"); a.Status != 422 || a.Code() != "validation_failed" || len(errors) != 1 || errors[0]["field"] != field {
			t.Errorf("%s answered %d %s, want %s", body, a.Status, a.Body, field)
		}
	}
	for _, days := range []string{"1", "365"} {
		s.Want(201, key, "POST /projects/p/api-keys", `{"description":"x","expires_in_days":`+days+`}`)
	}
	id := s.Want(200, key, "GET /projects/p/api-keys", "").List("api_keys")[0]["id"].(string)
	for body, status := range map[string]int{`{"grace_seconds":-1}`: 422, `{"grace_seconds":604801}`: 422, `{"grace":1}`: 422, `{"grace_seconds":604800}`: 201} {
		if a := s.Do(key, "POST /projects/p/api-keys/"+id+"/rotate", body); a.Status != status {
			t.Errorf("rotate with %s answered %d %s", body, a.Status, a.Body)
		}
	}
	for _, do := range []string{"GET /projects/p/api-keys/0", "DELETE /projects/p/api-keys/0", "POST /projects/p/api-keys/0/rotate", "GET /api-keys/" + id, "DELETE /api-keys/" + id, "POST /api-keys/" + id + "/rotate"} {
		if a := s.Do(s.Root, do, ""); a.Status != 404 || a.Code() != "api_key_not_found" {
			t.Errorf("%s answered %d %s", do, a.Status, a.Body)
		}
	}
}

// A key that reads or writes only does not keep the last one that administers
// from being the last, and neither does one that has ended.
func TestLastKeyThatAdministersStays(t *testing.T) {
	s := start(t, nil)
	first := project(t, s, "p")
	s.Want(201, first, "POST /projects/p/api-keys", `{"description":"w","scope":"project_write"}`)
	second := s.Want(201, first, "POST /projects/p/api-keys", `{"description":"a"}`)
	id := s.Want(200, first, "GET /projects/p/api-keys", "").List("api_keys")[0]["id"].(string)
	s.Want(204, first, "DELETE /projects/p/api-keys/"+second.Text("id"), "")
	if a := s.Want(400, s.Root, "DELETE /projects/p/api-keys/"+id, ""); a.Code() != "cannot_revoke_last_admin_key" {
		t.Errorf("the code is %s", a.Code())
	}
	s.Want(200, first, "GET /projects/p", "")
	third := s.Want(201, first, "POST /projects/p/api-keys/"+id+"/rotate", "").Text("api_key") // a rotation is no loss
	s.Want(401, first, "GET /projects/p", "")
	s.Want(200, third, "GET /projects/p/api-keys", "")
}

func TestSecretsOfKeysAreShownOnceAndKeptNowhere(t *testing.T) {
	s := start(t, nil)
	first := project(t, s, "p")
	made := s.Want(201, first, "POST /projects/p/api-keys", `{"description":"x"}`, "Idempotency-Key: k")
	replay := s.Want(201, first, "POST /projects/p/api-keys", `{"description":"x"}`, "Idempotency-Key: k")
	if replay.JSON["api_key"] != nil || replay.Text("api_key_note") == "" || replay.Text("id") != made.Text("id") {
		t.Errorf("a replay answered %s", replay.Body)
	}
	secrets := []string{s.Root, first, made.Text("api_key")}
	if log := s.Want(200, s.Root, "GET /operations?limit=1000&all_rows=true", "").Body; containsAny(log, secrets) {
		t.Error("the log shows a secret")
	}
	s.Stop()
	err := filepath.WalkDir(s.Dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || e.Name() == "root.key" {
			return err
		}
		text, err := os.ReadFile(path)
		if containsAny(text, secrets) {
			t.Errorf("%s holds a secret", e.Name())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func containsAny(text []byte, secrets []string) bool {
	for _, secret := range secrets {
		if strings.Contains(string(text), secret) {
			return true
		}
	}
	return false
}

func TestOperationsAreFiltered(t *testing.T) {
	s := start(t, nil)
	a, b := project(t, s, "a"), project(t, s, "b")
	ops := s.Want(201, s.Root, "POST /api-keys", `{"description":"ops"}`)
	s.Want(200, a, "PATCH /projects/a", `{"name":"x"}`, "X-Request-Id: r1")
	s.Want(200, ops.Text("api_key"), "PATCH /projects/b", `{"name":"y"}`)
	s.Want(403, a, "POST /projects", `{"id":"c"}`)
	s.Want(404, a, "PATCH /projects/b", `{"name":"z"}`) // told to a, whose key it was
	s.Want(409, s.Root, "POST /projects", `{"id":"a"}`)
	s.Want(201, b, "POST /projects/b/api-keys", `{"description":"k"}`)

	all := s.Want(200, s.Root, "GET /operations", "").List("operations")
	if len(all) != 9 {
		t.Fatalf("there are %d operations: %v", len(all), all)
	}
	at := func(i int) string { return all[i]["timestamp"].(string) }
	own := all[5]["actor"].(map[string]any)["id"].(string)
	for query, want := range map[string]int{
		"project_id=a": 5, "project_id=b": 3, "project_id=c": 0, "operation=update_project": 3, "operation=update": 0,
		"status=success": 6, "status=denied": 2, "status=failed": 1, "status=in_progress": 0,
		"actor=root": 4, "actor=" + own: 3, "actor=ops": 1, "resource_type=api_key": 2, "resource_type=project": 7,
		"resource_id=b": 3, "resource_id=" + ops.Text("id"): 1, "request_id=r1": 1, "request_id=r": 0,
		"from=" + at(4): 5, "to=" + at(4): 4, "from=" + at(4) + "&to=" + at(2): 2, "to=" + at(8): 0,
		"all_rows=true": 11, "all_rows=true&status=in_progress": 2,
		"project_id=a&operation=update_project&status=denied": 1, "operation=create_project&status=failed": 1,
	} {
		if got := s.Want(200, s.Root, "GET /operations?"+query, "").List("operations"); len(got) != want {
			t.Errorf("%s finds %d operations, want %d: %v", query, len(got), want, got)
		}
	}
	if got := s.Want(200, b, "GET /projects/b/operations?operation=update_project", "").List("operations"); len(got) != 1 {
		t.Errorf("b sees %v", got)
	}
	const shown = "actor call_id details duration_ms error_message id operation project_id request_id resource_id resource_type source_ip status timestamp trace_id"
	if got := members(all[0]); got != shown {
		t.Errorf("an operation has %s", got)
	}
	for _, query := range []string{"status=done", "limit=0", "limit=1001", "from=yesterday", "colour=red", "cursor=x", "all_rows=maybe", "status=failed&status=denied"} {
		if got := s.Do(s.Root, "GET /operations?"+query, ""); got.Code() != "validation_failed" && got.Code() != "invalid_cursor" {
			t.Errorf("%s answered %d %s", query, got.Status, got.Code())
		}
	}
}

// A page does not move when rows are added: cursors go by id.
func TestOperationsArePagedWithoutGapOrRepeat(t *testing.T) {
	s := start(t, nil)
	project(t, s, "p")
	for i := range 20 {
		s.Want(200, s.Root, "PATCH /projects/p", fmt.Sprintf(`{"name":"n%d"}`, i))
	}
	for _, path := range []string{"/operations", "/projects/p/operations"} {
		whole := s.Want(200, s.Root, "GET "+path+"?limit=1000", "")
		if whole.Text("next_cursor") != "" || members(whole.JSON) != "operations" {
			t.Errorf("the last page has %s", members(whole.JSON))
		}
		var paged []any
		for cursor := ""; ; {
			page := s.Want(200, s.Root, "GET "+path+"?limit=7"+cursor, "")
			for _, row := range page.List("operations") {
				paged = append(paged, row["id"])
			}
			next := page.Text("next_cursor")
			if next == "" {
				break
			}
			cursor = "&cursor=" + next
			s.Want(200, s.Root, "PATCH /projects/p", `{"name":"meanwhile"}`)
		}
		var want []any
		for _, row := range whole.List("operations") {
			want = append(want, row["id"])
		}
		if fmt.Sprint(paged) != fmt.Sprint(want) || len(want) < 21 {
			t.Errorf("%s: the pages hold %v, want %v", path, paged, want)
		}
	}
}

func TestOneOperationShowsItsHashesToWhoMaySeeIt(t *testing.T) {
	s := start(t, nil)
	a, b := project(t, s, "a"), project(t, s, "b")
	row := s.Want(200, a, "GET /projects/a/operations", "").List("operations")[0]
	id := fmt.Sprint(int64(row["id"].(float64)))
	one := s.Want(200, a, "GET /projects/a/operations/"+id, "")
	hash := regexp.MustCompile(`^[0-9a-f]{64}$`)
	if !hash.MatchString(one.Text("hash")) || !hash.MatchString(one.Text("prev_hash")) || one.Text("call_id") != row["call_id"] {
		t.Errorf("the operation is %s", one.Body)
	}
	s.Want(200, s.Root, "GET /operations/"+id, "")
	for key, do := range map[string]string{b: "GET /projects/b/operations/" + id, a: "GET /projects/b/operations/" + id, s.Root: "GET /operations/999999"} {
		if got := s.Do(key, do, ""); got.Status != 404 || got.Code() != "not_found" {
			t.Errorf("%s answered %d %s", do, got.Status, got.Body)
		}
	}
	s.Want(403, a, "GET /operations/"+id, "")
	s.Want(422, s.Root, "GET /operations/x", "")
}

func TestVerifyWalksTheRowsThatAreAskedFor(t *testing.T) {
	s := start(t, nil)
	project(t, s, "p") // two rows
	for range 8 {
		s.Want(200, s.Root, "PATCH /projects/p", `{"name":"x"}`)
	}
	for query, want := range map[string][3]float64{ // first, last, checked
		"": {1, 10, 10}, "?from=3": {3, 10, 8}, "?from=3&to=5": {3, 5, 3}, "?to=1000": {1, 10, 10}, "?from=10&to=10": {10, 10, 1}, "?from=11": {0, 0, 0},
	} {
		a := s.Want(200, s.Root, "GET /operations/verify"+query, "")
		if got := [3]float64{a.JSON["first_id"].(float64), a.JSON["last_id"].(float64), a.JSON["checked"].(float64)}; got != want || a.JSON["verified"] != true || a.JSON["broken_at"] != nil {
			t.Errorf("verify%s: %s", query, a.Body)
		}
	}
	for _, query := range []string{"?from=5&to=4", "?from=-1", "?to=x"} {
		s.Want(422, s.Root, "GET /operations/verify"+query, "")
	}
}

func TestInitMakesAndProvesTheFolders(t *testing.T) {
	s := start(t, nil)
	for _, name := range []string{"trash", "archive"} {
		if err := os.Remove(filepath.Join(s.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	rows := []string{"init_backend in_progress", "init_backend success"}
	apptest.Run(t, s, map[string]string{"root": s.Root, "p": project(t, s, "p")}, []apptest.Case{
		{Name: "first", As: "root", Do: "POST /backend/init", Status: 200, Log: rows},
		{Name: "again, with an empty body", As: "root", Do: "POST /backend/init", Headers: []string{"Content-Type: application/json"}, Status: 200, Log: rows},
		{Name: "a project's key", As: "p", Do: "POST /backend/init", Status: 403, Code: "forbidden"},
	})
	a := s.Want(200, s.Root, "POST /backend/init", "")
	if members(a.JSON) != "message storage_paths success" || a.JSON["success"] != true || strings.Contains(string(a.Body), s.Dir) {
		t.Errorf("it answered %s", a.Body)
	}
	for _, name := range a.JSON["storage_paths"].([]any) {
		if entries, err := os.ReadDir(filepath.Join(s.Dir, name.(string))); err != nil || strings.Contains(fmt.Sprint(entries), "probe") {
			t.Errorf("%s: %v, %v", name, entries, err)
		}
	}
	archive := filepath.Join(s.Dir, "archive")
	if err := os.Remove(archive); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(archive, []byte("not a folder"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := s.Want(503, s.Root, "POST /backend/init", "")
	if refused.Code() != "storage_unavailable" || strings.Contains(string(refused.Body), s.Dir) {
		t.Errorf("a folder that is none: %s", refused.Body)
	}
}

func TestRootKeyThatIsASettingIsNotReplaced(t *testing.T) {
	s := start(t, nil)
	socket := filepath.Join(s.Dir, app.AdminSocket)
	var made struct {
		RootKey string `json:"root_key"`
	}
	if err := call(t.Context(), socket, "POST", "/admin/root-key", nil, &made); err != nil {
		t.Fatal(err)
	}
	s.Want(401, s.Root, "GET /projects", "")
	s.Want(200, made.RootKey, "GET /projects", "")
	s.Stop()

	const set = "a-root-key-that-an-operator-has-chosen"
	s = apptest.Start(t, s.Dir, options(), map[string]string{"auth.root_key": set})
	if err := call(t.Context(), socket, "POST", "/admin/root-key", nil, &made); err == nil || !strings.Contains(err.Error(), "auth.root_key") {
		t.Errorf("it was replaced, until the next start: %v", err)
	}
	s.Want(200, set, "GET /projects", "")
	s.Want(401, made.RootKey, "GET /projects", "")
}

// moody is an engine that can be made to hang, deaf to its context, or to fail.
type moody struct {
	metadata.Engine
	hangs  atomic.Pointer[chan struct{}] // until it is closed
	probes atomic.Int32                  // that hung
	fails  atomic.Bool
}

func (m *moody) Query(ctx context.Context, sql string, args ...any) (metadata.Rows, error) {
	if held := m.hangs.Load(); held != nil {
		if sql == "SELECT 1" {
			m.probes.Add(1)
		}
		<-*held
	}
	if m.fails.Load() {
		return nil, fmt.Errorf("the disk at /dev/secret is gone")
	}
	return m.Engine.Query(ctx, sql, args...)
}

func startMoody(t *testing.T) (*apptest.Server, *moody) {
	t.Helper()
	engine := &moody{}
	o := options()
	o.Engine = func(e metadata.Engine) metadata.Engine {
		engine.Engine = e
		return engine
	}
	return apptest.Start(t, t.TempDir(), o, nil), engine
}

func TestHealthHasTheFieldsOfTheContract(t *testing.T) {
	s := start(t, nil)
	about := s.Want(200, "", "GET /", "")
	if members(about.JSON) != "docs health service version" || about.Text("service") != "eider" || about.Text("version") != "test" {
		t.Errorf("GET / answered %s", about.Body)
	}
	for _, member := range []string{"health", "docs"} {
		s.Want(200, "", "GET "+about.Text(member), "")
	}
	health := s.Want(200, "", "GET /health", "")
	if members(health.JSON) != "details status storage_available version" || health.Text("status") != "healthy" || health.JSON["storage_available"] != true {
		t.Errorf("GET /health answered %s", health.Body)
	}
	details, _ := health.JSON["details"].(map[string]any)
	for name, holds := range details {
		if holds != true {
			t.Errorf("%s is %v", name, holds)
		}
	}
	if len(details) < 5 {
		t.Errorf("the details are %v", details)
	}
	s.Want(200, "", "GET /health/live", "")
	s.Want(200, "", "GET /health/ready", "")
}

func TestHealthIsDegradedWhereSomethingDoesNotHold(t *testing.T) {
	s := start(t, map[string]string{"storage.min_free": "8000000TiB"})
	health := s.Want(200, "", "GET /health", "")
	details, _ := health.JSON["details"].(map[string]any)
	if health.Text("status") != "degraded" || details["disk_space"] != false || details["accepts_writes"] != false || details["metadata"] != true {
		t.Errorf("with a full disk GET /health answered %s", health.Body)
	}
	if a := s.Want(507, s.Root, "POST /projects", `{"id":"p"}`); a.Code() != "storage_full" {
		t.Errorf("with a full disk a creation answered %s", a.Body)
	}
	s.Want(200, "", "GET /health/ready", "") // reads and deletes go on
}

// Who asks whether the server is ready gets an answer though the store hangs,
// and any number of probes leave one question waiting.
func TestReadinessAnswersWhileTheStoreHangs(t *testing.T) {
	t.Parallel() // it waits
	s, engine := startMoody(t)
	held := make(chan struct{})
	engine.hangs.Store(&held)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			a, err := s.Try("", "GET /health/ready", "")
			if err != nil || a.Status != 503 || a.Code() != "storage_unavailable" {
				t.Errorf("it answered %d %s, %v", a.Status, a.Body, err)
			}
		})
	}
	wg.Wait() // each was answered, and the store still hangs
	if n := engine.probes.Load(); n != 1 {
		t.Errorf("%d probes wait for the store", n)
	}
	s.Want(200, "", "GET /health/live", "")
	s.Want(200, "", "GET /health", "")
	engine.hangs.Store(nil)
	close(held)
	apptest.Eventually(t, "the server is ready", func() bool { return s.Do("", "GET /health/ready", "").Status == 200 })
}

func TestReadinessFailsWithTheStoreAndSaysNothingOfIt(t *testing.T) {
	s, engine := startMoody(t)
	engine.fails.Store(true)
	a := s.Want(503, "", "GET /health/ready", "")
	if a.Code() != "storage_unavailable" || strings.Contains(string(a.Body), "/dev/secret") {
		t.Errorf("it answered %s", a.Body)
	}
	s.Want(200, "", "GET /health/live", "")
	engine.fails.Store(false)
	s.Want(200, "", "GET /health/ready", "")
}

// deadly is an engine whose commits fail so that nobody knows what became of
// them, and that cannot be opened again until it is allowed to.
type deadly struct {
	metadata.Engine
	dead atomic.Bool
}

func (d *deadly) Commit(ctx context.Context, b *metadata.Batch) error {
	if d.dead.Load() {
		return fmt.Errorf("the instance is invalidated")
	}
	return d.Engine.Commit(ctx, b)
}

func (d *deadly) Dead() error {
	if d.dead.Load() {
		return fmt.Errorf("the instance is invalidated")
	}
	return d.Engine.Dead()
}

func (d *deadly) Reopen(ctx context.Context) error {
	if d.dead.Load() {
		return fmt.Errorf("the file is gone")
	}
	return d.Engine.Reopen(ctx)
}

func TestHealthIs503WhileTheStoreIsDead(t *testing.T) {
	engine, o := &deadly{}, options()
	o.Engine = func(e metadata.Engine) metadata.Engine {
		engine.Engine = e
		return engine
	}
	s := apptest.Start(t, t.TempDir(), o, nil)
	project(t, s, "p")
	engine.dead.Store(true)
	changed := make(chan int, 1)
	go func() {
		a, err := s.Try(s.Root, "PATCH /projects/p", `{"name":"x"}`)
		if err != nil {
			t.Error(err)
		}
		changed <- a.Status
	}()
	for _, path := range []string{"/health", "/health/ready"} {
		apptest.Eventually(t, path+" is 503", func() bool {
			a := s.Do("", "GET "+path, "")
			return a.Status == 503 && a.Code() == "storage_unavailable"
		})
	}
	s.Want(200, "", "GET /health/live", "")
	engine.dead.Store(false)
	if status := <-changed; status != 503 {
		t.Errorf("the change that killed it answered %d", status)
	}
	apptest.Eventually(t, "the server is healthy", func() bool { return s.Do("", "GET /health", "").Status == 200 })
	s.Want(200, "", "GET /health/ready", "")
	s.Want(200, s.Root, "PATCH /projects/p", `{"name":"y"}`)
}

func TestMetricsHaveTheFamiliesOfTheContract(t *testing.T) {
	s := start(t, nil)
	key := project(t, s, "secretname")
	s.Want(200, key, "GET /projects/secretname", "")
	s.Want(404, key, "GET /projects/other", "")
	s.Want(404, key, "GET /no/such/path", "")
	var text string
	apptest.Eventually(t, "the requests are counted", func() bool {
		a := s.Want(200, "", "GET /metrics", "")
		text = string(a.Body)
		return strings.Contains(text, `endpoint="unmatched"`)
	})
	for _, line := range []string{
		`duckdb_api_requests_total{endpoint="/projects",method="POST",status_code="201"} 1`,
		`duckdb_api_requests_total{endpoint="/projects/{id}",method="GET",status_code="200"} 1`,
		`duckdb_api_requests_total{endpoint="/projects/{id}",method="GET",status_code="404"} 1`,
		`duckdb_api_request_duration_seconds_count{endpoint="/projects/{id}",method="GET"} 2`,
		"duckdb_api_requests_in_flight 1", // this one
		"duckdb_api_up 1", "duckdb_projects_total 1", "duckdb_tables_total 0", `duckdb_storage_size_bytes{type="`,
		`eider_operations_total{operation="create_project",status="success"} 1`, `eider_metadata_group_size_bucket{le="1"} `,
	} {
		if !strings.Contains("\n"+text, "\n"+line) {
			t.Errorf("there is no line %s in:\n%s", line, ownFamilies(text))
		}
	}
	for _, type_ := range []string{"duckdb_api_requests_total counter", "duckdb_api_request_duration_seconds histogram", "duckdb_api_requests_in_flight gauge", "duckdb_api_up gauge", "duckdb_projects_total gauge", "duckdb_storage_size_bytes gauge"} {
		if !strings.Contains(text, "# TYPE "+type_+"\n") {
			t.Errorf("there is no type %s", type_)
		}
	}
	if strings.Contains(text, "secretname") || strings.Contains(text, "/no/such/path") {
		t.Error("a metric names a path")
	}
}

func ownFamilies(text string) string {
	var own []string
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "duckdb_") || strings.HasPrefix(line, "eider_") {
			own = append(own, line)
		}
	}
	return strings.Join(own, "\n")
}

// What a scrape tells of projects is in memory: it answers while the store
// hangs.
func TestScrapeAsksNoDatabase(t *testing.T) {
	s, engine := startMoody(t)
	project(t, s, "p")
	held := make(chan struct{})
	engine.hangs.Store(&held)
	defer func() {
		engine.hangs.Store(nil)
		close(held)
	}()
	if a := s.Want(200, "", "GET /metrics", ""); !strings.Contains(string(a.Body), "\nduckdb_projects_total 1\n") {
		t.Errorf("the metrics are %s", ownFamilies(string(a.Body)))
	}
}

func TestOpenAPIDocumentIsJSONAndNamesNoLocalOperation(t *testing.T) {
	s := start(t, nil)
	var document map[string]any
	if err := json.Unmarshal(s.Want(200, "", "GET /openapi.json", "").Body, &document); err != nil {
		t.Fatal(err)
	}
	paths := document["paths"].(map[string]any)
	if paths["/admin/root-key"] != nil || paths["/backend/init"] == nil || !strings.HasPrefix(document["openapi"].(string), "3.1") {
		t.Errorf("the document is of %v and has %v", document["openapi"], members(paths))
	}
}
