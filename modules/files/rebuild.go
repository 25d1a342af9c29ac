package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/blob"
	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/usage"
)

// rebuildBatch is how many rows share a commit and a row of the log.
const rebuildBatch = 500

// rebuild makes the rows of files and of uploads again, from what stands beside
// their bytes. The bytes are not read: a deep check does that.
func (f *Files) rebuild(ctx context.Context, r *check.Rebuild) error {
	owners := f.owners()
	there, err := f.registered(ctx)
	if err != nil {
		return err
	}
	var all []blob.Key
	var others []string
	err = f.blobs.Look(ctx, blob.Survey{
		Blob: func(k blob.Key, _ blob.State) error {
			all = append(all, k)
			return nil
		},
		Other: func(path string) error {
			others = append(others, path)
			return nil
		},
	})
	if err != nil {
		return err
	}
	for _, path := range others {
		if !slices.ContainsFunc(all, func(k blob.Key) bool { return blob.Path(k) == path }) { // a link to its bytes
			r.Lose(filesDir + "/" + path + ": it is none of the server's, or not where the server keeps it")
		}
	}
	back := &bringing{files: f, report: r, owners: owners, there: there, uploads: map[string]sidecar{}}
	for i, k := range all {
		if err := errors.Join(ctx.Err(), back.take(ctx, k)); err != nil {
			return err
		}
		if i%100 == 0 || i+1 == len(all) {
			r.Tell("files", i+1, len(all))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(back.uploads)) {
		if err := back.add(ctx, back.uploads[id]); err != nil {
			return err
		}
	}
	return back.flush(ctx)
}

// bringing is a rebuild under way. Files come as they are found. Uploads come at the
// end: of one that was uploaded again both may be there, and its file, too.
type bringing struct {
	files   *Files
	report  *check.Rebuild
	owners  map[string]eider.Project
	there   map[string]bool // by id
	uploads map[string]sidecar
	batch   []sidecar
}

func (b *bringing) take(ctx context.Context, k blob.Key) error {
	is, lost := b.files.described(k, b.owners)
	switch {
	case lost != "":
		b.report.Lose(lost)
	case is.ID == "":
	case b.there[is.ID]:
		b.report.Count("files_before", 1)
	case is.Staged:
		if other, ok := b.uploads[is.ID]; !ok || is.newer(other) {
			b.uploads[is.ID] = is
		}
	default:
		return b.add(ctx, is)
	}
	return nil
}

// newer reports whether this one of two uploads of one name is it: what is complete
// stands until another is, and names of blobs grow.
func (s sidecar) newer(than sidecar) bool {
	if s.Partial != than.Partial {
		return !s.Partial
	}
	return s.blob > than.blob
}

func (b *bringing) add(ctx context.Context, is sidecar) error {
	if b.there[is.ID] {
		return nil
	}
	b.there[is.ID] = true
	if b.batch = append(b.batch, is); len(b.batch) < rebuildBatch {
		return nil
	}
	return b.flush(ctx)
}

func (b *bringing) flush(ctx context.Context) error {
	if len(b.batch) == 0 {
		return nil
	}
	err := b.files.bringBackRows(ctx, b.report, b.batch)
	b.batch = nil
	return err
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

// described returns what is told of bytes, or why it does not do; nothing where
// there are none.
func (f *Files) described(k blob.Key, owners map[string]eider.Project) (is sidecar, lost string) {
	where := filesDir + "/" + blob.Path(k)
	text, err := f.blobs.Described(k)
	if _, sizeErr := f.blobs.Size(k); sizeErr != nil {
		if gone, err := f.blobs.Gone(k); err == nil && gone {
			return is, ""
		}
		where = filesDir + "/" + blob.StagingPath(k)
		if text, err = f.blobs.Begun(k); err == nil && text == nil {
			return is, where + ": an upload of which nothing was acknowledged; upload it again"
		}
	}
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

func (f *Files) bringBackRows(ctx context.Context, r *check.Rebuild, batch []sidecar) error {
	added := map[string]usage.Amounts{}
	staged, logIDs := 0, map[string]int64{}
	for _, is := range batch {
		logIDs[is.ID] = is.LogID
		r.Tells(is.LogID)
		if is.Staged {
			staged++
			continue
		}
		added[is.ProjectUID] = added[is.ProjectUID].Plus(usage.Amounts{Files: 1, Bytes: is.Size})
	}
	details := map[string]any{"files": len(batch) - staged, "uploads": staged, "log_ids": logIDs}
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
	return f.sessions.Insert(tx, session{row: one, DeclaredSize: is.DeclaredSize, DeclaredSHA256: is.DeclaredSHA256, Uploaded: !is.Partial})
}
