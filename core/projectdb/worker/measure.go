package worker

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
)

// selectMeasured takes the number of rows from the catalog, which counts deleted
// ones too until their space is used again. It names the tables that have rows
// where they are few enough to be counted after each change.
var selectMeasured = `
	WITH t AS MATERIALIZED (
		SELECT schema_name AS bucket, table_name AS name, estimated_size AS estimate FROM duckdb_tables() WHERE ` + ofBuckets + `)
	SELECT to_json({
		tables: count(*),
		buckets: (SELECT count(*) FROM duckdb_schemas() WHERE ` + ofBuckets + `),
		"rows": coalesce(sum(estimate), 0)::BIGINT,
		"some": CASE WHEN count(*) FILTER (estimate > 0) <= 16 AND sum(estimate) <= 20000000
			THEN list({bucket: bucket, name: name}) FILTER (estimate > 0) END
	})::VARCHAR FROM t`

// count counts the rows of the tables, if there are any.
func (m *Measured) count(ctx context.Context, conn *duck.Conn, all []described) error {
	var parts []string
	for i := range all {
		parts = append(parts, "(SELECT count(*) FROM "+all[i].sql()+")")
	}
	if len(parts) == 0 {
		return nil
	}
	return answer(ctx, conn, &m.Rows, "SELECT ("+strings.Join(parts, " + ")+")::VARCHAR")
}

// measure counts what the database holds. It never fails a change, which is
// durable by then.
func (t *task) measure(ctx context.Context) *Measured {
	t.measuring.Lock()
	defer t.measuring.Unlock()
	m := Measured{At: time.Now().UnixNano()}
	err := t.read(ctx, func(conn *duck.Conn) error {
		var found struct {
			*Measured
			Some []described `json:"some"`
		}
		found.Measured = &m
		if err := answer(ctx, conn, &found, selectMeasured); err != nil {
			return err
		}
		return m.count(ctx, conn, found.Some)
	})
	if err != nil {
		t.log.Error("the database could not be measured", "error", err)
		return nil
	}
	for _, name := range []string{databaseFile, databaseFile + ".wal"} {
		if info, err := os.Stat(t.path(name)); err == nil {
			m.Size += info.Size()
		}
	}
	return &m
}

func measured(ctx context.Context, t *task) (any, error) {
	m := t.measure(ctx)
	if m == nil {
		return nil, eider.Errorf(eider.StorageUnavailable, "the project's database cannot be used now")
	}
	return m, nil
}
