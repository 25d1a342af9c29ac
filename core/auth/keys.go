// Package auth tells who a caller is: it owns api_keys and turns a bearer token
// into an actor.
//
// A token is looked up by the key's id in memory and its SHA-256 compared in
// constant time; the secret itself is nowhere kept. The package does not know
// what an actor may do: roles are compared by the operation's declaration.
package auth

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
)

// Key is a row of api_keys.
type Key struct {
	ID          string
	ProjectID   string // empty for a server-wide key
	ProjectUID  string
	Hash        []byte
	Scope       eider.Role
	Description string
	CreatedAt   time.Time
	ExpiresAt   time.Time // zero: never
	RevokedAt   time.Time // zero: not revoked
	LastUsedAt  time.Time
	ReplacedBy  string // id of the key that a rotation put in its place; empty: none
}

// Live reports whether the key opens anything at the time.
func (k *Key) Live(now time.Time) bool {
	return k.RevokedAt.IsZero() && (k.ExpiresAt.IsZero() || now.Before(k.ExpiresAt))
}

// API returns the key as the API shows it.
func (k *Key) API() eider.Key {
	out := eider.Key{
		ID: k.ID, KeyPrefix: prefix(k.ID), Scope: k.Scope.String(), Description: k.Description, CreatedAt: k.CreatedAt,
		ExpiresAt: optional(k.ExpiresAt), RevokedAt: optional(k.RevokedAt), LastUsedAt: optional(k.LastUsedAt),
	}
	if k.ProjectID != "" {
		out.ProjectID = &k.ProjectID
	}
	return out
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Migrations creates the table of keys.
func Migrations() []metadata.Migration {
	return []metadata.Migration{
		{Owner: "auth", Number: 1, SQL: []string{`
		CREATE TABLE api_keys (
			id TEXT PRIMARY KEY, project_id TEXT NOT NULL, project_uid TEXT NOT NULL, hash BYTEA NOT NULL,
			scope TEXT NOT NULL, description TEXT NOT NULL, created_at TIMESTAMPTZ NOT NULL,
			expires_at TIMESTAMPTZ, revoked_at TIMESTAMPTZ, last_used_at TIMESTAMPTZ)`}},
		{Owner: "auth", Number: 2, SQL: []string{`ALTER TABLE api_keys ADD COLUMN replaced_by TEXT DEFAULT ''`}},
	}
}

// byProject is the order in which a project's keys stand together.
const byProject = "project"

func newTable() *metadata.Table[Key] {
	return metadata.NewTable(metadata.Def[Key]{
		Name: "api_keys",
		Columns: []metadata.Column{
			{Name: "id", Kind: metadata.Text}, {Name: "project_id", Kind: metadata.Text}, {Name: "project_uid", Kind: metadata.Text},
			{Name: "hash", Kind: metadata.Bytes}, {Name: "scope", Kind: metadata.Text}, {Name: "description", Kind: metadata.Text},
			{Name: "created_at", Kind: metadata.Time}, {Name: "expires_at", Kind: metadata.Time},
			{Name: "revoked_at", Kind: metadata.Time}, {Name: "last_used_at", Kind: metadata.Time},
			{Name: "replaced_by", Kind: metadata.Text},
		},
		Key:    func(k *Key) string { return k.ID },
		Encode: encode, Decode: decode,
		Missing: eider.KeyNotFound, Noun: "API key", Hot: true,
		Orders: map[string]func(a, b *Key) int{byProject: func(a, b *Key) int {
			if a.ProjectUID != b.ProjectUID {
				if a.ProjectUID < b.ProjectUID {
					return -1
				}
				return 1
			}
			return a.CreatedAt.Compare(b.CreatedAt)
		}},
	})
}

func encode(k *Key) []any {
	return []any{k.ID, k.ProjectID, k.ProjectUID, k.Hash, k.Scope.String(), k.Description,
		k.CreatedAt, metadata.NullTime(k.ExpiresAt), metadata.NullTime(k.RevokedAt), metadata.NullTime(k.LastUsedAt), k.ReplacedBy}
}

func decode(scan func(...any) error) (Key, error) {
	var k Key
	var scope string
	var expires, revoked, used *time.Time
	err := scan(&k.ID, &k.ProjectID, &k.ProjectUID, &k.Hash, &scope, &k.Description, &k.CreatedAt, &expires, &revoked, &used, &k.ReplacedBy)
	k.Scope, _ = eider.ParseRole(scope)
	k.CreatedAt = k.CreatedAt.UTC()
	k.ExpiresAt, k.RevokedAt, k.LastUsedAt = metadata.OrZero(expires), metadata.OrZero(revoked), metadata.OrZero(used)
	return k, err
}

// Keys is the register of keys.
type Keys struct {
	table *metadata.Table[Key]
	root  atomic.Pointer[[]byte] // hash of the root key

	mu   sync.Mutex
	used map[string]time.Time // since the last flush
}

// NewKeys returns the register. The root key opens everything.
func NewKeys(root string) *Keys {
	k := &Keys{table: newTable(), used: map[string]time.Time{}}
	k.SetRoot(root)
	return k
}

// SetRoot replaces the root key.
func (k *Keys) SetRoot(key string) {
	hash := hashOf(key)
	k.root.Store(&hash)
}

// IsRoot reports whether the token is the root key.
func (k *Keys) IsRoot(token string) bool { return same(hashOf(token), *k.root.Load()) }

// Table returns the table of keys, for the store.
func (k *Keys) Table() metadata.AnyTable { return k.table }

// Draft is what a new key shall be.
type Draft struct {
	ProjectID, ProjectUID string
	Scope                 eider.Role
	Description           string
	ExpiresAt             time.Time
}

// Issue stages a new key and returns it with its token, which is kept nowhere.
func (k *Keys) Issue(tx *metadata.Tx, d Draft) (Key, string, error) {
	id, token, hash := newToken()
	key := Key{
		ID: id, ProjectID: d.ProjectID, ProjectUID: d.ProjectUID, Hash: hash, Scope: d.Scope,
		Description: d.Description, CreatedAt: now(), ExpiresAt: d.ExpiresAt,
	}
	return key, token, k.table.Insert(tx, key)
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// Get returns the key with the id among those of the project ("": server-wide).
func (k *Keys) Get(ctx context.Context, r metadata.Reader, project, id string) (Key, error) {
	key, err := k.table.Get(ctx, r, id)
	if err == nil && key.ProjectUID != project {
		return Key{}, eider.Errorf(eider.KeyNotFound, "there is no such API key")
	}
	return key, err
}

// Put stages a changed key.
func (k *Keys) Put(ctx context.Context, tx *metadata.Tx, key Key) error {
	return k.table.Put(ctx, tx, key)
}

// Of returns the committed keys of the project ("": server-wide), oldest first.
func (k *Keys) Of(project string) []Key {
	var all []Key
	k.table.Scan(metadata.Range[Key]{Order: byProject, After: &Key{ProjectUID: project}}, func(key *Key) bool {
		if key.ProjectUID != project {
			return false
		}
		all = append(all, *key)
		return true
	})
	return all
}

// Remove stages the deletion of every key of the project.
func (k *Keys) Remove(ctx context.Context, tx *metadata.Tx, project string) error {
	for _, key := range k.Of(project) {
		if err := k.table.Delete(ctx, tx, key.ID); err != nil {
			return err
		}
	}
	return nil
}

// Len returns how many keys there are.
func (k *Keys) Len() int { return k.table.Len() }
