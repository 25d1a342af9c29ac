package main

import (
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
)

// badFiles is a disk.FS.Hook that counts the steps on the bytes of files, and makes
// one of them fail.
type badFiles struct {
	mu    sync.Mutex
	n     int
	at    int // counts from 1; 0: none
	errno syscall.Errno
	met   string
}

func (b *badFiles) hook(op disk.Op) error {
	// Sidecars follow behind the requests.
	if !strings.Contains(op.Path+op.To, "/files/") || strings.HasSuffix(op.Path, ".json.new") {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n++; b.n != b.at {
		return nil
	}
	b.met = op.Kind + " " + filepath.Ext(op.Path)
	return b.errno
}

func (b *badFiles) arm(at int, errno syscall.Errno) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.n, b.at, b.errno, b.met = 0, at, errno, ""
}

func (b *badFiles) failed() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = 0
	return b.met
}

// Whatever step of an upload, a one-step upload or a delete the disk refuses: the
// caller is told, nothing half is kept, and the same can be done again.
func TestEveryStepOfAFileMayFail(t *testing.T) {
	t.Parallel()
	bad := &badFiles{}
	s := apptest.Start(t, t.TempDir(), app.Options{Modules: modules(), Version: "test", Files: &disk.FS{Hook: bad.hook}}, nil)
	key := project(t, s, "sales")
	content := bytesOf(20, 200<<10)
	statuses := map[syscall.Errno]string{syscall.ENOSPC: "507 storage_full", syscall.EIO: "503 storage_unavailable", syscall.EROFS: "503 storage_unavailable"}
	refused := func(t *testing.T, errno syscall.Errno, met string, a apptest.Answer) {
		t.Helper()
		if got := fmt.Sprint(a.Status, " ", a.Code()); got != statuses[errno] {
			t.Errorf("%s: answered %s, want %s: %s", met, got, statuses[errno], a.Body)
		}
		if strings.Contains(string(a.Body), s.Dir) {
			t.Errorf("%s: the answer names a path: %s", met, a.Body)
		}
	}
	clean := func(t *testing.T, met, want string) {
		t.Helper()
		apptest.Eventually(t, "the call is settled", func() bool {
			return len(s.Want(200, s.Root, "GET /operations?status=in_progress", "").List("operations")) == 0
		})
		if got := held(t, s, "sales"); got != want {
			t.Errorf("%s: the project holds %s, want %s", met, got, want)
		}
	}
	for errno := range statuses {
		t.Run("one step, "+errno.Error(), func(t *testing.T) {
			for at := 1; ; at++ {
				bad.arm(at, errno)
				a := s.Do(key, "POST /projects/sales/files?name=x", content, raw)
				met := bad.failed()
				if a.Status == 201 {
					s.Want(204, key, "DELETE /projects/sales/files/"+a.Text("id"), "")
					if met == "" {
						break
					}
					continue // what may fail after all is durable
				}
				refused(t, errno, met, a)
				clean(t, met, "0 0")
				if left := kept(t, s.Dir); len(left) > 0 {
					t.Fatalf("%s left %v", met, left)
				}
			}
		})
		t.Run("parts, "+errno.Error(), func(t *testing.T) {
			for at := 1; ; at++ {
				id := prepare(t, s, key, "sales", fmt.Sprintf(`{"filename":"x","size_bytes":%d}`, len(content)))
				url := "/projects/sales/files/upload/" + id
				bad.arm(at, errno)
				first := s.Do(key, "PUT "+url, content[:100<<10], raw, fmt.Sprintf("Content-Range: bytes 0-%d/%d", 100<<10-1, len(content)))
				if first.Status != 200 {
					refused(t, errno, "first part: "+bad.failed(), first)
				}
				n := 0
				if _, err := fmt.Sscan(offset(s, key, url), &n); err != nil || (first.Status == 200 && n != 100<<10) {
					t.Fatalf("it stands at %d: %v", n, err)
				}
				for tries := 0; ; tries++ {
					span := fmt.Sprintf("Content-Range: bytes %d-%d/%d", n, len(content)-1, len(content))
					if n == len(content) {
						span = fmt.Sprintf("Content-Range: bytes */%d", n)
					}
					a := s.Do(key, "PUT "+url, content[n:], raw, span)
					if a.Status == 200 {
						if a.Text("checksum_sha256") != sha256Of(content) {
							t.Fatalf("whole now: %s", a.Body)
						}
						break
					}
					refused(t, errno, "last part: "+bad.failed(), a)
					s.Want(400, key, "POST /projects/sales/files", `{"upload_key":"`+id+`"}`)
					before := n // what came before the fault may be kept
					if _, err := fmt.Sscan(offset(s, key, url), &n); err != nil || n < before || tries > 0 {
						t.Fatalf("it stands at %d after %d, try %d: %v", n, before, tries, err)
					}
				}
				met := bad.failed()
				f := fileIn(t, s.Want(201, key, "POST /projects/sales/files", `{"upload_key":"`+id+`"}`))
				if a := s.Want(200, key, "GET /projects/sales/files/"+f.ID+"/download", ""); string(a.Body) != content {
					t.Fatalf("%s: other bytes", met)
				}
				clean(t, met, fmt.Sprint("1 ", float64(len(content))))
				s.Want(204, key, "DELETE /projects/sales/files/"+f.ID, "")
				if left := kept(t, s.Dir); len(left) > 0 {
					t.Fatalf("%s left %v", met, left)
				}
				if bad.n < at {
					break
				}
			}
		})
		t.Run("delete, "+errno.Error(), func(t *testing.T) {
			for at := 1; ; at++ {
				f := put(t, s, key, "sales", "x", content)
				id := prepare(t, s, key, "sales", `{"filename":"x"}`)
				s.Want(200, key, "PUT /projects/sales/files/upload/"+id, "staged", raw)
				again := false
				for _, one := range []string{f.ID, id} {
					bad.arm(at, errno)
					a := s.Do(key, "DELETE /projects/sales/files/"+one, "")
					met := bad.failed()
					if a.Status == 204 {
						continue
					}
					again = true
					refused(t, errno, met, a)
					if one == f.ID {
						clean(t, met, fmt.Sprint("1 ", float64(len(content))))
						if a := s.Want(200, key, "GET /projects/sales/files/"+one+"/download", ""); string(a.Body) != content {
							t.Fatalf("%s: other bytes", met)
						}
					} else {
						clean(t, met, "0 0")
						one = s.Want(201, key, "POST /projects/sales/files", `{"upload_key":"`+one+`"}`).Text("id")
						if a := s.Want(200, key, "GET /projects/sales/files/"+one+"/download", ""); string(a.Body) != "staged" {
							t.Fatalf("%s: other bytes", met)
						}
					}
					s.Want(204, key, "DELETE /projects/sales/files/"+one, "")
				}
				if left := kept(t, s.Dir); len(left) > 0 {
					t.Fatalf("left %v", left)
				}
				if !again {
					break
				}
			}
		})
	}
}

