// Package keys lets callers make, list, rotate and revoke API keys: those of a
// project, and the server-wide ones.
//
// core/auth owns the table and tells who a caller is; this package owns what may
// be done to keys.
package keys

import (
	"context"
	"fmt"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/auth"
	"github.com/eiderdb/eider/core/operation"
)

// Keys is the module.
type Keys struct{ keys *auth.Keys }

// New returns the module.
func New() *Keys { return &Keys{} }

var (
	_ core.Module      = (*Keys)(nil)
	_ core.Provisioner = (*Keys)(nil)
)

// Name returns "keys".
func (k *Keys) Name() string { return "keys" }

// Provision takes the register of keys.
func (k *Keys) Provision(_ context.Context, kernel *core.Kernel) error {
	k.keys = kernel.Keys
	return nil
}

// Declare lists the operations, for a project's keys and for the server's. The
// log knows both by one name.
func (k *Keys) Declare(r *core.Registry) error {
	at := place{path: "/projects/{id}/api-keys", role: eider.ProjectAdmin, of: "project"}
	operation.Write(r.Operations, at.create(), k.create)
	operation.Read(r.Operations, at.list(), k.list)
	operation.Read(r.Operations, at.get(), k.get)
	operation.Write(r.Operations, at.revoke(), k.revoke)
	operation.Write(r.Operations, at.rotate(), k.rotate)

	at = place{path: "/api-keys", role: eider.Admin, of: "server"}
	operation.Write(r.Operations, at.create(), k.createServer)
	operation.Read(r.Operations, at.list(), k.listServer)
	operation.Read(r.Operations, at.get(), k.getServer)
	operation.Write(r.Operations, at.revoke(), k.revokeServer)
	operation.Write(r.Operations, at.rotate(), k.rotateServer)
	return nil
}

// place is where keys of one kind are found.
type place struct {
	path string
	role eider.Role
	of   string
}

func (at place) spec(name, method, tail, summary string, errors ...eider.Code) operation.Spec {
	s := operation.Spec{
		Name: name, ID: name, Route: method + " " + at.path + tail, Role: at.role, Target: "api_key",
		Summary: summary + " of the " + at.of, Errors: errors,
	}
	if at.of != "project" {
		s.ID += "_of_" + at.of
	}
	return s
}

func (at place) create() operation.Spec {
	s := at.spec("create_api_key", "POST", "", "Create a key")
	s.Status = 201
	return s
}

func (at place) list() operation.Spec {
	return at.spec("list_api_keys", "GET", "", "List the keys")
}

func (at place) get() operation.Spec {
	s := at.spec("get_api_key", "GET", "/{key}", "Get a key", eider.KeyNotFound)
	s.Tagged = true
	return s
}

// A key that leaked must be stopped, whatever else is locked or full.
func (at place) revoke() operation.Spec {
	s := at.spec("revoke_api_key", "DELETE", "/{key}", "Revoke a key", eider.KeyNotFound, eider.CannotRevokeLastAdmin)
	s.Frees, s.Locked = true, true
	return s
}

func (at place) rotate() operation.Spec {
	s := at.spec("rotate_api_key", "POST", "/{key}/rotate", "Replace a key", eider.KeyNotFound, eider.CannotRotateRevokedKey)
	s.Status = 201
	return s
}

type draft struct {
	Description   string `json:"description" required:"true" minLength:"1" maxLength:"256" doc:"What the key is for"`
	ExpiresInDays *int   `json:"expires_in_days,omitempty" minimum:"1" maximum:"365" doc:"Without it the key does not expire"`
}

type createKey struct {
	ID    string `path:"id" json:"-"`
	Scope string `json:"scope,omitempty" enum:"project_admin,project_write,project_read" default:"project_admin"`
	draft
}

type createServerKey struct {
	Scope string `json:"scope,omitempty" enum:"admin" default:"admin"`
	draft
}

// createdKey is a key with its secret, shown this once.
type createdKey struct {
	eider.Key
	APIKey     *string `json:"api_key" doc:"The secret; it is not shown again"`
	APIKeyNote string  `json:"api_key_note,omitempty" doc:"Why api_key is null, in a replayed answer"`
}

// Redacted returns the answer without the secret.
func (c createdKey) Redacted() any {
	c.APIKey, c.APIKeyNote = nil, "the key was shown once, in the first answer to this request; create another if it is lost"
	return c
}

func (k *Keys) create(ctx context.Context, tx *operation.Tx, in createKey) (createdKey, error) {
	return k.issue(ctx, tx, in.Scope, in.draft)
}

func (k *Keys) createServer(ctx context.Context, tx *operation.Tx, in createServerKey) (createdKey, error) {
	return k.issue(ctx, tx, in.Scope, in.draft)
}

func (k *Keys) issue(ctx context.Context, tx *operation.Tx, scope string, in draft) (createdKey, error) {
	if err := eider.CheckText("description", in.Description, 256); err != nil {
		return createdKey{}, err
	}
	role, ok := eider.ParseRole(scope)
	if !ok {
		return createdKey{}, fmt.Errorf("scope %q passed validation and is no role", scope)
	}
	d := auth.Draft{Scope: role, Description: in.Description}
	call := operation.From(ctx)
	if call.Project != nil {
		d.ProjectID, d.ProjectUID = call.Project.ID, call.Project.UID
	}
	if in.ExpiresInDays != nil {
		d.ExpiresAt = now().AddDate(0, 0, *in.ExpiresInDays)
	}
	return k.issued(call, tx, d)
}

func (k *Keys) issued(call *operation.Call, tx *operation.Tx, d auth.Draft) (createdKey, error) {
	key, secret, err := k.keys.Issue(tx, d)
	call.Resource(key.ID)
	call.Detail("scope", d.Scope.String())
	call.Detail("description", d.Description)
	if !d.ExpiresAt.IsZero() {
		call.Detail("expires_at", d.ExpiresAt)
	}
	return createdKey{Key: key.API(), APIKey: &secret}, err
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
