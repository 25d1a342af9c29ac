package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
)

// wholeBackups verifies all backups of the list and returns how many there are. None
// may be half.
func wholeBackups(t *testing.T, s *apptest.Server, folder string) int {
	t.Helper()
	all := s.Want(200, childKey, "GET /admin/backups", "").List("backups")
	for _, b := range all {
		id := b["id"].(string)
		if v := s.Want(200, childKey, "POST /admin/backups/"+id+"/verify", ""); v.JSON["verified"] != true || b["status"] != "complete" {
			t.Errorf("the backup %v verifies as %s", b, v.Body)
		}
	}
	entries, err := os.ReadDir(folder)
	mustDo(t, err)
	if len(entries) != len(all) {
		t.Errorf("the folder holds %v, the list %v", entries, all)
	}
	return len(all)
}

// A server that is killed in the middle of a backup leaves no half one, and the old
// ones whole; the next one is made as if nothing had been.
func TestKilledBackupLeavesTheOldOnesWhole(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "d")
	c := serve(t, dir, unprivileged)
	for n := range 3 {
		key := c.Want(201, childKey, "POST /projects", fmt.Sprintf(`{"id":"p%d"}`, n)).Text("api_key")
		c.Want(201, key, fmt.Sprintf("POST /projects/p%d/files?name=f", n), "some bytes", "Content-Type: text/plain")
	}
	c.Want(201, childKey, "POST /admin/backups", "")
	folder := filepath.Join(dir, "backups")
	for _, moment := range []string{"", "files", "metadata.duckdb", "duckdb", "contents.ndjson", "manifest.json"} {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = c.Try(childKey, "POST /admin/backups", "")
		}()
		apptest.Eventually(t, "the backup comes to "+moment, func() bool {
			if found, _ := filepath.Glob(filepath.Join(folder, ".new-*", moment)); len(found) > 0 {
				return true
			}
			select {
			case <-ended: // it was too fast
				return true
			default:
				return false
			}
		})
		c.kill()
		<-ended
		c = serve(t, dir, unprivileged)
		apptest.Eventually(t, "what was begun is settled", func() bool {
			return strings.Contains(string(c.Want(200, "", "GET /metrics", "").Body), "\neider_operations_unfinished 0\n")
		})
		wholeBackups(t, c.Server, folder)
	}
	before := wholeBackups(t, c.Server, folder)
	if before < 1 {
		t.Error("the first backup has gone")
	}

	// A folder that cannot be written is told as that.
	mustDo(t, os.Chmod(folder, 0o500))
	if a := c.Do(childKey, "POST /admin/backups", ""); a.Status != 503 || a.Code() != "storage_unavailable" {
		t.Errorf("into a folder that cannot be written it answered %d %s", a.Status, a.Body)
	}
	mustDo(t, os.Chmod(folder, 0o700))
	c.Want(201, childKey, "POST /admin/backups", "")
	if after := wholeBackups(t, c.Server, folder); after != before+1 {
		t.Errorf("of %d backups there are %d", before+1, after)
	}
	c.stop(t)
}

// A target that can only be read is enough to verify a backup. One that cannot be read
// says nothing about the backup, which stays what it was.
func TestBackupThatCannotBeReadIsNotDamaged(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "d")
	c := serve(t, dir, unprivileged)
	c.Want(201, childKey, "POST /projects", `{"id":"p"}`)
	id := c.Want(201, childKey, "POST /admin/backups", "").Text("id")
	folder := filepath.Join(dir, "backups", id)
	chmod := func(mode, folderMode os.FileMode) {
		t.Helper()
		mustDo(t, os.Chmod(filepath.Join(folder, "metadata.duckdb"), mode))
		mustDo(t, os.Chmod(folder, folderMode))
	}
	chmod(0o400, 0o500)
	if v := c.Want(200, childKey, "POST /admin/backups/"+id+"/verify", ""); v.JSON["verified"] != true {
		t.Errorf("where it can only be read it verifies as %s", v.Body)
	}
	unread := func(what string) {
		t.Helper()
		if a := c.Do(childKey, "POST /admin/backups/"+id+"/verify", ""); a.Status != 503 || a.Code() != "storage_unavailable" {
			t.Errorf("%s it answered %d %s", what, a.Status, a.Body)
		}
	}
	chmod(0o600, 0o700)
	metadata := filepath.Join(folder, "metadata.duckdb")
	mustDo(t, os.Rename(metadata, metadata+".away"))
	mustDo(t, os.Mkdir(metadata, 0o700)) // reading it is an error
	unread("where the metadata cannot be read")
	mustDo(t, os.Remove(metadata))
	mustDo(t, os.Rename(metadata+".away", metadata))
	mustDo(t, os.Rename(folder, folder+".away"))
	if a := c.Do(childKey, "POST /admin/backups/"+id+"/verify", ""); a.Status != 404 || a.Code() != "not_found" || !strings.Contains(string(a.Body), "missing") {
		t.Errorf("where its folder is missing it answered %d %s", a.Status, a.Body)
	}
	mustDo(t, os.Rename(filepath.Dir(folder), filepath.Dir(folder)+".away"))
	unread("where its disk is not mounted")
	mustDo(t, os.Rename(filepath.Dir(folder)+".away", filepath.Dir(folder)))
	mustDo(t, os.Rename(folder+".away", folder))
	if b := c.Want(200, childKey, "GET /admin/backups", "").List("backups")[0]; b["status"] != "complete" {
		t.Errorf("the list has %v", b)
	}
	mustDo(t, os.Remove(filepath.Join(folder, "contents.ndjson")))
	if v := c.Want(200, childKey, "POST /admin/backups/"+id+"/verify", ""); v.JSON["verified"] != false {
		t.Errorf("without its list it verifies as %s", v.Body)
	}
	c.stop(t)
}

