package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/metadata"
)

// refusing is an engine that rolls back what touches a table, from the commit
// after the first few on.
type refusing struct {
	metadata.Engine

	mu    sync.Mutex
	table string // "" for none
	pass  int
}

// arm lets some more commits that touch the table pass, then none.
func (r *refusing) arm(table string, pass int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.table, r.pass = table, pass
}

func (r *refusing) Commit(ctx context.Context, batch *metadata.Batch) error {
	for _, c := range batch.Changes {
		if r.refuses(c.Table.Name) {
			return fmt.Errorf("%w: %w", metadata.ErrRolledBack, errors.New("the table cannot be written"))
		}
	}
	return r.Engine.Commit(ctx, batch)
}

func (r *refusing) refuses(table string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if table != r.table {
		return false
	}
	r.pass--
	return r.pass < 0
}

func startRefusing(t *testing.T) (*apptest.Server, *refusing) {
	t.Helper()
	r := &refusing{}
	return apptest.Start(t, t.TempDir(), app.Options{Modules: modules(), Version: "test", Engine: func(e metadata.Engine) metadata.Engine {
		r.Engine = e
		return r
	}}, nil), r
}

// state is all that the API and the folders show of projects and keys.
func state(t *testing.T, s *apptest.Server) string {
	t.Helper()
	all := []string{string(s.Want(200, s.Root, "GET /projects?status=all", "").Body), listing(t, filepath.Join(s.Dir, "duckdb"))}
	for _, p := range projectsOf(t, s) {
		if a := s.Do(s.Root, "GET /projects/"+p.ID+"/api-keys?include_revoked=true", ""); a.Status == 200 {
			all = append(all, string(a.Body))
		}
	}
	metrics := string(s.Want(200, "", "GET /metrics", "").Body)
	_, counted, _ := strings.Cut(metrics, "\nduckdb_projects_total ")
	count, _, _ := strings.Cut(counted, "\n")
	return strings.Join(append(all, count), "\n")
}

// everyChange is one request for each way to change projects and keys, on a
// server with the active projects a and b and the deleted project d. {key} is a
// second key of a.
var everyChange = []struct {
	do, body, operation, table string
	status                     int
}{
	{"POST /projects", `{"id":"new"}`, "create_project", "projects", 201},
	{"PATCH /projects/a", `{"name":"other","settings":{"n":1}}`, "update_project", "projects", 200},
	{"PATCH /projects/a", `{"status":"locked"}`, "update_project", "projects", 200},
	{"PATCH /projects/a", `{"status":"active"}`, "update_project", "projects", 200},
	{"POST /projects/a/api-keys", `{"description":"x"}`, "create_api_key", "api_keys", 201},
	{"POST /projects/a/api-keys/{key}/rotate", "", "rotate_api_key", "api_keys", 201},
	{"DELETE /projects/a/api-keys/{key}", "", "revoke_api_key", "api_keys", 204},
	{"DELETE /projects/a", "", "drop_project", "projects", 204},
	{"POST /projects/d/undelete", "", "undelete_project", "projects", 200},
	{"DELETE /projects/b?purge=true", "", "purge_project", "projects", 204},
}

