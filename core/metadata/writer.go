package metadata

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/eiderdb/eider"
)

// Receipt says how a write became durable.
type Receipt struct {
	Group  int           // functions that shared the commit
	Waited time.Duration // from the call until its group began
	Commit time.Duration // flush, seal and commit of the group
}

type write struct {
	ctx    context.Context
	fn     func(*Tx) error
	queued time.Time
	answer chan answer
	begun  bool // fn was called: ctx does not count any more
}

type answer struct {
	receipt Receipt
	err     error
}

// Group is what a sealer sees of the writes that share a commit.
type Group struct {
	layer *layer
	kept  []*write // whose functions returned nil
	extra map[*Spec][][]any
	// Seal is the sealer's own note on this group, from Seal until Sealed.
	Seal any
}

// Items returns what the group's functions have staged, in order.
func (g *Group) Items() []any { return g.layer.items }

// Append adds a new row to a table that only ever grows.
func (g *Group) Append(t *Spec, row []any) { g.extra[t] = append(g.extra[t], row) }

// writer answers the writes, a group at a time:
//
//	take all that wait
//	run each function on a layer of its own; drop the layers of those that refuse
//	seal: turn log items into hashed rows
//	flush and commit: one transaction, one fsync
//	only now change what is in memory, then answer
//
// A group that fails for the fault of one is split in halves until that one is
// found; a disk that is full, and stays so, or that is broken fails them all at
// once.
func (s *Store) writer() {
	defer close(s.done)
	for {
		group, open := s.next()
		if len(group) > 0 || s.hasNotes() {
			s.commit(attempt{writes: group, notes: s.takeNotes()})
			s.maintain()
		}
		if !open {
			return
		}
	}
}

func (s *Store) hasNotes() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.notes) > 0
}

// next waits for writes, or for notes or what is written Later to grow old. It
// returns false once the store is closing and the queues are empty.
func (s *Store) next() (group []*write, open bool) {
	var old, late <-chan time.Time
	for {
		select {
		case w := <-s.queue:
			return s.drain(append(group, w)), true
		case w := <-s.later:
			if group = append(group, w); len(group) >= s.maxGroup {
				return group, true
			}
			if late == nil {
				late = time.After(s.laterEvery)
			}
		case <-late:
			return s.drain(group), true
		case <-s.noted:
			if old == nil {
				old = time.After(s.noteEvery)
			}
		case <-old:
			return s.drain(group), true
		case <-s.stop:
			group = s.drain(group)
			return group, len(group) > 0 || s.hasNotes() // one may ask for another
		}
	}
}

func (s *Store) drain(group []*write) []*write {
	for _, queue := range []chan *write{s.queue, s.later} {
		group = take(group, queue, s.maxGroup)
	}
	return group
}

func take(group []*write, queue <-chan *write, most int) []*write {
	for len(group) < most {
		select {
		case w := <-queue:
			group = append(group, w)
		default:
			return group
		}
	}
	return group
}

func (s *Store) maintain() {
	if s.Ready() != nil {
		return
	}
	if err := s.engine.Maintain(context.Background()); err != nil {
		s.log.Warn("metadata maintenance failed", "error", err)
		if errors.Is(err, ErrFull) {
			s.full()
		}
		if s.engine.Dead() != nil {
			s.settle(nil, err)
		}
	}
}

// attempt is what shall share a commit.
type attempt struct {
	writes []*write
	notes  []func(*Tx) error
	// roomMade says that Full was asked for this group: not again.
	roomMade bool
}

// halves splits the attempt: into the writes and the notes where it has both.
func (a attempt) halves() (first, second attempt) {
	first, second = a, a
	switch w, n := len(a.writes)/2, len(a.notes)/2; {
	case len(a.writes) > 0 && len(a.notes) > 0:
		first.notes, second.writes = nil, nil
	case len(a.writes) > 0:
		first.writes, second.writes = a.writes[:w], a.writes[w:]
	default:
		first.notes, second.notes = a.notes[:n], a.notes[n:]
	}
	return first, second
}

// commit makes the writes durable and answers each.
func (s *Store) commit(a attempt) {
	if err := s.Ready(); err != nil {
		refuse(a.writes, err)
		return
	}
	begun := time.Now()
	g, refused := s.run(a)
	if len(g.kept) == 0 && g.layer.empty() {
		answerAll(refused, Receipt{})
		return
	}
	if err := s.flush(g); err != nil {
		s.failed(g, a, refused, err, begun)
		return
	}
	s.finish(g, refused, begun)
}

type refusal struct {
	w   *write
	err error
}

