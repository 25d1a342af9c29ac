package metadatatest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
)

// A person is a row of a hot table with a unique index and an order, a page one
// of a table that is not hot.
type (
	person struct {
		ID, Email string
		N         int64
	}
	page struct{ ID, Text string }
)

const (
	byEmail = "email"
	byN     = "n"
	// unencodable is the key of a person that no row can be made of.
	unencodable = "unencodable"
)

func newPeople() *metadata.Table[person] {
	return metadata.NewTable(metadata.Def[person]{
		Name:    "people",
		Columns: []metadata.Column{{Name: "id", Kind: metadata.Text}, {Name: "email", Kind: metadata.Text}, {Name: "n", Kind: metadata.Int}},
		Key:     func(p *person) string { return p.ID },
		Encode: func(p *person) []any {
			if p.ID == unencodable {
				panic("provoked")
			}
			return []any{p.ID, p.Email, p.N}
		},
		Decode: func(scan func(...any) error) (p person, err error) {
			return p, scan(&p.ID, &p.Email, &p.N)
		},
		Missing: eider.NotFound, Noun: "person", Hot: true,
		Unique: map[string]func(*person) (string, bool){byEmail: func(p *person) (string, bool) { return p.Email, p.Email != "" }},
		Orders: map[string]func(a, b *person) int{byN: func(a, b *person) int { return cmp.Compare(a.N, b.N) }},
	})
}

func newPages() *metadata.Table[page] {
	return metadata.NewTable(metadata.Def[page]{
		Name:    "pages",
		Columns: []metadata.Column{{Name: "id", Kind: metadata.Text}, {Name: "text", Kind: metadata.Text}},
		Key:     func(p *page) string { return p.ID },
		Encode:  func(p *page) []any { return []any{p.ID, p.Text} },
		Decode:  func(scan func(...any) error) (p page, err error) { return p, scan(&p.ID, &p.Text) },
		Missing: eider.NotFound, Noun: "page",
	})
}

var rigTables = metadata.Migration{Owner: "rig", Number: 1, SQL: []string{
	`CREATE TABLE people (id TEXT PRIMARY KEY, email TEXT NOT NULL, n BIGINT NOT NULL)`,
	`CREATE TABLE pages (id TEXT PRIMARY KEY, text TEXT NOT NULL)`,
	`CREATE TABLE ledger (id BIGINT NOT NULL, item TEXT NOT NULL, chain TEXT NOT NULL)`,
}}

var ledgerSpec = metadata.Spec{Name: "ledger", Columns: []metadata.Column{
	{Name: "id", Kind: metadata.Int}, {Name: "item", Kind: metadata.Text}, {Name: "chain", Kind: metadata.Text}}}

// entry is a row of the ledger.
type entry struct {
	id          int64
	item, chain string
}

// ledger is a sealer as the log is one: it numbers and chains the items.
type ledger struct {
	fail func() error // called by Seal

	mu   sync.Mutex
	head entry
}

func (l *ledger) Head() entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

func (l *ledger) set(head entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head = head
}

func (l *ledger) Load(ctx context.Context, v *metadata.View) error {
	all, err := readLedger(ctx, v)
	if err != nil {
		return err
	}
	head := entry{}
	if len(all) > 0 {
		head = all[len(all)-1]
	}
	l.set(head)
	return nil
}

func readLedger(ctx context.Context, v *metadata.View) ([]entry, error) {
	rows, err := v.Query(ctx, "SELECT id, item, chain FROM ledger")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []entry
	for rows.Next() {
		var e entry
		if err := rows.Scan(&e.id, &e.item, &e.chain); err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].id < all[j].id })
	return all, rows.Err()
}

func (e entry) follow(item string) entry {
	sum := sha256.Sum256([]byte(e.chain + item))
	return entry{e.id + 1, item, hex.EncodeToString(sum[:4])}
}

func (l *ledger) Seal(g *metadata.Group) error {
	head := l.Head()
	for _, item := range g.Items() {
		head = head.follow(item.(string))
		g.Append(&ledgerSpec, []any{head.id, head.item, head.chain})
	}
	g.Seal = head
	if l.fail != nil { // last, when the group has its rows already
		return l.fail()
	}
	return nil
}

func (l *ledger) Sealed(g *metadata.Group) { l.set(g.Seal.(entry)) }

func (l *ledger) Kept(g *metadata.Group) bool { return l.Head() == g.Seal.(entry) }

// rig is a store on an engine under test.
type rig struct {
	t      testing.TB
	open   Opener
	engine *faulty
	sealer *ledger
	people *metadata.Table[person]
	pages  *metadata.Table[page]
	store  *metadata.Store
	fatal  chan error
	full   func() bool // called by the writer
}

