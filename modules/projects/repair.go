package projects

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/projectdb/worker"
	"github.com/eiderdb/eider/core/usage"
)

// lostDir is where repairs move what nobody has, and what they replace.
const lostDir = "lost+found"

func (p *Projects) declareRepairs(r *core.Registry) {
	p.orphanOp = operation.Effect(r.Operations, operation.Spec{
		Name: "repair", ID: "repair_orphan_database", Route: operation.Internal + " /repair/orphan_database", Role: eider.Admin, Target: "project", Frees: true,
	}, operation.Steps[orphanFolder, lostPlan, operation.Nothing]{
		Intent: p.pickOrphan, Claims: func(plan lostPlan) []metadata.Claim {
			return []metadata.Claim{{Resource: "folder:" + plan.Folder, Exclusive: true}}
		},
		Effect: p.lose, Applied: p.isLost, Undo: p.unlose, Outcome: p.tellLost,
		Revert: func(context.Context, *operation.Tx, lostPlan) error { return nil },
	})
	p.replaceOp = operation.Effect(r.Operations, operation.Spec{
		Name: "repair", ID: "repair_missing_database", Route: operation.Internal + " /projects/{id}/repair/missing_database", Role: eider.Admin,
		Target: "project", Locked: true, Deleted: true, Ends: true,
	}, operation.Steps[projectPath, projectPlan, operation.Nothing]{
		Intent: p.pickMissing, Claims: claimProject, Effect: p.replace, Applied: p.isReplaced, Undo: p.unreplace, Outcome: p.lockReplaced,
		Revert: func(context.Context, *operation.Tx, projectPlan) error { return nil },
	})
	p.describeOp = operation.Effect(r.Operations, operation.Spec{
		Name: "repair", ID: "repair_project_sidecar", Route: operation.Internal + " /projects/{id}/repair/sidecar", Role: eider.Admin,
		Target: "project", Locked: true, Deleted: true, Frees: true,
	}, operation.Steps[projectPath, projectPlan, operation.Nothing]{
		Intent: p.pickUndescribed, Claims: func(plan projectPlan) []metadata.Claim {
			return []metadata.Claim{{Resource: operation.ProjectResource(plan.UID)}}
		},
		Effect: p.describeAgain, Applied: func(context.Context, projectPlan) (bool, error) { return false, nil }, // the next check goes on
		Undo: func(context.Context, projectPlan) error { return nil }, Outcome: p.tellDescribed,
		Revert: func(context.Context, *operation.Tx, projectPlan) error { return nil },
	})
	p.measureOp = operation.Effect(r.Operations, operation.Spec{
		Name: "repair", ID: "repair_drift", Route: operation.Internal + " /projects/{id}/repair/drift", Role: eider.Admin,
		Target: "project", Locked: true, Deleted: true, Frees: true,
	}, operation.Steps[projectPath, *measurePlan, operation.Nothing]{
		Intent: p.pickDrifted, Claims: func(plan *measurePlan) []metadata.Claim {
			return []metadata.Claim{{Resource: operation.ProjectResource(plan.UID), Exclusive: true}}
		},
		Effect: p.measureAgain, Applied: func(context.Context, *measurePlan) (bool, error) { return false, nil },
		Undo: func(context.Context, *measurePlan) error { return nil }, Outcome: p.recordMeasured,
		Revert: func(context.Context, *operation.Tx, *measurePlan) error { return nil },
	})
}

type orphanFolder struct {
	Folder string `json:"folder"`
}

// lostPlan moves a folder to lost+found.
type lostPlan struct {
	Folder string `json:"folder"`
	To     string `json:"to"`
}

// pickOrphan checks again that no project has the folder.
func (p *Projects) pickOrphan(ctx context.Context, _ *operation.Tx, in orphanFolder) (lostPlan, error) {
	owned := false
	p.rows.Scan(metadata.Range[row]{Order: byNewest}, func(r *row) bool {
		owned = r.Status != eider.ProjectPurged && folderOf(r.Project) == in.Folder
		return !owned
	})
	if owned {
		return lostPlan{}, eider.Errorf(eider.OperationInProgress, "a project has this folder by now")
	}
	call := operation.From(ctx)
	call.Resource(in.Folder)
	return lostPlan{in.Folder, lostPath(call, in.Folder)}, nil
}

// longestName leaves room for the id of a call: names have 255 bytes at most.
const longestName = 200

