package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"go.uber.org/goleak"
)

type decide func(ctx context.Context, q *Question) (Decision, error)

func (d decide) Decide(ctx context.Context, q *Question) (Decision, error) { return d(ctx, q) }

func always(d Decision) Policy {
	return decide(func(context.Context, *Question) (Decision, error) { return d, nil })
}

var (
	allows = always(Decision{})
	denies = always(Decision{Deny: true, Reason: "full moon"})
	warns  = always(Decision{Warning: []string{"nearly full"}})
	fails  = decide(func(context.Context, *Question) (Decision, error) { return Decision{}, errors.New("out of order") })
	panics = decide(func(context.Context, *Question) (Decision, error) { panic("broken") })
	leaves = decide(func(context.Context, *Question) (Decision, error) { runtime.Goexit(); return Decision{}, nil })
)

func chain(t *testing.T, items ...Item) *Chain {
	t.Helper()
	c, err := NewChain(items, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func outcomes(o Outcome) string {
	var all []string
	for _, v := range o.Verdicts {
		all = append(all, v.Plugin+" "+v.Outcome+": "+v.Reason)
	}
	return strings.Join(all, ", ")
}

// TestModeAndFailureDecideWhatAnAnswerDoes has every answer in every mode.
func TestModeAndFailureDecideWhatAnAnswerDoes(t *testing.T) {
	const broken = "the policy could not decide"
	for _, c := range []struct {
		name     string
		policy   Policy
		mode     Mode
		open     bool
		denied   bool
		verdict  string
		warnings string
	}{
		{name: "allow", policy: allows, mode: Enforce, verdict: "x allow: "},
		{name: "allow", policy: allows, mode: Warn, verdict: "x allow: "},
		{name: "allow", policy: allows, mode: DryRun, verdict: "x allow: "},
		{name: "deny", policy: denies, mode: Enforce, denied: true, verdict: "x deny: full moon"},
		{name: "deny", policy: denies, mode: Enforce, open: true, denied: true, verdict: "x deny: full moon"},
		{name: "deny", policy: denies, mode: Warn, verdict: "x warn: full moon", warnings: "x: full moon"},
		{name: "deny", policy: denies, mode: DryRun, verdict: "x would_deny: full moon"},
		{name: "deny", policy: denies, mode: Off},
		{name: "warn", policy: warns, mode: Enforce, verdict: "x warn: nearly full", warnings: "nearly full"},
		{name: "warn", policy: warns, mode: Warn, verdict: "x warn: nearly full", warnings: "nearly full"},
		{name: "warn", policy: warns, mode: DryRun, verdict: "x warn: nearly full"},
		{name: "fail", policy: fails, mode: Enforce, denied: true, verdict: "x deny: " + broken},
		{name: "fail", policy: fails, mode: Enforce, open: true, verdict: "x error: " + broken},
		{name: "fail", policy: fails, mode: Warn, verdict: "x warn: " + broken, warnings: "x: " + broken},
		{name: "fail", policy: fails, mode: DryRun, verdict: "x would_deny: " + broken},
		{name: "fail", policy: fails, mode: DryRun, open: true, verdict: "x error: " + broken},
		{name: "fail", policy: fails, mode: Off},
		{name: "panic", policy: panics, mode: Enforce, denied: true, verdict: "x deny: " + broken},
		{name: "panic", policy: panics, mode: Enforce, open: true, verdict: "x error: " + broken},
		{name: "panic", policy: panics, mode: DryRun, verdict: "x would_deny: " + broken},
		{name: "end its goroutine", policy: leaves, mode: Enforce, denied: true, verdict: "x deny: " + broken},
	} {
		o := chain(t, Item{Name: "x", Policy: c.policy, Mode: c.mode, FailOpen: c.open}).Ask(t.Context(), &Question{Operation: "query"})
		if (o.Denial != nil) != c.denied || outcomes(o) != c.verdict || strings.Join(o.Warnings, ", ") != c.warnings {
			t.Errorf("%s, %s, open %v: denial %v, verdicts %q, warnings %q; want %v, %q, %q",
				c.name, c.mode, c.open, o.Denial, outcomes(o), o.Warnings, c.denied, c.verdict, c.warnings)
		}
	}
}

func TestPoliciesAreAskedByPriorityThenNameUntilOneDenies(t *testing.T) {
	var asked []string
	item := func(name string, priority int, mode Mode, deny bool) Item {
		return Item{Name: name, Priority: priority, Mode: mode, Policy: decide(func(context.Context, *Question) (Decision, error) {
			asked = append(asked, name)
			return Decision{Deny: deny, Reason: "no"}, nil
		})}
	}
	items := []Item{
		item("last", -1, Enforce, false), item("b", 0, Warn, true), item("never", -2, Enforce, false), item("a", 0, DryRun, true),
		item("first", 9, Enforce, false), item("off", 99, Off, true), item("denies", -1, Enforce, true),
	}
	c := chain(t, items...)
	o := c.Ask(t.Context(), &Question{Operation: "query"})
	if got := strings.Join(asked, " "); got != "first a b denies" {
		t.Errorf("asked %s", got)
	}
	if got := outcomes(o); got != "first allow: no, a would_deny: no, b warn: no, denies deny: no" {
		t.Errorf("verdicts %s", got)
	}
	if o.Denial == nil || o.Denial.Plugin != "denies" {
		t.Errorf("denied by %v", o.Denial)
	}
	if c.Len() != 6 || items[0].Name != "last" {
		t.Errorf("%d policies may be asked; the items given begin with %s", c.Len(), items[0].Name)
	}
}

func TestGlobsChooseOperationsAndProjects(t *testing.T) {
	sales := &eider.Project{ID: "sales-eu"}
	for _, c := range []struct {
		operations, projects []string
		operation            string
		project              *eider.Project
		asked                bool
	}{
		{nil, nil, "query", nil, true},
		{nil, nil, "query", sales, true},
		{[]string{"query"}, nil, "query", nil, true},
		{[]string{"query"}, nil, "query_all", nil, false},
		{[]string{"create_*"}, nil, "create_project", nil, true},
		{[]string{"create_*"}, nil, "update_project", nil, false},
		{[]string{"drop_*", "*_table"}, nil, "alter_table", nil, true},
		{[]string{"[cd]*_project"}, nil, "drop_project", nil, true},
		{[]string{""}, nil, "query", nil, false},
		{nil, []string{"sales-*"}, "query", sales, true},
		{nil, []string{"sales"}, "query", sales, false},
		{nil, []string{"hr", "*-eu"}, "query", sales, true},
		{nil, []string{"*"}, "create_project", nil, false}, // it has no project
		{[]string{"query"}, []string{"hr"}, "query", sales, false},
		{[]string{"create_*"}, []string{"sales-*"}, "query", sales, false},
	} {
		o := chain(t, Item{Name: "x", Policy: denies, Mode: Enforce, Operations: c.operations, Projects: c.projects}).
			Ask(t.Context(), &Question{Operation: c.operation, Project: c.project})
		if (o.Denial != nil) != c.asked {
			t.Errorf("operations %q, projects %q: asked about %s of %v: %v", c.operations, c.projects, c.operation, c.project, o.Denial != nil)
		}
	}
}

func TestItemsThatCannotWorkAreRefusedByName(t *testing.T) {
	for _, c := range []struct {
		item Item
		want string
	}{
		{Item{Name: "x", Policy: allows}, `policy x: mode ""`},
		{Item{Name: "x", Policy: allows, Mode: "Enforce"}, `policy x: mode "Enforce"`},
		{Item{Name: "x", Mode: Enforce}, "policy x: there is no policy"},
		{Item{Name: "x", Policy: allows, Mode: Warn, Operations: []string{"ok", "[a"}}, `policy x: pattern "[a"`},
		{Item{Name: "x", Policy: allows, Mode: Off, Projects: []string{"p[-"}}, `policy x: pattern "p[-"`},
	} {
		_, err := NewChain([]Item{{Name: "fine", Policy: allows, Mode: Enforce}, c.item}, slog.New(slog.DiscardHandler))
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%v: %v, want %s", c.item, err, c.want)
		}
	}
	chain(t, Item{Name: "not installed", Mode: Off})
}

func TestADenialCarriesItsCodeAndItsReason(t *testing.T) {
	for _, c := range []struct {
		decision Decision
		code     eider.Code
		message  string
		retry    time.Duration
	}{
		{Decision{Reason: "no"}, eider.DeniedByPolicy, "denied by policy x: no", 0},
		{Decision{}, eider.DeniedByPolicy, "denied by policy x", 0},
		{Decision{Code: eider.RateLimited, Reason: "slow", Retry: 7}, eider.RateLimited, "denied by policy x: slow", 7 * time.Second},
		{Decision{Code: eider.QuotaExceeded, Reason: "full"}, eider.QuotaExceeded, "denied by policy x: full", 0},
		{Decision{Code: eider.Internal, Reason: "no"}, eider.DeniedByPolicy, "denied by policy x: no", 0},
		{Decision{Code: "made_up", Reason: "no"}, eider.DeniedByPolicy, "denied by policy x: no", 0},
		{Decision{Code: eider.RateLimited, Retry: -5}, eider.RateLimited, "denied by policy x", 0},
		{Decision{Code: eider.RateLimited, Retry: math.MaxInt}, eider.RateLimited, "denied by policy x", 365 * 24 * time.Hour},
	} {
		c.decision.Deny = true
		o := chain(t, Item{Name: "x", Version: "1.2", Policy: always(c.decision), Mode: Enforce}).Ask(t.Context(), &Question{})
		e := o.Denial
		if e == nil || e.Code != c.code || e.Message != c.message || e.RetryAfter != c.retry || e.Plugin != "x" || e.Reason != c.decision.Reason {
			t.Errorf("%+v: %+v", c.decision, e)
			continue
		}
		var row Verdict
		if err := json.Unmarshal([]byte(o.JSON()), &row); err != nil {
			t.Fatal(err)
		}
		want := Verdict{Plugin: "x", Version: "1.2", Mode: Enforce, Outcome: "deny", Reason: c.decision.Reason, DecisionID: e.DecisionID}
		if row != want || e.DecisionID == "" {
			t.Errorf("the row shows %+v, want %+v", row, want)
		}
	}
}

func TestTheRowShowsWhoDecidedAndTheOthersBesideIt(t *testing.T) {
	o := chain(t, Item{Name: "a", Policy: warns, Mode: Enforce}, Item{Name: "b", Policy: fails, Mode: DryRun}, Item{Name: "c", Policy: denies, Mode: Enforce}).
		Ask(t.Context(), &Question{})
	var row struct {
		Verdict
		Others []Verdict
	}
	if err := json.Unmarshal([]byte(o.JSON()), &row); err != nil {
		t.Fatal(err)
	}
	if row.Plugin != "c" || len(row.Others) != 2 || row.Others[0].Plugin != "a" || row.Others[1].Plugin != "b" {
		t.Errorf("the row shows %s", o.JSON())
	}
	if row.DecisionID != o.Denial.DecisionID || row.Others[0].DecisionID != "" {
		t.Errorf("the row's decision is %q, and %q of one beside it; the caller is told %q", row.DecisionID, row.Others[0].DecisionID, o.Denial.DecisionID)
	}
}

// An allowed call tells who allowed it: what is the newest to say more than yes
// stands at the top.
func TestTheRowOfAnAllowedCallShowsWhoWasAsked(t *testing.T) {
	spared := always(Decision{Spared: true})
	used := always(Decision{Fuel: 7})
	for _, c := range []struct {
		items []Item
		want  string // plugin outcome fuel of the top, names of the others
	}{
		{[]Item{{Name: "a", Version: "2", SHA256: "ff", Policy: used, Mode: Enforce}}, "a 2 ff allow 7 []"},
		{[]Item{{Name: "a", Policy: used, Mode: Enforce}, {Name: "b", Policy: allows, Mode: DryRun}}, "b   allow 0 [a]"},
		{[]Item{{Name: "a", Policy: warns, Mode: Enforce}, {Name: "b", Policy: used, Mode: Enforce}}, "a   warn 0 [b]"},
		{[]Item{{Name: "a", Policy: spared, Mode: Enforce}, {Name: "b", Policy: used, Mode: Enforce}}, "b   allow 7 []"},
		{[]Item{{Name: "a", Policy: spared, Mode: Enforce}}, ""},
		{[]Item{{Name: "a", Policy: used, Mode: Off}}, ""},
	} {
		o := chain(t, c.items...).Ask(t.Context(), &Question{})
		got := ""
		if text := o.JSON(); text != "" {
			var row struct {
				Verdict
				Others []Verdict
			}
			if err := json.Unmarshal([]byte(text), &row); err != nil || row.DecisionID == "" {
				t.Fatalf("%v, %s", err, text)
			}
			var others []string
			for _, v := range row.Others {
				others = append(others, v.Plugin)
			}
			got = fmt.Sprint(row.Plugin, " ", row.Version, " ", row.SHA256, " ", row.Outcome, " ", row.Fuel, " ", others)
		}
		if got != c.want || o.Denial != nil {
			t.Errorf("%v: the row shows %q, want %q", c.items, got, c.want)
		}
	}
}

// A policy for some projects is asked about the making of those too.
func TestAPolicyForProjectsIsAskedWhenOneIsMade(t *testing.T) {
	c := chain(t, Item{Name: "x", Policy: denies, Mode: Enforce, Projects: []string{"sales-*"}})
	for _, one := range []struct {
		question Question
		asked    bool
	}{
		{Question{Makes: "sales-1"}, true}, {Question{Makes: "dev-1"}, false}, {Question{}, false},
		{Question{Project: &eider.Project{ID: "sales-1"}}, true}, {Question{Project: &eider.Project{ID: "dev-1"}}, false},
	} {
		if asked := c.Ask(t.Context(), &one.question).Denial != nil; asked != one.asked {
			t.Errorf("%+v: asked %v", one.question, asked)
		}
	}
}

// A roll-out by percent asks about the same projects each time, about more of them
// as it grows, about others for another policy, and about none without a project.
func TestPercentChoosesProjectsAndKeepsThem(t *testing.T) {
	denied := func(name string, percent int) map[int]bool {
		all := map[int]bool{}
		c := chain(t, Item{Name: name, Policy: denies, Mode: Enforce, Percent: percent})
		for i := range 1000 {
			p := &eider.Project{ID: "p", UID: fmt.Sprintf("0193-%d", i)}
			if c.Ask(t.Context(), &Question{Project: p}).Denial != nil {
				all[i] = true
			}
		}
		return all
	}
	before := map[int]bool{}
	for _, percent := range []int{1, 10, 50, 99, 100} {
		now := denied("x", percent)
		for i := range before {
			if !now[i] {
				t.Fatalf("at %d percent, project %d is asked about no more", percent, i)
			}
		}
		if n := len(now); n < percent*10-60 || n > percent*10+60 {
			t.Errorf("%d percent are %d of 1000", percent, n)
		}
		before = now
	}
	if x, y := denied("x", 50), denied("y", 50); maps.Equal(x, y) {
		t.Error("two policies begin with the same projects")
	}
	for percent, want := range map[int]bool{0: true, 100: true, 99: false} {
		c := chain(t, Item{Name: "x", Policy: denies, Mode: Enforce, Percent: percent})
		if got := c.Ask(t.Context(), &Question{Operation: "create_project"}).Denial != nil; got != want {
			t.Errorf("%d percent, no project: asked %v", percent, got)
		}
	}
}

// TestAPolicyThatHangsIsLeftBehind has one that minds nothing: the caller has its
// answer once its context ends, and in no mode is that answer yes.
func TestAPolicyThatHangsIsLeftBehind(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, item := range []Item{{Mode: Enforce}, {Mode: Enforce, FailOpen: true}, {Mode: Warn}, {Mode: DryRun}} {
		asked, release := make(chan struct{}), make(chan struct{})
		item.Name, item.Policy = "hangs", decide(func(context.Context, *Question) (Decision, error) {
			close(asked)
			<-release
			return Decision{}, nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		answered := make(chan Outcome)
		go func() {
			answered <- chain(t, item, Item{Name: "next", Priority: -1, Mode: Enforce, Policy: panics}).Ask(ctx, &Question{})
		}()
		<-asked
		cancel()
		o := <-answered
		if eider.CodeOf(o.Denial) != eider.Cancelled || !errors.Is(o.Denial, context.Canceled) || len(o.Verdicts) != 0 {
			t.Errorf("mode %s: %+v", item.Mode, o)
		}
		close(release)
	}
}

func TestWhyAPolicyCouldNotDecideIsInTheServersLogAlone(t *testing.T) {
	var log bytes.Buffer
	c, err := NewChain([]Item{{Name: "x", Policy: panics, Mode: Enforce}}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	o := c.Ask(t.Context(), &Question{Operation: "query"})
	if !strings.Contains(log.String(), "panic: broken") || !strings.Contains(log.String(), "policy=x") {
		t.Errorf("the log says %s", log.String())
	}
	if strings.Contains(o.Denial.Error()+o.JSON(), "broken") {
		t.Errorf("the caller is told %v", o.Denial)
	}
}

func TestManyAskAtOnce(t *testing.T) {
	c := chain(t, Item{Name: "a", Policy: warns, Mode: Warn}, Item{Name: "b", Policy: fails, Mode: DryRun})
	done := make(chan int)
	for range 8 {
		go func() {
			n := 0
			for range 200 {
				n += len(c.Ask(t.Context(), &Question{Operation: "query"}).Verdicts)
			}
			done <- n
		}()
	}
	for range 8 {
		if n := <-done; n != 400 {
			t.Errorf("%d verdicts, want 400", n)
		}
	}
}