// A folder that cannot be written any more, midway: a clear refusal, and what was
// there before goes on.
func TestFolderMadeUnwritableMidway(t *testing.T) {
	t.Parallel()
	if os.Getuid() == 0 {
		unwritableForRoot(t)
		return
	}
	s := start(t, nil)
	key := project(t, s, "sales")
	f := put(t, s, key, "sales", "x", "before")
	folder := filepath.Join(s.Dir, "files", f.Path[:36])
	must(t, os.Chmod(folder, 0o500))
	for range 300 { // another pair of characters has a folder of its own, soon
		if a := s.Do(key, "POST /projects/sales/files?name=x", "x", raw); a.Status != 201 {
			if a.Status != 503 || a.Code() != "storage_unavailable" {
				t.Errorf("answered %d %s", a.Status, a.Body)
			}
			break
		}
	}
	s.Want(200, key, "GET /projects/sales/files/"+f.ID+"/download", "")
	must(t, os.Chmod(folder, 0o700))
	put(t, s, key, "sales", "x", "after")
}

// unwritableForRoot is for root, whom no mode keeps out: a file stands where the
// folder should be.
func unwritableForRoot(t *testing.T) {
	s := start(t, nil)
	key := project(t, s, "sales")
	uid := s.Want(200, key, "GET /projects/sales", "").Text("uid")
	folder := filepath.Join(s.Dir, "files", uid)
	must(t, os.WriteFile(folder, nil, 0o600))
	if a := s.Want(503, key, "POST /projects/sales/files?name=x", "x", raw); a.Code() != "storage_unavailable" {
		t.Errorf("answered %s", a.Body)
	}
	id := prepare(t, s, key, "sales", `{"filename":"x"}`)
	s.Want(503, key, "PUT /projects/sales/files/upload/"+id, "x", raw)
	if got := held(t, s, "sales"); got != "0 0" {
		t.Errorf("the project holds %s", got)
	}
	must(t, os.Remove(folder))
	s.Want(200, key, "PUT /projects/sales/files/upload/"+id, "x", raw)
	put(t, s, key, "sales", "x", "after")
}

// Where the disk is nearly full, nothing is taken and everything can be deleted.
func TestNearlyFullDiskTakesNoFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := apptest.Start(t, dir, app.Options{Modules: modules(), Version: "test"}, nil)
	key := project(t, s, "sales")
	f := put(t, s, key, "sales", "x", "data")
	id := prepare(t, s, key, "sales", `{"filename":"x"}`)
	s.Stop()
	s = apptest.Start(t, dir, app.Options{Modules: modules(), Version: "test"}, map[string]string{"storage.min_free": "1000TiB"})
	for do, body := range map[string]string{
		"POST /projects/sales/files?name=x": "x", "PUT /projects/sales/files/upload/" + id: "x", "POST /projects/sales/files/prepare": `{"filename":"x"}`,
	} {
		if a := s.Want(507, key, do, body); a.Code() != "storage_full" {
			t.Errorf("%s: %s", do, a.Body)
		}
	}
	s.Want(200, key, "GET /projects/sales/files/"+f.ID+"/download", "")
	s.Want(204, key, "DELETE /projects/sales/files/"+f.ID, "")
	s.Want(204, key, "DELETE /projects/sales/files/"+id, "")
}
