package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/app/apptest"
)

// ask begins a query as a job, and returns the job once it has ended.
func ask(t *testing.T, s *apptest.Server, key, body string, headers ...string) map[string]any {
	t.Helper()
	begun := s.Want(202, key, "POST /projects/p/query", body, append(headers, async)...)
	if at := begun.Header.Get("Location"); at != "/jobs/"+begun.Text("job_id") {
		t.Errorf("the job is at %q: %s", at, begun.Body)
	}
	return endedJob(t, s, key, begun.Text("job_id"))
}

func endedJob(t *testing.T, s *apptest.Server, key, id string) (job map[string]any) {
	t.Helper()
	apptest.Eventually(t, "the job ends", func() bool {
		job = s.Want(200, key, "GET /jobs/"+id, "").JSON
		return job["ended_at"] != nil
	})
	return job
}

func TestFewRowsAreTheResultOfAJob(t *testing.T) {
	t.Parallel()
	s, keys := startQueries(t, map[string]string{"queries.max_rows": "4"})
	s.Want(200, s.Root, "PATCH /projects/p", `{"status":"locked"}`) // which reads do not mind
	sql := "SELECT range AS n, 'x' AS s FROM range(%d)"
	for n, truncated := range map[int]bool{0: false, 3: false, 5: true} {
		job := ask(t, s, keys["read"], statement(fmt.Sprintf(sql, n)))
		result, _ := job["result"].(map[string]any)
		rows, _ := result["rows"].([]any)
		columns, _ := json.Marshal(result["columns"])
		if job["status"] != "succeeded" || job["operation"] != "query" || len(rows) != min(n, 4) || result["row_count"] != float64(len(rows)) || job["rows_done"] != float64(len(rows)) ||
			result["truncated"] != truncated || result["file_id"] != nil || result["elapsed_ms"] == nil ||
			string(columns) != `[{"name":"n","type":"BIGINT"},{"name":"s","type":"VARCHAR"}]` {
			t.Errorf("%d rows: the job is %v", n, job)
		}
	}
	if a := s.Want(200, keys["read"], "GET /projects/p/files", ""); len(a.List("files")) != 0 {
		t.Errorf("there are files: %s", a.Body)
	}
	if rows, row := newestCall(t, s, "query"); rows != "success in_progress" || row["details"].(map[string]any)["sql"] == nil {
		t.Errorf("the call has the rows %s: %v", rows, row)
	}
}

func TestManyRowsOfAJobAreAFile(t *testing.T) {
	t.Parallel()
	s, keys := startQueries(t, nil)
	body := statement("SELECT range AS n, 'row ' || range AS s FROM range(20000)", `"max_rows":20000`)
	for accept, name := range map[string]string{
		"application/json": "query.json", "application/x-ndjson": "query.ndjson", "text/csv": "query.csv", "application/vnd.apache.arrow.stream": "query.arrow",
	} {
		job := ask(t, s, keys["read"], body, "Accept: "+accept, "Idempotency-Key: "+name)
		result, _ := job["result"].(map[string]any)
		id, _ := result["file_id"].(string)
		if job["status"] != "succeeded" || id == "" || result["row_count"] != 20000.0 || result["rows"] != nil {
			t.Fatalf("%s: the job is %v", accept, job)
		}
		file := s.Want(200, keys["read"], "GET /projects/p/files/"+id, "")
		if file.Text("name") != name || file.JSON["expires_at"] == nil || file.JSON["expires_at"] != result["expires_at"] ||
			file.JSON["size_bytes"] != result["file_size_bytes"] || file.JSON["tags"].(map[string]any)["type"] != "query_result" {
			t.Errorf("%s: the file is %s, the result %v", accept, file.Body, result)
		}
		apptest.Eventually(t, "what a rebuild needs stands beside the file", func() bool {
			text, err := os.ReadFile(filepath.Join(s.Dir, "files", file.Text("path")+".json"))
			return err == nil && strings.Contains(string(text), `"id":"`+id+`"`)
		})
		kept := s.Want(200, keys["read"], "GET /projects/p/files/"+id+"/download", "")
		plain := s.Want(200, keys["read"], "POST /projects/p/query", body, "Accept: "+accept)
		want, got := string(plain.Body), string(kept.Body)
		if accept == "application/json" { // but for the time it took
			want, got = want[:strings.LastIndex(want, `,"elapsed_ms"`)], got[:strings.LastIndex(got, `,"elapsed_ms"`)]
		}
		if got != want || kept.Header.Get("Content-Type") != plain.Header.Get("Content-Type") {
			t.Errorf("%s: the file has %d bytes of %s, the answer %d of %s", accept, len(got), kept.Header.Get("Content-Type"), len(want), plain.Header.Get("Content-Type"))
		}
		again := s.Want(202, keys["read"], "POST /projects/p/query", body, "Accept: "+accept, "Idempotency-Key: "+name, async)
		if again.Text("job_id") != job["id"] || again.Header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("with the same key it answered %s", again.Body)
		}
	}
	if a := s.Want(200, keys["read"], "GET /projects/p/stats", ""); a.JSON["file_count"] != 4.0 {
		t.Errorf("the statistics are %s", a.Body)
	}
}

