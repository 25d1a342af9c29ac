package main

import (
	"context"
	"errors"
	"fmt"
)

// benchRefuse measures whether a refusal, made inside the transaction, costs the
// changes that share its group anything.
func benchRefuse(ctx context.Context, b *bench) error {
	dir, err := b.fresh("refuse")
	if err != nil {
		return err
	}
	s, err := b.serve(dir)
	if err != nil {
		return err
	}
	return errors.Join(refuseRows(ctx, b, s), s.stop())
}

func refuseRows(ctx context.Context, b *bench, s *server) error {
	b.table.note("Refused are changes whose If-Match names an old state (412): found out by the writer, inside the group. " +
		"The rate and the latencies are of the good changes, which are fewer by as much as there are refusals; " +
		"none is slower if p50 and p99 stay.")
	clients := min(64, b.most)
	owners, err := s.populate(ctx, clients)
	if err != nil {
		return err
	}
	var none *result
	for _, percent := range []int{0, 50, 95} {
		got, cpu, err := s.spent(func() (*result, error) { return b.patchOrRefuse(ctx, s, owners, percent) })
		if err != nil {
			return err
		}
		if none == nil {
			none = got
		}
		r := got.row(fmt.Sprintf("PATCH, %d clients, %d %% refused (%s/s in all)", clients, percent, perSecond(float64(got.all())/got.took.Seconds())))
		r.CPU, r.Ratio, r.Of = cpu, float64(got.p50())/float64(none.p50()), "p50 of none refused"
		if percent > 0 {
			r.Bar = "about 1 x"
		}
		b.table.add(r)
	}
	return nil
}

func (b *bench) patchOrRefuse(ctx context.Context, s *server, owners []owner, percent int) (*result, error) {
	counts := make([]int, len(owners))
	return b.measure(ctx, len(owners), s.eachOf(func(n int, c *client) (bool, error) {
		counts[n]++
		body := fmt.Sprintf(`{"name":"name %d"}`, counts[n])
		// Spread evenly over time and clients, so that every group is mixed.
		if (counts[n]*37+n*11)%100 < percent {
			return false, c.want(412, "PATCH", owners[n].path, owners[n].key, body, `If-Match: "old"`)
		}
		return true, c.want(200, "PATCH", owners[n].path, owners[n].key, body)
	}))
}
