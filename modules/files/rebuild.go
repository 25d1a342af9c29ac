package files

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/blob"
	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/usage"
)

// rebuildBatch is how many rows share a commit and a row of the log.
const rebuildBatch = 500

// rebuild makes the rows of files and of uploads that are whole again, from what
// stands beside their bytes. The bytes are not read: a deep check does that.
func (f *Files) rebuild(ctx context.Context, r *check.Rebuild) error {
	owners := f.owners()
	there, err := f.registered(ctx)
	if err != nil {
		return err
	}
	var all []blob.Key
	err = f.blobs.Walk(ctx, time.Now().Add(time.Hour), func(k blob.Key) error {
		all = append(all, k)
		return nil
	})
	if err != nil {
		return err
	}
	var batch []sidecar
	flush := func() error {
		err := f.bringBackRows(ctx, r, owners, batch)
		batch = nil
		return err
	}
	for i, k := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		is, lost := f.described(k, owners)
		switch {
		case lost != "":
			r.Lose(lost)
		case there[is.ID]:
			r.Count("files_before", 1)
		case is.ID != "":
			batch = append(batch, is)
		}
		if len(batch) == rebuildBatch {
			if err := flush(); err != nil {
				return err
			}
		}
		if i%100 == 0 || i+1 == len(all) {
			r.Tell("files", i+1, len(all))
		}
	}
	if len(batch) == 0 {
		return nil
	}
	return flush()
}

const selectRegistered = `SELECT id, '' FROM files UNION ALL SELECT id, '' FROM upload_sessions`

// registered returns what an earlier try has brought back.
func (f *Files) registered(ctx context.Context) (map[string]bool, error) {
	rows, err := f.pairs(ctx, selectRegistered)
	there := map[string]bool{}
	for _, one := range rows {
		there[one[0]] = true
	}
	return there, err
}

// described returns what stands beside whole bytes, nothing for others, or why it
// does not do.
func (f *Files) described(k blob.Key, owners map[string]eider.Project) (is sidecar, lost string) {
	where := filesDir + "/" + blob.Path(k)
	if _, err := f.blobs.Size(k); err != nil {
		return is, "" // an upload that was not whole begins anew
	}
	text, err := f.blobs.Described(k)
	if err == nil {
		err = json.Unmarshal(text, &is)
	}
	owner, known := owners[k.Project]
	switch {
	case err != nil:
		return sidecar{}, where + ": what stands beside it cannot be read"
	case is.ID == "":
		return sidecar{}, where + ": nothing tells what it was"
	case !known || is.ProjectUID != k.Project || is.ProjectID != owner.ID:
		return sidecar{}, where + ": its project is not there"
	}
	is.blob = k.ID
	return is, ""
}

func (f *Files) bringBackRows(ctx context.Context, r *check.Rebuild, owners map[string]eider.Project, batch []sidecar) error {
	added := map[string]usage.Amounts{}
	staged := 0
	for _, is := range batch {
		if is.Staged {
			staged++
			continue
		}
		added[is.ProjectUID] = added[is.ProjectUID].Plus(usage.Amounts{Files: 1, Bytes: is.Size})
	}
	details := map[string]any{"files": len(batch) - staged, "uploads": staged, "first": batch[0].ID, "last": batch[len(batch)-1].ID}
	err := r.Commit(ctx, "file", details, func(tx *metadata.Tx) error {
		for _, is := range batch {
			if err := f.bringBackRow(tx, is); err != nil {
				return fmt.Errorf("file %s: %w", is.ID, err)
			}
		}
		for uid, amounts := range added {
			if err := f.usage.Add(ctx, tx, uid, amounts); err != nil {
				return err
			}
		}
		return nil
	})
	r.Count("files", len(batch)-staged)
	r.Count("uploads", staged)
	return err
}

func (f *Files) bringBackRow(tx *metadata.Tx, is sidecar) error {
	one := row{ProjectUID: is.ProjectUID, Blob: is.blob, File: eider.File{
		ID: is.ID, ProjectID: is.ProjectID, Name: is.Name, ContentType: is.ContentType, SizeBytes: is.Size, ChecksumMD5: is.MD5, ChecksumSHA256: is.SHA256,
		CreatedAt: is.CreatedAt.UTC(), ExpiresAt: is.ExpiresAt, Tags: is.Tags,
	}}
	if !is.Staged {
		return f.rows.Insert(tx, one)
	}
	return f.sessions.Insert(tx, session{row: one, DeclaredSize: is.DeclaredSize, DeclaredSHA256: is.DeclaredSHA256, Uploaded: true})
}