// On a disk that is full a backup fails and says so; what is there stays whole.
func TestBackupOnAFullDiskSaysSo(t *testing.T) {
	t.Parallel()
	d := onSmallDisk(t)
	d.Want(201, childKey, "POST /projects", `{"id":"p"}`)
	d.Want(201, childKey, "POST /admin/backups", "")
	others := d.fill(t, 1<<20+256<<10)
	if a := d.Do(childKey, "POST /admin/backups", ""); a.Status != 507 || a.Code() != "storage_full" {
		t.Errorf("on a full disk it answered %d %s\n%s", a.Status, a.Body, d.log())
	}
	must(t, os.Remove(others))
	folder := filepath.Join(d.disk, "backups")
	apptest.Eventually(t, "there is room again", func() bool {
		return d.Do(childKey, "POST /admin/backups", "").Status == 201
	})
	if n := wholeBackups(t, d.Server, folder); n != 2 {
		t.Errorf("there are %d backups", n)
	}
	d.stop(t)
}

// Backup, list, verify and restore are commands, beside a server that runs and
// without one; what is restored is what was backed up.
func TestBackupAndRestoreAreCommands(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "d")
	c := serve(t, dir)
	key := c.Want(201, childKey, "POST /projects", `{"id":"p","name":"P"}`).Text("api_key")
	c.Want(201, key, "POST /projects/p/files?name=f&tag=k:v", "some bytes", "Content-Type: text/plain")
	c.Want(201, key, "POST /projects/p/buckets", `{"name":"b"}`)
	c.Want(201, key, "POST /projects/p/buckets/b/tables", `{"name":"t","columns":[{"name":"n","type":"BIGINT"}]}`)
	c.Want(200, key, "POST /projects/p/query", `{"mode":"write","sql":"INSERT INTO b.t SELECT range FROM range(20)"}`)
	says := func(code int, words, dir string, args ...string) string {
		t.Helper()
		r := runEider(t, append(args, "--data-dir", dir)...)
		if r.code != code || !strings.Contains(r.out+r.message, words) {
			t.Fatalf("eider %s ended with %d:\n%s%s", strings.Join(args, " "), r.code, r.out, r.message)
		}
		return r.out
	}
	online := strings.TrimSuffix(strings.Fields(says(0, "asking the server", dir, "backup"))[1], ":")
	was := register(c.Server, []string{"p"})
	c.stop(t)
	offline := strings.TrimSuffix(strings.Fields(says(0, "no server runs", dir, "backup", "--metadata-only"))[1], ":")
	says(0, online+" complete", dir, "backup", "list")
	says(0, "backup "+online+" is whole", dir, "backup", "verify", online)
	says(0, "backup "+offline+" is whole", dir, "backup", "verify", offline)
	says(1, "no such backup", dir, "backup", "verify", "20200101T000000.000-0")

	to := filepath.Join(t.TempDir(), "restored")
	says(0, "restored "+online, to, "restore", filepath.Join(dir, "backups", online))
	says(1, "empty folder", to, "restore", filepath.Join(dir, "backups", online))
	says(1, "is no backup", filepath.Join(t.TempDir(), "x"), "restore", dir)
	c = serve(t, to)
	defer c.stop(t)
	if is := register(c.Server, []string{"p"}); !reflect.DeepEqual(is, was) {
		t.Errorf("there was\n%v\nand is\n%v", was, is)
	}
	a := c.Want(200, key, "POST /projects/p/query", `{"sql":"SELECT count(*) AS n, sum(n) AS s FROM b.t"}`)
	if row := a.List("rows")[0]; fmt.Sprint(row["n"], row["s"]) != "20 190" {
		t.Errorf("the table holds %s", a.Body)
	}
	wantFindings(t, c.Want(200, childKey, "GET /health/consistency?deep=true", ""))
}

