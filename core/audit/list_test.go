package audit_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
)

// busyLog returns a log of at least n rows of all kinds, oldest first: single
// rows, calls with an intent and an end, and some that have not ended. It has
// more rows than the first two windows of a listing.
func busyLog(t testing.TB, n int) (*register, []audit.Row) {
	t.Helper()
	r := begin(t)
	random := rand.New(rand.NewPCG(1, 2))
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r.log.SetClock(func() time.Time { return at })
	var all, open []audit.Row
	for len(all) < n {
		at = at.Add(time.Duration(random.IntN(90)) * time.Second)
		group := make([]audit.Row, 0, 1000)
		for range 1000 {
			group = append(group, someRow(random))
		}
		for i := range open {
			if random.IntN(20) > 0 { // it ends in this group
				end := open[i]
				end.IntentID, end.Status = end.ID, eider.StatusSuccess
				group = append(group, end)
			}
		}
		sealed := r.stage(group...)
		all, open = append(all, sealed...), open[:0]
		for _, row := range sealed {
			if row.Status == eider.StatusInProgress {
				open = append(open, row)
			}
		}
	}
	return r, all
}

func someRow(random *rand.Rand) audit.Row {
	pick := func(words ...string) string { return words[random.IntN(len(words))] }
	row := audit.Row{
		CallID: fmt.Sprint(random.Uint64()), RequestID: fmt.Sprint("r", random.IntN(5000)), ActorType: eider.ActorKey,
		ActorID: pick("k1", "k2", "k3"), ActorName: pick("ada", "k1", ""), Operation: pick("query", "create_project", "drop_table"),
		ResourceType: pick("project", "table"), ResourceID: pick("a", "b", "c", "d"), ProjectID: pick("sales", "hr", ""), Count: 1,
		Status: eider.OperationStatus(pick("success", "success", "success", "failed", "denied")),
	}
	if random.IntN(8) == 0 {
		row.Status = eider.StatusInProgress
	}
	if random.IntN(4000) == 0 {
		row.Operation = "rare"
	}
	row.ProjectUID = row.ProjectID + pick("-1", "-2")
	return row
}