// run calls the functions and the notes, and collects those that refused.
func (s *Store) run(a attempt) (*Group, []refusal) {
	g := &Group{layer: newLayer(), extra: map[*Spec][][]any{}}
	var refused []refusal
	for _, w := range a.writes {
		if err := w.ctx.Err(); err != nil && !w.begun {
			refused = append(refused, refusal{w, err})
			continue
		}
		w.begun = true
		if err := s.call(g.layer, w.fn, false); err != nil {
			refused = append(refused, refusal{w, err})
			continue
		}
		g.kept = append(g.kept, w)
	}
	for _, note := range a.notes {
		if err := s.call(g.layer, note, true); err != nil {
			s.log.Warn("a note was dropped", "error", err)
		}
	}
	return g, refused
}

func (s *Store) call(base *layer, fn func(*Tx) error, note bool) (err error) {
	tx := &Tx{store: s, layers: []*layer{base}, note: note}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a transaction: %v\n%s", p, debug.Stack())
		}
	}()
	return tx.Try(func() error { return fn(tx) })
}

// flush seals the group and commits it.
func (s *Store) flush(g *Group) error {
	b, err := s.seal(g)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRolledBack, err)
	}
	return s.engine.Commit(context.Background(), b)
}

// seal returns the batch of a sealed group. A row that panics when it is encoded
// is a fault of its function, and found like one.
func (s *Store) seal(g *Group) (b *Batch, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic while a group is sealed: %v\n%s", p, debug.Stack())
		}
	}()
	if err := s.sealer.Seal(g); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return g.batch(), nil
}

func (g *Group) batch() *Batch {
	b := &Batch{}
	for t, rows := range g.layer.rows {
		change := Change{Table: t.specification()}
		for key, row := range rows {
			switch {
			case row.row == nil && row.existed:
				change.Delete = append(change.Delete, key)
			case row.row == nil: // came and went within the group
			case row.existed:
				change.Update = append(change.Update, t.encode(row.row))
			default:
				change.Insert = append(change.Insert, t.encode(row.row))
			}
		}
		b.Changes = append(b.Changes, change)
	}
	for spec, last := range g.layer.cuts {
		b.Changes = append(b.Changes, Change{Table: spec, Through: last})
	}
	for spec, rows := range g.extra {
		b.Changes = append(b.Changes, Change{Table: spec, Insert: rows})
	}
	return b
}

// finish moves a durable group into memory and answers its callers.
func (s *Store) finish(g *Group, refused []refusal, begun time.Time) {
	for t, rows := range g.layer.rows {
		t.apply(rows)
	}
	s.conclude(g, refused, begun)
}

// conclude does what follows from a group's being durable.
func (s *Store) conclude(g *Group, refused []refusal, begun time.Time) {
	for _, change := range g.layer.claims {
		if change.release {
			s.claims.release(change.call)
		} else {
			s.claims.take(change.call, change.claims)
		}
	}
	s.sealer.Sealed(g)
	for _, do := range g.layer.after {
		do()
	}
	receipt := Receipt{Group: len(g.kept), Commit: time.Since(begun)}
	s.committed(receipt)
	for _, w := range g.kept {
		receipt.Waited = begun.Sub(w.queued)
		w.answer <- answer{receipt, nil}
	}
	answerAll(refused, receipt)
}

func answerAll(refused []refusal, receipt Receipt) {
	for _, r := range refused {
		r.w.answer <- answer{receipt, r.err}
	}
}

func refuse(group []*write, err error) {
	for _, w := range group {
		w.answer <- answer{err: err}
	}
}

// failed deals with a group that did not commit, or may not have.
func (s *Store) failed(g *Group, a attempt, refused []refusal, err error, begun time.Time) {
	switch {
	case !errors.Is(err, ErrRolledBack) || errors.Is(err, ErrSync) || s.engine.Dead() != nil:
		if s.settle(g, err) {
			s.conclude(g, refused, begun)
			return
		}
		refuse(a.writes, unavailable(err))
	case errors.Is(err, ErrFull) && !a.roomMade && s.full():
		s.log.Warn("room was made for the metadata", "error", err)
		a.roomMade = true
		s.commit(a)
	case errors.Is(err, ErrFull):
		s.log.Error("no room for the metadata", "error", err)
		refuse(a.writes, eider.Errorf(eider.StorageFull, "the disk is full").Because(err))
	case len(a.writes)+len(a.notes) > 1:
		s.log.Warn("a group failed and is split", "writes", len(a.writes), "notes", len(a.notes), "error", err)
		first, second := a.halves()
		s.commit(first)
		s.commit(second)
	default:
		s.log.Error("a write failed", "note", len(a.notes) == 1, "error", err)
		refuse(a.writes, unavailable(err))
	}
}

func unavailable(err error) error {
	return eider.Errorf(eider.StorageUnavailable, "the metadata store cannot be written").Because(err)
}
