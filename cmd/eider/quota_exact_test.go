package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/wasm/wasmtest"
)

// quotaItem is the plugin quota, built from its source: so many bytes for each
// project and for all of them together.
func quotaItem(t *testing.T, project, server int) string {
	t.Helper()
	folder := builtGuest(t, "plugins/quota")
	return fmt.Sprintf(`[{name: quota, path: %q, config: {bytes: %d, server: {bytes: %d}}}]`, folder, project, server)
}

// uploads are those that were acknowledged, by project.
type uploads struct {
	mu  sync.Mutex
	ids map[string][]string
	sum map[string]int
}

// race uploads so many files of random sizes at once, to the projects in turn, and
// waits for all of them. Each answer is given to each.
func race(s *apptest.Server, key string, n int, random *rand.Rand, projects []string, each func(apptest.Answer, error)) *uploads {
	u := &uploads{ids: map[string][]string{}, sum: map[string]int{}}
	var all sync.WaitGroup
	for i := range n {
		project, content := projects[i%len(projects)], strings.Repeat("x", 1+random.IntN(2000))
		all.Go(func() {
			a, err := s.Try(key, "POST /projects/"+project+"/files?name=x", content, raw)
			each(a, err)
			if err != nil || a.Status != 201 {
				return
			}
			u.mu.Lock()
			defer u.mu.Unlock()
			u.ids[project] = append(u.ids[project], a.Text("id"))
			u.sum[project] += len(content)
		})
	}
	all.Wait()
	return u
}

// 64 uploads at once never commit more than there is room for, in a project and on
// the whole server, and what they reserved is free when they have ended.
// EIDER_TORTURE_ROUNDS says how often.
func TestUploadsAtOnceNeverPassTheQuota(t *testing.T) {
	t.Parallel()
	const ofProject, ofServer = 12_000, 20_000
	s := withPlugins(t, quotaItem(t, ofProject, ofServer))
	projects := []string{"a", "b", "c"}
	for _, id := range projects {
		project(t, s, id)
	}
	random := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for round := range setting(t, "EIDER_TORTURE_ROUNDS", 3) {
		u := race(s, s.Root, 64, random, projects, func(a apptest.Answer, err error) {
			if err != nil || a.Status != 201 && a.Code() != "quota_exceeded" {
				t.Errorf("%v %s", err, a.Body)
			}
		})
		sum, kept := 0, 0
		for _, id := range projects {
			if want := fmt.Sprint(len(u.ids[id]), " ", u.sum[id]); held(t, s, id) != want || u.sum[id] > ofProject {
				t.Errorf("round %d: %s holds %s, was acknowledged %s, and may hold %d", round, id, held(t, s, id), want, ofProject)
			}
			sum, kept = sum+u.sum[id], kept+len(u.ids[id])
		}
		refused += 64 - kept
		if sum > ofServer || kept == 0 {
			t.Errorf("round %d: %d files, %d bytes of %d", round, kept, sum, ofServer)
		}
		// All that is left is free, to the last byte, and no more than that.
		room := ofServer - sum
		room = min(room, ofProject-u.sum["a"])
		s.Want(507, s.Root, "POST /projects/a/files?name=x", strings.Repeat("x", room+1), raw)
		if room > 0 {
			u.ids["a"] = append(u.ids["a"], put(t, s, s.Root, "a", "x", strings.Repeat("x", room)).ID)
		}
		var deletes sync.WaitGroup
		for id, files := range u.ids {
			for _, file := range files {
				deletes.Go(func() { s.Want(204, s.Root, "DELETE /projects/"+id+"/files/"+file, "") })
			}
		}
		deletes.Wait()
	}
	if refused == 0 {
		t.Error("nothing was refused: the race proves nothing")
	}
}

