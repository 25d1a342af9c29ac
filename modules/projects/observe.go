package projects

import (
	"context"
	"fmt"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
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
		databases, tablesHeld := p.recorded()
		o.ObserveInt64(tables, tablesHeld)
		o.ObserveInt64(size, held.Bytes, metric.WithAttributes(attribute.String("type", "files")))
		o.ObserveInt64(size, databases, metric.WithAttributes(attribute.String("type", "databases")))
		return nil
	}, total, tables, size)
	return err
}

// recorded returns what the rows of the projects that are not purged say of their
// databases: bytes and tables.
func (p *Projects) recorded() (bytes, tables int64) {
	p.rows.Scan(metadata.Range[row]{Order: byNewest}, func(r *row) bool {
		if r.Status != eider.ProjectCreating && r.Status != eider.ProjectPurged {
			bytes, tables = bytes+r.SizeBytes, tables+r.TableCount
		}
		return true
	})
	return bytes, tables
}
