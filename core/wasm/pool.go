package wasm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/eiderdb/eider/core/policy"
)

const (
	startWithin   = 10 * time.Second // by the clock, for host calls while a guest starts
	decideWithin  = time.Second
	deliverWithin = time.Minute

	patience = 2 * time.Second // for a guest that is ready

	deathsAllowed = 10 // in a row, before the plugin is failed
	backOffFrom   = 2
	backOffFirst  = 50 * time.Millisecond
	backOffMost   = 10 * time.Second
	failedFor     = time.Minute
)

const errFailed = policy.Unable("it keeps failing")

// errClosed says that another version has taken this one's place.
var errClosed = errors.New("the pool is closed")

// pool holds the guests of one version that wait for a call, the one that has waited
// longest first: with the newest first some never run and others always.
type pool struct {
	make func(context.Context) (*guest, error)
	log  *slog.Logger
	rest func(d time.Duration) <-chan time.Time // between tries; tests replace it

	ready chan *guest
	done  chan struct{} // closed when no guest is wanted any more
	wg    sync.WaitGroup

	mu     sync.Mutex
	closed bool
	out    int   // guests that a call has
	held   int64 // the most that one has held, in bytes
	made   int64
	buried int64

	deaths   int // in a row, of which no caller is the cause
	failed   bool
	suspects suspects // whose calls are the cause of others
}

func newPool(size int, log *slog.Logger, make_ func(context.Context) (*guest, error)) *pool {
	return &pool{make: make_, log: log, rest: time.After, ready: make(chan *guest, size), done: make(chan struct{}), suspects: newSuspects()}
}

// fill makes as many guests as there is room for, the first of which exists.
func (p *pool) fill(first *guest) {
	p.mu.Lock()
	p.made++
	p.mu.Unlock()
	p.ready <- first
	for range cap(p.ready) - 1 {
		p.replace()
	}
}

const errBusy = policy.Unable("none of its guests is free")

// take returns a guest for a call of the caller, "" for one of the server's own. It
// waits for one, unless they keep dying.
func (p *pool) take(ctx context.Context, caller string) (*guest, error) {
	p.mu.Lock()
	turn, ok := p.suspects.admit(caller)
	p.mu.Unlock()
	if !ok {
		return nil, errFailed
	}
	if turn == nil {
		return p.next(ctx)
	}
	if err := p.queue(ctx, turn); err != nil {
		return nil, err
	}
	g, err := p.next(ctx)
	if err != nil {
		<-turn
		return nil, err
	}
	g.turn = turn
	return g, nil
}

// queue waits until no other call of a suspect runs.
func (p *pool) queue(ctx context.Context, turn chan struct{}) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case turn <- struct{}{}:
		return nil
	case <-p.done:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	case <-late.C:
		return errBusy
	}
}

// next returns the guest that has waited longest.
func (p *pool) next(ctx context.Context) (*guest, error) {
	select {
	case g := <-p.ready:
		return p.taken(g)
	default:
	}
	p.mu.Lock()
	failed := p.failed
	p.mu.Unlock()
	if failed {
		return nil, errFailed
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case g := <-p.ready:
		return p.taken(g)
	case <-p.done:
		return nil, errClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-late.C:
		return nil, errBusy
	}
}

// taken counts the guest, unless the pool was closed meanwhile: then the guest goes
// the way of the others.
func (p *pool) taken(g *guest) (*guest, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = g.close() // nobody can use it any more
		return nil, errClosed
	}
	p.out++
	p.wg.Add(1)
	return g, nil
}

// takeBack ends a call of the caller: sound guests wait for the next call, others are
// replaced.
func (p *pool) takeBack(g *guest, caller string, sound bool, err error) {
	if g.turn != nil {
		<-g.turn
		g.turn = nil
	}
	p.judge(g, caller, sound, err)
	if sound {
		p.give(g)
	} else {
		p.bury(g)
	}
}

