package metadatatest

import (
	"context"
	"errors"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
)

// claims takes resources in turns, each with another call's in the way or not.
func claims(t *testing.T, open Opener) {
	shared := func(resource string) metadata.Claim { return metadata.Claim{Resource: resource} }
	alone := func(resource string) metadata.Claim { return metadata.Claim{Resource: resource, Exclusive: true} }
	for _, c := range []struct {
		name   string
		first  []metadata.Claim // of call 1, in a transaction each
		second []metadata.Claim // of call 2
		free   bool
	}{
		{"others", []metadata.Claim{alone("a")}, []metadata.Claim{alone("b")}, true},
		{"shared beside shared", []metadata.Claim{shared("a")}, []metadata.Claim{shared("a")}, true},
		{"exclusive beside shared", []metadata.Claim{shared("a")}, []metadata.Claim{alone("a")}, false},
		{"shared beside exclusive", []metadata.Claim{alone("a")}, []metadata.Claim{shared("a")}, false},
		{"exclusive beside exclusive", []metadata.Claim{alone("a")}, []metadata.Claim{alone("a")}, false},
		{"one of two", []metadata.Claim{alone("a")}, []metadata.Claim{shared("b"), shared("a")}, false},
		{"first of two claims", []metadata.Claim{alone("a"), alone("b")}, []metadata.Claim{shared("a")}, false},
		{"second of two claims", []metadata.Claim{alone("a"), alone("b")}, []metadata.Claim{shared("b")}, false},
		{"shared after exclusive", []metadata.Claim{alone("a"), shared("a")}, []metadata.Claim{shared("a")}, false},
	} {
		r := newRig(t, open)
		claim := func(call string, claims ...metadata.Claim) func(*metadata.Tx) error {
			return func(tx *metadata.Tx) error { tx.Stage(call); return tx.Claim(call, claims...) }
		}
		verify := func(when string, err error, free bool) {
			t.Helper()
			if free && err != nil || !free && eider.CodeOf(err) != eider.OperationInProgress {
				t.Errorf("%s, %s: %v, should be free %v", c.name, when, err, free)
			}
		}
		var one []func(*metadata.Tx) error
		for _, f := range c.first {
			one = append(one, claim("1", f))
		}
		errs := r.group(append(one, claim("2", c.second...))...)
		verify("in the group", errs[len(errs)-1], c.free)
		must(t, r.write(release("2")))
		verify("afterwards", r.write(claim("2", c.second...)), c.free)
		must(t, r.write(release("2")))
		verify("plain writes", r.write(mustBeFree(c.second...)), !anyExclusive(c.first, c.second))
		for _, f := range c.first { // a call never stands in its own way
			must(t, r.write(claim("1", f)))
		}
		errs = r.group(release("1"), claim("2", c.second...), release("2"))
		verify("released in the group", errors.Join(errs...), true)
		errs = r.group(claim("1", c.first...), release("1"), claim("2", c.second...), release("2"))
		verify("claimed and released in the group", errors.Join(errs...), true)
		verify("released", r.write(claim("3", append(exclusive(c.first), exclusive(c.second)...)...)), true)
		must(t, r.write(release("3")))
		must(t, r.store.Close())
	}
	claimsFollowTheirLayer(t, open)
}

func release(call string) func(*metadata.Tx) error {
	return func(tx *metadata.Tx) error { tx.Release(call); return nil }
}

func mustBeFree(claims ...metadata.Claim) func(*metadata.Tx) error {
	return func(tx *metadata.Tx) error {
		for _, c := range claims {
			if err := tx.MustBeFree(c.Resource); err != nil {
				return err
			}
		}
		return nil
	}
}

func exclusive(claims []metadata.Claim) []metadata.Claim {
	var all []metadata.Claim
	for _, c := range claims {
		all = append(all, metadata.Claim{Resource: c.Resource, Exclusive: true})
	}
	return all
}

// anyExclusive reports whether one of the held claims keeps plain writes off
// what is wanted.
func anyExclusive(held, wanted []metadata.Claim) bool {
	for _, h := range held {
		for _, w := range wanted {
			if h.Resource == w.Resource && h.Exclusive {
				return true
			}
		}
	}
	return false
}

// A claim that was not committed holds nothing, whatever kept it from that; one
// of an earlier process holds again once it is reclaimed.
func claimsFollowTheirLayer(t *testing.T, open Opener) {
	r := newRig(t, open)
	project := metadata.Claim{Resource: "project:1", Exclusive: true}
	take := func(call string) func(*metadata.Tx) error {
		return func(tx *metadata.Tx) error { tx.Stage(call); return tx.Claim(call, project) }
	}
	free := func(when string) {
		t.Helper()
		if err := r.write(mustBeFree(project)); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	held := func(when string) {
		t.Helper()
		wantCode(t, when, r.write(take("other")), eider.OperationInProgress)
	}
	refuse := func(tx *metadata.Tx) error { return errors.Join(take("1")(tx), errRefused) }
	_ = r.group(refuse)
	free("refused")
	must(t, r.write(func(tx *metadata.Tx) error { _ = tx.Try(func() error { return refuse(tx) }); return nil }))
	free("refused in a try")
	r.engine.next = func(*metadata.Batch) fault { r.engine.next = nil; return fault{before: errProvoked} }
	wantCode(t, "lost", r.write(take("1")), eider.StorageUnavailable)
	free("lost")
	r.engine.next = func(*metadata.Batch) fault { r.engine.next = nil; return fault{after: errProvoked} }
	must(t, r.write(take("1")))
	held("kept although the commit returned an error")
	r.engine.next = func(*metadata.Batch) fault { r.engine.next = nil; return fault{before: errProvoked} }
	wantCode(t, "lost", r.write(func(tx *metadata.Tx) error { tx.Stage("end"); return release("1")(tx) }), eider.StorageUnavailable)
	held("a release that was lost")
	must(t, r.write(release("1")))
	free("released")
	r.store.Reclaim("old", []metadata.Claim{project})
	held("reclaimed")
	must(t, r.write(func(tx *metadata.Tx) error {
		_ = tx.Try(func() error { tx.Release("old"); return errRefused })
		return r.people.Put(context.Background(), tx, person{ID: "p"})
	}))
	held("a release that was refused")
	must(t, r.write(release("old")))
	free("released after a start")
}