// A backup that is due is made by the server itself, as the settings say.
func TestDueBackupIsMade(t *testing.T) {
	settings := map[string]string{"recovery.backup_every": "1h", "recovery.backup_projects": "false"}
	s := start(t, settings)
	project(t, s, "p")
	first := s.Want(201, s.Root, "POST /admin/backups", "").Text("id")
	s.Stop()
	change(t, s.Dir, `UPDATE backups SET created_at = created_at - INTERVAL 2 HOUR`)
	s = apptest.Start(t, s.Dir, app.Options{Modules: modules(), Version: "test"}, settings)
	apptest.Eventually(t, "the backup that is due is made", func() bool {
		all := s.Want(200, s.Root, "GET /admin/backups", "").List("backups")
		return len(all) == 2 && all[0]["status"] == "complete" && all[0]["id"] != first && all[0]["projects"] == false && all[0]["files"] == true
	})
	row := s.Want(200, s.Root, "GET /operations?operation=backup&limit=1", "").List("operations")[0]
	if actor := row["actor"].(map[string]any); actor["name"] != "backups" || row["status"] != "success" {
		t.Errorf("its row is %v", row)
	}
	s.Stop()
	// The next is not due.
	s = apptest.Start(t, s.Dir, app.Options{Modules: modules(), Version: "test"}, settings)
	if all := s.Want(200, s.Root, "GET /admin/backups", "").List("backups"); len(all) != 2 {
		t.Errorf("there are %v", all)
	}
}

// The way back that docs/operating.md tells: a backup that holds neither databases nor
// files is restored, and those are copied over. Everything that the backup knew is
// there then, and nothing that came later is deleted: it is named by a check.
func TestWayBackByABackupOfTheMetadataKeepsDatabasesAndFiles(t *testing.T) {
	t.Parallel()
	was := start(t, nil)
	key := project(t, was, "p")
	was.Want(201, key, "POST /projects/p/buckets", `{"name":"b"}`)
	was.Want(201, key, "POST /projects/p/buckets/b/tables", `{"name":"t","columns":[{"name":"n","type":"BIGINT"}]}`)
	f := put(t, was, key, "p", "f", "some bytes")
	upload := prepare(t, was, key, "p", `{"filename":"u"}`)
	was.Want(200, key, "PUT /projects/p/files/upload/"+upload, "uploaded", raw)
	made := was.Want(201, was.Root, "POST /admin/backups", `{"projects":false,"files":false}`).Text("id")
	later := put(t, was, key, "p", "later", "bytes that came later")
	registered := fileIn(t, was.Want(201, key, "POST /projects/p/files", `{"upload_key":"`+upload+`"}`))
	apptest.Eventually(t, "the sidecar tells that it is a file", func() bool {
		text, err := os.ReadFile(filepath.Join(was.Dir, "files", registered.Path+".json"))
		return err == nil && strings.Contains(string(text), "log_id") && !strings.Contains(string(text), "staged")
	})
	was.Stop()

	to := filepath.Join(t.TempDir(), "restored")
	r := runEider(t, "restore", filepath.Join(was.Dir, "backups", made), "--data-dir", to)
	if r.code != 0 || !strings.Contains(r.out, "does not hold duckdb/") || strings.Contains(r.out, "missing_") {
		t.Fatalf("the restore ended with %d:\n%s%s", r.code, r.out, r.message)
	}
	for _, name := range []string{"duckdb", "files"} {
		mustDo(t, os.RemoveAll(filepath.Join(to, name)))
		mustDo(t, os.CopyFS(filepath.Join(to, name), os.DirFS(filepath.Join(was.Dir, name))))
	}
	s := apptest.Start(t, to, app.Options{Modules: modules(), Version: "test"}, nil)
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency?deep=true", ""), "orphan_file files/"+later.Path)
	path, plant := leave(t, s, key, "p")
	s.Stop()
	plant()
	age(t, filepath.Join(to, "files"))
	change(t, to, `UPDATE upload_sessions SET expires_at = expires_at - INTERVAL 2 DAY`)
	s = apptest.Start(t, to, app.Options{Modules: modules(), Version: "test"}, sweeping)
	apptest.Eventually(t, "what the new log left is swept, and the upload has expired", func() bool {
		return gone(path) == nil && strings.Contains(strings.Join(rowsOf(s, "expire_file"), ""), upload)
	})
	for _, f := range []string{f.Path, later.Path, registered.Path} {
		if _, err := os.Stat(filepath.Join(to, "files", f)); err != nil {
			t.Error(err)
		}
	}
	s.Want(200, key, "GET /projects/p/files/"+f.ID+"/download", "")
	if a := s.Want(200, key, "GET /projects/p/files", ""); a.JSON["total"] != 1.0 {
		t.Errorf("there are %s", a.Body)
	}
	s.Want(200, key, "POST /projects/p/query", `{"mode":"write","sql":"INSERT INTO b.t VALUES (1)"}`)
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency?deep=true", ""),
		"orphan_file files/"+later.Path, "orphan_file files/"+registered.Path)
}
