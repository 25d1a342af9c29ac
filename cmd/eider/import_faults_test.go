package main

import (
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/disk"
)

// recorder is a disk.FS.Hook that records the steps below some folders, and makes
// one of them fail. Sidecars follow behind the requests and are left out.
type recorder struct {
	below string // part of the paths that count

	mu    sync.Mutex
	steps []string
	at    int // counts from 1; 0: none
	errno syscall.Errno
}

// record makes the steps below some folders count from now on.
func (r *recorder) record(below string) {
	r.arm(0, 0)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.below = below
}

func (r *recorder) hook(op disk.Op) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !strings.Contains(op.Path+" "+op.To, r.below) || strings.Contains(op.Path, ".json.new") {
		return nil
	}
	step := op.Kind + " " + op.Path
	if op.To != "" {
		step += " -> " + op.To
	}
	r.steps = append(r.steps, step)
	if len(r.steps) == r.at {
		return r.errno
	}
	return nil
}

// arm makes step at fail, and forgets what was recorded.
func (r *recorder) arm(at int, errno syscall.Errno) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps, r.at, r.errno = nil, at, errno
}

func (r *recorder) recorded() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.steps
}

// Whatever step of an import or an export the disk refuses: the caller is told, the
// table holds what the log says was imported, nothing is left lying with the worker,
// and the same succeeds when it is sent again.
func TestEveryStepOfAnImportMayFail(t *testing.T) {
	t.Parallel()
	rec := &recorder{}
	rec.record("port")
	s := apptest.Start(t, t.TempDir(), app.Options{Modules: modules(), Version: "test", Files: &disk.FS{Hook: rec.hook}}, nil)
	key := project(t, s, "p")
	file, _ := stored(t, s, key, "p", "rows.csv", "n\n1\n2\n3\n")
	const table = "/projects/p/buckets/b/tables/t"
	s.Want(201, key, "POST /projects/p/buckets", `{"name":"b"}`)
	s.Want(201, key, "POST /projects/p/buckets/b/tables", `{"name":"t","columns":[{"name":"n","type":"BIGINT"}]}`)
	for _, c := range []struct{ operation, do, body string }{
		{"import_table", "POST " + table + "/import/file", `{"file_id":"` + file + `","format":"csv","import_options":{"incremental":true}}`},
		{"export_table", "POST " + table + "/export", `{"format":"csv"}`},
	} {
		for errno, code := range map[syscall.Errno]string{syscall.ENOSPC: "storage_full", syscall.EIO: "storage_unavailable"} {
			for at := 1; ; at++ {
				rec.arm(at, errno)
				a := s.Do(key, c.do, c.body)
				steps := rec.recorded()
				rec.arm(0, 0)
				if met := len(steps) >= at; a.Status != 200 && (!met || a.Code() != code) {
					t.Errorf("%s, %v at %v: answered %d %s", c.operation, errno, steps, a.Status, a.Body)
				}
				apptest.Eventually(t, "the call is settled", func() bool { return len(s.App.Kernel.Audit.Unfinished()) == 0 })
				done := 3 * len(s.Want(200, s.Root, "GET /operations?operation=import_table&status=success", "").List("operations"))
				if n := s.Want(200, key, "GET "+table, "").JSON["row_count"]; n != float64(done) {
					t.Errorf("%s, %v at %v: the table holds %v rows, the log says %d", c.operation, errno, steps, n, done)
				}
				if left, _ := filepath.Glob(filepath.Join(s.Dir, "duckdb", "*", "*", "*port")); len(left) > 0 {
					t.Errorf("%s, %v at %v: left are %v", c.operation, errno, steps, left)
				}
				if len(steps) < at { // there is no such step
					if at < 2 {
						t.Errorf("%s has no steps", c.operation)
					}
					break
				}
			}
		}
	}
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency?deep=true", ""))
}
