package files

import (
	"context"
	"errors"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/blob"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/usage"
)

func (f *Files) declareSweep(r *core.Registry) {
	f.expireOp = operation.Effect(r.Operations, operation.Spec{
		Name: "expire_file", Route: operation.Internal + " " + base + "/expire", Role: eider.Admin, Target: "file",
		Deleted: true, Locked: true, Frees: true,
	}, operation.Steps[expireFiles, *removal, expired]{
		Intent: f.pickExpired, Claims: claimRemoval, Effect: f.removeBytes, Applied: f.rollForward, Undo: f.removeBytes,
		Outcome: f.forgetExpired, Revert: func(ctx context.Context, tx *operation.Tx, plan *removal) error {
			_, err := f.forgetExpired(ctx, tx, plan)
			return err
		},
	})
	f.declareOrphans(r)
}

// sweepBatch bounds how much one call of the sweep removes.
const sweepBatch = 500

var sweeper = eider.Actor{Type: eider.ActorSystem, ID: "sweep_files", Name: "sweep_files", Role: eider.Admin}

// expireFiles names what one call removes of a project.
type expireFiles struct {
	Uploads []string `json:"uploads"`
	Files   []string `json:"files"`
}

type expired struct{ Removed int }

// removal is bytes that go for good. An effect that has begun to remove is
// finished, not undone, also where it fails: what it removes is wanted by nobody,
// and some of it is gone.
type removal struct {
	Project string     `json:"project,omitempty"`
	Uploads []string   `json:"uploads,omitempty"`
	Files   []string   `json:"files,omitempty"`
	Blobs   []blob.Key `json:"blobs"`
}

func claimRemoval(plan *removal) []metadata.Claim {
	var all []metadata.Claim
	for _, id := range plan.Uploads {
		all = append(all, metadata.Claim{Resource: uploadResource(id), Exclusive: true})
	}
	for _, id := range plan.Files {
		all = append(all, metadata.Claim{Resource: fileResource(id), Exclusive: true})
	}
	if plan.Project != "" {
		all = append(all, metadata.Claim{Resource: operation.ProjectResource(plan.Project)})
	}
	return all
}

func (f *Files) removeBytes(_ context.Context, plan *removal) error {
	files := len(plan.Blobs) - len(plan.Files) // theirs come last
	gone := append(f.unregistered(plan.Blobs[:files]), plan.Blobs[files:]...)
	return f.blobs.RemoveBatch(gone)
}

func (f *Files) rollForward(ctx context.Context, plan *removal) (bool, error) {
	return true, f.removeBytes(ctx, plan)
}

// sweep removes what has expired, and now and then looks for bytes without a
// row. It waits while the clock is behind the log: a clock that was set back must
// not decide what is lost.
func (f *Files) sweep(ctx context.Context) error {
	at := now()
	if f.audit.Behind() > 0 {
		return nil
	}
	var failed []error
	for more := true; more && ctx.Err() == nil; {
		var err error
		more, err = f.expireDue(ctx, at)
		failed = append(failed, err)
	}
	failed = append(failed, f.forgetPurges(ctx))
	if at.Sub(f.sweptAt) >= time.Duration(f.settings.Grace)/4 {
		f.sweptAt = at
		failed = append(failed, f.sweepOrphans(ctx))
	}
	return errors.Join(failed...)
}

// expireDue removes one batch of what has expired. It reports whether there may be
// more: not where nothing could be removed, which the next round tries again.
func (f *Files) expireDue(ctx context.Context, at time.Time) (more bool, err error) {
	due, count, err := f.due(ctx, at)
	if err != nil {
		return false, err
	}
	var failed []error
	removed := 0
	for project, batch := range due {
		out, err := f.expireOp.Do(ctx, f.pipeline, sweeper, project, batch)
		if code := eider.CodeOf(err); err != nil && code != eider.OperationInProgress && code != eider.NotFound {
			failed = append(failed, err)
		}
		removed += out.Removed
	}
	return removed > 0 && count >= sweepBatch && len(failed) == 0, errors.Join(failed...)
}

const selectExpired = `SELECT id, project_id FROM files WHERE expires_at <= $1 LIMIT 500`

