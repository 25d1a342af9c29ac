package metadata

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// reopenTries bounds how often a dead instance is reopened, with pauses from
// reopenPause doubling up to a second: about 20 s in all.
const (
	reopenTries = 24
	reopenPause = 50 * time.Millisecond
)

// settle finds out what became of a group whose commit returned an error, and
// reports whether it is durable (a commit that returned an error has been seen
// durable). Nothing else is written before that is known:
//
//	readiness is false, and writes wait
//	after a failed fsync: refuse writes for ever; the process must end
//	if the instance is dead, reopen it
//	reload the head and the hot rows from the tables
//	ask the sealer whether the group's rows are there
func (s *Store) settle(g *Group, cause error) (kept bool) {
	down := unavailable(cause)
	s.down.Store(&down)
	s.log.Error("the outcome of a commit is unknown", "error", cause)
	if errors.Is(cause, ErrSync) {
		s.fatal(fmt.Errorf("metadata: %w", cause))
		return false
	}
	if err := s.recoverEngine(); err != nil {
		s.fatal(fmt.Errorf("metadata: the database could not be opened again: %w", err))
		return false
	}
	s.down.Store(nil)
	kept = g != nil && len(g.layer.items) > 0 && s.sealer.Kept(g)
	s.log.Info("the outcome of a commit is settled", "durable", kept)
	return kept
}

func (s *Store) recoverEngine() error {
	var err error
	pause := reopenPause
	for range reopenTries {
		if err = s.reload(); err == nil || errors.Is(err, ErrSync) {
			return err
		}
		s.log.Error("the metadata database cannot be opened", "error", err)
		select {
		case <-s.stop:
			return err
		case <-time.After(pause):
		}
		pause = min(2*pause, time.Second)
	}
	return err
}

func (s *Store) reload() error {
	ctx := context.Background()
	if s.engine.Dead() != nil {
		if err := s.engine.Reopen(ctx); err != nil {
			return err
		}
	}
	return s.load(ctx)
}
