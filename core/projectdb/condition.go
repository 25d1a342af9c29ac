package projectdb

import (
	"fmt"
	"time"

	"github.com/eiderdb/eider"
)

// Condition says whether a project's workers keep dying.
type Condition struct {
	Degraded bool
	Reason   string // for people; empty if it is not degraded
}

// A project is degraded after so many deaths of its workers within the time, and
// until a worker has worked again and the time has passed.
const (
	degradedAfter  = 3
	degradedWithin = time.Minute
)

// The pauses after deaths with no work done between them: the first ones cost a
// project nothing, a database that kills whatever opens it is tried ever less often.
const (
	firstPause   = 500 * time.Millisecond
	longestPause = time.Minute
	// waitAtMost is how long a statement waits for the end of a pause before it is
	// refused.
	waitAtMost = time.Second
)

// illness is what is remembered of a project whose workers died.
type illness struct {
	deaths  []time.Time // the last ones
	inARow  int         // with no work done between
	until   time.Time   // of the pause
	reason  string
	refusal *eider.Error // what a statement is told in the pause
}

// died remembers a death.
func (i *illness) died(now time.Time, reason string, refusal *eider.Error) {
	i.deaths = append(i.deaths, now)
	if len(i.deaths) > degradedAfter {
		i.deaths = i.deaths[1:]
	}
	i.inARow++
	i.reason, i.refusal = reason, refusal
	if over := i.inARow - degradedAfter; over >= 0 {
		i.until = now.Add(min(firstPause<<min(over, 10), longestPause))
	}
}

// worked forgets the pause: a worker has done what it was asked for.
func (i *illness) worked() { i.inARow, i.until = 0, time.Time{} }

func (i *illness) degraded(now time.Time) bool {
	return i.inARow >= degradedAfter || len(i.deaths) == degradedAfter && now.Sub(i.deaths[0]) < degradedWithin
}

// over reports that there is nothing to be remembered.
func (i *illness) over(now time.Time) bool {
	return i.inARow == 0 && now.Sub(i.deaths[len(i.deaths)-1]) >= degradedWithin
}

// pause is how long no worker is to be started, and what is told meanwhile.
func (i *illness) pause(now time.Time) (time.Duration, error) {
	left := i.until.Sub(now)
	if left <= waitAtMost {
		return max(left, 0), nil
	}
	e := eider.Errorf(i.refusal.Code, "the project is degraded: %s; it is tried again in %d s", i.reason, int(left.Seconds())+1)
	e.RetryAfter = left
	return left, e
}

// Condition returns the state of a project.
func (s *Supervisor) Condition(uid string) Condition {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.ill[uid]
	if i == nil || !i.degraded(time.Now()) {
		return Condition{}
	}
	return Condition{true, fmt.Sprintf("its worker ended %d times: %s", max(i.inARow, len(i.deaths)), i.reason)}
}

// Degraded returns how many projects are.
func (s *Supervisor) Degraded() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, i := range s.ill {
		if i.degraded(now) {
			n++
		}
	}
	return n
}

// died remembers that a worker of the project has died.
func (s *Supervisor) died(uid, reason string, refusal *eider.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.ill[uid]
	if i == nil {
		i = &illness{}
		s.ill[uid] = i
	}
	now := time.Now()
	before := i.degraded(now)
	i.died(now, reason, refusal)
	if i.degraded(now) && !before {
		s.Log.Error("a project is degraded", "project_uid", uid, "reason", reason)
	}
}

// worked remembers that a worker of the project has done what it was asked for.
func (s *Supervisor) worked(uid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.ill[uid]; i != nil {
		i.worked()
	}
}

// recover forgets what is over.
func (s *Supervisor) recover(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for uid, i := range s.ill {
		if i.over(now) {
			delete(s.ill, uid)
			if len(i.deaths) == degradedAfter {
				s.Log.Info("a project is no longer degraded", "project_uid", uid)
			}
		}
	}
}
