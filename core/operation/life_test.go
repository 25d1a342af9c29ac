package operation_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/usage"
	"github.com/eiderdb/eider/core/waittest"
	"pgregory.net/rapid"
)

// life is a rig with a shelf, on which boxes are put one after another.
type life struct {
	*rig
	shelf *shelf
	n     int // boxes
	ends  int // of the process
}

func newLife(t testing.TB) *life {
	t.Helper()
	l := &life{}
	l.rig = newRig(t, nil, func(r *rig, s *operation.Set) {
		if l.shelf == nil {
			l.shelf = newShelf(r)
		}
		l.shelf.declare(r, s)
		declareKinds(r, s)
	})
	l.project("p", eider.ProjectActive)
	l.engine.meets(l.shelf.commit)
	return l
}

// settled waits until nothing is unfinished. Each time the process ends, it is
// started again on what it has left.
func (l *life) settled(t testing.TB) {
	t.Helper()
	for {
		waittest.Until(t, "the calls are settled", func() bool {
			return l.shelf.hasCrashed() || len(l.Audit.Unfinished()) == 0 && l.Held() == 0
		})
		if !l.shelf.hasCrashed() {
			return
		}
		l.ends++
		must(t, l.close())
		must(t, l.open())
		l.shelf.alive()
		l.engine.meets(l.shelf.commit)
		l.Recover()
	}
}

// box puts one box under the faults, and holds what is left of it against what
// was promised.
func (l *life) box(t testing.TB, faults map[string][]string) {
	t.Helper()
	l.n++
	id := fmt.Sprintf("b%d", l.n)
	c := call{op: "put_box", body: `{"id":"` + id + `"}`, key: id}
	l.shelf.wants(faults)
	before, ends := l.Audit.Head().ID, l.ends
	_, err := l.do(c)
	told := !l.shelf.hasCrashed() // the caller of a process that ends is told nothing
	l.settled(t)
	if err != nil && l.ends > ends { // and why it was refused is not known any more
		told = false
	}
	l.shelf.wants(nil)
	rows := l.rows(before)
	final := l.final(t, rows)
	l.whole(t, id, final)
	if told {
		l.asTold(t, err, final)
	}
	l.again(t, c, final)
	l.whole(t, id, l.final(t, l.rows(before)))
	if t.Failed() {
		t.Fatalf("box %s met %v, was told %v and left %+v", id, l.shelf.happened(), err, rows)
	}
}

// final returns the last row of the newest call, nil if it has none. Every
// intent has exactly one final row, every row its place in the chain.
func (l *life) final(t testing.TB, rows []audit.Row) *audit.Row {
	t.Helper()
	finals, intents := map[int64]int{}, map[int64]string{}
	var last *audit.Row
	for i, r := range rows {
		if r.Status == eider.StatusInProgress {
			intents[r.ID] = r.CallID
			continue
		}
		last = &rows[i]
		if r.IntentID == 0 {
			continue
		}
		finals[r.IntentID]++
		if intents[r.IntentID] != r.CallID {
			t.Errorf("row %d ends intent %d, which is not its own", r.ID, r.IntentID)
		}
	}
	for id := range intents {
		if finals[id] != 1 {
			t.Errorf("intent %d has %d final rows", id, finals[id])
		}
	}
	v, err := audit.Verify(context.Background(), l.Store.View(), max(1, l.Audit.Head().ID-20), 0, nil)
	if err != nil || !v.Verified {
		t.Errorf("the chain does not hold: %+v, %v", v, err)
	}
	return last
}

// whole checks that there is a whole box or none, as the final row says, and
// that nothing is held for it.
func (l *life) whole(t testing.TB, id string, final *audit.Row) {
	t.Helper()
	there := final != nil && final.Status == eider.StatusSuccess
	state, file := l.thing(id), exists(l.shelf.path(id))
	if there && (state != "there" || !file) || !there && (state != "" || file) || exists(l.shelf.half(id)) {
		t.Errorf("the row says there %v, the box is %q, its file %v, half of it %v", there, state, file, exists(l.shelf.half(id)))
	}
	l.quiet(t, claimOf(id))
}

