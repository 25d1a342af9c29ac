package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/policy"
)

func TestRolesAreEnforcedOnEveryRoute(t *testing.T) {
	s := start(t, nil)
	a := project(t, s, "a")
	b := project(t, s, "b")
	read := s.Want(201, a, "POST /projects/a/api-keys", `{"description":"r","scope":"project_read"}`).Text("api_key")
	write := s.Want(201, a, "POST /projects/a/api-keys", `{"description":"w","scope":"project_write"}`).Text("api_key")
	keys := map[string]string{"admin": s.Root, "a": a, "b": b, "read": read, "write": write, "wrong": a[:len(a)-1] + "x"}
	apptest.Run(t, s, keys, []apptest.Case{
		{Name: "no key", Do: "GET /projects", Status: 401, Code: "unauthorized", Log: []string{"list_projects denied"}},
		{Name: "wrong key", As: "wrong", Do: "GET /projects/a", Status: 401, Code: "unauthorized"},
		{Name: "wrong key on another's", As: "wrong", Do: "DELETE /projects/b", Status: 401, Code: "unauthorized"},
		{Name: "wrong key on a strange id", As: "wrong", Do: "GET /projects/%2e%2e", Status: 401, Code: "unauthorized"},
		{Name: "project key on the server", As: "a", Do: "GET /projects", Status: 403, Code: "forbidden", Log: []string{"list_projects denied"}},
		{Name: "project key makes a project", As: "a", Do: "POST /projects", Body: `{"id":"c"}`, Status: 403, Code: "forbidden", Log: []string{"create_project denied"}},
		{Name: "own project", As: "a", Do: "GET /projects/a", Status: 200},
		{Name: "another's project", As: "a", Do: "GET /projects/b", Status: 404, Code: "not_found", Log: []string{"get_project denied"}},
		{Name: "another's keys", As: "a", Do: "GET /projects/b/api-keys", Status: 404, Code: "not_found"},
		{Name: "another's stats", As: "a", Do: "GET /projects/b/stats", Status: 404, Code: "not_found"},
		{Name: "another's trail", As: "a", Do: "GET /projects/b/operations", Status: 404, Code: "not_found"},
		{Name: "no project at all looks the same", As: "a", Do: "GET /projects/zzz", Status: 404, Code: "not_found"},
		{Name: "read key reads", As: "read", Do: "GET /projects/a/stats", Status: 200},
		{Name: "read key changes", As: "read", Do: "PATCH /projects/a", Body: `{"name":"x"}`, Status: 403, Code: "forbidden", Log: []string{"update_project denied"}},
		{Name: "read key deletes", As: "read", Do: "DELETE /projects/a", Status: 403, Code: "forbidden"},
		{Name: "read key sees keys", As: "read", Do: "GET /projects/a/api-keys", Status: 403, Code: "forbidden"},
		{Name: "write key changes the project", As: "write", Do: "PATCH /projects/a", Body: `{"name":"x"}`, Status: 403, Code: "forbidden"},
		{Name: "project admin locks", As: "a", Do: "PATCH /projects/a", Body: `{"status":"locked"}`, Status: 403, Code: "forbidden"},
		{Name: "project admin renames", As: "a", Do: "PATCH /projects/a", Body: `{"name":"x"}`, Status: 200},
		{Name: "project admin purges", As: "a", Do: "DELETE /projects/a?purge=true", Status: 403, Code: "forbidden"},
		{Name: "project admin on server keys", As: "a", Do: "GET /api-keys", Status: 403, Code: "forbidden"},
		{Name: "root key over HTTP is not local", As: "admin", Do: "POST /admin/root-key", Status: 403, Code: "forbidden"},
		{Name: "routes without auth ignore the header", As: "wrong", Do: "GET /health", Status: 200},
	})
	if rows := s.Want(200, a, "GET /projects/a/operations?status=denied&limit=100", "").List("operations"); len(rows) < 5 {
		t.Errorf("project a sees %d denied rows of its keys, want those at b's door too", len(rows))
	}
}

