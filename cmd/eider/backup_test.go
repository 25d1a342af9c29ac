package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/telemetry"
)

// restored restores a backup and starts a server on it.
func restored(t *testing.T, from string) (*apptest.Server, app.Restored) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	f := &flags{dataDir: dir}
	a, err := f.load(app.Options{Telemetry: telemetry.Discard()})
	if err != nil {
		t.Fatal(err)
	}
	done, err := a.Restore(t.Context(), from, func(int, int) {})
	if err != nil {
		t.Fatal(err)
	}
	return apptest.Start(t, dir, app.Options{Modules: modules(), Version: "test"}, nil), done
}

// What was acknowledged before a backup began is in it, with the chain whole,
// although everything is written meanwhile; and once a restore is repaired, register
// and folders agree.
func TestBackupUnderLoadRestoresWhatWasThereBefore(t *testing.T) {
	s := start(t, nil)
	key := project(t, s, "busy")
	s.Want(201, key, "POST /projects/busy/buckets", `{"name":"b"}`)
	s.Want(201, key, "POST /projects/busy/buckets/b/tables", `{"name":"t","columns":[{"name":"n","type":"BIGINT"}]}`)
	write := func(n int) {
		s.Want(200, key, "POST /projects/busy/query", fmt.Sprintf(`{"mode":"write","sql":"INSERT INTO b.t VALUES (%d)"}`, n))
	}
	for n := range 20 {
		write(n)
	}
	file, _ := stored(t, s, key, "busy", "kept", "bytes that are kept")
	project(t, s, "quiet")

	stop := make(chan struct{})
	var load sync.WaitGroup
	for worker := range 3 {
		load.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				write(1000*worker + n)
				stored(t, s, key, "busy", fmt.Sprintf("f%d-%d", worker, n), "some bytes")
				project(t, s, fmt.Sprintf("p%d-%d", worker, n))
			}
		})
	}
	head := s.App.Kernel.Audit.Head().ID
	made := s.Want(201, s.Root, "POST /admin/backups", "")
	close(stop)
	load.Wait()
	id := made.Text("id")
	if made.Text("status") != "complete" || made.JSON["log_id"].(float64) < float64(head) {
		t.Errorf("it answered %s, and began at row %d", made.Body, head)
	}
	if v := s.Want(200, s.Root, "POST /admin/backups/"+id+"/verify", ""); v.JSON["verified"] != true {
		t.Errorf("verifying answered %s", v.Body)
	}
	if l := s.Want(200, s.Root, "GET /admin/backups", ""); l.JSON["total"] != 1.0 || l.List("backups")[0]["id"] != id {
		t.Errorf("the list is %s", l.Body)
	}
	again := s.Want(201, s.Root, "POST /admin/backups", "") // mostly links
	if v := s.Want(200, s.Root, "POST /admin/backups/"+again.Text("id")+"/verify", ""); v.JSON["verified"] != true {
		t.Errorf("verifying the second answered %s", v.Body)
	}

	r, done := restored(t, filepath.Join(s.Dir, "backups", id))
	if len(done.Damaged) > 0 || done.Epoch == 0 {
		t.Errorf("the restore says %+v", done)
	}
	repaired := r.Want(200, r.Root, "POST /admin/repair", `{"dry_run":false,"deep":true}`)
	if repaired.JSON["failed"] != 0.0 {
		t.Errorf("the repair answered %s", repaired.Body)
	}
	wantFindings(t, r.Want(200, r.Root, "GET /health/consistency?deep=true", ""))
	r.Want(401, s.Root, "GET /projects", "") // the root key is new
	r.Want(200, key, "GET /projects/busy", "")
	if got := r.Want(200, key, "GET /projects/busy/files/"+file+"/download", ""); string(got.Body) != "bytes that are kept" {
		t.Errorf("the file is %q", got.Body)
	}
	rows := r.Want(200, key, "POST /projects/busy/query", `{"sql":"SELECT count(DISTINCT n) AS n FROM b.t WHERE n < 20"}`)
	if n := fmt.Sprint(rows.List("rows")[0]["n"]); n != "20" {
		t.Errorf("the table holds %s", rows.Body)
	}
	if v := r.Want(200, r.Root, "GET /operations/verify", ""); v.JSON["verified"] != true {
		t.Errorf("the chain does not hold: %s", v.Body)
	}
	row := r.Want(200, r.Root, "GET /operations?operation=restore", "").List("operations")
	if len(row) != 1 || int64(row[0]["details"].(map[string]any)["epoch"].(float64)) != done.Epoch {
		t.Errorf("the restore's row is %v", row)
	}
	r.Stop()
	r = apptest.Start(t, r.Dir, options(), nil) // it is a folder like any other
	wantFindings(t, r.Want(200, r.Root, "GET /health/consistency", ""))
}

