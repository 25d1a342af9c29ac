package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
)

func TestTheWalkOfQueriesWorks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := apptest.Start(t, filepath.Join(dir, "data"), app.Options{Modules: modules(), Version: "test"}, nil)
	steps := stepsOf(strings.Replace(docText(t, "docs/query.md"), "http://127.0.0.1:8080", s.URL, 1))
	if len(steps) < 6 {
		t.Fatalf("the page has %d shell blocks", len(steps))
	}
	const mark = "--- the next block ---"
	script := "set -u\n"
	for _, one := range steps {
		script += one.run + "echo '" + mark + "'\n"
	}
	outputs := strings.Split(runSteps(t, dir, script), mark+"\n")
	for i, one := range steps {
		if !looksLike(one.shows, outputs[i]) {
			t.Errorf("the block\n%s\nprinted\n%s\nThe page shows\n%s", one.run, outputs[i], one.shows)
		}
	}
}
