package metadatatest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
)

// RunStore runs the rules of the store over an engine. open is called with a
// fresh database for each test, in which Close and open again must find what
// was committed.
func RunStore(t *testing.T, fresh func(t *testing.T) Opener) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Opener)
	}{
		{"random groups match plain maps", matchesModel},
		{"of racing rows with one unique value one wins", oneOfRacingWins},
		{"a refusal costs its neighbours nothing", refusalCostsNothing},
		{"a failing statement fails its function alone", failingStatementIsFound},
		{"a row that cannot be encoded fails its function alone", unencodableIsFound},
		{"an item that cannot be sealed fails its function alone", unsealableIsFound},
		{"a failing note is dropped alone", failingNoteIsFound},
		{"memory changes after the commit", memoryChangesAfterCommit},
		{"a full disk is tried again once", fullIsTriedOnce},
		{"a failed fsync ends all writes", failedSyncIsTheEnd},
		{"a dead engine is reopened and writes wait for it", deadEngineComesBack},
		{"a store that closes does not wait for a dead engine", deadEngineAtClose},
		{"a checkpoint without room asks for it", checkpointWithoutRoom},
		{"claims", claims},
		{"notes ride in the next group", notesRide},
		{"notes touch housekeeping alone", notesAreHousekeeping},
		{"a context counts until its function begins", contextCountsBefore},
		{"closing finishes what was taken", closingDrains},
		{"a group is bounded", groupIsBounded},
		{"readers and writers share tables", readersShare},
		{"a try that panics leaves no layer", panickingTry},
		{"an open that fails closes the engine", failedOpenCloses},
		{"what was committed is there again", comesBack},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, fresh(t)) })
	}
}

func wantCode(t testing.TB, what string, err error, code eider.Code) {
	t.Helper()
	if eider.CodeOf(err) != code || err == nil {
		t.Errorf("%s was answered %v, want %s", what, err, code)
	}
}

func oneOfRacingWins(t *testing.T, open Opener) {
	r := newRig(t, open)
	for round, stage := range []func(*metadata.Tx, person) error{
		r.people.Insert,
		func(tx *metadata.Tx, p person) error { return r.people.Put(context.Background(), tx, p) },
	} {
		var all []*waiting
		for i := range 32 {
			p := person{ID: fmt.Sprintf("%d/%d", round, i), Email: fmt.Sprint(round)}
			all = append(all, r.begin(context.Background(), func(tx *metadata.Tx) error {
				tx.Stage(p.ID)
				return stage(tx, p)
			}))
		}
		won := 0
		for _, w := range all {
			var taken *metadata.DuplicateError
			if err := w.wait(); err == nil {
				won++
			} else if !errors.As(err, &taken) {
				t.Errorf("a loser was answered %v", err)
			}
		}
		if won != 1 || r.people.Len() != round+1 {
			t.Errorf("%d won, %d people", won, r.people.Len())
		}
	}
	r.chained()
}

func refusalCostsNothing(t *testing.T, open Opener) {
	r := newRig(t, open)
	commits := 0
	r.engine.next = func(*metadata.Batch) fault { commits++; return fault{} }
	errs := r.group(
		r.add(person{ID: "a", Email: "x"}),
		func(tx *metadata.Tx) error { return errors.Join(r.add(person{ID: "b"})(tx), errRefused) },
		func(tx *metadata.Tx) error { must(t, r.add(person{ID: "c"})(tx)); panic("provoked") },
		r.add(person{ID: "d", Email: "x"}),
		r.add(person{ID: "e"}),
	)
	if errs[0] != nil || !errors.Is(errs[1], errRefused) || errs[2] == nil || errs[3] == nil || errs[4] != nil {
		t.Errorf("answers: %v", errs)
	}
	if commits != 1 {
		t.Errorf("%d commits", commits)
	}
	r.holds("a", "e")
}

// insertPage breaks the promise of Insert where the page is there, so that the
// engine itself refuses the group.
func (r *rig) insertPage(id string) func(*metadata.Tx) error {
	return func(tx *metadata.Tx) error {
		tx.Stage("page " + id)
		return r.pages.Insert(tx, page{id, "new"})
	}
}