// A backup that finds no room, or a folder that cannot be written, at whatever step,
// fails with a clear error, leaves no half backup, and the old ones whole. Each step
// meets one of the two, in turn; with EIDER_TORTURE_ROUNDS both.
func TestBackupThatFailsLeavesTheOldOnesWhole(t *testing.T) {
	t.Parallel()
	faults := &disk.FS{}
	s := apptest.Start(t, t.TempDir(), app.Options{Modules: modules(), Version: "test", Files: faults}, nil)
	key := project(t, s, "p")
	stored(t, s, key, "p", "f", "bytes")
	old := s.Want(201, s.Root, "POST /admin/backups", "").Text("id")

	var mu sync.Mutex
	steps, failAt := 0, -1
	var errno error
	faults.Hook = func(op disk.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if !strings.Contains(op.Path+op.To, "/backups/") || op.Kind == "remove" {
			return nil
		}
		if steps++; steps == failAt {
			return errno
		}
		return nil
	}
	s.Want(201, s.Root, "POST /admin/backups", "")
	mu.Lock()
	all := steps
	mu.Unlock()
	for at := 1; at <= all; at++ {
		for i, c := range []struct {
			errno  error
			status int
			code   string
		}{{syscall.ENOSPC, 507, "storage_full"}, {syscall.EROFS, 503, "storage_unavailable"}} {
			if at%2 != i && os.Getenv("EIDER_TORTURE_ROUNDS") == "" {
				continue
			}
			mu.Lock()
			steps, failAt, errno = 0, at, c.errno
			mu.Unlock()
			a := s.Do(s.Root, "POST /admin/backups", "")
			mu.Lock()
			met := steps >= at
			mu.Unlock()
			if !met {
				continue // the project's log was folded in meanwhile, and there is less to copy
			}
			if a.Status != c.status || a.Code() != c.code {
				if errors.Is(c.errno, syscall.EROFS) && a.Status == 201 {
					continue // a link that cannot be made is a copy
				}
				t.Errorf("step %d failed with %v: it answered %d %s", at, c.errno, a.Status, a.Body)
			}
		}
	}
	mu.Lock()
	failAt = -1
	mu.Unlock()
	entries, err := os.ReadDir(filepath.Join(s.Dir, "backups"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".new-") {
			t.Errorf("%s was left behind", e.Name())
		}
	}
	if v := s.Want(200, s.Root, "POST /admin/backups/"+old+"/verify", ""); v.JSON["verified"] != true {
		t.Errorf("the old backup is not whole: %s", v.Body)
	}
	l := s.Want(200, s.Root, "GET /admin/backups", "")
	for _, b := range l.List("backups") {
		if b["status"] != "complete" {
			t.Errorf("the list has %v", b)
		}
	}
}

