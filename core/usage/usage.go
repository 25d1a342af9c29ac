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

// Plus returns the sum.
func (a Amounts) Plus(b Amounts) Amounts {
	return Amounts{a.Projects + b.Projects, a.Bytes + b.Bytes, a.Files + b.Files, a.Tables + b.Tables, a.Rows + b.Rows}
}

// Minus returns the difference.
func (a Amounts) Minus(b Amounts) Amounts {
	return a.Plus(Amounts{-b.Projects, -b.Bytes, -b.Files, -b.Tables, -b.Rows})
}

// Totals is what a scope holds.
type Totals struct {
	Scope string
	Amounts
	UpdatedAt time.Time
}

// Book holds the totals and the reservations.
type Book struct {
	Table *metadata.Table[Totals]

	mu      sync.Mutex
	tickets map[string][]*Ticket // by scope, oldest first
}

// NewBook returns a book with no reservations.
func NewBook() *Book {
	return &Book{Table: newTable(), tickets: map[string][]*Ticket{}}
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
	t, err := b.Table.Get(ctx, r, scope)
	if eider.CodeOf(err) == eider.NotFound {
		return Amounts{}, nil
	}
	return t.Amounts, err
}

// Add stages a change of the project's totals and of the server's. An empty
// project changes the server's alone.
func (b *Book) Add(ctx context.Context, tx *metadata.Tx, project string, change Amounts) error {
	for _, scope := range scopes(project) {
		held, err := b.Of(ctx, tx, scope)
		if err != nil {
			return err
		}
		row := Totals{scope, held.Plus(change), time.Now().UTC().Truncate(time.Microsecond)}
		if err := b.Table.Put(ctx, tx, row); err != nil {
			return err
		}
	}
	return nil
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

// Ticket is a reservation. It counts in every view of usage until Release, which
// belongs into Tx.After of the transaction that adds what was reserved: for an
// instant both count, never neither.
type Ticket struct {
	book    *Book
	project string
	amounts Amounts // guarded by book.mu
}

// Reserve takes a ticket behind those that are held already.
func (b *Book) Reserve(project string, a Amounts) *Ticket {
	t := &Ticket{book: b, project: project, amounts: a}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, scope := range scopes(project) {
		b.tickets[scope] = append(b.tickets[scope], t)
	}
	return t
}

// Extend adds to the reservation, as for a body of unknown length that grows.
func (t *Ticket) Extend(a Amounts) {
	t.book.mu.Lock()
	defer t.book.mu.Unlock()
	t.amounts = t.amounts.Plus(a)
}

// Release ends the reservation. It may be called more than once.
func (t *Ticket) Release() {
	b := t.book
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, scope := range scopes(t.project) {
		held := b.tickets[scope]
		for i := range held {
			if held[i] == t {
				b.tickets[scope] = append(held[:i:i], held[i+1:]...)
				break
			}
		}
		if len(b.tickets[scope]) == 0 {
			delete(b.tickets, scope)
		}
	}
}

// Seen returns what a policy that is asked for this ticket's call must count in
// its project and on the server: what is committed, earlier tickets, and itself.
func (t *Ticket) Seen(ctx context.Context, r metadata.Reader) (project, server Amounts, err error) {
	if t.project != "" {
		if project, err = t.seen(ctx, r, t.project); err != nil {
			return project, server, err
		}
	}
	server, err = t.seen(ctx, r, Server)
	return project, server, err
}

func (t *Ticket) seen(ctx context.Context, r metadata.Reader, scope string) (Amounts, error) {
	b := t.book
	b.mu.Lock() // tickets first: one that commits meanwhile counts twice, not never
	sum := Amounts{}
	for _, other := range b.tickets[scope] {
		sum = sum.Plus(other.amounts)
		if other == t {
			break
		}
	}
	b.mu.Unlock()
	held, err := b.Of(ctx, r, scope)
	return sum.Plus(held), err
}
