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
		{"what is written later shares a group", laterShares},
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

func laterShares(t *testing.T, open Opener) {
	r := newRig(t, open, func(o *metadata.Options) { o.LaterEvery = time.Hour })
	commits := 0
	r.engine.next = func(*metadata.Batch) fault { commits++; return fault{} }
	var all sync.WaitGroup
	later := func(id string, want error) {
		all.Go(func() {
			_, err := r.store.WriteLater(context.Background(), func(tx *metadata.Tx) error { return errors.Join(r.add(person{ID: id})(tx), want) })
			if !errors.Is(err, want) {
				t.Errorf("%s was answered %v", id, err)
			}
		})
	}
	queued := func(n int) {
		until(t, "they are queued", func() bool { return r.store.Waiting() == n })
	}

	release := r.hold()
	later("a", nil)
	later("b", nil)
	later("c", errRefused)
	queued(3)
	w := r.begin(context.Background(), r.add(person{ID: "p"}))
	queued(4)
	release()
	must(t, w.wait())
	all.Wait()
	if commits != 1 {
		t.Errorf("%d commits", commits)
	}
	r.holds("a", "b", "p")

	release = r.hold()
	later("d", nil)
	queued(1)
	release()
	r.store.View().Settle(t.Context())
	r.holds("a", "b", "p", "d")
	all.Wait()
	r.store.View().Settle(t.Context()) // for nothing
	if commits != 2 {
		t.Errorf("%d commits", commits)
	}

	release = r.hold()
	later("e", nil)
	queued(1)
	release()
	r.again() // closing takes it with it
	all.Wait()
	r.holds("a", "b", "p", "d", "e")

	must(t, r.store.Close())
	r.start(func(o *metadata.Options) { o.LaterEvery = time.Millisecond })
	later("f", nil)
	all.Wait()
	r.holds("a", "b", "p", "d", "e", "f")
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
