package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/app/apptest"
)

// shown is as much of the OpenAPI document as its answers are held against.
type shown struct {
	Paths      map[string]map[string]shownOperation
	Components struct{ Responses map[string]shownResponse }
}

type shownOperation struct {
	Parameters  []struct{ In, Name string }
	RequestBody *struct {
		Required bool
		Content  map[string]any
	}
	Responses map[string]shownResponse
	Security  []map[string][]string
}

type shownResponse struct {
	Description string
	Headers     map[string]struct{ Required bool }
	Content     map[string]any
}

func shownBy(t *testing.T, s *apptest.Server) *shown {
	t.Helper()
	var d shown
	if err := json.Unmarshal(s.Want(200, "", "GET /openapi.json", "").Body, &d); err != nil {
		t.Fatal(err)
	}
	return &d
}

// holds reports whether the forms have a media type.
func holds(forms map[string]any, header string) bool {
	kind, _, err := mime.ParseMediaType(header)
	return err == nil && (forms[kind] != nil || forms["*/*"] != nil)
}

// wrong says what the document leaves out of an answer, "" if nothing.
func (d *shown) wrong(op *shownOperation, method string, status int, header http.Header, length int) string {
	said, listed := op.Responses[fmt.Sprint(status)]
	if !listed { // then the default has to name it
		name := "Problem"
		if method == "HEAD" {
			name = "ProblemWithoutBody"
		}
		if said = d.Components.Responses[name]; !strings.Contains(said.Description, fmt.Sprintf(" %d ", status)) {
			return fmt.Sprintf("the status %d", status)
		}
	}
	for name, h := range said.Headers {
		if h.Required && header.Get(name) == "" {
			return fmt.Sprintf("that %d has no %s", status, name)
		}
	}
	switch {
	case method == "HEAD" && len(said.Content) > 0:
		return "that HEAD has no body"
	case method != "HEAD" && (length > 0) != (len(said.Content) > 0):
		return fmt.Sprintf("whether %d has a body: %d bytes and %v", status, length, said.Content)
	case length > 0 && !holds(said.Content, header.Get("Content-Type")):
		return fmt.Sprintf("that %d is %s", status, header.Get("Content-Type"))
	}
	return ""
}