// asTold checks that the caller was told what the log says, unless it was told
// that this is not known yet.
func (l *life) asTold(t testing.TB, err error, final *audit.Row) {
	t.Helper()
	code := eider.CodeOf(err)
	switch {
	case code == eider.StorageUnavailable:
	case final == nil:
		t.Errorf("told %v, and there is no row", err)
	case err == nil && final.Status != eider.StatusSuccess, err != nil && final.Code != string(code):
		t.Errorf("told %v, the row says %s %s", err, final.Status, final.Code)
	}
}

// again sends the same request with the same key once more: what was final is
// replayed, anything else is done now.
func (l *life) again(t testing.TB, c call, final *audit.Row) {
	t.Helper()
	before := l.Audit.Head().ID
	answer, err := l.do(c)
	replayed := answer != nil && answer.Replayed
	kept := final != nil && (final.Status == eider.StatusSuccess || final.Code == string(eider.FileTooLarge))
	if replayed != kept || replayed && len(l.rows(before)) > 0 {
		t.Errorf("once more: replayed %v, should be %v, with the rows %s", replayed, kept, told(l.rows(before)))
	}
	if refused := kept && final.Code != ""; refused != (err != nil) || refused && eider.CodeOf(err) != eider.Code(final.Code) {
		t.Errorf("once more: told %v after %s", err, final.Code)
	}
}

// Whatever happens at any one step ends in one final row, and nothing half.
func TestEffectEndsOnceWhateverHappensAtOneStep(t *testing.T) {
	l := newLife(t)
	each := func(steps, fates []string, also map[string][]string) {
		for _, step := range steps {
			for _, what := range fates {
				faults := map[string][]string{}
				for s, f := range also {
					faults[s] = f
				}
				faults[step] = append([]string{what}, faults[step]...)
				l.box(t, faults)
			}
		}
	}
	l.box(t, nil)
	each(steps[:5], stepFates, nil)
	each([]string{"outcome"}, stepFates, nil)
	each(commits, commitFates, nil)
	each([]string{"undo", "undo half", "revert"}, stepFates, map[string][]string{"effect half": {"fail"}})
	each([]string{"commit end"}, commitFates, map[string][]string{"effect done": {"refuse"}})
	each([]string{"applied", "undo", "revert", "commit end"}, []string{"fail", "crash"}, map[string][]string{"effect half": {"crash"}})
	each([]string{"applied", "outcome", "commit end"}, []string{"fail", "crash"}, map[string][]string{"effect done": {"crash"}})
}

// The same for any few things that happen to one call.
func TestEffectEndsOnceWhateverHappens(t *testing.T) {
	l := newLife(t)
	rapid.Check(t, func(rt *rapid.T) {
		faults := map[string][]string{}
		for range rapid.IntRange(1, 4).Draw(rt, "faults") {
			step := rapid.SampledFrom(append(append([]string(nil), steps...), commits...)).Draw(rt, "step")
			fates := stepFates
			if strings.HasPrefix(step, "commit") {
				fates = commitFates
			}
			faults[step] = append(faults[step], rapid.SampledFrom(fates).Draw(rt, "fate"))
		}
		l.box(t, faults)
	})
}

