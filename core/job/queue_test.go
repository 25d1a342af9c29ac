package job

import (
	"context"
	"slices"
	"testing"
)

// turns is a queue whose jobs are seen as they have their turn.
type turns struct {
	*queue
	t   *testing.T
	had []string
	all []*place
}

func (q *turns) ask(uid string) {
	q.t.Helper()
	p := &place{uid, make(chan struct{})}
	q.waiting = append(q.waiting, p)
	q.all = append(q.all, p)
	q.call()
	q.look()
}

// look notes who has had a turn since.
func (q *turns) look() {
	q.all = slices.DeleteFunc(q.all, func(p *place) bool {
		select {
		case <-p.turn:
			q.had = append(q.had, p.uid)
			return true
		default:
			return false
		}
	})
}

func (q *turns) ends(uid string) {
	q.pass(uid)
	q.look()
}

func (q *turns) want(uids ...string) {
	q.t.Helper()
	if !slices.Equal(q.had, uids) {
		q.t.Errorf("turns had %v, want %v", q.had, uids)
	}
}

func TestNoProjectHasMoreThanItsShareAndProjectsTakeTurns(t *testing.T) {
	q := &turns{queue: newQueue(4, 2), t: t}
	for range 6 {
		q.ask("a")
	}
	q.want("a", "a")
	q.ask("b")
	q.ask("c")
	q.want("a", "a", "b", "c")
	q.ask("b")
	q.ask("b")
	q.ends("a")
	q.ends("c")
	q.want("a", "a", "b", "c", "a", "b")
	q.ends("a")
	q.ends("b")
	q.want("a", "a", "b", "c", "a", "b", "a", "b")
	for _, uid := range []string{"a", "a", "b", "b"} {
		q.ends(uid)
	}
	q.want("a", "a", "b", "c", "a", "b", "a", "b", "a", "a")
	q.ends("a")
	q.ends("a")
	if q.total != 0 || len(q.running) != 0 || len(q.waiting) != 0 {
		t.Errorf("at the end %d run, %v, and %d wait", q.total, q.running, len(q.waiting))
	}
}

func TestWhoGivesUpHasNoTurn(t *testing.T) {
	q := newQueue(1, 1)
	if !q.take(t.Context(), "a") {
		t.Fatal("there is no turn")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if q.take(ctx, "b") || len(q.waiting) != 0 {
		t.Errorf("who gave up has a turn, or %d wait", len(q.waiting))
	}
	q.pass("a")
	if !q.take(t.Context(), "c") {
		t.Error("there is no turn")
	}
}
