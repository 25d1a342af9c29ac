package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/duck"
)

func number(t *testing.T, a apptest.Answer, name string) int {
	t.Helper()
	n, ok := a.JSON[name].(float64)
	if !ok {
		t.Errorf("there is no %s in %s", name, a.Body)
	}
	return int(n)
}

// total returns the sum of a series.
func total(t *testing.T, s *apptest.Server, query string) (sum, points int) {
	t.Helper()
	for _, p := range s.Want(200, s.Root, "GET /stats/series?"+query, "").List("points") {
		sum += int(p["v"].(float64))
		points++
	}
	return sum, points
}

func TestStatsTellWhatThereIsAndWhatHappens(t *testing.T) {
	s := start(t, nil)
	project(t, s, "a")
	key := project(t, s, "b")
	s.Want(409, s.Root, "POST /projects", `{"id":"a"}`)
	s.Want(201, key, "POST /projects/b/files?name=f", "12345")
	made := s.Want(200, key, "GET /projects/b/stats", "").Text("updated_at")
	s.Want(201, key, "POST /projects/b/buckets", `{"name":"x"}`)
	if told := s.Want(200, key, "GET /projects/b/stats", "").Text("updated_at"); told == made {
		t.Errorf("a change of the database left the statistics as of %s: %s", made, told)
	}
	s.Want(201, key, "POST /projects/b/buckets/x/tables", `{"name":"t","columns":[{"name":"i","type":"INTEGER"}]}`)
	s.Want(200, key, "POST /projects/b/query", `{"sql":"SELECT 1"}`)
	s.Want(403, key, "GET /stats", "")
	for _, n := range []string{"again", "once more"} { // what is counted at once, and what the follower has counted
		var a apptest.Answer
		apptest.Eventually(t, "the query's row is there", func() bool {
			a = s.Want(200, s.Root, "GET /stats", "")
			return a.JSON["queries_today"] == 1.0
		})
		for name, want := range map[string]int{
			"total_projects": 2, "active_projects": 2, "total_tables": 1, "total_files": 1, "total_file_bytes": 5,
			"operations_today": 8, "errors_today": 1, "denied_today": 1, "imports_today": 0,
		} {
			if got := number(t, a, name); got != want {
				t.Errorf("%s: %s is %d, want %d", n, name, got, want)
			}
		}
		if number(t, a, "total_size_bytes") == 0 || a.Text("updated_at") == "" {
			t.Errorf("it tells %s", a.Body)
		}
		if sum, points := total(t, s, "metric=operations&project_id=b"); sum != 6 || points != 24 {
			t.Errorf("%s: project b has %d operations in %d hours", n, sum, points)
		}
		if sum, _ := total(t, s, "metric=uploads"); sum != 1 {
			t.Errorf("%s: there are %d uploads", n, sum)
		}
		if sum, points := total(t, s, "metric=errors&step=1d"); sum != 1 || points != 30 {
			t.Errorf("%s: there are %d errors in %d days", n, sum, points)
		}
		apptest.Eventually(t, "all is counted", func() bool {
			rows, err := s.App.Kernel.View.Query(t.Context(), `SELECT log_id FROM stats WHERE key = 'cursor' AND log_id = $1`, s.App.Kernel.Audit.Head().ID)
			mustDo(t, err)
			defer rows.Close()
			return rows.Next()
		})
	}
	for by, want := range map[string]string{"size": "b", "files": "b", "operations": "b", "errors": "a"} {
		first := s.Want(200, s.Root, "GET /stats/top?limit=1&by="+by, "").List("top")
		if len(first) != 1 || by != "errors" && first[0]["project_id"] != want {
			t.Errorf("most %s has %v", by, first)
		}
	}
	old := "from=2020-01-01T00:00:00Z&to=2020-01-01T05:30:00Z"
	if sum, points := total(t, s, old); sum != 0 || points != 6 {
		t.Errorf("long ago there are %d in %d points", sum, points)
	}
	for _, from := range []string{"1700-01-01T00:00:00Z", "0001-01-02T00:00:00Z", "0001-01-01T00:00:00Z"} { // longer than times have differences
		points := s.Want(200, s.Root, "GET /stats/series?step=366d&from="+from, "").List("points")
		if n := len(points); n < 300 || points[n-1]["v"].(float64) < 8 {
			t.Errorf("of %d steps since %s the last is %v", n, from, points[n-1])
		}
	}
	for _, query := range []string{"step=366d&to=0001-01-02T00:00:00Z", "step=1d&from=0001-01-02T00:00:00Z", "step=1d&from=0001-01-01T00:00:00Z", "metric=what", "step=30m", "step=1x", "from=2020-01-01T00:00:00Z", "from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z"} {
		s.Want(422, s.Root, "GET /stats/series?"+query, "")
	}
	s.Want(404, s.Root, "GET /stats/series?project_id=none", "")
	s.Want(422, s.Root, "GET /stats/top?by=what", "")
	counted := s.Want(200, key, "GET /projects/b/stats?refresh=true", "")
	if number(t, counted, "table_count") != 1 || number(t, counted, "file_count") != 1 || number(t, counted, "size_bytes") == 0 {
		t.Errorf("counted again it is %s", counted.Body)
	}
}

