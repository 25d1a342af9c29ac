package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
)

// killWorkers kills the worker processes of a server and returns how many there
// were.
func killWorkers(t *testing.T, server int) (killed int) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", server))
	must(t, err)
	for _, name := range tasks {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // the thread has ended
		}
		for _, field := range strings.Fields(string(text)) {
			pid := 0
			if _, err := fmt.Sscan(field, &pid); err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil {
				killed++
			}
		}
	}
	return killed
}

// rowsOfCrash are as many that a rebuild of their table takes a while.
const rowsOfCrash = 400_000

// tableOfCrash makes a folder with a large table b.t, and returns its project's
// key.
func tableOfCrash(t *testing.T, dir string) (key string) {
	t.Helper()
	s := apptest.Start(t, dir, app.Options{Modules: modules(), Version: "test"}, nil)
	key = project(t, s, "p")
	s.Want(201, key, "POST /projects/p/buckets", `{"name":"b"}`)
	s.Want(201, key, "POST /projects/p/buckets/b/tables", `{"name":"t","columns":[{"name":"id","type":"BIGINT"},{"name":"v","type":"VARCHAR"}],"primary_key":["id"]}`)
	inDatabase(t, s, "p", fmt.Sprintf(`INSERT INTO b.t SELECT i, 'value ' || i FROM range(%d) r(i)`, rowsOfCrash))
	s.Stop()
	return key
}

const tableOfCrashes = "/projects/p/buckets/b/tables/t"

// keyed reports whether the table has its key, once nothing of it is unfinished
// any more, and checks that its rows are all there.
func keyed(t *testing.T, c *child, key string) bool {
	t.Helper()
	var a apptest.Answer
	apptest.Eventually(t, "the table is there", func() bool {
		a = c.Do(key, "GET "+tableOfCrashes, "")
		return a.Status == 200 && len(c.Want(200, childKey, "GET /operations?status=in_progress", "").List("operations")) == 0
	})
	if a = c.Want(200, key, "GET "+tableOfCrashes, ""); a.JSON["row_count"] != float64(rowsOfCrash) {
		t.Errorf("the table has %v rows", a.JSON["row_count"])
	}
	return len(a.JSON["primary_key"].([]any)) > 0
}

// changeKey takes the table's key away or gives it back.
func changeKey(c *child, key string, has bool) (apptest.Answer, error) {
	if has {
		return c.Try(key, "DELETE "+tableOfCrashes+"/primary-key", "")
	}
	return c.Try(key, "POST "+tableOfCrashes+"/primary-key", `{"columns":["id"]}`)
}

// lastChange returns how the log says that the newest change of the table ended.
func lastChange(t *testing.T, c *child) string {
	t.Helper()
	row := c.Want(200, childKey, "GET /operations?operation=alter_table&limit=1", "").List("operations")[0]
	return line(row["status"], row["error_code"])
}

// soon is a moment within a change that takes so long, or just behind it, another
// each time.
func soon(takes time.Duration) <-chan time.Time {
	return time.After(time.Duration(rand.Int64N(int64(takes + takes/2))))
}

// undisturbed changes the key, and returns whether the table has it now and how
// long that took: machines differ.
func undisturbed(t *testing.T, c *child, key string, has bool) (now bool, takes time.Duration) {
	t.Helper()
	begun := time.Now()
	if a, err := changeKey(c, key, has); err != nil || a.Status > 299 {
		t.Fatalf("%d %s: %v", a.Status, a.Body, err)
	}
	return !has, time.Since(begun)
}

func TestChangeWhoseWorkerIsKilledIsDoneOrNotAndSaysWhich(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := tableOfCrash(t, dir)
	c := serve(t, dir)
	has, takes := undisturbed(t, c, key, keyed(t, c, key))
	done, undone := 0, 0
	for round := 0; round < 12 || done == 0 || undone == 0; round++ {
		if round == 60 {
			t.Fatalf("%d changes were done, %d were not: the test misses its moments", done, undone)
		}
		answers := make(chan apptest.Answer, 1)
		go func() {
			a, err := changeKey(c, key, has)
			if err != nil {
				t.Error(err)
			}
			answers <- a
		}()
		<-soon(takes)
		if killWorkers(t, c.cmd.Process.Pid) == 0 {
			t.Fatal("the server has no workers")
		}
		a := <-answers
		apptest.Eventually(t, "the change is settled", func() bool { return !strings.HasPrefix(lastChange(t, c), "in_progress") })
		now := keyed(t, c, key)
		switch {
		case a.Status < 300 && now != has && lastChange(t, c) == "success <nil>":
			done++
		case a.Status == 503 && a.Code() == "project_restarted" && now == has && strings.HasPrefix(lastChange(t, c), "failed"):
			undone++
		case a.Status == 503 && a.Code() == "project_restarted" && now != has && lastChange(t, c) == "success <nil>":
			// The worker that was to say whether it was done is gone as well: nobody
			// could say then, and the log does.
		default:
			t.Fatalf("the answer was %d %s; the key was there: %v, is there: %v; the log says %s", a.Status, a.Code(), has, now, lastChange(t, c))
		}
		has = now
	}
}

func TestChangeWhoseServerIsKilledIsDoneOrNotAndTheLogSaysWhich(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := tableOfCrash(t, dir)
	c := serve(t, dir)
	has, takes := undisturbed(t, c, key, keyed(t, c, key))
	last := c.Want(200, childKey, "GET /operations?operation=alter_table&limit=1", "").List("operations")[0]["call_id"]
	for range 4 {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = changeKey(c, key, has) // nobody is left to answer
		}()
		<-soon(takes)
		c.kill()
		<-ended
		c = serve(t, dir)
		now := keyed(t, c, key)
		rows := c.Want(200, childKey, "GET /operations?operation=alter_table&limit=1", "").List("operations")
		success := len(rows) > 0 && rows[0]["call_id"] != last && rows[0]["status"] == "success"
		if success != (now != has) {
			t.Fatalf("the key was there: %v, is there: %v; the log says %v", has, now, rows)
		}
		if has = now; len(rows) > 0 {
			last = rows[0]["call_id"]
		}
	}
}
