package main

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/app/apptest"
)

// siem is what the log is posted to. It checks each batch as it comes, against all
// that came before, and fails now and then.
type siem struct {
	t      *testing.T
	secret string

	mu        sync.Mutex
	rng       *rand.Rand
	highest   int64
	hash      string // of the highest row
	hashes    map[int64]string
	borders   map[int64]bool // first rows of batches that were sent
	batches   int
	repeated  int
	refused   int
	unsettled int    // that were taken and not answered
	killed    [2]int // with a batch under way: before it was taken, and before that was answered
	told      int

	asked int
	until int // batches, then
	kill  func()
}

// ServeHTTP takes a batch, refuses it, or takes it and says nothing.
func (s *siem) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the server was killed while it sent
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.asked%9 == 0 {
		s.refused++
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	s.until--
	if s.until == 0 && s.rng.IntN(2) == 0 {
		s.killed[0]++
		s.kill()
		return
	}
	s.check(r, body)
	if s.until == 0 {
		s.killed[1]++
		s.kill()
	}
	if s.asked%13 == 0 {
		s.unsettled++
		panic(http.ErrAbortHandler) // the connection breaks
	}
}

// killAfter has the server killed with the batch behind so many others under way.
func (s *siem) killAfter(batches int, kill func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until, s.kill = batches+1, kill
}

// fail reports a mistake, and not each that follows from it.
func (s *siem) fail(format string, args ...any) {
	if s.told++; s.told < 10 {
		s.t.Errorf(format, args...)
	}
}

func (s *siem) check(r *http.Request, body []byte) {
	mac := hmac.New(sha256.New, []byte(s.secret))
	fmt.Fprintf(mac, "%s.%s", r.Header.Get("Eider-Timestamp"), body)
	if r.Header.Get("Eider-Signature") != "sha256="+hex.EncodeToString(mac.Sum(nil)) {
		s.fail("a batch has a wrong signature")
	}
	var events []struct {
		ID, Type string
		Data     struct {
			ID       int64
			Hash     string
			PrevHash string `json:"prev_hash"`
		}
	}
	if err := json.Unmarshal(body, &events); err != nil || len(events) == 0 {
		s.fail("a batch cannot be read: %v", err)
		return
	}
	first := events[0].Data.ID
	if first <= s.highest && !s.borders[first] {
		s.fail("row %d comes again, and no batch began with it", first)
	}
	if first > s.highest+1 {
		s.fail("row %d comes, and row %d never came", first, s.highest+1)
	}
	s.borders[first] = true
	s.batches++
	for _, e := range events {
		if strings.HasPrefix(e.Type, "eider.operation.") {
			s.row(first, e.Data.ID, e.Data.Hash, e.Data.PrevHash)
			first++
		}
	}
}

func (s *siem) row(want, id int64, hash, prev string) {
	switch {
	case id != want:
		s.fail("row %d stands in place of %d", id, want)
	case id <= s.highest:
		s.repeated++
		if s.hashes[id] != hash {
			s.fail("row %d comes again as another", id)
		}
	case s.hash != "" && prev != s.hash:
		s.fail("row %d does not follow the one before", id)
	default:
		s.highest, s.hash = id, hash
		s.hashes[id] = hash
	}
}

func (s *siem) has() (highest int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.highest
}

