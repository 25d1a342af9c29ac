package main

import (
	"context"
	"errors"
	"slices"
	"time"
)

// benchPipeline measures what the whole way of a request costs the server beside
// a bare handler that answers the same bytes: processor time, for the clients'
// own work would drown a difference in latency.
func benchPipeline(ctx context.Context, b *bench) error {
	dir, err := b.fresh("pipeline")
	if err != nil {
		return err
	}
	s, err := b.serve(dir)
	if err != nil {
		return err
	}
	owners, err := s.populate(ctx, 1)
	if err != nil {
		return errors.Join(err, s.stop())
	}
	body, err := s.body(owners[0])
	if err != nil {
		return errors.Join(err, s.stop())
	}
	yardstick, err := serveBare(body)
	if err != nil {
		return errors.Join(err, s.stop())
	}
	return errors.Join(pipelineRows(ctx, b, s, yardstick, owners[0]), yardstick.stop(), s.stop())
}

func (s *server) body(o owner) ([]byte, error) {
	c, err := dial(s.address)
	if err != nil {
		return nil, err
	}
	defer c.close()
	err = c.want(200, "GET", o.path, o.key, "")
	return slices.Clone(c.body), err
}

// pipelineRows measures both by turns, so that a noisy minute meets both.
func pipelineRows(ctx context.Context, b *bench, s, yardstick *server, o owner) error {
	b.table.note("CPU/request is the server's processor time, all threads, over the requests answered. " +
		"The bare handler neither authenticates nor decodes nor counts.")
	const clients = 8
	var got [2]*result
	var cpu [2][]time.Duration
	for range b.rounds {
		for i, to := range []*server{yardstick, s} {
			r, spent, err := to.spent(func() (*result, error) {
				return b.measure(ctx, clients, to.each(func(c *client) (bool, error) { return true, c.want(200, "GET", o.path, o.key, "") }))
			})
			if err != nil {
				return err
			}
			got[i] = r
			cpu[i] = append(cpu[i], spent)
		}
	}
	for i := range cpu {
		slices.Sort(cpu[i])
	}
	bare, whole := got[0].row("bare Fiber handler, the same bytes, 8 clients"), got[1].row("GET /projects/{id}, 8 clients")
	bare.CPU, whole.CPU = cpu[0][b.rounds/2], cpu[1][b.rounds/2]
	whole.Ratio, whole.Of, whole.Bar = float64(whole.CPU)/float64(bare.CPU), "CPU of the bare handler", "about 1.9 x"
	b.table.add(bare)
	b.table.add(whole)
	return nil
}
