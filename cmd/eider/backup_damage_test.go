package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/app/apptest"
)

// spoil changes bytes of a file in their place, and so those of all its links.
func spoil(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("altered"), 0)
	must(t, err)
	must(t, f.Close())
}

// texts returns a list of texts in an answer.
func texts(a apptest.Answer, name string) (all []string) {
	list, _ := a.JSON[name].([]any)
	for _, one := range list {
		all = append(all, one.(string))
	}
	return all
}

// A backup goes by the register: a file beside which nothing can be read is in it, with
// what the register knows. One that is missing, or is found to be damaged, is in no
// backup, which says so, and fails none.
func TestBackupGoesByTheRegister(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "p")
	bare := put(t, s, key, "p", "bare", "without anything beside it", "&tag=k:v")
	garbled := put(t, s, key, "p", "garbled", "with garbage beside it")
	missing := put(t, s, key, "p", "missing", "missing")
	wrong := put(t, s, key, "p", "wrong", "these bytes are altered")
	path := func(f string) string { return filepath.Join(s.Dir, "files", f) }
	apptest.Eventually(t, "all sidecars are written", func() bool {
		for _, f := range []string{bare.Path, garbled.Path, missing.Path, wrong.Path} {
			if text, err := os.ReadFile(path(f) + ".json"); err != nil || !strings.Contains(string(text), "log_id") {
				return false
			}
		}
		return true
	})
	must(t, os.Remove(path(bare.Path)+".json"))
	must(t, os.WriteFile(path(garbled.Path)+".json", []byte("garbage"), 0o600))
	must(t, os.Remove(path(missing.Path)))
	spoil(t, path(wrong.Path))

	first := s.Want(201, s.Root, "POST /admin/backups", "")
	isMissing, isWrong := "files/"+missing.Path+": missing", "files/"+wrong.Path+": not what was registered"
	if got := texts(first, "left_out"); !slices.Equal(got, []string{isMissing}) {
		t.Errorf("left out are %v", got)
	}
	// Nobody knows that the bytes are altered before they are read.
	if v := s.Want(200, s.Root, "POST /admin/backups/"+first.Text("id")+"/verify", ""); v.JSON["verified"] != false || !strings.Contains(string(v.Body), wrong.Path) {
		t.Errorf("verifying answered %s", v.Body)
	}
	apptest.Eventually(t, "a check tells of it", func() bool {
		return slices.Contains(findings(t, s.Want(200, s.Root, "GET /health/consistency", "")), "checksum_mismatch file:"+wrong.ID)
	})
	second := s.Want(201, s.Root, "POST /admin/backups", "")
	left := []string{isMissing, isWrong}
	slices.Sort(left)
	if got := texts(second, "left_out"); !slices.Equal(got, left) {
		t.Errorf("left out of the second are %v", got)
	}
	v := s.Want(200, s.Root, "POST /admin/backups/"+second.Text("id")+"/verify", "")
	if v.JSON["verified"] != true || !slices.Equal(texts(v, "left_out"), left) {
		t.Errorf("verifying the second answered %s", v.Body)
	}

	r, done := restored(t, filepath.Join(s.Dir, "backups", second.Text("id")))
	if len(done.Damaged) > 0 || !slices.Equal(done.LeftOut, left) {
		t.Errorf("damaged are %v, left out %v", done.Damaged, done.LeftOut)
	}
	wantFindings(t, r.Want(200, r.Root, "GET /health/consistency?deep=true", ""), "missing_file file:"+missing.ID, "missing_file file:"+wrong.ID)
	for _, f := range []string{bare.ID, garbled.ID} {
		r.Want(200, key, "GET /projects/p/files/"+f+"/download", "")
	}
	if text, err := os.ReadFile(filepath.Join(r.Dir, "files", bare.Path+".json")); err != nil || !strings.Contains(string(text), `"tags":{"k":"v"}`) {
		t.Errorf("beside the file stands %s, %v", text, err)
	}
	// The command says what was left out, and ends with another code than where all is there.
	to := filepath.Join(t.TempDir(), "restored")
	if r := runEider(t, "restore", filepath.Join(s.Dir, "backups", second.Text("id")), "--data-dir", to); r.code != 13 || !strings.Contains(r.out, "left out of the backup: "+isMissing) {
		t.Errorf("the restore ended with %d: %s%s", r.code, r.out, r.message)
	}
}

// A copy in a backup that the disk has lost is not taken into the next one: the
// database is copied anew, and the old backup is known to be damaged.
func TestDamagedCopyIsNotTakenIntoTheNextBackup(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "p")
	s.Want(201, key, "POST /projects/p/buckets", `{"name":"b"}`)
	db := s.Want(200, s.Root, "GET /projects/p", "").Text("db_path")
	apptest.Eventually(t, "its log is folded", func() bool {
		info, err := os.Stat(filepath.Join(s.Dir, db+".wal"))
		return os.IsNotExist(err) || err == nil && info.Size() == 0
	})
	backup := func() (id string, copied os.FileInfo) {
		id = s.Want(201, s.Root, "POST /admin/backups", "").Text("id")
		if v := s.Want(200, s.Root, "POST /admin/backups/"+id+"/verify", ""); v.JSON["verified"] != true {
			t.Errorf("%s verifies as %s", id, v.Body)
		}
		copied, err := os.Stat(filepath.Join(s.Dir, "backups", id, db))
		must(t, err)
		return id, copied
	}
	backup()
	last, one := backup()
	spoil(t, filepath.Join(s.Dir, "backups", last, db))
	_, other := backup()
	if os.SameFile(one, other) {
		t.Error("the damaged copy was linked")
	}
	if l := s.Want(200, s.Root, "GET /admin/backups", "").List("backups"); l[1]["id"] != last || l[1]["status"] != "damaged" || l[2]["status"] != "damaged" || l[0]["status"] != "complete" {
		t.Errorf("the list has %v", l) // both have the copy
	}
	if _, again := backup(); !os.SameFile(other, again) {
		t.Error("a whole copy was not linked")
	}
	newest := s.Want(200, s.Root, "GET /admin/backups", "").List("backups")[0]["id"].(string)
	remove(t, filepath.Join(s.Dir, "backups", newest, db))
	backup()
	if l := s.Want(200, s.Root, "GET /admin/backups", "").List("backups"); l[1]["id"] != newest || l[1]["status"] != "damaged" || l[2]["status"] != "complete" {
		t.Errorf("without the copy the list has %v", l)
	}
	s.Stop()
	volume := t.TempDir()
	must(t, os.Mkdir(filepath.Join(volume, "lost+found"), 0o700)) // as that of a new file system
	r := runEider(t, "restore", filepath.Join(s.Dir, "backups", last), "--data-dir", volume)
	if r.code != 13 || !strings.Contains(r.out, "damaged in the backup: "+db) {
		t.Errorf("restoring what is damaged ended with %d: %s%s", r.code, r.out, r.message)
	}
}
