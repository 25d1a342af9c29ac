// Package usage counts what projects and the whole server hold, and what calls
// under way will add.
//
// Totals are rows of the hot table usage, changed in the transaction of the
// operation that changes the thing counted. A reservation lives in memory from
// admission until its call commits or fails, so that of two calls that race for
// the last room one passes. The package knows no limit: policies do.
package usage

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
)

// Server is the scope of the whole server; the other scopes are projects' uids.
const Server = "server"

// Amounts are counts of what a scope holds, or what a call adds to it.
type Amounts struct {
	Projects int64 `json:"projects"`
	Bytes    int64 `json:"bytes"`
	Files    int64 `json:"files"`
	Tables   int64 `json:"tables"`
	Rows     int64 `json:"rows"`
}

// Plus returns the sum. A sum that an int64 cannot hold is the largest that it
// can: lengths are what clients say, and two huge ones must not add up to less
// than nothing.
func (a Amounts) Plus(b Amounts) Amounts {
	return Amounts{plus(a.Projects, b.Projects), plus(a.Bytes, b.Bytes), plus(a.Files, b.Files), plus(a.Tables, b.Tables), plus(a.Rows, b.Rows)}
}

// Minus returns the difference.
func (a Amounts) Minus(b Amounts) Amounts {
	return a.Plus(Amounts{-b.Projects, -b.Bytes, -b.Files, -b.Tables, -b.Rows})
}

// atLeastZero returns the amounts without those below zero.
func (a Amounts) atLeastZero() Amounts {
	return Amounts{max(0, a.Projects), max(0, a.Bytes), max(0, a.Files), max(0, a.Tables), max(0, a.Rows)}
}

func plus(a, b int64) int64 {
	switch sum := a + b; {
	case a > 0 && b > 0 && sum < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && sum >= 0:
		return math.MinInt64
	default:
		return sum
	}
}

// Totals is what a scope holds.
type Totals struct {
	Scope string
	Amounts
	UpdatedAt time.Time

	// settled are the tickets whose reservations are part of these amounts and that
	// are not released yet. They are in memory only.
	settled []*Ticket
}

// Book holds the totals and the reservations.
type Book struct {
	Table *metadata.Table[Totals]

	mu       sync.Mutex
	reserved map[string][]part // by scope, oldest first
}

// NewBook returns a book with no reservations.
func NewBook() *Book {
	return &Book{Table: newTable(), reserved: map[string][]part{}}
}

func newTable() *metadata.Table[Totals] {
	return metadata.NewTable(metadata.Def[Totals]{
		Name: "usage",
		Columns: []metadata.Column{
			{Name: "scope", Kind: metadata.Text}, {Name: "projects", Kind: metadata.Int}, {Name: "bytes", Kind: metadata.Int},
			{Name: "files", Kind: metadata.Int}, {Name: "tables", Kind: metadata.Int}, {Name: "row_count", Kind: metadata.Int},
			{Name: "updated_at", Kind: metadata.Time},
		},
		Key: func(t *Totals) string { return t.Scope },
		Encode: func(t *Totals) []any {
			return []any{t.Scope, t.Projects, t.Bytes, t.Files, t.Tables, t.Rows, t.UpdatedAt}
		},
		Decode: func(scan func(...any) error) (t Totals, err error) {
			err = scan(&t.Scope, &t.Projects, &t.Bytes, &t.Files, &t.Tables, &t.Rows, &t.UpdatedAt)
			return t, err
		},
		Missing: eider.NotFound, Noun: "scope", Hot: true,
	})
}

// Migrations creates the table of totals.
func Migrations() []metadata.Migration {
	return []metadata.Migration{{Owner: "usage", Number: 1, SQL: []string{`
		CREATE TABLE usage (
			scope TEXT PRIMARY KEY, projects BIGINT NOT NULL, bytes BIGINT NOT NULL, files BIGINT NOT NULL,
			tables BIGINT NOT NULL, row_count BIGINT NOT NULL, updated_at TIMESTAMPTZ NOT NULL)`}}}
}

// Of returns what the scope holds as r sees it; nothing for a scope unknown.
func (b *Book) Of(ctx context.Context, r metadata.Reader, scope string) (Amounts, error) {
	t, err := b.row(ctx, r, scope)
	return t.Amounts, err
}

// Add stages a change of the project's totals and of the server's. An empty
// project changes the server's alone.
func (b *Book) Add(ctx context.Context, tx *metadata.Tx, project string, change Amounts) error {
	for _, scope := range scopes(project) {
		row, err := b.row(ctx, tx, scope)
		if err != nil {
			return err
		}
		row.Amounts = row.Plus(change)
		row.UpdatedAt = time.Now().UTC().Truncate(time.Microsecond)
		if err := b.Table.Put(ctx, tx, row); err != nil {
			return err
		}
	}
	return nil
}

// row returns the scope's row as r sees it, one that holds nothing for a scope
// unknown.
func (b *Book) row(ctx context.Context, r metadata.Reader, scope string) (Totals, error) {
	t, err := b.Table.Get(ctx, r, scope)
	if eider.CodeOf(err) == eider.NotFound {
		return Totals{Scope: scope}, nil
	}
	return t, err
}

// Forget stages the end of a project's totals: what it still holds leaves the
// server's.
func (b *Book) Forget(ctx context.Context, tx *metadata.Tx, project string) error {
	held, err := b.Of(ctx, tx, project)
	if err != nil {
		return err
	}
	if err := b.Add(ctx, tx, "", Amounts{}.Minus(held)); err != nil {
		return err
	}
	return b.Table.Delete(ctx, tx, project)
}

func scopes(project string) []string {
	if project == "" {
		return []string{Server}
	}
	return []string{project, Server}
}

// One statement sees one instant.
const selectDrift = `
	SELECT CAST(coalesce(sum(CASE WHEN scope <> 'server' THEN projects ELSE -projects END), 0) AS BIGINT),
		CAST(coalesce(sum(CASE WHEN scope <> 'server' THEN bytes ELSE -bytes END), 0) AS BIGINT),
		CAST(coalesce(sum(CASE WHEN scope <> 'server' THEN files ELSE -files END), 0) AS BIGINT),
		CAST(coalesce(sum(CASE WHEN scope <> 'server' THEN tables ELSE -tables END), 0) AS BIGINT),
		CAST(coalesce(sum(CASE WHEN scope <> 'server' THEN row_count ELSE -row_count END), 0) AS BIGINT)
	FROM usage`

// Drift returns by how much the projects' totals are more than the server's. There
// is none unless somebody has altered the table.
func (b *Book) Drift(ctx context.Context, v *metadata.View) (d Amounts, err error) {
	rows, err := v.Query(ctx, selectDrift)
	if err != nil {
		return d, err
	}
	defer rows.Close()
	if rows.Next() {
		err = rows.Scan(&d.Projects, &d.Bytes, &d.Files, &d.Tables, &d.Rows)
	}
	return d, errors.Join(err, rows.Err())
}
