package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/blob"
	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/usage"
)

// lostDir is where repairs move bytes that nobody has, or that are not what they
// were.
const lostDir = "lost+found"

func (f *Files) declareRepairs(r *core.Registry) {
	f.strayOp = operation.Effect(r.Operations, operation.Spec{
		Name: "repair", ID: "repair_orphan_file", Route: operation.Internal + " /repair/orphan_file", Role: eider.Admin, Target: "file", Frees: true,
	}, f.straySteps())
	f.dropOp = operation.Effect(r.Operations, operation.Spec{
		Name: "repair", ID: "repair_damaged_file", Route: operation.Internal + " " + base + "/repair", Role: eider.Admin, Target: "file",
		Deleted: true, Locked: true, Frees: true,
	}, operation.Steps[damagedFile, *damagePlan, operation.Nothing]{
		Intent: f.pickDamaged, Claims: claimDamaged,
		Effect: f.setAside, Applied: f.isSetAside, Undo: f.bringBack, Outcome: f.forgetDamaged,
		Revert: func(context.Context, *operation.Tx, *damagePlan) error { return nil },
	})
	f.describeOp = operation.Effect(r.Operations, operation.Spec{
		Name: "repair", ID: "repair_file_sidecar", Route: operation.Internal + " " + base + "/sidecar", Role: eider.Admin, Target: "file",
		Deleted: true, Locked: true, Frees: true,
	}, operation.Steps[damagedFile, *damagePlan, operation.Nothing]{
		Intent: f.pickDamaged, Claims: claimDamaged,
		Effect: f.describeAgain, Applied: func(context.Context, *damagePlan) (bool, error) { return false, nil }, // the next check goes on
		Undo: func(context.Context, *damagePlan) error { return nil }, Outcome: f.tellDescribed,
		Revert: func(context.Context, *operation.Tx, *damagePlan) error { return nil },
	})
	f.countOp = operation.Write(r.Operations, operation.Spec{
		Name: "repair", ID: "repair_file_counters", Route: operation.Internal + " " + base + "/counters", Role: eider.Admin, Target: "project",
		Deleted: true, Locked: true, Frees: true,
	}, f.recount)
}

// damagedFile names a file, or a complete upload, whose bytes are missing or not what
// they were.
type damagedFile struct {
	ID   string     `json:"id"`
	Kind check.Kind `json:"kind"`
}

type damagePlan struct {
	ID   string     `json:"id"`
	Kind check.Kind `json:"kind"`
	Blob blob.Key   `json:"blob"`
	To   string     `json:"to"` // relative to the data folder
	// Upload tells that it is not registered yet.
	Upload bool `json:"upload,omitempty"`

	row row
}

func claimDamaged(plan *damagePlan) []metadata.Claim {
	return []metadata.Claim{
		{Resource: fileResource(plan.ID), Exclusive: true}, {Resource: uploadResource(plan.ID), Exclusive: true},
		{Resource: operation.ProjectResource(plan.Blob.Project)},
	}
}

