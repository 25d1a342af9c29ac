package projects

import (
	"context"
	"fmt"

	"github.com/eiderdb/eider/core/usage"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// observe reports what the register holds. A scrape reads memory alone.
func (p *Projects) observe(m metric.Meter) error {
	total, err := m.Int64ObservableGauge("duckdb_projects_total", metric.WithDescription("Projects that are not purged"))
	if err != nil {
		return fmt.Errorf("create duckdb_projects_total: %w", err)
	}
	tables, err := m.Int64ObservableGauge("duckdb_tables_total", metric.WithDescription("Tables in all projects"))
	if err != nil {
		return fmt.Errorf("create duckdb_tables_total: %w", err)
	}
	size, err := m.Int64ObservableGauge("duckdb_storage_size_bytes", metric.WithDescription("Bytes held, as recorded"))
	if err != nil {
		return fmt.Errorf("create duckdb_storage_size_bytes: %w", err)
	}
	_, err = m.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		held, err := p.usage.Of(ctx, p.pipeline.Store.View(), usage.Server)
		if err != nil {
			return err
		}
		o.ObserveInt64(total, held.Projects)
		o.ObserveInt64(tables, held.Tables)
		o.ObserveInt64(size, held.Bytes, metric.WithAttributes(attribute.String("type", "files")))
		return nil
	}, total, tables, size)
	return err
}