// differences between the counts and a full recount of the log.
const differences = `
	WITH ended AS (
		SELECT timestamp, project_uid, CASE WHEN operation = 'register_file' AND intent_id > 0 THEN 'upload_file' ELSE operation END operation, status, greatest(refusals, 1) n FROM operations_log WHERE status <> 'in_progress'),
	scoped AS (SELECT 'server' AS scope, * FROM ended UNION ALL SELECT project_uid, * FROM ended WHERE project_uid <> ''),
	spans AS (
		SELECT scope, 'hour' AS period, time_bucket(INTERVAL 1 HOUR, timestamp) AS begun, operation, status, n FROM scoped
		UNION ALL SELECT scope, 'day', time_bucket(INTERVAL 24 HOURS, timestamp), operation, status, n FROM scoped),
	recount AS (
		SELECT scope, period, begun, sum(n) operations, sum(n) FILTER (status = 'denied') denied, sum(n) FILTER (status = 'failed') errors,
			sum(n) FILTER (status = 'success' AND operation = 'query') queries, sum(n) FILTER (status = 'success' AND operation = 'upload_file') uploads
		FROM spans GROUP BY ALL)
	SELECT count(*)::BIGINT, count(r.scope)::BIGINT, count(s.scope)::BIGINT,
		count(*) FILTER (s.operations IS DISTINCT FROM r.operations OR s.denied <> coalesce(r.denied, 0) OR s.errors <> coalesce(r.errors, 0)
			OR s.queries <> coalesce(r.queries, 0) OR s.uploads <> coalesce(r.uploads, 0))::BIGINT,
		(SELECT max(log_id) FROM stats) - (SELECT max(id) FROM operations_log)
	FROM (SELECT * FROM stats WHERE key <> 'cursor') s FULL JOIN recount r USING (scope, period, begun)`

// TestCountsAreExactAfterCrashes kills the server while it works, and compares the
// counts with those of all rows of the log.
func TestCountsAreExactAfterCrashes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	projects := 0
	for round := range 4 {
		s := serve(t, dir)
		done, patience := make(chan struct{}), time.Duration(200+random.IntN(1500))*time.Millisecond
		go func() {
			defer close(done)
			for range 40 + random.IntN(40) {
				id := fmt.Sprint("p", random.IntN(projects+1))
				var err error
				switch random.IntN(6) {
				case 0:
					projects++
					_, err = s.Try(childKey, "POST /projects", fmt.Sprintf(`{"id":"p%d"}`, projects))
				case 1:
					_, err = s.Try(childKey, "PATCH /projects/"+id, `{"name":"n"}`)
				case 2:
					_, err = s.Try(childKey, "POST /projects", `{"id":"p1"}`)
				case 3:
					_, err = s.Try("wrong", "GET /projects", "")
				case 4:
					_, err = s.Try(childKey, "POST /projects/"+id+"/files?name=f", "x")
				case 5:
					_, err = s.Try(childKey, "POST /projects/"+id+"/query", `{"sql":"SELECT 1"}`)
				}
				if err != nil {
					return // it was killed
				}
			}
		}()
		if round < 3 {
			select {
			case <-done:
			case <-time.After(patience):
			}
			s.kill()
			<-done
			continue
		}
		<-done
		s.stop(t)
	}
	db, err := duck.Open(context.Background(), filepath.Join(dir, "metadata.duckdb"), duck.Options{})
	mustDo(t, err)
	rows, err := db.Query(context.Background(), differences)
	mustDo(t, err)
	var all, recounted, counted, different, behind int64
	for rows.Next() {
		mustDo(t, rows.Scan(&all, &recounted, &counted, &different, &behind))
	}
	mustDo(t, errors.Join(rows.Close(), db.CloseAsIs()))
	if all < 4 || recounted != all || counted != all || different != 0 || behind != 0 {
		t.Errorf("of %d spans %d are counted and %d of the log, %d differ; the counts end %d rows apart from the log", all, counted, recounted, different, behind)
	}
}
