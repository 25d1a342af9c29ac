package metadatatest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
	"pgregory.net/rapid"
)

// state is what the store should hold.
type state struct {
	people map[string]person
	pages  map[string]page
	fresh  map[string]bool // pages whose keys this group has looked up or staged
	items  []string
	after  int
}

func (s *state) clone() *state {
	return &state{maps.Clone(s.people), maps.Clone(s.pages), maps.Clone(s.fresh), slices.Clone(s.items), s.after}
}

func (s *state) withEmail(email string) (person, bool) {
	for _, p := range s.people {
		if email != "" && p.Email == email {
			return p, true
		}
	}
	return person{}, false
}

// step is one thing that a function does.
type step struct {
	Kind  string
	Key   string
	Email string
	N     int64
	Inner []step // of a try
	Fails bool   // the try
}

// function is a function of a group.
type function struct {
	Steps []step
	Ends  string // ok, refuse, panic, poison
}

var (
	keys   = rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"})
	emails = rapid.SampledFrom([]string{"", "x", "y", "z"})
	kinds  = []string{"put", "put", "insert", "delete", "get", "by", "put page", "insert page", "delete page", "drop page", "get page", "drop", "item", "after", "try"}
)

func steps(depth int) *rapid.Generator[[]step] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		s := step{
			Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Key: keys.Draw(t, "key"),
			Email: emails.Draw(t, "email"), N: rapid.Int64Range(0, 3).Draw(t, "n"),
		}
		if s.Kind == "try" && depth > 0 {
			s.Inner, s.Fails = steps(depth-1).Draw(t, "inner"), rapid.Bool().Draw(t, "fails")
		}
		return s
	}), 0, 5)
}

var functions = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) function {
	return function{steps(2).Draw(t, "steps"), rapid.SampledFrom([]string{"ok", "ok", "ok", "ok", "refuse", "panic", "poison"}).Draw(t, "ends")}
}), 1, 6)

// The fates of a group. Once each one is over, the group's later commits go well.
var fates = []string{"", "", "", "", "rolled back", "not sealed", "full", "full, room made", "lost", "kept", "lost and dead", "kept and dead"}

// model runs functions on a store and on plain maps, and compares. All but
// check is called by the writer.
type model struct {
	rig       *rig
	committed *state
	staged    *state
	fate      string
	room      bool
	wrong     []string
}

func newModel(r *rig) *model {
	m := &model{rig: r, committed: &state{people: map[string]person{}, pages: map[string]page{}, fresh: map[string]bool{}}}
	m.staged = m.committed.clone()
	m.hook()
	return m
}

func (m *model) hook() {
	m.rig.engine.next, m.rig.engine.settled = m.next, m.settled
	m.rig.sealer.fail = func() error {
		if m.fate != "not sealed" {
			return nil
		}
		m.fate = ""
		m.settled(false)
		return errProvoked
	}
	m.rig.full = func() bool { return m.room }
}

func (m *model) next(b *metadata.Batch) fault {
	for _, c := range b.Changes {
		for _, row := range c.Insert {
			if c.Table.Name == "ledger" && row[1] == "poison" {
				return fault{before: fmt.Errorf("%w: poison", metadata.ErrRolledBack)}
			}
		}
	}
	fate := m.fate
	m.fate = ""
	switch fate {
	case "rolled back":
		return fault{before: fmt.Errorf("%w: once", metadata.ErrRolledBack)}
	case "full", "full, room made":
		return fault{before: fmt.Errorf("%w: %w", metadata.ErrRolledBack, metadata.ErrFull)}
	case "lost", "lost and dead":
		return fault{before: errProvoked, dead: fate == "lost and dead"}
	case "kept", "kept and dead":
		return fault{after: errProvoked, dead: fate == "kept and dead"}
	}
	return fault{}
}

func (m *model) settled(durable bool) {
	if durable {
		m.committed = m.staged
	}
	m.staged = m.committed.clone()
	m.staged.fresh = map[string]bool{}
}

