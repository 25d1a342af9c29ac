package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/app/apptest"
)

const (
	jobClients = 6
	jobFiles   = 4
)

// TestKilledServerLosesNoJob runs a server under clients that begin jobs, cancel
// some and ask for all, kills it at a random point, starts it again, and compares
// the jobs with what clients were told and with the rows of the log.
func TestKilledServerLosesNoJob(t *testing.T) {
	rounds, seed := setting(t, "EIDER_TORTURE_ROUNDS", 30), uint64(setting(t, "EIDER_TORTURE_SEED", int(time.Now().UnixNano())))
	t.Logf("%d rounds, EIDER_TORTURE_SEED=%d", rounds, seed)
	w := &jobWorld{t: t, dir: t.TempDir(), rng: rand.New(rand.NewPCG(seed, 1)), jobs: map[string]string{}, keys: map[string]string{}}
	w.prepare()
	for round := range rounds {
		w.sendUntilKilled()
		w.start()
		w.check()
		if !w.done() { // this machine needs longer
			w.slow++
		}
		if t.Failed() {
			t.Fatalf("round %d; the server said:\n%s", round, w.server.log())
		}
	}
	w.server.stop(t)
	ends := map[string]int{}
	for _, how := range w.jobs {
		ends[how]++
	}
	t.Logf("%d jobs: %v", len(w.jobs), ends)
	if ends["succeeded: in_progress success"] == 0 || ends["failed interrupted: in_progress failed"] == 0 || ends["failed interrupted: failed"] == 0 {
		t.Error("no kill met a job that ran, or none that waited")
	}
}

// jobWorld is a server and all that its clients were told of jobs.
type jobWorld struct {
	t      *testing.T
	dir    string
	rng    *rand.Rand
	server *child
	files  []string

	slow int // rounds before a job was done

	mu   sync.Mutex
	sent int
	jobs map[string]string // how each ended, once that is known, by id
	keys map[string]string // the job of an idempotency key
}

func (w *jobWorld) start() {
	w.t.Helper()
	w.server = serve(w.t, w.dir, "EIDER_JOBS_MAX_RUNNING=2", "EIDER_JOBS_MAX_PER_PROJECT=2", "EIDER_METADATA_CHECKPOINT_SIZE=256KiB")
}

func (w *jobWorld) prepare() {
	w.start()
	w.server.Want(201, childKey, "POST /projects", `{"id":"p"}`)
	for i := range jobFiles {
		body := strings.Repeat(string(rune('a'+i)), 8<<20)
		a := w.server.Want(201, childKey, fmt.Sprint("POST /projects/p/files?name=f", i), body, "Content-Type: application/octet-stream")
		w.files = append(w.files, "/projects/p/files/"+a.Text("id")+"/verify")
	}
}

// sendUntilKilled lets the clients send until the server is gone.
func (w *jobWorld) sendUntilKilled() {
	server, after := w.server, time.Duration(1+w.slow)*time.Duration(20+w.rng.IntN(200))*time.Millisecond
	time.AfterFunc(after, func() { _ = server.cmd.Process.Kill() })
	var all sync.WaitGroup
	for range jobClients {
		rng := rand.New(rand.NewPCG(w.rng.Uint64(), 2))
		all.Go(func() {
			for w.send(rng) {
			}
		})
	}
	all.Wait()
	w.server.kill()
}

// done reports whether a job has succeeded, in any round.
func (w *jobWorld) done() bool {
	for _, how := range w.jobs {
		if strings.HasPrefix(how, "succeeded:") {
			return true
		}
	}
	return false
}

// send begins a job, and sometimes cancels it. It reports whether the server
// answered.
func (w *jobWorld) send(rng *rand.Rand) bool {
	w.mu.Lock()
	w.sent++
	key := fmt.Sprint("key-", w.sent)
	w.mu.Unlock()
	do := "POST " + w.files[rng.IntN(len(w.files))]
	a, err := w.server.Try(childKey, do, "", async, "Idempotency-Key: "+key)
	if err != nil {
		return false
	}
	id := a.Text("job_id")
	if a.Status != 202 || id == "" {
		w.t.Errorf("%s answered %d %s", do, a.Status, a.Body)
		return false
	}
	w.mu.Lock()
	w.jobs[id], w.keys[do+" "+key] = "", id
	w.mu.Unlock()
	for range rng.IntN(4) {
		a, err = w.server.Try(childKey, "GET /jobs/"+id, "")
		if err != nil {
			return false
		}
		w.told(id, a)
	}
	if rng.IntN(4) == 0 {
		a, err = w.server.Try(childKey, "DELETE /jobs/"+id, "")
		if err == nil && a.Status != 202 && a.Status != 409 {
			w.t.Errorf("to cancel job %s answered %d %s", id, a.Status, a.Body)
		}
	}
	return err == nil
}

