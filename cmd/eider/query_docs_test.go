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
	walk(t, dir, strings.Replace(docText(t, "docs/query.md"), "http://127.0.0.1:8080", s.URL, 1), 6)
}
