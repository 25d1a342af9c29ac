package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/policy"
)

// roomFor lets a project hold so many bytes and files.
type roomFor struct {
	bytes, files int64

	mu    sync.Mutex
	asked []int64 // bytes
}

func (q *roomFor) Decide(_ context.Context, ask *policy.Question) (policy.Decision, error) {
	if !slices.Contains([]string{"prepare_file", "upload_file", "register_file"}, ask.Operation) {
		return policy.Decision{}, nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.asked = append(q.asked, ask.ProjectUsage.Bytes)
	if ask.ProjectUsage.Bytes > q.bytes || ask.ProjectUsage.Files > q.files {
		return policy.Decision{Deny: true, Code: eider.QuotaExceeded, Reason: "the project is full"}, nil
	}
	return policy.Decision{}, nil
}

func limited(q *roomFor) app.Options {
	return app.Options{Modules: modules(), Version: "test", Policies: []policy.Item{{Name: "quota", Version: "1", Policy: q, Mode: policy.Enforce}}}
}

// Uploads at once never pass a quota together, and all that fits is taken.
func TestConcurrentUploadsKeepToAQuota(t *testing.T) {
	t.Parallel()
	const size, fit = 100 << 10, 5
	s := apptest.Start(t, t.TempDir(), limited(&roomFor{bytes: fit * size, files: 1000}), nil)
	key := project(t, s, "sales")
	content := bytesOf(10, size)
	for range 3 {
		var mu sync.Mutex
		var kept []string
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				a, err := s.Try(key, "POST /projects/sales/files?name=x", content, raw)
				if err != nil || a.Status != 201 && a.Code() != "quota_exceeded" {
					t.Errorf("%v %s", err, a.Body)
				}
				mu.Lock()
				defer mu.Unlock()
				if a.Status == 201 {
					kept = append(kept, a.Text("id"))
				}
			})
		}
		all.Wait()
		if len(kept) > fit || len(kept) == 0 {
			t.Errorf("%d of %d were kept", len(kept), fit)
		}
		for n := len(kept); n < fit; n++ { // what was refused beside others fits now
			kept = append(kept, put(t, s, key, "sales", "x", content).ID)
		}
		if a := s.Want(507, key, "POST /projects/sales/files?name=x", "x", raw); a.Code() != "quota_exceeded" || a.Text("plugin") != "quota" {
			t.Errorf("one more byte: %s", a.Body)
		}
		for _, id := range kept {
			s.Want(204, key, "DELETE /projects/sales/files/"+id, "")
		}
	}
}

// A body of known length asks for that length, and no more.
func TestKnownLengthAsksForItselfAlone(t *testing.T) {
	t.Parallel()
	q := &roomFor{bytes: 1 << 20, files: 100}
	s := apptest.Start(t, t.TempDir(), limited(q), nil)
	key := project(t, s, "sales")
	content := bytesOf(11, 1<<20)
	f := put(t, s, key, "sales", "x", content)
	s.Want(204, key, "DELETE /projects/sales/files/"+f.ID, "")
	id := prepare(t, s, key, "sales", fmt.Sprintf(`{"filename":"x","size_bytes":%d}`, len(content)))
	s.Want(200, key, "PUT /projects/sales/files/upload/"+id, content, raw)
	s.Want(200, key, "PUT /projects/sales/files/upload/"+id, content, raw) // again, instead of the first
	w := dialWire(t, s)
	w.begin(key, "PUT /projects/sales/files/upload/"+id, "Transfer-Encoding: chunked") // announced, so its length is known
	w.chunk(content)
	w.send("0\r\n\r\n")
	w.want(200, sha256Of(content))
	s.Want(201, key, "POST /projects/sales/files", `{"upload_key":"`+id+`"}`)
	for _, n := range q.asked {
		if n > q.bytes {
			t.Errorf("asked for %d bytes", n)
		}
	}
}

