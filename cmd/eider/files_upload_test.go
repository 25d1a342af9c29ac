package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/app/apptest"
)

// rawWire is a connection on which a test sends what no client would.
type rawWire struct {
	t testing.TB
	net.Conn
	in *bufio.Reader
}

func dialWire(t testing.TB, s *apptest.Server) *rawWire {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return &rawWire{t, c, bufio.NewReader(c)}
}

// begin sends the head of a request; headers are whole lines.
func (w *rawWire) begin(key, do string, headers ...string) {
	w.t.Helper()
	head := do + " HTTP/1.1\r\nHost: eider\r\nAuthorization: Bearer " + key + "\r\nContent-Type: application/octet-stream\r\n"
	for _, h := range headers {
		head += h + "\r\n"
	}
	w.send(head + "\r\n")
}

func (w *rawWire) send(text string) {
	w.t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		w.t.Fatal(err)
	}
}

func (w *rawWire) chunk(text string) {
	w.t.Helper()
	w.send(fmt.Sprintf("%x\r\n%s\r\n", len(text), text))
}

// answer reads the status and the body.
func (w *rawWire) answer() (int, string) {
	w.t.Helper()
	r, err := http.ReadResponse(w.in, nil)
	if err != nil {
		w.t.Fatalf("no answer: %v", err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Fatalf("half an answer: %v", err)
	}
	return r.StatusCode, string(body)
}

func (w *rawWire) want(status int, code string) {
	w.t.Helper()
	if got, body := w.answer(); got != status || !strings.Contains(body, code) {
		w.t.Errorf("answered %d %s, want %d %s", got, body, status, code)
	}
}

func offset(s *apptest.Server, key, url string) string {
	a, err := s.Try(key, "HEAD "+url, "")
	if err != nil {
		return err.Error()
	}
	return a.Header.Get("Upload-Offset")
}

// atRest waits until no request uploads to the key any more, and returns where
// the upload stands.
func atRest(t *testing.T, s *apptest.Server, key, url string) string {
	t.Helper()
	apptest.Eventually(t, "the call has ended", func() bool {
		return len(s.Want(200, s.Root, "GET /operations?status=in_progress", "").List("operations")) == 0
	})
	return offset(s, key, url)
}

// An upload that is cut, however it was sent, leaves what was received, and goes
// on from there.
func TestUploadThatIsCutIsResumed(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "sales")
	content := bytesOf(2, 300<<10)
	half := content[:100<<10]
	body, _ := form("file", content)
	for name, cut := range map[string]func(w *rawWire, url string){
		"raw": func(w *rawWire, url string) {
			w.begin(key, "PUT "+url, fmt.Sprintf("Content-Length: %d", len(content)))
			w.send(half)
		},
		"chunks": func(w *rawWire, url string) {
			w.begin(key, "PUT "+url, "Transfer-Encoding: chunked")
			w.chunk(half)
		},
		"form": func(w *rawWire, url string) {
			w.send("POST " + url + " HTTP/1.1\r\nHost: eider\r\nAuthorization: Bearer " + key +
				"\r\nContent-Type: multipart/form-data; boundary=limit\r\nContent-Length: " + fmt.Sprint(len(body)) + "\r\n\r\n" + body[:len(body)/2])
		},
		"part": func(w *rawWire, url string) {
			w.begin(key, "PUT "+url, fmt.Sprintf("Content-Range: bytes 0-%d/%d", len(content)-1, len(content)), fmt.Sprintf("Content-Length: %d", len(content)))
			w.send(half)
		},
		"form without its end": func(w *rawWire, url string) {
			whole := strings.TrimSuffix(body, "--limit--\r\n")
			w.send("POST " + url + " HTTP/1.1\r\nHost: eider\r\nAuthorization: Bearer " + key +
				"\r\nContent-Type: multipart/form-data; boundary=limit\r\nContent-Length: " + fmt.Sprint(len(whole)) + "\r\n\r\n" + whole)
		},
	} {
		t.Run(name, func(t *testing.T) {
			id := prepare(t, s, key, "sales", fmt.Sprintf(`{"filename":"a","size_bytes":%d}`, len(content)))
			url := "/projects/sales/files/upload/" + id
			w := dialWire(t, s)
			cut(w, url)
			if name != "form without its end" {
				apptest.Eventually(t, "the upload runs", func() bool {
					a, err := s.Try(s.Root, "GET /operations?status=in_progress", "")
					return err == nil && len(a.List("operations")) == 1
				})
				_ = w.Close()
			} else {
				w.want(400, "malformed_request")
			}
			at := atRest(t, s, key, url)
			n := 0
			if _, err := fmt.Sscan(at, &n); err != nil || n > len(content) {
				t.Fatalf("it stands at %q", at)
			}
			if a := s.Want(400, key, "POST /projects/sales/files", `{"upload_key":"`+id+`"}`); a.Code() != "file_not_uploaded" {
				t.Errorf("half an upload: %s", a.Body)
			}
			span := fmt.Sprintf("Content-Range: bytes %d-%d/%d", n, len(content)-1, len(content))
			if n == len(content) { // all that lacks is the end
				span = fmt.Sprintf("Content-Range: bytes */%d", n)
			}
			a := s.Want(200, key, "PUT "+url, content[n:], raw, span)
			if a.Text("checksum_sha256") != sha256Of(content) || a.Text("checksum_md5") != md5Of(content) {
				t.Errorf("whole now: %s", a.Body)
			}
			f := fileIn(t, s.Want(201, key, "POST /projects/sales/files", `{"upload_key":"`+id+`"}`))
			if a := s.Want(200, key, "GET /projects/sales/files/"+f.ID+"/download", ""); string(a.Body) != content {
				t.Error("other bytes came back")
			}
		})
	}
}

