package projects

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
)

// row is a project and what its list needs prepared.
type row struct {
	eider.Project
	folded   string    // name and id in lower case, for name_contains
	measured time.Time // when it was last told what the database holds, zero if never
}

func newRow(p eider.Project) row {
	return row{Project: p, folded: strings.ToLower(p.Name)}
}

// toldAt is of when the project's statistics are.
func (r *row) toldAt() time.Time {
	if r.measured.After(r.UpdatedAt) {
		return r.measured
	}
	return r.UpdatedAt
}

// The status of a project changes, so it has no index: DuckDB turns an update
// of an indexed column into a delete and an insert (docs/decisions/0004).
func migrations() []metadata.Migration {
	return []metadata.Migration{
		{Owner: "projects", Number: 1, SQL: []string{`
		CREATE TABLE projects (
			uid TEXT PRIMARY KEY, id TEXT NOT NULL, name TEXT NOT NULL, db_path TEXT NOT NULL,
			created_at TIMESTAMPTZ NOT NULL, updated_at TIMESTAMPTZ NOT NULL,
			size_bytes BIGINT NOT NULL, table_count BIGINT NOT NULL, bucket_count BIGINT NOT NULL,
			status TEXT NOT NULL, settings TEXT NOT NULL, lock_reason TEXT NOT NULL,
			deleted_at TIMESTAMPTZ, purge_at TIMESTAMPTZ)`}},
		{Owner: "projects", Number: 2, SQL: []string{`ALTER TABLE projects ADD COLUMN measured_at TIMESTAMPTZ`}},
	}
}

const (
	byID      = "id"      // unique among the projects that are not purged
	byNewest  = "created" // the orders in which they are listed
	byName    = "name"
	byIDOrder = "id"
	byUpdated = "updated"
	bySize    = "size"
	byPurge   = "purge" // deleted ones first, by when they are due
	byTrail   = "trail" // every incarnation of an id, oldest first
)

func newTable() *metadata.Table[row] {
	return metadata.NewTable(metadata.Def[row]{
		Name: "projects",
		Columns: []metadata.Column{
			{Name: "uid", Kind: metadata.Text}, {Name: "id", Kind: metadata.Text}, {Name: "name", Kind: metadata.Text},
			{Name: "db_path", Kind: metadata.Text}, {Name: "created_at", Kind: metadata.Time}, {Name: "updated_at", Kind: metadata.Time},
			{Name: "size_bytes", Kind: metadata.Int}, {Name: "table_count", Kind: metadata.Int}, {Name: "bucket_count", Kind: metadata.Int},
			{Name: "status", Kind: metadata.Text}, {Name: "settings", Kind: metadata.Text}, {Name: "lock_reason", Kind: metadata.Text},
			{Name: "deleted_at", Kind: metadata.Time}, {Name: "purge_at", Kind: metadata.Time},
			{Name: "measured_at", Kind: metadata.Time},
		},
		Key:    func(r *row) string { return r.UID },
		Encode: encode, Decode: decode,
		Missing: eider.NotFound, Noun: "project", Hot: true,
		Group: func(r *row) string { return string(r.Status) },
		Unique: map[string]func(*row) (string, bool){
			byID: func(r *row) (string, bool) { return r.ID, r.Status != eider.ProjectPurged },
		},
		Orders: map[string]func(a, b *row) int{
			byNewest:  func(a, b *row) int { return a.CreatedAt.Compare(b.CreatedAt) },
			byName:    func(a, b *row) int { return cmp.Compare(a.folded, b.folded) },
			byUpdated: func(a, b *row) int { return a.UpdatedAt.Compare(b.UpdatedAt) },
			bySize:    func(a, b *row) int { return cmp.Compare(a.SizeBytes, b.SizeBytes) },
			byPurge:   func(a, b *row) int { return purgeTime(a).Compare(purgeTime(b)) },
			byTrail: func(a, b *row) int {
				return cmp.Or(cmp.Compare(a.ID, b.ID), a.CreatedAt.Compare(b.CreatedAt))
			},
		},
	})
}

// never sorts what is not due behind all that is.
var never = time.Unix(1<<40, 0)

func purgeTime(r *row) time.Time {
	if r.Status == eider.ProjectDeleted && r.PurgeAt != nil {
		return *r.PurgeAt
	}
	return never
}

func encode(r *row) []any {
	return []any{r.UID, r.ID, r.Name, r.DBPath, r.CreatedAt, r.UpdatedAt, r.SizeBytes, r.TableCount, r.BucketCount,
		string(r.Status), string(r.Settings), r.LockReason, metadata.NullTime(metadata.OrZero(r.DeletedAt)), metadata.NullTime(metadata.OrZero(r.PurgeAt)), metadata.NullTime(r.measured)}
}

func decode(scan func(...any) error) (row, error) {
	var p eider.Project
	var settings string
	var measured *time.Time
	err := scan(&p.UID, &p.ID, &p.Name, &p.DBPath, &p.CreatedAt, &p.UpdatedAt, &p.SizeBytes, &p.TableCount, &p.BucketCount,
		(*string)(&p.Status), &settings, &p.LockReason, &p.DeletedAt, &p.PurgeAt, &measured)
	p.Settings = json.RawMessage(settings)
	p.CreatedAt, p.UpdatedAt = p.CreatedAt.UTC(), p.UpdatedAt.UTC()
	p.DeletedAt, p.PurgeAt = utc(p.DeletedAt), utc(p.PurgeAt)
	r := newRow(p)
	r.measured = metadata.OrZero(measured)
	return r, err
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}

// newest returns the newest incarnation of the id that was ever there: the one
// that is not purged, else the last that was. One that is still being created is
// not there yet: until it is, the id answers as before, so that the purge of the
// old one can be replayed.
func (p *Projects) newest(id string) (row, bool) {
	found, err := p.rows.By(context.Background(), p.pipeline.Store.View(), byID, id)
	if err == nil && found.Status != eider.ProjectCreating {
		return found, true
	}
	var last *row
	p.rows.Scan(metadata.Range[row]{Order: byTrail, After: &row{Project: eider.Project{ID: id}}}, func(r *row) bool {
		if r.ID == id && r.Status != eider.ProjectCreating {
			last = r
		}
		return r.ID == id
	})
	if last == nil {
		return row{}, false
	}
	return *last, true
}
