package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/duck"
)

// tenantWrites makes the project's database hold a table, partly in its
// write-ahead log, as a worker that was killed leaves it.
func tenantWrites(t *testing.T, path string) {
	t.Helper()
	db, err := duck.Open(t.Context(), path, duck.Options{})
	must(t, err)
	conn, err := db.Conn(t.Context())
	must(t, err)
	must(t, conn.Exec(t.Context(), "CREATE TABLE secret AS SELECT 'of the old owner' AS text"))
	must(t, db.Checkpoint(t.Context()))
	must(t, conn.Exec(t.Context(), "INSERT INTO secret VALUES ('in the log')"))
	left := map[string][]byte{}
	for _, name := range []string{path, path + ".wal"} {
		left[name], err = os.ReadFile(name)
		must(t, err)
	}
	must(t, conn.Close())
	must(t, db.Close())
	for name, text := range left {
		must(t, os.WriteFile(name, text, 0o600))
	}
}

func tablesIn(t *testing.T, path string) []string {
	t.Helper()
	db, err := duck.Open(t.Context(), path, duck.Options{})
	must(t, err)
	rows, err := db.Query(t.Context(), "SELECT table_name FROM duckdb_tables()")
	must(t, err)
	var names []string
	for rows.Next() {
		var name string
		must(t, rows.Scan(&name))
		names = append(names, name)
	}
	must(t, rows.Close())
	must(t, db.Close())
	return names
}

func databaseOf(t *testing.T, s *apptest.Server, id string) string {
	t.Helper()
	return filepath.Join(s.Dir, s.Want(200, s.Root, "GET /projects/"+id, "").Text("db_path"))
}

func TestUndeleteGivesBackDatabaseAndLogByteForByte(t *testing.T) {
	s := start(t, nil)
	project(t, s, "p")
	path := databaseOf(t, s, "p")
	tenantWrites(t, path)
	before := [2]string{string(read(t, path)), string(read(t, path+".wal"))}
	s.Want(204, s.Root, "DELETE /projects/p", "")
	s.Want(200, s.Root, "POST /projects/p/undelete", "")
	if path != databaseOf(t, s, "p") || before != [2]string{string(read(t, path)), string(read(t, path+".wal"))} {
		t.Error("the database is another")
	}
	if got := tablesIn(t, path); !slices.Equal(got, []string{"secret"}) {
		t.Errorf("the tables are %v", got)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return text
}

// The write-ahead log of the old one in a fresh copy of the template would show
// its rows: each incarnation has a folder of its own.
func TestReusedIDShowsNothingOfTheOldOne(t *testing.T) {
	s := start(t, nil)
	old := s.Want(201, s.Root, "POST /projects", `{"id":"p","name":"Old owner","settings":{"secret":1}}`)
	s.Want(201, s.Root, "POST /projects/p/api-keys", `{"description":"old key"}`)
	oldPath := databaseOf(t, s, "p")
	tenantWrites(t, oldPath)
	s.Want(204, s.Root, "DELETE /projects/p?purge=true", "", "Idempotency-Key: purge")

	s.Want(404, s.Root, "GET /projects/p", "")
	fresh := s.Want(201, s.Root, "POST /projects", `{"id":"p"}`)
	key, path := fresh.Text("api_key"), databaseOf(t, s, "p")
	if path == oldPath || fresh.Text("uid") == old.Text("uid") {
		t.Errorf("both incarnations are %s in %s", fresh.Text("uid"), path)
	}
	if got := tablesIn(t, path); len(got) > 0 {
		t.Errorf("the new database holds %v", got)
	}
	s.Want(401, old.Text("api_key"), "GET /projects/p", "")
	for _, what := range []string{"", "/api-keys", "/operations?all_rows=true", "/stats"} {
		a := s.Want(200, key, "GET /projects/p"+what, "")
		for _, trace := range []string{old.Text("uid"), "Old owner", "secret", "old key"} {
			if strings.Contains(string(a.Body), trace) {
				t.Errorf("GET /projects/p%s tells %q: %s", what, trace, a.Body)
			}
		}
	}
	// Sent again, the old request is answered as it was then and purges nothing.
	s.Want(204, s.Root, "DELETE /projects/p?purge=true", "", "Idempotency-Key: purge")
	s.Want(200, key, "GET /projects/p", "")
}

// An id that is no name is refused as such, whatever it does to a path, and no
// file comes into being anywhere about the data folder.
func TestIDsThatAreNoNamesAre422AndMakeNoFile(t *testing.T) {
	outside := t.TempDir()
	dir := filepath.Join(outside, "a", "data")
	s := apptest.Start(t, dir, app.Options{Modules: modules(), Version: "test"}, nil)
	before := everyPath(t, outside)
	for _, id := range []string{
		"", ".", "..", "...", "a/b", "/", "/etc", "../x", "../../x", "a/../../../x", `..\x`, `a\b`, "%2e%2e", "..%2f", "a%00", "~", "-a", "_a", ".a",
		strings.Repeat("a", 65), strings.Repeat("a", 5000), "a\x00b", "a\n", "\ta", "a\x7f", "a\u0085", " a", "a ", "a b", "a.b", "a:b", "a*", "a?purge=true", "a#b",
		"ä", "名", "\u202ea", "a\u200b", "ａ", "a\u0301", "\U0001F986", "a;b", "a'b", `a"b`, "$(a)", "a`b`",
	} {
		body, err := json.Marshal(map[string]string{"id": id})
		must(t, err)
		a := s.Do(s.Root, "POST /projects", string(body))
		field := ""
		if errors, _ := a.JSON["errors"].([]any); len(errors) == 1 {
			field, _ = errors[0].(map[string]any)["field"].(string)
		}
		if a.Status != 422 || a.Code() != "validation_failed" || field != "id" {
			t.Errorf("the id %q was answered %d %s", id, a.Status, a.Body)
		}
	}
	if after := everyPath(t, outside); !slices.Equal(before, after) {
		t.Errorf("before\n%v\nafter\n%v", before, after)
	}
	for _, id := range []string{"a", "0", "A-_9", strings.Repeat("z", 64)} {
		s.Want(201, s.Root, "POST /projects", `{"id":"`+id+`"}`)
		checkFolder(t, dir, projectsOf(t, s)[0])
	}
}

// everyPath lists what is below a folder, but for what the metadata and its
// checkpoints come and go with.
func everyPath(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if name, _ := filepath.Rel(dir, path); err == nil && !strings.Contains(name, "metadata.duckdb") && filepath.Base(filepath.Dir(path)) != "audit" {
			all = append(all, name)
		}
		return err
	}))
	return all
}
