package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/duck"
)

// some is a read that takes some time, long one that takes too much, and bomb one
// that does not hear when it is told to stop.
const (
	some = "SELECT count(*) AS n FROM range(200000000) WHERE hash(range) <> range"
	long = "SELECT count(*) AS n FROM range(100000000000) WHERE hash(range) <> range"
	bomb = "SELECT levenshtein(repeat('a', 400000), repeat('b', 400000))"
)

// counter returns the sum of a metric over the attributes that contain all words.
func counter(t *testing.T, s *apptest.Server, name string, words ...string) (sum float64) {
	t.Helper()
	text := string(s.Want(200, "", "GET /metrics", "").Body)
	for _, m := range regexp.MustCompile(`(?m)^`+name+`\{([^}]*)\} (\S+)`).FindAllStringSubmatch(text, -1) {
		has := true
		for _, w := range words {
			has = has && strings.Contains(m[1], w)
		}
		if v, err := strconv.ParseFloat(m[2], 64); has && err == nil {
			sum += v
		}
	}
	return sum
}

// begin asks in the background.
func begin(c *child, do, body string) <-chan apptest.Answer {
	answer := make(chan apptest.Answer, 1)
	go func() {
		a, _ := c.Try(childKey, do, body) // the server may be killed
		answer <- a
	}()
	return answer
}

// busy waits until a worker computes that is none of those before, and returns it.
func busy(t *testing.T, c *child, before ...int) (pid int) {
	t.Helper()
	apptest.Eventually(t, "a worker computes", func() bool {
		for _, pid = range workersOf(t, c.cmd.Process.Pid) {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			_, rest, _ := strings.Cut(string(text), ") ")
			if fields := strings.Fields(rest); !slices.Contains(before, pid) && len(fields) > 12 {
				if ticks, _ := strconv.Atoi(fields[11]); ticks > 40 { // in user mode, of 10 ms
					return true
				}
			}
		}
		return false
	})
	return pid
}

// A read that is cut because its neighbour had the worker killed is begun again,
// once: the second time it is told to try again.
func TestReadBesideAKilledWorkerIsBegunAgainOnce(t *testing.T) {
	t.Parallel()
	c := serve(t, t.TempDir(), "EIDER_PROJECTS_KILL_AFTER=200ms")
	c.Want(201, childKey, "POST /projects", `{"id":"p"}`)
	read := begin(c, "POST /projects/p/query", statement(some))
	killed := []int{busy(t, c)}
	must(t, syscall.Kill(killed[0], syscall.SIGKILL))
	if a := <-read; a.Status != 200 || !strings.Contains(string(a.Body), `{"n":199999999}`) {
		t.Errorf("the read that was cut got %d %s", a.Status, a.Body)
	}

	read = begin(c, "POST /projects/p/query", statement(long))
	killed = append(killed, busy(t, c, killed...))
	// Its neighbour's time is over, and does not stop.
	if a := c.Do(childKey, "POST /projects/p/query", statement(bomb, `"timeout_ms":1000`)); a.Status != 408 {
		t.Errorf("the bomb got %d %s", a.Status, a.Body)
	}
	must(t, syscall.Kill(busy(t, c, killed...), syscall.SIGKILL))
	if a := <-read; a.Status != 503 || a.Code() != "project_restarted" || a.Header.Get("Retry-After") == "" {
		t.Errorf("the read that was cut twice got %d %v %s", a.Status, a.Header, a.Body)
	}
	if n := counter(t, c.Server, "eider_worker_ends_total", `reason="stuck"`); n != 1 {
		t.Errorf("%v workers were killed for a statement that did not stop", n)
	}
	if n := counter(t, c.Server, "eider_worker_statement_seconds_count", `op="query"`, `outcome="lost"`); n != 3 {
		t.Errorf("%v statements were lost", n)
	}
	c.Want(200, childKey, "POST /projects/p/query", statement("SELECT 1"))
	c.stop(t)
}

