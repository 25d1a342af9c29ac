package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
)

// startQueries starts a server with a project "p" and returns a key of each role.
func startQueries(t *testing.T, settings map[string]string) (s *apptest.Server, keys map[string]string) {
	t.Helper()
	s = apptest.Start(t, t.TempDir(), app.Options{Modules: modules()}, settings)
	s.Want(201, s.Root, "POST /projects", `{"id":"p"}`)
	keys = map[string]string{"root": s.Root}
	for _, scope := range []string{"project_read", "project_write"} {
		a := s.Want(201, s.Root, "POST /projects/p/api-keys", `{"description":"test","scope":"`+scope+`"}`)
		keys[scope[len("project_"):]] = a.Text("api_key")
	}
	return s, keys
}

// statement is the body of a query.
func statement(sql string, more ...string) string {
	text, _ := json.Marshal(sql)
	body := `{"sql":` + string(text)
	for _, m := range more {
		body += "," + m
	}
	return body + "}"
}

func TestRowsComeInTheFormThatIsAskedFor(t *testing.T) {
	s, keys := startQueries(t, nil)
	sql := `SELECT range AS n, CASE WHEN range = 1 THEN NULL WHEN range = 2 THEN '' ELSE 'a,"b"' END AS words, 0.5 AS "x y" FROM range(3)`
	for _, c := range []struct{ accept, media, body string }{
		{"application/x-ndjson", "application/x-ndjson", `{"n":0,"words":"a,\"b\"","x y":0.5}` + "\n" + `{"n":1,"words":null,"x y":0.5}` + "\n" + `{"n":2,"words":"","x y":0.5}` + "\n"},
		{"text/csv", "text/csv; charset=utf-8; header=present", "n,words,x y\n0,\"a,\"\"b\"\"\",0.5\n1,,0.5\n2,\"\",0.5\n"},
		{"text/html, text/csv;q=0.5, application/json;q=0.2", "text/csv; charset=utf-8; header=present", "n,words,x y\n0,\"a,\"\"b\"\"\",0.5\n1,,0.5\n2,\"\",0.5\n"},
	} {
		a := s.Want(200, keys["read"], "POST /projects/p/query", statement(sql), "Accept: "+c.accept)
		if got := a.Header.Get("Content-Type"); string(a.Body) != c.body || got != c.media {
			t.Errorf("%s: %s\n%s", c.accept, got, a.Body)
		}
	}
	a := s.Want(200, keys["read"], "POST /projects/p/query", statement(sql))
	rows := a.List("rows")
	if len(rows) != 3 || rows[0]["n"] != 0.0 || a.JSON["truncated"] != false || a.JSON["elapsed_ms"] == nil {
		t.Errorf("%s", a.Body)
	}
	if got := fmt.Sprint(a.List("columns")); got != "[map[name:n type:BIGINT] map[name:words type:VARCHAR] map[name:x y type:DECIMAL(2,1)]]" {
		t.Errorf("columns are %s", got)
	}
}

// The rows of many chunks, of a text that no frame holds, and of none.
func TestArrowHasTheRowsThatLinesHave(t *testing.T) {
	t.Parallel()
	s, keys := startQueries(t, nil)
	for _, sql := range []string{
		"SELECT range AS n, CASE WHEN range % 3 > 0 THEN 'row ' || range END AS words, range % 2 = 0 AS even, (range / 4)::DOUBLE AS q FROM range(10000)",
		"SELECT repeat('x', 4500000) AS words, range AS n FROM range(2)",
		"SELECT 1 AS n WHERE false",
	} {
		lines := s.Want(200, keys["read"], "POST /projects/p/query", statement(sql), "Accept: application/x-ndjson")
		a := s.Want(200, keys["read"], "POST /projects/p/query", statement(sql), "Accept: application/vnd.apache.arrow.stream")
		r, err := ipc.NewReader(bytes.NewReader(a.Body))
		must(t, err)
		var rows bytes.Buffer
		for r.Next() {
			must(t, array.RecordToJSON(r.RecordBatch(), &rows))
		}
		must(t, r.Err())
		r.Release()
		wantLines, gotLines := strings.Split(string(lines.Body), "\n"), strings.Split(rows.String(), "\n")
		if len(wantLines) != len(gotLines) {
			t.Fatalf("%s: %d rows, not %d", sql, len(gotLines)-1, len(wantLines)-1)
		}
		for i := range gotLines[:len(gotLines)-1] {
			var got, want map[string]any
			must(t, json.Unmarshal([]byte(gotLines[i]), &got))
			must(t, json.Unmarshal([]byte(wantLines[i]), &want))
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%.100s: row %d is %.200s, not %.200s", sql, i, gotLines[i], wantLines[i])
			}
		}
	}
}

