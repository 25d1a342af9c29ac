package main

import (
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
)

// signedFile makes a file and signs a URL for it with the key.
func signedFile(t *testing.T, s *apptest.Server, key string) (id, signed string) {
	t.Helper()
	id = put(t, s, key, "sales", "a", "text").ID
	return id, s.Want(200, key, "POST /projects/sales/files/"+id+"/signed-url", `{"expires_in":600}`).Text("url")
}

// A signed URL opens what it names, by the methods that it names, and nothing
// else, whatever is changed in it.
func TestSignedURLOpensOneThing(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "sales")
	project(t, s, "other")
	id, get := signedFile(t, s, key)
	second := put(t, s, key, "sales", "b", "other").ID
	a := s.Want(200, key, "POST /projects/sales/files/prepare", `{"filename":"up"}`)
	upload, up := a.Text("upload_key"), a.Text("signed_url")

	s.Want(200, "", "GET "+get, "")
	s.Want(206, "", "GET "+get, "", "Range: bytes=0-1")
	s.Want(200, "", "HEAD "+get, "")
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		if a := s.Do("", method+" "+get, ""); a.Status != 401 && a.Status != 405 {
			t.Errorf("%s by a URL to GET: %d %s", method, a.Status, a.Body)
		}
	}
	s.Want(200, "", "PUT "+up, "data", raw)
	body, header := form("file", "form")
	s.Want(200, "", "POST "+up, body, header)
	if a := s.Want(200, "", "HEAD "+up, ""); a.Header.Get("Upload-Offset") != "4" {
		t.Errorf("it stands at %v", a.Header)
	}

	path, query, _ := strings.Cut(get, "?")
	q, err := url.ParseQuery(query)
	must(t, err)
	changed := func(name, value string) string {
		c := url.Values{}
		for n, v := range q {
			c[n] = v
		}
		c.Set(name, value)
		return path + "?" + c.Encode()
	}
	for name, target := range map[string]string{
		"another file":       strings.Replace(get, id, second, 1),
		"another project":    strings.Replace(get, "/sales/", "/other/", 1),
		"an encoded path":    strings.Replace(get, "/sales/", "/%73ales/", 1),
		"an upload":          "/projects/sales/files/upload/" + upload + "?" + query,
		"the description":    strings.Replace(get, "/download", "", 1),
		"the list":           "/projects/sales/files?" + query,
		"the project":        "/projects/sales?" + query,
		"all projects":       "/projects?" + query,
		"later":              changed("expires", "9999999999"),
		"expiry as text":     changed("expires", q.Get("expires")+"x"),
		"negative":           changed("expires", "-1"),
		"the same, signed":   changed("expires", "+"+q.Get("expires")),
		"the same, longer":   changed("expires", "0"+q.Get("expires")),
		"another key":        changed("key", "00000000"),
		"the root's":         changed("by", ""),
		"the socket's":       changed("by", "admin.sock"),
		"another uid":        changed("uid", "00000000-0000-7000-8000-000000000000"),
		"no signature":       changed("signature", ""),
		"half a signature":   changed("signature", q.Get("signature")[:32]),
		"flipped signature":  changed("signature", strings.Repeat("0", 64)),
		"signature and more": changed("signature", q.Get("signature")+"00"),
	} {
		if a := s.Do("", "GET "+target, ""); a.Status != 401 && (name != "an upload" || a.Status != 405) {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
	}
	s.Want(401, "", "HEAD /projects/sales/files/upload/"+upload+"?"+query, "")
	s.Want(401, "", "PUT /projects/sales/files/upload/"+upload+"?"+query, "x", raw)
	// A wrong key is wrong, whatever stands in the query.
	s.Want(401, "eider_wrong", "GET "+get, "")
	// What a URL does is logged as done by it, for the key that signed.
	apptest.Eventually(t, "the row of a signed download", func() bool {
		for _, row := range s.Want(200, s.Root, "GET /operations?operation=download_file&limit=1000", "").List("operations") {
			actor, _ := row["actor"].(map[string]any)
			if actor["type"] == "signed_url" && strings.HasPrefix(key, "eider_"+actor["id"].(string)) && row["status"] == "success" {
				return true
			}
		}
		return false
	})
	for _, row := range s.Want(200, s.Root, "GET /operations?limit=1000", "").List("operations") {
		if text, _ := json.Marshal(row); strings.Contains(string(text), q.Get("signature")) {
			t.Errorf("the log holds a signature: %s", text)
		}
	}
}

