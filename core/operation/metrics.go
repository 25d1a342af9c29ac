package operation

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/eiderdb/eider"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

type instruments struct {
	total   metric.Int64Counter
	seconds metric.Float64Histogram
	known   *labelled
}

// ended is what calls are counted by.
type ended struct {
	operation string
	status    eider.OperationStatus
}

// labels are the attributes of one kind of call, made once: making them took
// five times as long as counting.
type labels struct {
	total   []metric.AddOption
	seconds []metric.RecordOption
}

// labelled holds all that were made: as few as there are operations and statuses.
type labelled struct {
	mu   sync.RWMutex
	made map[ended]labels
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
	return instruments{total, seconds, &labelled{made: map[ended]labels{}}}, nil
}

func (i instruments) count(ctx context.Context, c *Call, err error) {
	status := eider.StatusSuccess
	if err != nil {
		status = ending(err)
	}
	l := i.known.of(ended{c.Operation.Name, status})
	i.total.Add(ctx, 1, l.total...)
	i.seconds.Record(ctx, time.Since(c.begun).Seconds(), l.seconds...)
}

func (k *labelled) of(e ended) labels {
	k.mu.RLock()
	l, ok := k.made[e]
	k.mu.RUnlock()
	if ok {
		return l
	}
	name := attribute.String("operation", e.operation)
	l.seconds = []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(name))}
	l.total = []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(name, attribute.String("status", string(e.status))))}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.made[e] = l
	return l
}
