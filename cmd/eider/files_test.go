package main

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/app/apptest"
)

const raw = "Content-Type: application/octet-stream"

// bytesOf returns n bytes that look like no others.
func bytesOf(seed uint64, n int) string {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(p)
	return string(p)
}

func sha256Of(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func md5Of(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

func digestOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

// put uploads a file in one step and returns it.
func put(t *testing.T, s *apptest.Server, key, project, name, content string, more ...string) eider.File {
	t.Helper()
	a := s.Want(201, key, "POST /projects/"+project+"/files?name="+url.QueryEscape(name)+strings.Join(more, ""), content, raw)
	return fileIn(t, a)
}

func fileIn(t *testing.T, a apptest.Answer) (f eider.File) {
	t.Helper()
	if err := json.Unmarshal(a.Body, &f); err != nil {
		t.Fatalf("not a file: %v: %s", err, a.Body)
	}
	return f
}

// prepare announces an upload and returns its key.
func prepare(t *testing.T, s *apptest.Server, key, project, body string) string {
	t.Helper()
	return s.Want(200, key, "POST /projects/"+project+"/files/prepare", body).Text("upload_key")
}

// form is a body of multipart/form-data and its header.
func form(parts ...string) (body, header string) {
	for i := 0; i < len(parts); i += 2 {
		file := ""
		if parts[i] == "file" {
			file = `; filename="../../etc/passwd"` + "\r\nContent-Type: text/plain"
		}
		body += "--limit\r\nContent-Disposition: form-data; name=\"" + parts[i] + `"` + file + "\r\n\r\n" + parts[i+1] + "\r\n"
	}
	return body + "--limit--\r\n", "Content-Type: multipart/form-data; boundary=limit"
}

// held returns what the project holds by its statistics, "files bytes".
func held(t *testing.T, s *apptest.Server, project string) string {
	t.Helper()
	a := s.Want(200, s.Root, "GET /projects/"+project+"/stats", "")
	return fmt.Sprint(a.JSON["file_count"], " ", a.JSON["file_bytes"])
}

// kept lists the files below the folder of files, without sidecars, which follow
// in their own time.
func kept(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(filepath.Join(dir, "files"), func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() && !strings.Contains(e.Name(), ".json") {
			all = append(all, e.Name())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func fieldsOf(object map[string]any) string {
	return strings.Join(slices.Sorted(maps.Keys(object)), " ")
}

const fileMembers = "checksum_md5 checksum_sha256 content_type created_at expires_at id is_staged name path project_id size_bytes tags"

// One file through every route of the contract, member by member.
func TestFileGoesThroughEveryRoute(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "sales")
	const base, content = "/projects/sales/files", "id,amount\n1,10\n"

	a := s.Want(200, key, "POST "+base+"/prepare", `{"filename":"q1.csv","content_type":"text/csv","size_bytes":15,"checksum_sha256":"`+
		strings.ToUpper(sha256Of(content))+`","tags":{"year":"2026"},"expires_in_seconds":600}`)
	if got := fieldsOf(a.JSON); got != "expires_at signed_url upload_key upload_url" {
		t.Errorf("prepare answered %s", got)
	}
	id := a.Text("upload_key")
	if a.Text("upload_url") != base+"/upload/"+id || !strings.HasPrefix(a.Text("signed_url"), a.Text("upload_url")+"?") {
		t.Errorf("prepare answered %s", a.Body)
	}
	if a := s.Want(200, key, "HEAD "+base+"/upload/"+id, ""); a.Header.Get("Upload-Offset") != "0" {
		t.Errorf("a fresh upload stands at %q", a.Header.Get("Upload-Offset"))
	}
	if a := s.Want(400, key, "POST "+base, `{"upload_key":"`+id+`"}`); a.Code() != "file_not_uploaded" {
		t.Errorf("registered before it was uploaded: %s", a.Body)
	}
	staged := s.Want(200, key, "GET "+base+"?include_staged=true", "").List("files")
	if len(staged) != 1 || staged[0]["is_staged"] != true || fieldsOf(staged[0]) != fileMembers {
		t.Errorf("the upload is listed as %v", staged)
	}
	if n := len(s.Want(200, key, "GET "+base, "").List("files")); n != 0 {
		t.Errorf("%d files are listed before one is registered", n)
	}

	body, header := form("note", "x", "file", content, "after", "y")
	a = s.Want(200, key, "POST "+base+"/upload/"+id, body, header)
	if got := fieldsOf(a.JSON); got != "checksum_md5 checksum_sha256 complete size_bytes staging_path upload_key" {
		t.Errorf("upload answered %s", got)
	}
	if a.Text("checksum_md5") != md5Of(content) || a.Text("checksum_sha256") != sha256Of(content) || a.JSON["size_bytes"] != 15.0 || a.Text("upload_key") != id {
		t.Errorf("upload answered %s", a.Body)
	}

	a = s.Want(201, key, "POST "+base, `{"upload_key":"`+id+`","name":"first quarter.csv","tags":{"year":"2026","kind":"raw"}}`)
	f := fileIn(t, a)
	if fieldsOf(a.JSON) != fileMembers || f.ID != id || f.ProjectID != "sales" || f.Name != "first quarter.csv" || f.SizeBytes != 15 ||
		f.ContentType != "text/csv" || f.IsStaged || f.ExpiresAt != nil || f.Tags["kind"] != "raw" || f.ChecksumSHA256 != sha256Of(content) {
		t.Errorf("registered as %s", a.Body)
	}
	if a := s.Want(404, key, "POST "+base, `{"upload_key":"`+id+`"}`); a.Code() != "upload_session_not_found" {
		t.Errorf("registered twice: %s", a.Body)
	}
	a = s.Want(200, key, "GET "+base+"/"+id, "")
	tag := a.Header.Get("ETag")
	if fieldsOf(a.JSON) != fileMembers || tag == "" {
		t.Errorf("got %s, ETag %q", a.Body, tag)
	}
	s.Want(412, key, "PATCH "+base+"/"+id, `{"name":"x"}`, `If-Match: "another"`)
	a = s.Want(200, key, "PATCH "+base+"/"+id, `{"expires_at":"2100-01-02T03:04:05Z","tags":{}}`, "If-Match: "+tag)
	if a.Text("expires_at") != "2100-01-02T03:04:05Z" || len(fileIn(t, a).Tags) != 0 || a.Text("name") != "first quarter.csv" {
		t.Errorf("patched to %s", a.Body)
	}
	s.Want(412, key, "DELETE "+base+"/"+id, "", "If-Match: "+tag)
	if a = s.Want(200, key, "PATCH "+base+"/"+id, `{"expires_at":null,"name":"q1.csv"}`); a.JSON["expires_at"] != nil || a.Text("name") != "q1.csv" {
		t.Errorf("patched to %s", a.Body)
	}
	if a = s.Want(200, key, "GET "+base+"/"+id+"/download", ""); string(a.Body) != content {
		t.Errorf("downloaded %q", a.Body)
	}
	a = s.Want(200, key, "POST "+base+"/"+id+"/signed-url", `{"method":"GET","expires_in":60}`)
	if fieldsOf(a.JSON) != "expires_at url" {
		t.Errorf("signed-url answered %s", a.Body)
	}
	if a = s.Want(200, "", "GET "+a.Text("url"), ""); string(a.Body) != content {
		t.Errorf("downloaded by a signed URL %q", a.Body)
	}
	if got := held(t, s, "sales"); got != "1 15" {
		t.Errorf("the project holds %s", got)
	}
	s.Want(204, key, "DELETE "+base+"/"+id, "")
	if got := held(t, s, "sales"); got != "0 0" {
		t.Errorf("the project holds %s", got)
	}
	if a := s.Want(404, key, "GET "+base+"/"+id+"/download", ""); a.Code() != "file_not_found" {
		t.Errorf("a deleted file: %s", a.Body)
	}
	if left := kept(t, s.Dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// What may not be is refused with the code of the contract, and leaves its row.
func TestFilesAreRefusedAsTheContractSays(t *testing.T) {
	t.Parallel()
	s := start(t, map[string]string{"files.max_size": "1000"})
	key, other := project(t, s, "sales"), project(t, s, "other")
	reader := s.Want(201, key, "POST /projects/sales/api-keys", `{"description":"r","scope":"project_read"}`).Text("api_key")
	const base = "/projects/sales/files"
	id := prepare(t, s, key, "sales", `{"filename":"a","size_bytes":4}`)
	summed := prepare(t, s, key, "sales", `{"filename":"a","checksum_sha256":"`+sha256Of("good")+`"}`)
	foreign := prepare(t, s, other, "other", `{"filename":"a"}`)
	f := put(t, s, key, "sales", "f", "text")
	upload := base + "/upload/" + id
	formBody, formType := form("file", "goods")
	apptest.Run(t, s, map[string]string{"writer": key, "reader": reader, "other": other}, []apptest.Case{
		{Name: "no key", Do: "GET " + base, Status: 401, Code: "unauthorized"},
		{Name: "key of another project", As: "other", Do: "GET " + base, Status: 404, Code: "not_found"},
		{Name: "reader prepares", As: "reader", Do: "POST " + base + "/prepare", Body: `{"filename":"a"}`, Status: 403, Code: "forbidden"},
		{Name: "reader uploads", As: "reader", Do: "PUT " + upload, Body: "data", Status: 403, Code: "forbidden"},
		{Name: "reader deletes", As: "reader", Do: "DELETE " + base + "/" + f.ID, Status: 403, Code: "forbidden"},
		{Name: "reader downloads", As: "reader", Do: "GET " + base + "/" + f.ID + "/download", Status: 200},
		{Name: "too large", As: "writer", Do: "POST " + base + "/prepare", Body: `{"filename":"a","size_bytes":1001}`, Status: 400, Code: "file_too_large"},
		{Name: "unknown field", As: "writer", Do: "POST " + base + "/prepare", Body: `{"filename":"a","path":"x"}`, Status: 422, Code: "validation_failed"},
		{Name: "no name", As: "writer", Do: "POST " + base + "/prepare", Body: `{}`, Status: 422, Code: "validation_failed"},
		{Name: "control character", As: "writer", Do: "POST " + base + "/prepare", Body: `{"filename":"a\r\nb"}`, Status: 422, Code: "validation_failed"},
		{Name: "zero", As: "writer", Do: "POST " + base + "/prepare", Body: `{"filename":"a\u0000b"}`, Status: 422, Code: "validation_failed"},
		{Name: "control character in a tag", As: "writer", Do: "POST " + base + "/prepare", Body: `{"filename":"a","tags":{"a":"\u0007"}}`, Status: 422, Code: "validation_failed"},
		{Name: "control character in a query", As: "writer", Do: "POST " + base + "?name=a%0d%0ab", Body: "x", Status: 422, Code: "validation_failed"},
		{Name: "bytes that are no text", As: "writer", Do: "POST " + base + "?name=%ff", Body: "x", Status: 422, Code: "validation_failed"},
		{Name: "empty name", As: "writer", Do: "POST " + base + "?name=", Body: "x", Status: 422, Code: "validation_failed"},
		{Name: "content type", As: "writer", Do: "POST " + base + "/prepare", Body: `{"filename":"a","content_type":"text/html\r\nX: y"}`, Status: 422, Code: "validation_failed"},
		{Name: "content type without a slash", As: "writer", Do: "POST " + base + "/prepare", Body: `{"filename":"a","content_type":"text"}`, Status: 422, Code: "validation_failed"},
		{Name: "content type in one step", As: "writer", Do: "POST " + base + "?name=a", Body: "x", Headers: []string{"Content-Type: text"}, Status: 422, Code: "validation_failed"},
		{Name: "no checksum", As: "writer", Do: "POST " + base + "/prepare", Body: `{"filename":"a","checksum_sha256":"xyz"}`, Status: 422, Code: "validation_failed"},
		{Name: "no upload", As: "writer", Do: "PUT " + base + "/upload/nothing", Body: "data", Status: 404, Code: "upload_session_not_found"},
		{Name: "no upload, HEAD", As: "writer", Do: "HEAD " + base + "/upload/nothing", Status: 404},
		{Name: "upload of another project", As: "writer", Do: "PUT " + base + "/upload/" + foreign, Body: "data", Status: 403, Code: "upload_session_mismatch"},
		{Name: "register that of another project", As: "writer", Do: "POST " + base, Body: `{"upload_key":"` + foreign + `"}`, Status: 403, Code: "upload_session_mismatch"},
		{Name: "delete that of another project", As: "writer", Do: "DELETE " + base + "/" + foreign, Status: 404, Code: "file_not_found"},
		{Name: "more than announced", As: "writer", Do: "PUT " + upload, Body: "data+", Status: 422, Code: "size_mismatch"},
		{Name: "less than announced", As: "writer", Do: "PUT " + upload, Body: "dat", Status: 422, Code: "size_mismatch"},
		{Name: "form of another size", As: "writer", Do: "POST " + upload, Body: formBody, Headers: []string{formType}, Status: 422, Code: "size_mismatch"},
		{Name: "no form", As: "writer", Do: "POST " + upload, Body: "data", Status: 415, Code: "unsupported_media_type"},
		{Name: "other bytes", As: "writer", Do: "PUT " + base + "/upload/" + summed, Body: "evil", Status: 422, Code: "checksum_mismatch",
			Log: []string{"upload_file in_progress", "upload_file failed"}},
		{Name: "another digest", As: "writer", Do: "PUT " + upload, Body: "data", Headers: []string{"Content-Digest: " + digestOf("dat")}, Status: 422, Code: "checksum_mismatch"},
		{Name: "no digest", As: "writer", Do: "PUT " + upload, Body: "data", Headers: []string{"Content-Digest: sha-256=:AA==:"}, Status: 422, Code: "validation_failed"},
		{Name: "too long", As: "writer", Do: "POST " + base + "?name=a", Body: strings.Repeat("x", 1001), Status: 413, Code: "file_too_large"},
		{Name: "part ahead", As: "writer", Do: "PUT " + upload, Body: "ta", Headers: []string{"Content-Range: bytes 2-3/4"}, Status: 409, Code: "upload_offset_conflict"},
		{Name: "part of another whole", As: "writer", Do: "PUT " + upload, Body: "da", Headers: []string{"Content-Range: bytes 0-1/5"}, Status: 422, Code: "size_mismatch"},
		{Name: "part of another length", As: "writer", Do: "PUT " + upload, Body: "dat", Headers: []string{"Content-Range: bytes 0-1/4"}, Status: 422, Code: "validation_failed"},
		{Name: "no range", As: "writer", Do: "PUT " + upload, Body: "da", Headers: []string{"Content-Range: bytes +0-1/4"}, Status: 422, Code: "validation_failed"},
		{Name: "part in one step", As: "writer", Do: "POST " + base + "?name=a", Body: "da", Headers: []string{"Content-Range: bytes 0-1/4"}, Status: 422, Code: "validation_failed"},
		{Name: "form in one step", As: "writer", Do: "POST " + base + "?name=a", Body: formBody, Headers: []string{formType}, Status: 415, Code: "unsupported_media_type"},
		{Name: "no file", As: "writer", Do: "GET " + base + "/nothing", Status: 404, Code: "file_not_found"},
		{Name: "path for a file", As: "writer", Do: "GET " + base + "/..%2f..%2froot.key/download", Status: 404, Code: "file_not_found"},
		{Name: "path for an upload", As: "writer", Do: "PUT " + base + "/upload/..%2f..%2fx", Body: "x", Status: 404, Code: "upload_session_not_found"},
		{Name: "file of another project", As: "other", Do: "GET /projects/other/files/" + f.ID + "/download", Status: 404, Code: "file_not_found"},
		{Name: "expiry in the past", As: "writer", Do: "PATCH " + base + "/" + f.ID, Body: `{"expires_at":"2001-01-01T00:00:00Z"}`, Status: 422, Code: "validation_failed"},
		{Name: "name null", As: "writer", Do: "PATCH " + base + "/" + f.ID, Body: `{"name":""}`, Status: 422, Code: "validation_failed"},
		{Name: "no cursor", As: "writer", Do: "GET " + base + "?cursor=x", Status: 400, Code: "invalid_cursor"},
		{Name: "no tag", As: "writer", Do: "GET " + base + "?tag=x", Status: 422, Code: "validation_failed"},
		{Name: "signed for too long", As: "writer", Do: "POST " + base + "/" + f.ID + "/signed-url", Body: `{"expires_in":604801}`, Status: 422, Code: "validation_failed"},
		{Name: "signed to write", As: "writer", Do: "POST " + base + "/" + f.ID + "/signed-url", Body: `{"method":"PUT"}`, Status: 422, Code: "validation_failed"},
	})
	if got := held(t, s, "sales"); got != "1 4" {
		t.Errorf("after refusals the project holds %s", got)
	}
	for _, name := range kept(t, s.Dir) {
		if strings.HasSuffix(name, ".state") {
			t.Errorf("a refused upload left %s", name)
		}
	}
}

// Lists page and filter as a naive model does, whatever names and tags hold.
func TestFilesAreListedAsAModelSays(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "sales")
	rng := rand.New(rand.NewPCG(7, 7))
	words := []string{"a", "B", `"k":"v"`, `a"k`, "k", "v", `\`, `v","k":"v`, "{k", ",", "é", "É", "日本", "%", "_", "'", "<&>", " "}
	pick := func() string { return words[rng.IntN(len(words))] }
	type one struct {
		eider.File
		staged bool
	}
	var model []one
	for i := range 120 {
		name, tags := fmt.Sprintf("%s%s %d", pick(), pick(), i%7), map[string]string{}
		for range rng.IntN(3) {
			tags[pick()] = pick()
		}
		text, _ := json.Marshal(map[string]any{"filename": name, "tags": tags})
		id := prepare(t, s, key, "sales", string(text))
		staged := rng.IntN(3) == 0
		if !staged {
			s.Want(200, key, "PUT /projects/sales/files/upload/"+id, "x", raw)
			s.Want(201, key, "POST /projects/sales/files", `{"upload_key":"`+id+`"}`)
		}
		f := fileIn(t, s.Want(200, key, "GET /projects/sales/files/"+id, ""))
		model = append(model, one{f, staged})
	}
	slices.SortFunc(model, func(a, b one) int {
		if c := b.CreatedAt.Compare(a.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(b.ID, a.ID)
	})
	for range 150 {
		q, want := url.Values{}, []string{}
		withStaged, part, tags := rng.IntN(2) == 0, "", map[string]string{}
		if withStaged {
			q.Set("include_staged", "true")
		}
		if rng.IntN(2) == 0 {
			part = pick()
			q.Set("name_contains", part)
		}
		for range rng.IntN(3) {
			name := strings.ReplaceAll(pick(), ":", "")
			tags[name] = pick()
			q.Add("tag", name+":"+tags[name])
		}
		if len(q["tag"]) != len(tags) {
			continue // twice the same name
		}
		for _, f := range model {
			fits := (withStaged || !f.staged) && strings.Contains(strings.ToLower(f.Name), strings.ToLower(part))
			for name, value := range tags {
				got, ok := f.Tags[name]
				fits = fits && ok && got == value
			}
			if fits {
				want = append(want, f.ID)
			}
		}
		limit, offset := 1+rng.IntN(40), rng.IntN(30)
		q.Set("limit", fmt.Sprint(limit))
		check := func(a apptest.Answer, want []string) {
			t.Helper()
			var got []string
			for _, f := range a.List("files") {
				got = append(got, f["id"].(string))
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%s lists\n%v, want\n%v", q.Encode(), got, want)
			}
		}
		q.Set("offset", fmt.Sprint(offset))
		a := s.Want(200, key, "GET /projects/sales/files?"+q.Encode(), "")
		from := min(offset, len(want))
		check(a, want[from:min(from+limit, len(want))])
		if a.JSON["total"] != float64(len(want)) {
			t.Fatalf("%s counts %v, want %d", q.Encode(), a.JSON["total"], len(want))
		}
		q.Del("offset")
		for at := 0; ; at += limit {
			a := s.Want(200, key, "GET /projects/sales/files?"+q.Encode(), "")
			check(a, want[min(at, len(want)):min(at+limit, len(want))])
			next := a.Text("next_cursor")
			if (next != "") != (at+limit < len(want)) {
				t.Fatalf("%s at %d of %d: next_cursor %q", q.Encode(), at, len(want), next)
			}
			if next == "" {
				break
			}
			q.Set("cursor", next)
		}
	}
	// A filter that looks like the text of a tag finds nothing.
	s.Want(422, key, "GET /projects/sales/files?tag=%3Av", "")
}

// The same key answers the same file, without the bytes having to come again;
// other bytes under it are refused.
func TestIdempotencyKeysOfStreamedBodies(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "sales")
	content := bytesOf(1, 3<<20)
	headers := []string{raw, "Idempotency-Key: once", "Content-Digest: " + digestOf(content)}
	do := "POST /projects/sales/files?name=big"
	first := s.Want(201, key, do, content, headers...)
	again := s.Want(201, key, do, content, headers...)
	if again.Text("id") != first.Text("id") || again.Header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("answered %s", again.Body)
	}
	if a := s.Want(409, key, do, content[1:], raw, "Idempotency-Key: once"); a.Code() != "idempotency_conflict" {
		t.Errorf("another body: %s", a.Body)
	}
	if got := held(t, s, "sales"); got != fmt.Sprint("1 ", float64(len(content))) {
		t.Errorf("the project holds %s", got)
	}
	// Two parts of an upload are two requests, whatever key they share.
	parts := prepare(t, s, key, "sales", `{"filename":"parts"}`)
	s.Want(200, key, "PUT /projects/sales/files/upload/"+parts, "ab", raw, "Idempotency-Key: part", "Content-Range: bytes 0-1/4")
	if a := s.Want(409, key, "PUT /projects/sales/files/upload/"+parts, "cd", raw, "Idempotency-Key: part", "Content-Range: bytes 2-3/4"); a.Code() != "idempotency_conflict" {
		t.Errorf("another part: %s", a.Body)
	}
	s.Want(204, key, "DELETE /projects/sales/files/"+parts, "")
	// What was refused for its bytes may be tried again.
	id := prepare(t, s, key, "sales", `{"filename":"a","checksum_sha256":"`+sha256Of("good")+`"}`)
	s.Want(422, key, "PUT /projects/sales/files/upload/"+id, "evil", raw, "Idempotency-Key: again")
	s.Want(200, key, "PUT /projects/sales/files/upload/"+id, "good", raw, "Idempotency-Key: again")
}

// Whoever was told of a change sees it, however many read the file meanwhile.
func TestChangedFileIsReadAsItIs(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "sales")
	f := put(t, s, key, "sales", "a", "text")
	path := "/projects/sales/files/" + f.ID
	ended := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
					_, _ = s.Try(key, "GET "+path, "")
				}
			}
		})
	}
	for i := range 100 {
		name := fmt.Sprint("name ", i)
		s.Want(200, key, "PATCH "+path, `{"name":"`+name+`"}`)
		if got := s.Want(200, key, "GET "+path, "").Text("name"); got != name {
			t.Fatalf("changed to %q, read as %q", name, got)
		}
	}
	s.Want(204, key, "DELETE "+path, "")
	s.Want(404, key, "GET "+path, "")
	close(ended)
	readers.Wait()
	s.Want(404, key, "GET "+path+"/download", "")
}
