package files

import (
	"cmp"
	"encoding/json"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/blob"
	"github.com/eiderdb/eider/core/metadata"
)

// row is a registered file. There may be millions: it is not kept in memory.
type row struct {
	eider.File
	ProjectUID string
	Blob       string // names its bytes
}

func (r *row) key() blob.Key { return blob.Key{Project: r.ProjectUID, ID: r.Blob} }

// session is an upload that is not registered yet. It has the id that the file
// will have. Blob changes when the upload begins anew.
type session struct {
	row
	DeclaredSize   int64 // -1: not declared
	DeclaredSHA256 string
	Uploaded       bool
}

// file returns the session as the API shows it.
func (s *session) file() eider.File {
	file := s.File
	file.IsStaged = true
	file.Path = blob.StagingPath(s.key())
	if s.Uploaded {
		file.Path = blob.Path(s.key())
	}
	return file
}

// No column that changes has an index (docs/decisions/0004).
func migrations() []metadata.Migration {
	return []metadata.Migration{{Owner: "files", Number: 1, SQL: []string{`
		CREATE TABLE files (
			id TEXT PRIMARY KEY, project_uid TEXT NOT NULL, project_id TEXT NOT NULL, name TEXT NOT NULL, blob TEXT NOT NULL,
			content_type TEXT NOT NULL, size_bytes BIGINT NOT NULL, checksum_md5 TEXT NOT NULL, checksum_sha256 TEXT NOT NULL,
			created_at TIMESTAMPTZ NOT NULL, expires_at TIMESTAMPTZ, tags TEXT NOT NULL)`, `
		CREATE TABLE upload_sessions (
			id TEXT PRIMARY KEY, project_uid TEXT NOT NULL, project_id TEXT NOT NULL, name TEXT NOT NULL, blob TEXT NOT NULL,
			content_type TEXT NOT NULL, size_bytes BIGINT NOT NULL, checksum_md5 TEXT NOT NULL, checksum_sha256 TEXT NOT NULL,
			created_at TIMESTAMPTZ NOT NULL, expires_at TIMESTAMPTZ, tags TEXT NOT NULL,
			declared_size BIGINT NOT NULL, declared_sha256 TEXT NOT NULL, uploaded BOOLEAN NOT NULL)`}},
		{Owner: "files", Number: 2, SQL: []string{`
		CREATE TABLE file_checks (id TEXT PRIMARY KEY, verified_at TIMESTAMPTZ NOT NULL, intact BOOLEAN NOT NULL)`}}}
}

const columnList = `id, project_uid, project_id, name, blob, content_type, size_bytes, checksum_md5, checksum_sha256, created_at, expires_at, tags`

func columns() []metadata.Column {
	return []metadata.Column{
		{Name: "id", Kind: metadata.Text}, {Name: "project_uid", Kind: metadata.Text}, {Name: "project_id", Kind: metadata.Text},
		{Name: "name", Kind: metadata.Text}, {Name: "blob", Kind: metadata.Text}, {Name: "content_type", Kind: metadata.Text},
		{Name: "size_bytes", Kind: metadata.Int}, {Name: "checksum_md5", Kind: metadata.Text}, {Name: "checksum_sha256", Kind: metadata.Text},
		{Name: "created_at", Kind: metadata.Time}, {Name: "expires_at", Kind: metadata.Time}, {Name: "tags", Kind: metadata.Text},
	}
}

func newTable() *metadata.Table[row] {
	return metadata.NewTable(metadata.Def[row]{
		Name: "files", Columns: columns(), Key: func(r *row) string { return r.ID }, Encode: encode, Decode: decode,
		Missing: eider.FileNotFound, Noun: "file",
	})
}

// The orders of sessions.
const (
	byExpiry  = "expiry"
	byProject = "project"
)

func newSessions() *metadata.Table[session] {
	return metadata.NewTable(metadata.Def[session]{
		Name: "upload_sessions",
		Columns: append(columns(), metadata.Column{Name: "declared_size", Kind: metadata.Int},
			metadata.Column{Name: "declared_sha256", Kind: metadata.Text}, metadata.Column{Name: "uploaded", Kind: metadata.Bool}),
		Key: func(s *session) string { return s.ID },
		Encode: func(s *session) []any {
			return append(encode(&s.row), s.DeclaredSize, s.DeclaredSHA256, s.Uploaded)
		},
		Decode: func(scan func(...any) error) (s session, err error) {
			s.row, err = decode(func(dest ...any) error {
				return scan(append(dest, &s.DeclaredSize, &s.DeclaredSHA256, &s.Uploaded)...)
			})
			return s, err
		},
		Missing: eider.UploadSessionNotFound, Noun: "upload", Hot: true,
		Orders: map[string]func(a, b *session) int{
			byExpiry: func(a, b *session) int { return metadata.OrZero(a.ExpiresAt).Compare(metadata.OrZero(b.ExpiresAt)) },
			byProject: func(a, b *session) int {
				return cmp.Or(cmp.Compare(a.ProjectUID, b.ProjectUID), cmp.Compare(a.ID, b.ID))
			},
		},
	})
}

func encode(r *row) []any {
	tags, err := json.Marshal(r.Tags)
	if err != nil || r.Tags == nil {
		tags = []byte("{}")
	}
	return []any{r.ID, r.ProjectUID, r.ProjectID, r.Name, r.Blob, r.ContentType, r.SizeBytes, r.ChecksumMD5, r.ChecksumSHA256,
		r.CreatedAt, metadata.NullTime(metadata.OrZero(r.ExpiresAt)), string(tags)}
}

func decode(scan func(...any) error) (r row, err error) {
	var tags string
	if err := scan(&r.ID, &r.ProjectUID, &r.ProjectID, &r.Name, &r.Blob, &r.ContentType, &r.SizeBytes, &r.ChecksumMD5, &r.ChecksumSHA256,
		&r.CreatedAt, &r.ExpiresAt, &tags); err != nil {
		return r, err
	}
	r.CreatedAt = r.CreatedAt.UTC()
	if r.ExpiresAt != nil {
		at := r.ExpiresAt.UTC()
		r.ExpiresAt = &at
	}
	r.Path = blob.Path(r.key())
	return r, json.Unmarshal([]byte(tags), &r.Tags)
}

// expiredAt reports whether the file is past its expiry.
func (r *row) expiredAt(at time.Time) bool { return r.ExpiresAt != nil && !at.Before(*r.ExpiresAt) }