// follow makes a request that the document has, and holds the answer against it.
func (d *shown) follow(t *testing.T, s *apptest.Server, status int, as, do, template, body string, headers ...string) apptest.Answer {
	t.Helper()
	method, path, _ := strings.Cut(do, " ")
	op, ok := d.Paths[template][strings.ToLower(method)]
	if !ok {
		t.Fatalf("the document has no %s %s", method, template)
	}
	path, query, _ := strings.Cut(path, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	declared := func(in, name string) bool {
		return slices.ContainsFunc(op.Parameters, func(p struct{ In, Name string }) bool { return p.In == in && p.Name == name })
	}
	signed := values.Has("signature") && slices.ContainsFunc(op.Security, func(any map[string][]string) bool { return any["signed_url"] != nil })
	for name := range values {
		if !declared("query", name) && !signed {
			t.Errorf("%s: the document has no parameter %s", do, name)
		}
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		switch {
		case name == "Content-Type" && (op.RequestBody == nil || !holds(op.RequestBody.Content, value)):
			t.Errorf("%s: the document has no body %s", do, value)
		case name != "Content-Type" && name != "Accept" && !declared("header", name):
			t.Errorf("%s: the document has no header %s", do, name)
		}
	}
	a := s.Do(as, method+" "+path+strings.TrimSuffix("?"+query, "?"), body, headers...)
	if a.Status != status {
		t.Errorf("%s answered %d, want %d: %s", do, a.Status, status, a.Body)
	}
	if wrong := d.wrong(&op, method, a.Status, a.Header, len(a.Body)); wrong != "" {
		t.Errorf("%s %v: the document does not say %s", do, headers, wrong)
	}
	if said := op.Responses[fmt.Sprint(a.Status)].Description; a.Code() != "" && !slices.Contains(strings.Split(said, ", "), a.Code()) {
		t.Errorf("%s: the document says that %d is %s, not %s", do, a.Status, said, a.Code())
	}
	return a
}

const (
	filesRoute    = "/projects/{id}/files"
	uploadRoute   = filesRoute + "/upload/{upload_key}"
	downloadRoute = filesRoute + "/{file}/download"
)

// A client that is made from the document can upload.
func TestUploadsAreAsDocumented(t *testing.T) {
	s := start(t, nil)
	key, d := project(t, s, "p"), shownBy(t, s)
	sum := sha256.Sum256([]byte("0123456789"))
	digest, hexed := "Content-Digest: sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":", hex.EncodeToString(sum[:])
	const raw, asForm = "Content-Type: application/octet-stream", "Content-Type: multipart/form-data; boundary=b"
	const form = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n0123456789\r\n--b--\r\n"
	prepared := s.Want(200, key, "POST /projects/p/files/prepare", `{"filename":"x"}`)
	path, signed, id := prepared.Text("upload_url"), prepared.Text("signed_url"), prepared.Text("upload_key")
	for _, c := range []struct {
		status                 int
		as, do, template, body string
		headers                []string
	}{
		{200, key, "PUT " + path, uploadRoute, "01234", []string{raw, "Content-Range: bytes 0-4/10"}},
		{200, key, "HEAD " + path, uploadRoute, "", nil},
		{409, key, "PUT " + path, uploadRoute, "x", []string{raw, "Content-Range: bytes 9-9/10"}},
		{200, key, "PUT " + path, uploadRoute, "56789", []string{raw, "Content-Range: bytes 5-9/10"}},
		{200, key, "POST " + path, uploadRoute, form, []string{asForm}},
		{422, key, "POST " + path, uploadRoute, "x", []string{asForm}},
		{200, "", "PUT " + signed, uploadRoute, "0123456789", []string{raw, digest}},
		{200, "", "HEAD " + signed, uploadRoute, "", nil},
		{404, key, "HEAD /projects/p/files/upload/none", uploadRoute, "", nil},
		{201, key, "POST /projects/p/files", filesRoute, `{"upload_key":"` + id + `"}`, []string{"Content-Type: application/json"}},
		{201, key, "POST /projects/p/files?name=x&tag=a:b&checksum_sha256=" + hexed, filesRoute, "0123456789", []string{raw, digest}},
		{201, key, "POST /projects/p/files?name=x.csv", filesRoute, "a,b", []string{"Content-Type: text/csv"}},
		{422, key, "POST /projects/p/files?name=x&checksum_sha256=" + hexed, filesRoute, "other", []string{raw}},
		{412, key, "DELETE /projects/p/files/" + id, filesRoute + "/{file}", "", []string{`If-Match: "other"`}},
		{400, key, "POST /projects/p/files/prepare", filesRoute + "/prepare", `{"filename":"x","size_bytes":1000000000000000}`, nil},
	} {
		d.follow(t, s, c.status, c.as, c.do, c.template, c.body, c.headers...)
	}
	for _, at := range []string{"/projects/p/files", "/projects/p/files/"} { // both answer, one is documented
		if n := len(s.Want(200, key, "GET "+at, "").List("files")); n != 3 {
			t.Errorf("%s lists %d files", at, n)
		}
	}
	if d.Paths[filesRoute+"/"] != nil {
		t.Error("the routes of files are documented twice")
	}
}

// A client that is made from the document can read what is no JSON.
func TestBytesComeAsDocumented(t *testing.T) {
	s := start(t, nil)
	key, d := project(t, s, "p"), shownBy(t, s)
	at := "/projects/p/files/" + s.Want(201, key, "POST /projects/p/files?name=x", "0123456789", "Content-Type: text/plain").Text("id")
	link := s.Want(200, key, "POST "+at+"/signed-url", `{}`).Text("url")
	const query, export = "/projects/{id}/query", "/operations/export"
	for _, c := range []struct {
		status           int
		as, do, template string
		headers          []string
	}{
		{200, key, "GET " + at + "/download", downloadRoute, nil},
		{200, key, "HEAD " + at + "/download", downloadRoute, nil},
		{200, "", "GET " + link, downloadRoute, nil},
		{206, key, "GET " + at + "/download", downloadRoute, []string{"Range: bytes=2-3"}},
		{206, key, "GET " + at + "/download", downloadRoute, []string{"Range: bytes=0-1,5-6"}},
		{416, key, "GET " + at + "/download", downloadRoute, []string{"Range: bytes=10-"}},
		{304, key, "GET " + at + "/download", downloadRoute, []string{"If-None-Match: *"}},
		{304, key, "HEAD " + at + "/download", downloadRoute, []string{"If-None-Match: *"}},
		{412, key, "GET " + at + "/download", downloadRoute, []string{`If-Match: "other"`}},
		{412, key, "HEAD " + at + "/download", downloadRoute, []string{`If-Match: "other"`}},
		{404, key, "HEAD /projects/p/files/none/download", downloadRoute, nil},
		{401, "", "GET " + at + "/download", downloadRoute, nil},
		{200, s.Root, "GET /operations/export", export, nil},
		{200, s.Root, "GET /operations/export?format=csv", export, nil},
		{200, s.Root, "GET /operations/export?format=parquet", export, nil},
		{200, s.Root, "GET /operations/export?format=ocsf", export, nil},
		{200, "", "GET /metrics", "/metrics", []string{"Accept: text/plain"}},
		{200, "", "GET /metrics", "/metrics", []string{"Accept: application/openmetrics-text"}},
		{200, key, "POST /projects/p/query", query, nil},
		{200, key, "POST /projects/p/query", query, []string{"Accept: application/x-ndjson"}},
		{200, key, "POST /projects/p/query", query, []string{"Accept: text/csv"}},
		{200, key, "POST /projects/p/query", query, []string{"Accept: application/vnd.apache.arrow.stream"}},
		{406, key, "POST /projects/p/query", query, []string{"Accept: text/html"}},
		{202, key, "POST /projects/p/query", query, []string{"Prefer: respond-async"}},
	} {
		body := ""
		if c.template == query {
			body = `{"sql":"SELECT 1 AS a"}`
		}
		d.follow(t, s, c.status, c.as, c.do, c.template, body, c.headers...)
	}
	tail := d.Paths["/operations/tail"]["get"]
	ctx, leave := context.WithTimeout(t.Context(), time.Minute)
	defer leave()
	r, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/operations/tail", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.Root)
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if wrong := d.wrong(&tail, "GET", a.StatusCode, a.Header, 1); wrong != "" {
		t.Errorf("the document of the tail does not say %s", wrong)
	}
}

// Whatever a route answers is in the document.
func TestEveryRouteAnswersAsDocumented(t *testing.T) {
	s := start(t, nil)
	key, d := project(t, s, "p"), shownBy(t, s)
	var all []string
	for path, methods := range d.Paths {
		for method := range methods {
			all = append(all, strings.ToUpper(method)+" "+path)
		}
	}
	order := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} // there is something to read at first
	sort.Slice(all, func(i, j int) bool {
		a, b := slices.Index(order, strings.Fields(all[i])[0]), slices.Index(order, strings.Fields(all[j])[0])
		return a < b || a == b && all[i] < all[j]
	})
	for _, do := range all {
		method, path, _ := strings.Cut(do, " ")
		op := d.Paths[path][strings.ToLower(method)]
		for _, as := range []string{"", "wrong", key, s.Root} {
			if path == "/operations/tail" && as == s.Root {
				continue // it does not end
			}
			a := s.Do(as, method+" "+filled(path, "p"), "")
			if wrong := d.wrong(&op, method, a.Status, a.Header, len(a.Body)); wrong != "" {
				t.Errorf("%s: the document does not say %s: %s", do, wrong, a.Body)
			}
			if _, listed := op.Responses[fmt.Sprint(a.Status)]; !listed && a.Status < 300 {
				t.Errorf("%s: the document does not list %d", do, a.Status)
			}
		}
	}
}
