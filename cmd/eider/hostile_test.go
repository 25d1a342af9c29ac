package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	table "github.com/eiderdb/eider/core/projectdb/gate/hostile"
)

// requestOf returns how a client would try a case, and its body.
func requestOf(c table.Case, p table.Paths) (do, body string) {
	const orders = "/projects/p/buckets/sales/tables/orders"
	text, _ := json.Marshal(c.With(p))
	text = bytes.ReplaceAll(text, []byte(`\ufffd`), []byte("\xff")) // what is no text goes out as it is
	switch c.Kind {
	case table.Select:
		return "POST /projects/p/query", fmt.Sprintf(`{"sql":%s,"timeout_ms":3000}`, text)
	case table.Write:
		return "POST /projects/p/query", fmt.Sprintf(`{"sql":%s,"mode":"write","timeout_ms":3000}`, text)
	case table.Where:
		return "DELETE " + orders + "/rows", fmt.Sprintf(`{"where_clause":%s}`, text)
	case table.Type:
		return "POST " + orders + "/columns", fmt.Sprintf(`{"name":"made","type":%s}`, text)
	}
	return "POST " + orders + "/columns", fmt.Sprintf(`{"name":"made","type":"VARCHAR","default":%s}`, text)
}

// Every hostile input comes in by the API, as it would.
func TestHostileInputIsRefusedByTheAPI(t *testing.T) {
	t.Parallel()
	s, keys := startQueries(t, nil)
	s.Want(201, s.Root, "POST /projects/p/buckets", `{"name":"sales"}`)
	inDatabase(t, s, "p", table.Setup()[1:3]...)
	outside := t.TempDir()
	project := s.Want(200, s.Root, "GET /projects/p", "")
	paths := table.Paths{File: filepath.Join(outside, "secret.csv"), Own: filepath.Join(s.Dir, project.Text("db_path")), Out: filepath.Join(outside, "new")}
	must(t, os.WriteFile(paths.File, []byte(table.Secret), 0o600))
	look := func() string {
		a := s.Want(200, keys["read"], "POST /projects/p/query", statement(
			`SELECT (SELECT count(*) FROM information_schema.columns) AS columns, (SELECT string_agg(o::VARCHAR, ';' ORDER BY id) FROM sales.orders o) AS rows`))
		return fmt.Sprint(a.JSON["rows"])
	}
	before := look()
	for i, c := range table.Cases() {
		do, body := requestOf(c, paths)
		a := s.Do(keys["write"], do, body)
		// What is no text, or none at all, is refused before it is taken for SQL.
		early := a.Status == 422 && a.Code() == "validation_failed" || a.Status == 400 && a.Code() == "malformed_json" || a.Status == 413
		if a.Status < 400 || a.Status > 499 || a.Code() != c.Code && !early || len(a.Text("detail")) < 15 {
			t.Errorf("case %d: %s %.200s: %d %.400s", i, c.Kind, c.Input, a.Status, a.Body)
		}
		if strings.Contains(string(a.Body), table.Secret) {
			t.Errorf("case %d: %s %.200s shows the file", i, c.Kind, c.Input)
		}
		if now := look(); now != before {
			t.Fatalf("case %d: %s %.200s has changed %s into %s", i, c.Kind, c.Input, before, now)
		}
	}
	entries, err := os.ReadDir(outside)
	must(t, err)
	if len(entries) != 1 {
		t.Errorf("beside the file there are %v", entries)
	}
}