func failingStatementIsFound(t *testing.T, open Opener) {
	r := newRig(t, open)
	must(t, r.write(r.insertPage("there")))
	for bad := range 5 {
		var fns []func(*metadata.Tx) error
		for i := range 5 {
			fns = append(fns, r.add(person{ID: fmt.Sprint(bad, i)}))
		}
		fns[bad] = r.insertPage("there")
		for i, err := range r.group(fns...) {
			if i == bad {
				wantCode(t, "the one at fault", err, eider.StorageUnavailable)
			} else if err != nil {
				t.Errorf("function %d beside the bad %d: %v", i, bad, err)
			}
		}
	}
	if r.people.Len() != 20 || len(r.chained()) != 21 || r.store.Ready() != nil {
		t.Errorf("%d people, %v", r.people.Len(), r.store.Ready())
	}
	got, err := r.pages.Get(t.Context(), r.store.View(), "there")
	if err != nil || got.Text != "new" {
		t.Errorf("the page is %v, %v", got, err)
	}
}

func unencodableIsFound(t *testing.T, open Opener) {
	r := newRig(t, open)
	errs := r.group(r.add(person{ID: "a"}), r.add(person{ID: unencodable}), r.add(person{ID: "b"}))
	wantCode(t, "the one at fault", errs[1], eider.StorageUnavailable)
	if errs[0] != nil || errs[2] != nil {
		t.Errorf("its neighbours were answered %v", errs)
	}
	r.holds("a", "b")
}

func unsealableIsFound(t *testing.T, open Opener) {
	r := newRig(t, open)
	errs := r.group(r.add(person{ID: "a"}), func(tx *metadata.Tx) error {
		tx.Stage(struct{}{}) // the ledger takes strings
		return r.people.Put(t.Context(), tx, person{ID: "bad"})
	}, r.add(person{ID: "b"}))
	wantCode(t, "the one at fault", errs[1], eider.StorageUnavailable)
	if errs[0] != nil || errs[2] != nil {
		t.Errorf("its neighbours were answered %v", errs)
	}
	r.holds("a", "b")
}

func failingNoteIsFound(t *testing.T, open Opener) {
	r := newRig(t, open, func(o *metadata.Options) { o.NoteEvery = time.Hour })
	must(t, r.write(r.insertPage("there")))
	release := r.hold()
	for _, id := range []string{"a", "b", "there", "c", "d"} {
		r.store.Note(func(tx *metadata.Tx) error { return r.pages.Insert(tx, page{id, "noted"}) })
	}
	w := r.begin(t.Context(), r.add(person{ID: "p"}))
	until(t, "the write is queued", func() bool { return r.store.Waiting() == 1 })
	release()
	must(t, w.wait())
	must(t, r.write(func(*metadata.Tx) error { return nil })) // the group is over
	for _, id := range []string{"a", "b", "c", "d"} {
		if _, err := r.pages.Get(t.Context(), r.store.View(), id); err != nil {
			t.Errorf("note %s: %v", id, err)
		}
	}
	r.holds("p")
}

func memoryChangesAfterCommit(t *testing.T, open Opener) {
	r := newRig(t, open)
	ctx := context.Background()
	seen := func() bool { _, err := r.people.Get(ctx, r.store.View(), "a"); return err == nil }
	var within, before, after bool
	r.engine.next = func(*metadata.Batch) fault { before = seen(); return fault{} }
	must(t, r.write(func(tx *metadata.Tx) error {
		tx.After(func() { after = seen() })
		err := r.add(person{ID: "a"})(tx)
		within = seen()
		return err
	}))
	if within || before || !after || !seen() {
		t.Errorf("seen in the function %v, before the commit %v, after it %v, by its caller %v", within, before, after, seen())
	}
}

func fullIsTriedOnce(t *testing.T, open Opener) {
	r := newRig(t, open)
	asked, commits, free := 0, 0, 0
	room := true
	r.full = func() bool { asked++; return room }
	r.engine.next = func(*metadata.Batch) fault {
		if commits++; commits > free {
			return fault{}
		}
		return fault{before: fmt.Errorf("%w: %w", metadata.ErrRolledBack, metadata.ErrFull)}
	}
	for _, c := range []struct {
		name           string
		full           int // commits that meet a full disk
		room           bool
		asked, commits int
		fails          bool
	}{
		{"room is made", 1, true, 1, 2, false},
		{"room is made and is not enough", 2, true, 1, 2, true},
		{"no room is made", 1, false, 1, 1, true},
	} {
		asked, commits, free, room = 0, 0, c.full, c.room
		n := r.people.Len()
		errs := r.group(r.add(person{ID: c.name + "1"}), func(*metadata.Tx) error { return errRefused }, r.add(person{ID: c.name + "2"}))
		if asked != c.asked || commits != c.commits {
			t.Errorf("%s: asked %d times, %d commits", c.name, asked, commits)
		}
		if c.fails {
			for _, err := range errs {
				wantCode(t, c.name, err, eider.StorageFull)
			}
		} else if errs[0] != nil || !errors.Is(errs[1], errRefused) || errs[2] != nil || r.people.Len() != n+2 {
			t.Errorf("%s: %v", c.name, errs)
		}
		if r.store.Ready() != nil {
			t.Errorf("%s: not ready: %v", c.name, r.store.Ready())
		}
	}
	r.chained()
}