// An upload goes on after a restart, with the hashes of what came before.
func TestUploadIsResumedAfterARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := serve(t, dir)
	s := c.Server
	s.Root = childKey
	key := project(t, s, "sales")
	content := bytesOf(3, 200_000)
	id := prepare(t, s, key, "sales", `{"filename":"a"}`)
	url := "/projects/sales/files/upload/" + id
	s.Want(200, key, "PUT "+url, content[:100_000], raw, "Content-Range: bytes 0-99999/*")
	c.kill()
	c = serve(t, dir)
	s = c.Server
	s.Root = childKey
	if at := offset(s, key, url); at != "100000" {
		t.Fatalf("after a kill it stands at %s", at)
	}
	// All bytes are there, but nobody said that these are all: an empty part does.
	s.Want(200, key, "PUT "+url, content[100_000:], raw, "Content-Range: bytes 100000-199999/*")
	c.stop(t)
	c = serve(t, dir)
	s = c.Server
	a := s.Want(200, key, "PUT "+url, "", raw, "Content-Range: bytes */200000")
	if a.Text("checksum_sha256") != sha256Of(content) || a.JSON["complete"] != true {
		t.Errorf("whole now: %s", a.Body)
	}
	s.Want(201, key, "POST /projects/sales/files", `{"upload_key":"`+id+`"}`)
	c.stop(t)
}

