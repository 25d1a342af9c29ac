package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/app/apptest"
)

// newestCall returns the statuses of the rows of the newest call of the operation,
// newest first, and the newest row.
func newestCall(t *testing.T, s *apptest.Server, operation string) (statuses string, newest map[string]any) {
	t.Helper()
	rows := s.Want(200, s.Root, "GET /operations?all_rows=true&limit=20&operation="+operation, "").List("operations")
	for _, row := range rows {
		if newest == nil {
			newest = row
		}
		if row["call_id"] == newest["call_id"] {
			statuses += row["status"].(string) + " "
		}
	}
	return strings.TrimSpace(statuses), newest
}

func TestAStatementThatWritesHappensOnceUnderAKey(t *testing.T) {
	t.Parallel()
	s, keys := startQueries(t, nil)
	s.Want(201, s.Root, "POST /projects/p/buckets", `{"name":"b"}`)
	write := func(status int, sql, key string) apptest.Answer {
		t.Helper()
		return s.Want(status, keys["write"], "POST /projects/p/query", statement(sql, `"mode":"write"`), "Idempotency-Key: "+key)
	}
	write(200, "CREATE TABLE b.t AS SELECT 1 AS n", "make")
	before := s.App.Kernel.Audit.Head().ID
	first := write(200, "INSERT INTO b.t VALUES (2) RETURNING n", "add")
	again := write(200, "INSERT INTO b.t VALUES (2) RETURNING n", "add")
	if again.Header.Get("Idempotency-Replayed") != "true" || again.Header.Get("X-Idempotency-Replay") != "true" || string(again.Body) != string(first.Body) {
		t.Errorf("again it answered %v %s, at first %s", again.Header, again.Body, first.Body)
	}
	if got := strings.Join(s.Rows(before), ", "); got != "query in_progress, query success" {
		t.Errorf("the log got %s", got)
	}
	a := s.Want(200, keys["read"], "POST /projects/p/query", statement("SELECT count(*) AS n FROM b.t"), "Accept: text/csv")
	if string(a.Body) != "n\n2\n" {
		t.Errorf("the table has %s rows", a.Body)
	}
	if a := write(409, "INSERT INTO b.t VALUES (3)", "add"); a.Code() != "idempotency_conflict" {
		t.Errorf("another statement with the key: %s", a.Body)
	}
	for range 2 {
		if a := write(400, "INSERT INTO b.nowhere VALUES (3)", "refused"); a.Code() != "query_failed" {
			t.Errorf("%s", a.Body)
		}
	}
	if rows, row := newestCall(t, s, "query"); rows != "failed in_progress" || row["error_code"] != "query_failed" {
		t.Errorf("the refused call has the rows %s: %v", rows, row)
	}
	if a := write(400, "INSERT INTO b.t SELECT strptime('a@b.example', '%Y')", "told"); !strings.Contains(a.Text("message"), "a@b.example") {
		t.Errorf("the caller is not told the value: %s", a.Body)
	}
	if _, row := newestCall(t, s, "query"); row["error_message"] == "" || strings.Contains(fmt.Sprint(row), "b.example") {
		t.Errorf("the log has %v", row)
	}
}

