package stats

import (
	"context"
	"fmt"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/usage"
)

// counts are what is counted of a scope in a span of time.
type counts struct {
	Operations, Denied, Errors, Queries, Imports, Exports, Uploads, Downloads int64
}

func (c *counts) all() []*int64 {
	return []*int64{&c.Operations, &c.Denied, &c.Errors, &c.Queries, &c.Imports, &c.Exports, &c.Uploads, &c.Downloads}
}

func (c *counts) add(o counts) {
	others := o.all()
	for i, n := range c.all() {
		*n += *others[i]
	}
}

// metrics are the names of counts, in the API and in the table.
var metrics = []string{"operations", "denied", "errors", "queries", "imports", "exports", "uploads", "downloads"}

func (c *counts) of(metric string) int64 {
	for i, n := range c.all() {
		if metrics[i] == metric {
			return *n
		}
	}
	return 0
}

// ended are the counts of the operations that succeeded.
var ended = map[string]func(*counts) *int64{
	"query":        func(c *counts) *int64 { return &c.Queries },
	"import_table": func(c *counts) *int64 { return &c.Imports },
	"export_table": func(c *counts) *int64 { return &c.Exports },
	"upload_file":  func(c *counts) *int64 { return &c.Uploads }, "download_file": func(c *counts) *int64 { return &c.Downloads },
}

// countsOf returns what a row of the log counts for: a call counts once, by its
// final row, and a row that stands for several refusals as often.
func countsOf(r *audit.Row) (c counts) {
	times := max(r.Count, 1)
	switch r.Status {
	case eider.StatusInProgress:
		return c
	case eider.StatusDenied:
		c.Denied = times
	case eider.StatusFailed:
		c.Errors = times
	case eider.StatusSuccess:
		if count, ok := ended[r.Operation]; ok {
			*count(&c) = times
		}
		if uploadedAtOnce(r) {
			c.Uploads = times
		}
	}
	c.Operations = times
	return c
}

// uploadedAtOnce reports whether a file was uploaded and registered in one step, which
// is an effect: that which registers what was uploaded before has no intent.
func uploadedAtOnce(r *audit.Row) bool { return r.Operation == "register_file" && r.IntentID != 0 }

// The spans of time.
const (
	hour = "hour"
	day  = "day"
)

var lengths = map[string]time.Duration{hour: time.Hour, day: 24 * time.Hour}

// row is what happened in a scope in one hour or day. One row besides, the
// cursor's, says up to which row of the log all of them count.
type row struct {
	Key    string
	Scope  string // a project's uid, or usage.Server
	Period string
	Begun  time.Time
	LogID  int64 // of the cursor's row
	counts
}

// cursorKey is the key of the row that is the cursor.
const cursorKey = "cursor"

func newRow(scope, period string, at time.Time) row {
	begun := at.UTC().Truncate(lengths[period])
	return row{Key: fmt.Sprintf("%s/%s/%d", scope, period, begun.Unix()), Scope: scope, Period: period, Begun: begun}
}

func migrations() []metadata.Migration {
	return []metadata.Migration{{Owner: "stats", Number: 1, SQL: []string{`
		CREATE TABLE stats (
			key TEXT PRIMARY KEY, scope TEXT NOT NULL, period TEXT NOT NULL, begun TIMESTAMPTZ NOT NULL, log_id BIGINT NOT NULL,
			operations BIGINT NOT NULL, denied BIGINT NOT NULL, errors BIGINT NOT NULL, queries BIGINT NOT NULL,
			imports BIGINT NOT NULL, exports BIGINT NOT NULL, uploads BIGINT NOT NULL, downloads BIGINT NOT NULL)`}}}
}

const columns = `key, scope, period, begun, log_id, operations, denied, errors, queries, imports, exports, uploads, downloads`

func newTable() *metadata.Table[row] {
	described := []metadata.Column{
		{Name: "key", Kind: metadata.Text}, {Name: "scope", Kind: metadata.Text}, {Name: "period", Kind: metadata.Text},
		{Name: "begun", Kind: metadata.Time}, {Name: "log_id", Kind: metadata.Int},
	}
	for _, name := range metrics {
		described = append(described, metadata.Column{Name: name, Kind: metadata.Int})
	}
	return metadata.NewTable(metadata.Def[row]{
		Name: "stats", Columns: described, Key: func(r *row) string { return r.Key }, Encode: encode, Decode: decode,
		Missing: eider.NotFound, Noun: "count",
	})
}

func encode(r *row) []any {
	values := []any{r.Key, r.Scope, r.Period, r.Begun, r.LogID}
	for _, n := range r.all() {
		values = append(values, *n)
	}
	return values
}

func decode(scan func(...any) error) (r row, err error) {
	into := []any{&r.Key, &r.Scope, &r.Period, &r.Begun, &r.LogID}
	for _, n := range r.all() {
		into = append(into, n)
	}
	err = scan(into...)
	r.Begun = r.Begun.UTC()
	return r, err
}

// read runs a query for rows, and returns the cursor's apart if it is among them.
// One statement sees the cursor and the counts of one instant.
func read(ctx context.Context, v *metadata.View, where string, args ...any) (found []row, cursor int64, err error) {
	rows, err := v.Query(ctx, "SELECT "+columns+" FROM stats WHERE "+where, args...)
	if err != nil {
		return nil, 0, fmt.Errorf("read the counts: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		r, err := decode(rows.Scan)
		if err != nil {
			return nil, 0, fmt.Errorf("read the counts: %w", err)
		}
		if r.Key == cursorKey {
			cursor = r.LogID
			continue
		}
		found = append(found, r)
	}
	return found, cursor, rows.Err()
}

// scopes are those that a row of the log counts for.
func scopes(r *audit.Row) []string {
	if r.ProjectUID == "" {
		return []string{usage.Server}
	}
	return []string{usage.Server, r.ProjectUID}
}