func TestKeysLive(t *testing.T) {
	s := start(t, nil)
	first := project(t, s, "p")
	firstID := s.Want(200, first, "GET /projects/p/api-keys", "").List("api_keys")[0]["id"].(string)
	made := s.Want(201, first, "POST /projects/p/api-keys", `{"description":"ci","expires_in_days":30}`)
	id, secret := made.Text("id"), made.Text("api_key")
	if made.Text("scope") != "project_admin" || made.Text("expires_at") == "" || !strings.HasPrefix(secret, made.Text("key_prefix")) {
		t.Errorf("the key came as %s", made.Body)
	}
	apptest.Run(t, s, map[string]string{"first": first, "ci": secret}, []apptest.Case{
		{Name: "get", As: "ci", Do: "GET /projects/p/api-keys/" + id, Status: 200},
		{Name: "get unknown", As: "ci", Do: "GET /projects/p/api-keys/nope", Status: 404, Code: "api_key_not_found"},
		{Name: "no description", As: "ci", Do: "POST /projects/p/api-keys", Body: `{}`, Status: 422, Code: "validation_failed"},
		{Name: "bad scope", As: "ci", Do: "POST /projects/p/api-keys", Body: `{"description":"x","scope":"admin"}`, Status: 422, Code: "validation_failed"},
		{Name: "too long", As: "ci", Do: "POST /projects/p/api-keys", Body: `{"description":"x","expires_in_days":366}`, Status: 422, Code: "validation_failed"},
		{Name: "revoke", As: "first", Do: "DELETE /projects/p/api-keys/" + id, Status: 204, Log: []string{"revoke_api_key success"}},
		{Name: "revoked", As: "ci", Do: "GET /projects/p", Status: 401, Code: "unauthorized"},
		{Name: "rotate revoked", As: "first", Do: "POST /projects/p/api-keys/" + id + "/rotate", Status: 400, Code: "cannot_rotate_revoked_key"},
		{Name: "revoke the last admin key", As: "first", Do: "DELETE /projects/p/api-keys/" + firstID, Status: 400, Code: "cannot_revoke_last_admin_key"},
	})
	rotated := s.Want(201, first, "POST /projects/p/api-keys/"+firstID+"/rotate", `{"grace_seconds":60}`).Text("api_key")
	s.Want(200, first, "GET /projects/p", "")
	s.Want(200, rotated, "GET /projects/p", "")
	again := s.Want(201, rotated, "POST /projects/p/api-keys/"+firstID+"/rotate", "", "Content-Type: application/json").Text("api_key")
	s.Want(401, first, "GET /projects/p", "")
	s.Want(200, again, "GET /projects/p", "")

	server := s.Want(201, s.Root, "POST /api-keys", `{"description":"ops"}`)
	s.Want(200, server.Text("api_key"), "GET /projects", "")
	s.Want(404, s.Root, "GET /projects/p/api-keys/"+server.Text("id"), "")
	s.Want(204, s.Root, "DELETE /api-keys/"+server.Text("id"), "")
	s.Want(401, server.Text("api_key"), "GET /projects", "")
}

func TestOfTwoAdminKeysRevokedAtOnceOneStays(t *testing.T) {
	s := start(t, nil)
	for round := range 10 {
		id := fmt.Sprintf("p%d", round)
		first := project(t, s, id)
		s.Want(201, first, "POST /projects/"+id+"/api-keys", `{"description":"second"}`)
		var wg sync.WaitGroup
		var refused atomic.Int32
		for _, key := range s.Want(200, first, "GET /projects/"+id+"/api-keys", "").List("api_keys") {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if a, err := s.Try(s.Root, "DELETE /projects/"+id+"/api-keys/"+key["id"].(string), ""); err == nil && a.Status == 400 {
					refused.Add(1)
				}
			}()
		}
		wg.Wait()
		if refused.Load() != 1 {
			t.Fatalf("%d of two revocations were refused, want 1", refused.Load())
		}
	}
}

