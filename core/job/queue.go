package job

import (
	"context"
	"slices"
	"sync"
)

// queue gives jobs their turn. So many run at a time, and fewer of one project:
// whoever has a key of one must not keep all others waiting. Projects whose jobs
// wait take turns, in the order in which they came; within a project the first job
// is the next.
type queue struct {
	most, share int

	mu      sync.Mutex
	total   int
	running map[string]int // by the project's uid
	waiting []*place       // the next to have a turn first
}

// place is that of a job that waits.
type place struct {
	uid  string
	turn chan struct{} // closed once it has its turn
}

func newQueue(most, share int) *queue {
	return &queue{most: most, share: share, running: map[string]int{}}
}

// take waits for a turn, which pass ends. It returns false where ctx has ended.
func (q *queue) take(ctx context.Context, uid string) bool {
	p := &place{uid, make(chan struct{})}
	q.mu.Lock()
	q.waiting = append(q.waiting, p)
	q.call()
	q.mu.Unlock()
	select {
	case <-p.turn:
		return true
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-p.turn: // just so
		return true
	default:
	}
	q.waiting = slices.DeleteFunc(q.waiting, func(other *place) bool { return other == p })
	return false
}

func (q *queue) pass(uid string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.total--
	if q.running[uid]--; q.running[uid] == 0 {
		delete(q.running, uid)
	}
	q.call()
}

// call gives turns to those who can have one. A project that had one goes behind
// the others.
func (q *queue) call() {
	for q.total < q.most {
		next := slices.IndexFunc(q.waiting, func(p *place) bool { return q.running[p.uid] < q.share })
		if next < 0 {
			return
		}
		p := q.waiting[next]
		q.total++
		q.running[p.uid]++
		close(p.turn)
		var same, others []*place
		for i, other := range q.waiting {
			switch {
			case i == next:
			case other.uid == p.uid:
				same = append(same, other)
			default:
				others = append(others, other)
			}
		}
		q.waiting = append(others, same...)
	}
}
