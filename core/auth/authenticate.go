package auth

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
)

// Authenticate returns the actor of an Authorization header. A header that is
// missing, malformed or wrong is refused with unauthorized, and always the same
// way: nobody learns which part of a key was right. Whoever then lets the actor
// in calls Used.
func (k *Keys) Authenticate(ctx context.Context, v *metadata.View, header string) (eider.Actor, error) {
	if header == "" {
		return eider.Actor{}, eider.Errorf(eider.Unauthorized, "an API key is needed: Authorization: Bearer KEY")
	}
	scheme, token, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return eider.Actor{}, wrongKey()
	}
	token = strings.TrimSpace(token)
	if k.IsRoot(token) {
		return eider.Actor{Type: eider.ActorRoot, Name: rootID, Role: eider.Admin}, nil
	}
	id, ok := idOf(token)
	if !ok {
		return eider.Actor{}, wrongKey()
	}
	key, err := k.table.Get(ctx, v, id)
	if err != nil || !same(hashOf(token), key.Hash) || !key.Live(time.Now()) {
		return eider.Actor{}, wrongKey()
	}
	return eider.Actor{
		Type: eider.ActorKey, ID: key.ID, Name: key.Description, Role: key.Scope,
		ProjectID: key.ProjectID, ProjectUID: key.ProjectUID,
	}, nil
}

func wrongKey() error {
	return eider.Errorf(eider.Unauthorized, "this API key is not valid")
}

// Standing refuses an actor whose key, or the key that signed its URL, was revoked
// since the actor was let in. One that has only expired may end what it began.
func (k *Keys) Standing(ctx context.Context, tx *metadata.Tx, actor eider.Actor) error {
	ofKey := actor.Type == eider.ActorKey || actor.Type == eider.ActorSignedURL
	if !ofKey || actor.ID == "" || actor.ID == byLocal {
		return nil
	}
	if key, err := k.table.Get(ctx, tx, actor.ID); err != nil || !key.RevokedAt.IsZero() {
		return wrongKey()
	}
	return nil
}

// Pass returns what refuses an actor, who was just let in, once the key is revoked or
// replaced or has expired: what goes on without end asks again and again.
func (k *Keys) Pass(actor eider.Actor) func(context.Context, *metadata.View) error {
	root := k.root.Load()
	return func(ctx context.Context, v *metadata.View) error {
		switch actor.Type {
		case eider.ActorRoot:
			if k.root.Load() != root {
				return wrongKey()
			}
		case eider.ActorKey:
			if key, err := k.table.Get(ctx, v, actor.ID); err != nil || !key.Live(time.Now()) {
				return wrongKey()
			}
		}
		return nil
	}
}

// Used notes that the actor's key, if it is one, was used.
func (k *Keys) Used(actor eider.Actor) {
	if actor.Type != eider.ActorKey {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.used[actor.ID] = now()
}

// flushEvery is how old last_used_at may be in the table: a read must not cause
// a write per request.
const flushEvery = time.Minute

// Tend writes last_used_at once a minute until ctx ends, and then once more.
func (k *Keys) Tend(ctx context.Context, s *metadata.Store) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			k.flush(s)
			return
		case <-tick.C:
			k.flush(s)
		}
	}
}

// flush writes what was used since. Until it is durable it stays in memory, so
// that LastUsed never goes back, and what could not be written is written the
// next time.
func (k *Keys) flush(s *metadata.Store) {
	k.mu.Lock()
	used := maps.Clone(k.used)
	k.mu.Unlock()
	if len(used) == 0 {
		return
	}
	s.Note(func(tx *metadata.Tx) error {
		ctx := context.Background()
		for id, at := range used {
			key, err := k.table.Get(ctx, tx, id)
			if err != nil {
				continue // removed meanwhile
			}
			key.LastUsedAt = at
			if err := k.table.Put(ctx, tx, key); err != nil {
				return err
			}
		}
		tx.After(func() { k.flushed(used) })
		return nil
	})
}

func (k *Keys) flushed(used map[string]time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, at := range used {
		if k.used[id].Equal(at) { // else it was used again
			delete(k.used, id)
		}
	}
}

// LastUsed returns when the key was last used, memory included.
func (k *Keys) LastUsed(key Key) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	if at, ok := k.used[key.ID]; ok {
		return at
	}
	return key.LastUsedAt
}