func (m *model) errorf(format string, args ...any) {
	m.wrong = append(m.wrong, fmt.Sprintf(format, args...))
}

var errRefused = errors.New("refused")

// run is the function in the store, which checks each answer against the maps.
func (m *model) run(f function, name string, after *int) func(*metadata.Tx) error {
	return func(tx *metadata.Tx) error {
		s := m.staged.clone()
		m.steps(tx, s, f.Steps, after)
		switch f.Ends {
		case "refuse":
			return errRefused
		case "panic":
			panic("provoked")
		case "poison":
			name = "poison"
		}
		tx.Stage(name) // by which the sealer knows what became of the group
		s.items = append(s.items, name)
		m.staged = s
		return nil
	}
}

func (m *model) steps(tx *metadata.Tx, s *state, all []step, after *int) {
	for _, do := range all {
		switch do.Kind {
		case "item":
			tx.Stage("item " + do.Key)
			s.items = append(s.items, "item "+do.Key)
		case "after":
			tx.After(func() { *after++ })
			s.after++
		case "try":
			m.try(tx, s, do, after)
		default:
			m.person(tx, s, do)
			m.page(tx, s, do)
			m.views(do.Key)
		}
	}
}

func (m *model) try(tx *metadata.Tx, s *state, do step, after *int) {
	inner := s.clone()
	err := tx.Try(func() error {
		m.steps(tx, inner, do.Inner, after)
		if do.Fails {
			return errRefused
		}
		return nil
	})
	if (err != nil) != do.Fails {
		m.errorf("a try ends with %v", err)
	}
	if !do.Fails {
		*s = *inner
	}
}

func (m *model) person(tx *metadata.Tx, s *state, do step) {
	ctx, people := context.Background(), m.rig.people
	p := person{do.Key, do.Email, do.N}
	old, there := s.people[do.Key]
	owner, taken := s.withEmail(do.Email)
	switch do.Kind {
	case "put":
		refused := taken && owner.ID != p.ID
		m.duplicate(do, people.Put(ctx, tx, p), refused)
		if !refused {
			s.people[p.ID] = p
		}
	case "insert":
		refused := there || taken
		m.duplicate(do, people.Insert(tx, p), refused)
		if !refused {
			s.people[p.ID] = p
		}
	case "delete":
		if err := people.Delete(ctx, tx, do.Key); err != nil {
			m.errorf("%v: %v", do, err)
		}
		delete(s.people, do.Key)
	case "drop":
		if err := people.Drop(tx, person{ID: do.Key}); err != nil {
			m.errorf("%v: %v", do, err)
		}
		delete(s.people, do.Key)
	case "get":
		got, err := people.Get(ctx, tx, do.Key)
		m.found(do, got, err, old, there)
	case "by":
		got, err := people.By(ctx, tx, byEmail, do.Email)
		m.found(do, got, err, owner, taken)
	}
}

func (m *model) page(tx *metadata.Tx, s *state, do step) {
	ctx, pages := context.Background(), m.rig.pages
	p := page{do.Key, do.Email}
	old, there := s.pages[do.Key]
	switch do.Kind {
	case "put page":
		if err := pages.Put(ctx, tx, p); err != nil {
			m.errorf("%v: %v", do, err)
		}
		s.pages[p.ID], s.fresh[p.ID] = p, true
	case "insert page":
		if there && !s.fresh[p.ID] {
			return // the caller has promised that it is not
		}
		m.duplicate(do, pages.Insert(tx, p), there)
		if !there {
			s.pages[p.ID], s.fresh[p.ID] = p, true
		}
	case "delete page":
		if err := pages.Delete(ctx, tx, do.Key); err != nil {
			m.errorf("%v: %v", do, err)
		}
		if there {
			s.fresh[p.ID] = true
		}
		delete(s.pages, do.Key)
	case "drop page":
		if !there && !s.fresh[do.Key] {
			return // the caller has promised that it is
		}
		if err := pages.Drop(tx, page{ID: do.Key}); err != nil {
			m.errorf("%v: %v", do, err)
		}
		delete(s.pages, do.Key)
		s.fresh[do.Key] = true
	case "get page":
		got, err := pages.Get(ctx, tx, do.Key)
		if there && (err != nil || got != old) || !there && eider.CodeOf(err) != eider.NotFound {
			m.errorf("%v: got %v, %v, want %v", do, got, err, old)
		}
	}
}

