package metadata

import (
	"context"
	"fmt"
)

// staged is a row as a group will leave it: nil means deleted. existed says
// whether the database has the key, which decides between insert and update.
type staged struct {
	row     any
	existed bool
}

type indexKey struct {
	table AnyTable
	index string
	value string
}

// layer is what one function, or one group, has staged so far.
type layer struct {
	rows   map[AnyTable]map[string]staged
	index  map[indexKey]string // value -> key; "" where a value became free
	items  []any               // for the sealer, in order
	claims []claimChange
	after  []func()
	cuts   map[*Spec]int64 // by table, the last row that goes
}

func newLayer() *layer {
	return &layer{rows: map[AnyTable]map[string]staged{}, index: map[indexKey]string{}}
}

// empty reports that nothing was staged that a commit would have to keep or do.
func (l *layer) empty() bool {
	return len(l.rows) == 0 && len(l.items) == 0 && len(l.claims) == 0 && len(l.after) == 0 && len(l.cuts) == 0
}

func (l *layer) put(t AnyTable, key string, s staged) {
	rows := l.rows[t]
	if rows == nil {
		rows = map[string]staged{}
		l.rows[t] = rows
	}
	rows[key] = s
}

func (l *layer) cut(t *Spec, last int64) {
	if l.cuts == nil {
		l.cuts = map[*Spec]int64{}
	}
	l.cuts[t] = max(l.cuts[t], last)
}

// absorb lays the other layer on top of this one.
func (l *layer) absorb(top *layer) {
	for t, rows := range top.rows {
		for key, s := range rows {
			l.put(t, key, s)
		}
	}
	for k, key := range top.index {
		l.index[k] = key
	}
	l.items = append(l.items, top.items...)
	l.claims = append(l.claims, top.claims...)
	l.after = append(l.after, top.after...)
	for t, last := range top.cuts {
		l.cut(t, last)
	}
}

// Reader is where rows are read from: a Tx, which sees what its group has
// staged, or a View, which sees what is committed.
type Reader interface {
	engine() Engine
	stagedRow(t AnyTable, key string) (staged, bool)
	stagedIndex(t AnyTable, index, value string) (string, bool)
}

// Tx is the overlay in which one function stages its rows. What the function
// refuses is dropped with its layer and costs its neighbours nothing. A Tx is
// used by one goroutine, inside its function, and never afterwards.
//
// The function may run twice: when a group fails it is split and tried again.
// So it reads and stages rows, and touches nothing else; what must happen once,
// after the commit, is given to After.
type Tx struct {
	store  *Store
	layers []*layer // the group's first, this function's next, then one for each Try
	note   bool
}

func (tx *Tx) engine() Engine { return tx.store.engine }
func (tx *Tx) top() *layer    { return tx.layers[len(tx.layers)-1] }

func (tx *Tx) stagedRow(t AnyTable, key string) (staged, bool) {
	for i := len(tx.layers) - 1; i >= 0; i-- {
		if s, ok := tx.layers[i].rows[t][key]; ok {
			return s, true
		}
	}
	return staged{}, false
}

func (tx *Tx) stagedIndex(t AnyTable, index, value string) (string, bool) {
	for i := len(tx.layers) - 1; i >= 0; i-- {
		if key, ok := tx.layers[i].index[indexKey{t, index, value}]; ok {
			return key, true
		}
	}
	return "", false
}

// Try runs do and keeps what it stages only if it returns nil, so that a
// refused change and the row that reports it share one transaction.
func (tx *Tx) Try(do func() error) error {
	depth := len(tx.layers)
	top := newLayer()
	tx.layers = append(tx.layers, top)
	defer func() { tx.layers = tx.layers[:depth] }() // also where do panics and its caller recovers
	err := do()
	if err == nil {
		tx.layers[depth-1].absorb(top)
	}
	return err
}

func (tx *Tx) mayTouch(table string) error {
	if tx.note && !tx.store.housekeeping[table] {
		return fmt.Errorf("metadata: table %s takes no notes", table)
	}
	return nil
}

// Stage hands an item, such as a log row, to the sealer, which turns the items
// of a group into rows last before the commit.
func (tx *Tx) Stage(item any) {
	l := tx.top()
	l.items = append(l.items, item)
}

// Cut stages the removal of the oldest rows of a table that only ever grows: those
// whose first column is at most last.
func (tx *Tx) Cut(t *Spec, last int64) { tx.top().cut(t, last) }

// After registers a function that runs in the writer once the group is
// durable, before the caller is answered. It must be quick and cannot fail.
func (tx *Tx) After(do func()) {
	l := tx.top()
	l.after = append(l.after, do)
}

// View reads what is committed. Statements run one by one, each in a
// transaction of its own: a report that takes long pages by id instead of
// holding one open, which would block checkpoints.
type View struct{ store *Store }

func (v *View) engine() Engine                                               { return v.store.engine }
func (v *View) stagedRow(AnyTable, string) (staged, bool)                    { return staged{}, false }
func (v *View) stagedIndex(AnyTable, string, string) (value string, ok bool) { return "", false }

// Query runs one statement that reads.
func (v *View) Query(ctx context.Context, sql string, args ...any) (Rows, error) {
	return v.store.engine.Query(ctx, sql, args...)
}