func TestAStatementThatWritesIsOneCall(t *testing.T) {
	t.Parallel()
	s, keys := startQueries(t, nil)
	s.Want(201, s.Root, "POST /projects/p/buckets", `{"name":"b"}`)
	for _, sql := range []string{"CREATE TABLE b.t AS SELECT range AS n, 'secret' AS s FROM range(10)", "DELETE FROM b.t WHERE n < 4"} {
		s.Want(200, keys["write"], "POST /projects/p/query", statement(sql, `"mode":"write"`))
	}
	rows, row := newestCall(t, s, "query")
	details, _ := row["details"].(map[string]any)
	if rows != "success in_progress" || details["sql"] != "DELETE FROM b.t WHERE n < ?" || details["mode"] != "write" || details["affected_rows"] != 4.0 ||
		row["resource_id"] != "p" || details["fingerprint"] == nil {
		t.Errorf("the call has the rows %s: %v", rows, row)
	}
	stats := s.Want(200, keys["read"], "GET /projects/p/stats", "")
	if stats.JSON["table_count"] != 1.0 || stats.JSON["bucket_count"] != 1.0 || stats.JSON["row_count"] != 6.0 || stats.JSON["queries_today"] != 2.0 {
		t.Errorf("the statistics are %s", stats.Body)
	}
	before := s.App.Kernel.Audit.Head().ID
	apptest.Run(t, s, keys, []apptest.Case{
		{Name: "a reader", As: "read", Do: "POST /projects/p/query", Body: statement("DELETE FROM b.t", `"mode":"write"`), Status: 403, Code: "forbidden", Log: []string{"query denied"}},
		{Name: "as CSV", As: "write", Do: "POST /projects/p/query", Body: statement("DELETE FROM b.t", `"mode":"write"`), Headers: []string{"Accept: text/csv"}, Status: 406, Code: "not_acceptable", Log: []string{"query failed"}},
	})
	s.Want(200, s.Root, "PATCH /projects/p", `{"status":"locked"}`)
	apptest.Run(t, s, keys, []apptest.Case{
		{Name: "a locked project", As: "write", Do: "POST /projects/p/query", Body: statement("DELETE FROM b.t", `"mode":"write"`), Status: 423, Code: "project_locked", Log: []string{"query failed"}},
		{Name: "is read", As: "read", Do: "POST /projects/p/query", Body: statement("SELECT count(*) FROM b.t"), Status: 200},
	})
	apptest.Eventually(t, "the query has its row", func() bool { return len(s.Rows(before)) == 5 })
	if found := s.Want(200, s.Root, "GET /operations?all_rows=true&limit=100", ""); strings.Contains(string(found.Body), "secret") {
		t.Errorf("the log has %s", found.Body)
	}
}

// A statement that was cut short happened or did not; its key tells, once the
// server is there again, and does not make it happen twice.
func TestAStatementThatWritesAndIsCutShortHappensOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := serve(t, dir)
	c.Want(201, childKey, "POST /projects", `{"id":"p"}`)
	c.Want(201, childKey, "POST /projects/p/buckets", `{"name":"b"}`)
	c.Want(200, childKey, "POST /projects/p/query", statement("CREATE TABLE b.t AS SELECT 0 AS n", `"mode":"write"`))
	body := statement("INSERT INTO b.t SELECT range FROM range(2000000)", `"mode":"write"`)
	for round := range 3 {
		before := count(t, c.Server, "b.t")
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = c.Try(childKey, "POST /projects/p/query", body, fmt.Sprint("Idempotency-Key: k", round)) // it may be cut
		}()
		apptest.Eventually(t, "it runs", func() bool {
			return len(c.Want(200, childKey, "GET /operations?operation=query&status=in_progress", "").List("operations")) > 0 || count(t, c.Server, "b.t") != before
		})
		if round == 0 {
			killWorkers(t, c.cmd.Process.Pid)
		} else {
			c.kill()
		}
		<-done
		if round > 0 {
			c = serve(t, dir)
		}
		apptest.Eventually(t, "the key answers", func() bool {
			a := c.Do(childKey, "POST /projects/p/query", body, fmt.Sprint("Idempotency-Key: k", round))
			return a.Status == 200
		})
		if now := count(t, c.Server, "b.t"); now != before+2000000 {
			t.Fatalf("round %d: there are %d rows, before there were %d", round, now, before)
		}
	}
	c.stop(t)
}

func count(t *testing.T, s *apptest.Server, table string) (n int) {
	t.Helper()
	var a apptest.Answer
	apptest.Eventually(t, "the rows are counted", func() bool {
		a = s.Do(childKey, "POST /projects/p/query", statement("SELECT count(*) AS n FROM "+table))
		return a.Status == 200
	})
	f, _ := a.List("rows")[0]["n"].(float64)
	return int(f)
}