// lostPath is a place in lost+found that no other call names.
func lostPath(call *operation.Call, folder string) string {
	name := strings.TrimPrefix(filepath.Base(folder), ".")
	return filepath.Join(lostDir, name[:min(len(name), longestName)]+"."+call.ID)
}

// lose moves the folder, under its lock if it has one: a worker of a server that was
// killed may still write there.
func (p *Projects) lose(_ context.Context, plan lostPlan) error {
	return refusal(p.folders.lose(plan.Folder, plan.To))
}

func (f folders) lose(from, to string) error {
	info, err := os.Lstat(f.path(from))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", filepath.Base(from), errors.Unwrap(err))
	}
	locked := false
	if info.IsDir() { // a link is not followed: what it leads to is not ours to lock
		if locked, err = f.exists(filepath.Join(from, lockFile)); err != nil {
			return err
		}
	}
	if locked {
		lock, err := disk.Lock(f.path(from, lockFile))
		if errors.Is(err, disk.ErrLocked) {
			return eider.Errorf(eider.OperationInProgress, "the folder's database is in use").Because(err)
		}
		if err != nil {
			return err
		}
		defer lock.Unlock()
	}
	return f.move(from, to)
}

func (p *Projects) isLost(_ context.Context, plan lostPlan) (bool, error) {
	there, err := p.folders.exists(plan.To)
	if err != nil || !there {
		return false, err
	}
	return true, p.folders.syncMove(plan.Folder, plan.To)
}

func (p *Projects) unlose(_ context.Context, plan lostPlan) error {
	there, err := p.folders.exists(plan.To)
	if err != nil || !there {
		return err
	}
	return p.folders.move(plan.To, plan.Folder)
}

func (p *Projects) tellLost(ctx context.Context, _ *operation.Tx, plan lostPlan) (operation.Nothing, error) {
	call := operation.From(ctx)
	call.Detail("finding", "orphan_database")
	call.Detail("kept_as", plan.To)
	return operation.Nothing{}, nil
}

func (p *Projects) pickMissing(ctx context.Context, tx *operation.Tx, _ projectPath) (projectPlan, error) {
	call := operation.From(ctx)
	found, err := p.rows.Get(ctx, tx, call.Project.UID)
	if err != nil {
		return projectPlan{}, err
	}
	call.Resource(found.ID)
	locked := found.Project
	locked.LockReason = lostReason
	if found.Status != eider.ProjectDeleted {
		locked.Status = eider.ProjectLocked
	}
	return projectPlan{
		Call: call.ID, UID: found.UID, ID: found.ID, Folder: folderOf(found.Project), Sidecar: newSidecar(locked, 0),
		Others: []string{lostPath(call, folderOf(found.Project))},
	}, nil
}

const lostReason = "its database was missing; a repair has put an empty one in its place"

// replace keeps what is left of the folder and makes a new one, whose database is
// empty.
func (p *Projects) replace(ctx context.Context, plan projectPlan) error {
	if back, err := p.folders.complete(plan.Folder); err != nil || back {
		return errors.Join(err, eider.Errorf(eider.OperationInProgress, "the database is in its place again"))
	}
	if err := p.databases.CloseProject(ctx, plan.UID); err != nil {
		return err
	}
	if err := p.folders.lose(plan.Folder, plan.Others[0]); err != nil {
		return refusal(err)
	}
	return refusal(p.folders.create(ctx, plan))
}