// newRig opens a store that a test has to itself, and closes it with the test.
func newRig(t testing.TB, open Opener, change ...func(*metadata.Options)) *rig {
	t.Helper()
	r := &rig{t: t, open: open}
	r.start(change...)
	t.Cleanup(func() { must(t, r.store.Close()) })
	return r
}

func (r *rig) start(change ...func(*metadata.Options)) {
	r.t.Helper()
	r.engine = &faulty{open: func() metadata.Engine { return r.open(r.t) }}
	r.engine.inner = r.engine.open()
	r.sealer, r.people, r.pages = &ledger{}, newPeople(), newPages()
	r.fatal = make(chan error, 8)
	o := metadata.Options{
		Engine: r.engine, Tables: []metadata.AnyTable{r.people, r.pages}, Migrations: []metadata.Migration{rigTables},
		Sealer: r.sealer, Housekeeping: []string{"pages"},
		Fatal: func(err error) { r.fatal <- err },
		Full:  func() bool { return r.full != nil && r.full() },
	}
	for _, c := range change {
		c(&o)
	}
	var err error
	r.store, err = metadata.Open(context.Background(), o)
	must(r.t, err)
}

// again closes the store and opens it again on the same database.
func (r *rig) again() {
	r.t.Helper()
	must(r.t, r.store.Close())
	r.start()
}

var errHold = errors.New("held")

// hold keeps the writer inside a function, until the function that it returns
// is called.
func (r *rig) hold() (release func()) {
	entered, leave, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(left)
		_, _ = r.store.Write(context.Background(), func(*metadata.Tx) error {
			close(entered)
			<-leave
			return errHold
		})
	}()
	<-entered
	return func() { close(leave); <-left }
}

// until waits for a condition.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// waiting is a write that is under way.
type waiting struct {
	done    chan struct{}
	receipt metadata.Receipt
	err     error
}

// begin starts a write; the writer being held, it waits behind those before it.
func (r *rig) begin(ctx context.Context, fn func(*metadata.Tx) error) *waiting {
	w := &waiting{done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.receipt, w.err = r.store.Write(ctx, fn)
	}()
	return w
}

func (w *waiting) wait() error { <-w.done; return w.err }

func (w *waiting) over() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// group runs the functions in one group and returns their answers.
func (r *rig) group(fns ...func(*metadata.Tx) error) []error {
	r.t.Helper()
	release := r.hold()
	var all []*waiting
	for i, fn := range fns {
		all = append(all, r.begin(context.Background(), fn))
		until(r.t, "the write is queued", func() bool { return r.store.Waiting() == i+1 })
	}
	release()
	var errs []error
	for _, w := range all {
		errs = append(errs, w.wait())
	}
	return errs
}

// write runs one function.
func (r *rig) write(fn func(*metadata.Tx) error) error {
	_, err := r.store.Write(context.Background(), fn)
	return err
}

// add is a function that adds a person and leaves an item.
func (r *rig) add(p person) func(*metadata.Tx) error {
	return func(tx *metadata.Tx) error {
		tx.Stage("add " + p.ID)
		return r.people.Put(context.Background(), tx, p)
	}
}

// holds checks that exactly these people are there, in memory and in the
// database, and that ledger, head and items agree.
func (r *rig) holds(ids ...string) {
	r.t.Helper()
	sort.Strings(ids)
	if got := r.people.Keys(); fmt.Sprint(got) != fmt.Sprint(ids) {
		r.t.Errorf("in memory are %v, want %v", got, ids)
	}
	rows, err := r.store.View().Query(context.Background(), "SELECT id FROM people")
	must(r.t, err)
	defer rows.Close()
	stored := []string{}
	for rows.Next() {
		var id string
		must(r.t, rows.Scan(&id))
		stored = append(stored, id)
	}
	must(r.t, rows.Err())
	if sort.Strings(stored); fmt.Sprint(stored) != fmt.Sprint(ids) {
		r.t.Errorf("in the database are %v, want %v", stored, ids)
	}
	r.chained()
}

// chained checks that the table's rows are a chain whose end is the head.
func (r *rig) chained() []string {
	r.t.Helper()
	all, err := readLedger(context.Background(), r.store.View())
	must(r.t, err)
	var items []string
	last := entry{}
	for _, e := range all {
		if want := last.follow(e.item); e != want {
			r.t.Errorf("the chain holds %v where %v belongs", e, want)
		}
		last = e
		items = append(items, e.item)
	}
	if head := r.sealer.Head(); head != last {
		r.t.Errorf("the head is %v, the table ends with %v", head, last)
	}
	return items
}
