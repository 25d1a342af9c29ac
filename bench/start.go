package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// benchStart measures how long a start takes until /health/ready says so, and
// what is resident then, with nothing in the register and with much.
func benchStart(ctx context.Context, b *bench) error {
	rounds := b.rounds
	first, err := b.starts(ctx, rounds, func() (string, error) { return b.fresh("first") }, 0)
	if err != nil {
		return err
	}
	empty, err := b.fresh("empty")
	if err != nil {
		return err
	}
	none, err := b.starts(ctx, rounds+1, func() (string, error) { return empty, nil }, 0) // the first of them makes the folder
	if err != nil {
		return err
	}
	large, err := b.largeFolder(ctx)
	if err != nil {
		return err
	}
	many, err := b.starts(ctx, rounds, func() (string, error) { return large, nil }, 1000)
	if err != nil {
		return err
	}
	count := thousands(int64(b.projects))
	b.table.add(first.row("first start, nothing there"))
	b.table.add(none.row("start, no projects"))
	r := many.row(fmt.Sprintf("start, %s projects, 1,000 touched", count))
	r.Ratio, r.Of, r.Bar = float64(many.times[rounds/2])/float64(none.times[rounds/2]), "time of no projects", "< 3 s; < 600 MiB"
	b.table.add(r)
	return nil
}

// starts are the times until ready, sorted, and the largest resident size.
type starts struct {
	times    []time.Duration
	resident int64
}

func (s starts) row(what string) row {
	return row{What: what, P50: s.times[len(s.times)/2], Memory: s.resident}
}

// starts starts and stops servers one after another; between, some projects are
// read at random.
func (b *bench) starts(ctx context.Context, rounds int, folder func() (string, error), touched int) (starts, error) {
	var all starts
	for range rounds {
		dir, err := folder()
		if err != nil {
			return all, err
		}
		s, err := b.serve(dir)
		if err != nil {
			return all, err
		}
		all.times = append(all.times, s.ready)
		resident, err := s.touch(b, touched)
		if err := errors.Join(err, s.stop(), ctx.Err()); err != nil {
			return all, err
		}
		all.resident = max(all.resident, resident)
	}
	slices.Sort(all.times)
	return all, nil
}

func (s *server) touch(b *bench, count int) (resident int64, err error) {
	c, err := dial(s.address)
	if err != nil {
		return 0, err
	}
	defer c.close()
	for range count {
		if err := c.want(200, "GET", "/projects/"+largeID(rand.IntN(b.projects)), s.root, ""); err != nil {
			return 0, err
		}
	}
	return s.resident()
}