// Whoever lies about a size or never ends is told so, and nothing is kept that
// could not become the file.
func TestBodiesThatLieAreRefused(t *testing.T) {
	t.Parallel()
	s := start(t, map[string]string{"files.max_size": "1MiB"})
	key := project(t, s, "sales")
	block := bytesOf(4, 64<<10)
	forever := func(w *rawWire) { // until it is refused
		for range 100 {
			if _, err := fmt.Fprintf(w, "%x\r\n%s\r\n", len(block), block); err != nil {
				return
			}
		}
	}
	for name, c := range map[string]struct {
		announced string
		url       func(id string) string
		send      func(w *rawWire, do string)
		status    int
		code      string
		stands    string
	}{
		"chunks, more than announced": {`,"size_bytes":4`, nil, func(w *rawWire, do string) {
			w.begin(key, do, "Transfer-Encoding: chunked")
			forever(w)
		}, 422, "size_mismatch", "0"},
		"chunks, less than announced": {`,"size_bytes":4`, nil, func(w *rawWire, do string) {
			w.begin(key, do, "Transfer-Encoding: chunked")
			w.chunk("dat")
			w.send("0\r\n\r\n")
		}, 422, "size_mismatch", "0"},
		"a body without end": {"", nil, func(w *rawWire, do string) {
			w.begin(key, do, "Transfer-Encoding: chunked")
			forever(w)
		}, 413, "file_too_large", "0"},
		"a part shorter than it says": {"", nil, func(w *rawWire, do string) {
			w.begin(key, do, "Transfer-Encoding: chunked", "Content-Range: bytes 0-9/20")
			w.chunk("data")
			w.send("0\r\n\r\n")
		}, 422, "Content-Range", "4"},
		"a part longer than it says": {"", nil, func(w *rawWire, do string) {
			w.begin(key, do, "Transfer-Encoding: chunked", "Content-Range: bytes 0-3/20")
			w.chunk("data and more")
			w.send("0\r\n\r\n")
		}, 422, "Content-Range", "0"},
		"a form that never comes to the file": {"", nil, func(w *rawWire, do string) {
			w.send(strings.Replace(do, "PUT", "POST", 1) + " HTTP/1.1\r\nHost: eider\r\nAuthorization: Bearer " + key +
				"\r\nContent-Type: multipart/form-data; boundary=limit\r\nTransfer-Encoding: chunked\r\n\r\n")
			w.chunk("--limit\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n")
			forever(w)
		}, 400, "malformed_request", "0"},
		"a form of many fields": {"", nil, func(w *rawWire, do string) {
			field := "--limit\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\nx\r\n"
			w.send(strings.Replace(do, "PUT", "POST", 1) + " HTTP/1.1\r\nHost: eider\r\nAuthorization: Bearer " + key +
				"\r\nContent-Type: multipart/form-data; boundary=limit\r\nTransfer-Encoding: chunked\r\n\r\n")
			w.chunk(strings.Repeat(field, 100))
		}, 400, "malformed_request", "0"},
		"two files": {"", nil, func(w *rawWire, do string) {
			body, header := form("file", "a", "file", "b")
			w.send(strings.Replace(do, "PUT", "POST", 1) + " HTTP/1.1\r\nHost: eider\r\nAuthorization: Bearer " + key + "\r\n" + header +
				fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
		}, 400, "malformed_request", "1"},
		"no file": {"", nil, func(w *rawWire, do string) {
			body, header := form("other", "a")
			w.send(strings.Replace(do, "PUT", "POST", 1) + " HTTP/1.1\r\nHost: eider\r\nAuthorization: Bearer " + key + "\r\n" + header +
				fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
		}, 422, "field of the form", "0"},
	} {
		t.Run(name, func(t *testing.T) {
			id := prepare(t, s, key, "sales", `{"filename":"a"`+c.announced+`}`)
			url := "/projects/sales/files/upload/" + id
			w := dialWire(t, s)
			c.send(w, "PUT "+url)
			w.want(c.status, c.code)
			if at := atRest(t, s, key, url); at != c.stands {
				t.Errorf("it stands at %s, want %s", at, c.stands)
			}
			s.Want(204, key, "DELETE /projects/sales/files/"+id, "")
		})
	}
	w := dialWire(t, s)
	w.begin(key, "POST /projects/sales/files?name=x", "Transfer-Encoding: chunked")
	forever(w)
	w.want(413, "file_too_large")
	atRest(t, s, key, "")
	if left := kept(t, s.Dir); len(left) > 0 || held(t, s, "sales") != "0 0" {
		t.Errorf("left: %v, the project holds %s", left, held(t, s, "sales"))
	}
}

// A part whose digest does not fit is left out; those before it stay.
func TestPartWithAnotherDigestIsLeftOut(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "sales")
	id := prepare(t, s, key, "sales", `{"filename":"a"}`)
	url := "/projects/sales/files/upload/" + id
	s.Want(200, key, "PUT "+url, "first", raw, "Content-Range: bytes 0-4/10", "Content-Digest: "+digestOf("first"))
	if a := s.Want(422, key, "PUT "+url, "xxxxx", raw, "Content-Range: bytes 5-9/10", "Content-Digest: "+digestOf("other")); a.Code() != "checksum_mismatch" {
		t.Errorf("answered %s", a.Body)
	}
	if at := offset(s, key, url); at != "5" {
		t.Errorf("it stands at %s", at)
	}
	a := s.Want(200, key, "PUT "+url, "other", raw, "Content-Range: bytes 5-9/10", "Content-Digest: "+digestOf("other"))
	if a.Text("checksum_sha256") != sha256Of("firstother") {
		t.Errorf("whole now: %s", a.Body)
	}
	if a := s.Want(409, key, "PUT "+url, "z", raw, "Content-Range: bytes 10-10/11"); a.Code() != "upload_offset_conflict" {
		t.Errorf("a part behind the end: %s", a.Body)
	}
	// All of it again replaces it.
	a = s.Want(200, key, "PUT "+url, "anew", raw)
	if a.Text("checksum_sha256") != sha256Of("anew") {
		t.Errorf("anew: %s", a.Body)
	}
	if left := kept(t, s.Dir); len(left) != 1 {
		t.Errorf("kept: %v", left)
	}
}

// stalled begins an upload that sends one byte and waits.
func stalled(t *testing.T, s *apptest.Server, key, url string) *rawWire {
	t.Helper()
	w := dialWire(t, s)
	w.begin(key, "PUT "+url, "Content-Length: 10")
	w.send("x")
	apptest.Eventually(t, "the upload runs", func() bool {
		a, err := s.Try(key, "POST /projects/sales/files", `{"upload_key":"`+url[strings.LastIndex(url, "/")+1:]+`"}`)
		return err == nil && a.Code() == "upload_in_progress"
	})
	return w
}

// While an upload runs its key is taken; deleting or purging the project ends it,
// though its client sends nothing; what the lock of the project meets is told.
func TestUploadsUnderWayMeetOthers(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "sales")
	id := prepare(t, s, key, "sales", `{"filename":"a"}`)
	url := "/projects/sales/files/upload/" + id
	w := stalled(t, s, key, url)
	for do, body := range map[string]string{"PUT " + url: "other", "DELETE /projects/sales/files/" + id: ""} {
		if a := s.Want(409, key, do, body); a.Code() != "upload_in_progress" {
			t.Errorf("%s beside an upload: %s", do, a.Body)
		}
	}
	s.Want(200, key, "HEAD "+url, "")
	s.Want(200, s.Root, "PATCH /projects/sales", `{"status":"locked"}`)
	w.send("123456789") // it was admitted before, but a locked project takes nothing
	w.want(423, "project_locked")
	if a := s.Want(423, key, "PUT "+url, "other", raw); a.Code() != "project_locked" {
		t.Errorf("in a locked project: %s", a.Body)
	}
	s.Want(423, key, "POST /projects/sales/files", `{"upload_key":"`+id+`"}`)
	s.Want(423, key, "POST /projects/sales/files?name=x", "x", raw)
	s.Want(200, s.Root, "PATCH /projects/sales", `{"status":"active"}`)

	w = stalled(t, s, key, url)
	s.Want(204, s.Root, "DELETE /projects/sales", "")
	w.want(409, "operation_in_progress")
	s.Want(401, key, "PUT "+url, "other", raw)
	s.Want(404, s.Root, "PUT "+url, "other", raw)
	s.Want(200, s.Root, "POST /projects/sales/undelete", "")

	w = stalled(t, s, key, url)
	s.Want(204, s.Root, "DELETE /projects/sales?purge=true", "")
	w.want(409, "operation_in_progress")
	if left := kept(t, s.Dir); len(left) > 0 {
		t.Errorf("a purge left %v", left)
	}
	a := s.Want(200, s.Root, "GET /operations?operation=upload_file", "")
	for _, row := range a.List("operations") {
		if row["status"] == "in_progress" {
			t.Errorf("unfinished: %v", row)
		}
	}
}

