package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/eiderdb/eider/core/app/apptest"
)

// workersOf returns the processes that a server has started.
func workersOf(t *testing.T, server int) (pids []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	must(t, err)
	for _, path := range all {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		if len(fields) > 1 && fields[0] != "Z" && fields[1] == strconv.Itoa(server) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			must(t, err)
			pids = append(pids, pid)
		}
	}
	return pids
}

// lent returns what is lent to workers now.
func lent(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "duckdb", "*", "in", "import"))
	must(t, err)
	return all
}

const manyRows = 300_000

func manyOrders() string {
	var b strings.Builder
	b.WriteString("id,customer,amount\n")
	for i := range manyRows {
		fmt.Fprintf(&b, "%d,customer %d,%d.25\n", i, i*7919%300007, i)
	}
	return b.String()
}

// imports are how an import has ended, by the log.
func imports(s *apptest.Server) string {
	a := s.Want(200, childKey, "GET /operations?operation=import_table", "")
	var all []string
	for _, row := range a.List("operations") {
		all = append(all, fmt.Sprint(row["status"]))
	}
	return strings.Join(all, " ")
}

// An import that is cut short, wherever that is, is whole or did not happen, and
// the log says which.
func TestAnImportThatIsCutShortIsWholeOrNotThere(t *testing.T) {
	t.Parallel()
	content := manyOrders()
	for _, how := range []string{"the client leaves", "the worker is killed", "the server is killed"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			c := serve(t, dir)
			c.Want(201, childKey, "POST /projects", `{"id":"p"}`)
			makeOrders(c.Server, childKey)
			id := store(c.Server, childKey, content)
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			r, err := http.NewRequestWithContext(ctx, "POST", c.URL+ordersTable+"/import/file", strings.NewReader(`{"file_id":"`+id+`","format":"csv"}`))
			must(t, err)
			r.Header.Set("Authorization", "Bearer "+childKey)
			r.Header.Set("Content-Type", "application/json")
			status := make(chan int, 1)
			go func() {
				a, err := http.DefaultClient.Do(r)
				if err != nil {
					status <- 0
					return
				}
				_ = a.Body.Close()
				status <- a.StatusCode
			}()
			apptest.Eventually(t, "the import runs", func() bool { return len(lent(t, dir)) > 0 || len(status) > 0 })
			switch how {
			case "the client leaves":
				leave()
			case "the worker is killed":
				for _, pid := range workersOf(t, c.cmd.Process.Pid) {
					must(t, syscall.Kill(pid, syscall.SIGKILL))
				}
			case "the server is killed":
				workers := workersOf(t, c.cmd.Process.Pid)
				c.kill()
				apptest.Eventually(t, "the workers have ended", func() bool {
					for _, pid := range workers {
						if syscall.Kill(pid, 0) == nil {
							return false
						}
					}
					return true
				})
				c = serve(t, dir)
			}
			answered := <-status
			apptest.Eventually(t, "the call has ended", func() bool {
				ended := imports(c.Server)
				return ended == "success" || ended == "failed"
			})
			rows := strings.Count(orders(c.Server, childKey), "\n")
			if ended := imports(c.Server); (ended == "success") != (rows == manyRows) || (ended == "failed") != (rows == 1) {
				t.Errorf("the log says %s, the client was told %d, and there are %d rows", ended, answered, rows)
			} else if answered == 200 && ended != "success" {
				t.Errorf("the client was told %d, and the log says %s", answered, ended)
			}
			if left := lent(t, dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			c.Want(200, childKey, "POST "+ordersTable+"/import/file", `{"file_id":"`+id+`","format":"csv"}`)
			if rows := strings.Count(orders(c.Server, childKey), "\n"); rows != manyRows {
				t.Errorf("the next import has %d rows", rows)
			}
			c.stop(t)
		})
	}
}

func TestAnImportRunsAsAJob(t *testing.T) {
	t.Parallel()
	s, key := startOrders(t)
	id := store(s, key, "id,customer,amount\n2,new,3\n")
	begun := s.Want(202, key, "POST "+ordersTable+"/import/file", `{"file_id":"`+id+`","format":"csv"}`, "Prefer: respond-async")
	var job apptest.Answer
	apptest.Eventually(t, "the job has ended", func() bool {
		job = s.Want(200, key, "GET /jobs/"+begun.Text("job_id"), "")
		return job.JSON["ended_at"] != nil
	})
	result, _ := job.JSON["result"].(map[string]any)
	if job.Text("status") != "succeeded" || result["imported_rows"] != 1.0 || job.JSON["progress"] != 1.0 {
		t.Errorf("%s", job.Body)
	}
}