func TestIdempotencyKeysAnswerOnce(t *testing.T) {
	s := start(t, nil)
	const header = "Idempotency-Key: k1"
	first := s.Want(201, s.Root, "POST /projects", `{"id":"p"}`, header)
	second := s.Want(201, s.Root, "POST /projects", `{"id":"p"}`, header)
	if second.Header.Get("Idempotency-Replayed") != "true" || second.Header.Get("X-Idempotency-Replay") != "true" {
		t.Error("the replay is not marked")
	}
	if second.JSON["uid"] != first.JSON["uid"] || second.JSON["api_key"] != nil || second.Text("api_key_note") == "" {
		t.Errorf("the replay is %s", second.Body)
	}
	if a := s.Want(409, s.Root, "POST /projects", `{"id":"q"}`, header); a.Code() != "idempotency_conflict" {
		t.Errorf("another body: %s", a.Code())
	}
	if a := s.Want(409, s.Root, "PATCH /projects/p", `{"name":"x"}`, header); a.Code() != "idempotency_conflict" {
		t.Errorf("another route: %s", a.Code())
	}
	own := first.Text("api_key")
	s.Want(200, own, "PATCH /projects/p", `{"name":"own"}`, header) // another credential, another key
	s.Want(409, s.Root, "POST /projects", `{"id":"p"}`, "X-Idempotency-Key: k2")
	replayed := s.Want(409, s.Root, "POST /projects", `{"id":"p"}`, "X-Idempotency-Key: k2")
	if replayed.Header.Get("Idempotency-Replayed") != "true" || replayed.Code() != "project_exists" {
		t.Errorf("a refusal of the handler is replayed as %s", replayed.Body)
	}
	s.Want(200, s.Root, "PATCH /projects/p", `{"status":"locked"}`)
	s.Want(423, s.Root, "PATCH /projects/p", `{"name":"x"}`, "Idempotency-Key: k3")
	s.Want(200, s.Root, "PATCH /projects/p", `{"status":"active"}`)
	s.Want(200, s.Root, "PATCH /projects/p", `{"name":"x"}`, "Idempotency-Key: k3") // 423 was not kept
	s.Want(204, s.Root, "DELETE /projects/p", "", "Idempotency-Key: k4")
	s.Want(204, s.Root, "DELETE /projects/p", "", "Idempotency-Key: k4")
	s.Want(404, s.Root, "DELETE /projects/p", "", "Idempotency-Key: k5")
	s.Want(422, s.Root, "DELETE /projects/p", "", "Idempotency-Key: "+strings.Repeat("k", 256))
	for id, want := range map[string]int{"create_project": 1, "drop_project": 1} {
		if rows := s.Want(200, s.Root, "GET /operations?status=success&operation="+id, "").List("operations"); len(rows) != want {
			t.Errorf("%s succeeded %d times", id, len(rows))
		}
	}
}

func TestConcurrentRequestsWithOneIdempotencyKeyRunOnce(t *testing.T) {
	s := start(t, nil)
	var wg sync.WaitGroup
	var created, busy, other atomic.Int32
	for range 24 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			a, err := s.Try(s.Root, "POST /projects", `{"id":"p"}`, "Idempotency-Key: same")
			switch {
			case err == nil && a.Status == 201:
				created.Add(1)
			case err == nil && a.Code() == "idempotency_in_progress" && a.Header.Get("Retry-After") != "":
				busy.Add(1)
			default:
				other.Add(1)
			}
		}()
	}
	wg.Wait()
	if created.Load() == 0 || other.Load() != 0 {
		t.Fatalf("created or replayed %d, in progress %d, other %d", created.Load(), busy.Load(), other.Load())
	}
	if rows := s.Want(200, s.Root, "GET /operations?operation=create_project&status=success", "").List("operations"); len(rows) != 1 {
		t.Fatalf("%d calls succeeded", len(rows))
	}
}

// brokenLog fails commits that hold rows of the log, as a log insert that fails
// would.
type brokenLog struct {
	metadata.Engine
	broken atomic.Bool
}

func (b *brokenLog) Commit(ctx context.Context, batch *metadata.Batch) error {
	for _, c := range batch.Changes {
		if c.Table.Name == "operations_log" && b.broken.Load() {
			return fmt.Errorf("%w: %w", metadata.ErrRolledBack, errors.New("the log is broken"))
		}
	}
	return b.Engine.Commit(ctx, batch)
}

func TestChangeAndLogRowCommitTogether(t *testing.T) {
	engine := &brokenLog{}
	s := apptest.Start(t, t.TempDir(), app.Options{Modules: modules(), Engine: func(e metadata.Engine) metadata.Engine {
		engine.Engine = e
		return engine
	}}, nil)
	project(t, s, "p")
	engine.broken.Store(true)
	if a := s.Do(s.Root, "PATCH /projects/p", `{"name":"never"}`); a.Status != 503 || a.Code() != "storage_unavailable" {
		t.Errorf("a change whose row cannot be written answered %d %s", a.Status, a.Body)
	}
	s.Want(503, s.Root, "POST /projects", `{"id":"q"}`)
	engine.broken.Store(false)
	if name := s.Want(200, s.Root, "GET /projects/p", "").Text("name"); name != "p" {
		t.Errorf("the change was kept without its row: %q", name)
	}
	s.Want(404, s.Root, "GET /projects/q", "")
	before := s.App.Kernel.Audit.Head().ID
	s.Want(409, s.Root, "POST /projects", `{"id":"p"}`)
	if rows := s.Rows(before); strings.Join(rows, ",") != "create_project failed" {
		t.Errorf("a change that is refused leaves %v", rows)
	}
	if v := s.Want(200, s.Root, "GET /operations/verify", ""); v.JSON["verified"] != true {
		t.Errorf("the chain: %s", v.Body)
	}
}