func (m *model) duplicate(do step, err error, refused bool) {
	var d *metadata.DuplicateError
	if errors.As(err, &d) != refused || !refused && err != nil {
		m.errorf("%v: got %v, should be refused %v", do, err, refused)
	}
}

func (m *model) found(do step, got person, err error, want person, there bool) {
	if there && (err != nil || got != want) || !there && eider.CodeOf(err) != eider.NotFound {
		m.errorf("%v: got %v, %v, want %v, %v", do, got, err, want, there)
	}
}

// views checks that nobody outside sees what is staged.
func (m *model) views(key string) {
	got, err := m.rig.people.Get(context.Background(), m.rig.store.View(), key)
	want, there := m.committed.people[key]
	m.found(step{Kind: "view", Key: key}, got, err, want, there)
}

// answer checks what a function's caller was told.
func (m *model) answer(f function, fate string, reached, alone bool, err error) {
	code := eider.CodeOf(err)
	var ok bool
	switch {
	case reached && fate == "full":
		ok = code == eider.StorageFull
	case reached && (fate == "lost" || fate == "lost and dead"):
		ok = code == eider.StorageUnavailable
	case reached && alone && (fate == "rolled back" || fate == "not sealed"):
		ok = code == eider.StorageUnavailable // there is nobody else to blame
	case f.Ends == "refuse":
		ok = errors.Is(err, errRefused)
	case f.Ends == "poison":
		ok = code == eider.StorageUnavailable
	case f.Ends == "panic":
		ok = err != nil && code == eider.Internal
	default:
		ok = err == nil
	}
	if !ok {
		m.errorf("%v in a group that is %q was answered %v", f.Ends, fate, err)
	}
}

// group runs functions in one group that has a fate. A function that spoils its
// group is split off first, so that fate and poison are not mixed.
func (m *model) group(t *rapid.T, fns []function, fate string) {
	m.fate, m.room = fate, fate == "full, room made"
	kept := false
	for i := range fns {
		if fate != "" && fns[i].Ends == "poison" {
			fns[i].Ends = "ok"
		}
		kept = kept || fns[i].Ends == "ok"
	}
	before, after := m.committed.after, 0
	var run []func(*metadata.Tx) error
	for i, f := range fns {
		run = append(run, m.run(f, fmt.Sprintf("function %d", i), &after))
	}
	for i, err := range m.rig.group(run...) {
		m.answer(fns[i], fate, kept, len(fns) == 1, err)
	}
	if m.fate != "" && kept {
		m.errorf("the fate %q was not met", m.fate)
	}
	m.fate = ""
	if want := m.committed.after - before; after != want {
		m.errorf("%d functions ran after the commit, want %d", after, want)
	}
	if len(m.wrong) > 0 {
		t.Fatalf("%v", m.wrong)
	}
}

// matchesModel runs random groups with random fates. The store is kept over all
// of them: an engine may take long to open.
func matchesModel(t *testing.T, open Opener) {
	r := newRig(t, open)
	m := newModel(r)
	rapid.Check(t, func(t *rapid.T) {
		m.fate, m.wrong = "", nil
		groups := rapid.IntRange(1, 4).Draw(t, "groups")
		for range groups {
			m.group(t, functions.Draw(t, "functions"), rapid.SampledFrom(fates).Draw(t, "fate"))
			m.check(t)
		}
		if rapid.IntRange(0, 9).Draw(t, "reopen") == 0 {
			r.again()
			m.hook()
			m.check(t)
		}
	})
}
