package wasm

import "time"

const (
	suspectFor  = time.Minute
	maxSuspects = 1024
)

// suspects are the callers whose calls have cost guests within the last minute, and what
// follows from that (docs/decisions/0047):
//
//   - A suspect's calls are given guests one after the other. It can keep one busy and
//     have one after the other thrown away; the others are left to everybody else.
//   - Deaths in a row fail the plugin only if they are of several callers, or if none of
//     its guests has ever answered: what one caller sends must not turn it off for all.
//   - While it is failed those are refused who have died in this row, each but once a
//     minute. Whoever has not is asked about, and the first answer ends it.
//
// A pool's lock is held around each method.
type suspects struct {
	now func() time.Time

	by      map[string]*suspect
	row     int  // counts the rows of deaths: an answer ends one
	deaths  int  // in this row
	callers int  // who have died in it
	proven  bool // a guest has answered a call
	failed  bool
}

type suspect struct {
	turn chan struct{} // holds one while a call of this caller has a guest or waits for one
	last time.Time     // when a call of it cost a guest, or when it was let in to try
	row  int           // in which it has died; 0: in none
}

func newSuspects() suspects {
	return suspects{now: time.Now, by: map[string]*suspect{}, row: 1}
}

// caller is who answers for what the event holds: the project, since who can act in it
// decides what its calls look like, else the actor.
func (e *Event) caller() string {
	switch {
	case e.Project != nil:
		return "project " + e.Project.ID
	case e.Actor.ProjectID != "":
		return "project " + e.Actor.ProjectID
	}
	return e.Actor.Type + " " + e.Actor.ID
}

// admit returns what a call of the caller has to wait for, nil for none; or false where
// it is refused.
func (s *suspects) admit(caller string) (turn chan struct{}, ok bool) {
	one, known := s.by[caller]
	if !known {
		return nil, !s.failed || s.room()
	}
	if s.failed && one.row == s.row {
		if s.now().Sub(one.last) < suspectFor {
			return nil, false
		}
		one.last = s.now()
		return one.turn, true
	}
	if s.now().Sub(one.last) < suspectFor || len(one.turn) > 0 {
		return one.turn, true
	}
	if one.row != s.row { // or its next death would count as another caller's
		delete(s.by, caller)
	}
	return nil, true
}

// cost notes that a call of the caller has cost a guest.
func (s *suspects) cost(caller string) *suspect {
	one, known := s.by[caller]
	if !known {
		one = &suspect{turn: make(chan struct{}, 1)}
		if s.room() {
			s.by[caller] = one
		}
	}
	one.last = s.now()
	return one
}

// room reports whether another suspect can be kept, when those are gone that are none
// any more.
func (s *suspects) room() bool {
	if len(s.by) < maxSuspects {
		return true
	}
	for caller, one := range s.by {
		if s.now().Sub(one.last) >= suspectFor {
			delete(s.by, caller)
		}
	}
	return len(s.by) < maxSuspects
}

// died notes that a guest has died of the caller's call, and reports whether the plugin
// has failed by that.
func (s *suspects) died(caller string) bool {
	one := s.cost(caller)
	if one.row != s.row {
		one.row = s.row
		s.callers++
	}
	s.deaths++
	before := s.failed
	s.failed = before || s.deaths >= deathsAllowed && (s.callers > 1 || !s.proven)
	return s.failed && !before
}

// answered notes that a guest has answered somebody.
func (s *suspects) answered() {
	s.proven = true
	if s.deaths > 0 {
		s.row, s.deaths, s.callers, s.failed = s.row+1, 0, 0, false
	}
}
