// Package eider holds the words that every part of Eider shares: projects,
// keys, actors and their roles, operations, and the errors a caller may see.
//
// It knows nothing of storage, HTTP or DuckDB and imports only the standard
// library, so that any package, a plugin's SDK included, may speak its words.
package eider

import (
	"encoding/json"
	"time"
)

// Role says what an actor may do. A higher role includes the lower ones.
type Role int

// The roles, weakest first. Admin is server-wide; the others are held on one
// project.
const (
	Anonymous    Role = iota // no credential
	ProjectRead              // read one project
	ProjectWrite             // and write its data
	ProjectAdmin             // and change its settings and keys
	Admin                    // everything on the server
)

var roleNames = [...]string{"none", "project_read", "project_write", "project_admin", "admin"}

// String returns the role as the API writes it.
func (r Role) String() string {
	if r < 0 || int(r) >= len(roleNames) {
		return "none"
	}
	return roleNames[r]
}

// ParseRole returns the role that the API calls name, and false if there is
// none. "none" is not a role that can be asked for.
func ParseRole(name string) (Role, bool) {
	for i := int(ProjectRead); i < len(roleNames); i++ {
		if roleNames[i] == name {
			return Role(i), true
		}
	}
	return Anonymous, false
}

// ActorType says what kind of thing acts.
type ActorType string

// The types of actor.
const (
	ActorAnonymous ActorType = "anonymous"
	ActorRoot      ActorType = "root"   // the root key
	ActorKey       ActorType = "key"    // an API key
	ActorSystem    ActorType = "system" // the server itself: jobs, settlement
	ActorLocal     ActorType = "local"  // a command over admin.sock
	ActorSignedURL ActorType = "signed_url"
)

// Actor is who performs an operation.
type Actor struct {
	Type ActorType
	ID   string // the key's id; empty for root and anonymous
	Name string // the key's description, or the job's name
	Role Role

	// ProjectID and ProjectUID bind a project's key to one incarnation of one
	// project. Both are empty for a server-wide actor.
	ProjectID  string
	ProjectUID string
}

// Sees reports whether the actor may know of the project with this id and uid.
func (a Actor) Sees(id, uid string) bool {
	if a.Role == Admin {
		return true
	}
	return a.ProjectUID != "" && a.ProjectID == id && a.ProjectUID == uid
}

// ProjectStatus is the state of a project.
type ProjectStatus string

// The states of a project. A creating project is invisible to every reader;
// a purged one keeps its row and its trail, and nothing else.
const (
	ProjectCreating ProjectStatus = "creating"
	ProjectActive   ProjectStatus = "active"
	ProjectLocked   ProjectStatus = "locked"
	ProjectDeleted  ProjectStatus = "deleted"
	ProjectPurging  ProjectStatus = "purging"
	ProjectPurged   ProjectStatus = "purged"
)

// Project is one DuckDB database and its place in the register. UID names this
// incarnation for ever; ID is unique among the projects that are not purged.
type Project struct {
	ID          string          `json:"id"`
	UID         string          `json:"uid"`
	Name        string          `json:"name"`
	DBPath      string          `json:"db_path" doc:"Path of the database file, relative to the data folder"`
	CreatedAt   time.Time       `json:"created_at"`
	UpdatedAt   time.Time       `json:"updated_at"`
	SizeBytes   int64           `json:"size_bytes"`
	TableCount  int64           `json:"table_count"`
	BucketCount int64           `json:"bucket_count"`
	Status      ProjectStatus   `json:"status" enum:"active,locked,deleted"`
	Settings    json.RawMessage `json:"settings"`
	LockReason  string          `json:"lock_reason,omitempty"`
	DeletedAt   *time.Time      `json:"deleted_at,omitempty"`
	PurgeAt     *time.Time      `json:"purge_at,omitempty"`
}

// CreatedProject is emitted in the transaction that makes a project visible.
type CreatedProject struct{ Project Project }

// MeasuredProject is emitted in the transaction of a change of the project's
// database, with what it holds then.
type MeasuredProject struct {
	UID                   string
	Size                  int64 // of the database and its log, in bytes
	Tables, Buckets, Rows int64
}

// PurgedProject is emitted in the transaction that ends a project for good.
type PurgedProject struct{ Project Project }

// Key is an API key without its secret. ProjectID is empty for a server-wide
// key.
type Key struct {
	ID          string     `json:"id"`
	ProjectID   *string    `json:"project_id"`
	KeyPrefix   string     `json:"key_prefix" doc:"The first characters of the key, enough to recognise it"`
	Scope       string     `json:"scope" enum:"admin,project_admin,project_write,project_read"`
	Description string     `json:"description"`
	CreatedAt   time.Time  `json:"created_at"`
	ExpiresAt   *time.Time `json:"expires_at"`
	LastUsedAt  *time.Time `json:"last_used_at"`
	RevokedAt   *time.Time `json:"revoked_at,omitempty"`
}

// Version returns the key without when it was used, which nobody changes: with it
// whoever reads the key by that key would change its ETag.
func (k Key) Version() any {
	type version Key
	k.LastUsedAt = nil
	return version(k)
}

// File is a storage file of a project. Until it is registered it is staged: it
// expires, and Path names where it is being uploaded.
type File struct {
	ID             string            `json:"id"`
	ProjectID      string            `json:"project_id"`
	Name           string            `json:"name"`
	Path           string            `json:"path" doc:"Path of the bytes, relative to the folder of files"`
	SizeBytes      int64             `json:"size_bytes"`
	ContentType    string            `json:"content_type"`
	ChecksumMD5    string            `json:"checksum_md5"`
	ChecksumSHA256 string            `json:"checksum_sha256"`
	IsStaged       bool              `json:"is_staged"`
	CreatedAt      time.Time         `json:"created_at"`
	ExpiresAt      *time.Time        `json:"expires_at"`
	Tags           map[string]string `json:"tags"`
}

// OperationStatus is how an operation ended, or that it has not.
type OperationStatus string

// The states of a row of the log.
const (
	StatusSuccess    OperationStatus = "success"
	StatusFailed     OperationStatus = "failed"
	StatusDenied     OperationStatus = "denied"
	StatusInProgress OperationStatus = "in_progress"
)