// Who was let in and whose key is revoked before its bytes are there adds nothing.
func TestUploadEndsWithItsKey(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "sales")
	issue := func() (secret, id string) {
		a := s.Want(201, key, "POST /projects/sales/api-keys", `{"description":"x","scope":"project_write"}`)
		return a.Text("api_key"), a.Text("id")
	}
	writer, id := issue()
	url := "/projects/sales/files/upload/" + prepare(t, s, writer, "sales", `{"filename":"a"}`)
	prepared := stalled(t, s, writer, url)
	once := dialWire(t, s)
	once.begin(writer, "POST /projects/sales/files?name=b", "Content-Length: 3")
	once.send("x")
	apptest.Eventually(t, "both have begun", func() bool {
		return len(s.Want(200, s.Root, "GET /operations?status=in_progress", "").List("operations")) == 2
	})
	s.Want(204, key, "DELETE /projects/sales/api-keys/"+id, "")
	prepared.send("123456789")
	prepared.want(401, "unauthorized")
	once.send("yz")
	once.want(401, "unauthorized")
	if a := s.Want(200, key, "GET /projects/sales/files", ""); len(a.List("files")) > 0 {
		t.Errorf("kept: %s", a.Body)
	}
	s.Want(200, key, "PUT "+url, "mine", raw) // the project goes on
}