// A URL ends with the key that signed it, with its project, and at its time.
func TestSignedURLsEnd(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	first := project(t, s, "sales")
	a := s.Want(201, s.Root, "POST /projects/sales/api-keys", `{"description":"signs"}`)
	keyID, key := a.Text("id"), a.Text("api_key")
	_, byKey := signedFile(t, s, key)
	_, byRoot := signedFile(t, s, s.Root)
	id, byFirst := signedFile(t, s, first)
	prepared := s.Want(200, first, "POST /projects/sales/files/prepare", `{"filename":"up","expires_in_seconds":1}`)
	short := s.Want(200, first, "POST /projects/sales/files/"+id+"/signed-url", `{"expires_in":1}`).Text("url")
	s.Want(200, "", "GET "+byKey, "")
	s.Want(204, s.Root, "DELETE /projects/sales/api-keys/"+keyID, "")
	s.Want(401, "", "GET "+byKey, "")

	s.Want(200, s.Root, "PATCH /projects/sales", `{"status":"locked"}`)
	s.Want(200, "", "GET "+byFirst, "")
	s.Want(200, s.Root, "PATCH /projects/sales", `{"status":"active"}`)
	apptest.Eventually(t, "a URL ends at its time", func() bool {
		return s.Do("", "GET "+short, "").Status == 401 && s.Do("", "PUT "+prepared.Text("signed_url"), "x", raw).Status == 401
	})
	apptest.Eventually(t, "an upload ends at its time", func() bool {
		a := s.Do(first, "PUT "+prepared.Text("upload_url"), "x", raw)
		return a.Status == 410 && a.Code() == "upload_session_expired"
	})
	s.Want(410, first, "POST /projects/sales/files", `{"upload_key":"`+prepared.Text("upload_key")+`"}`)

	s.Want(204, s.Root, "DELETE /projects/sales", "")
	s.Want(401, "", "GET "+byFirst, "")
	s.Want(401, "", "GET "+byRoot, "")
	s.Want(200, s.Root, "POST /projects/sales/undelete", "")
	s.Want(200, "", "GET "+byFirst, "")
	s.Want(200, "", "GET "+byRoot, "")
	s.App.Kernel.Keys.SetRoot("another-root-key-0123456789-0123456789")
	s.Want(401, "", "GET "+byRoot, "")
	s.App.Kernel.Keys.SetRoot(s.Root)
	s.Want(204, s.Root, "DELETE /projects/sales?purge=true", "")
	project(t, s, "sales") // another that has its id
	s.Want(401, "", "GET "+byFirst, "")
	s.Want(401, "", "GET "+byRoot, "")
}

// A new secret signs from its time on; what the old one signed stays good.
func TestRotatedSecretsKeepOldURLs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := apptest.Start(t, dir, app.Options{Modules: modules(), Version: "test"}, nil)
	key := project(t, s, "sales")
	_, old := signedFile(t, s, key)
	must(t, s.App.Kernel.URLs.Rotate(time.Now().Add(31*24*time.Hour)))
	_, fresh := signedFile(t, s, key)
	secret := func(signed string) string {
		_, query, _ := strings.Cut(signed, "?")
		q, err := url.ParseQuery(query)
		must(t, err)
		return q.Get("key")
	}
	if secret(old) == secret(fresh) {
		t.Fatal("the same secret signs")
	}
	s.Want(200, "", "GET "+old, "")
	s.Want(200, "", "GET "+fresh, "")
	s.Stop()
	s = apptest.Start(t, dir, app.Options{Modules: modules(), Version: "test"}, nil)
	s.Want(200, "", "GET "+old, "") // also after a restart
	s.Want(200, "", "GET "+fresh, "")
	if info, err := os.Stat(filepath.Join(dir, "url.keys")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("url.keys: %v", err)
	}
	// A week after it was replaced, nothing that it signed is alive: it goes.
	must(t, s.App.Kernel.URLs.Rotate(time.Now().Add(80*24*time.Hour)))
	s.Want(401, "", "GET "+old, "")
}
