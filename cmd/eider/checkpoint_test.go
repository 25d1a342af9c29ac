package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A rollback is refused where the head file is gone as well; where the signing key
// is gone, nothing proves it, and health says that.
func TestRollbackIsNotHiddenByALostHeadOrKey(t *testing.T) {
	s := start(t, nil)
	project(t, s, "p")
	s.Stop()
	old := copyFolder(t, s.Dir)
	s, err := startHere(t, s.Dir)
	mustDo(t, err)
	project(t, s, "q")
	if a := s.Want(200, "", "GET /health", ""); a.JSON["details"].(map[string]any)["checkpoint"] != true {
		t.Errorf("a sound log is not proven: %s", a.Body)
	}
	s.Stop()
	text, err := os.ReadFile(filepath.Join(old, "metadata.duckdb"))
	mustDo(t, err)
	mustDo(t, os.WriteFile(filepath.Join(s.Dir, "metadata.duckdb"), text, 0o600))
	mustDo(t, os.RemoveAll(filepath.Join(s.Dir, walName)))
	mustDo(t, os.Remove(filepath.Join(s.Dir, "audit", "head")))
	before := contents(t, s.Dir)
	if _, err := startHere(t, s.Dir); exitCode(err) != 10 {
		t.Errorf("without the head file it ended with %d: %v", exitCode(err), err)
	}
	if what := changed(before, contents(t, s.Dir)); what != nil {
		t.Errorf("it changed: %v", what)
	}
	mustDo(t, os.Remove(filepath.Join(s.Dir, "audit", "signing.key")))
	s, err = startHere(t, s.Dir)
	mustDo(t, err)
	defer s.Stop()
	if a := s.Want(200, "", "GET /health", ""); a.Text("status") != "degraded" || a.JSON["details"].(map[string]any)["checkpoint"] != false {
		t.Errorf("without the signing key it is %s", a.Body)
	}
}

// A command that finds no checkpoint signs new ones: it says so itself, and the next
// server does all the same, once.
func TestCommandDoesNotHideThatTheCheckpointsAreLost(t *testing.T) {
	for name, lost := range map[string][]string{"checkpoints": {"head", "checkpoints.ndjson"}, "key": {"signing.key"}} {
		dir := filepath.Join(t.TempDir(), "d")
		s, err := startHere(t, dir)
		mustDo(t, err)
		project(t, s, "p")
		head := s.App.Kernel.Audit.Head().ID
		s.Stop()
		change(t, dir, fmt.Sprintf(`DELETE FROM operations_log WHERE id > %d`, head-1))
		for _, file := range lost {
			mustDo(t, os.Remove(filepath.Join(dir, "audit", file)))
		}
		for _, do := range []string{"check", "audit verify"} {
			r := runEider(t, append(strings.Fields(do), "--data-dir", dir)...)
			if r.code != 0 || !strings.Contains(r.message, "warning: there was no checkpoint") {
				t.Errorf("%s lost, %s: it ended with %d: %s", name, do, r.code, r.message)
			}
		}
		for _, told := range []bool{true, false} {
			s, err = startHere(t, dir)
			mustDo(t, err)
			health := s.Want(200, "", "GET /health", "").JSON["details"].(map[string]any)
			v := s.Want(200, s.Root, "GET /operations/verify", "").JSON
			if health["checkpoint"] == told || (v["unproven"] == true) != told || v["checkpoints"].(float64) < 1 {
				t.Errorf("%s lost, to be told %v: health is %v, a verification %v", name, told, health, v)
			}
			s.Stop()
		}
	}
}
