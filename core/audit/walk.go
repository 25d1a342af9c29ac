package audit

import (
	"context"
	"fmt"
	"time"

	"github.com/eiderdb/eider/core/metadata"
)

// walkPage is how many rows a walk reads at a time, and walkWindow how many ids
// it looks at for them: more, up to walkWidest, while few of them match.
const (
	walkPage   = 4096
	walkWindow = 4 * walkPage
	walkWidest = 64 * walkWindow
)

// Walk hands each the rows that match, oldest first, a page at a time, up to the
// newest row there was when it began. It holds no transaction, and memory for one
// page. Rows behind f.After alone are given; Before and Limit do not count. It
// returns the row up to which it came.
func (l *Log) Walk(ctx context.Context, v *metadata.View, f Filter, each func([]Row) error) (int64, error) {
	head, unfinished := l.snapshot()
	if f.After >= head {
		return head, nil
	}
	after, last, err := f.between(ctx, v, head)
	if err != nil {
		return 0, err
	}
	after = max(after, f.After)
	for window := int64(walkWindow); after < last; {
		upper := min(last, after+window)
		where, args := f.conditions(unfinished, upper+1, after+1, after+1 > l.unhashed())
		found, err := v.Query(ctx, selectRow+where+fmt.Sprintf(" ORDER BY id LIMIT %d", walkPage), args...)
		if err != nil {
			return 0, fmt.Errorf("read the log: %w", err)
		}
		page, err := readRows(found)
		if err != nil {
			return 0, fmt.Errorf("read the log: %w", err)
		}
		if len(page) > 0 {
			if err := each(page); err != nil {
				return 0, err
			}
		}
		switch {
		case len(page) == walkPage:
			after, window = page[walkPage-1].ID, walkWindow
		case len(page) == 0 && window == walkWidest: // is there anything? A row may have been put far behind
			next, err := oneID(ctx, v, selectFirstBehind, upper)
			if err != nil {
				return 0, err
			}
			if after = last; next > 0 {
				after = min(last, next-1)
			}
		default:
			after, window = upper, min(walkWidest, 2*window)
		}
	}
	return max(after, f.After), nil
}

// First returns the oldest row that is in the database, 0 if there is none.
func (l *Log) First(ctx context.Context, v *metadata.View) (int64, error) {
	return oneID(ctx, v, selectFirstOfLog)
}

// Ids and times run the same way, so a span of time is one of ids.
const (
	selectFirstSince  = `SELECT id FROM operations_log WHERE timestamp >= $1 AND id >= 1 ORDER BY id LIMIT 1`
	selectLastBefore  = `SELECT id FROM operations_log WHERE timestamp < $1 AND id <= ` + lastID + ` ORDER BY id DESC LIMIT 1`
	selectFirstOfLog  = `SELECT id FROM operations_log WHERE id >= 1 ORDER BY id LIMIT 1`
	selectFirstBehind = `SELECT id FROM operations_log WHERE id > $1 ORDER BY id LIMIT 1`
	selectTimeOfFirst = `SELECT timestamp FROM operations_log WHERE id >= 1 AND timestamp IS NOT NULL ORDER BY id LIMIT 1`
)

// between returns the row before the first of the filter's span, and its last.
func (f Filter) between(ctx context.Context, v *metadata.View, head int64) (after, last int64, err error) {
	first := int64(0)
	switch {
	case !f.From.IsZero():
		first, err = oneID(ctx, v, selectFirstSince, f.From)
	case f.After > 0:
		first = f.After + 1
	default:
		first, err = oneID(ctx, v, selectFirstOfLog)
	}
	if err != nil || first == 0 {
		return head, head, err
	}
	last = head
	if !f.To.IsZero() {
		if last, err = oneID(ctx, v, selectLastBefore, f.To); err != nil {
			return 0, 0, err
		}
	}
	return first - 1, min(last, head), nil
}

func oneID(ctx context.Context, v *metadata.View, query string, args ...any) (id int64, err error) {
	rows, err := v.Query(ctx, query, args...)
	if err != nil {
		return 0, fmt.Errorf("read the log: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(&id); err != nil {
			return 0, fmt.Errorf("read the log: %w", err)
		}
	}
	return id, rows.Err()
}

// Oldest returns the time of the first row that is in the database, false if
// there is none.
func (l *Log) Oldest(ctx context.Context, v *metadata.View) (at time.Time, ok bool, err error) {
	rows, err := v.Query(ctx, selectTimeOfFirst)
	if err != nil {
		return at, false, fmt.Errorf("read the log: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(&at); err != nil {
			return at, false, fmt.Errorf("read the log: %w", err)
		}
		ok = true
	}
	return at.UTC(), ok, rows.Err()
}
