package operation

import (
	"context"
	"fmt"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/usage"
)

const (
	settleSlots    = 8 // calls settled at a time
	settlePause    = 250 * time.Millisecond
	settleMaxPause = time.Minute
	// stuckAfter is how many tries make a call stuck: told to health, and tried
	// on.
	stuckAfter = 5
)

// Recover claims and reserves again what unfinished calls had, and settles them in
// the background. It is called once, before the first request: only the
// resources of those calls are fenced, and one that cannot be settled keeps
// nobody else waiting.
func (p *Pipeline) Recover() {
	slots := make(chan struct{}, settleSlots)
	for _, row := range p.Audit.Unfinished() {
		c, err := resumed(p, row)
		if err != nil {
			p.markStuck(row.CallID, fmt.Errorf("read the intent: %w", err))
			continue
		}
		p.Store.Reclaim(c.ID, c.unfinished.Claims) // also where nobody can settle it: it stays fenced
		d := c.Operation
		if d == nil || d.settle == nil {
			p.markStuck(row.CallID, fmt.Errorf("this version has no operation %s with an effect", row.Operation))
			continue
		}
		p.reserveAgain(c)
		p.background(c, func(ctx context.Context) error {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			defer func() { <-slots }()
			return d.settle(ctx, p, c, row)
		})
	}
}

// reserveAgain takes the room that the call was admitted with: what it has done may
// be there and be finished, and others must not have filled it meanwhile.
func (p *Pipeline) reserveAgain(c *Call) {
	if c.unfinished.Reserved == (usage.Amounts{}) {
		return
	}
	uid := ""
	if c.Project != nil {
		uid = c.Project.UID
	}
	c.ticket, c.adds = p.Usage.Reserve(uid, c.unfinished.Reserved), c.unfinished.Reserved
}

// background tries again, with pauses that grow, until it succeeds or the
// pipeline closes.
func (p *Pipeline) background(c *Call, try func(context.Context) error) {
	p.wg.Add(1)
	base, t := p.begin(c)
	go func() {
		defer p.wg.Done()
		defer close(t.over)
		pause := p.pause
		for tries := 1; ; tries++ {
			err := p.safely(base, c, try)
			if err == nil {
				p.clearStuck(c.ID)
				p.Log.Info("an unfinished call is settled", "operation", c.Operation.Name, "call", c.ID, "how", c.details["settled"])
				return
			}
			if base.Err() != nil {
				return
			}
			p.Log.Error("an unfinished call could not be settled", "operation", c.Operation.Name, "call", c.ID, "tries", tries, "error", err)
			if tries >= stuckAfter {
				p.markStuck(c.ID, err)
			}
			select {
			case <-base.Done():
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, settleMaxPause)
		}
	}()
}

func (p *Pipeline) safely(ctx context.Context, c *Call, try func(context.Context) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic while settling %s: %v", c.Operation.Name, v)
		}
	}()
	return try(ctx)
}

func (p *Pipeline) markStuck(call string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stuck[call] = err
}

func (p *Pipeline) clearStuck(call string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.stuck, call)
	delete(p.tried, call)
}

// Stuck returns the unfinished calls that could not be settled so far, by call
// id, with the reason.
func (p *Pipeline) Stuck() map[string]error {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(map[string]error, len(p.stuck))
	for id, err := range p.stuck {
		all[id] = err
	}
	return all
}

// internal runs a call that comes from inside the server.
func (p *Pipeline) internal(ctx context.Context, d *Declared, actor eider.Actor, project string, in any) (any, error) {
	r := &Request{Actor: actor, Begun: time.Now(), Method: "CALL", Path: d.Name}
	r.Source.Param = func(name string) string {
		if name == "id" {
			return project
		}
		return ""
	}
	c := newCall(p, d, r)
	ctx, span := p.Tracer.Start(c.context(ctx), "operation "+d.Name)
	defer span.End()
	c.traced(ctx)
	err := p.caught(ctx, c, func() error {
		if err := p.visible(c, r); err != nil {
			return err
		}
		if err := p.status(c, c.Project); err != nil {
			return err
		}
		return p.allow(ctx, c, in)
	})
	if err != nil {
		p.letGo(c)
		p.refused(ctx, c, err)
		return nil, err
	}
	var out any
	err = p.caught(ctx, c, func() (err error) {
		out, err = d.run(ctx, p, c, in)
		return err
	})
	p.metrics.count(ctx, c, err)
	return out, err
}

// Record commits a row for something that the server itself did or found, such
// as a repair, with the rows that change stages; change may be nil.
func (p *Pipeline) Record(ctx context.Context, row audit.Row, change func(*Tx) error) error {
	return p.commit(ctx, func(tx *Tx) error {
		if change != nil {
			if err := change(tx); err != nil {
				return err
			}
		}
		r := row
		if r.Count == 0 {
			r.Count = 1
		}
		tx.Stage(&r)
		return nil
	})
}