func (f *Files) pickDamaged(ctx context.Context, tx *operation.Tx, in damagedFile) (*damagePlan, error) {
	call := operation.From(ctx)
	call.Resource(in.ID)
	found, upload, err := f.either(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	if found.ProjectUID != call.Project.UID {
		return nil, eider.Errorf(eider.FileNotFound, "there is no such file")
	}
	return &damagePlan{in.ID, in.Kind, found.key(), filepath.Join(lostDir, "file."+call.ID), upload, found}, nil
}

// either returns a file, or else a complete upload.
func (f *Files) either(ctx context.Context, r metadata.Reader, id string) (found row, upload bool, err error) {
	found, err = f.rows.Get(ctx, r, id)
	if eider.CodeOf(err) != eider.FileNotFound {
		return found, false, err
	}
	s, uploadErr := f.sessions.Get(ctx, r, id)
	if uploadErr != nil || !s.Uploaded {
		return found, false, err
	}
	return s.row, true, nil
}

// setAside looks once more: bytes that somebody has put back stay, and so does the
// file.
func (f *Files) setAside(ctx context.Context, plan *damagePlan) error {
	_, err := f.blobs.Size(plan.Blob)
	if err == nil {
		intact, readErr := f.intact(ctx, plan.row, nil)
		if readErr != nil {
			return readErr
		}
		if intact {
			if !plan.Upload {
				checks := f.newChecks()
				checks.add(seen{row: plan.row, checked: plan.Kind == check.ChecksumMismatch, intact: true})
				checks.keep()
			}
			return eider.Errorf(eider.OperationInProgress, "the file's bytes are whole again")
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := f.files.MkdirAll(filepath.Join(f.dir, plan.To), 0o700); err != nil {
		return disk.Refusal(err)
	}
	return disk.Refusal(f.blobs.Trash(plan.Blob, f.asidePath(plan)))
}

func (f *Files) asidePath(plan *damagePlan) string {
	return filepath.Join(f.dir, plan.To, plan.Blob.ID)
}

// isSetAside: the folder is made right before the bytes go.
func (f *Files) isSetAside(_ context.Context, plan *damagePlan) (bool, error) {
	there, err := f.files.Exists(filepath.Join(f.dir, plan.To))
	if err != nil || !there {
		return false, err
	}
	return f.blobs.Gone(plan.Blob)
}

func (f *Files) bringBack(_ context.Context, plan *damagePlan) error {
	return f.blobs.Untrash(plan.Blob, f.asidePath(plan))
}

func (f *Files) forgetDamaged(ctx context.Context, tx *operation.Tx, plan *damagePlan) (operation.Nothing, error) {
	call := operation.From(ctx)
	found, upload, err := f.either(ctx, tx, plan.ID)
	if err != nil {
		return operation.Nothing{}, err
	}
	call.Detail("finding", plan.Kind)
	call.Detail("name", found.Name)
	call.Detail("size_bytes", found.SizeBytes)
	call.Detail("checksum_sha256", found.ChecksumSHA256)
	call.Detail("tags", found.Tags)
	call.Detail("kept_as", plan.To)
	if upload {
		tx.After(func() { f.letGo(plan.ID) })
		return operation.Nothing{}, f.sessions.Delete(ctx, tx, plan.ID)
	}
	f.changed(tx, plan.ID)
	return operation.Nothing{}, errors.Join(
		f.usage.Add(ctx, tx, found.ProjectUID, usage.Amounts{Files: -1, Bytes: -found.SizeBytes}),
		f.rows.Delete(ctx, tx, plan.ID))
}

// describeAgain writes what stands beside a file's bytes, as the register has it.
func (f *Files) describeAgain(ctx context.Context, plan *damagePlan) error {
	if _, err := f.blobs.Size(plan.Blob); err != nil {
		return disk.Refusal(err)
	}
	f.describing.Lock()
	defer f.describing.Unlock()
	head := f.audit.Head().ID // before the row is read: up to there it is true
	return disk.Refusal(f.writeSidecar(ctx, plan.ID, head))
}

func (f *Files) tellDescribed(ctx context.Context, _ *operation.Tx, plan *damagePlan) (operation.Nothing, error) {
	operation.From(ctx).Detail("finding", plan.Kind)
	operation.From(ctx).Detail("written", filesDir+"/"+blob.Path(plan.Blob)+".json")
	return operation.Nothing{}, nil
}

// miscount is what usage lacks.
type miscount struct {
	Missing usage.Amounts `json:"missing"`
}

func (f *Files) recount(ctx context.Context, tx *operation.Tx, in miscount) (operation.Nothing, error) {
	call := operation.From(ctx)
	call.Resource(call.Project.ID)
	call.Detail("finding", check.CounterDrift)
	call.Detail("added", fmt.Sprintf("%d files, %d bytes", in.Missing.Files, in.Missing.Bytes))
	return operation.Nothing{}, f.usage.Add(ctx, tx, call.Project.UID, in.Missing)
}
