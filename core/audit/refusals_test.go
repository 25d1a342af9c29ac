package audit

import (
	"fmt"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/eiderdb/eider"
)

// counter is a Refusals with a clock that the test moves.
type counter struct {
	*Refusals
	at time.Time
}

func newCounter() *counter {
	c := &counter{NewRefusals(), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	c.now = func() time.Time { return c.at }
	c.Due(false) // the first minute begins
	return c
}

// admit refuses n times and returns how many got a row.
func (c *counter) admit(n int, r Row) (rows int) {
	for range n {
		if c.Admit(r) {
			rows++
		}
	}
	return rows
}

func (c *counter) minute() []Row {
	c.at = c.at.Add(refusalWindow)
	return c.Due(false)
}

func known(id, operation, code string) Row {
	return Row{ActorType: eider.ActorKey, ActorID: id, Operation: operation, Code: code, Count: 1}
}

func anonymous(ip string) Row {
	return Row{ActorType: eider.ActorAnonymous, SourceIP: ip, Operation: "authenticate", Code: "unauthorized", Count: 1}
}

func TestTenEqualRefusalsAMinuteGetARowEachTheRestOneTogether(t *testing.T) {
	c := newCounter()
	for minute := range 3 {
		if rows := c.admit(25, known("k", "query", "forbidden")); rows != 10 {
			t.Errorf("minute %d: %d rows at once", minute, rows)
		}
		c.at = c.at.Add(refusalWindow - time.Second)
		if due := c.Due(false); due != nil {
			t.Errorf("minute %d: told before it has ended: %v", minute, due)
		}
		c.at = c.at.Add(time.Second)
		if due := c.Due(false); len(due) != 1 || due[0].Count != 15 || due[0].ActorID != "k" || due[0].Operation != "query" {
			t.Errorf("minute %d: %v", minute, due)
		}
	}
	if due := c.minute(); due != nil {
		t.Errorf("a quiet minute: %v", due)
	}
}

func TestRefusalsThatDifferAreCountedApart(t *testing.T) {
	c := newCounter()
	others := []Row{
		known("k", "query", "forbidden"), known("other", "query", "forbidden"), known("k", "export", "forbidden"), known("k", "query", "not_found"),
		{ActorType: eider.ActorSignedURL, ActorID: "k", Operation: "query", Code: "forbidden"},
	}
	for _, r := range others {
		if rows := c.admit(11, r); rows != 10 {
			t.Errorf("%+v: %d rows", r, rows)
		}
	}
	if due := c.minute(); len(due) != len(others) {
		t.Errorf("%d rows for %d kinds", len(due), len(others))
	}
}

// TestAnAddressBuysOneRowAMinute is what a flood from one host leaves.
func TestAnAddressBuysOneRowAMinute(t *testing.T) {
	c := newCounter()
	for minute := range 5 {
		rows := c.admit(1000, anonymous("192.0.2.1"))
		if want := map[bool]int{true: 1, false: 0}[minute == 0]; rows != want {
			t.Errorf("minute %d: %d rows at once, want %d", minute, rows, want)
		}
		want := int64(1000 - rows)
		if due := c.minute(); len(due) != 1 || due[0].Count != want || due[0].SourceIP != "192.0.2.1" {
			t.Errorf("minute %d: %v, want one row for %d", minute, due, want)
		}
	}
	if due := c.minute(); due != nil {
		t.Errorf("a quiet minute: %v", due)
	}
	if rows := c.admit(2, anonymous("192.0.2.1")); rows != 1 {
		t.Errorf("after a quiet minute: %d rows at once", rows)
	}
}

func TestAnonymousSourcesAreAddressesOrNetworks(t *testing.T) {
	for _, c := range []struct{ ip, want string }{
		{"192.0.2.1", "192.0.2.1"}, {"::ffff:192.0.2.1", "192.0.2.1"},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"}, {"2001:db8:1:2::", "2001:db8:1:2::/64"},
		{"fe80::1%eth0", "fe80::/64"}, {"", ""}, {"@", "@"},
	} {
		if got := Network(c.ip); got != c.want {
			t.Errorf("%s: %s, want %s", c.ip, got, c.want)
		}
	}
	c := newCounter()
	rows := 0
	for host := range 100 {
		rows += c.admit(1, anonymous(fmt.Sprintf("2001:db8::%x", host)))
	}
	due := c.minute()
	if rows != 1 || len(due) != 1 || due[0].Count != 99 || due[0].SourceIP != "2001:db8::/64" {
		t.Errorf("%d rows, then %v", rows, due)
	}
}

// TestSourcesAreCapped floods from more addresses than are kept, while one with
// a key is refused: the flood shares a row, and hides nobody who is known.
func TestSourcesAreCapped(t *testing.T) {
	c := newCounter()
	const sources = refusalSources + 500
	rows := 0
	for i := range sources {
		rows += c.admit(2, anonymous(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)))
	}
	if rows != refusalSources+1 || len(c.anonymous) != refusalSources+1 {
		t.Errorf("%d rows, %d sources kept", rows, len(c.anonymous))
	}
	if rows := c.admit(12, known("k", "query", "forbidden")); rows != 10 {
		t.Errorf("%d rows of one with a key", rows)
	}
	due := c.minute()
	sort.Slice(due, func(i, j int) bool { return due[i].Count > due[j].Count })
	shared := due[0]
	if len(due) != refusalSources+2 || shared.Count != 2*500-1 || shared.SourceIP != "" || shared.ActorType != eider.ActorAnonymous {
		t.Errorf("%d rows, the shared one %+v", len(due), shared)
	}
	found := false
	for _, r := range due {
		found = found || r.ActorID == "k" && r.Count == 2
	}
	if !found {
		t.Error("the refusals of the one with a key are not told")
	}
	// Those with keys are capped too, and their flood hides no address.
	for i := range sources {
		c.admit(1, known(fmt.Sprint(i), "query", "forbidden"))
	}
	if len(c.known) != refusalSources+1 {
		t.Errorf("%d kept", len(c.known))
	}
	if rows := c.admit(1, anonymous("198.51.100.1")); rows != 0 || c.anonymous[refusalKey{code: "unauthorized"}] == nil {
		t.Errorf("%d rows of an address behind a full minute", rows)
	}
}

