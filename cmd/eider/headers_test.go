package main

import (
	"strings"
	"testing"
)

// A bad idempotency key is told to who may ask at all, leaves a row like any refusal,
// and is nothing to a read.
func TestBadIdempotencyKeyIsRefusedOfChangesAlone(t *testing.T) {
	s := start(t, nil)
	project(t, s, "p")
	long := "Idempotency-Key: " + strings.Repeat("k", 256)
	before := s.App.Kernel.Audit.Head().ID
	if a := s.Do(s.Root, "PATCH /projects/p", `{"name":"x"}`, long); a.Status != 422 {
		t.Errorf("answered %d %s", a.Status, a.Body)
	}
	if rows := strings.Join(s.Rows(before), ","); rows != "update_project failed" {
		t.Errorf("the log has %s", rows)
	}
	if a := s.Do(s.Root, "PATCH /projects/p", `{"name":"x"}`, "Idempotency-Key: a", "X-Idempotency-Key: b"); a.Code() != "malformed_request" {
		t.Errorf("two keys that differ: %d %s", a.Status, a.Body)
	}
	if a := s.Do(s.Root, "PATCH /projects/p", `{"name":"x"}`, "Idempotency-Key: a", "X-Idempotency-Key: a"); a.Status != 200 {
		t.Errorf("one key under two names: %d %s", a.Status, a.Body)
	}
	if a := s.Do("wrong", "PATCH /projects/p", `{"name":"x"}`, long); a.Status != 401 {
		t.Errorf("without a key: %d", a.Status)
	}
	if a := s.Do(s.Root, "GET /projects/p", "", long); a.Status != 200 {
		t.Errorf("a read: %d %s", a.Status, a.Body)
	}
}

func TestEncodedBodyIsRefused(t *testing.T) {
	s := start(t, nil)
	project(t, s, "p")
	for _, c := range []struct {
		encoding string
		status   int
	}{{"identity", 200}, {"gzip", 415}, {"br", 415}} {
		if a := s.Do(s.Root, "PATCH /projects/p", `{"name":"x"}`, "Content-Encoding: "+c.encoding); a.Status != c.status {
			t.Errorf("%s: %d %s", c.encoding, a.Status, a.Body)
		}
	}
	if a := s.Do(s.Root, "POST /projects/p/files?name=x", "bytes", "Content-Encoding: gzip", "Content-Type: application/octet-stream"); a.Status != 415 {
		t.Errorf("a file: %d %s", a.Status, a.Body)
	}
}

func TestNameOfBlanksAloneIsRefused(t *testing.T) {
	s := start(t, nil)
	project(t, s, "p")
	for _, do := range []string{"POST /projects", "PATCH /projects/p"} {
		body := `{"id":"q","name":" \u00a0 "}`
		if do == "PATCH /projects/p" {
			body = `{"name":" \u00a0 "}`
		}
		if a := s.Do(s.Root, do, body); a.Status != 422 || !strings.Contains(string(a.Body), "name") {
			t.Errorf("%s: %d %s", do, a.Status, a.Body)
		}
	}
}

// A project and a key have an ETag, and HEAD is as conditional as GET.
func TestSingleResourcesAreReadUnderACondition(t *testing.T) {
	s := start(t, nil)
	project(t, s, "p")
	key := s.Want(201, s.Root, "POST /projects/p/api-keys", `{"description":"k"}`).Text("id")
	for _, path := range []string{"/projects/p", "/projects/p/api-keys/" + key} {
		etag := s.Want(200, s.Root, "GET "+path, "").Header.Get("ETag")
		if etag == "" {
			t.Errorf("%s has no ETag", path)
		}
		for _, method := range []string{"GET ", "HEAD "} {
			if a := s.Do(s.Root, method+path, "", "If-None-Match: "+etag); a.Status != 304 || len(a.Body) > 0 {
				t.Errorf("%s%s that is unchanged: %d %s", method, path, a.Status, a.Body)
			}
			if a := s.Do(s.Root, method+path, "", `If-None-Match: "other"`); a.Status != 200 {
				t.Errorf("%s%s that has changed: %d", method, path, a.Status)
			}
		}
	}
}

// A key is revoked under a condition, which its use does not change and a rotation
// does.
func TestKeyIsRevokedUnderACondition(t *testing.T) {
	s := start(t, nil)
	project(t, s, "p")
	for _, of := range []string{"/projects/p/api-keys", "/api-keys"} {
		made := s.Want(201, s.Root, "POST "+of, `{"description":"k"}`)
		path := of + "/" + made.Text("id")
		before := s.Want(200, s.Root, "GET "+path, "")
		if before.JSON["last_used_at"] != nil {
			t.Errorf("before its use: %s", before.Body)
		}
		s.Want(200, made.Text("api_key"), "GET "+path, "")
		used := s.Want(200, s.Root, "GET "+path, "")
		if used.JSON["last_used_at"] == nil || used.Header.Get("ETag") != before.Header.Get("ETag") {
			t.Errorf("its use changes the tag %s to %s, of %s", before.Header.Get("ETag"), used.Header.Get("ETag"), used.Body)
		}
		s.Want(412, s.Root, "DELETE "+path, "", `If-Match: "stale"`)
		s.Want(201, s.Root, "POST "+path+"/rotate", `{"grace_seconds":60}`)
		if a := s.Want(412, s.Root, "DELETE "+path, "", "If-Match: "+used.Header.Get("ETag")); a.Text("code") != "precondition_failed" {
			t.Errorf("after a rotation: %s", a.Body)
		}
		s.Want(204, s.Root, "DELETE "+path, "", "If-Match: "+s.Want(200, s.Root, "GET "+path, "").Header.Get("ETag"))
		if is := s.Want(200, s.Root, "GET "+path, ""); is.JSON["revoked_at"] == nil {
			t.Errorf("it is not revoked: %s", is.Body)
		}
	}
}