// Where the row of the log cannot be written there is no change, and where the
// change cannot be, the one row says that it failed; the key of the request stays
// free for another try.
func TestChangeAndRowAreKeptTogetherOrNotAtAll(t *testing.T) {
	s, engine := startRefusing(t)
	project(t, s, "a")
	project(t, s, "b")
	project(t, s, "d")
	s.Want(204, s.Root, "DELETE /projects/d", "")
	key := s.Want(201, s.Root, "POST /projects/a/api-keys", `{"description":"second"}`).Text("id")
	for i, c := range everyChange {
		do, retry := strings.ReplaceAll(c.do, "{key}", key), fmt.Sprintf("Idempotency-Key: k%d", i)
		tables := []string{"operations_log", c.table}
		if c.operation != "create_project" && c.operation != "purge_project" { // theirs comes with the outcome
			tables = append(tables, "idempotency_keys")
		}
		for _, table := range tables {
			before, head := state(t, s), s.App.Kernel.Audit.Head().ID
			engine.arm(table, 0)
			a := s.Do(s.Root, do, c.body, retry)
			engine.arm("", 0)
			if a.Status != 503 || a.Code() != "storage_unavailable" {
				t.Errorf("%s without %s answered %d %s", do, table, a.Status, a.Body)
			}
			if after := state(t, s); after != before {
				t.Errorf("%s without %s changed\n%s\nto\n%s", do, table, before, after)
			}
			want := []string{c.operation + " failed"}
			if table == "operations_log" { // nor can the row that says so
				want = nil
			}
			if rows := s.Rows(head); !slices.Equal(rows, want) {
				t.Errorf("%s without %s left the rows %v, want %v", do, table, rows, want)
			}
		}
		head := s.App.Kernel.Audit.Head().ID
		a := s.Want(c.status, s.Root, do, c.body, retry)
		if rows := s.Rows(head); rows[len(rows)-1] != c.operation+" success" || a.Header.Get("Idempotency-Replayed") != "" {
			t.Errorf("%s: tried again it left %v", do, rows)
		}
		if c.operation == "rotate_api_key" {
			key = a.Text("id")
		}
	}
	wantSameAfterRestart(t, s)
}

// wantSameAfterRestart checks that what memory shows is what the tables hold.
func wantSameAfterRestart(t *testing.T, s *apptest.Server) {
	t.Helper()
	before := state(t, s)
	s.Stop()
	s = apptest.Start(t, s.Dir, app.Options{Modules: modules(), Version: "test"}, nil)
	if after := state(t, s); after != before {
		t.Errorf("before the restart\n%s\nafter it\n%s", before, after)
	}
	if v := s.Want(200, s.Root, "GET /operations/verify", ""); v.JSON["verified"] != true {
		t.Errorf("the chain does not hold: %s", v.Body)
	}
}

// An effect whose outcome cannot be written is done, and nobody sees it: its call
// stays unfinished and is finished once the tables can be written. The request's
// key then finds the outcome.
func TestOutcomeThatCannotBeWrittenIsWrittenLater(t *testing.T) {
	for _, c := range everyChange {
		if c.operation != "create_project" && c.operation != "purge_project" {
			continue
		}
		for table, pass := range map[string]int{"operations_log": 1, "projects": 1, "idempotency_keys": 0} {
			for _, restart := range []bool{false, true}[:1+pass] {
				t.Run(fmt.Sprintf("%s without %s, restart %v", c.operation, table, restart), func(t *testing.T) {
					t.Parallel()
					s, engine := startRefusing(t)
					project(t, s, "b")
					head := s.App.Kernel.Audit.Head().ID
					engine.arm(table, pass)
					a := s.Do(s.Root, c.do, c.body, "Idempotency-Key: k")
					if a.Status != 503 || a.Code() != "storage_unavailable" || a.Header.Get("Retry-After") == "" {
						t.Errorf("answered %d %s", a.Status, a.Body)
					}
					if again := s.Do(s.Root, c.do, c.body, "Idempotency-Key: k"); again.Code() != "idempotency_in_progress" {
						t.Errorf("sent again meanwhile it answered %d %s", again.Status, again.Body)
					}
					s.Want(404, s.Root, "GET /projects/new", "")
					if restart {
						s.Stop()
						s = apptest.Start(t, s.Dir, app.Options{Modules: modules(), Version: "test"}, nil)
					}
					engine.arm("", 0)
					apptest.Eventually(t, "the call is settled", func() bool { return len(s.App.Kernel.Audit.Unfinished()) == 0 })
					if again := s.Want(c.status, s.Root, c.do, c.body, "Idempotency-Key: k"); again.Header.Get("Idempotency-Replayed") != "true" {
						t.Error("sent again afterwards it was done twice")
					}
					rows := strings.Join(s.Rows(head), ",")
					if strings.Count(rows, "in_progress") != 1 || strings.Count(rows, "success") != 1 || !strings.HasSuffix(rows, "success") {
						t.Errorf("the log has %s", rows)
					}
					wantSameAfterRestart(t, s)
				})
			}
		}
	}
}
