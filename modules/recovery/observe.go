package recovery

import (
	"context"
	"fmt"
	"sync"

	"github.com/eiderdb/eider/core/check"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// newest holds what the newest check found, for the metrics.
type newest struct {
	mu     sync.Mutex
	report *check.Report // nil: there was none since the start
}

func (n *newest) set(r check.Report) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.report = &r
}

func (n *newest) get() *check.Report {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.report
}

// find checks, and keeps what was found for the metrics.
func (r *Recovery) find(ctx context.Context, deep bool) (check.Report, error) {
	report, err := check.Find(ctx, r.kernel.Checks(), r.scope(deep))
	if err == nil {
		r.newest.set(report)
	}
	return report, err
}

// observe reports how old the newest backup and the newest check are.
func (r *Recovery) observe(m metric.Meter) error {
	made, err := m.Int64ObservableGauge("eider_backup_last_success_timestamp_seconds", metric.WithDescription("When the newest whole backup was made that holds what scheduled ones do and is in its place"))
	if err != nil {
		return fmt.Errorf("create eider_backup_last_success_timestamp_seconds: %w", err)
	}
	size, err := m.Int64ObservableGauge("eider_backup_last_size_bytes", metric.WithDescription("Bytes in that backup, what is linked included"))
	if err != nil {
		return fmt.Errorf("create eider_backup_last_size_bytes: %w", err)
	}
	checked, err := m.Int64ObservableGauge("eider_check_last_timestamp_seconds", metric.WithDescription("When register and folders were last compared"))
	if err != nil {
		return fmt.Errorf("create eider_check_last_timestamp_seconds: %w", err)
	}
	findings, err := m.Int64ObservableGauge("eider_check_findings", metric.WithDescription("What the last comparison found"))
	if err != nil {
		return fmt.Errorf("create eider_check_findings: %w", err)
	}
	_, err = m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		if b, ok := r.lastWhole(); ok {
			o.ObserveInt64(made, b.CreatedAt.Unix())
			o.ObserveInt64(size, b.SizeBytes)
		}
		report := r.newest.get()
		if report == nil {
			return nil
		}
		o.ObserveInt64(checked, report.CheckedAt.Unix())
		counts := map[check.Kind]int64{}
		for i := range report.Findings {
			counts[report.Findings[i].Kind]++
		}
		for _, kind := range check.Kinds {
			o.ObserveInt64(findings, counts[kind], metric.WithAttributes(attribute.String("kind", string(kind))))
		}
		return nil
	}, made, size, checked, findings)
	return err
}
