package main

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/eiderdb/eider/core/app/apptest"
)

// Each form of a Range header is answered as RFC 9110 section 14 says.
func TestRanges(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "sales")
	const content = "0123456789"
	f := put(t, s, key, "sales", "digits", content)
	empty := put(t, s, key, "sales", "empty", "")
	path := "/projects/sales/files/" + f.ID + "/download"
	tag := `"` + f.ChecksumSHA256 + `"`
	date := s.Want(200, key, "HEAD "+path, "").Header.Get("Last-Modified")
	for _, c := range []struct {
		name, header string
		more         []string
		status       int
		span, body   string
	}{
		{"first bytes", "bytes=0-3", nil, 206, "bytes 0-3/10", "0123"},
		{"one byte", "bytes=9-9", nil, 206, "bytes 9-9/10", "9"},
		{"open", "bytes=7-", nil, 206, "bytes 7-9/10", "789"},
		{"suffix", "bytes=-2", nil, 206, "bytes 8-9/10", "89"},
		{"suffix of more than all", "bytes=-99", nil, 206, "bytes 0-9/10", content},
		{"end behind the end", "bytes=8-99", nil, 206, "bytes 8-9/10", "89"},
		{"end that no number holds", "bytes=8-99999999999999999999999", nil, 206, "bytes 8-9/10", "89"},
		{"unit in capitals", "Bytes=0-0", nil, 206, "bytes 0-0/10", "0"},
		{"beyond the end", "bytes=10-", nil, 416, "bytes */10", ""},
		{"far beyond the end", "bytes=99999999999999999999999-", nil, 416, "bytes */10", ""},
		{"empty suffix", "bytes=-0", nil, 416, "bytes */10", ""},
		{"backwards", "bytes=3-1", nil, 200, "", content},
		{"another unit", "lines=1-2", nil, 200, "", content},
		{"no numbers", "bytes=a-b", nil, 200, "", content},
		{"negative", "bytes=--1", nil, 200, "", content},
		{"nothing", "bytes=", nil, 200, "", content},
		{"commas", "bytes=,,", nil, 200, "", content},
		{"overlapping", "bytes=0-4,3-6,5-7", nil, 206, "bytes 0-7/10", "01234567"},
		{"one of two beyond", "bytes=0-1,20-30", nil, 206, "bytes 0-1/10", "01"},
		{"all of many overlapping", "bytes=" + strings.Repeat("0-,", 30) + "0-", nil, 206, "bytes 0-9/10", content},
		{"too many", "bytes=" + strings.Repeat("0-0,", 3000) + "1-1", nil, 200, "", content},
		{"if still the same", "bytes=0-1", []string{"If-Range: " + tag}, 206, "bytes 0-1/10", "01"},
		{"if still the same, weak", "bytes=0-1", []string{"If-Range: W/" + tag}, 200, "", content},
		{"if another", "bytes=0-1", []string{`If-Range: "another"`}, 200, "", content},
		{"if of that date", "bytes=0-1", []string{"If-Range: " + date}, 206, "bytes 0-1/10", "01"},
		{"if of an older date", "bytes=0-1", []string{"If-Range: Mon, 02 Jan 2006 15:04:05 GMT"}, 200, "", content},
		{"if of a newer date", "bytes=0-1", []string{"If-Range: Mon, 02 Jan 2106 15:04:05 GMT"}, 200, "", content},
		{"of what did not change", "bytes=0-1", []string{"If-None-Match: " + tag}, 304, "", ""},
	} {
		a := s.Do(key, "GET "+path, "", append(c.more, "Range: "+c.header)...)
		body := string(a.Body)
		if c.status == 416 {
			body = ""
			if a.Code() != "range_not_satisfiable" {
				t.Errorf("%s: %s", c.name, a.Body)
			}
		}
		if a.Status != c.status || a.Header.Get("Content-Range") != c.span || body != c.body {
			t.Errorf("%s: %d, %q, %q; want %d, %q, %q", c.name, a.Status, a.Header.Get("Content-Range"), a.Body, c.status, c.span, c.body)
		}
	}
	if a := s.Do(key, "GET "+path, "", "Range: bytes="+strings.Repeat("0-0,", 10_000)+"1-1"); a.Status != 431 {
		t.Errorf("10,000 ranges: %d", a.Status)
	}
	a := s.Want(200, key, "HEAD "+path, "", "Range: bytes=0-3")
	if a.Header.Get("Content-Length") != "10" || a.Header.Get("Content-Range") != "" {
		t.Errorf("HEAD with a range: %v", a.Header)
	}
	emptyPath := "/projects/sales/files/" + empty.ID + "/download"
	for _, header := range []string{"bytes=0-", "bytes=-5", "bytes=0-0"} {
		if a := s.Want(200, key, "GET "+emptyPath, "", "Range: "+header); len(a.Body) != 0 || a.Header.Get("Content-Length") != "0" {
			t.Errorf("%s of nothing: %q %v", header, a.Body, a.Header)
		}
	}
}