func TestAStatementThatWritesCanBeAJob(t *testing.T) {
	t.Parallel()
	s, keys := startQueries(t, nil)
	s.Want(201, s.Root, "POST /projects/p/buckets", `{"name":"b"}`)
	job := ask(t, s, keys["write"], statement("CREATE TABLE b.t AS SELECT * FROM range(10)", `"mode":"write"`))
	result, _ := job["result"].(map[string]any)
	if job["status"] != "succeeded" || result["affected_rows"] != 10.0 || job["rows_done"] != 10.0 {
		t.Errorf("the job is %v", job)
	}
	if a := s.Want(200, keys["read"], "GET /projects/p/stats", ""); a.JSON["table_count"] != 1.0 || a.JSON["row_count"] != 10.0 {
		t.Errorf("the statistics are %s", a.Body)
	}
	s.Want(403, keys["read"], "POST /projects/p/query", statement("DROP TABLE b.t", `"mode":"write"`), async)
}

func TestAQueryThatFailsAsAJobLeavesNoFile(t *testing.T) {
	t.Parallel()
	s, keys := startQueries(t, map[string]string{"projects.kill_after": "500ms"})
	for code, body := range map[string]string{
		"statement_not_allowed": statement("SELECT * FROM read_text('/etc/passwd')"),
		"query_timeout":         statement("SELECT * FROM range(100000000000)", `"timeout_ms":300,"max_rows":100000000000`),
		"query_failed":          statement("SELECT CASE WHEN range < 2000000 THEN range ELSE error('late') END AS n FROM range(3000000)", `"max_rows":3000000`),
	} {
		job := ask(t, s, keys["read"], body)
		if failure, _ := job["error"].(map[string]any); job["status"] != "failed" || failure["code"] != code {
			t.Errorf("%s: the job is %v", code, job)
		}
	}
	if a := s.Want(200, keys["read"], "GET /projects/p/files", ""); len(a.List("files")) != 0 {
		t.Errorf("there are files: %s", a.Body)
	}
	if a := s.Want(200, keys["read"], "GET /projects/p/stats", ""); a.JSON["file_count"] != 0.0 || a.JSON["file_bytes"] != 0.0 {
		t.Errorf("the statistics are %s", a.Body)
	}
}

func TestAQueryThatRunsAsAJobTellsItsRowsAndIsCancelledByWhoBeganIt(t *testing.T) {
	t.Parallel()
	s, keys := startQueries(t, nil)
	other := s.Want(201, s.Root, "POST /projects/p/api-keys", `{"description":"other","scope":"project_read"}`).Text("api_key")
	body := statement("SELECT * FROM range(100000000000)", `"max_rows":100000000000`)
	id := s.Want(202, keys["read"], "POST /projects/p/query", body, async, "Accept: text/csv").Text("job_id")
	apptest.Eventually(t, "the job tells its rows", func() bool {
		job := s.Want(200, other, "GET /jobs/"+id, "").JSON
		rows, _ := job["rows_done"].(float64)
		return job["status"] == "running" && rows > 0
	})
	if a := s.Want(403, other, "DELETE /jobs/"+id, ""); a.Code() != "forbidden" {
		t.Errorf("another reader's cancel answered %s", a.Body)
	}
	s.Want(202, keys["read"], "DELETE /jobs/"+id, "")
	if job := endedJob(t, s, keys["read"], id); job["status"] != "cancelled" {
		t.Errorf("the job is %v", job)
	}
	if a := s.Want(200, keys["read"], "GET /projects/p/files?include_staged=true", ""); len(a.List("files")) != 0 {
		t.Errorf("there are files: %s", a.Body)
	}
}
