package main

import (
	"os"
	"path/filepath"
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
