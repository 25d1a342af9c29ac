package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/app/apptest"
)

// secret is something that must be nowhere, and what it is.
type secret struct{ what, text string }

// forms are the ways in which a text may be kept without anybody meaning to.
func (s secret) forms() [][]byte {
	all := [][]byte{[]byte(s.text), []byte(hex.EncodeToString([]byte(s.text))), []byte(url.QueryEscape(s.text))}
	for shift := range 3 { // wherever in a longer text it begins
		encoded := base64.StdEncoding.EncodeToString(append(make([]byte, shift), s.text...))
		all = append(all, []byte(encoded[4:len(encoded)-4]))
	}
	return all
}

// useSecrets uses every kind of secret in every way that a client can, rightly and
// wrongly, and returns them.
func useSecrets(t *testing.T, s *apptest.Server) (all []secret) {
	t.Helper()
	add := func(what, text string) string {
		if len(text) < 16 {
			t.Fatalf("the %s is %q", what, text)
		}
		all = append(all, secret{what, text})
		return text
	}
	// The last part of a key alone is as good as the key: its id is told anyway.
	key := func(what, text string) string {
		add(what+"'s last part", text[strings.LastIndex(text, "_")+1:])
		return text
	}
	key("root key", s.Root)
	first := key("first key", s.Want(201, s.Root, "POST /projects", `{"id":"p"}`, "Idempotency-Key: made once").Text("api_key"))
	s.Want(201, s.Root, "POST /projects", `{"id":"p"}`, "Idempotency-Key: made once")
	made := s.Want(201, first, "POST /projects/p/api-keys", `{"description":"x","scope":"project_write"}`, "Idempotency-Key: k")
	write := key("second key", made.Text("api_key"))
	s.Want(201, first, "POST /projects/p/api-keys", `{"description":"x","scope":"project_write"}`, "Idempotency-Key: k")
	rotated := key("rotated key", s.Want(201, first, "POST /projects/p/api-keys/"+made.Text("id")+"/rotate", `{"grace_seconds":60}`).Text("api_key"))
	key("server-wide key", s.Want(201, s.Root, "POST /api-keys", `{"description":"ops"}`).Text("api_key"))

	// A key where an id, a name or a word belongs: no answer to it is asked for.
	for _, where := range []string{
		"DELETE /projects/p/files/", "GET /projects/p/files/", "POST /projects/p/files/upload/", "DELETE /projects/", "POST /projects/p/api-keys/", "DELETE /projects/p/buckets/",
		"DELETE /projects/p/buckets/b/tables/", "GET /jobs/", "POST /plugins/", "DELETE /projects/p/files?upload_key=",
	} {
		suffix := map[bool]string{true: "/rotate"}[strings.HasSuffix(where, "api-keys/")]
		s.Do(s.Root, where+write+suffix, "", "Idempotency-Key: "+write, "X-Request-ID: "+write, "User-Agent: "+write)
	}
	s.Do(first, "POST /projects/p/files", `{"upload_key":"`+write+`"}`, "Idempotency-Key: of a wrong upload")
	s.Do(first, "POST /projects/p/buckets/"+write+"/tables", `{"name":"t","columns":[{"name":"v","type":"VARCHAR"}]}`, "Idempotency-Key: of a wrong bucket")
	s.Do(first, "POST /projects", `{"id":"`+write[:60]+`"}`)

	for i, wrong := range []string{rotated[:len(rotated)-1] + "_", "eider_nobody_" + strings.Repeat("w", 40), "password-of-something-else"} {
		add("wrong key", wrong)
		s.Want(401, wrong, fmt.Sprintf("GET /projects/p?try=%d", i), "")
		s.Want(401, "", "GET /projects/p", "", "Authorization: Basic "+base64.StdEncoding.EncodeToString([]byte("user:"+wrong)))
		s.Do(s.Root, "GET /projects/p?api_key="+wrong, "")
		s.Do(s.Root, "GET /projects?cursor="+wrong, "")
		s.Do(s.Root, "POST /projects", `{"id":"q","api_key":"`+wrong+`"}`)
		s.Do(s.Root, "POST /projects", `{"id":"q","settings":"`+wrong+`"}`)
		s.Do(s.Root, "POST /projects", `{"id":"q" "`+wrong+`"}`)
		s.Do(s.Root, "GET /operations", "", "X-Unknown: "+wrong)
	}

	file := s.Want(201, write, "POST /projects/p/files?name=f", "a text", "Content-Type: text/plain").Text("id")
	signed := s.Want(200, write, "POST /projects/p/files/"+file+"/signed-url", `{"expires_in":600}`).Text("url")
	prepared := s.Want(200, write, "POST /projects/p/files/prepare", `{"filename":"g"}`).Text("signed_url")
	for _, text := range []string{signed, prepared} {
		u, err := url.Parse(text)
		mustDo(t, err)
		add("signature", u.Query().Get("signature"))
	}
	s.Want(200, "", "GET "+signed, "")
	s.Want(401, "", "GET "+signed+"x", "")
	s.Do("", "PUT "+prepared, "body")

	// What tenants write into statements is theirs: the project's database has it,
	// and the server's log must not.
	value := add("tenant's value", "value-that-a-tenant-keeps-0123456789")
	s.Want(201, first, "POST /projects/p/buckets", `{"name":"b"}`)
	s.Want(201, first, "POST /projects/p/buckets/b/tables", `{"name":"t","columns":[{"name":"v","type":"VARCHAR"}]}`)
	s.Want(200, first, "POST /projects/p/query", `{"sql":"INSERT INTO b.t VALUES ('`+value+`')","mode":"write"}`, "Idempotency-Key: q")
	s.Want(200, first, "POST /projects/p/query", `{"sql":"SELECT * FROM b.t WHERE v = ?","params":["`+value+`"]}`)
	s.Do(first, "POST /projects/p/query", `{"sql":"SELECT '`+value+`' FROM nowhere"}`)
	s.Do(first, "POST /projects/p/query", `{"sql":"SELECT '`+value+`"}`)
	s.Do(first, "POST /projects/p/query", `{"sql":"SELECT $$`+value+`$$::INT"}`)
	s.Do(first, "DELETE /projects/p/buckets/b/tables/t/rows", `{"where_clause":"v = '`+value+`'"}`)
	s.Do(first, "DELETE /projects/p/buckets/b/tables/t/rows", `{"where_clause":"v = '`+value+`"}`)
	s.Do(first, "POST /projects/p/buckets/b/tables/t/export", `{"format":"csv","where_filter":"v = '`+value+`'"}`)
	return all
}

