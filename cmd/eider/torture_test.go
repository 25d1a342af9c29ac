package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/app/apptest"
)

const (
	tortureClients = 16
	tortureOwn     = 4 // ids that only one client uses
	tortureShared  = 3 // ids that all clients use
)

// TestKilledServerKeepsWhatItAcknowledged runs a server under clients that
// change projects and keys, kills it at a random point, starts it again on the
// same folder, and compares what the clients were told with the log, the log
// with the register, and the register with the folders.
//
//	clients send until the connection breaks: the server was killed
//	start again; what has an idempotency key and no answer is sent again,
//	  while unfinished calls are settled; some starts are killed meanwhile, too
//	wait until every call is settled; compare everything
//
// EIDER_TORTURE_ROUNDS sets the rounds, EIDER_TORTURE_SEED repeats the choices.
func TestKilledServerKeepsWhatItAcknowledged(t *testing.T) {
	rounds, seed := setting(t, "EIDER_TORTURE_ROUNDS", 50), uint64(setting(t, "EIDER_TORTURE_SEED", int(time.Now().UnixNano())))
	t.Logf("%d rounds, EIDER_TORTURE_SEED=%d", rounds, seed)
	w := newWorld(t, seed)
	for w.round = range rounds {
		w.sendUntilKilled()
		for w.rng.IntN(4) == 0 { // also while it settles
			w.start()
			w.killSoon(80)
			w.sendAgain()
			w.server.kill()
		}
		w.start()
		w.sendAgain()
		w.check()
		if t.Failed() {
			t.Fatalf("round %d; the server said:\n%s", w.round, w.server.log())
		}
	}
	w.end()
	t.Logf("%d requests were answered; %d were not when the server was killed, %d of them were sent again by their key; %d calls were settled",
		w.acknowledged, w.unanswered, w.again, w.settled)
	if w.unanswered == 0 || w.again == 0 || w.settled == 0 {
		t.Error("no kill met a call under way")
	}
}

func setting(t *testing.T, name string, value int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return value
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// world is the server with its clients and all that was asked of it.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	dir     string
	server  *child
	clients []*client
	round   int

	mu       sync.Mutex
	requests map[string]*request // since the last check, by request id
	sent     int

	seen     int64            // the last row of the log that was read
	register map[string]*life // what the log says up to that row, by project

	acknowledged, unanswered, again, settled int
}

// request is one thing that a client wants done, however often it sends it.
type request struct {
	id      string // X-Request-ID
	client  *client
	project string
	do      string
	body    string
	key     string // Idempotency-Key, "" for none
	want    int    // the status, where nobody else may interfere; else 0
	then    string // the project's state afterwards, there

	status    int // that was answered; 0: none came
	sentAgain bool
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), dir: t.TempDir(),
		requests: map[string]*request{}, register: map[string]*life{},
	}
	for i := range tortureClients {
		c := &client{world: w, rng: rand.New(rand.NewPCG(seed, uint64(i+2))), states: map[string]string{}}
		for n := range tortureOwn {
			c.own = append(c.own, fmt.Sprintf("c%02d-%d", i, n))
		}
		w.clients = append(w.clients, c)
	}
	w.start()
	return w
}

// start starts the server. Its write-ahead log is folded often, so that kills
// meet checkpoints too.
func (w *world) start() {
	w.t.Helper()
	w.server = serve(w.t, w.dir, "EIDER_METADATA_CHECKPOINT_SIZE=256KiB")
}

// killSoon kills the server within so many milliseconds.
func (w *world) killSoon(within int) {
	server, after := w.server, time.Duration(w.rng.IntN(within*1000))*time.Microsecond
	time.AfterFunc(after, func() { _ = server.cmd.Process.Kill() })
}

// sendUntilKilled lets the clients send until the server is gone.
func (w *world) sendUntilKilled() {
	w.killSoon(500)
	w.each(func(c *client) {
		for c.send(c.choose()) {
		}
	})
	w.server.kill()
	for _, r := range w.requests {
		if r.status == 0 {
			w.unanswered++
		}
	}
}

// sendAgain sends what has a key and no answer again, until it is answered or
// the server is killed.
func (w *world) sendAgain() {
	open := map[*client][]*request{}
	for _, r := range w.requests {
		if r.status == 0 && r.key != "" {
			open[r.client] = append(open[r.client], r)
			r.sentAgain = true
		}
	}
	w.each(func(c *client) {
		for _, r := range open[c] {
			c.send(r)
		}
	})
}