// A backup whose bytes were altered says so, and is not restored without a word.
func TestDamagedBackupIsFound(t *testing.T) {
	s := start(t, nil)
	key := project(t, s, "p")
	stored(t, s, key, "p", "f", "bytes")
	made := s.Want(201, s.Root, "POST /admin/backups", "").Text("id")
	dir := filepath.Join(s.Dir, "backups", made)
	path := filepath.Join(dir, s.Want(200, s.Root, "GET /projects/p", "").Text("db_path"))
	overwrite(t, path, "no database")
	v := s.Want(200, s.Root, "POST /admin/backups/"+made+"/verify", "")
	if v.JSON["verified"] != false || !strings.Contains(string(v.Body), "data.duckdb") {
		t.Errorf("verifying answered %s", v.Body)
	}
	if l := s.Want(200, s.Root, "GET /admin/backups", "").List("backups"); l[0]["status"] != "damaged" {
		t.Errorf("the list has %v", l)
	}
	text, err := os.ReadFile(filepath.Join(dir, "metadata.duckdb"))
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	overwrite(t, filepath.Join(dir, "metadata.duckdb"), string(text))
	a, err := (&flags{dataDir: filepath.Join(t.TempDir(), "data")}).load(app.Options{Telemetry: telemetry.Discard()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Restore(t.Context(), dir, func(int, int) {}); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("restoring it answered %v", err)
	}
	a.Settings.Top.DataDir = s.Dir
	if _, err := a.Restore(t.Context(), dir, func(int, int) {}); !errors.Is(err, disk.ErrNotEmpty) {
		t.Errorf("restoring into a folder in use answered %v", err)
	}
}

// Of many backups the newest are kept.
func TestOldBackupsExpire(t *testing.T) {
	s := start(t, map[string]string{"recovery.backup_keep": "1"})
	project(t, s, "p")
	for range 2 {
		s.Want(201, s.Root, "POST /admin/backups", `{"files":false}`)
	}
	// What a backup has left, where it could not be removed, goes with the next one. What
	// another server may be making does not.
	first := s.Want(200, s.Root, "GET /admin/backups", "").List("backups")
	unfinished := filepath.Join(s.Dir, "backups", ".new-"+first[1]["id"].(string))
	foreign := filepath.Join(s.Dir, "backups", ".new-20260101T000000.000-00000000")
	for _, dir := range []string{unfinished, foreign} {
		must(t, os.MkdirAll(filepath.Join(dir, "files"), 0o700))
	}
	s.Want(201, s.Root, "POST /admin/backups", `{"files":false}`)
	if _, err := os.Stat(unfinished); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the unfinished backup: %v", err)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Error(err)
	}
	first = s.Want(200, s.Root, "GET /admin/backups", "").List("backups")
	if len(first) != 3 {
		t.Fatalf("the list has %v", first)
	}
	s.Stop()
	s = apptest.Start(t, s.Dir, app.Options{Modules: modules(), Version: "test"}, map[string]string{"recovery.backup_keep": "1"})
	apptest.Eventually(t, "the older one expires", func() bool {
		l := s.Want(200, s.Root, "GET /admin/backups", "").List("backups")
		return len(l) == 1 && l[0]["id"] == first[0]["id"]
	})
	if _, err := os.Stat(filepath.Join(s.Dir, "backups", first[1]["id"].(string))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its folder: %v", err)
	}
}

