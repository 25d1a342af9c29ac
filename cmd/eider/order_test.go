package main

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/disk"
)

var updateOrder = flag.Bool("update-order", false, "write the orders of steps anew")

// anyName finds what differs from run to run in paths.
var anyName = []struct {
	what *regexp.Regexp
	name string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`), "<id>"},
	{regexp.MustCompile(`[0-9]{8}T[0-9]{6}\.[0-9]{3}-[0-9a-f]+`), "<backup>"},
	{regexp.MustCompile(`project_p\.[0-9a-f]{8}`), "project_p.<uid>"},
	{regexp.MustCompile(`/[0-9a-f]{2}(/|$|\s)`), "/<xx>$1"},
}

// described waits until each file of the project has its sidecar.
func described(t *testing.T, s *apptest.Server, key string) {
	t.Helper()
	for _, f := range s.Want(200, key, "GET /projects/p/files", "").List("files") {
		path := filepath.Join(s.Dir, "files", f["path"].(string)+".json")
		apptest.Eventually(t, "the file is described", func() bool {
			text, err := os.ReadFile(path)
			return err == nil && strings.Contains(string(text), "log_id")
		})
	}
}

// The order in which bytes, names and folders are made durable is what a crash
// leaves: it is written down for what is acknowledged, and changes on purpose only.
func TestOrderOfDurableSteps(t *testing.T) {
	t.Parallel()
	rec := &recorder{}
	s := apptest.Start(t, t.TempDir(), app.Options{Modules: modules(), Version: "test", Files: &disk.FS{Hook: rec.hook}}, nil)
	key := project(t, s, "p")
	s.Want(201, key, "POST /projects/p/buckets", `{"name":"b"}`)
	s.Want(201, key, "POST /projects/p/buckets/b/tables", `{"name":"t","columns":[{"name":"n","type":"BIGINT"}]}`)
	file := ""
	for _, c := range []struct {
		name, below string
		do          func()
	}{
		{"upload", "/files/", func() { file, _ = stored(t, s, key, "p", "rows.csv", "n\n1\n2\n3\n") }},
		{"import", "/in/import", func() {
			s.Want(200, key, "POST /projects/p/buckets/b/tables/t/import/file", `{"file_id":"`+file+`","format":"csv"}`)
		}},
		{"export", "/out/export", func() { s.Want(200, key, "POST /projects/p/buckets/b/tables/t/export", `{"format":"csv"}`) }},
		{"delete_file", "/files/", func() { s.Want(204, key, "DELETE /projects/p/files/"+file, "") }},
		{"backup", "/backups/", func() { s.Want(201, s.Root, "POST /admin/backups", "") }},
	} {
		described(t, s, key)
		rec.record(c.below)
		c.do()
		// The follower that describes files is late as it likes.
		steps := slices.DeleteFunc(rec.recorded(), func(step string) bool { return strings.Contains(step, ".json"+disk.NewSuffix) })
		for len(steps) > 0 && strings.HasPrefix(steps[0], "syncdir ") { // its last step: nothing here begins so
			steps = steps[1:]
		}
		got := strings.ReplaceAll(strings.Join(slices.Compact(steps), "\n")+"\n", s.Dir+"/", "")
		for _, n := range anyName {
			got = n.what.ReplaceAllString(got, n.name)
		}
		path := filepath.Join("testdata", "order", c.name+".golden")
		if *updateOrder {
			mustDo(t, os.MkdirAll(filepath.Dir(path), 0o755))
			mustDo(t, os.WriteFile(path, []byte(got), 0o644))
			continue
		}
		want, err := os.ReadFile(path)
		mustDo(t, err)
		if got != string(want) {
			t.Errorf("%s: the steps are\n%snot\n%s", c.name, got, want)
		}
	}
}