// TestACountedRowSaysOnlyWhatIsTrueOfAll keeps one caller's id, request and
// project from standing for others'.
func TestACountedRowSaysOnlyWhatIsTrueOfAll(t *testing.T) {
	c := newCounter()
	refuse := func(n int, project string) {
		for i := range n {
			r := known("k", "query", "forbidden")
			r.CallID, r.RequestID, r.TraceID = fmt.Sprint("call", project, i), fmt.Sprint("request", project, i), "trace"
			r.ProjectID, r.ProjectUID, r.SourceIP, r.Duration, r.Error = project, "uid of "+project, "192.0.2.1", time.Second, "no"
			c.Admit(r)
		}
	}
	refuse(12, "a")
	row := c.minute()[0]
	if row.CallID != "" || row.RequestID != "" || row.TraceID != "trace" || row.ProjectID != "a" || row.ProjectUID != "uid of a" ||
		row.SourceIP != "192.0.2.1" || row.Duration != 0 || row.Error != "no" || row.Count != 2 {
		t.Errorf("two of one project: %+v", row)
	}
	refuse(11, "a")
	refuse(1, "b")
	if row := c.minute()[0]; row.ProjectID != "" || row.ProjectUID != "" || row.Operation != "query" || row.Count != 2 {
		t.Errorf("two of two projects: %+v", row)
	}
	refuse(11, "a")
	if row := c.minute()[0]; row.CallID != "calla10" || row.Duration != time.Second || row.Count != 1 {
		t.Errorf("a single one keeps its own: %+v", row)
	}
	for _, operation := range []string{"a", "b"} {
		c.Admit(Row{ActorType: eider.ActorAnonymous, SourceIP: "192.0.2.1", Code: "unauthorized", Operation: operation})
		c.Admit(Row{ActorType: eider.ActorAnonymous, SourceIP: "192.0.2.1", Code: "unauthorized", Operation: operation})
	}
	if row := c.minute()[0]; row.Operation != "refusals" || row.Count != 3 {
		t.Errorf("of several operations: %+v", row)
	}
}

func TestWhatWasCountedIsToldAtTheEndWithoutWaiting(t *testing.T) {
	c := newCounter()
	c.admit(12, known("k", "query", "forbidden"))
	if due := c.Due(true); len(due) != 1 || due[0].Count != 2 {
		t.Errorf("at the end: %v", due)
	}
	if due := c.Due(true); due != nil {
		t.Errorf("told twice: %v", due)
	}
}

func TestEveryRefusalIsToldOnce(t *testing.T) {
	c := NewRefusals()
	const callers, each = 8, 5000
	told := make(chan int64)
	for caller := range callers {
		go func() {
			n := int64(0)
			for i := range each {
				r := known(strings.Repeat("k", 1+caller%3), "query", "forbidden")
				if i%2 == 0 {
					r = anonymous(fmt.Sprintf("10.0.0.%d", i%50))
				}
				if c.Admit(r) {
					n++
				}
				if i%100 == 0 {
					for _, row := range c.Due(true) {
						n += row.Count
					}
				}
			}
			told <- n
		}()
	}
	sum := int64(0)
	for range callers {
		sum += <-told
	}
	for _, row := range c.Due(true) {
		sum += row.Count
	}
	if sum != callers*each {
		t.Errorf("%d of %d refusals are told", sum, callers*each)
	}
}