// An upload that was acknowledged as complete stays so, whatever comes instead of
// it and fails.
func TestCompleteUploadOutlivesBadRetries(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "sales")
	const content = "acknowledged"
	id := prepare(t, s, key, "sales", `{"filename":"a"}`)
	url := "/projects/sales/files/upload/" + id
	s.Want(200, key, "PUT "+url, content, raw)
	whole := func(after string) {
		t.Helper()
		if at := atRest(t, s, key, url); at != fmt.Sprint(len(content)) {
			t.Errorf("after %s it stands at %s", after, at)
		}
		if left := kept(t, s.Dir); len(left) != 1 {
			t.Errorf("after %s there are %v", after, left)
		}
	}
	s.Want(422, key, "PUT "+url, "other", raw, "Content-Digest: sha-256=:"+strings.Repeat("A", 43)+"=:")
	whole("a wrong digest")
	s.Want(422, key, "POST "+url, "--b\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\nx\r\n--b--\r\n", "Content-Type: multipart/form-data; boundary=b")
	whole("a form without the file")
	s.Want(422, key, "POST "+url, "--b--\r\n", "Content-Type: multipart/form-data; boundary=b", "Content-Digest: "+digestOf("x"))
	whole("a digest that cannot be checked")
	s.Want(409, key, "PUT "+url, "part", raw, "Content-Range: bytes 0-3/*")
	whole("the first part of another")
	w := dialWire(t, s)
	w.begin(key, "PUT "+url, "Content-Length: 100")
	w.send("cut short")
	_ = w.Close()
	whole("a body cut short")
	apptest.Eventually(t, "it is replaced", func() bool { // once the one that was cut short has ended
		a, err := s.Try(key, "PUT "+url, "the other", raw)
		return err == nil && a.Status == 200 && a.Text("checksum_sha256") == sha256Of("the other")
	})
	apptest.Eventually(t, "the old bytes are gone", func() bool { return len(kept(t, s.Dir)) == 1 })
	f := fileIn(t, s.Want(201, key, "POST /projects/sales/files", `{"upload_key":"`+id+`"}`))
	if a := s.Want(200, key, "GET /projects/sales/files/"+f.ID+"/download", ""); string(a.Body) != "the other" {
		t.Errorf("downloaded %s", a.Body)
	}
}

