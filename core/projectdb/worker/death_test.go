package worker_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/projectdb/wire"
	"github.com/eiderdb/eider/core/projectdb/worker"
)

// invalidating is a statement at which DuckDB meets a fault of its own and gives
// the database up: a negation of nothing. Without the gate it gets there.
const invalidating = `SELECT * FROM json_execute_serialized_sql('{"error":false,"statements":[{"node":{"type":"SELECT_NODE","modifiers":[],"cte_map":{"map":[]},` +
	`"select_list":[{"class":"OPERATOR","type":"OPERATOR_NOT","alias":"","children":[]}],"from_table":{"type":"EMPTY","alias":"","sample":null},` +
	`"where_clause":null,"group_expressions":[],"group_sets":[],"aggregate_handling":"STANDARD_HANDLING","having":null,"sample":null,"qualify":null}}]}')`

func (g *ground) must(p projectdb.Project, sql string) string {
	g.t.Helper()
	said, err := g.run(p, worker.Raw{SQL: sql}, time.Minute)
	if err != nil {
		g.t.Errorf("%s: %v", sql, err)
	}
	return said
}

func TestWorkerWhoseDatabaseIsGivenUpEndsAndIsReplaced(t *testing.T) {
	t.Parallel()
	g := newGround(t, asUngated)
	g.renew()
	g.must(g.project, "INSERT INTO sales.orders VALUES (4, 'four', 4.5)")
	for range 3 {
		if said, err := g.run(g.project, worker.Raw{SQL: invalidating}, 20*time.Second); eider.CodeOf(err) != eider.StorageUnavailable {
			t.Fatalf("it says %s", said)
		}
		if said := g.must(g.project, "SELECT count(*)::INT AS n FROM sales.orders"); !strings.Contains(said, `{"n":4}`) {
			t.Fatalf("the next worker says %s", said)
		}
	}
	if c := g.s.Condition(g.project.UID); !c.Degraded || !strings.Contains(c.Reason, "gave its database up") {
		t.Errorf("the condition is %+v", c)
	}
}

// enable_logging has DuckDB abort the process that runs it.
func TestCrashLoopDegradesItsProjectAlone(t *testing.T) {
	t.Parallel()
	g := newGround(t, asUngated)
	g.renew()
	neighbour := g.found("neighbour")
	g.must(neighbour, "SELECT 1")
	for range 3 {
		g.must(g.project, "SELECT * FROM enable_logging(storage='file', storage_path='/x')")
		if said, err := g.run(g.project, worker.Raw{SQL: "SELECT 1"}, 20*time.Second); eider.CodeOf(err) != eider.QueryFailed {
			t.Fatalf("the statement that crashed says %s", said)
		}
		g.must(g.project, "SELECT 1")
		g.must(neighbour, "SELECT 1")
	}
	if c := g.s.Condition(g.project.UID); !c.Degraded || !strings.Contains(c.Reason, "its process ended") {
		t.Errorf("the condition is %+v", c)
	}
	if g.s.Condition(neighbour.UID).Degraded || g.s.Degraded() != 1 {
		t.Error("the neighbour is degraded too")
	}
}

// A macro of the name of a function that is allowed would pass the gate as that.
func TestFileWithMacrosServesNoTenantsSQL(t *testing.T) {
	t.Parallel()
	g := newGround(t, asUngated)
	g.renew()
	g.must(g.project, "CREATE MACRO sales.lower(x) AS (SELECT content FROM read_text(x))")
	must(t, g.s.CloseProject(t.Context(), g.project.UID))
	ask := func(op string, args any) error {
		text, err := json.Marshal(args)
		must(t, err)
		return g.s.Do(t.Context(), g.project, wire.Request{Op: op, Args: text}, nil)
	}
	err := ask("query", worker.Query{SQL: "SELECT 1", Form: worker.FormJSON})
	if eider.CodeOf(err) != eider.StatementNotAllowed || !strings.Contains(err.Error(), "macro sales.lower") {
		t.Errorf("a query is answered %v", err)
	}
	must(t, ask("list_buckets", worker.Page{Limit: 10}))
}

// All the projects are used at random, by more than may be open: every statement
// succeeds, and what was written is there once.
func TestManyProjectsShareFewWorkers(t *testing.T) {
	t.Parallel()
	const projects, open, statements, clients = 200, 20, 240, 4
	g := newGround(t, asUngated)
	g.s.Settings.MaxOpen = open
	var all []projectdb.Project
	for n := range projects {
		all = append(all, g.found(fmt.Sprintf("p%d", n)))
	}
	var mu sync.Mutex
	wrote := map[string]int{}
	next := func(n int) (p projectdb.Project, sql string) {
		mu.Lock()
		defer mu.Unlock()
		if p = all[rand.IntN(projects)]; n%3 > 0 {
			return p, "SELECT count(*) FROM sales.notes"
		}
		wrote[p.UID]++
		return p, "INSERT INTO sales.notes VALUES (1)"
	}
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for n := range statements / clients {
				p, sql := next(n)
				g.must(p, sql)
				workers := children(t)
				if n := len(workers); n > open+open/4+1+clients+1 {
					t.Errorf("%d workers", n)
				}
				if file := openedTwice(workers); strings.HasPrefix(file, g.dir) {
					t.Errorf("two processes have %s open", file)
				}
			}
		})
	}
	wg.Wait()
	must(t, g.s.Close())
	for uid, n := range wrote {
		db, err := duck.Open(t.Context(), filepath.Join(g.dir, uid, "db/data.duckdb"), duck.Options{ReadOnly: true})
		must(t, err)
		conn, err := db.Conn(t.Context())
		must(t, err)
		if got, err := conn.Text(t.Context(), "SELECT count(*)::VARCHAR FROM sales.notes"); err != nil || got != fmt.Sprint(n) {
			t.Errorf("%s has %s rows, want %d: %v", uid, got, n, err)
		}
		must(t, conn.Close())
		must(t, db.Close())
	}
}

// openedTwice returns a database that two of the processes have open. A process
// that has ended has none; nor are there any to be seen where the tests may not
// look into workers, which only root may.
func openedTwice(processes []string) string {
	opened := map[string]string{} // by file
	for _, pid := range processes {
		fds, _ := filepath.Glob("/proc/" + pid + "/fd/*")
		for _, fd := range fds {
			file, err := os.Readlink(fd)
			if err != nil || !strings.HasSuffix(file, "/data.duckdb") {
				continue
			}
			if other, ok := opened[file]; ok && other != pid {
				return file
			}
			opened[file] = pid
		}
	}
	return ""
}

// children returns the workers of this process.
func children(t *testing.T) (pids []string) {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	must(t, err)
	for _, name := range tasks {
		text, _ := os.ReadFile(name) // a thread that has ended has none
		pids = append(pids, strings.Fields(string(text))...)
	}
	return pids
}
