package main

import (
	"fmt"
	"testing"

	"github.com/eiderdb/eider/core/app/apptest"
)

func counters(t *testing.T, s *apptest.Server) string {
	t.Helper()
	p := s.Want(200, s.Root, "GET /projects/sales", "")
	stats := s.Want(200, s.Root, "GET /projects/sales/stats", "")
	if p.JSON["table_count"] != stats.JSON["table_count"] || p.JSON["size_bytes"] != stats.JSON["size_bytes"] || p.JSON["size_bytes"].(float64) < 1 {
		t.Errorf("the project is %s and its statistics are %s", p.Body, stats.Body)
	}
	return line(p.JSON["bucket_count"], p.JSON["table_count"], stats.JSON["row_count"])
}

func TestCountersFollowEachChange(t *testing.T) {
	t.Parallel()
	s, key, base := bucketOf(t)
	same(t, "buckets, tables, rows", counters(t, s), "1 0 0")
	s.Want(201, key, "POST "+base+"/tables", `{"name":"t","columns":[{"name":"id","type":"INTEGER"}]}`)
	same(t, "buckets, tables, rows", counters(t, s), "1 1 0")
	inDatabase(t, s, "sales", `INSERT INTO b.t SELECT * FROM range(100)`)
	a := s.Want(200, key, "DELETE "+base+"/tables/t/rows", `{"where_clause":"id >= 90"}`)
	same(t, "the answer", string(a.Body), `{"deleted_rows":10,"table_rows_after":90}`)
	same(t, "the table", s.Want(200, key, "GET "+base+"/tables", "").List("tables")[0]["row_count"], 90)
	s.Want(201, key, "POST /projects/sales/buckets", `{"name":"c"}`)
	same(t, "buckets", counters(t, s)[:3], "2 1")
	s.Want(204, key, "DELETE "+base+"?cascade=true", "")
	same(t, "buckets, tables, rows", counters(t, s), "1 0 0")
}

func TestRepeatedChangeIsAnsweredOnce(t *testing.T) {
	t.Parallel()
	s, key, base := bucketOf(t)
	const body = `{"name":"t","columns":[{"name":"id","type":"INTEGER"}]}`
	first := s.Want(201, key, "POST "+base+"/tables", body, "Idempotency-Key: one")
	again := s.Want(201, key, "POST "+base+"/tables", body, "Idempotency-Key: one")
	same(t, "the second answer", line(string(again.Body), again.Header.Get("Idempotency-Replayed")), string(first.Body)+" true")
	s.Want(204, key, "DELETE "+base+"/tables/t", "", "Idempotency-Key: two")
	s.Want(204, key, "DELETE "+base+"/tables/t", "", "Idempotency-Key: two")
}

func TestTablesAreOpenToWhoMay(t *testing.T) {
	t.Parallel()
	s, key, base := bucketOf(t)
	other := project(t, s, "other")
	reader := s.Want(201, key, "POST /projects/sales/api-keys", `{"description":"r","scope":"project_read"}`).Text("api_key")
	writer := s.Want(201, key, "POST /projects/sales/api-keys", `{"description":"w","scope":"project_write"}`).Text("api_key")
	const table = `{"name":"t","columns":[{"name":"id","type":"INTEGER"}]}`
	s.Want(201, writer, "POST "+base+"/tables", table)
	keys := map[string]string{"reader": reader, "writer": writer, "other": other, "none": ""}
	reads := []string{"GET " + base, "GET " + base + "/tables", "GET " + base + "/tables/t", "GET " + base + "/tables/t/preview", "POST " + base + "/tables/t/profile"}
	changes := []apptest.Case{
		{Do: "POST /projects/sales/buckets", Body: `{"name":"c"}`}, {Do: "DELETE " + base}, {Do: "POST " + base + "/tables", Body: table}, {Do: "DELETE " + base + "/tables/t"},
		{Do: "POST " + base + "/tables/t/columns", Body: `{"name":"c","type":"INTEGER"}`}, {Do: "PUT " + base + "/tables/t/columns/id", Body: `{"new_name":"c"}`},
		{Do: "DELETE " + base + "/tables/t/columns/id"}, {Do: "POST " + base + "/tables/t/primary-key", Body: `{"columns":["id"]}`},
		{Do: "DELETE " + base + "/tables/t/primary-key"}, {Do: "DELETE " + base + "/tables/t/rows", Body: `{"where_clause":"true"}`},
	}
	answer := func(who string, status int, code string) {
		t.Helper()
		var cases []apptest.Case
		for _, c := range changes {
			c.Name, c.As, c.Status, c.Code = who+" changes", who, status, code
			cases = append(cases, c)
		}
		apptest.Run(t, s, keys, cases)
	}
	for _, do := range reads {
		s.Want(200, reader, do, "")
		s.Want(404, other, do, "")
		s.Want(401, "", do, "")
	}
	answer("reader", 403, "forbidden")
	answer("other", 404, "not_found")
	s.Want(200, s.Root, "PATCH /projects/sales", `{"status":"locked"}`)
	answer("writer", 423, "project_locked")
	for _, do := range reads {
		s.Want(200, reader, do, "")
	}
	s.Want(200, s.Root, "PATCH /projects/sales", `{"status":"active"}`)
	same(t, "the table", line(s.Want(200, key, "GET "+base+"/tables/t", "").JSON["primary_key"]), "[]")
	s.Want(204, s.Root, "DELETE /projects/sales", "")
	for _, do := range reads {
		s.Want(404, s.Root, do, "")
		s.Want(401, writer, do, "")
	}
	for _, c := range changes {
		s.Want(404, s.Root, c.Do, c.Body)
	}
	s.Want(200, s.Root, "POST /projects/sales/undelete", "")
	s.Want(200, writer, reads[2], "")
}

func TestDatabaseForgetsOldCalls(t *testing.T) {
	t.Parallel()
	s, key, base := bucketOf(t)
	inDatabase(t, s, "sales", `INSERT INTO _eider.calls SELECT 'call ' || i, '2026-01-01'::TIMESTAMPTZ + to_seconds(i), 'null' FROM range(10100) r(i)`)
	s.Want(200, key, "GET "+base, "")
	inDatabase(t, s, "sales", `CREATE TABLE b.calls AS SELECT count(*) AS n, min(done_at) > '2026-01-01' AS newest FROM _eider.calls`)
	same(t, "the calls", s.Want(200, key, "GET "+base+"/tables/calls/preview", "").List("rows")[0], map[string]any{"n": 10000.0, "newest": true})
}

// A list is one look into the catalog, however many tables there are.
func TestListOfManyTablesIsWhole(t *testing.T) {
	t.Parallel()
	s, key, base := bucketOf(t)
	var statements []string
	for i := range 1200 {
		statements = append(statements, fmt.Sprintf(`CREATE TABLE b.t%04d AS SELECT i FROM range(%d) r(i)`, i, i%3))
	}
	inDatabase(t, s, "sales", append([]string{"BEGIN"}, append(statements, "COMMIT")...)...)
	seen, cursor := 0, ""
	for {
		a := s.Want(200, key, "GET "+base+"/tables?limit=1000"+cursor, "")
		for _, table := range a.List("tables") {
			if table["name"] != fmt.Sprintf("t%04d", seen) || table["row_count"] != float64(seen%3) {
				t.Fatalf("table %d is %v", seen, table)
			}
			seen++
		}
		if a.JSON["next_cursor"] == nil {
			break
		}
		cursor = "&cursor=" + a.Text("next_cursor")
	}
	same(t, "how many there are", seen, 1200)
}
