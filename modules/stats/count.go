package stats

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/metadata"
)

// added are counts by the key of their row.
type added map[string]*row

func (a added) row(r *audit.Row) {
	c := countsOf(r)
	if c == (counts{}) {
		return
	}
	for _, scope := range scopes(r) {
		for _, period := range []string{hour, day} {
			one := newRow(scope, period, r.Time)
			if a[one.Key] == nil {
				a[one.Key] = &one
			}
			a[one.Key].add(c)
		}
	}
}

// durableWithin is what a note has to become durable: it rides in a group within a
// second, where the disk does not stall.
const durableWithin = 30 * time.Second

// errNotKept is why rows are counted again: the note was lost, is very late, or
// came after another.
var errNotKept = errors.New("the counts did not become durable in time")

// count follows the log. A row of the log may come again, and what was noted last
// may have been lost or not: so the cursor that is durable with the counts says
// which rows are new. Nobody else changes the table, so it is read before.
func (s *Stats) count(ctx context.Context, rows []audit.Row) error {
	durable, err := s.cursor(ctx)
	if err != nil {
		return err
	}
	more, after := added{}, s.after(durable)
	last := after
	for i := range rows {
		if rows[i].ID > after {
			more.row(&rows[i])
			last = rows[i].ID
		}
	}
	if last == after {
		return nil
	}
	old, err := s.counted(ctx, more)
	if err != nil {
		return err
	}
	return s.keep(ctx, more, old, durable, last)
}

// cursor returns up to which row the table counts.
func (s *Stats) cursor(ctx context.Context) (int64, error) {
	_, cursor, err := read(ctx, s.store.View(), "key = $1", cursorKey)
	return cursor, err
}

// after returns the row behind which rows are new. A log that was restored may end
// before the row that the cursor names: then its new rows have ids that are counted
// already, of rows that are gone.
func (s *Stats) after(durable int64) int64 {
	s.once.Do(func() {
		if durable > s.begun {
			s.stale.Store(durable)
		}
	})
	if durable != 0 && durable == s.stale.Load() {
		return s.begun
	}
	return durable
}

// counted returns the rows that there are already.
func (s *Stats) counted(ctx context.Context, of added) (map[string]row, error) {
	old := map[string]row{}
	if len(of) == 0 {
		return old, nil
	}
	var args []any
	var marks []string
	for key := range of {
		args = append(args, key)
		marks = append(marks, fmt.Sprintf("$%d", len(args)))
	}
	found, _, err := read(ctx, s.store.View(), "key IN ("+strings.Join(marks, ", ")+")", args...)
	for _, r := range found {
		old[r.Key] = r
	}
	return old, err
}

// keep makes the counts and the cursor durable together, and waits for it.
func (s *Stats) keep(ctx context.Context, more added, old map[string]row, durable, last int64) error {
	kept := make(chan error, 8) // a note runs again where its group is split
	s.store.Note(func(tx *metadata.Tx) error {
		now, err := s.rows.Get(ctx, tx, cursorKey)
		if err != nil && eider.CodeOf(err) != eider.NotFound {
			return err
		}
		if now.LogID != durable { // an earlier try was late, and kept after all
			select {
			case kept <- errNotKept:
			default:
			}
			return errNotKept
		}
		for key, r := range more {
			changed, err := *r, error(nil)
			if before, ok := old[key]; ok {
				changed.add(before.counts)
				err = s.rows.Update(tx, changed)
			} else {
				err = s.rows.Insert(tx, changed)
			}
			if err != nil {
				return err
			}
		}
		tx.After(func() { kept <- nil })
		return s.rows.Put(ctx, tx, row{Key: cursorKey, Period: cursorKey, Begun: time.Unix(0, 0).UTC(), LogID: last})
	})
	late := time.NewTimer(durableWithin)
	defer late.Stop()
	select {
	case err := <-kept:
		if err == nil {
			s.stale.Store(0)
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-late.C:
		return errNotKept
	}
}