// isReplaced tells an empty database that a repair has put there from one that
// somebody has brought back.
func (p *Projects) isReplaced(_ context.Context, plan projectPlan) (bool, error) {
	there, err := p.folders.complete(plan.Folder)
	if err != nil || !there {
		return false, err
	}
	text, err := os.ReadFile(p.folders.path(plan.Folder, sidecarFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", sidecarFile, errors.Unwrap(err))
	}
	var is sidecar
	return json.Unmarshal(text, &is) == nil && is.LogID == 0 && is.LockReason == lostReason, nil
}

func (p *Projects) unreplace(ctx context.Context, plan projectPlan) error {
	ours, err := p.isReplaced(ctx, plan)
	if err != nil {
		return err
	}
	if !ours { // whatever is there by now is somebody's
		return errors.Join(p.folders.files.RemoveAll(p.folders.path(projectsDir, ".new-"+plan.Call)), p.bringBack(plan))
	}
	if err := p.folders.uncreate(plan); err != nil {
		return err
	}
	return p.bringBack(plan)
}

func (p *Projects) bringBack(plan projectPlan) error {
	there, err := p.folders.exists(plan.Folder)
	if err != nil || there {
		return err
	}
	return p.unlose(context.Background(), lostPlan{plan.Folder, plan.Others[0]})
}

func (p *Projects) lockReplaced(ctx context.Context, tx *operation.Tx, plan projectPlan) (operation.Nothing, error) {
	call := operation.From(ctx)
	call.Resource(plan.ID)
	call.Detail("finding", "missing_database")
	call.Detail("rest_kept_as", plan.Others[0])
	found, err := p.rows.Get(ctx, tx, plan.UID)
	if err != nil {
		return operation.Nothing{}, err
	}
	held, err := p.usage.Of(ctx, tx, plan.UID)
	if err != nil {
		return operation.Nothing{}, err
	}
	if found.Status != eider.ProjectDeleted {
		found.Status, found.LockReason = eider.ProjectLocked, lostReason
	}
	found.SizeBytes, found.TableCount, found.BucketCount, found.UpdatedAt = p.folders.templateSize(), 0, 0, now()
	return operation.Nothing{}, errors.Join(
		p.usage.Add(ctx, tx, plan.UID, usage.Amounts{Tables: -held.Tables, Rows: -held.Rows}),
		p.rows.Put(ctx, tx, found))
}

// measurePlan measures a database again, with nobody changing it meanwhile.
type measurePlan struct {
	UID string `json:"uid"`
	ID  string `json:"id"`

	project projectdb.Project
	held    worker.Measured
}

func (p *Projects) pickDrifted(ctx context.Context, tx *operation.Tx, _ projectPath) (*measurePlan, error) {
	call := operation.From(ctx)
	found, err := p.rows.Get(ctx, tx, call.Project.UID)
	call.Resource(found.ID)
	return &measurePlan{UID: found.UID, ID: found.ID, project: projectdb.Of(found.Project)}, err
}

func (p *Projects) measureAgain(ctx context.Context, plan *measurePlan) error {
	return p.databases.Do(ctx, plan.project, measureRequest, &plan.held)
}

func (p *Projects) recordMeasured(ctx context.Context, tx *operation.Tx, plan *measurePlan) (operation.Nothing, error) {
	call := operation.From(ctx)
	call.Resource(plan.ID)
	found, err := p.rows.Get(ctx, tx, plan.UID)
	if err != nil {
		return operation.Nothing{}, err
	}
	m := plan.held.Within(p.databases.Size(plan.project))
	call.Detail("finding", "drift")
	call.Detail("size_bytes", []int64{found.SizeBytes, m.Size})
	call.Detail("table_count", []int64{found.TableCount, m.Tables})
	call.Detail("bucket_count", []int64{found.BucketCount, m.Buckets})
	return operation.Nothing{}, operation.Emit(ctx, tx, eider.MeasuredProject{UID: plan.UID, Size: m.Size, Tables: m.Tables, Buckets: m.Buckets, Rows: m.Rows})
}

func (p *Projects) pickUndescribed(ctx context.Context, tx *operation.Tx, _ projectPath) (projectPlan, error) {
	call := operation.From(ctx)
	found, err := p.rows.Get(ctx, tx, call.Project.UID)
	call.Resource(found.ID)
	return projectPlan{Call: call.ID, UID: found.UID, ID: found.ID, Folder: folderOf(found.Project)}, err
}

// describeAgain writes project.json as the register has it. What is no file there is
// moved out of the way.
func (p *Projects) describeAgain(ctx context.Context, plan projectPlan) error {
	path := filepath.Join(plan.Folder, sidecarFile)
	info, err := os.Lstat(p.folders.path(path))
	if err == nil && info.IsDir() {
		if err := p.folders.move(path, filepath.Join(lostDir, sidecarFile+"."+plan.Call)); err != nil {
			return refusal(err)
		}
	}
	p.describing.Lock()
	defer p.describing.Unlock()
	head := p.audit.Head().ID // before the row is read: up to there it is true
	return refusal(p.writeSidecar(ctx, plan.UID, head))
}

func (p *Projects) tellDescribed(ctx context.Context, _ *operation.Tx, plan projectPlan) (operation.Nothing, error) {
	call := operation.From(ctx)
	call.Resource(plan.ID)
	call.Detail("finding", "checksum_mismatch")
	call.Detail("written", filepath.Join(plan.Folder, sidecarFile))
	return operation.Nothing{}, nil
}