// quota is a native policy: at most so many projects on the server.
type quota struct{ projects int64 }

func (q quota) Decide(_ context.Context, question *policy.Question) (policy.Decision, error) {
	if question.ServerUsage.Projects > q.projects {
		return policy.Decision{Deny: true, Code: "quota_exceeded", Reason: fmt.Sprintf("at most %d projects", q.projects)}, nil
	}
	return policy.Decision{}, nil
}

type broken struct{}

func (broken) Decide(context.Context, *policy.Question) (policy.Decision, error) {
	return policy.Decision{}, errors.New("out of order")
}

func TestQuotaHoldsAgainstConcurrentCreates(t *testing.T) {
	s := apptest.Start(t, t.TempDir(), app.Options{Modules: modules(), Policies: []policy.Item{
		{Name: "quota", Policy: quota{10}, Mode: policy.Enforce, Operations: []string{"create_project"}},
		{Name: "dry", Policy: broken{}, Mode: policy.DryRun},
	}}, nil)
	var wg sync.WaitGroup
	var created, refused atomic.Int32
	for i := range 40 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			a, err := s.Try(s.Root, "POST /projects", fmt.Sprintf(`{"id":"p%d"}`, i))
			switch {
			case err == nil && a.Status == 201:
				created.Add(1)
			case err == nil && a.Status == 507 && a.Text("plugin") == "quota" && a.Text("decision_id") != "":
				refused.Add(1)
			}
		}()
	}
	wg.Wait()
	if created.Load() != 10 || refused.Load() != 30 {
		t.Fatalf("%d created, %d refused, want 10 and 30", created.Load(), refused.Load())
	}
	row := s.Want(200, s.Root, "GET /operations?status=denied&limit=1", "").List("operations")[0]
	if d, _ := row["decision"].(map[string]any); d["plugin"] != "quota" || d["reason"] != "at most 10 projects" {
		t.Errorf("the row's decision is %v", row["decision"])
	}
	s.Want(204, s.Root, "DELETE /projects/"+anyProject(s)+"?purge=true", "")
	s.Want(201, s.Root, "POST /projects", `{"id":"again"}`) // nothing leaked
	s.Want(507, s.Root, "POST /projects", `{"id":"toomany"}`)
}

func anyProject(s *apptest.Server) string {
	a := s.Do(s.Root, "GET /projects?limit=1", "")
	return a.List("projects")[0]["id"].(string)
}

func TestPolicyThatCannotDecideDeniesUnlessItFailsOpen(t *testing.T) {
	for _, c := range []struct {
		item   policy.Item
		status int
	}{
		{policy.Item{Mode: policy.Enforce}, 403}, {policy.Item{Mode: policy.Enforce, FailOpen: true}, 201},
		{policy.Item{Mode: policy.Warn}, 201}, {policy.Item{Mode: policy.DryRun}, 201}, {policy.Item{Mode: policy.Off}, 201},
		{policy.Item{Mode: policy.Enforce, Projects: []string{"other*"}}, 201},
	} {
		c.item.Name, c.item.Policy = "p", broken{}
		s := apptest.Start(t, t.TempDir(), app.Options{Modules: modules(), Policies: []policy.Item{c.item}}, nil)
		if a := s.Do(s.Root, "POST /projects", `{"id":"p"}`); a.Status != c.status {
			t.Errorf("%+v: %d %s", c.item, a.Status, a.Body)
		}
		s.Stop()
	}
}

func TestEqualRefusalsAreCoalesced(t *testing.T) {
	s := start(t, nil)
	for range 30 {
		s.Want(401, "wrong", "GET /projects", "")
		s.Want(409, s.Root, "POST /projects", `{"id":"`+existing(s)+`"}`)
	}
	count := map[string]int{}
	for _, row := range s.Rows(0) {
		count[row]++
	}
	if count["list_projects denied"] != 1 || count["create_project failed"] != 10 {
		t.Errorf("60 refusals left %v", count)
	}
	s.Stop()
	s = apptest.Start(t, s.Dir, app.Options{Modules: modules()}, nil)
	counted := 0.0
	for _, row := range s.Want(200, s.Root, "GET /operations?limit=1000", "").List("operations") {
		if n, ok := row["count"].(float64); ok {
			counted += n
		}
	}
	if counted != 29+20 {
		t.Errorf("rows stand for %v refusals, want 49", counted)
	}
}

func existing(s *apptest.Server) string {
	s.Do(s.Root, "POST /projects", `{"id":"there"}`, "Idempotency-Key: make")
	return "there"
}