func failedSyncIsTheEnd(t *testing.T, open Opener) {
	r := newRig(t, open)
	must(t, r.write(r.add(person{ID: "a"})))
	commits := 0
	r.engine.next = func(*metadata.Batch) fault {
		commits++
		return fault{before: fmt.Errorf("%w: %w", metadata.ErrRolledBack, metadata.ErrSync)}
	}
	r.store.Note(func(tx *metadata.Tx) error { return r.pages.Insert(tx, page{ID: "lost"}) })
	for _, err := range r.group(r.add(person{ID: "b"}), r.add(person{ID: "c"})) {
		wantCode(t, "a write of the group", err, eider.StorageUnavailable)
		if !errors.Is(err, metadata.ErrSync) {
			t.Errorf("the cause is lost: %v", err)
		}
	}
	if err := <-r.fatal; !errors.Is(err, metadata.ErrSync) {
		t.Errorf("told to be fatal: %v", err)
	}
	wantCode(t, "a later write", r.write(r.add(person{ID: "d"})), eider.StorageUnavailable)
	wantCode(t, "readiness", r.store.Ready(), eider.StorageUnavailable)
	wantCode(t, "the probe", r.store.Probe(t.Context()), eider.StorageUnavailable)
	if commits != 1 || r.engine.opened != 0 || len(r.fatal) != 0 {
		t.Errorf("%d commits, %d times opened, %d times fatal", commits, r.engine.opened, 1+len(r.fatal))
	}
	r.engine.next = nil
	r.again()
	r.holds("a")
}

func deadEngineComesBack(t *testing.T, open Opener) {
	r := newRig(t, open)
	must(t, r.write(r.add(person{ID: "a"})))
	for i, meets := range []fault{
		{before: errProvoked, dead: true},
		{after: errProvoked, dead: true},
		{before: fmt.Errorf("%w: %w", metadata.ErrRolledBack, errProvoked), dead: true},
	} {
		r.engine.next = func(*metadata.Batch) fault { r.engine.next = nil; return meets }
		r.engine.setStays(errProvoked)
		first := r.begin(t.Context(), r.add(person{ID: fmt.Sprint("first", i)}))
		until(t, "the store is down", func() bool { return r.store.Ready() != nil })
		second := r.begin(t.Context(), r.add(person{ID: fmt.Sprint("second", i)}))
		until(t, "the write is queued", func() bool { return r.store.Waiting() == 1 })
		r.engine.setStays(nil)
		if err := first.wait(); meets.after != nil && err != nil {
			t.Errorf("what is durable was answered %v", err)
		} else if meets.before != nil {
			wantCode(t, "what is lost", err, eider.StorageUnavailable)
		}
		must(t, second.wait())
	}
	if len(r.fatal) > 0 {
		t.Errorf("told to be fatal: %v", <-r.fatal)
	}
	r.holds("a", "second0", "first1", "second1", "second2")
}

func deadEngineAtClose(t *testing.T, open Opener) {
	r := &rig{t: t, open: open}
	r.start()
	r.engine.next = func(*metadata.Batch) fault { return fault{before: errProvoked, dead: true} }
	r.engine.setStays(errProvoked)
	w := r.begin(t.Context(), r.add(person{ID: "a"}))
	until(t, "the store is down", func() bool { return r.store.Ready() != nil })
	must(t, r.store.Close())
	wantCode(t, "the write", w.wait(), eider.StorageUnavailable)
	if err := <-r.fatal; !errors.Is(err, errProvoked) {
		t.Errorf("told to be fatal: %v", err)
	}
}

func checkpointWithoutRoom(t *testing.T, open Opener) {
	r := newRig(t, open)
	asked := make(chan struct{}, 8)
	r.full = func() bool { asked <- struct{}{}; return true }
	r.engine.maintained = func() error {
		r.engine.maintained = nil
		return fmt.Errorf("checkpoint: %w", metadata.ErrFull)
	}
	must(t, r.write(r.add(person{ID: "a"})))
	<-asked
	must(t, r.write(r.add(person{ID: "b"})))
	r.holds("a", "b")
}