// TestNoSecretIsInAnyRowNorInTheWAL greps every row of every table, the database
// and its write-ahead log, what else is kept outside the projects, and what the
// process said.
func TestNoSecretIsInAnyRowNorInTheWAL(t *testing.T) {
	s := start(t, nil)
	all := useSecrets(t, s)
	look := func(where string, text []byte) {
		for _, one := range all {
			if slices.ContainsFunc(one.forms(), func(form []byte) bool { return bytes.Contains(text, form) }) {
				t.Errorf("%s holds the %s", where, one.what)
			}
		}
	}
	view := s.App.Kernel.View
	tables, err := view.Query(t.Context(), "SELECT table_name FROM duckdb_tables() ORDER BY 1")
	mustDo(t, err)
	var names []string
	for tables.Next() {
		var name string
		mustDo(t, tables.Scan(&name))
		names = append(names, name)
	}
	mustDo(t, tables.Close())
	if !slices.Contains(names, "operations_log") || !slices.Contains(names, "idempotency_keys") {
		t.Fatalf("the tables are %v", names)
	}
	rows := 0
	for _, name := range names {
		found, err := view.Query(t.Context(), "SELECT to_json(t)::TEXT FROM "+name+" t")
		mustDo(t, err)
		for found.Next() {
			var text string
			mustDo(t, found.Scan(&text))
			look("a row of "+name, []byte(text))
			rows++
		}
		mustDo(t, found.Close())
	}
	if rows < 30 {
		t.Errorf("only %d rows were seen", rows)
	}
	files := func(when string) {
		mustDo(t, filepath.WalkDir(s.Dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.Name() == "duckdb" || e.Name() == "files" {
				if err == nil {
					err = fs.SkipDir // of tenants
				}
				return err
			}
			if !e.Type().IsRegular() || e.Name() == "root.key" {
				return nil
			}
			text, err := os.ReadFile(path)
			look(e.Name()+" "+when, text)
			return err
		}))
	}
	if info, err := os.Stat(filepath.Join(s.Dir, "metadata.duckdb.wal")); err != nil || info.Size() == 0 {
		t.Errorf("there is no write-ahead log to look into: %v", err)
	}
	files("while the server runs")
	s.Stop()
	files("after its end")
}

// What the process says is kept too, by whoever keeps its logs.
func TestNoSecretIsInWhatTheProcessSays(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "d"), "EIDER_TELEMETRY_LOG_LEVEL=debug")
	all := useSecrets(t, s.Server)
	s.stop(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.said {
		for _, one := range all {
			if slices.ContainsFunc(one.forms(), func(form []byte) bool { return strings.Contains(line, string(form)) }) {
				t.Errorf("the %s is in the log line %s", one.what, line)
			}
		}
	}
	if len(s.said) < 10 {
		t.Errorf("the process said %d lines", len(s.said))
	}
}
