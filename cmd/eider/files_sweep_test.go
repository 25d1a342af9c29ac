package main

import (
	"encoding/json"
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

// Bytes that no row names go once they are older than files.grace, with whatever
// a crash left beside them; younger ones and those with a row stay.
func TestOrphansAreRemovedAfterTheGraceTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := apptest.Start(t, dir, app.Options{Modules: modules(), Version: "test"}, nil)
	key := project(t, s, "sales")
	f := put(t, s, key, "sales", "stays", "x")
	id := prepare(t, s, key, "sales", `{"filename":"stays"}`)
	s.Want(200, key, "PUT /projects/sales/files/upload/"+id, "part", raw, "Content-Range: bytes 0-3/10")
	s.Stop()
	path := filepath.Join(dir, "files", f.Path)
	folder := filepath.Dir(path)
	old := strings.Replace(filepath.Base(path), "-7", "-6", 1)
	young := strings.Replace(filepath.Base(path), "-7", "-5", 1)
	for _, name := range []string{old, old + ".part", old + ".state", old + ".json", old + ".state.new", old + ".json.new", young, "README", "not-ours.txt"} {
		must(t, os.WriteFile(filepath.Join(folder, name), []byte("{}"), 0o600))
	}
	long := time.Now().Add(-time.Hour)
	must(t, filepath.WalkDir(filepath.Join(dir, "files"), func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() && e.Name() != young {
			err = os.Chtimes(path, long, long)
		}
		return err
	}))
	s = apptest.Start(t, dir, app.Options{Modules: modules(), Version: "test"}, sweeping)
	apptest.Eventually(t, "orphans are removed", func() bool { return strings.Contains(strings.Join(rowsOf(s, "sweep_files"), ""), old) })
	apptest.Eventually(t, "their call has ended", func() bool { return !strings.Contains(strings.Join(rowsOf(s, "sweep_files"), ""), "in_progress") })
	names := strings.Fields(listing(t, folder))
	slices.Sort(names)
	want := []string{filepath.Base(path), filepath.Base(path) + ".json", "README", "not-ours.txt", young}
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("left: %v, want %v", names, want)
	}
	s.Want(200, key, "GET /projects/sales/files/"+f.ID+"/download", "")
	if at := offset(s, key, "/projects/sales/files/upload/"+id); at != "4" {
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