func notesRide(t *testing.T, open Opener) {
	r := newRig(t, open, func(o *metadata.Options) { o.NoteEvery = time.Hour })
	commits := 0
	r.engine.next = func(*metadata.Batch) fault { commits++; return fault{} }
	note := func(id string) {
		r.store.Note(func(tx *metadata.Tx) error { return r.pages.Put(context.Background(), tx, page{ID: id}) })
	}
	has := func(id string) bool {
		_, err := r.pages.Get(context.Background(), r.store.View(), id)
		return err == nil
	}
	note("a")
	note("b")
	must(t, r.write(r.add(person{ID: "p"})))
	if !has("a") || !has("b") || commits != 1 {
		t.Errorf("a %v, b %v, %d commits", has("a"), has("b"), commits)
	}
	note("c")
	r.again() // closing takes what is noted with it
	if !has("c") {
		t.Error("a note is lost at a clean end")
	}
	if items := r.chained(); len(items) != 1 {
		t.Errorf("notes left items: %v", items)
	}
	must(t, r.store.Close())
	r.start(func(o *metadata.Options) { o.NoteEvery = time.Millisecond })
	note("d")
	until(t, "a note alone is committed", func() bool { return has("d") })
}

func notesAreHousekeeping(t *testing.T, open Opener) {
	r := newRig(t, open, func(o *metadata.Options) { o.NoteEvery = time.Hour })
	must(t, r.write(r.add(person{ID: "p", Email: "x"})))
	for _, note := range []func(*metadata.Tx) error{
		r.add(person{ID: "q"}),
		func(tx *metadata.Tx) error { return r.people.Delete(context.Background(), tx, "p") },
		func(tx *metadata.Tx) error { return r.people.Insert(tx, person{ID: "r"}) },
	} {
		r.store.Note(note)
	}
	must(t, r.write(r.add(person{ID: "s"})))
	r.holds("p", "s")
}

func contextCountsBefore(t *testing.T, open Opener) {
	r := newRig(t, open)
	gone, cancel := context.WithCancel(t.Context())
	release := r.hold()
	ran := false
	w := r.begin(gone, func(tx *metadata.Tx) error { ran = true; return r.add(person{ID: "before"})(tx) })
	until(t, "the write is queued", func() bool { return r.store.Waiting() == 1 })
	cancel()
	release()
	if err := w.wait(); !errors.Is(err, context.Canceled) || ran {
		t.Errorf("cancelled before: %v, ran %v", err, ran)
	}
	if _, err := r.store.Write(gone, r.add(person{ID: "gone"})); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before the call: %v", err)
	}
	within, cancel := context.WithCancel(t.Context())
	_, err := r.store.Write(within, func(tx *metadata.Tx) error { cancel(); return r.add(person{ID: "within"})(tx) })
	must(t, err)
	// A group that is split runs its functions again: they have begun all the same.
	split, cancel := context.WithCancel(t.Context())
	r.engine.next = func(*metadata.Batch) fault {
		r.engine.next = nil
		return fault{before: fmt.Errorf("%w: once", metadata.ErrRolledBack)}
	}
	release = r.hold()
	w = r.begin(split, func(tx *metadata.Tx) error { cancel(); return r.add(person{ID: "split"})(tx) })
	other := r.begin(t.Context(), r.add(person{ID: "other"}))
	until(t, "both are queued", func() bool { return r.store.Waiting() == 2 })
	release()
	must(t, w.wait())
	must(t, other.wait())
	r.holds("within", "split", "other")
}