func TestQueriesAreRefusedAsTheContractSays(t *testing.T) {
	t.Parallel()
	s, keys := startQueries(t, map[string]string{"queries.timeout": "2s", "queries.max_timeout": "5s", "projects.kill_after": "500ms", "projects.memory": "128MiB"})
	apptest.Run(t, s, keys, []apptest.Case{
		{Name: "no such column", As: "read", Do: "POST /projects/p/query", Body: statement("SELECT nope FROM (SELECT 1 AS a)"), Status: 400, Code: "query_failed"},
		{Name: "no SQL", As: "read", Do: "POST /projects/p/query", Body: statement("SELEC 1"), Status: 400, Code: "query_failed"},
		{Name: "a cast", As: "read", Do: "POST /projects/p/query", Body: statement("SELECT 'a'::INTEGER"), Status: 400, Code: "query_failed"},
		{Name: "a file", As: "read", Do: "POST /projects/p/query", Body: statement("SELECT * FROM read_text('/etc/passwd')"), Status: 400, Code: "statement_not_allowed"},
		{Name: "two statements", As: "read", Do: "POST /projects/p/query", Body: statement("SELECT 1; SELECT 2"), Status: 400, Code: "statement_not_allowed"},
		{Name: "a write in read mode", As: "write", Do: "POST /projects/p/query", Body: statement("CREATE TABLE x (a INTEGER)"), Status: 400, Code: "statement_not_allowed"},
		{Name: "a key that may not write", As: "read", Do: "POST /projects/p/query", Body: statement("CREATE TABLE x AS SELECT 1", `"mode":"write"`), Status: 403, Code: "forbidden"},
		{Name: "too few parameters", As: "read", Do: "POST /projects/p/query", Body: statement("SELECT $1"), Status: 400, Code: "query_failed"},
		{Name: "a parameter that is a list", As: "read", Do: "POST /projects/p/query", Body: statement("SELECT $1", `"params":[[1]]`), Status: 422, Code: "validation_failed"},
		{Name: "no form", As: "read", Do: "POST /projects/p/query", Body: statement("SELECT 1"), Headers: []string{"Accept: text/html"}, Status: 406, Code: "not_acceptable"},
		{Name: "too long a time", As: "read", Do: "POST /projects/p/query", Body: statement("SELECT 1", `"timeout_ms":5001`), Status: 422, Code: "validation_failed"},
		{Name: "no mode", As: "read", Do: "POST /projects/p/query", Body: statement("SELECT 1", `"mode":"admin"`), Status: 422, Code: "validation_failed"},
		{Name: "its time", As: "read", Do: "POST /projects/p/query", Body: statement("SELECT count(*) FROM range(1000000) a, range(1000000) b", `"timeout_ms":100`), Status: 408, Code: "query_timeout"},
		{Name: "its memory", As: "read", Do: "POST /projects/p/query", Body: statement("SELECT length(repeat(repeat('x',1000000),3000))"), Status: 422, Code: "out_of_memory"},
		{Name: "no key", Do: "POST /projects/p/query", Body: statement("SELECT 1"), Status: 401, Code: "unauthorized"},
		{Name: "after all that", As: "read", Do: "POST /projects/p/query", Body: statement("SELECT 1"), Status: 200},
	})
	a := s.Do(keys["read"], "POST /projects/p/query", statement("SELECT a,\n  nope FROM (SELECT 1 AS a)"))
	if !strings.Contains(a.Text("message"), "(at character 13)") {
		t.Errorf("the place is not told: %s", a.Body)
	}
}

