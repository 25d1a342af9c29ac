package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/disk"
)

// badDisk is a disk.FS.Hook that counts the steps of effects on folders, and
// makes one of them fail, or all from one on.
type badDisk struct {
	mu    sync.Mutex
	steps []disk.Op
	fail  func(n int) bool // n counts from 0
	errno syscall.Errno
}

func (b *badDisk) hook(op disk.Op) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	// Sidecars and the trash are seen to behind the requests.
	if strings.HasSuffix(op.Path, "project.json.new") || strings.Contains(op.Path, "/trash/") && op.Kind == "remove" ||
		op.Kind == "syncdir" && strings.HasPrefix(filepath.Base(op.Path), "project_") {
		return nil
	}
	n := len(b.steps)
	b.steps = append(b.steps, op)
	if b.fail != nil && b.fail(n) {
		return b.errno
	}
	return nil
}

// arm makes steps fail from now on; nil heals the disk.
func (b *badDisk) arm(errno syscall.Errno, fail func(n int) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.steps, b.fail, b.errno = nil, fail, errno
}

// count runs do on a healthy disk and returns how many steps it took.
func (b *badDisk) count(do func()) int {
	b.arm(0, nil)
	do()
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.steps)
}

func startOn(t *testing.T, dir string, b *badDisk) *apptest.Server {
	t.Helper()
	return apptest.Start(t, dir, app.Options{Modules: modules(), Version: "test", Files: &disk.FS{Hook: b.hook}}, nil)
}

// onFolders are the requests that touch folders, each to a server that has the
// project p and no other, and whether p is there afterwards.
var onFolders = []struct {
	name, do, body string
	status         int
	there          bool
}{
	{"create", "POST /projects", `{"id":"p"}`, 201, true},
	{"purge", "DELETE /projects/p?purge=true", "", 204, false},
}

func once(n int) func(int) bool    { return func(i int) bool { return i == n } }
func forGood(n int) func(int) bool { return func(i int) bool { return i >= n } }

// A fault at one step of an effect is told, undone and logged, and the same
// request succeeds when it is sent again.
func TestFaultAtOneStepOfAFolderIsToldAndUndone(t *testing.T) {
	b := &badDisk{}
	s := startOn(t, t.TempDir(), b)
	for _, r := range onFolders {
		for errno, code := range map[syscall.Errno]string{syscall.ENOSPC: "storage_full", syscall.EIO: "storage_unavailable"} {
			for n := 0; ; n++ {
				before := s.App.Kernel.Audit.Head().ID
				b.arm(errno, once(n))
				a := s.Do(s.Root, r.do, r.body)
				b.arm(0, nil)
				if a.Status == r.status { // there is no step n
					if n < 3 {
						t.Errorf("%s has only %d steps", r.name, n)
					}
					putBack(s, r.there)
					break
				}
				if a.Code() != code {
					t.Errorf("%s, %v at step %d: answered %d %s", r.name, errno, n, a.Status, a.Body)
				}
				if rows := strings.Join(s.Rows(before), ","); rows != r.name+"_project in_progress,"+r.name+"_project failed" {
					t.Errorf("%s, %v at step %d: the log has %s", r.name, errno, n, rows)
				}
				wantFolders(t, s, !r.there)
			}
		}
		putBack(s, !r.there)
	}
	if v := s.Want(200, s.Root, "GET /operations/verify", ""); v.JSON["verified"] != true {
		t.Errorf("the chain does not hold: %s", v.Body)
	}
}

// putBack undoes what a request has done: there says whether p is there now.
func putBack(s *apptest.Server, there bool) {
	for _, r := range onFolders {
		if r.there != there {
			s.Want(r.status, s.Root, r.do, r.body)
		}
	}
}

