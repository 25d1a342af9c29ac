package metadata_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/metadata/metadatatest"
)

// database is what outlives an engine of memory.
type database struct {
	mu      sync.Mutex
	applied map[string]int
	tables  map[string]map[string][]any // table -> key -> row
	columns map[string][]string
}

func newDatabase() *database {
	return &database{applied: map[string]int{}, tables: map[string]map[string][]any{}, columns: map[string][]string{}}
}

// memory is an engine that understands what tables ask, and no other SQL. It
// lets the store's own rules be tested where no database is linked.
type memory struct{ *database }

func (d *database) open(testing.TB) metadata.Engine { return memory{d} }

var _ metadatatest.Opener = newDatabase().open

func (e memory) Migrate(_ context.Context, all []metadata.Migration) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	newest := map[string]int{}
	for _, m := range all {
		newest[m.Owner] = m.Number
	}
	for owner, number := range e.applied {
		if number > newest[owner] {
			return metadata.ErrNewer
		}
	}
	maps.Copy(e.applied, newest)
	return nil
}

func (e memory) Commit(_ context.Context, b *metadata.Batch) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	after := map[string]map[string][]any{}
	for _, c := range b.Changes {
		rows := maps.Clone(e.tables[c.Table.Name])
		if rows == nil {
			rows = map[string][]any{}
		}
		for _, key := range c.Delete {
			delete(rows, fmt.Sprint(key))
		}
		for _, row := range c.Update {
			rows[fmt.Sprint(row[0])] = row
		}
		for _, row := range c.Insert {
			if rows[fmt.Sprint(row[0])] != nil {
				return fmt.Errorf("%w: duplicate key %v in %s", metadata.ErrRolledBack, row[0], c.Table.Name)
			}
			rows[fmt.Sprint(row[0])] = row
		}
		after[c.Table.Name] = rows
		e.columns[c.Table.Name] = nil
		for _, column := range c.Table.Columns {
			e.columns[c.Table.Name] = append(e.columns[c.Table.Name], column.Name)
		}
	}
	maps.Copy(e.tables, after)
	return nil
}

var selects = regexp.MustCompile(`^SELECT (.+) FROM (\w+)( WHERE \w+ = \$1)?$`)

func (e memory) Query(ctx context.Context, sql string, args ...any) (metadata.Rows, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if sql == "SELECT 1" {
		return &memoryRows{rows: [][]any{{int64(1)}}}, nil
	}
	words := selects.FindStringSubmatch(sql)
	if words == nil {
		return nil, fmt.Errorf("cannot read %q", sql)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var found [][]any
	for key, row := range e.tables[words[2]] {
		if words[3] != "" && key != args[0] {
			continue
		}
		var values []any
		for _, wanted := range strings.Split(words[1], ", ") {
			for i, column := range e.columns[words[2]] {
				if column == wanted {
					values = append(values, row[i])
				}
			}
		}
		found = append(found, values)
	}
	return &memoryRows{rows: found}, nil
}

func (memory) Maintain(context.Context) error { return nil }
func (memory) Dead() error                    { return nil }
func (memory) Reopen(context.Context) error   { return nil }
func (memory) Close() error                   { return nil }

type memoryRows struct {
	rows [][]any
	at   int
}

func (r *memoryRows) Next() bool   { r.at++; return r.at <= len(r.rows) }
func (r *memoryRows) Err() error   { return nil }
func (r *memoryRows) Close() error { return nil }

func (r *memoryRows) Scan(dest ...any) error {
	row := r.rows[r.at-1]
	if len(row) != len(dest) {
		return errors.New("another number of columns")
	}
	for i, d := range dest {
		switch d := d.(type) {
		case *string:
			*d = row[i].(string)
		case *int64:
			*d = row[i].(int64)
		default:
			return fmt.Errorf("cannot scan into a %T", d)
		}
	}
	return nil
}
