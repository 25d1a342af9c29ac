package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// fileScale is what is moved: files of 1 MiB, and one large file.
type fileScale struct {
	count int   // of 1 MiB
	bytes int64 // of the large one
	slow  int   // clients that hardly send
}

const (
	smallFile   = 1 << 20
	fileClients = 16
)

// fileBench moves the same bytes through eider and past it.
type fileBench struct {
	*bench
	fileScale
	s        *server
	key      string
	src      string   // the folder of what is uploaded
	uploaded []string // ids of the small files
	big      string   // id of the large one
}

const filesPath = "/projects/files/files"

// benchFiles measures uploads beside cp, md5sum and sha256sum, and downloads
// beside nginx, each pair in one run with the same client.
func benchFiles(ctx context.Context, b *bench) error {
	dir, err := b.fresh("files")
	if err != nil {
		return err
	}
	f := &fileBench{bench: b, fileScale: b.files, src: filepath.Join(dir, "src")}
	if err := f.prepare(); err != nil {
		return err
	}
	if f.s, err = b.serve(filepath.Join(dir, "data")); err != nil {
		return err
	}
	err = f.project()
	for _, step := range []func(context.Context) error{f.uploadSmall, f.uploadLarge, f.downloads, f.beside} {
		if err == nil {
			err = step(ctx)
		}
	}
	return errors.Join(err, f.s.stop())
}

func (f *fileBench) prepare() error {
	if err := os.Mkdir(f.src, 0o755); err != nil {
		return err
	}
	for i := range f.count {
		if err := randomFile(filepath.Join(f.src, fmt.Sprintf("small-%04d", i)), smallFile); err != nil {
			return err
		}
	}
	return randomFile(filepath.Join(f.src, "large"), f.bytes)
}

func randomFile(path string, size int64) error {
	w, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyN(w, rand.NewChaCha8([32]byte{byte(size), byte(len(path))}), size)
	return errors.Join(err, w.Close())
}

func (f *fileBench) project() error {
	c, err := dial(f.s.address)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.want(201, "POST", "/projects", f.s.root, `{"id":"files"}`); err != nil {
		return err
	}
	var made struct {
		Key string `json:"api_key"`
	}
	err = json.Unmarshal(c.body, &made)
	f.key = made.Key
	return err
}

// upload sends a file in one step and returns its id.
func (f *fileBench) upload(c *client, path string) (string, error) {
	r, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer r.Close()
	info, err := r.Stat()
	if err != nil {
		return "", err
	}
	head := fmt.Sprintf("POST %s?name=%s HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n",
		filesPath, info.Name(), f.key, info.Size())
	if err := c.conn.SetDeadline(time.Now().Add(10 * answerTimeout)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c.conn, head); err != nil {
		return "", err
	}
	if _, err := io.Copy(c.conn, r); err != nil {
		return "", err
	}
	status, err := c.answer()
	var made struct{ ID string }
	if err == nil {
		err = json.Unmarshal(c.body, &made)
	}
	if err == nil && status != 201 {
		err = fmt.Errorf("an upload answered %d: %.300s", status, c.body)
	}
	return made.ID, err
}

// eachFile has clients take one number after another, and returns the time for all.
func eachFile(address string, clients, count int, do func(c *client, i int) error) (time.Duration, error) {
	var next atomic.Int64
	failed := make([]error, clients)
	begun := time.Now()
	var all sync.WaitGroup
	for n := range clients {
		all.Go(func() {
			c, err := dial(address)
			if err != nil {
				failed[n] = err
				return
			}
			defer c.close()
			for i := int(next.Add(1)) - 1; i < count && failed[n] == nil; i = int(next.Add(1)) - 1 {
				failed[n] = do(c, i)
			}
		})
	}
	all.Wait()
	return time.Since(begun), errors.Join(failed...)
}

// watched runs do and returns the most that the server had resident meanwhile, and
// how much more that is than before.
func (s *server) watched(do func() error) (most, grown int64, err error) {
	before, err := s.resident()
	if err != nil {
		return 0, 0, err
	}
	stop, done := make(chan struct{}), make(chan struct{})
	most = before
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			if now, err := s.resident(); err == nil {
				most = max(most, now)
			}
		}
	}()
	err = do()
	close(stop)
	<-done
	return most, most - before, err
}

// shell runs commands and returns their time.
func (f *fileBench) shell(ctx context.Context, script string) (time.Duration, error) {
	c := exec.CommandContext(ctx, "sh", "-c", script)
	c.Dir = f.src
	begun := time.Now()
	out, err := c.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", script, err, out)
	}
	return time.Since(begun), err
}

// rate makes a row of bytes moved, in MB/s, beside what took another time for the
// same bytes.
func rate(what string, size int64, took, other time.Duration, of, bar string) row {
	return row{What: what + ", MB/s", PerSecond: float64(size) / 1e6 / took.Seconds(), Ratio: other.Seconds() / took.Seconds(), Of: of, Bar: bar}
}

const pastEider = "of cp + md5sum + sha256sum, no fsync"

func (f *fileBench) uploadSmall(ctx context.Context) error {
	f.uploaded = make([]string, f.count)
	var took time.Duration
	most, _, err := f.s.watched(func() (err error) {
		took, err = eachFile(f.s.address, fileClients, f.count, func(c *client, i int) (err error) {
			f.uploaded[i], err = f.upload(c, filepath.Join(f.src, fmt.Sprintf("small-%04d", i)))
			return err
		})
		return err
	})
	if err != nil {
		return err
	}
	other, err := f.shell(ctx, "mkdir ../copy && cp small-* ../copy && md5sum ../copy/* > /dev/null && sha256sum ../copy/* > /dev/null; rm -r ../copy")
	r := rate(fmt.Sprintf("upload %s files of 1 MiB, %s", thousands(int64(f.count)), many(fileClients)), int64(f.count)*smallFile, took, other, pastEider, "")
	r.Memory = most
	f.table.add(r)
	return err
}