// A body of unknown length extends what it has reserved as it grows, and is
// refused in the middle; what it reserved is free again.
func TestUnknownLengthIsRefusedInTheMiddle(t *testing.T) {
	t.Parallel()
	q := &roomFor{bytes: 130 << 20, files: 100}
	s := apptest.Start(t, t.TempDir(), limited(q), nil)
	key := project(t, s, "sales")
	block := bytesOf(12, 1<<20)
	w := dialWire(t, s)
	w.begin(key, "POST /projects/sales/files?name=x", "Transfer-Encoding: chunked")
	for range 200 {
		if _, err := fmt.Fprintf(w, "%x\r\n%s\r\n", len(block), block); err != nil {
			break
		}
	}
	w.want(507, "quota_exceeded")
	apptest.Eventually(t, "nothing is kept", func() bool { return len(kept(t, s.Dir)) == 0 })
	if got := held(t, s, "sales"); got != "0 0" {
		t.Errorf("the project holds %s", got)
	}
	if !slices.Contains(q.asked, 64<<20) || !slices.Contains(q.asked, 128<<20) {
		t.Errorf("it asked for %v", q.asked)
	}
	id := prepare(t, s, key, "sales", fmt.Sprintf(`{"filename":"x","size_bytes":%d}`, q.bytes)) // all of it is free
	s.Want(204, key, "DELETE /projects/sales/files/"+id, "")
}

// What is left of a quota can be used up by a body of unknown length, though it is
// less than a step.
func TestUnknownLengthUsesAQuotaUp(t *testing.T) {
	t.Parallel()
	s := apptest.Start(t, t.TempDir(), limited(&roomFor{bytes: 100_000, files: 100}), nil)
	key := project(t, s, "sales")
	send := func(n int) *rawWire {
		w := dialWire(t, s)
		w.begin(key, "POST /projects/sales/files?name=x", "Transfer-Encoding: chunked")
		w.chunk(bytesOf(13, n))
		w.send("0\r\n\r\n")
		return w
	}
	send(100_001).want(507, "quota_exceeded")
	send(100_000).want(201, "checksum_sha256")
	send(1).want(507, "quota_exceeded")
	if got := held(t, s, "sales"); got != "1 100000" {
		t.Errorf("the project holds %s", got)
	}
}

// What uploads hold is reserved, by what was announced or by what came, until they
// are registered or gone, and again after a restart.
func TestStagedBytesAreReserved(t *testing.T) {
	t.Parallel()
	q, dir := &roomFor{bytes: 1000, files: 3}, t.TempDir()
	s := apptest.Start(t, dir, limited(q), nil)
	key := project(t, s, "sales")
	full := func(room int) {
		t.Helper()
		if a := s.Want(507, key, "POST /projects/sales/files?name=x", strings.Repeat("x", room+1), raw); a.Code() != "quota_exceeded" {
			t.Errorf("more than there is room for: %s", a.Body)
		}
		if room > 0 {
			f := put(t, s, key, "sales", "x", strings.Repeat("x", room))
			s.Want(204, key, "DELETE /projects/sales/files/"+f.ID, "")
		}
	}
	announced := prepare(t, s, key, "sales", `{"filename":"a","size_bytes":400}`)
	full(600)
	unknown := prepare(t, s, key, "sales", `{"filename":"b"}`)
	full(600)
	s.Want(200, key, "PUT /projects/sales/files/upload/"+unknown, strings.Repeat("x", 100), raw, "Content-Range: bytes 0-99/300")
	full(500)
	s.Want(507, key, "PUT /projects/sales/files/upload/"+unknown, strings.Repeat("x", 501), raw, "Content-Range: bytes 100-600/601")
	full(500)
	s.Stop()
	s = apptest.Start(t, dir, limited(q), nil)
	full(500)
	s.Want(200, key, "PUT /projects/sales/files/upload/"+unknown, strings.Repeat("x", 200), raw, "Content-Range: bytes 100-299/300")
	full(300)
	s.Want(200, key, "PUT /projects/sales/files/upload/"+announced, strings.Repeat("y", 400), raw)
	full(300)
	s.Want(201, key, "POST /projects/sales/files", `{"upload_key":"`+unknown+`"}`)
	full(300)
	s.Stop()
	s = apptest.Start(t, dir, limited(q), nil)
	full(300)
	s.Want(204, key, "DELETE /projects/sales/files/"+announced, "")
	full(700)
	s.Want(204, key, "DELETE /projects/sales/files/"+unknown, "")
	full(1000)
	for range 3 {
		prepare(t, s, key, "sales", `{"filename":"a"}`)
	}
	if a := s.Want(507, key, "POST /projects/sales/files/prepare", `{"filename":"a"}`); a.Code() != "quota_exceeded" {
		t.Errorf("a fourth file: %s", a.Body)
	}
}
