package audit

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
)

// Filter chooses rows of the log. Empty fields choose all.
type Filter struct {
	ProjectID    string
	ProjectUID   string // the trail of one incarnation
	Operation    string
	Status       string
	Actor        string // id or name
	ResourceType string
	ResourceID   string
	RequestID    string
	From, To     time.Time
	Text         string // part of what the row says, whatever its case
	AllRows      bool   // also the in_progress rows of calls that have ended

	Before int64 // rows with a smaller id; 0 from the newest
	AsOf   int64 // the log as it was when this was its newest row; 0: as it is
	After  int64 // rows with a larger id; of a Walk
	Limit  int
}

// The first window of ids that a listing reads, and how it widens: zone maps
// make a window cheap, and most listings are answered by the newest rows.
const (
	firstWindow = 20_000
	widen       = 8
	denseWindow = 4 // ids for each row that is asked for, where nearly every row matches
)

// takesAny reports whether the filter chooses all rows, but perhaps the intents of
// calls that have ended. To sort a first window for some of them would cost most.
func (f Filter) takesAny() bool {
	f.AllRows, f.Before, f.AsOf, f.After, f.Limit = false, 0, 0, 0, 0
	return f == Filter{}
}

// List returns the rows that match, newest first, at most Limit. It shows the log
// as it was at one instant: a call that ends meanwhile is shown by its intent.
func (l *Log) List(ctx context.Context, v *metadata.View, f Filter) ([]Row, error) {
	rows, _, err := l.Page(ctx, v, f)
	return rows, err
}

// Page is a List, and tells as of which row it shows the log: given to the pages that
// follow, they show it as it was at the same instant, each call once.
func (l *Log) Page(ctx context.Context, v *metadata.View, f Filter) (found []Row, asOf int64, err error) {
	v.Settle(ctx)
	head, unfinished := l.snapshot()
	if f.AsOf > 0 && f.AsOf < head {
		head = f.AsOf
		ended, err := l.endedSince(ctx, v, head)
		if err != nil {
			return nil, 0, err
		}
		unfinished = append(unfinished, ended...)
	}
	found, err = l.list(ctx, v, f, head, unfinished)
	return found, head, err
}

// Intents of calls that have ended since.
const selectEndedSince = `SELECT intent_id FROM operations_log WHERE id > $1 AND id <= ` + lastID + ` AND intent_id > 0 AND intent_id <= $1`

func (l *Log) endedSince(ctx context.Context, v *metadata.View, asOf int64) (intents []int64, err error) {
	rows, err := v.Query(ctx, selectEndedSince, asOf)
	if err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("read the log: %w", err)
		}
		intents = append(intents, id)
	}
	return intents, rows.Err()
}

func (l *Log) list(ctx context.Context, v *metadata.View, f Filter, head int64, unfinished []int64) ([]Row, error) {
	upper := head + 1
	if f.Before > 0 && f.Before < upper {
		upper = f.Before
	}
	var found []Row
	window := int64(firstWindow)
	if f.takesAny() {
		window = min(window, int64(denseWindow*max(1, f.Limit)))
	}
	for ; upper > 1 && len(found) < f.Limit; window *= widen {
		lower := max(1, upper-window)
		where, args := f.conditions(unfinished, upper, lower, lower > l.unhashed())
		rows, err := v.Query(ctx, selectRow+where+fmt.Sprintf(" ORDER BY id DESC LIMIT %d", f.Limit-len(found)), args...)
		if err != nil {
			return nil, fmt.Errorf("read the log: %w", err)
		}
		page, err := readRows(rows)
		if err != nil {
			return nil, fmt.Errorf("read the log: %w", err)
		}
		found = append(found, page...)
		upper = lower
	}
	return found, nil
}

// textMatches looks for a text in what a row says in words.
const textMatches = `(strpos(lower(details), ?) > 0 OR strpos(lower(error_message), ?) > 0
	OR strpos(error_code, ?) > 0 OR strpos(lower(resource_id), ?) > 0 OR strpos(lower(actor_name), ?) > 0 OR strpos(lower(operation), ?) > 0)`

func (f Filter) conditions(unfinished []int64, before, from int64, hashed bool) (string, []any) {
	where := []string{"id < $1", "id >= $2"}
	args := []any{before, from}
	and := func(condition string, value any) {
		args = append(args, value)
		where = append(where, strings.ReplaceAll(condition, "?", fmt.Sprintf("$%d", len(args))))
	}
	for _, c := range []struct{ condition, value string }{
		{"project_id = ?", f.ProjectID}, {"project_uid = ?", f.ProjectUID}, {"operation = ?", f.Operation},
		{"status = ?", f.Status}, {"(actor_id = ? OR actor_name = ?)", f.Actor}, {"resource_type = ?", f.ResourceType},
		{"resource_id = ?", f.ResourceID},
	} {
		if c.value != "" {
			and(c.condition, c.value)
		}
	}
	switch {
	case f.RequestID == "":
	case hashed:
		// The second condition is one that is not pushed into the scan, where it
		// would read all the texts.
		and("request_hash = ?", requestHash(f.RequestID))
		and("request_id || '' = ?", f.RequestID)
	default:
		and("request_id = ?", f.RequestID)
	}
	if f.Text != "" {
		and(textMatches, strings.ToLower(f.Text))
	}
	if !f.From.IsZero() {
		and("timestamp >= ?", f.From)
	}
	if !f.To.IsZero() {
		and("timestamp < ?", f.To)
	}
	if !f.AllRows {
		// A final row stands for its intent; only a call without one shows it.
		open := "status <> 'in_progress' OR status IS NULL" // nothing may be NULL: whoever looks for that sees it
		for _, id := range unfinished {
			if id >= from && id < before {
				open += fmt.Sprintf(" OR id = %d", id)
			}
		}
		where = append(where, "("+open+")")
	}
	return "WHERE " + strings.Join(where, " AND "), args
}

// Get returns one row.
func (l *Log) Get(ctx context.Context, v *metadata.View, id int64) (Row, error) {
	rows, err := v.Query(ctx, selectRow+`WHERE id = $1`, id)
	if err != nil {
		return Row{}, fmt.Errorf("read row %d: %w", id, err)
	}
	found, err := readRows(rows)
	if err != nil {
		return Row{}, fmt.Errorf("read row %d: %w", id, err)
	}
	if len(found) == 0 {
		return Row{}, eider.Errorf(eider.NotFound, "there is no such operation")
	}
	return found[0], nil
}

const countSince = `SELECT coalesce(operation, ''), count(*) FROM operations_log
	WHERE project_uid = $1 AND timestamp >= $2 AND status = 'success' GROUP BY operation`

// CountSince returns how many operations of each name succeeded in a project
// since a time.
func (l *Log) CountSince(ctx context.Context, v *metadata.View, projectUID string, since time.Time) (map[string]int64, error) {
	v.Settle(ctx)
	rows, err := v.Query(ctx, countSince, projectUID, since)
	if err != nil {
		return nil, fmt.Errorf("count operations: %w", err)
	}
	defer rows.Close()
	counts := map[string]int64{}
	for rows.Next() {
		var name string
		var n int64
		if err := rows.Scan(&name, &n); err != nil {
			return nil, fmt.Errorf("count operations: %w", err)
		}
		counts[name] = n
	}
	return counts, rows.Err()
}