func (f *fileBench) uploadLarge(ctx context.Context) error {
	var took time.Duration
	most, grown, err := f.s.watched(func() (err error) {
		took, err = eachFile(f.s.address, 1, 1, func(c *client, _ int) (err error) {
			f.big, err = f.upload(c, filepath.Join(f.src, "large"))
			return err
		})
		return err
	})
	if err != nil {
		return err
	}
	other, err := f.shell(ctx, "cp large ../copy && md5sum ../copy > /dev/null && sha256sum ../copy > /dev/null; rm ../copy")
	if err != nil {
		return err
	}
	r := rate(f.largeNamed("upload"), f.bytes, took, other, pastEider, "")
	r.Memory = most
	f.table.add(r)
	for _, part := range []struct{ script, of string }{
		{"md5sum large > /dev/null", "of md5sum alone"}, {"cp large ../copy && sync ../copy; rm ../copy", "of cp + sync alone"},
	} {
		if other, err = f.shell(ctx, part.script); err != nil {
			return err
		}
		r = rate(f.largeNamed("upload"), f.bytes, took, other, part.of, "")
		r.PerSecond = 0
		f.table.add(r)
	}
	f.table.note("An upload is synced before it is acknowledged: where the disk is slower than MD5, it is the disk that is measured.")
	f.table.note(fmt.Sprintf("The server's resident size grew by %s while the large file came in (bar: less than 100 MiB).", size(max(grown, 1))))
	return err
}

func (f *fileBench) largeNamed(what string) string {
	return fmt.Sprintf("%s one file of %s", what, size(f.bytes))
}

// fetch downloads a path and throws its bytes away.
func (f *fileBench) fetch(c *client, path string, want int64) error {
	q := "GET " + path + " HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer " + f.key + "\r\n\r\n"
	if err := c.conn.SetDeadline(time.Now().Add(10 * answerTimeout)); err != nil {
		return err
	}
	if _, err := io.WriteString(c.conn, q); err != nil {
		return err
	}
	line, err := c.reader.ReadString('\n')
	if err != nil {
		return err
	}
	length, err := c.headers()
	if err != nil || len(line) < 12 || line[9:12] != "200" || int64(length) != want {
		return errors.Join(err, fmt.Errorf("GET %s: %q, %d bytes", path, line, length))
	}
	_, err = io.CopyN(io.Discard, c.reader, want)
	return err
}

func (f *fileBench) downloads(ctx context.Context) error {
	if err := f.followed(); err != nil {
		return err
	}
	n, err := f.serveNginx(ctx)
	if err != nil {
		return err
	}
	if n == nil {
		f.table.note("nginx is not installed here: downloads are measured beside nothing.")
	} else {
		defer n.stop()
	}
	for _, d := range []struct {
		what           string
		clients, count int
		size           int64
		eider, nginx   func(i int) string
	}{
		{fmt.Sprintf("download %s files of 1 MiB, %s", thousands(int64(f.count)), many(fileClients)), fileClients, f.count, smallFile,
			func(i int) string { return filesPath + "/" + f.uploaded[i] + "/download" }, func(i int) string { return fmt.Sprintf("/small-%04d", i) }},
		{f.largeNamed("download"), 1, 1, f.bytes,
			func(int) string { return filesPath + "/" + f.big + "/download" }, func(int) string { return "/large" }},
	} {
		var took, other time.Duration
		most, _, err := f.s.watched(func() (err error) {
			took, err = middleOf(f.rounds, func() (time.Duration, error) {
				return eachFile(f.s.address, d.clients, d.count, func(c *client, i int) error { return f.fetch(c, d.eider(i), d.size) })
			})
			return err
		})
		if err == nil && n != nil {
			other, err = middleOf(f.rounds, func() (time.Duration, error) {
				return eachFile(n.address, d.clients, d.count, func(c *client, i int) error { return f.fetch(c, d.nginx(i), d.size) })
			})
		}
		if err != nil {
			return err
		}
		r := rate(d.what, int64(d.count)*d.size, took, other, "of nginx", ">= 0.5")
		if r.Memory = most; n == nil {
			r.Of, r.Bar = "", ""
		}
		f.table.add(r)
	}
	return nil
}

// middleOf runs do once to warm up, then some times, and returns the middle one.
func middleOf(rounds int, do func() (time.Duration, error)) (time.Duration, error) {
	all := make([]time.Duration, rounds+1)
	for i := range all {
		var err error
		if all[i], err = do(); err != nil {
			return 0, err
		}
	}
	all = all[1:]
	slices.Sort(all)
	return all[len(all)/2], nil
}

// followed waits until the sidecars of what was uploaded are written: they would
// take the disk and the processors from what is measured next.
func (f *fileBench) followed() error {
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(50 * time.Millisecond) {
		found, err := filepath.Glob(filepath.Join(filepath.Dir(f.src), "data", "files", "*", "*", "*.json"))
		if err != nil {
			return err
		}
		missing := f.count + 1
		for _, path := range found {
			if text, err := os.ReadFile(path); err == nil && bytes.Contains(text, []byte(`"log_id"`)) {
				missing--
			}
		}
		if missing <= 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d sidecars are missing", missing)
		}
	}
}
