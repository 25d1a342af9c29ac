package usage

import (
	"context"
	"slices"
	"time"

	"github.com/eiderdb/eider/core/metadata"
)

// Ticket is a reservation. It counts in every view of usage until it is settled
// or released.
type Ticket struct {
	book     *Book
	project  string
	released bool // guarded by book.mu
}

// part is what a ticket has reserved at one place of the queue.
type part struct {
	ticket  *Ticket
	amounts Amounts
}

// Reserve takes a ticket behind those that are held already. Amounts below zero
// reserve nothing: what a call frees is free once that is committed.
func (b *Book) Reserve(project string, a Amounts) *Ticket {
	t := &Ticket{book: b, project: project}
	b.mu.Lock()
	defer b.mu.Unlock()
	t.queue(a)
	return t
}

// Extend adds to the reservation, as for a body of unknown length that grows. The
// addition stands at the end of the queue: calls that were admitted meanwhile did
// not know of it, so it must be asked about with them counted. An amount below
// zero gives back, at most what is reserved.
func (t *Ticket) Extend(a Amounts) {
	t.book.mu.Lock()
	defer t.book.mu.Unlock()
	if !t.released {
		t.giveBack(Amounts{}.Minus(a))
		t.queue(a)
	}
}

// giveBack takes from what the ticket has reserved, the newest part first. Like
// queue it is called with the book locked, and amounts below zero do nothing.
func (t *Ticket) giveBack(a Amounts) {
	for _, scope := range scopes(t.project) {
		left := a.atLeastZero()
		for i, p := range slices.Backward(t.book.reserved[scope]) {
			if p.ticket == t {
				t.book.reserved[scope][i].amounts = p.amounts.Minus(left).atLeastZero()
				left = left.Minus(p.amounts).atLeastZero()
			}
		}
	}
}

func (t *Ticket) queue(a Amounts) {
	a = a.atLeastZero()
	for _, scope := range scopes(t.project) {
		queue := t.book.reserved[scope]
		if n := len(queue); n > 0 && queue[n-1].ticket == t {
			queue[n-1].amounts = queue[n-1].amounts.Plus(a)
			continue
		}
		t.book.reserved[scope] = append(queue, part{t, a})
	}
}

// Settle stages the end of the reservation in the transaction that adds what was
// reserved: with its commit the one turns into the other in one step, and nobody
// sees both or neither. If the transaction is not kept, the ticket stays.
//
// Releasing it after the commit instead would have both counted for an instant,
// and a call that asks then would be denied although there is room.
func (t *Ticket) Settle(ctx context.Context, tx *metadata.Tx) error {
	if t.reserves() {
		for _, scope := range scopes(t.project) {
			row, err := t.book.row(ctx, tx, scope)
			if err != nil {
				return err
			}
			row.settled = append(t.book.held(row.settled), t)
			if row.UpdatedAt.IsZero() {
				row.UpdatedAt = time.Now().UTC().Truncate(time.Microsecond)
			}
			if err := t.book.Table.Put(ctx, tx, row); err != nil {
				return err
			}
		}
	}
	tx.After(t.Release)
	return nil
}

func (t *Ticket) reserves() bool {
	t.book.mu.Lock()
	defer t.book.mu.Unlock()
	return slices.ContainsFunc(t.book.reserved[Server], func(p part) bool { return p.ticket == t && p.amounts != Amounts{} })
}

// held returns those of the tickets that are not released, in a slice of its own.
func (b *Book) held(tickets []*Ticket) []*Ticket {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(tickets), func(t *Ticket) bool { return t.released })
}

// Release ends the reservation. It may be called more than once.
func (t *Ticket) Release() {
	b := t.book
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.released {
		return
	}
	t.released = true
	for _, scope := range scopes(t.project) {
		b.reserved[scope] = slices.DeleteFunc(b.reserved[scope], func(p part) bool { return p.ticket == t })
		if len(b.reserved[scope]) == 0 {
			delete(b.reserved, scope)
		}
	}
}

// Seen returns what a policy that is asked for this ticket's call must count in
// its project and on the server: what is committed, what stands before the last
// part of this ticket in the queue, and the ticket itself.
func (t *Ticket) Seen(ctx context.Context, r metadata.Reader) (project, server Amounts, err error) {
	if t.project != "" {
		if project, err = t.seen(ctx, r, t.project); err != nil {
			return project, server, err
		}
	}
	server, err = t.seen(ctx, r, Server)
	return project, server, err
}

// seen reads the committed row while the queue is locked: a ticket that is in the
// queue is not released, so a row that holds its amounts says so.
func (t *Ticket) seen(ctx context.Context, r metadata.Reader, scope string) (Amounts, error) {
	b := t.book
	b.mu.Lock()
	defer b.mu.Unlock()
	row, err := b.row(ctx, r, scope)
	if err != nil {
		return Amounts{}, err
	}
	sum := row.atLeastZero()
	seen := sum
	for _, p := range b.reserved[scope] {
		if !slices.Contains(row.settled, p.ticket) {
			sum = sum.Plus(p.amounts)
		}
		if p.ticket == t {
			seen = sum
		}
	}
	return seen, nil
}
