package operation

import (
	"context"
	"time"
)

// What tests outside the package look at besides.

// Kept reports whether a call that ended so is replayed.
func Kept(refusal error) bool { return kept(refusal) }

// Sweeps deletes those of the records, found a moment ago, that are expired.
func (p *Pipeline) Sweeps(ctx context.Context, keys ...string) error {
	return p.commit(ctx, func(tx *Tx) error { return p.idempotent.delete(tx, keys) })
}

// MaxStoredAnswer is the cap of a stored answer.
const MaxStoredAnswer = maxStoredAnswer

// Sweep deletes a batch of expired records.
func (p *Pipeline) Sweep(ctx context.Context) error { return p.idempotent.sweep(ctx, p.Store) }

// Hasten makes the pauses between tries to settle a call short.
func (p *Pipeline) Hasten() { p.pause = time.Millisecond }

// Held returns how many idempotency keys are held by calls under way.
func (p *Pipeline) Held() int {
	p.idempotent.mu.Lock()
	defer p.idempotent.mu.Unlock()
	return len(p.idempotent.running)
}

// Records returns how many idempotency records there are, and the text of all.
func (p *Pipeline) Records(ctx context.Context) (n int, text string, err error) {
	rows, err := p.Store.View().Query(ctx, `SELECT body FROM idempotency_keys`)
	if err != nil {
		return 0, "", err
	}
	defer rows.Close()
	for rows.Next() {
		var body string
		if err := rows.Scan(&body); err != nil {
			return n, text, err
		}
		n, text = n+1, text+body+"\n"
	}
	return n, text, rows.Err()
}

// Expire makes every idempotency record old.
func (p *Pipeline) Expire(ctx context.Context, keys ...string) error {
	return p.commit(ctx, func(tx *Tx) error {
		for _, key := range keys {
			r, err := p.idempotent.records.Get(ctx, tx, key)
			if err != nil {
				return err
			}
			r.ExpiresAt = time.Now().Add(-time.Hour).UTC().Truncate(time.Microsecond)
			if err := p.idempotent.records.Put(ctx, tx, r); err != nil {
				return err
			}
		}
		return nil
	})
}

// KeyOf returns the key under which the request's record is kept.
func KeyOf(r *Request) string { return keyFor(r).Key }