// due returns a batch of what has expired, by project, and how many that is.
func (f *Files) due(ctx context.Context, at time.Time) (due map[string]expireFiles, n int, err error) {
	due = map[string]expireFiles{}
	// An upload stays for one round more: its client is told that it expired, not
	// that there never was one.
	expired := at.Add(-time.Duration(f.settings.SweepEvery))
	f.sessions.Scan(metadata.Range[session]{Order: byExpiry}, func(s *session) bool {
		if !s.expiredAt(expired) || n == sweepBatch {
			return false
		}
		batch := due[s.ProjectID]
		batch.Uploads = append(batch.Uploads, s.ID)
		due[s.ProjectID] = batch
		n++
		return true
	})
	rows, err := f.pipeline.Store.View().Query(ctx, selectExpired, at)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var id, project string
		if err := rows.Scan(&id, &project); err != nil {
			return nil, 0, err
		}
		batch := due[project]
		batch.Files = append(batch.Files, id)
		due[project] = batch
		n++
	}
	return due, n, rows.Err()
}

// pickExpired checks again what has expired, and leaves out what is in use.
func (f *Files) pickExpired(ctx context.Context, tx *operation.Tx, in expireFiles) (*removal, error) {
	at := now()
	plan := &removal{Project: operation.From(ctx).Project.UID}
	for _, id := range in.Uploads {
		s, err := f.sessions.Get(ctx, tx, id)
		if err == nil && s.ProjectUID == plan.Project && s.expiredAt(at) && tx.MustBeFree(uploadResource(id)) == nil {
			plan.Uploads, plan.Blobs = append(plan.Uploads, id), append(plan.Blobs, s.key())
		}
	}
	for _, id := range in.Files {
		r, err := f.rows.Get(ctx, tx, id)
		if err == nil && r.ProjectUID == plan.Project && r.expiredAt(at) && tx.MustBeFree(fileResource(id)) == nil {
			plan.Files, plan.Blobs = append(plan.Files, id), append(plan.Blobs, r.key())
		}
	}
	if len(plan.Blobs) == 0 {
		return nil, eider.Errorf(eider.OperationInProgress, "what has expired is in use")
	}
	return plan, nil
}

func (f *Files) forgetExpired(ctx context.Context, tx *operation.Tx, plan *removal) (expired, error) {
	call := operation.From(ctx)
	call.Detail("uploads", plan.Uploads)
	call.Detail("files", plan.Files)
	var gone usage.Amounts
	for _, id := range plan.Uploads {
		if err := f.sessions.Delete(ctx, tx, id); err != nil && eider.CodeOf(err) != eider.UploadSessionNotFound {
			return expired{}, err
		}
		tx.After(func() { f.letGo(id) })
	}
	for _, id := range plan.Files {
		r, err := f.rows.Get(ctx, tx, id)
		if eider.CodeOf(err) == eider.FileNotFound {
			continue
		}
		if err != nil {
			return expired{}, err
		}
		gone.Files, gone.Bytes = gone.Files-1, gone.Bytes-r.SizeBytes
		f.changed(tx, id)
		if err := f.rows.Delete(ctx, tx, id); err != nil {
			return expired{}, err
		}
	}
	call.Detail("freed_bytes", -gone.Bytes)
	return expired{len(plan.Blobs)}, f.usage.Add(ctx, tx, plan.Project, gone)
}

// purged ends the uploads of a project that is purged. The rows of its files go
// in batches later: nobody can see them any more.
func (f *Files) purged(ctx context.Context, tx *operation.Tx, event eider.PurgedProject) error {
	var ids []string
	f.sessions.Scan(metadata.Range[session]{Order: byProject, After: &session{row: row{ProjectUID: event.Project.UID}}}, func(s *session) bool {
		if s.ProjectUID != event.Project.UID {
			return false
		}
		ids = append(ids, s.ID)
		return true
	})
	tx.After(func() { f.rememberPurge(event.Project) })
	for _, id := range ids {
		if err := f.sessions.Delete(ctx, tx, id); err != nil && eider.CodeOf(err) != eider.UploadSessionNotFound {
			return err
		}
		tx.After(func() { f.letGo(id) })
	}
	return nil
}