// Several ranges come as a well-formed multipart/byteranges, in the order in which
// they were asked for.
func TestSeveralRanges(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "sales")
	content := bytesOf(8, 1<<20)
	f := put(t, s, key, "sales", "random", content)
	a := s.Want(206, key, "GET /projects/sales/files/"+f.ID+"/download", "", "Range: bytes=-100, 5-9,200000-499999, 9999999-")
	kind, params, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/byteranges" || a.Header.Get("Content-Length") != fmt.Sprint(len(a.Body)) {
		t.Fatalf("%v, %d bytes", a.Header, len(a.Body))
	}
	parts := multipart.NewReader(bytes.NewReader(a.Body), params["boundary"])
	for _, want := range []struct {
		span string
		body string
	}{
		{"bytes 1048476-1048575/1048576", content[1048476:]}, {"bytes 5-9/1048576", content[5:10]}, {"bytes 200000-499999/1048576", content[200000:500000]},
	} {
		p, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(p)
		if err != nil || string(body) != want.body || p.Header.Get("Content-Range") != want.span || p.Header.Get("Content-Type") != f.ContentType {
			t.Errorf("%v: %d bytes, %v", p.Header, len(body), err)
		}
	}
	if _, err := parts.NextPart(); err != io.EOF {
		t.Errorf("behind the last part: %v", err)
	}
}

// Conditions are evaluated in the order of RFC 9110 section 13.2.2.
func TestConditionalDownloads(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "sales")
	f := put(t, s, key, "sales", "a.txt", "text")
	path := "/projects/sales/files/" + f.ID + "/download"
	tag := `"` + f.ChecksumSHA256 + `"`
	const past, future = "Mon, 02 Jan 2006 15:04:05 GMT", "Mon, 02 Jan 2106 15:04:05 GMT"
	for _, c := range []struct {
		status  int
		headers []string
	}{
		{200, nil},
		{304, []string{"If-None-Match: " + tag}},
		{304, []string{"If-None-Match: W/" + tag}},
		{304, []string{`If-None-Match: "a", ` + tag}},
		{304, []string{"If-None-Match: *"}},
		{200, []string{`If-None-Match: "a"`}},
		{200, []string{`If-None-Match: "a"`, "If-Modified-Since: " + future}},
		{304, []string{"If-Modified-Since: " + future}},
		{200, []string{"If-Modified-Since: " + past}},
		{200, []string{"If-Modified-Since: yesterday"}},
		{200, []string{"If-Match: " + tag}},
		{200, []string{"If-Match: *"}},
		{412, []string{`If-Match: "a"`}},
		{412, []string{"If-Match: W/" + tag}},
		{412, []string{"If-Unmodified-Since: " + past}},
		{200, []string{"If-Unmodified-Since: " + future}},
		{304, []string{"If-Match: " + tag, "If-Unmodified-Since: " + past, "If-None-Match: " + tag}},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			a := s.Do(key, method+" "+path, "", c.headers...)
			if a.Status != c.status {
				t.Errorf("%s %v: %d, want %d", method, c.headers, a.Status, c.status)
			}
			if a.Status != 412 && (a.Header.Get("ETag") != tag || a.Header.Get("Cache-Control") == "") {
				t.Errorf("%s %v: %v", method, c.headers, a.Header)
			}
			if a.Status == 304 && (len(a.Body) > 0 || a.Header.Get("Content-Type") != "") {
				t.Errorf("%s %v: 304 with %q %v", method, c.headers, a.Body, a.Header)
			}
		}
	}
	a := s.Want(200, key, "HEAD "+path, "")
	if a.Header.Get("Content-Length") != "4" || a.Header.Get("Repr-Digest") != digestOf("text") || a.Header.Get("Accept-Ranges") != "bytes" || len(a.Body) > 0 {
		t.Errorf("HEAD: %v %q", a.Header, a.Body)
	}
}

// hostile are names that want more than to name a file.
var hostile = []string{
	`quote".txt`, `back\slash.txt`, `..`, `../../etc/passwd`, `/etc/passwd`, `..\..\windows\system.ini`, `a/`, `//`, `.`, ` `, `%00.txt`, `%0d%0aX-Evil: 1`,
	"a; filename=evil.exe", "invoice\u202Etxt.exe", "\u2066x\u2069", "line\u2028break", "😀.csv", "日本語.csv", "e\u0301.txt", "CON", "-rf", "$(id)", "`id`",
	"<script>alert(1)</script>.html", "'; DROP TABLE files; --", strings.Repeat("é", 1024), strings.Repeat("x", 300) + ".parquet", "\uFEFFbom", "a\u00A0b",
}

