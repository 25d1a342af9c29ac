package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/app/apptest"
)

// DuckDB takes addresses by the square of a query's columns, and the worker's are
// limited: a wide table is described part by part.
func TestAWideTableIsProfiledInEveryModeAgainAndAgain(t *testing.T) {
	t.Parallel()
	s, keys := startQueries(t, nil)
	s.Want(201, s.Root, "POST /projects/p/buckets", `{"name":"b"}`)
	types := []string{"INTEGER", "DOUBLE", "VARCHAR", "DECIMAL(38,10)", "DATE", "HUGEINT"}
	var columns []string
	for i := range 60 {
		columns = append(columns, fmt.Sprintf(`{"name":"c%d","type":"%s"}`, i, types[i%len(types)]))
	}
	s.Want(201, s.Root, "POST /projects/p/buckets/b/tables", `{"name":"t","columns":[`+strings.Join(columns, ",")+`]}`)
	for _, rows := range []int{0, 1000} {
		s.Want(200, s.Root, "POST /projects/p/query", statement(fmt.Sprintf("INSERT INTO b.t (c0, c1, c2) SELECT range, range / 7, 'v' || range FROM range(%d)", rows), `"mode":"write"`))
		for range 3 {
			for _, mode := range []string{"full", "distribution", "quality", "basic"} {
				a := s.Want(200, keys["read"], "POST /projects/p/buckets/b/tables/t/profile?mode="+mode, "")
				if a.JSON["row_count"] != float64(rows) || len(a.List("statistics")) != 60 || len(a.List("columns")) != 60 {
					t.Errorf("%s of %d rows: %s", mode, rows, a.Body)
				}
			}
		}
	}
	a := s.Want(200, keys["read"], "POST /projects/p/buckets/b/tables/t/profile?mode=full", "")
	if found := a.List("correlations"); len(found) == 0 || found[0]["column_a"] != "c0" || found[0]["column_b"] != "c1" || found[0]["coefficient"] != 1.0 {
		t.Errorf("the correlations are %v", found)
	}
}

// A change that waits for another one and gives up costs that one nothing.
func TestAStatementThatGivesUpWaitingLeavesTheOneThatRuns(t *testing.T) {
	t.Parallel()
	s, keys := startQueries(t, map[string]string{"projects.kill_after": "300ms"})
	s.Want(201, s.Root, "POST /projects/p/buckets", `{"name":"b"}`)
	first := make(chan apptest.Answer, 1)
	go func() {
		a, _ := s.Try(keys["write"], "POST /projects/p/query", statement("CREATE TABLE b.t AS SELECT count(*) AS n FROM range(10000000) a, range(10000000) b", `"mode":"write","timeout_ms":3000`))
		first <- a
	}()
	apptest.Eventually(t, "the first one runs", func() bool {
		return len(s.Want(200, s.Root, "GET /operations?operation=query&status=in_progress", "").List("operations")) > 0
	})
	for len(first) == 0 { // a worker that is killed costs it a 503
		a := s.Do(keys["write"], "POST /projects/p/query", statement("CREATE TABLE b.u AS SELECT 1 AS n", `"mode":"write","timeout_ms":100`))
		if a.Status != 408 && a.Status != 200 && a.Code() != "query_failed" {
			t.Errorf("a waiting statement answered %s", a.Body)
		}
	}
	if a := <-first; a.Code() != "query_timeout" {
		t.Errorf("the first one answered %s", a.Body)
	}
}

func TestReturnedRowsAreShownAsRowsOfAQueryAre(t *testing.T) {
	t.Parallel()
	s, keys := startQueries(t, nil)
	s.Want(201, s.Root, "POST /projects/p/buckets", `{"name":"b"}`)
	s.Want(201, s.Root, "POST /projects/p/buckets/b/tables", `{"name":"t","columns":[{"name":"z","type":"BIGINT"},{"name":"d","type":"DECIMAL(9,2)"},
		{"name":"f","type":"DOUBLE"},{"name":"day","type":"DATE"},{"name":"at","type":"TIMESTAMP"},{"name":"tz","type":"TIMESTAMPTZ"},{"name":"a","type":"INTEGER[]"},
		{"name":"s","type":"STRUCT(x INTEGER)"},{"name":"b","type":"BOOLEAN"},{"name":"t","type":"VARCHAR"}]}`)
	write := s.Want(200, keys["write"], "POST /projects/p/query", statement(`INSERT INTO b.t VALUES (9007199254740993, 1.5, 'nan', '2024-02-29', '2024-02-29 12:00:00.5',
		'2024-02-29 12:00:00+00', [1, NULL], {'x': 1}, true, 'say "x"'), (NULL, NULL, 'inf', NULL, NULL, 'infinity', NULL, NULL, NULL, NULL) RETURNING *`, `"mode":"write"`))
	read := s.Want(200, keys["read"], "POST /projects/p/query", statement("SELECT * FROM b.t"))
	part := func(a apptest.Answer) string {
		text, _, _ := strings.Cut(string(a.Body), `],"affected_rows"`)
		text, _, _ = strings.Cut(text, `],"truncated"`)
		return text
	}
	if w, r := part(write), part(read); w != r {
		t.Errorf("returned\n%s\nqueried\n%s", w, r)
	}
}
