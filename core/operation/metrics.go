package operation

import (
	"context"
	"fmt"
	"time"

	"github.com/eiderdb/eider"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

type instruments struct {
	total   metric.Int64Counter
	seconds metric.Float64Histogram
}

func newInstruments(m metric.Meter) (instruments, error) {
	total, err := m.Int64Counter("eider_operations_total", metric.WithDescription("Operations by name and how they ended"))
	if err != nil {
		return instruments{}, fmt.Errorf("create eider_operations_total: %w", err)
	}
	seconds, err := m.Float64Histogram("eider_operation_duration_seconds", metric.WithDescription("Time from the request's arrival to its answer"))
	if err != nil {
		return instruments{}, fmt.Errorf("create eider_operation_duration_seconds: %w", err)
	}
	return instruments{total, seconds}, nil
}

func (i instruments) count(ctx context.Context, c *Call, err error) {
	status := eider.StatusSuccess
	if err != nil {
		status = ending(err)
	}
	name := attribute.String("operation", c.Operation.Name)
	i.total.Add(ctx, 1, metric.WithAttributes(name, attribute.String("status", string(status))))
	i.seconds.Record(ctx, time.Since(c.begun).Seconds(), metric.WithAttributes(name))
}