// Names come back as they are, and never as a header of their own, a path or a
// name that looks like another.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "sales")
	before := contents(t, filepath.Dir(s.Dir))
	for _, name := range hostile {
		f := put(t, s, key, "sales", name, "x", "&tag="+url.QueryEscape(name[:min(len(name), 20)]+":"+name[:min(len(name), 20)]))
		if got := fileIn(t, s.Want(200, key, "GET /projects/sales/files/"+f.ID, "")); got.Name != name {
			t.Errorf("%q came back as %q", name, got.Name)
		}
		if want := fmt.Sprintf("%s/%s/", f.Path[:36], f.Path[37:39]); !strings.HasPrefix(f.Path, want) || len(f.Path) != 36+1+2+1+36 {
			t.Errorf("%q is stored as %q", name, f.Path)
		}
		a := s.Want(200, key, "GET /projects/sales/files/"+f.ID+"/download", "")
		line := a.Header.Get("Content-Disposition")
		kind, params, err := mime.ParseMediaType(line)
		offered := params["filename"]
		if err != nil || kind != "attachment" || offered == "" || a.Header.Get("X-Evil") != "" {
			t.Errorf("%q: %v, %q", name, err, line)
		}
		if strings.ContainsAny(offered, `/\`) || strings.Trim(offered, ". ") == "" || len(offered) > 255 ||
			strings.ContainsFunc(offered, func(c rune) bool { return unicode.IsControl(c) || unicode.Is(unicode.Bidi_Control, c) }) {
			t.Errorf("%q is offered as %q", name, offered)
		}
		if strings.ContainsFunc(line, func(c rune) bool { return c < ' ' || c > '~' }) {
			t.Errorf("%q: %q is no header", name, line)
		}
	}
	for path := range contents(t, filepath.Dir(s.Dir)) {
		if _, ok := before[path]; !ok && !strings.HasPrefix(path, filepath.Base(s.Dir)+"/") {
			t.Errorf("a file outside the data folder: %s", path)
		}
	}
}

// No type makes a browser show what it downloads, or run it.
func TestDangerousTypesAreNotShown(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "sales")
	for _, kind := range []string{"text/html", "image/svg+xml", "application/xhtml+xml", "text/javascript", "application/pdf", "text/html; charset=utf-7"} {
		a := s.Want(201, key, "POST /projects/sales/files?name=x", "<script>alert(1)</script>", "Content-Type: "+kind)
		a = s.Want(200, key, "GET /projects/sales/files/"+a.Text("id")+"/download", "")
		h := a.Header
		if h.Get("Content-Type") != kind || h.Get("X-Content-Type-Options") != "nosniff" || !strings.HasPrefix(h.Get("Content-Disposition"), "attachment") ||
			!strings.Contains(h.Get("Content-Security-Policy"), "sandbox") {
			t.Errorf("%s: %v", kind, h)
		}
	}
}

// Bytes that are gone or cut are told, not sent as if they were whole; the file
// can still be deleted.
func TestMissingBytesAreTold(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "sales")
	for name, damage := range map[string]func(path string) error{
		"gone":        os.Remove,
		"cut":         func(path string) error { return os.Truncate(path, 3) },
		"folder gone": func(path string) error { return os.RemoveAll(filepath.Dir(path)) },
	} {
		f := put(t, s, key, "sales", "a", "some bytes")
		must(t, damage(filepath.Join(s.Dir, "files", f.Path)))
		if a := s.Want(404, key, "GET /projects/sales/files/"+f.ID+"/download", ""); a.Code() != "file_content_not_found" {
			t.Errorf("%s: %s", name, a.Body)
		}
		s.Want(204, key, "DELETE /projects/sales/files/"+f.ID, "")
	}
	if got := held(t, s, "sales"); got != "0 0" {
		t.Errorf("the project holds %s", got)
	}
	put(t, s, key, "sales", "a", "some bytes") // also into a folder that was there before
}

// Every answer gives its file back.
func TestDownloadsLeaveNoFileOpen(t *testing.T) {
	t.Parallel()
	c := serve(t, t.TempDir())
	s := c.Server
	s.Root = childKey
	key := project(t, s, "sales")
	content := bytesOf(9, 1<<20)
	f := put(t, s, key, "sales", "a", content)
	path := "/projects/sales/files/" + f.ID + "/download"
	open := func() (n int) {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.cmd.Process.Pid))
		must(t, err)
		for _, e := range entries {
			if to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", c.cmd.Process.Pid, e.Name())); strings.HasSuffix(to, f.Path) {
				n++
			}
		}
		return n
	}
	for range 20 {
		s.Want(200, key, "HEAD "+path, "")
		s.Want(206, key, "GET "+path, "", "Range: bytes=1-2,5-6")
		s.Want(416, key, "GET "+path, "", "Range: bytes=9999999-")
		s.Want(304, key, "GET "+path, "", `If-None-Match: "`+f.ChecksumSHA256+`"`)
		w := dialWire(t, s)
		w.begin(key, "GET "+path)
		if _, err := w.in.Peek(1); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		if a, err := http.Get(s.URL + path); err == nil { // no key
			_ = a.Body.Close()
		}
	}
	apptest.Eventually(t, "no download has its file open", func() bool { return open() == 0 })
	c.stop(t)
}