func TestParametersAreBoundAndNeverSpliced(t *testing.T) {
	t.Parallel()
	s, keys := startQueries(t, nil)
	a := s.Want(200, keys["read"], "POST /projects/p/query", statement("SELECT $1 AS a, $2 AS b, $3 AS c, $4 AS d, $5 AS e, $6::DATE AS f",
		`"params":["x' OR 1=1 --",9007199254740993,1.5,true,null,"2024-02-29"]`), "Accept: application/x-ndjson")
	if want := `{"a":"x' OR 1=1 --","b":9007199254740993,"c":1.5,"d":true,"e":null,"f":"2024-02-29"}` + "\n"; string(a.Body) != want {
		t.Errorf("%s", a.Body)
	}
}

func TestAnswersAreCutAtMaxRowsAndSaySo(t *testing.T) {
	t.Parallel()
	s, keys := startQueries(t, map[string]string{"queries.max_rows": "5"})
	for _, c := range []struct {
		more      string
		rows      int
		truncated bool
	}{{"", 5, true}, {`,"max_rows":10`, 10, true}, {`,"max_rows":20`, 20, false}, {`,"max_rows":100`, 20, false}} {
		a := s.Want(200, keys["read"], "POST /projects/p/query", `{"sql":"SELECT * FROM range(20)"`+c.more+`}`)
		if len(a.List("rows")) != c.rows || a.JSON["truncated"] != c.truncated {
			t.Errorf("%s: %s", c.more, a.Body)
		}
	}
	a := s.Want(200, keys["read"], "POST /projects/p/query", statement("SELECT * FROM range(20)"), "Accept: text/csv")
	if n := strings.Count(string(a.Body), "\n"); n != 21 {
		t.Errorf("CSV has %d lines", n)
	}
}

func TestNumbersThatJSONLacksAreTexts(t *testing.T) {
	t.Parallel()
	s, keys := startQueries(t, nil)
	a := s.Want(200, keys["read"], "POST /projects/p/query", statement(`SELECT 'nan'::DOUBLE AS a, ['-inf'::FLOAT, 1] AS b, 'NaN "Infinity' AS "c NaN", {'x': 'inf'::DOUBLE} AS d`), "Accept: application/x-ndjson")
	if want := `{"a":"NaN","b":["-Infinity",1.0],"c NaN":"NaN \"Infinity","d":{"x":"Infinity"}}` + "\n"; string(a.Body) != want {
		t.Errorf("%s", a.Body)
	}
}

// lateError is the last line of rows that failed. DuckDB tells at times only that
// its threads were stopped.
var lateError = regexp.MustCompile(`\{"error":\{"code":"query_failed","message":"(late|the statement failed while it ran)"\}\}\n$`)

func TestAnErrorAmongTheRowsIsSeen(t *testing.T) {
	t.Parallel()
	s, keys := startQueries(t, nil)
	sql := "SELECT CASE WHEN range < 2000000 THEN range ELSE error('late') END AS n FROM range(3000000)"
	for _, accept := range []string{"application/json", "application/x-ndjson", "text/csv", "application/vnd.apache.arrow.stream"} {
		r, err := http.NewRequest("POST", s.URL+"/projects/p/query", strings.NewReader(statement(sql, `"max_rows":3000000`)))
		must(t, err)
		r.Header.Set("Authorization", "Bearer "+keys["read"])
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", accept)
		a, err := http.DefaultClient.Do(r)
		must(t, err)
		body, err := io.ReadAll(a.Body)
		_ = a.Body.Close()
		if a.StatusCode != 200 || len(body) == 0 || err == nil {
			t.Errorf("%s: %d, %d bytes, %v", accept, a.StatusCode, len(body), err)
		}
		if accept == "application/x-ndjson" && !lateError.Match(body) {
			t.Errorf("it ends with %q", body[max(0, len(body)-200):])
		}
	}
	apptest.Eventually(t, "the rows of the log say that the queries failed", func() bool {
		return strings.Count(strings.Join(s.Rows(0), " "), "query failed") == 4
	})
}