// A server that is killed among uploads leaves no reservation: what is not held by a
// file that is there is free, to the last byte.
func TestAKilledServerLeavesNoReservation(t *testing.T) {
	t.Parallel()
	const limit = 20_000
	// A quota that a server compiles in no time: its expression knows the limit, and its
	// guest always says no.
	full := wasmtest.Folder(t, wasmtest.Policy(wasmtest.Answer(`{"decision":"deny","code":"quota_exceeded","reason":"full"}`), nil),
		wasmtest.Manifest+fmt.Sprintf("when: usage.adds.bytes > 0 && usage.project.bytes > %d\n", limit))
	dir, item := t.TempDir(), fmt.Sprintf("EIDER_PLUGINS_ITEMS=[{name: full, path: %q}]", full)
	c := serve(t, dir, item)
	c.Want(201, childKey, "POST /projects", `{"id":"a"}`)
	random := rand.New(rand.NewPCG(3, 4))
	for round := range setting(t, "EIDER_TORTURE_ROUNDS", 2) {
		var answers atomic.Int32
		race(c.Server, childKey, 32, random, []string{"a"}, func(a apptest.Answer, err error) {
			if answers.Add(1) == int32(1+round%8) { // the others are on their way
				c.kill()
			}
		})
		c = serve(t, dir, item)
		apptest.Eventually(t, "all that is not held is free", func() bool {
			left := limit - bytesHeld(c.Server)
			if left == 0 {
				return true
			}
			a := c.Do(childKey, "POST /projects/a/files?name=x", strings.Repeat("x", left), raw)
			return a.Status == 201
		})
		if a := c.Do(childKey, "POST /projects/a/files?name=x", "x", raw); a.Code() != "quota_exceeded" || bytesHeld(c.Server) != limit {
			t.Errorf("%d bytes of %d are held, and one more is answered with %s", bytesHeld(c.Server), limit, a.Body)
		}
		for _, f := range c.Want(200, childKey, "GET /projects/a/files?limit=1000", "").List("files") {
			c.Want(204, childKey, "DELETE /projects/a/files/"+f["id"].(string), "")
		}
	}
}

func bytesHeld(s *apptest.Server) int {
	sum := 0
	for _, f := range s.Want(200, childKey, "GET /projects/a/files?limit=1000", "").List("files") {
		sum += int(f["size_bytes"].(float64))
	}
	return sum
}

// Tables are reserved like bytes: of those that are made at once no more than fit. What a
// statement adds is known only when it has run: it may pass a limit, and the next that
// writes is refused, as a job too, while what reads goes on.
func TestTablesAndRowsHaveQuotas(t *testing.T) {
	t.Parallel()
	s := withPlugins(t, fmt.Sprintf(`[{name: quota, path: %q, config: {tables: 3, rows: 10}}]`, builtGuest(t, "plugins/quota")))
	project(t, s, "a")
	s.Want(201, s.Root, "POST /projects/a/buckets", `{"name":"b"}`)
	var all sync.WaitGroup
	var made atomic.Int32
	for i := range 8 {
		all.Go(func() {
			a := s.Do(s.Root, "POST /projects/a/buckets/b/tables", fmt.Sprintf(`{"name":"t%d","columns":[{"name":"x","type":"INTEGER"}]}`, i))
			switch {
			case a.Status == 201:
				made.Add(1)
			case a.Code() != "quota_exceeded":
				t.Errorf("a table more: %d %s", a.Status, a.Body)
			}
		})
	}
	all.Wait()
	held := s.Want(200, s.Root, "GET /projects/a/buckets/b/tables", "").List("tables")
	if made.Load() != 3 || len(held) != 3 {
		t.Fatalf("%d tables were made, %d are there", made.Load(), len(held))
	}
	statement := func(mode, sql string) string { return fmt.Sprintf(`{"mode":%q,"sql":%q}`, mode, sql) }
	insert := statement("write", fmt.Sprintf("INSERT INTO b.%v SELECT * FROM range(20)", held[0]["name"]))
	s.Want(200, s.Root, "POST /projects/a/query", insert)
	for what, more := range map[string][]string{"a statement": nil, "a job": {"Prefer: respond-async"}} {
		if a := s.Do(s.Root, "POST /projects/a/query", insert, more...); a.Status != 507 || a.Code() != "quota_exceeded" {
			t.Errorf("%s more: %d %s", what, a.Status, a.Body)
		}
	}
	s.Want(200, s.Root, "POST /projects/a/query", statement("read", "SELECT 1"))
	s.Want(202, s.Root, "POST /projects/a/query", statement("read", "SELECT 1"), "Prefer: respond-async")
}

// A call that adds more while it runs takes no second token.
func TestACallThatGrowsIsCountedOnce(t *testing.T) {
	t.Parallel()
	s := withPlugins(t, fmt.Sprintf(`[{name: ratelimit, path: %q, capabilities: [kv], config: {rules: [{rate: 1, per: day, operations: [export_table]}]}}]`,
		builtGuest(t, "plugins/ratelimit")))
	project(t, s, "a")
	s.Want(201, s.Root, "POST /projects/a/buckets", `{"name":"b"}`)
	s.Want(201, s.Root, "POST /projects/a/buckets/b/tables", `{"name":"t","columns":[{"name":"x","type":"INTEGER"}]}`)
	const export = "POST /projects/a/buckets/b/tables/t/export"
	s.Want(200, s.Root, export, `{"format":"csv"}`) // asked about again when its size is known
	s.Want(429, s.Root, export, `{"format":"csv"}`)
}
