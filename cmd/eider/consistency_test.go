package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
)

func TestCheckNamesEveryDatabaseThatIsMissing(t *testing.T) {
	s := start(t, nil)
	for _, id := range []string{"active", "locked", "deleted", "purged", "whole"} {
		project(t, s, id)
	}
	path := func(id string) string {
		return filepath.Join(s.Dir, s.Want(200, s.Root, "GET /projects/"+id, "").Text("db_path"))
	}
	paths := []string{path("active"), path("locked"), path("deleted")}
	s.Want(200, s.Root, "PATCH /projects/locked", `{"status":"locked"}`)
	s.Want(204, s.Root, "DELETE /projects/deleted", "")
	s.Want(204, s.Root, "DELETE /projects/purged?purge=true", "")

	a := s.Want(200, s.Root, "GET /health/consistency", "")
	if members(a.JSON) != "checked_at consistent findings" || a.JSON["consistent"] != true || a.JSON["findings"] == nil || len(a.List("findings")) != 0 {
		t.Errorf("where nothing is missing it answered %s", a.Body)
	}
	for _, p := range paths {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	a = s.Want(200, s.Root, "GET /health/consistency?deep=false", "")
	var found []string
	for _, f := range a.List("findings") {
		if members(f) != "detail kind repair resource severity" || f["severity"] != "error" || f["detail"] == "" || f["repair"] == "" {
			t.Errorf("a finding is %v", f)
		}
		found = append(found, f["kind"].(string)+" "+f["resource"].(string))
	}
	if got := strings.Join(found, ", "); a.JSON["consistent"] != false ||
		got != "missing_database project:active, missing_database project:locked, missing_database project:deleted" {
		t.Errorf("found were %s", got)
	}
	if strings.Contains(string(a.Body), s.Dir) {
		t.Errorf("the answer names a path of the server: %s", a.Body)
	}
	s.Want(403, s.Want(201, s.Root, "POST /projects/whole/api-keys", `{"description":"k"}`).Text("api_key"), "GET /health/consistency", "")
}

// sticky is a module with an effect that can be neither done nor undone.
type sticky struct{}

func (sticky) Name() string { return "sticky" }

func (sticky) Declare(r *core.Registry) error {
	type plan struct{}
	fails := func(context.Context, plan) error { return errors.New("no way at /dev/secret") }
	operation.Effect(r.Operations, operation.Spec{Name: "get_stuck", Route: "POST /stuck", Role: eider.Admin, Target: "glue"},
		operation.Steps[struct{}, plan, operation.Nothing]{
			Intent: func(context.Context, *operation.Tx, struct{}) (plan, error) { return plan{}, nil },
			Claims: func(plan) []metadata.Claim { return []metadata.Claim{{Resource: "glue", Exclusive: true}} },
			Effect: fails, Undo: fails,
			Applied: func(ctx context.Context, p plan) (bool, error) { return false, fails(ctx, p) },
			Outcome: func(context.Context, *operation.Tx, plan) (operation.Nothing, error) { return operation.Nothing{}, nil },
			Revert:  func(context.Context, *operation.Tx, plan) error { return nil },
		})
	return nil
}

// A call that nobody can settle is told to health and to the check. Here nobody
// can because the version that serves does not know its operation any more.
func TestCheckNamesCallsThatCannotBeSettled(t *testing.T) {
	s := apptest.Start(t, t.TempDir(), app.Options{Modules: append(modules(), sticky{})}, nil)
	s.Want(500, s.Root, "POST /stuck", "")
	row := s.Want(200, s.Root, "GET /operations?status=in_progress", "").List("operations")[0]
	s.Stop()
	s = apptest.Start(t, s.Dir, options(), nil)
	a := s.Want(200, s.Root, "GET /health/consistency", "")
	found := a.List("findings")
	if a.JSON["consistent"] != false || len(found) != 1 || found[0]["kind"] != "stuck_operation" || found[0]["resource"] != "operation:"+row["call_id"].(string) {
		t.Errorf("it answered %s", a.Body)
	}
	if strings.Contains(string(a.Body), "/dev/secret") {
		t.Errorf("the answer says what is for the log: %s", a.Body)
	}
	health := s.Want(200, "", "GET /health", "")
	if details, _ := health.JSON["details"].(map[string]any); health.Text("status") != "degraded" || details["settled"] != false {
		t.Errorf("GET /health answered %s", health.Body)
	}
	project(t, s, "p") // one that is stuck keeps nobody else waiting
}

// Rows, folders and databases are read one after the other: what operations change
// meanwhile is no finding, however deep the check.
func TestCheckFindsNothingInWhatOperationsAreChanging(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "busy")
	var all sync.WaitGroup
	done := make(chan struct{})
	for i := range 3 {
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				id := fmt.Sprintf("p%d-%d", i, n)
				s.Want(201, s.Root, "POST /projects", `{"id":"`+id+`"}`)
				s.Want(201, s.Root, "POST /projects/"+id+"/files?name=x", "bytes", raw)
				bucket := fmt.Sprintf("b%d_%d", i, n)
				s.Want(201, key, "POST /projects/busy/buckets", `{"name":"`+bucket+`"}`)
				s.Want(201, key, "POST /projects/busy/buckets/"+bucket+"/tables", `{"name":"t","columns":[{"name":"x","type":"INTEGER"}]}`)
				s.Want(204, s.Root, "DELETE /projects/"+id+"?purge=true", "")
			}
		})
	}
	for range 12 {
		wantFindings(t, s.Want(200, s.Root, "GET /health/consistency?deep=true", ""))
	}
	close(done)
	all.Wait()
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency?deep=true", ""))
}
