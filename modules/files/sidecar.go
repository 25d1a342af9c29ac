package files

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/blob"
)

// sidecar is what the register knows of a file, beside its bytes, so that it can
// be rebuilt from them. LogID is the row of the log up to which it is true.
type sidecar struct {
	Format int `json:"format"`
	blob.Sums
	ID          string            `json:"id"`
	ProjectID   string            `json:"project_id"`
	ProjectUID  string            `json:"project_uid"`
	Name        string            `json:"name"`
	ContentType string            `json:"content_type"`
	CreatedAt   time.Time         `json:"created_at"`
	ExpiresAt   *time.Time        `json:"expires_at,omitempty"`
	Tags        map[string]string `json:"tags"`
	LogID       int64             `json:"log_id,omitempty"`

	// Of an upload that is not registered. What stands beside one that is not whole
	// is kept with its state: it can be resumed.
	Staged         bool   `json:"staged,omitempty"`
	Partial        bool   `json:"partial,omitempty"`
	DeclaredSize   int64  `json:"declared_size,omitempty"`
	DeclaredSHA256 string `json:"declared_sha256,omitempty"`

	blob string
}

// describes are the operations after which a sidecar is written.
var describes = map[string]bool{"register_file": true, "update_file": true, "export_table": true, "upload_file": true}

// writeSidecars follows the log: it describes every file that the rows changed,
// once for all of them, as it stands now.
func (f *Files) writeSidecars(ctx context.Context, rows []audit.Row) error {
	newest := map[string]int64{}
	for _, r := range rows {
		if r.Status != eider.StatusSuccess {
			continue
		}
		if r.ResourceType == "file" && describes[r.Operation] {
			newest[r.ResourceID] = r.ID
		}
		if id := resultIn(r); id != "" {
			newest[id] = r.ID
		}
	}
	return audit.Each(ctx, newest, func(ctx context.Context, id string, logID int64) error {
		f.describing.RLock()
		defer f.describing.RUnlock()
		return f.writeSidecar(ctx, id, logID)
	})
}

// resultIn returns the id of the file that holds the rows of a query, "" where there is
// none: its row is about the project.
func resultIn(r audit.Row) string {
	if r.Operation != "query" || !strings.Contains(r.Details, `"file_id"`) {
		return ""
	}
	var told struct {
		FileID string `json:"file_id"`
	}
	_ = json.Unmarshal([]byte(r.Details), &told)
	return told.FileID
}

func (f *Files) writeSidecar(ctx context.Context, id string, logID int64) error {
	r, err := f.rows.Get(ctx, f.pipeline.Store.View(), id)
	var s session
	if eider.CodeOf(err) == eider.FileNotFound {
		if s, err = f.sessions.Get(ctx, f.pipeline.Store.View(), id); err != nil || !s.Uploaded {
			return nil
		}
		r = s.row
	}
	if err != nil {
		return err
	}
	is := describe(r, sumsOf(r), logID)
	if s.Uploaded {
		is = is.staged(s, true)
	}
	err = f.blobs.Describe(r.key(), is)
	if errors.Is(err, fs.ErrNotExist) { // the project was purged meanwhile
		return nil
	}
	return err
}

// describe tells of a file; logID is 0 while no row of the log tells of its bytes.
func describe(r row, sums blob.Sums, logID int64) sidecar {
	return sidecar{
		Format: 1, Sums: sums, ID: r.ID, ProjectID: r.ProjectID, ProjectUID: r.ProjectUID, Name: r.Name, ContentType: r.ContentType,
		CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt, Tags: r.Tags, LogID: logID,
	}
}

// staged tells that it is an upload.
func (s sidecar) staged(of session, whole bool) sidecar {
	s.Staged, s.Partial, s.DeclaredSize, s.DeclaredSHA256 = true, !whole, of.DeclaredSize, of.DeclaredSHA256
	return s
}

// soon is by when a file has a sidecar that tells all of it, whatever keeps the
// follower busy: beside one that the server makes stand only its sums at first.
const soon = time.Minute

// tellsOf reports whether the row could be made again of this, as far as a row never
// changes.
func (s sidecar) tellsOf(r row) bool {
	if s.Size != r.SizeBytes || s.SHA256 != r.ChecksumSHA256 {
		return false
	}
	if s.ID == "" {
		return time.Since(r.CreatedAt) < soon
	}
	return s.ID == r.ID && s.ProjectUID == r.ProjectUID && s.ProjectID == r.ProjectID
}
