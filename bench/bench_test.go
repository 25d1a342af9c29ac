package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestTableIsAlignedAndLeavesOutWhatWasNotMeasured(t *testing.T) {
	var text bytes.Buffer
	tb := table{}
	tb.group = "a"
	tb.add(row{What: "short", PerSecond: 12345.6, P50: 1500 * time.Microsecond, P99: 12 * time.Millisecond})
	tb.add(row{What: "a longer name", PerSecond: 9.876, CPU: 41 * time.Microsecond, Ratio: 15.25, Of: "rate of short", Bar: "at least 15 x"})
	tb.group = "b"
	tb.add(row{What: "other", Memory: 600 << 20})
	tb.note("A note.")
	tb.note("A note.")
	if err := tb.write(&text); err != nil {
		t.Fatal(err)
	}
	want := `
               per second      p50      p99  CPU/request  resident   ratio                 bar
short              12,346  1.50 ms  12.0 ms
a longer name        9.88                        41.0 us            15.2 x  rate of short  at least 15 x

other                                                      600 MiB

A note.
`
	if got := "\n" + text.String(); got != want {
		t.Errorf("got:%s\nwant:%s", got, want)
	}
}

func TestPercentilesAreOfTheGoodTurnsAlone(t *testing.T) {
	r := &result{took: 2 * time.Second, refused: 300}
	for i := range 100 {
		r.good = append(r.good, time.Duration(i+1)*time.Millisecond)
	}
	if r.p50() != 51*time.Millisecond || r.p99() != 100*time.Millisecond || r.rate() != 50 || r.all() != 400 {
		t.Errorf("p50 %v, p99 %v, %v/s, %d in all", r.p50(), r.p99(), r.rate(), r.all())
	}
	if empty := (&result{took: time.Second}); empty.p99() != 0 {
		t.Errorf("nothing has a p99 of %v", empty.p99())
	}
}

func TestALoadStopsAtTheFirstError(t *testing.T) {
	_, err := drive(t.Context(), 2, time.Minute, func(n int) (session, error) {
		return session{turn: func() (bool, error) { return n == 0, map[int]error{1: io.ErrUnexpectedEOF}[n] }}, nil
	})
	if err == nil {
		t.Fatal("the error is lost")
	}
}

func TestClientReadsAnswersOneAfterAnotherAndRefusesWhatIsNone(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		status       int
		body         string
		fails        bool
	}{
		{name: "a body", answer: "HTTP/1.1 201 Created\r\nX: y\r\ncontent-length: 5\r\n\r\nhello", status: 201, body: "hello"},
		{name: "no body", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", status: 200},
		{name: "cut short", answer: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", fails: true},
		{name: "without a length", answer: "HTTP/1.1 200 OK\r\n\r\nhello", fails: true},
		{name: "not HTTP", answer: "SSH-2.0-x\r\n", fails: true},
	} {
		here, there := net.Pipe()
		go func() {
			_, _ = there.Read(make([]byte, 4096))
			_, _ = io.WriteString(there, c.answer)
			_ = there.Close()
		}()
		cl := newClient(here)
		status, err := cl.do("GET", "/", "key", "")
		if (err != nil) != c.fails || err == nil && (status != c.status || string(cl.body) != c.body) {
			t.Errorf("%s: %d %q %v", c.name, status, cl.body, err)
		}
		cl.close()
	}
}

// TestMain lets this program's own test binary be the bare handler.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == bareCommand {
		main()
	}
	os.Exit(m.Run())
}

// TestEveryGroupFillsItsRows runs the whole, as small as it gets, on real
// servers: what it measures is worthless, but that it measures is not.
func TestEveryGroupFillsItsRows(t *testing.T) {
	var text bytes.Buffer
	saved := filepath.Join(t.TempDir(), "rows.json")
	tiny := scale{lasts: 20 * time.Millisecond, rounds: 1, projects: 2000, most: 8,
		files: fileScale{count: 20, bytes: 8 << 20, slow: 20}}
	o := options{scale: tiny, only: regexp.MustCompile(""), json: saved, dir: t.TempDir(), out: &text, progress: io.Discard}
	if err := run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(saved)
	if err != nil {
		t.Fatal(err)
	}
	var all struct{ Rows []row }
	if err := json.Unmarshal(content, &all); err != nil {
		t.Fatal(err)
	}
	filled := map[string]int{}
	for _, r := range all.Rows {
		filled[r.Group]++
		if r.PerSecond == 0 && r.P50 == 0 && r.Ratio == 0 && r.Memory == 0 {
			t.Errorf("%s: %s has no figure", r.Group, r.What)
		}
		if !strings.Contains(text.String(), r.What) {
			t.Errorf("the table lacks %q", r.What)
		}
	}
	for _, g := range groups() {
		if filled[g.name] == 0 {
			t.Errorf("group %s has no rows", g.name)
		}
	}
}
