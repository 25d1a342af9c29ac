package keys

import (
	"context"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/auth"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
)

type listKeys struct {
	ID             string `path:"id" json:"-"`
	IncludeRevoked bool   `query:"include_revoked" json:"-"`
}

type listServerKeys struct {
	IncludeRevoked bool `query:"include_revoked" json:"-"`
}

type keyList struct {
	APIKeys []eider.Key `json:"api_keys"`
	Count   int         `json:"count"`
}

func (k *Keys) list(ctx context.Context, _ *operation.View, in listKeys) (keyList, error) {
	return k.listed(operation.From(ctx).Project.UID, in.IncludeRevoked), nil
}

func (k *Keys) listServer(_ context.Context, _ *operation.View, in listServerKeys) (keyList, error) {
	return k.listed("", in.IncludeRevoked), nil
}

func (k *Keys) listed(project string, revoked bool) keyList {
	out := keyList{APIKeys: []eider.Key{}}
	for _, key := range k.keys.Of(project) {
		if key.RevokedAt.IsZero() || revoked {
			out.APIKeys = append(out.APIKeys, k.shown(key))
		}
	}
	out.Count = len(out.APIKeys)
	return out
}

func (k *Keys) shown(key auth.Key) eider.Key {
	key.LastUsedAt = k.keys.LastUsed(key)
	return key.API()
}

type keyPath struct {
	ID  string `path:"id" json:"-"`
	Key string `path:"key" json:"-" doc:"The key's id"`
}

type serverKeyPath struct {
	Key string `path:"key" json:"-" doc:"The key's id"`
}

func (k *Keys) get(ctx context.Context, v *operation.View, in keyPath) (eider.Key, error) {
	return k.one(ctx, v, in.Key)
}

func (k *Keys) getServer(ctx context.Context, v *operation.View, in serverKeyPath) (eider.Key, error) {
	return k.one(ctx, v, in.Key)
}

func (k *Keys) one(ctx context.Context, r metadata.Reader, id string) (eider.Key, error) {
	key, err := k.keys.Get(ctx, r, projectOf(ctx), id)
	if err != nil {
		return eider.Key{}, err
	}
	return k.shown(key), nil
}

// projectOf returns the uid of the call's project, "" for a server-wide key.
func projectOf(ctx context.Context) string {
	if p := operation.From(ctx).Project; p != nil {
		return p.UID
	}
	return ""
}

type revokeKey struct {
	keyPath
	match
}

type revokeServerKey struct {
	serverKeyPath
	match
}

type match struct {
	IfMatch string `header:"If-Match" json:"-" doc:"Revoke only if the ETag is still this one"`
}

func (k *Keys) revoke(ctx context.Context, tx *operation.Tx, in revokeKey) (operation.Nothing, error) {
	return k.end(ctx, tx, in.Key, in.IfMatch)
}

func (k *Keys) revokeServer(ctx context.Context, tx *operation.Tx, in revokeServerKey) (operation.Nothing, error) {
	return k.end(ctx, tx, in.Key, in.IfMatch)
}

// end revokes a key. The last key that can administer a project stays, lest its
// owners lock themselves out.
func (k *Keys) end(ctx context.Context, tx *operation.Tx, id, ifMatch string) (operation.Nothing, error) {
	operation.From(ctx).Resource(id)
	key, err := k.keys.Get(ctx, tx, projectOf(ctx), id)
	if err != nil {
		return operation.Nothing{}, err
	}
	if err := operation.CheckMatch(ifMatch, k.shown(key)); err != nil || !key.RevokedAt.IsZero() {
		return operation.Nothing{}, err
	}
	last, err := k.lastAdmin(ctx, tx, key)
	if err != nil {
		return operation.Nothing{}, err
	}
	if last {
		return operation.Nothing{}, eider.Errorf(eider.CannotRevokeLastAdmin, "this is the last key that can administer the project")
	}
	key.RevokedAt = now()
	return operation.Nothing{}, k.keys.Put(ctx, tx, key)
}

// lastAdmin reports whether no other live key of the project has the role, as
// the transaction sees them: of two keys that are revoked at once one stays. One
// that was replaced lives for its grace only, and does not count.
func (k *Keys) lastAdmin(ctx context.Context, tx *operation.Tx, key auth.Key) (bool, error) {
	at := now()
	if key.ProjectUID == "" || key.Scope != eider.ProjectAdmin || !key.Live(at) {
		return false, nil
	}
	for _, committed := range k.keys.Of(key.ProjectUID) {
		if committed.ID == key.ID {
			continue
		}
		other, err := k.keys.Get(ctx, tx, key.ProjectUID, committed.ID)
		if eider.CodeOf(err) == eider.KeyNotFound {
			continue
		}
		if err != nil {
			return false, err
		}
		if other.Scope == eider.ProjectAdmin && other.Live(at) && other.ReplacedBy == "" {
			return false, nil
		}
	}
	return true, nil
}

type rotateKey struct {
	keyPath
	rotation
}

type rotateServerKey struct {
	serverKeyPath
	rotation
}

type rotation struct {
	GraceSeconds int `json:"grace_seconds,omitempty" minimum:"0" maximum:"604800" doc:"How long the old key goes on working"`
}

func (k *Keys) rotate(ctx context.Context, tx *operation.Tx, in rotateKey) (createdKey, error) {
	return k.replace(ctx, tx, in.Key, in.GraceSeconds)
}

func (k *Keys) rotateServer(ctx context.Context, tx *operation.Tx, in rotateServerKey) (createdKey, error) {
	return k.replace(ctx, tx, in.Key, in.GraceSeconds)
}

// replace issues a key like the old one, with as long a life, and ends the old
// one now or after the grace time.
func (k *Keys) replace(ctx context.Context, tx *operation.Tx, id string, grace int) (createdKey, error) {
	call := operation.From(ctx)
	call.Resource(id)
	old, err := k.keys.Get(ctx, tx, projectOf(ctx), id)
	if err != nil {
		return createdKey{}, err
	}
	at := now()
	if !old.Live(at) {
		return createdKey{}, eider.Errorf(eider.CannotRotateRevokedKey, "this key is revoked or has expired")
	}
	d := auth.Draft{ProjectID: old.ProjectID, ProjectUID: old.ProjectUID, Scope: old.Scope, Description: old.Description}
	if !old.ExpiresAt.IsZero() {
		d.ExpiresAt = at.Add(old.ExpiresAt.Sub(old.CreatedAt))
	}
	end := at.Add(time.Duration(grace) * time.Second)
	if grace == 0 {
		old.RevokedAt = at
	} else if old.ExpiresAt.IsZero() || end.Before(old.ExpiresAt) {
		old.ExpiresAt = end
	}
	call.Detail("replaces", id)
	call.Detail("grace_seconds", grace)
	fresh, err := k.issued(call, tx, d)
	if err != nil {
		return createdKey{}, err
	}
	old.ReplacedBy = fresh.ID
	return fresh, k.keys.Put(ctx, tx, old)
}