func TestAStatementStopsWhenItsClientLeaves(t *testing.T) {
	t.Parallel()
	s, keys := startQueries(t, map[string]string{"queries.at_once": "1"})
	ctx, leave := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "POST", s.URL+"/projects/p/query", strings.NewReader(statement("SELECT * FROM range(100000000000)")))
	must(t, err)
	r.Header.Set("Authorization", "Bearer "+keys["read"])
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "text/csv")
	a, err := http.DefaultClient.Do(r)
	must(t, err)
	refused := s.Want(429, keys["read"], "POST /projects/p/query", statement("SELECT 1"))
	if refused.Code() != "too_many_queries" || refused.Header.Get("Retry-After") == "" {
		t.Errorf("%s", refused.Body)
	}
	leave()
	_ = a.Body.Close()
	apptest.Eventually(t, "the statement has stopped", func() bool {
		return s.Do(keys["read"], "POST /projects/p/query", statement("SELECT 1")).Status == 200
	})
	apptest.Eventually(t, "the log says that the client left, and of how many rows nothing that is not so", func() bool {
		for _, row := range s.Want(200, s.Root, "GET /operations?operation=query&limit=20", "").List("operations") {
			details, _ := row["details"].(map[string]any)
			if row["operation"] == "query" && row["error_code"] == "client_closed_request" {
				_, counted := details["rows"]
				return !counted && details["sent_bytes"].(float64) > 0
			}
		}
		return false
	})
}

// Who deletes a project, or purges it, first ends what runs below it, and tells why.
func TestADeletedProjectEndsItsStatements(t *testing.T) {
	t.Parallel()
	s, keys := startQueries(t, map[string]string{"queries.at_once": "1"})
	long := statement("SELECT sum(a.range + b.range) FROM range(10000000) a, range(10000000) b")
	for _, way := range []string{"", "?purge=true"} {
		answered := make(chan apptest.Answer, 1)
		go func() {
			a := s.Do(keys["read"], "POST /projects/p/query", long)
			for a.Status == 429 { // the one below was there first
				a = s.Do(keys["read"], "POST /projects/p/query", long)
			}
			answered <- a
		}()
		apptest.Eventually(t, "the statement runs", func() bool {
			return s.Do(keys["read"], "POST /projects/p/query", statement("SELECT 1")).Status == 429
		})
		s.Want(204, s.Root, "DELETE /projects/p"+way, "")
		if a := <-answered; a.Status != 404 || a.Code() != "not_found" {
			t.Errorf("DELETE%s: the statement answers %s", way, a.Body)
		}
		if way == "" {
			s.Want(200, s.Root, "POST /projects/p/undelete", "")
		}
	}
}

func TestStatementsThatWriteAreEffects(t *testing.T) {
	t.Parallel()
	s, keys := startQueries(t, nil)
	s.Want(201, keys["write"], "POST /projects/p/buckets", `{"name":"shop"}`)
	a := s.Want(200, keys["write"], "POST /projects/p/query", statement("CREATE TABLE shop.t AS SELECT range AS n, 'secret' AS s FROM range(10)", `"mode":"write"`))
	if a.JSON["affected_rows"] != 10.0 {
		t.Errorf("%s", a.Body)
	}
	a = s.Want(200, keys["write"], "POST /projects/p/query", statement("DELETE FROM shop.t WHERE n >= $1 RETURNING n", `"mode":"write","params":[8]`))
	if rows := a.List("rows"); len(rows) != 2 || a.JSON["affected_rows"] != 2.0 {
		t.Errorf("%s", a.Body)
	}
	found := s.Want(200, s.Root, "GET /operations?operation=query&all_rows=true&limit=100", "")
	if strings.Contains(string(found.Body), "secret") || !strings.Contains(string(found.Body), "CREATE TABLE shop.t AS SELECT range AS n, ? AS s FROM range(?)") {
		t.Errorf("the log has %s", found.Body)
	}
	if p := s.Want(200, s.Root, "GET /projects/p", ""); p.JSON["table_count"] != 1.0 {
		t.Errorf("the project is %s", p.Body)
	}
	s.Want(200, s.Root, "PATCH /projects/p", `{"status":"locked"}`)
	s.Want(200, keys["read"], "POST /projects/p/query", statement("SELECT * FROM shop.t"))
	s.Want(423, keys["write"], "POST /projects/p/query", statement("DELETE FROM shop.t", `"mode":"write"`))
}
