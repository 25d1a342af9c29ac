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
	at    int  // counts from 1; 0: none
	stays bool // every step from that one on
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
	if b.n++; b.at == 0 || b.n < b.at || b.n > b.at && !b.stays {
		return nil
	}
	b.met = op.Kind + " " + filepath.Ext(op.Path)
	return b.errno
}

func (b *badFiles) arm(at int, errno syscall.Errno) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.n, b.at, b.stays, b.errno, b.met = 0, at, false, errno, ""
}

// die makes every step fail from now on, until failed is called.
func (b *badFiles) die(errno syscall.Errno) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.n, b.at, b.stays, b.errno, b.met = 0, 1, true, errno, ""
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

// A disk that fails for good while a body comes: the caller is told, what is there
// is read on, and once the disk is whole again nothing is left of a one-step upload
// and another goes on where it says it stands.
func TestDiskThatFailsForGoodMidway(t *testing.T) {
	t.Parallel()
	bad := &badFiles{}
	s := apptest.Start(t, t.TempDir(), app.Options{Modules: modules(), Version: "test", Files: &disk.FS{Hook: bad.hook}}, nil)
	key := project(t, s, "sales")
	f := put(t, s, key, "sales", "before", "before")
	content := bytesOf(22, 300<<10)
	for errno, told := range map[syscall.Errno]string{syscall.EIO: "storage_unavailable", syscall.EROFS: "storage_unavailable", syscall.ENOSPC: "storage_full"} {
		id := prepare(t, s, key, "sales", `{"filename":"x"}`)
		url := "/projects/sales/files/upload/" + id
		s.Want(200, key, "PUT "+url, content[:50<<10], raw, fmt.Sprintf("Content-Range: bytes 0-%d/%d", 50<<10-1, len(content)))
		staged, once := dialWire(t, s), dialWire(t, s)
		staged.begin(key, "PUT "+url, fmt.Sprintf("Content-Range: bytes %d-%d/%d", 50<<10, len(content)-1, len(content)), fmt.Sprintf("Content-Length: %d", len(content)-50<<10))
		once.begin(key, "POST /projects/sales/files?name=x", fmt.Sprintf("Content-Length: %d", len(content)))
		staged.send(content[50<<10 : 200<<10])
		once.send(content[:200<<10])
		apptest.Eventually(t, "both are written", func() bool {
			parts := 0
			for _, name := range kept(t, s.Dir) {
				if strings.HasSuffix(name, ".part") {
					parts++
				}
			}
			return parts == 2
		})
		bad.die(errno)
		status := map[string]int{"storage_full": 507, "storage_unavailable": 503}[told]
		staged.send(content[200<<10:])
		staged.want(status, told)
		once.send(content[200<<10:])
		once.want(status, told)
		s.Want(status, key, "POST /projects/sales/files?name=x", "x", raw)
		s.Want(status, key, "DELETE /projects/sales/files/"+f.ID, "")
		s.Want(200, "", "GET /health", "")
		if a := s.Want(200, key, "GET /projects/sales/files/"+f.ID+"/download", ""); string(a.Body) != "before" {
			t.Errorf("%v: other bytes", errno)
		}
		if bad.failed() == "" {
			t.Fatal("nothing failed")
		}
		n := 0
		if _, err := fmt.Sscan(atRest(t, s, key, url), &n); err != nil || n < 50<<10 || n > len(content) {
			t.Errorf("%v: it stands at %d: %v", errno, n, err)
		}
		a := s.Want(200, key, "PUT "+url, content[n:], raw, fmt.Sprintf("Content-Range: bytes %d-%d/%d", n, len(content)-1, len(content)))
		if a.Text("checksum_sha256") != sha256Of(content) {
			t.Errorf("%v: whole now: %s", errno, a.Body)
		}
		s.Want(204, key, "DELETE /projects/sales/files/"+id, "")
		if left := kept(t, s.Dir); len(left) != 1 || !strings.HasSuffix(f.Path, left[0]) {
			t.Errorf("%v left %v", errno, left)
		}
		if got := held(t, s, "sales"); got != "1 6" {
			t.Errorf("%v: the project holds %s", errno, got)
		}
	}
}

// A folder that is made read-only while a body comes: a clear refusal, and what was
// there before goes on. The server is without root's right to write it in spite.
func TestFolderMadeReadOnlyMidway(t *testing.T) {
	t.Parallel()
	c := serve(t, t.TempDir(), unprivileged)
	key := c.Want(201, childKey, "POST /projects", `{"id":"sales"}`).Text("api_key")
	f := put(t, c.Server, key, "sales", "x", "before")
	content := bytesOf(23, 300<<10)
	id := prepare(t, c.Server, key, "sales", `{"filename":"x"}`)
	url := "/projects/sales/files/upload/" + id
	w := dialWire(t, c.Server)
	w.begin(key, "PUT "+url, fmt.Sprintf("Content-Length: %d", len(content)))
	w.send(content[:200<<10])
	part := ""
	apptest.Eventually(t, "bytes are written", func() bool {
		for _, name := range kept(t, c.Dir) {
			if strings.HasSuffix(name, ".part") {
				part = name
			}
		}
		return part != ""
	})
	folder := filepath.Join(c.Dir, "files", f.Path[:36])
	fan := filepath.Join(folder, strings.TrimSuffix(part, ".part")[34:])
	chmod := func(mode os.FileMode) {
		must(t, os.Chmod(folder, mode))
		must(t, os.Chmod(fan, mode))
	}
	chmod(0o500)
	w.send(content[200<<10:])
	w.want(503, "storage_unavailable")
	refused := false
	for range 300 { // another pair of characters has a folder of its own, soon
		if a := c.Do(key, "POST /projects/sales/files?name=x", "x", raw); a.Status != 201 {
			refused = a.Status == 503 && a.Code() == "storage_unavailable" && !strings.Contains(string(a.Body), c.Dir)
			if !refused {
				t.Errorf("answered %d %s", a.Status, a.Body)
			}
			break
		}
	}
	if !refused {
		t.Error("nothing was refused")
	}
	c.Want(200, key, "GET /projects/sales/files/"+f.ID+"/download", "")
	c.Want(200, "", "GET /health", "")
	chmod(0o700)
	if a := c.Want(200, key, "PUT "+url, content, raw); a.Text("checksum_sha256") != sha256Of(content) {
		t.Errorf("whole now: %s", a.Body)
	}
	put(t, c.Server, key, "sales", "x", "after")
	c.stop(t)
}

// What stands where the folder of a project's files should be is no reason to lose
// an upload.
func TestFolderThatCannotBeMade(t *testing.T) {
	t.Parallel()
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