// What cannot be undone or finished is tried again, and stays claimed until it
// is done; nobody else waits for it.
func TestUnfinishedCallKeepsItsClaimUntilItIsSettled(t *testing.T) {
	for step, faults := range map[string]map[string][]string{
		"undo":    {"effect half": {"refuse"}, "undo": {"fail", "panic", "fail"}},
		"revert":  {"effect half": {"refuse"}, "revert": {"panic", "fail", "fail"}},
		"outcome": {"outcome": {"fail", "panic", "fail"}},
		"applied": {"outcome": {"fail"}, "applied": {"panic", "fail"}},
	} {
		t.Run(step, func(t *testing.T) {
			l := newLife(t)
			l.shelf.wants(faults)
			box := call{op: "put_box", body: `{"id":"a"}`, key: "k"}
			if _, err := l.do(box); err == nil {
				t.Fatal("it went well")
			}
			if !l.claimed(claimOf("a")) {
				t.Error("it is not claimed while it is unfinished")
			}
			if _, err := l.do(box); eider.CodeOf(err) != eider.IdempotencyInProgress {
				t.Errorf("once more with the key: %v", err)
			}
			if _, err := l.do(call{op: "effect", id: "p"}); err != nil {
				t.Errorf("another effect: %v", err)
			}
			l.settled(t)
			if met := len(l.shelf.happened()); met != len(faults[step])+len(faults)-1 {
				t.Errorf("it was tried with %v", l.shelf.happened())
			}
			l.quiet(t, claimOf("a"))
			var ends []audit.Row
			for _, r := range l.rows(0) {
				if r.ResourceID == "a" && r.IntentID != 0 {
					ends = append(ends, r)
				}
			}
			want := "put_box failed file_too_large"
			if faults["outcome"] != nil {
				want = "put_box success"
			}
			if got := told(ends); got != want {
				t.Errorf("it ended as %q, want %q", got, want)
			}
		})
	}
}

// A call that fails again and again counts as stuck, and no longer once it is
// settled.
func TestCallThatCannotBeSettledIsStuck(t *testing.T) {
	l := newLife(t)
	l.shelf.wants(map[string][]string{"effect": {"fail"}, "undo": {"fail", "fail", "fail", "fail", "fail", "fail"}})
	if _, err := l.do(call{op: "put_box", body: `{"id":"a"}`}); !errors.Is(err, errFailed) {
		t.Fatal(err)
	}
	waittest.Until(t, "it is stuck", func() bool { return len(l.Stuck()) == 1 })
	for id, err := range l.Stuck() {
		if l.Audit.Unfinished()[0].CallID != id || !errors.Is(err, errFailed) {
			t.Errorf("stuck is %s: %v", id, err)
		}
	}
	l.settled(t)
	waittest.Until(t, "it is no longer stuck", func() bool { return len(l.Stuck()) == 0 })
}

// A version that does not know an unfinished call fences what it had claimed,
// and says so.
func TestUnfinishedCallOfAnUnknownOperationStaysFenced(t *testing.T) {
	l := newLife(t)
	l.shelf.wants(map[string][]string{"effect half": {"crash"}})
	if _, err := l.do(call{op: "put_box", body: `{"id":"a"}`}); err == nil {
		t.Fatal("it went well")
	}
	declare := l.declare
	l.declare = nil
	must(t, l.rig.again())
	if len(l.Stuck()) != 1 || !l.claimed(claimOf("a")) {
		t.Errorf("stuck are %v, claimed %v", l.Stuck(), l.claimed(claimOf("a")))
	}
	l.declare = declare
	l.shelf.alive()
	must(t, l.rig.again())
	l.settled(t)
	l.whole(t, "a", nil)
}

// Operations that share a name are settled each by its own declaration.
func TestUnfinishedCallIsSettledByItsOwnDeclaration(t *testing.T) {
	var undone []string
	crash := errors.New("the process has ended")
	declare := func(_ *rig, s *operation.Set) {
		for _, id := range []string{"upload", "upload_raw"} {
			operation.Effect(s, operation.Spec{Name: "upload", ID: id, Route: "POST /" + id, Role: eider.Admin, Target: "box"},
				operation.Steps[nameless, thing, thing]{
					Intent:  func(context.Context, *operation.Tx, nameless) (thing, error) { return thing{ID: id}, nil },
					Claims:  noClaims,
					Effect:  func(context.Context, thing) error { return crash },
					Applied: func(context.Context, thing) (bool, error) { return false, nil },
					Undo: func(_ context.Context, plan thing) error {
						if crash != nil {
							return crash
						}
						undone = append(undone, id+" of "+plan.ID)
						return nil
					},
					Revert: func(context.Context, *operation.Tx, thing) error { return nil },
				})
		}
	}
	r := newRig(t, nil, declare)
	if _, err := r.do(call{op: "upload_raw"}); !errors.Is(err, crash) {
		t.Fatal(err)
	}
	must(t, r.close())
	crash = nil
	must(t, r.open())
	r.Recover()
	waittest.Until(t, "it is settled", func() bool { return len(r.Audit.Unfinished()) == 0 })
	if got := fmt.Sprint(undone); got != "[upload_raw of upload_raw]" {
		t.Errorf("undone were %s", got)
	}
}

