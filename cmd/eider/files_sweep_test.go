package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
)

var sweeping = map[string]string{"files.sweep_every": "1s", "files.grace": "1m"}

// rowsOf returns the details of the newest rows of an operation.
func rowsOf(s *apptest.Server, operation string) (all []string) {
	a, err := s.Try(s.Root, "GET /operations?operation="+operation, "")
	if err != nil {
		return nil
	}
	for _, row := range a.List("operations") {
		text, _ := json.Marshal(row)
		all = append(all, string(text))
	}
	return all
}

// What has expired goes with its bytes and a row, also in a locked project; what
// has not stays.
func TestExpiredFilesAndUploadsAreSwept(t *testing.T) {
	t.Parallel()
	s := start(t, sweeping)
	key := project(t, s, "sales")
	stays := put(t, s, key, "sales", "stays", "x")
	waits := prepare(t, s, key, "sales", `{"filename":"waits"}`)
	f := put(t, s, key, "sales", "goes", "some bytes")
	prepared := s.Want(200, key, "POST /projects/sales/files/prepare", `{"filename":"goes","expires_in_seconds":1}`)
	id := prepared.Text("upload_key")
	s.Want(200, key, "PUT /projects/sales/files/upload/"+id, "part", raw, "Content-Range: bytes 0-3/10")
	until := time.Now().Add(time.Second).UTC().Format(time.RFC3339Nano)
	s.Want(200, key, "PATCH /projects/sales/files/"+f.ID, `{"expires_at":"`+until+`"}`)
	s.Want(200, s.Root, "PATCH /projects/sales", `{"status":"locked"}`)
	apptest.Eventually(t, "both are swept", func() bool {
		text := strings.Join(rowsOf(s, "expire_file"), "\n")
		return strings.Contains(text, f.ID) && strings.Contains(text, id) && !strings.Contains(text, "in_progress")
	})
	// Who comes back to an upload that expired is told so for one round at least,
	// and only then that there is none.
	for _, text := range rowsOf(s, "expire_file") {
		var row struct{ Timestamp time.Time }
		must(t, json.Unmarshal([]byte(text), &row))
		ends, err := time.Parse(time.RFC3339Nano, prepared.Text("expires_at"))
		if err != nil || strings.Contains(text, id) && row.Timestamp.Before(ends.Add(time.Second)) {
			t.Errorf("swept at %v, expired at %v: %v", row.Timestamp, ends, err)
		}
	}
	s.Want(404, key, "GET /projects/sales/files/"+f.ID, "")
	s.Want(404, key, "HEAD /projects/sales/files/upload/"+id, "")
	if got := held(t, s, "sales"); got != "1 1" {
		t.Errorf("the project holds %s", got)
	}
	if left := kept(t, s.Dir); len(left) != 1 || !strings.HasSuffix(stays.Path, left[0]) {
		t.Errorf("left: %v", left)
	}
	s.Want(200, key, "HEAD /projects/sales/files/"+stays.ID+"/download", "")
	s.Want(200, key, "GET /projects/sales/files/"+waits, "")
}

// A purge leaves no bytes of the project's files, uploads or sidecars, and no rows;
// its id begins with nothing.
func TestPurgeLeavesNoBytesAndNoRows(t *testing.T) {
	t.Parallel()
	s := start(t, sweeping)
	key := project(t, s, "sales")
	other := project(t, s, "other")
	stays := put(t, s, other, "other", "stays", "x")
	f := put(t, s, key, "sales", "goes", "some bytes")
	id := prepare(t, s, key, "sales", `{"filename":"goes"}`)
	s.Want(200, key, "PUT /projects/sales/files/upload/"+id, "part", raw, "Content-Range: bytes 0-3/10")
	s.Want(204, s.Root, "DELETE /projects/sales", "")
	if left := kept(t, s.Dir); len(left) != 4 {
		t.Errorf("a delete left %v", left)
	}
	s.Want(200, s.Root, "POST /projects/sales/undelete", "")
	s.Want(200, key, "GET /projects/sales/files/"+f.ID+"/download", "")
	s.Want(204, s.Root, "DELETE /projects/sales?purge=true", "")
	if left := kept(t, s.Dir); len(left) != 1 || !strings.HasSuffix(stays.Path, left[0]) {
		t.Errorf("a purge left %v", left)
	}
	if _, err := os.Stat(filepath.Join(s.Dir, "files", f.Path[:36])); !os.IsNotExist(err) {
		t.Errorf("the folder of a purged project: %v", err)
	}
	apptest.Eventually(t, "its rows are gone", func() bool { return strings.Contains(strings.Join(rowsOf(s, "sweep_files"), ""), "sales") })
	apptest.Eventually(t, "the trash is empty", func() bool { return listing(t, filepath.Join(s.Dir, "trash")) == "" })
	key = project(t, s, "sales")
	if a := s.Want(200, key, "GET /projects/sales/files?include_staged=true", ""); a.JSON["total"] != 0.0 {
		t.Errorf("another of its id has %s", a.Body)
	}
	if got := held(t, s, "sales") + ", " + held(t, s, "other"); got != "0 0, 1 1" {
		t.Errorf("they hold %s", got)
	}
	s.Want(404, key, "GET /projects/sales/files/"+f.ID, "")
	s.Want(404, key, "PUT /projects/sales/files/upload/"+id, "x", raw)
}

