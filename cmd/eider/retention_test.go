package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/modules/audit"
)

func TestRetentionArchivesFirstAndThenDeletes(t *testing.T) {
	var due, broken atomic.Bool
	module := audit.New()
	module.Most = 4
	module.Now = func() time.Time {
		if due.Load() {
			return time.Now().AddDate(0, 3, 0)
		}
		return time.Now()
	}
	all := slices.DeleteFunc(modules(), func(m core.Module) bool { return m.Name() == "audit" })
	files := &disk.FS{Hook: func(op disk.Op) error {
		if broken.Load() && op.Kind == "rename" && strings.HasSuffix(op.To, ".parquet.json") {
			return errors.New("provoked")
		}
		return nil
	}}
	o := app.Options{Modules: append(all, module), Version: "test", Files: files}
	settings := map[string]string{"audit.retention": "1h", "audit.archive_every": "1s"}
	s := apptest.Start(t, t.TempDir(), o, settings)
	for _, id := range []string{"a", "b", "c", "d"} {
		project(t, s, id)
	}
	archived := func() []string {
		found, err := filepath.Glob(filepath.Join(s.Dir, "archive", "*"))
		mustDo(t, err)
		return found
	}
	s.Want(409, s.Root, "POST /projects", `{"id":"a"}`)
	if found := archived(); len(found) > 0 {
		t.Errorf("a month that is not over was archived: %v", found)
	}

	broken.Store(true)
	due.Store(true)
	apptest.Eventually(t, "an archive fails", func() bool {
		return len(s.Want(200, s.Root, "GET /operations?operation=archive_log&status=failed", "").List("operations")) > 0
	})
	due.Store(false)
	if found := archived(); len(found) > 0 {
		t.Errorf("an archive that failed leaves %v", found)
	}
	s.Want(200, s.Root, "GET /operations/1", "")

	broken.Store(false)
	due.Store(true)
	apptest.Eventually(t, "the rows are archived", func() bool {
		return s.Do(s.Root, "GET /operations/8", "").Status == 404
	})
	due.Store(false)
	verified := func(query string, first float64) {
		t.Helper()
		v := s.Want(200, s.Root, "GET /operations/verify"+query, "").JSON
		if v["verified"] != true || first > 0 && v["first_id"] != first {
			t.Errorf("verify%s tells %v", query, v)
		}
	}
	verified("", 0)
	verified("?archive=true", 1)
	s.Want(422, s.Root, "GET /operations/verify?archive=true&from=3", "")
	s.Want(422, s.Root, "GET /operations/tail", "", "Last-Event-ID: 1")
	s.Want(200, s.Root, "GET /operations/export", "")
	head := s.App.Kernel.Audit.Head().ID
	made := s.Want(201, s.Root, "POST /admin/backups", `{"projects":false,"files":false}`).Text("id")
	s.Stop()

	s = apptest.Start(t, s.Dir, options(), nil)
	verified("?archive=true", 1)
	if now := s.App.Kernel.Audit.Head().ID; now < head {
		t.Errorf("the head went from %d to %d", head, now)
	}
	// A backup of the metadata alone holds the archives of the log, too.
	r, _ := restored(t, filepath.Join(s.Dir, "backups", made))
	if v := r.Want(200, r.Root, "GET /operations/verify?archive=true", "").JSON; v["verified"] != true || v["first_id"] != 1.0 {
		t.Errorf("after a restore it tells %v", v)
	}
	r.Stop()
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency?deep=true", ""))
	const first, second = "archive/operations-000000000001-000000000004.parquet", "archive/operations-000000000005-000000000008.parquet"
	mustDo(t, os.Remove(filepath.Join(s.Dir, first)))
	if v := s.Want(200, s.Root, "GET /operations/verify?archive=true", "").JSON; v["verified"] != false {
		t.Errorf("without an archive it tells %v", v)
	}
	// What is lost of archives every check tells, and no backup takes over: it says so, and
	// so do those that have the same bytes.
	spoil(t, filepath.Join(s.Dir, second))
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency", ""), "missing_file "+first)
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency?deep=true", ""), "missing_file "+first, "checksum_mismatch "+second)
	lesser := s.Want(201, s.Root, "POST /admin/backups", `{"projects":false,"files":false}`)
	if left := texts(lesser, "left_out"); !slices.Equal(left, []string{first + ": missing", second + ": not what its manifest says"}) {
		t.Errorf("left out are %v", left)
	}
	if l := s.Want(200, s.Root, "GET /admin/backups", "").List("backups"); l[0]["status"] != "complete" || l[1]["id"] != made || l[1]["status"] != "damaged" {
		t.Errorf("the list has %v", l)
	}
}
