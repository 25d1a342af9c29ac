package projects

import (
	"context"
	"encoding/json"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/usage"
)

type projectPath struct {
	ID string `path:"id" json:"-" doc:"The project's id"`
}

type updateProject struct {
	projectPath
	IfMatch    string          `header:"If-Match" json:"-" doc:"Change only if the ETag is still this one"`
	Name       *string         `json:"name,omitempty" maxLength:"256"`
	Settings   json.RawMessage `json:"settings,omitempty" schema:"object"`
	Status     *string         `json:"status,omitempty" enum:"active,locked" doc:"Admin only"`
	LockReason *string         `json:"lock_reason,omitempty" maxLength:"1024"`
}

func (p *Projects) update(ctx context.Context, tx *operation.Tx, in updateProject) (eider.Project, error) {
	call := operation.From(ctx)
	found, err := p.rows.Get(ctx, tx, call.Project.UID)
	if err != nil {
		return eider.Project{}, err
	}
	project := found.Project
	if err := operation.CheckMatch(in.IfMatch, shown(project)); err != nil {
		return eider.Project{}, err
	}
	if err := p.change(call, &project, in); err != nil {
		return eider.Project{}, err
	}
	project.UpdatedAt = now()
	changed := newRow(project)
	changed.measured = found.measured
	return shown(project), p.rows.Put(ctx, tx, changed)
}

// change applies what the request names. A locked project takes nothing but
// its lock's own changes.
func (p *Projects) change(call *operation.Call, project *eider.Project, in updateProject) error {
	if in.Status != nil && call.Actor.Role < eider.Admin {
		return eider.Errorf(eider.Forbidden, "only an admin may lock or unlock a project")
	}
	if project.Status == eider.ProjectLocked && in.Status == nil {
		return eider.Errorf(eider.ProjectIsLocked, "project %s is locked", project.ID)
	}
	if in.Name != nil {
		project.Name = *in.Name
		call.Detail("name", project.Name)
	}
	if in.Settings != nil {
		project.Settings = in.Settings
		call.Detail("settings", in.Settings)
	}
	if err := checkNameAndSettings(project.Name, project.Settings); err != nil {
		return err
	}
	return lock(call, project, in)
}

func lock(call *operation.Call, project *eider.Project, in updateProject) error {
	if in.Status != nil {
		project.Status = eider.ProjectStatus(*in.Status)
		call.Detail("status", project.Status)
	}
	if project.Status != eider.ProjectLocked {
		if in.LockReason != nil && *in.LockReason != "" {
			return eider.Errorf(eider.InvalidTransition, "a project that is not locked has no lock_reason")
		}
		project.LockReason = ""
		return nil
	}
	if in.LockReason != nil {
		if err := eider.CheckText("lock_reason", *in.LockReason, 1024); err != nil {
			return err
		}
		project.LockReason = *in.LockReason
		call.Detail("lock_reason", project.LockReason)
	}
	return nil
}

// shown returns the project as the API shows it: one that is being purged is
// still a deleted one.
func shown(p eider.Project) eider.Project {
	if p.Status == eider.ProjectPurging {
		p.Status = eider.ProjectDeleted
	}
	return p
}

func (p *Projects) get(ctx context.Context, _ *operation.View, _ projectPath) (eider.Project, error) {
	return shown(*operation.From(ctx).Project), nil
}

// measured keeps what the project's database holds.
func (p *Projects) measured(ctx context.Context, tx *operation.Tx, event eider.MeasuredProject) error {
	found, err := p.rows.Get(ctx, tx, event.UID)
	if err != nil {
		return err
	}
	held, err := p.usage.Of(ctx, tx, event.UID)
	if err != nil {
		return err
	}
	change := usage.Amounts{Tables: event.Tables - held.Tables, Rows: event.Rows - held.Rows}
	if err := p.usage.Add(ctx, tx, event.UID, change); err != nil {
		return err
	}
	found.SizeBytes, found.TableCount, found.BucketCount = event.Size, event.Tables, event.Buckets
	found.measured = now()
	return p.rows.Put(ctx, tx, found)
}
