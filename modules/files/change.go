package files

import (
	"context"
	"path/filepath"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/blob"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/schema"
	"github.com/eiderdb/eider/core/usage"
)

type updateFile struct {
	filePath
	IfMatch   string                     `header:"If-Match" json:"-" doc:"Change only if the ETag is still this one"`
	Name      *string                    `json:"name,omitempty"`
	Tags      map[string]string          `json:"tags,omitempty" doc:"They replace the old ones as a whole"`
	ExpiresAt schema.Optional[time.Time] `json:"expires_at,omitempty" doc:"When the file is to be removed; null: never"`
}

func (f *Files) update(ctx context.Context, tx *operation.Tx, in updateFile) (eider.File, error) {
	found, err := f.lookup(ctx, tx, in.File)
	if err != nil {
		return eider.File{}, err
	}
	if tx.MustBeFree(fileResource(found.ID)) != nil {
		return eider.File{}, eider.Errorf(eider.OperationInProgress, "the file is being deleted")
	}
	if err := operation.CheckMatch(in.IfMatch, found.File); err != nil {
		return eider.File{}, err
	}
	if in.Name != nil {
		found.Name = *in.Name
	}
	if in.Tags != nil {
		found.Tags = in.Tags
	}
	if in.ExpiresAt.Given {
		found.ExpiresAt = nil
		if in.ExpiresAt.Value != nil {
			at := in.ExpiresAt.Value.UTC().Truncate(time.Microsecond)
			if !at.After(now()) {
				return eider.File{}, eider.Invalid("expires_at", "must lie in the future")
			}
			found.ExpiresAt = &at
		}
	}
	if err := checkFile(&found.File, "name"); err != nil {
		return eider.File{}, err
	}
	f.changed(tx, found.ID)
	return found.File, f.rows.Put(ctx, tx, found)
}

func fileResource(id string) string { return "file:" + id }

type dropFile struct {
	filePath
	IfMatch string `header:"If-Match" json:"-" doc:"Delete only if the ETag is still this one"`
}

// dropPlan is what a delete removes: a file, or an upload.
type dropPlan struct {
	ID     string   `json:"id"`
	Blob   blob.Key `json:"blob"`
	Trash  string   `json:"trash"` // relative to the data folder
	Staged bool     `json:"staged,omitempty"`
	Name   string   `json:"name"`
}

func claimDrop(plan *dropPlan) []metadata.Claim {
	return []metadata.Claim{
		{Resource: fileResource(plan.ID), Exclusive: true}, {Resource: uploadResource(plan.ID), Exclusive: true},
		{Resource: operation.ProjectResource(plan.Blob.Project)},
	}
}

func (f *Files) condemn(ctx context.Context, tx *operation.Tx, in dropFile) (*dropPlan, error) {
	call := operation.From(ctx)
	found, err := f.lookup(ctx, tx, in.File)
	staged := false
	if eider.CodeOf(err) == eider.FileNotFound {
		s, stagedErr := f.find(ctx, tx, in.File)
		if stagedErr != nil {
			return nil, err
		}
		if tx.MustBeFree(uploadResource(s.ID)) != nil {
			return nil, eider.Errorf(eider.UploadInProgress, "a request uploads this file now")
		}
		found, staged, err = s.row, true, nil
		found.File = s.file()
	}
	if err != nil {
		return nil, err
	}
	if err := operation.CheckMatch(in.IfMatch, found.File); err != nil {
		return nil, err
	}
	call.Detail("name", found.Name)
	return &dropPlan{ID: found.ID, Blob: found.key(), Trash: filepath.Join("trash", call.ID), Staged: staged, Name: found.Name}, nil
}

func (f *Files) trash(plan *dropPlan) string { return filepath.Join(f.dir, plan.Trash) }

// discard moves the bytes of a file or an upload into the trash, from where a
// failed outcome brings them back.
func (f *Files) discard(_ context.Context, plan *dropPlan) error {
	return disk.Refusal(f.blobs.Trash(plan.Blob, f.trash(plan)))
}

func (f *Files) isDiscarded(_ context.Context, plan *dropPlan) (bool, error) {
	return f.blobs.Gone(plan.Blob)
}

func (f *Files) undiscard(_ context.Context, plan *dropPlan) error {
	return f.blobs.Untrash(plan.Blob, f.trash(plan))
}

func (f *Files) bury(ctx context.Context, tx *operation.Tx, plan *dropPlan) (operation.Nothing, error) {
	operation.From(ctx).Detail("name", plan.Name)
	if plan.Staged {
		tx.After(func() { f.letGo(plan.ID) })
		return operation.Nothing{}, f.sessions.Delete(ctx, tx, plan.ID)
	}
	found, err := f.rows.Get(ctx, tx, plan.ID)
	if err != nil {
		return operation.Nothing{}, err
	}
	operation.From(ctx).Detail("size_bytes", found.SizeBytes)
	if err := f.usage.Add(ctx, tx, found.ProjectUID, usage.Amounts{Files: -1, Bytes: -found.SizeBytes}); err != nil {
		return operation.Nothing{}, err
	}
	f.changed(tx, plan.ID)
	return operation.Nothing{}, f.rows.Delete(ctx, tx, plan.ID)
}