// A call that a crash left unfinished has its room again from the start: what it did
// may be there, and others must not fill the room before that is known.
func TestUnfinishedCallsReserveTheirRoomAgain(t *testing.T) {
	crash := errors.New("the process has ended")
	release := make(chan struct{})
	r := newRig(t, nil, func(_ *rig, s *operation.Set) {
		operation.Effect(s, operation.Spec{Name: "fill", Route: "POST /fill", Role: eider.Admin, Target: "box", Reserve: usage.Amounts{Files: 2, Bytes: 7}},
			operation.Steps[nameless, thing, thing]{
				Intent:  func(context.Context, *operation.Tx, nameless) (thing, error) { return thing{"a", "x"}, nil },
				Claims:  noClaims,
				Effect:  func(context.Context, thing) error { return crash },
				Applied: func(context.Context, thing) (bool, error) { return true, nil },
				Undo:    func(context.Context, thing) error { return crash },
				Outcome: func(context.Context, *operation.Tx, thing) (thing, error) { <-release; return thing{}, nil },
				Revert:  func(context.Context, *operation.Tx, thing) error { return nil },
			})
	})
	if _, err := r.do(call{op: "fill"}); !errors.Is(err, crash) {
		t.Fatal(err)
	}
	must(t, r.again())
	ticket := r.Usage.Reserve("", usage.Amounts{})
	// What is committed is read from memory: the writer waits for the outcome.
	if _, seen, err := ticket.Seen(context.Background(), r.Store.View()); err != nil || seen != (usage.Amounts{Files: 2, Bytes: 7}) {
		t.Errorf("one that asks before it is settled sees %+v, %v", seen, err)
	}
	ticket.Release()
	close(release)
	waittest.Until(t, "it is settled", func() bool { return len(r.Audit.Unfinished()) == 0 })
	r.quiet(t)
}

// The client's context ends with the intent: afterwards it stops the effect,
// and nothing that cleans up behind it.
func TestClientThatLeavesStopsTheEffectAlone(t *testing.T) {
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	r := newRig(t, nil, func(_ *rig, s *operation.Set) {
		operation.Effect(s, operation.Spec{Name: "slow", Route: "POST /slow", Role: eider.Admin, Target: "box"},
			operation.Steps[nameless, thing, thing]{
				Intent: func(context.Context, *operation.Tx, nameless) (thing, error) { return thing{"a", "x"}, nil },
				Claims: noClaims,
				Effect: func(ctx context.Context, _ thing) error {
					leave()
					<-ctx.Done()
					return ctx.Err()
				},
				Applied: func(context.Context, thing) (bool, error) { return false, nil },
				Undo:    func(ctx context.Context, _ thing) error { return ctx.Err() },
				Revert:  func(ctx context.Context, _ *operation.Tx, _ thing) error { return ctx.Err() },
			})
	})
	d := r.Set.Named("slow")
	_, err := r.Do(ctx, d, call{}.request(d))
	if eider.CodeOf(err) != eider.Cancelled {
		t.Errorf("told %v", err)
	}
	if got := told(r.rows(0)); !strings.HasPrefix(got, "slow in_progress, slow failed") {
		t.Errorf("the log got %q", got)
	}
	r.quiet(t)
}