// An upload that ends after its expiry is refused, and until then is listed as large
// as it is.
func TestUploadThatEndsTooLate(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "sales")
	id := prepare(t, s, key, "sales", `{"filename":"a","expires_in_seconds":2}`)
	url := "/projects/sales/files/upload/" + id
	s.Want(200, key, "PUT "+url, "abcd", raw, "Content-Range: bytes 0-3/*")
	if a := s.Want(200, key, "GET /projects/sales/files?include_staged=true", ""); a.List("files")[0]["size_bytes"] != 4.0 {
		t.Errorf("staged: %s", a.Body)
	}
	w := dialWire(t, s)
	w.begin(key, "PUT "+url, "Content-Range: bytes 4-5/6", "Content-Length: 2")
	w.send("e")
	apptest.Eventually(t, "it has expired", func() bool {
		a, err := s.Try(key, "HEAD "+url, "")
		return err == nil && a.Status == 410
	})
	w.send("f")
	w.want(410, "upload_session_expired")
}

// A download that runs ends when its project is deleted.
func TestDownloadEndsWithItsProject(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "sales")
	f := put(t, s, key, "sales", "big", strings.Repeat("0123456789abcdef", 4<<20)) // more than the sockets take
	w := dialWire(t, s)
	w.begin(key, "GET /projects/sales/files/"+f.ID+"/download")
	if _, err := w.in.Peek(1); err != nil {
		t.Fatal(err)
	}
	s.Want(204, s.Root, "DELETE /projects/sales", "") // while the client reads nothing
	if n, _ := io.Copy(io.Discard, w.in); n >= f.SizeBytes {
		t.Errorf("all %d bytes came", n)
	}
	apptest.Eventually(t, "the row of the download says so", func() bool {
		rows := s.Want(200, s.Root, "GET /operations?operation=download_file", "").List("operations")
		return len(rows) == 1 && rows[0]["status"] == "failed"
	})
}

// Many slow uploads and four fast ones leave the others served.
func TestSlowClientsKeepNobodyWaiting(t *testing.T) {
	t.Parallel()
	s := start(t, map[string]string{"http.read_timeout": "10m"})
	key := project(t, s, "sales")
	const slow = 1000
	content := bytesOf(5, 10)
	ids, wires := make([]string, slow), make([]*rawWire, slow)
	var all sync.WaitGroup
	for first := range 50 { // commits are shared by those that come together
		all.Go(func() {
			for i := first; i < slow; i += 50 {
				if a, err := s.Try(key, "POST /projects/sales/files/prepare", `{"filename":"slow","size_bytes":10}`); err == nil {
					ids[i] = a.Text("upload_key")
				}
			}
		})
	}
	all.Wait()
	for i := range wires {
		wires[i] = dialWire(t, s)
		must(t, wires[i].SetDeadline(time.Now().Add(10*time.Minute)))
		wires[i].begin(key, "PUT /projects/sales/files/upload/"+ids[i], "Content-Length: 10")
		wires[i].send(content[:1])
	}
	apptest.Eventually(t, "all of them run", func() bool {
		return len(s.Want(200, s.Root, "GET /operations?status=in_progress&limit=1000", "").List("operations")) == slow
	})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				if a, err := s.Try(key, "POST /projects/sales/files?name=fast", bytesOf(6, 1<<20), raw); err != nil || a.Status != 201 {
					t.Errorf("a fast upload beside slow ones: %v %s", err, a.Body)
					return
				}
			}
		})
	}
	for i := 1; i < len(content); i++ {
		for _, w := range wires {
			w.send(content[i : i+1])
		}
		s.Want(200, "", "GET /health", "")
		put(t, s, key, "sales", "between", "x")
	}
	for _, w := range wires {
		w.want(200, sha256Of(content))
	}
	stop()
	all.Wait()
}