// leave has an upload leave bytes behind as a crash would, with whatever may stand
// beside them, and returns their path: the server must be stopped then.
func leave(t *testing.T, s *apptest.Server, key, project string) (path string, plant func()) {
	t.Helper()
	id := prepare(t, s, key, project, `{"filename":"left"}`)
	s.Want(200, key, "PUT /projects/"+project+"/files/upload/"+id, "left", raw, "Content-Range: bytes 0-3/10")
	for _, name := range kept(t, s.Dir) {
		found, err := filepath.Glob(filepath.Join(s.Dir, "files", "*", "*", name))
		must(t, err)
		if text, err := os.ReadFile(found[0]); strings.HasSuffix(name, ".part") && err == nil && string(text) == "left" {
			path = strings.TrimSuffix(found[0], ".part")
		}
	}
	s.Want(200, key, "PUT /projects/"+project+"/files/upload/"+id, "anew", raw, "Content-Range: bytes 0-3/10")
	must(t, gone(path+".part"))
	s.Want(204, key, "DELETE /projects/"+project+"/files/"+id, "")
	return path, func() {
		for _, suffix := range []string{"", ".part", ".state", ".json", ".state.new", ".json.new"} {
			must(t, os.WriteFile(path+suffix, []byte("{}"), 0o600))
		}
	}
}

func gone(path string) error {
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		return fmt.Errorf("%s is there: %v", path, err)
	}
	return nil
}

// age makes all files below a folder old, but for those named.
func age(t *testing.T, dir string, but ...string) {
	t.Helper()
	long := time.Now().Add(-time.Hour)
	must(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() && !slices.Contains(but, path) {
			err = os.Chtimes(path, long, long)
		}
		return err
	}))
}

// What an upload of this log has left behind goes once it is older than files.grace,
// with whatever a crash left beside it. Younger bytes stay, and those with a row, and
// those that no call of the log has planned, or that were a file once.
func TestBytesThatUploadsLeftAreRemovedAfterTheGraceTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := apptest.Start(t, dir, app.Options{Modules: modules(), Version: "test"}, nil)
	key := project(t, s, "sales")
	f := put(t, s, key, "sales", "stays", "x")
	id := prepare(t, s, key, "sales", `{"filename":"stays"}`)
	s.Want(200, key, "PUT /projects/sales/files/upload/"+id, "part", raw, "Content-Range: bytes 0-3/10")
	old, plantOld := leave(t, s, key, "sales")
	young, plantYoung := leave(t, s, key, "sales")
	was, plantFile := leave(t, s, key, "sales")
	s.Stop()
	path := filepath.Join(dir, "files", f.Path)
	folder := filepath.Dir(path)
	unknown := filepath.Join(folder, strings.Replace(filepath.Base(path), "-7", "-6", 1))
	later := filepath.Join(folder, "0f"+filepath.Base(path)[2:]) // the name is well formed
	plantOld()
	plantYoung()
	plantFile()
	must(t, os.WriteFile(was+".json", []byte(`{"id":"x","log_id":1}`), 0o600))
	for _, path := range []string{unknown, later, filepath.Join(folder, "README"), filepath.Join(folder, "not-ours.txt")} {
		must(t, os.WriteFile(path, []byte("{}"), 0o600))
	}
	age(t, filepath.Join(dir, "files"), young)
	s = apptest.Start(t, dir, app.Options{Modules: modules(), Version: "test"}, nil)
	sales := key
	// What a statement names says nothing about bytes, whoever has it run.
	for _, tenant := range []string{"sales", "other"} {
		if tenant == "other" {
			key = project(t, s, tenant)
		}
		s.Do(key, "POST /projects/"+tenant+"/query", fmt.Sprintf(`{"mode":"write","sql":"CREATE TABLE x.\"%s\" (\"%s\" INT, \"%s\" INT)"}`,
			filepath.Base(unknown), filepath.Base(later), filepath.Base(was)))
	}
	s.Stop()
	s = apptest.Start(t, dir, app.Options{Modules: modules(), Version: "test"}, sweeping)
	apptest.Eventually(t, "orphans are removed", func() bool {
		return strings.Contains(strings.Join(rowsOf(s, "sweep_files"), ""), filepath.Base(old))
	})
	apptest.Eventually(t, "their call has ended", func() bool { return !strings.Contains(strings.Join(rowsOf(s, "sweep_files"), ""), "in_progress") })
	for _, suffix := range []string{"", ".part", ".state", ".json", ".state.new", ".json.new"} {
		if err := gone(old + suffix); err != nil {
			t.Error(err)
		}
	}
	for _, path := range []string{path, path + ".json", young, was, was + ".json", unknown, later, filepath.Join(folder, "README"), filepath.Join(folder, "not-ours.txt")} {
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
	s.Want(200, sales, "GET /projects/sales/files/"+f.ID+"/download", "")
	if at := offset(s, sales, "/projects/sales/files/upload/"+id); at != "4" {
		t.Errorf("the upload stands at %s", at)
	}
}

// A sidecar tells what the register knows, and follows its changes.
func TestSidecarOfAFileFollowsTheRegister(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "sales")
	f := put(t, s, key, "sales", "a", "text", "&tag=k:v")
	s.Want(200, key, "PATCH /projects/sales/files/"+f.ID, `{"name":"b"}`)
	apptest.Eventually(t, "the sidecar has the new name", func() bool {
		var side map[string]any
		text, err := os.ReadFile(filepath.Join(s.Dir, "files", f.Path+".json"))
		return err == nil && json.Unmarshal(text, &side) == nil && side["name"] == "b" && side["checksum_sha256"] == f.ChecksumSHA256 &&
			side["id"] == f.ID && side["size_bytes"] == 4.0 && side["project_id"] == "sales" && side["log_id"] != nil
	})
}