// Before the schema changes, the metadata is backed up: the way back to the version
// that wrote it.
func TestMigrationIsPrecededByABackup(t *testing.T) {
	older := modules()
	older = older[:len(older)-1] // knows no table of backups
	s := apptest.Start(t, t.TempDir(), app.Options{Modules: older, Version: "older"}, nil)
	project(t, s, "p")
	s.Stop()
	s = apptest.Start(t, s.Dir, app.Options{Modules: modules(), Version: "newer"}, nil)
	project(t, s, "q")
	found, err := filepath.Glob(filepath.Join(s.Dir, "backups", "migration-*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("backups are %v, %v", found, err)
	}
	s.Stop()
	s = apptest.Start(t, s.Dir, app.Options{Modules: modules(), Version: "newer"}, nil)
	if again, _ := filepath.Glob(filepath.Join(s.Dir, "backups", "migration-*")); len(again) != 1 {
		t.Errorf("a start that migrates nothing made %v", again)
	}
	r, _ := restored(t, found[0])
	r.Want(200, r.Root, "GET /projects/p", "")
	r.Want(404, r.Root, "GET /projects/q", "")

	// A rebuild lists it again, in the order of time, and it counts for nothing else.
	later := s.Want(201, s.Root, "POST /admin/backups", "").Text("id")
	s.Stop()
	remove(t, filepath.Join(s.Dir, "metadata.duckdb"))
	must(t, os.CopyFS(found[0]+"-copy", os.DirFS(found[0])))
	if done := rebuild(t, s.Dir); done.Counts["backups"] != 2 || !strings.Contains(fmt.Sprint(done.Lost), "copy of backup "+filepath.Base(found[0])) {
		t.Errorf("the rebuild says %+v", done)
	}
	once := map[string]string{"recovery.backup_keep": "1"}
	s = apptest.Start(t, s.Dir, app.Options{Modules: modules(), Version: "newer"}, once)
	last := s.Want(201, s.Root, "POST /admin/backups", "").Text("id")
	s.Stop()
	s = apptest.Start(t, s.Dir, app.Options{Modules: modules(), Version: "newer"}, once)
	var l []map[string]any
	apptest.Eventually(t, "the older of the others expires", func() bool {
		l = s.Want(200, s.Root, "GET /admin/backups", "").List("backups")
		_, err := os.Stat(filepath.Join(s.Dir, "backups", later))
		return len(l) == 2 && errors.Is(err, os.ErrNotExist)
	})
	if l[0]["id"] != last || l[1]["id"] != filepath.Base(found[0]) || l[1]["status"] != "complete" {
		t.Errorf("the list has %v", l)
	}
}

// A restore that is cut short at whatever step leaves no folder that a server takes for
// its own: nothing, or one that is refused until the restore of the same backup is run
// again, which then brings back all.
func TestRestoreThatIsCutShortIsRunAgain(t *testing.T) {
	s := start(t, nil)
	key := project(t, s, "p")
	file, _ := stored(t, s, key, "p", "f", "bytes")
	made := s.Want(201, s.Root, "POST /admin/backups", "").Text("id")
	other := s.Want(201, s.Root, "POST /admin/backups", `{"files":false,"projects":false}`).Text("id")
	from := filepath.Join(s.Dir, "backups", made)

	steps, crashAt := 0, 0
	faults := &disk.FS{Hook: func(disk.Op) error {
		if steps++; crashAt > 0 && steps >= crashAt {
			return syscall.EIO
		}
		return nil
	}}
	on := func(dir string, faults *disk.FS) *app.App {
		a, err := (&flags{dataDir: dir}).load(app.Options{Telemetry: telemetry.Discard(), Files: faults})
		must(t, err)
		return a
	}
	tell := func(int, int) {}
	_, err := on(filepath.Join(t.TempDir(), "d"), faults).Restore(t.Context(), from, tell)
	must(t, err)
	all, refused, dir := steps, 0, ""
	for at := 1; at <= all; at++ {
		if at > 5 && at < all-5 && at%11 != 0 {
			continue
		}
		dir = filepath.Join(t.TempDir(), "d")
		steps, crashAt = 0, at
		if _, err := on(dir, faults).Restore(t.Context(), from, tell); err == nil {
			t.Fatalf("step %d of %d failed, and the restore did not", at, all)
		}
		crashAt = 0
		if _, err := os.Stat(filepath.Join(dir, ".restore.json")); err == nil {
			refused++
			a := on(dir, &disk.FS{})
			if err := a.Open(t.Context()); !errors.Is(err, app.ErrRestoring) || exitCode(err) != 8 {
				t.Fatalf("after step %d of %d a server started with %v", at, all, err)
			}
			if _, err := on(dir, &disk.FS{}).Rebuild(t.Context(), false, func(string, int, int) {}); err == nil {
				t.Fatalf("after step %d of %d a rebuild was made", at, all)
			}
			if _, err := on(dir, &disk.FS{}).Restore(t.Context(), filepath.Join(s.Dir, "backups", other), tell); !errors.Is(err, app.ErrRestoring) {
				t.Fatalf("after step %d of %d another backup was restored: %v", at, all, err)
			}
		} else if _, err := os.Stat(dir); err == nil && at < all {
			for _, name := range strings.Fields(listing(t, dir)) {
				if name != ".lock" && name != ".restore.json.new" {
					t.Fatalf("step %d of %d left %s without a word", at, all, name)
				}
			}
		}
		if at < all { // the last makes durable that it is done
			if _, err := on(dir, faults).Restore(t.Context(), from, tell); err != nil {
				t.Fatalf("after step %d of %d it was run again: %v", at, all, err)
			}
		}
	}
	if refused < 6 {
		t.Errorf("only %d of the steps left word", refused)
	}
	r := apptest.Start(t, dir, app.Options{Modules: modules(), Version: "test"}, nil)
	wantFindings(t, r.Want(200, r.Root, "GET /health/consistency?deep=true", ""))
	r.Want(200, key, "GET /projects/p/files/"+file+"/download", "")
}

// After a restore the call that made the backup is settled once more: its metadata holds
// it, unfinished. A folder that has the backup's name is not touched by that, whole or
// not, and backups that are newer are listed again.
func TestRestoreLeavesTheFolderOfBackupsAlone(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	project(t, s, "p")
	var ids []string
	for range 2 {
		ids = append(ids, s.Want(201, s.Root, "POST /admin/backups", `{"projects":false,"files":false}`).Text("id"))
	}
	s.Stop()
	for _, manifest := range []string{"", "{garbage"} {
		dir, kept := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "backups")
		must(t, os.CopyFS(kept, os.DirFS(filepath.Join(s.Dir, "backups"))))
		a, err := (&flags{dataDir: dir}).load(app.Options{Telemetry: telemetry.Discard()})
		must(t, err)
		_, err = a.Restore(t.Context(), filepath.Join(kept, ids[0]), func(int, int) {})
		must(t, err)
		remove(t, filepath.Join(kept, ids[0], "manifest.json"))
		if manifest != "" {
			overwrite(t, filepath.Join(kept, ids[0], "manifest.json"), manifest)
		}
		r := apptest.Start(t, dir, app.Options{Modules: modules(), Version: "test"}, map[string]string{"recovery.backup_dir": kept})
		apptest.Eventually(t, "the newer one is listed, and the call is settled", func() bool {
			l := r.Want(200, r.Root, "GET /admin/backups", "").List("backups")
			return len(l) == 1 && l[0]["id"] == ids[1] && l[0]["status"] == "complete"
		})
		if _, err := os.Stat(filepath.Join(kept, ids[0], "metadata.duckdb")); err != nil {
			t.Errorf("with the manifest %q: %v", manifest, err)
		}
		r.Want(201, r.Root, "POST /admin/backups", `{"projects":false,"files":false}`)
		if v := r.Want(200, r.Root, "POST /admin/backups/"+ids[1]+"/verify", ""); v.JSON["verified"] != true {
			t.Errorf("the newer one verifies as %s", v.Body)
		}
		r.Stop()
	}

	// The one that was restored stays, however many newer ones there are.
	r, _ := restored(t, filepath.Join(s.Dir, "backups", ids[0]))
	kept := filepath.Join(r.Dir, "backups")
	r.Stop()
	must(t, os.CopyFS(kept, os.DirFS(filepath.Join(s.Dir, "backups"))))
	once := map[string]string{"recovery.backup_keep": "1"}
	listed := func(more string) {
		t.Helper()
		apptest.Eventually(t, "the newest and the restored one are listed", func() bool {
			l := r.Want(200, r.Root, "GET /admin/backups", "").List("backups")
			return len(l) == 2 && (more == "" || l[0]["id"] == more) && l[1]["id"] == ids[0]
		})
	}
	r = apptest.Start(t, r.Dir, app.Options{Modules: modules(), Version: "test"}, once)
	listed("")
	last := r.Want(201, r.Root, "POST /admin/backups", `{"projects":false,"files":false}`).Text("id")
	r.Stop()
	r = apptest.Start(t, r.Dir, app.Options{Modules: modules(), Version: "test"}, once)
	listed(last)
	r.Stop()
	if _, err := os.Stat(filepath.Join(kept, ids[0], "manifest.json")); err != nil {
		t.Error(err)
	}
}
