package main

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/app/apptest"
)

// uploader is a client that uploads, registers and deletes, and remembers what it
// was told.
type uploader struct {
	t   *testing.T
	rng *rand.Rand
	key string
	s   *apptest.Server

	files   map[string]string // sha256 of what is registered, by id
	unsure  map[string]string // what may be registered or deleted, or not: nobody said
	uploads map[string]*pending
}

// pending is an upload under way.
type pending struct {
	content string
	at      int // what was acknowledged
}

const uploadersPath = "/projects/sales/files"

// turn does one thing and reports whether it was answered.
func (u *uploader) turn() bool {
	switch n := u.rng.IntN(10); {
	case n < 3:
		return u.putOne()
	case n < 8:
		return u.uploadSome()
	default:
		return u.deleteOne()
	}
}

func (u *uploader) send(do, body string, headers ...string) (apptest.Answer, bool) {
	a, err := u.s.Try(u.key, do, body, headers...)
	if err == nil && a.Status >= 500 {
		u.t.Errorf("%s answered %s", do, a.Body)
	}
	return a, err == nil
}

func (u *uploader) content() string { return bytesOf(u.rng.Uint64(), 1+u.rng.IntN(300<<10)) }

func (u *uploader) putOne() bool {
	content := u.content()
	a, ok := u.send("POST "+uploadersPath+"?name=one", content, raw)
	if ok {
		if a.Status != 201 || a.Text("checksum_sha256") != sha256Of(content) {
			u.t.Errorf("a one-step upload answered %s", a.Body)
		}
		u.files[a.Text("id")] = sha256Of(content)
	}
	return ok
}

// uploadSome begins an upload, or sends the next part of one, and registers what is
// whole.
func (u *uploader) uploadSome() bool {
	if len(u.uploads) < 3 {
		content := u.content()
		a, ok := u.send("POST "+uploadersPath+"/prepare", fmt.Sprintf(`{"filename":"parts","size_bytes":%d}`, len(content)))
		if ok {
			u.uploads[a.Text("upload_key")] = &pending{content: content}
		}
		return ok
	}
	for id, p := range u.uploads {
		return u.proceed(id, p, min(len(p.content), p.at+1+u.rng.IntN(150<<10)))
	}
	return true
}

// proceed sends the part up to a byte, and registers the upload if that is all.
func (u *uploader) proceed(id string, p *pending, to int) bool {
	if p.at < len(p.content) {
		a, ok := u.send("PUT "+uploadersPath+"/upload/"+id, p.content[p.at:to], raw, fmt.Sprintf("Content-Range: bytes %d-%d/%d", p.at, to-1, len(p.content)))
		if !ok {
			return false
		}
		if a.Status != 200 || a.JSON["size_bytes"] != float64(to) {
			u.t.Errorf("bytes %d to %d of %s answered %s", p.at, to, id, a.Body)
		}
		p.at = to
	}
	if p.at < len(p.content) {
		return true
	}
	a, ok := u.send("POST "+uploadersPath, `{"upload_key":"`+id+`"}`)
	delete(u.uploads, id)
	sum := sha256Of(p.content)
	if !ok {
		u.unsure[id] = sum
		return false
	}
	if a.Status != 201 || a.Text("checksum_sha256") != sum {
		u.t.Errorf("registering %s answered %s", id, a.Body)
	}
	u.files[id] = sum
	return true
}

func (u *uploader) deleteOne() bool {
	for id, sum := range u.files {
		delete(u.files, id)
		a, ok := u.send("DELETE "+uploadersPath+"/"+id, "")
		if !ok {
			u.unsure[id] = sum
		} else if a.Status != 204 {
			u.t.Errorf("deleting %s answered %s", id, a.Body)
		}
		return ok
	}
	return true
}

// check compares what was acknowledged with what is there, once every call is
// settled.
func (u *uploader) check() {
	for id, sum := range u.files {
		if a := u.s.Want(200, u.key, "GET "+uploadersPath+"/"+id+"/download", ""); sha256Of(string(a.Body)) != sum {
			u.t.Errorf("%s has other bytes", id)
		}
	}
	for id, sum := range u.unsure {
		a := u.s.Do(u.key, "GET "+uploadersPath+"/"+id, "")
		switch {
		case a.Status == 404:
		case a.JSON["is_staged"] == true: // it was not registered
			u.s.Want(201, u.key, "POST "+uploadersPath, `{"upload_key":"`+id+`"}`)
			u.files[id] = sum
		default:
			u.files[id] = sum
		}
		delete(u.unsure, id)
	}
	for id, p := range u.uploads {
		u.catchUp(id, p)
	}
}