func (w *world) each(do func(c *client)) {
	var all sync.WaitGroup
	for _, c := range w.clients {
		all.Go(func() { do(c) })
	}
	all.Wait()
}

// end stops the server cleanly and checks the folder once more with a server
// that finds nothing to settle.
func (w *world) end() {
	w.server.stop(w.t)
	w.start()
	w.check()
	checkTrash(w.t, w.server)
	checkDatabases(w.t, w.server)
	w.server.stop(w.t)
}

// client sends one request after another.
type client struct {
	*world
	rng    *rand.Rand
	own    []string
	states map[string]string // of its own projects: "", active, locked, deleted
}

// choose makes a request that fits the state of one of the client's own
// projects, and sometimes one to a project that all clients fight for.
func (c *client) choose() *request {
	if c.rng.IntN(5) == 0 {
		id := fmt.Sprintf("shared-%d", c.rng.IntN(tortureShared))
		states := []string{"", "active", "active", "locked", "deleted"}
		r := c.fitting(id, states[c.rng.IntN(len(states))])
		r.want = 0 // whatever the others leave
		return r
	}
	id := c.own[c.rng.IntN(len(c.own))]
	return c.fitting(id, c.states[id])
}

// fitting makes a request that does something to a project in the state.
func (c *client) fitting(id, state string) *request {
	path, name := "/projects/"+id, fmt.Sprintf(`{"name":"n%d"}`, c.rng.Uint32())
	switch n := c.rng.IntN(100); {
	case state == "":
		return c.request(request{project: id, do: "POST /projects", body: fmt.Sprintf(`{"id":%q,"settings":{"n":%d}}`, id, n), want: 201, then: "active"})
	case state == "locked" && n < 20:
		return c.request(request{project: id, do: "PATCH " + path, body: name, want: 423, then: state})
	case state == "locked" && n < 40:
		return c.request(request{project: id, do: "DELETE " + path, want: 423, then: state})
	case state == "locked":
		return c.request(request{project: id, do: "PATCH " + path, body: `{"status":"active"}`, want: 200, then: "active"})
	case state == "deleted" && n < 40:
		return c.request(request{project: id, do: "POST " + path + "/undelete", want: 200, then: "active"})
	case state == "deleted" || n < 20:
		return c.request(request{project: id, do: "DELETE " + path + "?purge=true", want: 204, then: ""})
	case n < 50:
		return c.request(request{project: id, do: "PATCH " + path, body: name, want: 200, then: state})
	case n < 60:
		return c.request(request{project: id, do: "PATCH " + path, body: `{"status":"locked","lock_reason":"torture"}`, want: 200, then: "locked"})
	case n < 75:
		return c.request(request{project: id, do: "POST " + path + "/api-keys", body: `{"description":"torture"}`, want: 201, then: state})
	case n < 80:
		return c.request(request{project: id, do: "POST /projects", body: fmt.Sprintf(`{"id":%q}`, id), want: 409, then: state})
	}
	return c.request(request{project: id, do: "DELETE " + path, want: 204, then: "deleted"})
}

// request gives the request an id, every other one a key, and a place on the
// list of what is to be accounted for.
func (c *client) request(r request) *request {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent++
	r.id, r.client = fmt.Sprintf("torture-%d", c.sent), c
	if c.rng.IntN(2) == 0 {
		r.key = "key-" + r.id
	}
	c.requests[r.id] = &r
	return &r
}

// send sends the request until it gets an answer of its own, and reports whether
// it did. One that is sent before may have been carried out, or be settled now:
// only its key makes it safe to send it again.
func (c *client) send(r *request) bool {
	headers := []string{"X-Request-ID: " + r.id}
	if r.key != "" {
		headers = append(headers, "Idempotency-Key: "+r.key)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		a, err := c.server.Try(childKey, r.do, r.body, headers...)
		if err != nil {
			return false
		}
		if r.sentAgain && (a.Code() == "idempotency_in_progress" || a.Code() == "operation_in_progress") && time.Now().Before(deadline) {
			continue
		}
		c.answered(r, a)
		return true
	}
}

func (c *client) answered(r *request, a apptest.Answer) {
	if r.want != 0 && a.Status != r.want || a.Status >= 500 {
		c.t.Errorf("%s %s (key %q, sent again: %v) answered %d %s, want %d", r.id, r.do, r.key, r.sentAgain, a.Status, a.Body, r.want)
	}
	r.status = a.Status
	if r.want != 0 {
		c.states[r.project] = r.then
	}
}
