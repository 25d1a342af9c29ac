package audit

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// besides is how many things a follower does at a time: each waits for the disk.
const besides = 4

// Each does something once for each thing that rows were about, some of them at a
// time. Newest holds the id of the last row about each.
func Each(ctx context.Context, newest map[string]int64, do func(ctx context.Context, thing string, logID int64) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(besides)
	for thing, logID := range newest {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return do(ctx, thing, logID)
		})
	}
	return group.Wait()
}