// judge notes what a call says about the plugin. One that had too little for its guest
// says nothing about it: what is too much for every guest does not make them bad ones,
// and whoever may send it must not turn the plugin off for others.
func (p *pool) judge(g *guest, caller string, sound bool, err error) {
	starved := !sound && g.starved(err)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		p.deaths, p.failed = 0, false
		p.suspects.answered()
	case sound:
	case starved && caller == "":
	case starved:
		p.suspects.cost(caller)
	case caller == "":
		p.died(err)
	case p.suspects.died(caller):
		p.tell(p.suspects.deaths, err)
	}
}

// hold keeps the version from ending until release is called, false if it has ended.
func (p *pool) hold() (release func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, false
	}
	p.wg.Add(1)
	return p.wg.Done, true
}

// give takes a guest back that has answered. One that is to rest does so first, beside
// the caller.
func (p *pool) give(g *guest) {
	if !g.tired() {
		p.put(g)
		return
	}
	go func() {
		if err := g.relax(); err != nil {
			p.mu.Lock()
			p.died(fmt.Errorf("eider_rest: %w", err))
			p.mu.Unlock()
			p.bury(g)
			return
		}
		p.put(g)
	}()
}

// put has the guest wait for its next call. One that is used up is not used again:
// another one is made in the background.
func (p *pool) put(g *guest) {
	defer p.wg.Done()
	again := !g.usedUp()
	g.shrink()
	p.mu.Lock()
	p.out--
	p.held = max(p.held, int64(g.mem.Size()))
	if !again {
		p.buried++
	}
	if again = again && !p.closed; again {
		p.ready <- g
	}
	p.mu.Unlock()
	if !again {
		_ = g.close()
		p.replace()
	}
}

// bury throws a guest away that may not be used again, and has another one made.
func (p *pool) bury(g *guest) {
	defer p.wg.Done()
	p.mu.Lock()
	p.out--
	p.buried++
	p.mu.Unlock()
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		_ = g.close()
	}()
	p.replace()
}

// died notes a death of which no caller is the cause.
func (p *pool) died(why error) {
	p.deaths++
	if p.deaths >= deathsAllowed && !p.failed {
		p.failed = true
		p.tell(p.deaths, why)
	}
}

func (p *pool) tell(deaths int, why error) {
	p.log.Error("a plugin keeps failing and is tried once a minute", "deaths", deaths, "error", why)
}

// replace makes a guest in the background, after a pause where guests keep dying.
func (p *pool) replace() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		for p.pause() {
			g, err := p.make(context.Background())
			if err == nil {
				p.born(g)
				return
			}
			p.mu.Lock()
			p.died(err)
			p.mu.Unlock()
			p.log.Warn("a guest could not be made", "error", err)
		}
	}()
}

// pause waits before a guest is made, and reports whether one is still wanted.
func (p *pool) pause() bool {
	p.mu.Lock()
	deaths, failed := p.deaths, p.failed
	p.mu.Unlock()
	var d time.Duration
	switch {
	case failed:
		d = failedFor
	case deaths > backOffFrom:
		d = min(backOffFirst<<min(deaths-backOffFrom-1, 16), backOffMost)
	}
	if d == 0 {
		select {
		case <-p.done:
			return false
		default:
			return true
		}
	}
	select {
	case <-p.done:
		return false
	case <-p.rest(d):
		return true
	}
}

func (p *pool) born(g *guest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made++
	p.failed = false
	if p.closed {
		_ = g.close()
		return
	}
	p.ready <- g
}

// close ends the pool once the guests that are out have come back; until then
// they finish their calls. It does not wait: done is called at the end.
func (p *pool) close(done func()) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	close(p.done)
	p.mu.Unlock()
	for {
		select {
		case g := <-p.ready:
			_ = g.close()
			continue
		default:
		}
		break
	}
	go func() {
		p.wg.Wait()
		done()
	}()
}

// state says how the pool is doing.
func (p *pool) state() (state string, made, buried int64, waiting int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	state = "ready"
	if p.failed || p.suspects.failed {
		state = "failed"
	}
	return state, p.made, p.buried, len(p.ready)
}

// memory returns what the guests that wait hold together, and what those that are
// out would if they held as much.
func (p *pool) memory() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held * int64(p.out+len(p.ready))
}