// wantFolders checks that the register and the folders hold p, or nothing, and
// agree on its state.
func wantFolders(t *testing.T, s *apptest.Server, there bool) {
	t.Helper()
	want := ""
	for _, p := range projectsOf(t, s) {
		folder := filepath.Dir(filepath.Dir(p.DBPath))
		want = filepath.Base(folder)
		checkFolder(t, s.Dir, p)
	}
	if got := listing(t, filepath.Join(s.Dir, "duckdb")); got != want || (want != "") != there {
		t.Errorf("the register has %q, the folders are %q", want, got)
	}
}

// From some step on every step fails, also of undoing: as the disk of a server
// that goes on to fail until it heals, or until a restart. Then the call is
// settled, and p is there as a whole or not at all.
func TestCallOnADiskThatFailsForGoodIsSettledOnceItHeals(t *testing.T) {
	for _, r := range onFolders {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restart %v", r.name, restart), func(t *testing.T) {
				t.Parallel()
				b := &badDisk{}
				s := startOn(t, t.TempDir(), b)
				steps := 0
				for _, r := range onFolders {
					n := b.count(func() { s.Want(r.status, s.Root, r.do, r.body) })
					if r.do == "POST /projects" {
						steps = n
					}
				}
				stride := 4
				if !r.there {
					putBack(s, false)
					steps, stride = 3, 1
				}
				if os.Getenv("EIDER_TORTURE_ROUNDS") != "" {
					stride = 1
				}
				for n := steps - 1; n >= 0; n -= stride {
					b.arm(syscall.EIO, forGood(n))
					a := s.Do(s.Root, r.do, r.body)
					if a.Code() != "storage_unavailable" {
						t.Errorf("broken from step %d: answered %d %s", n, a.Status, a.Body)
					}
					if restart {
						s.Stop()
						b.arm(0, nil)
						s = startOn(t, s.Dir, b)
					}
					b.arm(0, nil)
					apptest.Eventually(t, "the call is settled", func() bool { return len(s.App.Kernel.Audit.Unfinished()) == 0 })
					now := s.Do(s.Root, "GET /projects/p", "").Status == 200
					wantFolders(t, s, now)
					if now == r.there {
						putBack(s, now)
					}
				}
			})
		}
	}
}

// A project that was changed just before a purge that fails has a sidecar that
// tells the change: while the purge was under way, none could be written.
func TestSidecarIsWrittenAfterAPurgeThatFailed(t *testing.T) {
	var blocked atomic.Bool
	reached, goOn := make(chan struct{}), make(chan struct{})
	files := &disk.FS{Hook: func(op disk.Op) error {
		if op.Kind == "rename" && strings.Contains(op.To, "/trash/") && blocked.CompareAndSwap(true, false) {
			close(reached)
			<-goOn
			return syscall.EIO
		}
		return nil
	}}
	s := apptest.Start(t, t.TempDir(), app.Options{Modules: modules(), Version: "test", Files: files}, nil)
	project(t, s, "p")
	project(t, s, "q")
	blocked.Store(true)
	s.Want(200, s.Root, "PATCH /projects/p", `{"name":"changed"}`)
	answered := make(chan apptest.Answer)
	go func() {
		a, _ := s.Try(s.Root, "DELETE /projects/p?purge=true", "")
		answered <- a
	}()
	<-reached
	s.Want(200, s.Root, "PATCH /projects/q", `{"name":"changed too"}`)
	for _, p := range projectsOf(t, s) { // the follower has come past p's change
		if p.ID == "q" {
			checkFolder(t, s.Dir, p)
		}
	}
	close(goOn)
	if a := <-answered; a.Code() != "storage_unavailable" {
		t.Errorf("the purge answered %d %s", a.Status, a.Body)
	}
	for _, p := range projectsOf(t, s) {
		checkFolder(t, s.Dir, p)
	}
}

func projectsOf(t *testing.T, s *apptest.Server) []eider.Project {
	t.Helper()
	var page struct{ Projects []eider.Project }
	must(t, json.Unmarshal(s.Want(200, s.Root, "GET /projects?status=all", "").Body, &page))
	return page.Projects
}
