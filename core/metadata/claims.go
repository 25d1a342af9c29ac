package metadata

import (
	"sync"

	"github.com/eiderdb/eider"
)

// Claim is a call's hold on a resource while its effect is under way. Resource
// is a type and an id, such as "project:0197...". A shared claim lets others
// share; an exclusive one lets nobody else in.
type Claim struct {
	Resource  string `json:"resource"`
	Exclusive bool   `json:"exclusive,omitempty"`
}

type claimChange struct {
	call    string
	claims  []Claim
	release bool
}

// claims holds what unfinished calls have claimed. It is memory only: after a
// start it is rebuilt from the log's unfinished rows.
type claims struct {
	mu     sync.Mutex
	held   map[string]map[string]bool // resource -> call -> exclusive
	byCall map[string][]Claim
}

func newClaims() *claims {
	return &claims{held: map[string]map[string]bool{}, byCall: map[string][]Claim{}}
}

func (c *claims) take(call string, wanted []Claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byCall[call] = append(c.byCall[call], wanted...)
	for _, w := range wanted {
		if c.held[w.Resource] == nil {
			c.held[w.Resource] = map[string]bool{}
		}
		c.held[w.Resource][call] = c.held[w.Resource][call] || w.Exclusive
	}
}

func (c *claims) release(call string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.byCall[call] {
		delete(c.held[w.Resource], call)
		if len(c.held[w.Resource]) == 0 {
			delete(c.held, w.Resource)
		}
	}
	delete(c.byCall, call)
}

// blocks reports whether the hold of a call other than this one keeps the claim
// out. Calls in released have let go in a transaction under way.
func (c *claims) blocks(call string, w Claim, released map[string]bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for holder, exclusive := range c.held[w.Resource] {
		if holder != call && !released[holder] && (exclusive || w.Exclusive) {
			return true
		}
	}
	return false
}

// Claim holds the resources for the call from this transaction's commit until
// Release. It returns operation_in_progress if another call holds one of them.
// What a call claims adds to what it holds, and never weakens it.
func (tx *Tx) Claim(call string, wanted ...Claim) error {
	for _, w := range wanted {
		if tx.blocked(call, w) {
			return eider.Errorf(eider.OperationInProgress, "another operation is changing this resource")
		}
	}
	l := tx.top()
	l.claims = append(l.claims, claimChange{call: call, claims: wanted})
	return nil
}

// blocked reports whether a claim of another call, held or staged before now,
// stands against w.
func (tx *Tx) blocked(call string, w Claim) bool {
	released := map[string]bool{}
	for i := len(tx.layers) - 1; i >= 0; i-- {
		changes := tx.layers[i].claims
		for j := len(changes) - 1; j >= 0; j-- { // newest first: a release hides what it ends
			change := changes[j]
			if change.release {
				released[change.call] = true
			} else if change.call != call && !released[change.call] && conflicts(change.claims, w) {
				return true
			}
		}
	}
	return tx.store.claims.blocks(call, w, released)
}

func conflicts(held []Claim, w Claim) bool {
	for _, h := range held {
		if h.Resource == w.Resource && (h.Exclusive || w.Exclusive) {
			return true
		}
	}
	return false
}

// MustBeFree returns operation_in_progress if a call with an effect holds the
// resource: a plain write may not change it meanwhile.
func (tx *Tx) MustBeFree(resource string) error {
	if tx.blocked("", Claim{Resource: resource}) {
		return eider.Errorf(eider.OperationInProgress, "another operation is changing this resource")
	}
	return nil
}

// Release ends the call's claims when this transaction commits.
func (tx *Tx) Release(call string) {
	l := tx.top()
	l.claims = append(l.claims, claimChange{call: call, release: true})
}

// Claimed reports whether an unfinished call holds the resource now. Whatever a call
// that held it before has changed is in the tables by then.
func (s *Store) Claimed(resource string) bool {
	return s.claims.blocks("", Claim{Resource: resource, Exclusive: true}, nil)
}

// Reclaim takes the claims of an unfinished call again, at start.
func (s *Store) Reclaim(call string, held []Claim) { s.claims.take(call, held) }