func closingDrains(t *testing.T, open Opener) {
	r := &rig{t: t, open: open}
	r.start()
	release := r.hold()
	var all []*waiting
	var ids []string
	for i := range 5 {
		ids = append(ids, fmt.Sprint(i))
		all = append(all, r.begin(t.Context(), r.add(person{ID: ids[i]})))
	}
	until(t, "all are queued", func() bool { return r.store.Waiting() == 5 })
	closed := make(chan error, 2)
	go func() { closed <- r.store.Close() }()
	go func() { closed <- r.store.Close() }()
	until(t, "new writes are refused", func() bool {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel() // it may have come too early and be queued
		queued := r.store.Waiting()
		late := r.begin(ctx, r.add(person{ID: "late"}))
		until(t, "the write is queued or refused", func() bool { return late.over() || r.store.Waiting() > queued })
		return late.over() && eider.CodeOf(late.err) == eider.ShuttingDown
	})
	release()
	for _, w := range all {
		must(t, w.wait())
	}
	must(t, <-closed)
	must(t, <-closed)
	if r.engine.closed != 1 {
		t.Errorf("the engine was closed %d times", r.engine.closed)
	}
	wantCode(t, "a write after Close", r.write(r.add(person{ID: "late"})), eider.ShuttingDown)
	r.start()
	defer r.store.Close()
	for _, id := range ids {
		if _, err := r.people.Get(t.Context(), r.store.View(), id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}

func groupIsBounded(t *testing.T, open Opener) {
	r := newRig(t, open, func(o *metadata.Options) { o.MaxGroup = 4 })
	release := r.hold()
	var all []*waiting
	for i := range 10 {
		all = append(all, r.begin(t.Context(), r.add(person{ID: fmt.Sprint(i)})))
	}
	until(t, "all are queued", func() bool { return r.store.Waiting() == 10 })
	release()
	sizes := map[int]int{}
	for _, w := range all {
		must(t, w.wait())
		sizes[w.receipt.Group]++
	}
	if sizes[4] != 8 || sizes[2] != 2 {
		t.Errorf("the groups' sizes are %v", sizes)
	}
}

func readersShare(t *testing.T, open Opener) {
	r := newRig(t, open)
	ctx := t.Context()
	ended := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				var last *person
				r.people.Scan(metadata.Range[person]{Order: byN}, func(p *person) bool {
					if last != nil && last.N > p.N {
						t.Errorf("%v comes before %v", last, p)
					}
					last = p
					return true
				})
				// The value moves between two rows; whoever asks finds it at one.
				if p, err := r.people.By(ctx, r.store.View(), byEmail, "x"); last != nil && (err != nil || p.Email != "x") {
					t.Errorf("found by x: %v, %v", p, err)
				}
				_, _ = r.pages.Get(ctx, r.store.View(), "p")
			}
		})
	}
	for i := range int64(50) {
		must(t, r.write(func(tx *metadata.Tx) error {
			tx.Stage("swap")
			owner, other := "a", "b"
			if i%2 == 1 {
				owner, other = "b", "a"
			}
			return errors.Join(r.people.Put(ctx, tx, person{ID: other, N: i}),
				r.people.Put(ctx, tx, person{ID: owner, Email: "x", N: 50 - i}), r.pages.Put(ctx, tx, page{"p", fmt.Sprint(i)}))
		}))
	}
	close(ended)
	readers.Wait()
	r.holds("a", "b")
}

func panickingTry(t *testing.T, open Opener) {
	r := newRig(t, open)
	must(t, r.write(func(tx *metadata.Tx) error {
		func() {
			defer func() { _ = recover() }()
			_ = tx.Try(func() error {
				must(t, r.add(person{ID: "dropped"})(tx))
				panic("provoked")
			})
		}()
		return r.add(person{ID: "kept"})(tx)
	}))
	r.holds("kept")
}

func failedOpenCloses(t *testing.T, open Opener) {
	r := newRig(t, open)
	must(t, r.store.Close())
	for _, c := range []struct {
		name   string
		sealer metadata.Sealer
		known  []metadata.Migration
		want   error
	}{
		{"newer database", &ledger{}, nil, metadata.ErrNewer},
		{"head that cannot be read", unreadable{}, []metadata.Migration{rigTables}, errProvoked},
	} {
		engine := &faulty{inner: open(t)}
		_, err := metadata.Open(t.Context(), metadata.Options{Engine: engine, Sealer: c.sealer, Migrations: c.known})
		if !errors.Is(err, c.want) || engine.closed != 1 {
			t.Errorf("%s: %v, closed %d times", c.name, err, engine.closed)
		}
	}
}

type unreadable struct{ metadata.Sealer }

func (unreadable) Load(context.Context, *metadata.View) error { return errProvoked }

func comesBack(t *testing.T, open Opener) {
	r := newRig(t, open)
	ctx := t.Context()
	must(t, r.write(r.add(person{ID: "a", Email: "x", N: 1})))
	must(t, r.write(r.add(person{ID: "b", N: -1 << 63})))
	must(t, r.write(func(tx *metadata.Tx) error { return r.people.Delete(ctx, tx, "a") }))
	must(t, r.write(r.add(person{ID: "c", Email: "x", N: 1<<63 - 1})))
	r.again()
	r.holds("b", "c")
	got, err := r.people.By(ctx, r.store.View(), byEmail, "x")
	if err != nil || got != (person{"c", "x", 1<<63 - 1}) {
		t.Errorf("by its email: %v, %v", got, err)
	}
	must(t, r.store.Probe(ctx))
}
