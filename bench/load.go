package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// session is one client's.
type session struct {
	// turn does one request, or the like of one, and reports whether it was done,
	// not refused. An error ends the load.
	turn  func() (done bool, err error)
	close func() error // may be nil
}

// result is what came of a load.
type result struct {
	took    time.Duration
	good    []time.Duration // of the turns that were done, sorted
	refused int
}

// drive lets clients take one turn after another until the time is up or one of
// them fails. Each is opened before the clock starts.
func drive(ctx context.Context, clients int, lasts time.Duration, open func(client int) (session, error)) (_ *result, err error) {
	all := &result{}
	sessions := make([]session, 0, clients)
	defer func() {
		for _, s := range sessions {
			if s.close != nil {
				err = errors.Join(err, s.close())
			}
		}
	}()
	for i := range clients {
		s, err := open(i)
		if err != nil {
			return nil, err
		}
		sessions = append(sessions, s)
	}
	parts := make([]result, clients)
	failed := make([]error, clients)
	running, stop := context.WithCancel(ctx)
	defer stop()
	begun := time.Now()
	deadline := begun.Add(lasts)
	var wg sync.WaitGroup
	for i := range sessions {
		wg.Go(func() {
			if failed[i] = parts[i].repeat(running, sessions[i], deadline); failed[i] != nil {
				stop()
			}
		})
	}
	wg.Wait()
	all.took = time.Since(begun)
	for _, p := range parts {
		all.good = append(all.good, p.good...)
		all.refused += p.refused
	}
	slices.Sort(all.good)
	return all, errors.Join(append(failed, ctx.Err())...)
}

func (r *result) repeat(ctx context.Context, s session, deadline time.Time) error {
	for now := time.Now(); now.Before(deadline) && ctx.Err() == nil; {
		done, err := s.turn()
		if err != nil {
			return err
		}
		after := time.Now()
		if done {
			r.good = append(r.good, after.Sub(now))
		} else {
			r.refused++
		}
		now = after
	}
	return nil
}

// percentile returns the latency that the share p of the good turns kept to.
func (r *result) percentile(p float64) time.Duration {
	if len(r.good) == 0 {
		return 0
	}
	return r.good[min(len(r.good)-1, int(p*float64(len(r.good))))]
}

func (r *result) p50() time.Duration { return r.percentile(0.50) }
func (r *result) p99() time.Duration { return r.percentile(0.99) }

// rate is of the good turns alone.
func (r *result) rate() float64 { return float64(len(r.good)) / r.took.Seconds() }

// all is how many turns were taken, refused ones too.
func (r *result) all() int { return len(r.good) + r.refused }

// row returns the figures as a row.
func (r *result) row(what string) row {
	return row{What: what, PerSecond: r.rate(), P50: r.p50(), P99: r.p99()}
}
