package projectdb

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"github.com/eiderdb/eider"
)

// waiter is a statement that waits until its project may be open: max_open others
// are, and all of them are in use. Who came first is next, whoever is quicker.
type waiter struct {
	project Project
	turn    chan struct{} // closed once held is set, or the supervisor has closed
	held    *slot
	mine    bool // it fills the slot
}

// turn finds the project's slot, or makes one, which is then the caller's to fill.
// Where there is no room for it, it waits for some, for a while.
func (s *Supervisor) turn(ctx context.Context, p Project) (held *slot, mine bool, err error) {
	for {
		held, mine, pause, wait, err := s.take(p)
		switch {
		case err != nil || held != nil:
			return held, mine, err
		case wait != nil:
			return s.wait(ctx, p, wait)
		}
		select {
		case <-ctx.Done():
			return nil, false, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// take is turn without waiting: it tells for how long, or puts the caller into the
// queue.
func (s *Supervisor) take(p Project) (held *slot, mine bool, pause time.Duration, wait *waiter, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false, 0, nil, shuttingDown()
	}
	if held = s.open[p.UID]; held != nil {
		held.uses++
		return held, false, 0, nil, nil
	}
	if i := s.ill[p.UID]; i != nil {
		if pause, err = i.pause(time.Now()); pause > 0 {
			return nil, false, pause, nil, err
		}
	}
	if len(s.queue) == 0 && s.room() {
		return s.reserve(p), true, 0, nil, nil
	}
	return nil, false, 0, s.enqueue(p), nil
}

func (s *Supervisor) enqueue(p Project) *waiter {
	w := &waiter{project: p, turn: make(chan struct{})}
	s.queue = append(s.queue, w)
	return w
}

func shuttingDown() error { return eider.Errorf(eider.ShuttingDown, "the server is shutting down") }

// wait waits for the turn of w.
func (s *Supervisor) wait(ctx context.Context, p Project, w *waiter) (held *slot, mine bool, err error) {
	var late <-chan time.Time
	if !p.Patient {
		timer := time.NewTimer(time.Duration(s.Settings.Wait))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-w.turn:
	case <-ctx.Done():
		err = ctx.Err()
	case <-late:
		busy := eider.Errorf(eider.TooManyQueries, "%d projects are open and in use, which is as many as may be; try again", s.Settings.MaxOpen)
		busy.RetryAfter = time.Second
		err = busy
	}
	s.mu.Lock()
	defer s.unlock()
	switch {
	case w.held != nil:
		return w.held, w.mine, nil // its turn may have come just so
	case s.closed:
		return nil, false, shuttingDown()
	}
	s.queue = slices.DeleteFunc(s.queue, func(other *waiter) bool { return other == w })
	return nil, false, err
}

// unlock lets those in whose turn it is, and unlocks the supervisor.
func (s *Supervisor) unlock() {
	defer s.mu.Unlock()
	for len(s.queue) > 0 && !s.closed && s.room() {
		s.admit(s.queue[0].project)
	}
}

// admit gives the project a slot, and all who wait for it their turn.
func (s *Supervisor) admit(p Project) {
	held := s.reserve(p)
	held.uses = 0
	s.callIn(p.UID, held)[0].mine = true
}

// callIn gives all who wait for the project their turn.
func (s *Supervisor) callIn(uid string, held *slot) (called []*waiter) {
	s.queue = slices.DeleteFunc(s.queue, func(w *waiter) bool {
		if w.project.UID == uid {
			called = append(called, w)
		}
		return w.project.UID == uid
	})
	for _, w := range called {
		held.uses++
		w.held = held
		close(w.turn)
	}
	return called
}

// dismiss ends the wait of all.
func (s *Supervisor) dismiss() {
	for _, w := range s.queue {
		close(w.turn)
	}
	s.queue = nil
}

// reserve makes a slot that somebody fills.
func (s *Supervisor) reserve(p Project) *slot {
	held := &slot{folder: filepath.Join(s.Dir, p.Folder), ready: make(chan struct{}), uses: 1}
	s.open[p.UID] = held
	return held
}

// room reports whether one more project may be open, for which it closes another.
func (s *Supervisor) room() bool {
	return len(s.open) < s.Settings.MaxOpen || (s.closing <= s.Settings.MaxOpen/4 && s.evict())
}

// evict closes the database that was idle for longest. Its worker takes a while to
// end: only some may be about to, so that there are never many more than may be
// open.
func (s *Supervisor) evict() bool {
	var oldest string
	for uid, held := range s.open {
		if held.uses == 0 && (oldest == "" || held.last.Before(s.open[oldest].last)) {
			oldest = uid
		}
	}
	if oldest == "" {
		return false
	}
	held := s.open[oldest]
	delete(s.open, oldest)
	s.closing++
	go func() {
		held.worker.end(endedIdle)
		s.mu.Lock()
		defer s.unlock()
		s.closing--
	}()
	return true
}