// catchUp asks where the upload stands: never before what was acknowledged.
func (u *uploader) catchUp(id string, p *pending) {
	a := u.s.Want(200, u.key, "HEAD "+uploadersPath+"/upload/"+id, "")
	at := -1
	if _, err := fmt.Sscan(a.Header.Get("Upload-Offset"), &at); err != nil || at < p.at || at > len(p.content) {
		u.t.Errorf("%s stands at %q, %d of %d were acknowledged", id, a.Header.Get("Upload-Offset"), p.at, len(p.content))
	}
	p.at = at
	if at < len(p.content) {
		return
	}
	// All bytes came; whether somebody said so, the register knows.
	if f := u.s.Want(200, u.key, "GET "+uploadersPath+"/"+id, ""); f.Text("checksum_sha256") == "" {
		u.s.Want(200, u.key, "PUT "+uploadersPath+"/upload/"+id, "", raw, fmt.Sprintf("Content-Range: bytes */%d", at))
	}
}

// TestKilledServerKeepsUploads kills a server under clients that upload, and starts
// it again on the same folder. What was acknowledged must hash right, what was not
// must go on where it stands or be gone, and after a sweep every file on the disk
// has its row.
//
// EIDER_TORTURE_ROUNDS and EIDER_TORTURE_SEED are those of the torture.
func TestKilledServerKeepsUploads(t *testing.T) {
	t.Parallel()
	rounds, seed := setting(t, "EIDER_TORTURE_ROUNDS", 12), uint64(setting(t, "EIDER_TORTURE_SEED", int(time.Now().UnixNano())))
	t.Logf("%d rounds, EIDER_TORTURE_SEED=%d", rounds, seed)
	dir, rng := t.TempDir(), rand.New(rand.NewPCG(seed, 99))
	c := serve(t, dir)
	key := c.Want(201, childKey, "POST /projects", `{"id":"sales"}`).Text("api_key")
	var all []*uploader
	for i := range 6 {
		all = append(all, &uploader{t: t, rng: rand.New(rand.NewPCG(seed, uint64(i))), key: key,
			files: map[string]string{}, unsure: map[string]string{}, uploads: map[string]*pending{}})
	}
	settled := 0
	for round := range rounds {
		victim := c
		time.AfterFunc(time.Duration(20+rng.IntN(200))*time.Millisecond, func() { _ = victim.cmd.Process.Kill() })
		var wg sync.WaitGroup
		for _, u := range all {
			u.s = c.Server
			wg.Go(func() {
				for u.turn() {
				}
			})
		}
		wg.Wait()
		c.kill()
		c = serve(t, dir)
		checkSettled(t, c)
		for _, u := range all {
			u.s = c.Server
			u.check()
		}
		if t.Failed() {
			t.Fatalf("round %d; the server said:\n%s", round, c.log())
		}
	}
	for _, name := range []string{"upload_file", "register_file", "delete_file"} {
		for _, row := range c.Want(200, childKey, "GET /operations?limit=1000&operation="+name, "").List("operations") {
			if details, ok := row["details"].(map[string]any); ok && details["settled"] != nil {
				settled++
			}
		}
	}
	if settled == 0 {
		t.Error("no kill met a call under way")
	}
	for _, u := range all { // what was cut can be brought to its end
		for id, p := range u.uploads {
			u.proceed(id, p, len(p.content))
		}
		u.check()
	}
	count, size := 0, 0.0
	for _, u := range all {
		count += len(u.files)
	}
	for _, f := range listAll(t, c) {
		size += f["size_bytes"].(float64)
	}
	st := c.Want(200, childKey, "GET /projects/sales/stats", "")
	if st.JSON["file_bytes"] != size || st.JSON["file_count"].(float64) < float64(count) {
		t.Errorf("%d files were acknowledged, their rows have %v bytes; the project holds %s", count, size, st.Body)
	}
	c.stop(t)
	c = noOrphans(t, dir)
	c.stop(t)
	t.Logf("%d files, %d calls were settled", count, settled)
}

func listAll(t *testing.T, c *child) (all []map[string]any) {
	t.Helper()
	for cursor := ""; ; {
		a := c.Want(200, childKey, "GET /projects/sales/files?include_staged=true&limit=1000"+cursor, "")
		all = append(all, a.List("files")...)
		if a.Text("next_cursor") == "" {
			return all
		}
		cursor = "&cursor=" + a.Text("next_cursor")
	}
}

// noOrphans makes all files on the disk old, starts a server that sweeps, and waits
// until nothing is left that no row names.
func noOrphans(t *testing.T, dir string) *child {
	t.Helper()
	long := time.Now().Add(-time.Hour)
	must(t, filepath.WalkDir(filepath.Join(dir, "files"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			err = os.Chtimes(path, long, long)
		}
		return err
	}))
	c := serve(t, dir, "EIDER_FILES_GRACE=1m", "EIDER_FILES_SWEEP_EVERY=1s")
	named := []string{}
	for _, f := range listAll(t, c) {
		named = append(named, filepath.Base(f["path"].(string)))
	}
	apptest.Eventually(t, "every file on the disk has its row", func() bool {
		for _, name := range kept(t, dir) {
			if id, _, _ := strings.Cut(name, "."); !slices.Contains(named, id) && !slices.Contains(named, name) {
				return false
			}
			if strings.HasSuffix(name, ".state") && slices.Contains(named, strings.TrimSuffix(name, ".state")) {
				return false // of an upload that is whole
			}
		}
		return true
	})
	return c
}
