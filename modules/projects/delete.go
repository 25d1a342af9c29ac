package projects

import (
	"context"
	"errors"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
)

type dropProject struct {
	projectPath
	IfMatch string `header:"If-Match" json:"-" doc:"Delete only if the ETag is still this one"`
	Purge   bool   `query:"purge" json:"-" doc:"Remove database and keys for good, now (admin only); also works on a deleted project"`
}

type purgeProject struct {
	projectPath
	IfMatch string `header:"If-Match" json:"-"`
	Purge   bool   `query:"purge" json:"-"`
}

func (p *Projects) declareDelete(r *core.Registry) error {
	operation.Write(r.Operations, operation.Spec{
		Name: "drop_project", Route: "DELETE /projects/{id}", Role: eider.ProjectAdmin, Target: "project",
		Summary: "Delete a project, or purge it", Frees: true, Ends: true,
		Description: "Deleting keeps database, files and keys until purge_at; until then the project can be restored.",
		Errors:      []eider.Code{eider.NotFound, eider.ProjectIsLocked, eider.PreconditionFailed},
	}, p.drop)
	p.purgeOp = operation.Effect(r.Operations, operation.Spec{
		Name: "purge_project", Route: "DELETE /projects/{id}?purge=true", Role: eider.Admin, Target: "project",
		Deleted: true, Frees: true, Ends: true,
	}, operation.Steps[purgeProject, projectPlan, operation.Nothing]{
		Intent: p.condemn, Claims: claimProject, Effect: p.discard, Applied: p.isDiscarded,
		Undo: p.undiscard, Outcome: p.bury, Revert: p.reprieve,
	})
	operation.Read(r.Operations, operation.Spec{
		Name: "get_project_stats", Route: "GET /projects/{id}/stats", Role: eider.ProjectRead, Target: "project",
		Summary: "What a project holds", Slow: true, Errors: []eider.Code{eider.NotFound, eider.TooManyQueries, eider.ProjectRestarted},
	}, p.stats)
	return nil
}

func (p *Projects) drop(ctx context.Context, tx *operation.Tx, in dropProject) (operation.Nothing, error) {
	found, err := p.rows.Get(ctx, tx, operation.From(ctx).Project.UID)
	if err != nil {
		return operation.Nothing{}, err
	}
	if err := operation.CheckMatch(in.IfMatch, shown(found.Project)); err != nil {
		return operation.Nothing{}, err
	}
	at := now()
	due := at.Add(time.Duration(p.settings.Retention))
	found.Status, found.DeletedAt, found.PurgeAt, found.UpdatedAt = eider.ProjectDeleted, &at, &due, at
	operation.From(ctx).Detail("purge_at", due)
	return operation.Nothing{}, p.rows.Put(ctx, tx, found)
}

func (p *Projects) undelete(ctx context.Context, tx *operation.Tx, _ projectPath) (eider.Project, error) {
	found, err := p.rows.Get(ctx, tx, operation.From(ctx).Project.UID)
	if err != nil {
		return eider.Project{}, err
	}
	switch found.Status {
	case eider.ProjectDeleted:
	case eider.ProjectPurged:
		return eider.Project{}, eider.Errorf(eider.Purged, "project %s was purged: nothing is left to restore", found.ID)
	default:
		return eider.Project{}, eider.Errorf(eider.NotDeleted, "project %s is not deleted", found.ID)
	}
	found.Status, found.DeletedAt, found.PurgeAt, found.UpdatedAt = eider.ProjectActive, nil, nil, now()
	return found.Project, p.rows.Put(ctx, tx, found)
}

// condemn marks the project as being purged: nobody can use or restore it.
func (p *Projects) condemn(ctx context.Context, tx *operation.Tx, in purgeProject) (projectPlan, error) {
	call := operation.From(ctx)
	found, err := p.rows.Get(ctx, tx, call.Project.UID)
	if err != nil {
		return projectPlan{}, err
	}
	if err := operation.CheckMatch(in.IfMatch, shown(found.Project)); err != nil {
		return projectPlan{}, err
	}
	plan := projectPlan{Call: call.ID, UID: found.UID, ID: found.ID, Folder: folderOf(found.Project), Before: found.Status}
	for _, folder := range p.others() {
		plan.Others = append(plan.Others, folder(found.Project))
	}
	found.Status = eider.ProjectPurging
	return plan, p.rows.Put(ctx, tx, found)
}

func (p *Projects) discard(ctx context.Context, plan projectPlan) error {
	if err := p.databases.CloseProject(ctx, plan.UID); err != nil {
		return err
	}
	return refusal(p.folders.discard(plan))
}

func (p *Projects) isDiscarded(_ context.Context, plan projectPlan) (bool, error) {
	return p.folders.discarded(plan)
}

func (p *Projects) undiscard(_ context.Context, plan projectPlan) error {
	return p.folders.undiscard(plan)
}

// bury ends the project: its row and its trail stay.
func (p *Projects) bury(ctx context.Context, tx *operation.Tx, plan projectPlan) (operation.Nothing, error) {
	found, err := p.rows.Get(ctx, tx, plan.UID)
	if err != nil {
		return operation.Nothing{}, err
	}
	found.Status, found.UpdatedAt, found.PurgeAt = eider.ProjectPurged, now(), nil
	if found.DeletedAt == nil {
		found.DeletedAt = &found.UpdatedAt
	}
	found.SizeBytes, found.TableCount, found.BucketCount = 0, 0, 0
	return operation.Nothing{}, errors.Join(
		p.keys.Remove(ctx, tx, plan.UID),
		p.usage.Forget(ctx, tx, plan.UID),
		operation.Emit(ctx, tx, eider.PurgedProject{Project: found.Project}),
		p.rows.Put(ctx, tx, found))
}

// reprieve puts the project back into the state it had.
func (p *Projects) reprieve(ctx context.Context, tx *operation.Tx, plan projectPlan) error {
	found, err := p.rows.Get(ctx, tx, plan.UID)
	if err != nil {
		return err
	}
	found.Status = plan.Before
	return p.rows.Put(ctx, tx, found)
}

// purgeBatch bounds how many projects one round of the job purges.
const purgeBatch = 100

// purgeDue purges what is due. It waits while the clock is behind the log: a
// clock that was set back must not decide what is lost.
func (p *Projects) purgeDue(ctx context.Context) error {
	if p.audit.Behind() > 0 {
		return nil
	}
	var failed []error
	for _, id := range p.due(now(), purgeBatch) {
		_, err := p.purgeOp.Do(ctx, p.pipeline, purger, id, purgeProject{Purge: true})
		if err != nil && eider.CodeOf(err) != eider.OperationInProgress && eider.CodeOf(err) != eider.NotFound {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// emptyEvery is how soon the room of a purged project is given back.
const emptyEvery = time.Second

// emptyTrash deletes what purges have moved to the trash, behind them: a large
// folder takes a while, and whoever purges does not wait for it.
func (p *Projects) emptyTrash(context.Context) error {
	return p.folders.emptyTrash(p.audit.Unfinished)
}

var purger = eider.Actor{Type: eider.ActorSystem, ID: "purge_projects", Name: "purge_projects", Role: eider.Admin}

func (p *Projects) due(at time.Time, most int) []string {
	var ids []string
	p.rows.Scan(metadata.Range[row]{Order: byPurge}, func(r *row) bool {
		if purgeTime(r).After(at) || len(ids) == most {
			return false
		}
		ids = append(ids, r.ID)
		return true
	})
	return ids
}