// naive is what a listing must answer, said as plainly as can be.
func naive(all []audit.Row, f audit.Filter) (ids []int64) {
	ended := map[int64]bool{}
	for _, r := range all {
		ended[r.IntentID] = true
	}
	is := func(want, got string) bool { return want == "" || want == got }
	for i := len(all) - 1; i >= 0 && len(ids) < f.Limit; i-- {
		r := all[i]
		if is(f.ProjectID, r.ProjectID) && is(f.ProjectUID, r.ProjectUID) && is(f.Operation, r.Operation) && is(f.Status, string(r.Status)) &&
			(is(f.Actor, r.ActorID) || is(f.Actor, r.ActorName)) && is(f.ResourceType, r.ResourceType) && is(f.ResourceID, r.ResourceID) &&
			is(f.RequestID, r.RequestID) && (f.From.IsZero() || !r.Time.Before(f.From)) && (f.To.IsZero() || r.Time.Before(f.To)) &&
			contains(r, f.Text) && (f.Before == 0 || r.ID < f.Before) && (f.AllRows || r.Status != eider.StatusInProgress || !ended[r.ID]) {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

func contains(r audit.Row, text string) bool {
	for _, in := range []string{r.Details, r.Code, r.Error, r.ResourceID, r.ActorName, r.Operation} {
		if strings.Contains(strings.ToLower(in), strings.ToLower(text)) {
			return true
		}
	}
	return false
}

func idsOf(rows []audit.Row) (ids []int64) {
	for _, r := range rows {
		ids = append(ids, r.ID)
	}
	return ids
}

func TestListsAnswerWhatANaiveFilterDoes(t *testing.T) {
	const n = 2*audit.FirstWindow + 5000
	r, all := busyLog(t, n)
	begun, span := all[0].Time, all[len(all)-1].Time.Sub(all[0].Time)
	check := func(f audit.Filter) {
		t.Helper()
		got, err := r.log.List(t.Context(), r.store.View(), f)
		must(t, err)
		if want := naive(all, f); fmt.Sprint(idsOf(got)) != fmt.Sprint(want) {
			t.Errorf("%+v: %d rows %.80v, want %d %.80v", f, len(got), idsOf(got), len(want), want)
		}
	}
	for _, f := range []audit.Filter{
		{}, {Limit: 1}, {Limit: 3, Before: 1}, {Limit: 3, Before: 2}, {Limit: 3, Before: n * 10},
		{Limit: 100_000, Operation: "rare"}, {Limit: 100_000, Operation: "rare", AllRows: true}, // through all windows
		{Limit: 5, Operation: "rare", Before: audit.FirstWindow}, {Limit: 10, Operation: "nothing"},
		{Limit: 1000, Status: "in_progress"}, {Limit: 1000, Status: "in_progress", AllRows: true},
		{Limit: audit.FirstWindow + 10, AllRows: true}, // more than one window holds
		{Limit: 10, Actor: "k1"}, {Limit: 10, From: begun, To: begun}, {Limit: 10, To: begun.Add(time.Microsecond)},
		{Limit: 10, Actor: "' OR 1=1 --"}, {Limit: 10, ResourceID: "$1"},
		{Limit: 100, Text: "RAR"}, {Limit: 100, Text: "ada", ProjectID: "hr"}, {Limit: 100, Text: "%"}, {Limit: 100, Text: "?"},
		{Limit: 50, RequestID: "r77", Text: "drop_"},
	} {
		check(f)
	}
	random := rand.New(rand.NewPCG(3, 4))
	maybe := func(words ...string) string {
		if random.IntN(3) > 0 {
			return ""
		}
		return words[random.IntN(len(words))]
	}
	for range 80 {
		f := audit.Filter{
			ProjectID: maybe("sales", "hr"), ProjectUID: maybe("sales-1", "hr-2"), Operation: maybe("query", "drop_table", "rare"),
			Status: maybe("success", "failed", "denied", "in_progress"), Actor: maybe("k1", "ada", "nobody"),
			ResourceType: maybe("project", "table"), ResourceID: maybe("a", "d"), RequestID: maybe("r1", "r77"), Text: maybe("Ad", "_table", "nowhere"),
			AllRows: random.IntN(2) == 0, Limit: 1 + random.IntN(300),
		}
		if random.IntN(2) == 0 {
			f.Before = 1 + random.Int64N(n)
		}
		if random.IntN(2) == 0 {
			f.From = begun.Add(time.Duration(random.Int64N(int64(span))))
		}
		if random.IntN(2) == 0 {
			f.To = begun.Add(time.Duration(random.Int64N(int64(span))))
		}
		check(f)
	}

	// The counts of a project's day.
	since := begun.Add(span / 2)
	counts, err := r.log.CountSince(t.Context(), r.store.View(), "sales-1", since)
	must(t, err)
	want := map[string]int64{}
	for _, row := range all {
		if row.ProjectUID == "sales-1" && row.Status == eider.StatusSuccess && !row.Time.Before(since) {
			want[row.Operation]++
		}
	}
	if fmt.Sprint(counts) != fmt.Sprint(want) || len(want) < 3 {
		t.Errorf("counted %v, want %v", counts, want)
	}
}

// TestPagesHaveNoGapsAndNoDoublesWhileRowsArrive pages through thousands of rows
// beside a writer whose calls begin and end.
func TestPagesHaveNoGapsAndNoDoublesWhileRowsArrive(t *testing.T) {
	r, all := busyLog(t, 6000)
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		random := rand.New(rand.NewPCG(5, 6))
		for {
			select {
			case <-stop:
				return
			default:
			}
			begun, err := r.try(someRow(random), audit.Row{CallID: "long", Status: eider.StatusInProgress})
			if err == nil {
				_, err = r.try(audit.Row{CallID: "long", Status: eider.StatusSuccess, IntentID: begun[1].ID})
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	for _, f := range []audit.Filter{{Limit: 97}, {Limit: 1000, AllRows: true}, {Limit: 13, ProjectID: "hr", Operation: "query"}} {
		seen := map[int64]bool{}
		for last := int64(0); ; {
			f.Before = last
			page, err := r.log.List(t.Context(), r.store.View(), f)
			must(t, err)
			for _, row := range page {
				if seen[row.ID] || last != 0 && row.ID >= last {
					t.Errorf("row %d comes behind %d", row.ID, last)
				}
				seen[row.ID], last = true, row.ID
			}
			if len(page) < f.Limit {
				break
			}
		}
		f.Before, f.Limit = 0, len(all)
		for _, id := range naive(all, f) {
			if !seen[id] {
				t.Errorf("%+v: row %d was on no page", f, id)
			}
		}
	}
	close(stop)
	writer.Wait()
}

// TestACallThatEndsDuringAListingIsShownOnce ends it while the newest window is
// read and its intent lies in the next: it is shown by its intent, and not lost
// between the two rows.
func TestACallThatEndsDuringAListingIsShownOnce(t *testing.T) {
	r := begin(t)
	intent := r.stage(audit.Row{CallID: "long", Status: eider.StatusInProgress})[0]
	r.stage(rows(audit.FirstWindow)...)
	end := func() {
		r.stage(audit.Row{CallID: "long", Status: eider.StatusSuccess, IntentID: intent.ID})
	}
	r.engine.asked.Store(&end)
	for _, want := range []int64{intent.ID, audit.FirstWindow + 2} { // during the listing, and afterwards
		page, err := r.log.List(t.Context(), r.store.View(), audit.Filter{Limit: 2 * audit.FirstWindow})
		must(t, err)
		var shown []int64
		for _, row := range page {
			if row.CallID == "long" {
				shown = append(shown, row.ID)
			}
		}
		if len(page) != audit.FirstWindow+1 || len(shown) != 1 || shown[0] != want {
			t.Errorf("of %d rows the call is shown as %v, want %d", len(page), shown, want)
		}
	}
}

// Whoever pages through the log sees each call once, also one that ends between two
// pages, whose intent lies behind and whose final row before where the reader is.
func TestACallThatEndsBetweenTwoPagesIsShownOnce(t *testing.T) {
	r := begin(t)
	open := r.stage(audit.Row{CallID: "a", Status: eider.StatusInProgress}, audit.Row{CallID: "b", Status: eider.StatusInProgress}, audit.Row{CallID: "c", Status: eider.StatusInProgress})
	end := func(n int) {
		r.stage(audit.Row{CallID: open[n].CallID, Status: eider.StatusSuccess, IntentID: open[n].ID})
	}
	r.stage(rows(20)...)
	end(0)
	shown := map[string]int{}
	f := audit.Filter{Limit: 5}
	for n := 0; ; n++ {
		page, asOf, err := r.log.Page(t.Context(), r.store.View(), f)
		if must(t, err); f.AsOf != 0 && asOf != f.AsOf {
			t.Errorf("page %d shows the log as of row %d, the first as of %d", n, asOf, f.AsOf)
		}
		for _, row := range page {
			shown[row.CallID]++
		}
		if len(page) < f.Limit {
			break
		}
		f.Before, f.AsOf = page[len(page)-1].ID, asOf
		if n == 1 {
			end(1)
			r.stage(rows(3)...)
			r.stage(audit.Row{CallID: "later", Status: eider.StatusSuccess})
		}
	}
	for call, want := range map[string]int{"a": 1, "b": 1, "c": 1, "later": 0} {
		if shown[call] != want {
			t.Errorf("the call %s is shown %d times", call, shown[call])
		}
	}
}

// Rows that an older version wrote have no hash of their request's id, and are
// found all the same.
func TestRequestIsFoundAmongRowsOfAnOlderVersion(t *testing.T) {
	r := begin(t)
	r.stage(audit.Row{RequestID: "old"}, audit.Row{RequestID: "both"})
	must(t, r.store.Close())
	r.sql(`UPDATE operations_log SET request_hash = NULL`)
	must(t, r.open())
	r.stage(audit.Row{RequestID: "new"}, audit.Row{RequestID: "both"})
	for request, want := range map[string]string{"old": "[1]", "new": "[3]", "both": "[4 2]", "none": "[]"} {
		page, err := r.log.List(t.Context(), r.store.View(), audit.Filter{RequestID: request, Limit: 10})
		must(t, err)
		if got := fmt.Sprint(idsOf(page)); got != want {
			t.Errorf("%s is found at %s, want %s", request, got, want)
		}
	}
	r.wantVerified(4)
}

// A hash that was altered would hide a row from who searches for its request.
func TestRowThatItsRequestDoesNotFindIsAltered(t *testing.T) {
	r := begin(t)
	r.stage(audit.Row{RequestID: "a"}, audit.Row{RequestID: "b"}, audit.Row{RequestID: "c"})
	must(t, r.store.Close())
	r.sql(`UPDATE operations_log SET request_hash = 1 WHERE id = 2`)
	must(t, r.open())
	if v := r.verify(); v.Verified || v.BrokenAt.ID != 2 || v.BrokenAt.Kind != "altered" {
		t.Errorf("it tells %+v %+v", v, v.BrokenAt)
	}
}
