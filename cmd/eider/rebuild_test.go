package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/telemetry"
)

// register returns all projects and files as the API shows them, by id. Sizes of
// databases are left out: folding a log changes them.
func register(s *apptest.Server, ids []string) map[string]map[string]any {
	all := map[string]map[string]any{}
	for _, id := range ids {
		p := s.Want(200, s.Root, "GET /projects/"+id, "").JSON
		delete(p, "size_bytes")
		all["project "+id] = p
		if p["status"] == "deleted" {
			continue
		}
		for _, f := range s.Want(200, s.Root, "GET /projects/"+id+"/files?include_staged=true&limit=1000", "").List("files") {
			all["file "+f["id"].(string)] = f
		}
	}
	return all
}

func rebuild(t *testing.T, dir string) app.Rebuilt {
	t.Helper()
	a, err := (&flags{dataDir: dir}).load(app.Options{Telemetry: telemetry.Discard()})
	if err != nil {
		t.Fatal(err)
	}
	a.Settings.HTTP.Listen = "127.0.0.1:0"
	done, err := a.Rebuild(t.Context(), false, func(string, int, int) {})
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// Without its metadata a server gets every project and every file back from the
// folders, row by row as they were. EIDER_TEST_REBUILD=1000 makes it 1,000 projects
// and ten files for each.
func TestRebuildBringsBackEveryProjectAndFile(t *testing.T) {
	projects := 30
	if n, err := strconv.Atoi(os.Getenv("EIDER_TEST_REBUILD")); err == nil {
		projects = n
		mustDo(t, os.Unsetenv("EIDER_TEST_REBUILD")) // it is no setting
	}
	s := start(t, nil)
	ids, next := []string{}, make(chan string)
	var makers sync.WaitGroup
	for range 4 {
		makers.Go(func() {
			for id := range next {
				s.Want(201, s.Root, "POST /projects", fmt.Sprintf(`{"id":%q,"name":"Project %s","settings":{"n":%q}}`, id, id, id))
				for n := range 10 {
					s.Want(201, s.Root, fmt.Sprintf("POST /projects/%s/files?name=f%d&tag=n:%d", id, n, n), "content of "+id+strconv.Itoa(n), "Content-Type: text/csv")
				}
			}
		})
	}
	for n := range projects {
		ids = append(ids, fmt.Sprintf("p%d", n))
		next <- ids[n]
	}
	close(next)
	makers.Wait()
	s.Want(201, s.Root, "POST /projects/p0/buckets", `{"name":"b"}`)
	s.Want(201, s.Root, "POST /projects/p0/buckets/b/tables", `{"name":"t","columns":[{"name":"n","type":"BIGINT"}]}`)
	staged := s.Want(200, s.Root, "POST /projects/p0/files/prepare", `{"filename":"staged","tags":{"k":"v"}}`)
	s.Want(200, s.Root, "PUT "+staged.Text("upload_url"), "staged bytes", "Content-Type: application/octet-stream")
	half := s.Want(200, s.Root, "POST /projects/p0/files/prepare", `{"filename":"half","size_bytes":10,"tags":{"k":"half"}}`)
	s.Want(200, s.Root, "PUT "+half.Text("upload_url"), "01234", "Content-Range: bytes 0-4/10")
	s.Want(200, s.Root, "POST /projects/p0/files/prepare", `{"filename":"announced alone, which no folder tells","expires_in_seconds":60}`)
	s.Want(200, s.Root, "PATCH /projects/p1", `{"status":"locked","lock_reason":"audit"}`)
	s.Want(204, s.Root, "DELETE /projects/p2", "")
	was := register(s, ids)
	for what, one := range was {
		if one["name"] == "announced alone, which no folder tells" {
			delete(was, what)
		}
	}
	s.Stop()

	for _, name := range []string{"metadata.duckdb", "metadata.duckdb.wal"} {
		remove(t, filepath.Join(s.Dir, name))
	}
	// An upload that was sent again, whose first bytes nobody had time to remove.
	var older []string
	for _, f := range was {
		if f["name"] == "staged" {
			path := filepath.Join(s.Dir, "files", f["path"].(string))
			for _, suffix := range []string{"", ".json"} {
				text, err := os.ReadFile(path + suffix)
				mustDo(t, err)
				older = append(older, filepath.Join(filepath.Dir(path), "00"+filepath.Base(path)[2:]+suffix))
				overwrite(t, older[len(older)-1], strings.Replace(string(text), `"name":"staged"`, `"name":"older"`, 1))
			}
		}
	}
	began := time.Now()
	done := rebuild(t, s.Dir)
	for _, path := range older {
		remove(t, path)
	}
	t.Logf("%d projects and %d files were brought back in %v", done.Counts["projects"], done.Counts["files"], time.Since(began))
	if len(done.Lost) > 0 || done.Counts["projects"] != projects || done.Counts["files"] != 10*projects || done.Counts["uploads"] != 2 || done.LogID == 0 {
		t.Errorf("the rebuild says %+v", done)
	}
	s2 := apptest.Start(t, s.Dir, options(), nil)
	if s2.Root == s.Root {
		t.Error("the root key is the old one")
	}
	is := register(s2, ids)
	for what, before := range was {
		if !reflect.DeepEqual(before, is[what]) {
			t.Errorf("%s was\n%v\nand is\n%v", what, before, is[what])
		}
	}
	if len(is) != len(was) {
		t.Errorf("there were %d things and are %d", len(was), len(is))
	}
	// The upload that was not whole goes on where it was.
	if at := s2.Want(200, s2.Root, "HEAD "+half.Text("upload_url"), ""); at.Header.Get("Upload-Offset") != "5" {
		t.Errorf("the unfinished upload stands at %s", at.Header.Get("Upload-Offset"))
	}
	s2.Want(200, s2.Root, "PUT "+half.Text("upload_url"), "56789", "Content-Range: bytes 5-9/10")
	file := s2.Want(201, s2.Root, "POST /projects/p0/files", fmt.Sprintf(`{"upload_key":%q}`, half.Text("upload_key")))
	if got := s2.Want(200, s2.Root, "GET /projects/p0/files/"+file.Text("id")+"/download", ""); string(got.Body) != "0123456789" {
		t.Errorf("the upload that went on has %q", got.Body)
	}
	deep := strconv.FormatBool(projects <= 100) // opening more takes longer than a client of the tests waits
	wantFindings(t, s2.Want(200, s2.Root, "GET /health/consistency?deep="+deep, ""))
	if v := s2.Want(200, s2.Root, "GET /operations/verify", ""); v.JSON["verified"] != true {
		t.Errorf("the chain does not hold: %s", v.Body)
	}
}

// A folder whose rebuild is not finished is opened by nothing but a rebuild, which
// goes on; one that has its metadata is rebuilt, too, and keeps the old one.
func TestRebuildThatWasCutShortGoesOn(t *testing.T) {
	s := start(t, nil)
	key := project(t, s, "p")
	stored(t, s, key, "p", "f", "bytes")
	s.Stop()
	overwrite(t, filepath.Join(s.Dir, ".rebuild.json"), `{"epoch":7,"original_kept_as":"lost+found/metadata-before"}`)
	if _, err := apptest.TryStart(t, s.Dir, options(), nil); err == nil || !strings.Contains(err.Error(), "eider rebuild") {
		t.Fatalf("it started, or said %v", err)
	}
	done := rebuild(t, s.Dir)
	if done.Epoch != 7 || done.Counts["projects"] != 1 || done.Counts["files"] != 1 {
		t.Errorf("the rebuild says %+v", done)
	}
	if _, err := os.Stat(filepath.Join(s.Dir, "lost+found/metadata-before/metadata.duckdb")); err != nil {
		t.Error(err)
	}
	// As if it had been killed right before its end: nothing comes twice.
	overwrite(t, filepath.Join(s.Dir, ".rebuild.json"), `{"epoch":7,"original_kept_as":"lost+found/metadata-before","aside":true}`)
	if done := rebuild(t, s.Dir); done.Counts["projects"] != 0 || done.Counts["files"] != 0 || len(done.Lost) > 0 {
		t.Errorf("the second try says %+v", done)
	}
	s = apptest.Start(t, s.Dir, options(), nil)
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency?deep=true", ""))
	if e := s.App.Kernel.Audit.EpochAt(1); e != 7 {
		t.Errorf("the first row is in epoch %d", e)
	}
	s.Stop()

	// A cursor of a log that was longer waits for ids that are given out again.
	change(t, s.Dir, `INSERT INTO sink_cursors VALUES ('plugin:siem', 9999, now())`)
	s = apptest.Start(t, s.Dir, options(), nil)
	row := s.Want(200, s.Root, "GET /operations?operation=reset_cursor", "").List("operations")
	if len(row) != 1 || row[0]["resource_id"] != "plugin:siem" || fmt.Sprint(row[0]["details"].(map[string]any)["was"]) != "9999" {
		t.Errorf("the rows are %v", row)
	}
}

// Killed at whatever moment, again and again, a rebuild goes on, and ends with what
// one that was left alone makes.
func TestKilledRebuildGoesOn(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	ids := []string{}
	for n := range 12 {
		ids = append(ids, fmt.Sprintf("p%d", n))
		key := project(t, s, ids[n])
		for f := range 3 {
			stored(t, s, key, ids[n], fmt.Sprintf("f%d", f), "bytes of "+ids[n])
		}
	}
	was := register(s, ids)
	s.Stop()
	for _, name := range []string{"metadata.duckdb", "metadata.duckdb.wal"} {
		remove(t, filepath.Join(s.Dir, name))
	}
	exe, err := os.Executable()
	mustDo(t, err)
	for round, whole := 0, false; !whole; round++ {
		c := exec.Command(exe, "rebuild", "--data-dir", s.Dir)
		c.Env = append(os.Environ(), "EIDER_TEST_AS_COMMAND=1", "EIDER_STORAGE_MIN_FREE=1MiB", "EIDER_STORAGE_BALLAST=0")
		said := &strings.Builder{}
		c.Stdout, c.Stderr = said, said
		mustDo(t, c.Start())
		// Each try lives longer than the one before, and the last as long as it needs.
		if round < 8 {
			kill := time.AfterFunc(time.Duration(1<<round)*15*time.Millisecond, func() { _ = c.Process.Kill() })
			defer kill.Stop()
		}
		// One that is killed at its very end has finished, and the next finds nothing to do.
		whole = c.Wait() == nil || strings.Contains(said.String(), "the metadata can be read")
		if round == 20 {
			t.Fatalf("it does not end: %s", said)
		}
	}
	s = apptest.Start(t, s.Dir, options(), nil)
	if is := register(s, ids); !reflect.DeepEqual(is, was) {
		t.Errorf("there was\n%v\nand is\n%v", was, is)
	}
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency?deep=true", ""))
	if v := s.Want(200, s.Root, "GET /operations/verify", ""); v.JSON["verified"] != true || v.JSON["epoch"] == 0.0 {
		t.Errorf("the chain does not hold: %s", v.Body)
	}
}

// The walk of docs/operating.md, 'A disaster, step by step'.
func TestDisasterWalkThrough(t *testing.T) {
	s := start(t, nil)
	key := project(t, s, "sales")
	_, flipped := stored(t, s, key, "sales", "flipped", "bytes that will flip")
	_, gone := stored(t, s, key, "sales", "gone", "bytes that will go")
	whole, _ := stored(t, s, key, "sales", "whole", "bytes that stay")
	backup := s.Want(201, s.Root, "POST /admin/backups", `{"projects":false,"files":false}`).Text("id")
	s.Stop()
	r := runEider(t, "rebuild", "--data-dir", s.Dir) // there is more in it than folders tell
	if r.code != 1 || !strings.Contains(r.message, "the metadata can be read") || !strings.Contains(r.message, "nothing was changed") {
		t.Errorf("with whole metadata it ended with %d: %s", r.code, r.message)
	}
	remove(t, filepath.Join(s.Dir, "metadata.duckdb"))
	overwrite(t, flipped, "bytes that have flip")
	remove(t, gone)
	overwrite(t, filepath.Join(s.Dir, "duckdb", "project_nobody.12345678", "db", "data.duckdb"), "nobody's")

	says := func(code int, words string, args ...string) {
		t.Helper()
		r := runEider(t, append(args, "--data-dir", s.Dir)...)
		if r.code != code || !strings.Contains(r.out+r.message, words) {
			t.Fatalf("eider %s ended with %d:\n%s%s", strings.Join(args, " "), r.code, r.out, r.message)
		}
	}
	says(1, "no metadata.duckdb", "check")
	says(0, "brought back: 1 projects, 2 files", "rebuild")
	says(1, "checksum_mismatch", "check", "--deep")
	says(1, gone[len(s.Dir)+1:]+".json\n", "check", "--deep") // the rebuild could not bring it back
	says(0, "dry run", "repair", "--deep")
	says(0, "3 repaired, 0 failed", "repair", "--deep", "--yes")
	says(0, "consistent", "check", "--deep")
	s2 := apptest.Start(t, s.Dir, options(), nil)
	if got := s2.Want(200, s2.Root, "GET /projects/sales/files/"+whole+"/download", ""); string(got.Body) != "bytes that stay" {
		t.Errorf("the file is %q", got.Body)
	}
	if v := s2.Want(200, s2.Root, "POST /admin/backups/"+backup+"/verify", ""); v.JSON["verified"] != true {
		t.Errorf("the backup that was made before verifies as %s", v.Body)
	}
	if rows := s2.Rows(0); !slices.Contains(rows, "rebuild success") || !slices.Contains(rows, "repair success") {
		t.Errorf("the log has %v", rows)
	}
}