// told notes how a job ended: what was told once stays so.
func (w *jobWorld) told(id string, a apptest.Answer) {
	if a.Status != 200 {
		w.t.Errorf("job %s is %d %s", id, a.Status, a.Body)
		return
	}
	if a.JSON["ended_at"] == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	is, was := outcomeOf(a.JSON), w.jobs[id]
	if was != "" && !strings.HasPrefix(was, is+":") {
		w.t.Errorf("job %s ended as %s and is %s", id, was, is)
	}
	if was == "" {
		w.jobs[id] = is + ":"
	}
}

// outcomeOf is the status of a job and the code of its failure.
func outcomeOf(job map[string]any) string {
	failure, _ := job["error"].(map[string]any)
	code, _ := failure["code"].(string)
	return strings.TrimSpace(fmt.Sprint(job["status"], " ", code))
}

// check waits until every job has ended, and compares each with its rows.
func (w *jobWorld) check() {
	for how, id := range w.keys { // the keys of this round
		do, key, _ := strings.Cut(how, " key-")
		a := w.server.Want(202, childKey, do, "", async, "Idempotency-Key: key-"+key)
		if a.Text("job_id") != id {
			w.t.Errorf("key-%s began job %s and answers %s", key, id, a.Body)
		}
	}
	w.keys = map[string]string{}
	apptest.Eventually(w.t, "every job and its call have ended", func() bool {
		queued := w.server.Want(200, childKey, "GET /jobs?status=queued", "").JSON["total"].(float64)
		running := w.server.Want(200, childKey, "GET /jobs?status=running", "").JSON["total"].(float64)
		calls := w.server.Want(200, childKey, "GET /operations?operation=verify_file&status=in_progress", "").List("operations")
		return queued+running == 0 && len(calls) == 0
	})
	rows := map[string][]map[string]any{}
	for _, row := range w.all("/operations?operation=verify_file&all_rows=true", "operations") {
		call := row["call_id"].(string)
		rows[call] = append(rows[call], row)
	}
	found := map[string]bool{}
	for _, job := range w.all("/jobs?", "jobs") {
		found[job["id"].(string)] = true
		w.compare(job, rows[job["call_id"].(string)])
		delete(rows, job["call_id"].(string))
	}
	for id := range w.jobs {
		if !found[id] {
			w.t.Errorf("job %s is lost", id)
		}
	}
	for call, left := range rows {
		w.t.Errorf("call %s has %d rows and no job", call, len(left))
	}
}

// all returns every object of a list's pages.
func (w *jobWorld) all(path, member string) (all []map[string]any) {
	for cursor := ""; ; {
		a := w.server.Want(200, childKey, "GET "+path+"&limit=1000"+cursor, "")
		all = append(all, a.List(member)...)
		if a.Text("next_cursor") == "" {
			return all
		}
		cursor = "&cursor=" + a.Text("next_cursor")
	}
}

// compare checks a job that has ended against the rows of its call, newest first,
// and against what was told of it before.
func (w *jobWorld) compare(job map[string]any, rows []map[string]any) {
	id, is := job["id"].(string), outcomeOf(job)+":"
	for i := range rows {
		is += " " + rows[len(rows)-1-i]["status"].(string)
	}
	code, _ := job["error"].(map[string]any)
	switch {
	case len(rows) == 0:
		w.t.Errorf("job %s (%s) has no row", id, is)
		return
	case job["status"] == "succeeded":
		if !strings.HasSuffix(is, ": in_progress success") {
			w.t.Errorf("job %s is %s", id, is)
		}
	case !strings.HasSuffix(is, ": in_progress failed") && !strings.HasSuffix(is, ": failed"), rows[0]["error_code"] != code["code"]:
		w.t.Errorf("job %s is %s, its row says %v", id, is, rows[0]["error_code"])
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if was := w.jobs[id]; was != "" && !strings.HasPrefix(is, was) {
		w.t.Errorf("job %s was %s and is %s", id, was, is)
	}
	w.jobs[id] = is
}
