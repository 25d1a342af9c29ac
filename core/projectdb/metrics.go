package projectdb

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

type instruments struct {
	starts metric.Int64Counter
	ends   metric.Int64Counter
	open   metric.Int64UpDownCounter
}

func newInstruments(m metric.Meter) (i instruments, err error) {
	if i.starts, err = m.Int64Counter("eider_worker_starts_total", metric.WithDescription("Projects opened in a worker")); err != nil {
		return i, fmt.Errorf("create eider_worker_starts_total: %w", err)
	}
	if i.ends, err = m.Int64Counter("eider_worker_ends_total", metric.WithDescription("Workers that ended, by reason")); err != nil {
		return i, fmt.Errorf("create eider_worker_ends_total: %w", err)
	}
	if i.open, err = m.Int64UpDownCounter("eider_workers_open", metric.WithDescription("Projects that are open")); err != nil {
		return i, fmt.Errorf("create eider_workers_open: %w", err)
	}
	return i, nil
}

func (i instruments) started(ctx context.Context) {
	i.starts.Add(ctx, 1)
	i.open.Add(ctx, 1)
}

func (i instruments) ended(ctx context.Context, reason string) {
	i.ends.Add(ctx, 1, metric.WithAttributes(attribute.String("reason", reason)))
	i.open.Add(ctx, -1)
}
