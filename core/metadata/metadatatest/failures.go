package metadatatest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
)

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