// An export only reads, and its file is made anew.
func TestExportWhoseWorkerIsKilledIsBegunAgain(t *testing.T) {
	t.Parallel()
	c := serve(t, t.TempDir())
	c.Want(201, childKey, "POST /projects", `{"id":"p"}`)
	c.Want(201, childKey, "POST /projects/p/buckets", `{"name":"b"}`)
	c.Want(200, childKey, "POST /projects/p/query", statement("CREATE TABLE b.t AS SELECT range AS n FROM range(90)", `"mode":"write"`))
	export := begin(c, "POST /projects/p/buckets/b/tables/t/export", `{"format":"csv","where_filter":"levenshtein(repeat('a', 2000), repeat('b', 2000 + n::INTEGER % 2)) > 0"}`)
	must(t, syscall.Kill(busy(t, c), syscall.SIGKILL))
	if a := <-export; a.Status != 200 || a.JSON["rows_exported"] != 90.0 {
		t.Errorf("the export got %d %s", a.Status, a.Body)
	}
	if a := c.Want(200, childKey, "GET /projects/p/files", ""); a.JSON["total"] != 1.0 {
		t.Errorf("the files are %s", a.Body)
	}
	c.stop(t)
}

// What happens to workers is told: of the project in its stats, of the server in
// its health, and nothing else has anything of it.
func TestProjectWhoseWorkerKeepsDyingIsDegradedAndTheServerIsNot(t *testing.T) {
	t.Parallel()
	c := serve(t, t.TempDir(), "EIDER_PROJECTS_SPARE_WORKERS=0")
	for _, id := range []string{"p", "q"} {
		c.Want(201, childKey, "POST /projects", `{"id":"`+id+`"}`)
	}
	healthy := func() string {
		h := c.Want(200, "", "GET /health", "").JSON
		return fmt.Sprint(h["status"], " ", h["details"].(map[string]any)["projects"])
	}
	state := func(id string) string {
		a := c.Want(200, childKey, "GET /projects/"+id+"/stats", "").JSON
		return fmt.Sprint(a["state"], " ", a["reason"])
	}
	for n, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSEGV, syscall.SIGABRT} {
		if got := healthy() + ", " + state("p"); got != "healthy true, healthy <nil>" {
			t.Errorf("after %d deaths: %s", n, got)
		}
		// The server may not know yet that the last one is gone.
		apptest.Eventually(t, "there is a worker", func() bool {
			return c.Do(childKey, "POST /projects/p/query", statement("SELECT 1")).Status == 200
		})
		pid := workersOf(t, c.cmd.Process.Pid)[0]
		must(t, syscall.Kill(pid, signal))
		apptest.Eventually(t, "the worker is gone", func() bool { return len(workersOf(t, c.cmd.Process.Pid)) == 0 })
	}
	apptest.Eventually(t, "the project is degraded", func() bool { return healthy() == "healthy false" })
	if got := state("p"); !strings.HasPrefix(got, "degraded its worker ended 3 times: ") {
		t.Errorf("its state is %s", got)
	}
	if got := state("q"); got != "healthy <nil>" {
		t.Errorf("the neighbour is %s", got)
	}
	c.Want(200, childKey, "POST /projects/p/query", statement("SELECT 1"))
	c.Want(200, childKey, "POST /projects/q/query", statement("SELECT 1"))
	c.Want(200, "", "GET /health/ready", "")
	c.stop(t)
}

// No worker outlives its server, whatever it does, and the next start finds every
// project whole.
func TestKilledServerLeavesNoWorkerAndWholeProjects(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := serve(t, dir)
	all := []string{"bombed", "read", "written", "imported"}
	for _, id := range all {
		c.Want(201, childKey, "POST /projects", `{"id":"`+id+`"}`)
		c.Want(201, childKey, "POST /projects/"+id+"/buckets", `{"name":"b"}`)
		c.Want(200, childKey, "POST /projects/"+id+"/query", statement("CREATE TABLE b.kept AS SELECT range AS n FROM range(1000)", `"mode":"write"`))
	}
	// Twelve million rows in a small file, which take some seconds to read.
	file := c.Want(201, childKey, "POST /projects/imported/files?name=data", zipped(t, "n\n"+strings.Repeat("1234567\n", 12_000_000)), "Content-Type: application/octet-stream")
	c.Want(201, childKey, "POST /projects/imported/buckets/b/tables", `{"name":"made","columns":[{"name":"n","type":"INTEGER"}]}`)
	var answers []<-chan apptest.Answer
	var workers []int
	for _, work := range [][2]string{
		{"bombed/query", statement(bomb)}, {"read/query", statement(long)},
		{"written/query", statement("CREATE TABLE b.made AS SELECT range AS n, hash(range) AS h FROM range(200000000)", `"mode":"write"`)},
		{"imported/buckets/b/tables/made/import/file", `{"format":"csv","file_id":"` + file.Text("id") + `"}`},
	} {
		answers = append(answers, begin(c, "POST /projects/"+work[0], work[1]))
		workers = append(workers, busy(t, c, workers...))
	}
	workers = workersOf(t, c.cmd.Process.Pid) // the waiting ones too
	c.kill()
	apptest.Eventually(t, "no worker is left", func() bool {
		for _, pid := range workers {
			if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(text), ") Z ") {
				return false
			}
		}
		return true
	})
	for _, a := range answers {
		<-a
	}
	c = serve(t, dir)
	for _, id := range all {
		apptest.Eventually(t, id+" is whole", func() bool {
			a := c.Do(childKey, "POST /projects/"+id+"/query", statement("SELECT sum(n) AS s FROM b.kept"))
			return a.Status == 200 && strings.Contains(string(a.Body), `{"s":499500}`)
		})
	}
	if a := c.Do(childKey, "GET /projects/written/buckets/b/tables/made", ""); a.Status != 404 && a.Status != 200 {
		t.Errorf("the table is answered %d %s", a.Status, a.Body)
	}
	if n := c.Want(200, childKey, "GET /projects/imported/buckets/b/tables/made", "").JSON["row_count"]; n != 0.0 && n != 12_000_000.0 {
		t.Errorf("of the import there are %v rows", n)
	}
	c.stop(t)
}

