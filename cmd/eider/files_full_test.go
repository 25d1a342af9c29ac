package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/eiderdb/eider/core/app/apptest"
	"golang.org/x/sys/unix"
)

// tight is a server on a disk of its own that others fill.
type tight struct {
	*child
	disk string // its data folder, seen from here
}

// onSmallDisk starts a server on a disk of 256 MiB, with settings from the
// environment. It skips the test where nobody may mount one.
func onSmallDisk(t *testing.T, settings ...string) *tight {
	t.Helper()
	probe := exec.Command("true")
	probe.SysProcAttr = ownMounts()
	if err := probe.Run(); err != nil {
		t.Skipf("this machine lets nobody mount: %v", err)
	}
	dir := t.TempDir()
	c, address := tryServe(t, dir, append([]string{smallDisk}, settings...)...)
	if address == "" {
		if c.code() == 126 {
			t.Skipf("this machine lets nobody mount: %s", c.log())
		}
		t.Fatalf("the server ended:\n%s", c.log())
	}
	return &tight{c, fmt.Sprintf("/proc/%d/root%s", c.cmd.Process.Pid, dir)}
}

func (d *tight) free(t *testing.T) int64 {
	t.Helper()
	var st unix.Statfs_t
	must(t, unix.Statfs(d.disk, &st))
	return int64(st.Bavail) * st.Bsize
}

// fill leaves so many bytes of the disk to the server, until the file is removed.
func (d *tight) fill(t *testing.T, leave int64) (path string) {
	t.Helper()
	path = filepath.Join(d.disk, "of-others")
	f, err := os.Create(path)
	must(t, err)
	err = syscall.EINTR // tmpfs gives up at any signal
	for err == syscall.EINTR {
		err = unix.Fallocate(int(f.Fd()), 0, 0, d.free(t)-leave)
	}
	must(t, err)
	must(t, f.Close())
	return path
}

func (d *tight) isFull(t *testing.T, key string) {
	t.Helper()
	apptest.Eventually(t, "the disk counts as nearly full", func() bool {
		a, err := d.Try(key, "POST /projects/sales/files/prepare", `{"filename":"x"}`)
		return err == nil && a.Code() == "storage_full"
	})
}

// Where others fill the disk up to storage.min_free, uploads under way end with 507
// while there is room left: what was announced keeps what came, what was not
// leaves nothing. Deletes and sweeps go on, and so does the upload afterwards.
func TestDiskThatFillsEndsUploadsInTime(t *testing.T) {
	t.Parallel()
	d := onSmallDisk(t, "EIDER_STORAGE_MIN_FREE=64MiB", "EIDER_STORAGE_BALLAST=8MiB", "EIDER_FILES_SWEEP_EVERY=1s")
	key := d.Want(201, childKey, "POST /projects", `{"id":"sales"}`).Text("api_key")
	content := bytesOf(21, 10<<20)
	f := put(t, d.Server, key, "sales", "x", content)
	id := prepare(t, d.Server, key, "sales", fmt.Sprintf(`{"filename":"x","size_bytes":%d}`, len(content)))
	url := "/projects/sales/files/upload/" + id
	staged, once := dialWire(t, d.Server), dialWire(t, d.Server)
	staged.begin(key, "PUT "+url, fmt.Sprintf("Content-Length: %d", len(content)))
	once.begin(key, "POST /projects/sales/files?name=x", fmt.Sprintf("Content-Length: %d", len(content)))
	const half = 8 << 20
	for _, w := range []*rawWire{staged, once} {
		w.send(content[:half])
	}
	expiring := prepare(t, d.Server, key, "sales", `{"filename":"x","expires_in_seconds":1}`)
	d.Want(200, key, "PUT /projects/sales/files/upload/"+expiring, "expiring", raw)

	const left = 32 << 20
	others := d.fill(t, left)
	d.isFull(t, key)
	for _, w := range []*rawWire{staged, once} {
		w.send(content[half : half+1<<20])
		w.want(507, "storage_full")
	}
	n := 0
	if _, err := fmt.Sscan(atRest(t, d.Server, key, url), &n); err != nil || n < 1<<20 || n > half+1<<20 {
		t.Errorf("it stands at %d: %v", n, err)
	}
	if free := d.free(t); free < left-int64(n)-4<<20 {
		t.Errorf("%d bytes are free", free)
	}
	d.Want(507, key, "POST /projects/sales/files?name=x", "x", raw)
	d.Want(507, key, "PUT "+url, "x", raw)
	d.Want(200, key, "GET /projects/sales/files/"+f.ID+"/download", "")
	d.Want(204, key, "DELETE /projects/sales/files/"+f.ID, "")
	apptest.Eventually(t, "what expired is swept, and nothing else is left", func() bool {
		all := strings.Join(kept(t, d.disk), " ")
		return strings.Count(all, " ") == 1 && strings.Contains(all, ".part") && strings.Contains(all, ".state")
	})
	if got := held(t, d.Server, "sales"); got != "0 0" {
		t.Errorf("the project holds %s", got)
	}
	must(t, os.Remove(others))
	apptest.Eventually(t, "there is room again", func() bool { return d.Want(200, "", "GET /health", "").Text("status") == "healthy" })
	a := d.Want(200, key, "PUT "+url, content[n:], raw, fmt.Sprintf("Content-Range: bytes %d-%d/%d", n, len(content)-1, len(content)))
	if a.Text("checksum_sha256") != sha256Of(content) {
		t.Errorf("whole now: %s", a.Body)
	}
	d.stop(t)
}
