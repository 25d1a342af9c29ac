package app

import (
	"context"
	"fmt"

	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/metadata"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// observeStore reports how the writer does.
func (a *App) observeStore() (func(metadata.Receipt), error) {
	groups, err := a.telemetry.Meter.Int64Histogram("eider_metadata_group_size", metric.WithDescription("Writes that shared a commit"),
		metric.WithExplicitBucketBoundaries(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024))
	if err != nil {
		return nil, err
	}
	seconds, err := a.telemetry.Meter.Float64Histogram("eider_metadata_commit_seconds", metric.WithDescription("Flush, seal and commit of a group"))
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	return func(r metadata.Receipt) {
		groups.Record(ctx, int64(r.Group))
		seconds.Record(ctx, r.Commit.Seconds())
	}, nil
}

// gauge is a figure that a scrape asks for. A scrape reads memory, and of the disk
// what one call tells.
type gauge struct {
	name, description string
	observe           func(ctx context.Context, tell func(n int64, label ...attribute.KeyValue)) error
}

// observe reports what /health tells by words, and the figures behind it.
func (a *App) observe() error {
	log := a.Kernel.Audit
	err := a.gauges(
		gauge{"eider_health", "1 where it holds, as in the details of /health", func(_ context.Context, tell func(int64, ...attribute.KeyValue)) error {
			for name, holds := range a.details() {
				n := int64(0)
				if holds {
					n = 1
				}
				tell(n, attribute.String("detail", name))
			}
			return nil
		}},
		gauge{"eider_storage_free_bytes", "Bytes that may still be written to the data folder's file system", func(_ context.Context, tell func(int64, ...attribute.KeyValue)) error {
			free, err := a.space.Free()
			if err == nil {
				tell(free)
			}
			return err
		}},
		gauge{"eider_metadata_wal_bytes", "Length of the metadata's write-ahead log", func(_ context.Context, tell func(int64, ...attribute.KeyValue)) error {
			n, err := a.engine.WALSize()
			if err == nil {
				tell(n)
			}
			return err
		}},
		gauge{"eider_log_head", "Id of the newest row of the log", func(_ context.Context, tell func(int64, ...attribute.KeyValue)) error {
			tell(log.Head().ID)
			return nil
		}},
		gauge{"eider_log_follower_lag_rows", "Rows of the log that a follower has not durably handled", func(ctx context.Context, tell func(int64, ...attribute.KeyValue)) error {
			return a.lags(ctx, func(follower string, rows int64) { tell(rows, attribute.String("follower", follower)) })
		}},
		gauge{"eider_operations_unfinished", "Calls that have begun and not ended", func(_ context.Context, tell func(int64, ...attribute.KeyValue)) error {
			tell(int64(len(log.Unfinished())))
			return nil
		}},
		gauge{"eider_operations_stuck", "Calls that could be neither finished nor undone so far", func(_ context.Context, tell func(int64, ...attribute.KeyValue)) error {
			tell(int64(len(a.Kernel.Pipeline.Stuck())))
			return nil
		}},
	)
	if err != nil {
		return err
	}
	return a.observeSinks()
}

// gauges creates them.
func (a *App) gauges(all ...gauge) error {
	for _, g := range all {
		_, err := a.telemetry.Meter.Int64ObservableGauge(g.name, metric.WithDescription(g.description), metric.WithInt64Callback(func(ctx context.Context, o metric.Int64Observer) error {
			return g.observe(ctx, func(n int64, label ...attribute.KeyValue) { o.Observe(n, metric.WithAttributes(label...)) })
		}))
		if err != nil {
			return fmt.Errorf("create %s: %w", g.name, err)
		}
	}
	return nil
}

// lags tells how far behind each follower's durable cursor is.
func (a *App) lags(ctx context.Context, tell func(follower string, rows int64)) error {
	head := a.Kernel.Audit.Head().ID
	for _, name := range a.followers.Names() {
		c, err := a.followers.Cursors.Get(ctx, a.store.View(), name)
		if err != nil {
			c = audit.Cursor{} // it is new
		}
		tell(name, max(0, head-c.LogID))
	}
	return nil
}