func TestProjectsFileOpensWithPlainDuckDBAfterAStop(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := serve(t, dir)
	c.Want(201, childKey, "POST /projects", `{"id":"p"}`)
	c.Want(201, childKey, "POST /projects/p/buckets", `{"name":"b"}`)
	c.Want(200, childKey, "POST /projects/p/query", statement("CREATE TABLE b.t AS SELECT range AS n FROM range(1000)", `"mode":"write"`))
	c.Want(200, childKey, "DELETE /projects/p/buckets/b/tables/t/rows", `{"where_clause":"n < 10"}`)
	path := filepath.Join(dir, c.Want(200, childKey, "GET /projects/p", "").Text("db_path"))
	c.stop(t)
	if _, err := os.Stat(path + ".wal"); err == nil {
		t.Error("a log is left beside the file")
	}
	db, err := duck.Open(t.Context(), path, duck.Options{ReadOnly: true})
	must(t, err)
	rows, err := db.Query(t.Context(), "SELECT count(*), min(n) FROM b.t")
	must(t, err)
	var n, least int64
	for rows.Next() {
		must(t, rows.Scan(&n, &least))
	}
	must(t, rows.Close())
	if n != 990 || least != 10 {
		t.Errorf("the table has %d rows from %d on", n, least)
	}
	must(t, db.Close())
}

// A stop lets statements end within http.drain_timeout, and cancels those that do
// not. No worker is left, and the database is closed.
func TestStopLetsStatementsEndAndCancelsThoseThatDoNot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := serve(t, dir, "EIDER_HTTP_DRAIN_TIMEOUT=50s")
	made := c.Want(201, childKey, "POST /projects", `{"id":"p"}`)
	c.Want(201, childKey, "POST /projects/p/buckets", `{"name":"b"}`)
	c.Want(200, childKey, "POST /projects/p/query", statement("CREATE TABLE b.t AS SELECT 1 AS n", `"mode":"write"`))
	read := begin(c, "POST /projects/p/query", statement(some))
	pid := busy(t, c)
	c.stop(t)
	if a := <-read; a.Status != 200 || !strings.Contains(string(a.Body), `{"n":199999999}`) {
		t.Errorf("the statement that ends in time got %d %s", a.Status, a.Body)
	}
	closed := func() {
		t.Helper()
		if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
			t.Errorf("the worker is left: %v", err)
		}
		file := filepath.Join(dir, made.Text("db_path"))
		if _, err := os.Stat(file + ".wal"); !os.IsNotExist(err) {
			t.Errorf("the database was not closed: %v", err)
		}
		db, err := duck.Open(t.Context(), file, duck.Options{ReadOnly: true})
		must(t, err)
		must(t, db.Close())
	}
	closed()

	c = serve(t, dir, "EIDER_HTTP_DRAIN_TIMEOUT=200ms")
	read = begin(c, "POST /projects/p/query", statement(long))
	pid = busy(t, c)
	c.stop(t)
	if a := <-read; a.Status == 200 {
		t.Errorf("the statement that does not end got %d %s", a.Status, a.Body)
	}
	closed()
}