// A server that is killed while its sinks are given the log leaves out no row, gives
// them in their order, and repeats whole batches alone. EIDER_TORTURE_ROUNDS sets the
// rounds.
func TestKilledServerLosesNoRowOnTheWayToItsSinks(t *testing.T) {
	t.Parallel()
	rounds, seed := setting(t, "EIDER_TORTURE_ROUNDS", 8), uint64(setting(t, "EIDER_TORTURE_SEED", int(time.Now().UnixNano())))
	rng := rand.New(rand.NewPCG(seed, 1))
	r := &siem{t: t, secret: "of the tests", rng: rand.New(rand.NewPCG(seed, 2)), hashes: map[int64]string{}, borders: map[int64]bool{}}
	receiver := httptest.NewServer(r)
	t.Cleanup(receiver.Close)
	at := strings.TrimPrefix(receiver.URL, "http://")
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "operations.ndjson")
	environ := []string{
		fmt.Sprintf(`EIDER_PLUGINS_ITEMS=[{name: siem, path: "%s", capabilities: [http, clock], http_hosts: ["%s"], http_private: ["%s"], config: {url: "%s", secret: "%s"}}]`,
			builtGuest(t, "plugins/audit-webhook"), at, at, receiver.URL, r.secret),
		"EIDER_AUDIT_FILE=" + file, "EIDER_AUDIT_FILE_MAX_SIZE=200KiB", "EIDER_AUDIT_FILE_KEEP=0",
	}
	for round := range rounds {
		s := serve(t, dir, environ...)
		if round == 0 {
			s.Want(201, s.Root, "POST /projects", `{"id":"sales"}`)
		}
		r.killAfter(rng.IntN(4), s.kill)
		var clients sync.WaitGroup
		for n := range 3 {
			clients.Go(func() {
				for i := 0; ; i++ {
					if _, err := s.Try(s.Root, "PATCH /projects/sales", fmt.Sprintf(`{"name":"%d of %d"}`, i, n)); err != nil {
						return
					}
				}
			})
		}
		select {
		case <-s.ended:
		case <-time.After(time.Minute):
			t.Error("no batch is sent")
		}
		s.kill()
		clients.Wait()
		if t.Failed() {
			t.Fatalf("round %d; EIDER_TORTURE_SEED=%d; the server said:\n%s", round, seed, s.log())
		}
	}
	r.killAfter(-2, nil)
	s := serve(t, dir, environ...)
	head := s.Want(200, s.Root, "GET /operations?limit=1&all_rows=true", "")
	var newest struct{ Operations []struct{ ID int64 } }
	if err := json.Unmarshal(head.Body, &newest); err != nil || len(newest.Operations) == 0 {
		t.Fatalf("%v: %s", err, head.Body)
	}
	want := newest.Operations[0].ID
	apptest.Eventually(t, "the receiver has all", func() bool { return r.has() >= want })
	apptest.Eventually(t, "the file has all", func() bool { return lastOf(t, file) >= want })
	s.stop(t)
	wantFiles(t, file, want)
	t.Logf("%d rounds: %d rows in %d batches; killed with a batch under way %d times before it was taken, %d before that was answered; %d rows came again; %d batches were refused, %d taken without an answer",
		rounds, want, r.batches, r.killed[0], r.killed[1], r.repeated, r.refused, r.unsettled)
	if r.killed[0]+r.killed[1] < rounds || r.killed[1] > 0 && r.repeated == 0 {
		t.Error("no kill met a batch under way, or nothing came again")
	}
}

// lastOf returns the last row in a file of the log.
func lastOf(t *testing.T, path string) (last int64) {
	t.Helper()
	ids := idsIn(t, path)
	if len(ids) == 0 {
		return 0
	}
	return ids[len(ids)-1]
}

// wantFiles checks that the files have each row once, in order.
func wantFiles(t *testing.T, path string, atLeast int64) {
	t.Helper()
	all, err := filepath.Glob(path + ".*")
	must(t, err)
	next := int64(1)
	for _, name := range append(all, path) {
		for _, id := range idsIn(t, name) {
			if id != next {
				t.Fatalf("%s has row %d in place of %d", name, id, next)
			}
			next++
		}
	}
	if next <= atLeast || len(all) == 0 {
		t.Errorf("%d files have %d rows, and there are %d", len(all)+1, next-1, atLeast)
	}
}

func idsIn(t *testing.T, path string) (ids []int64) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var row struct{ ID int64 }
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			return ids // a line that is being written
		}
		if row.ID != 0 {
			ids = append(ids, row.ID)
		}
	}
	return ids
}
