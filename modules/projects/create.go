package projects

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/auth"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/usage"
	"github.com/google/uuid"
)

type createProject struct {
	ID       string          `json:"id" required:"true" doc:"Letters, digits, '_' and '-'; starts with a letter or digit; at most 64" example:"sales"`
	Name     string          `json:"name,omitempty" doc:"For people; the id if absent" maxLength:"256"`
	Settings json.RawMessage `json:"settings,omitempty" schema:"object" doc:"Free-form settings, at most 64 KiB"`
}

// createdProject is a project with the first key's secret, shown this once.
type createdProject struct {
	eider.Project
	APIKey     *string `json:"api_key" doc:"The secret of the project's first key; it is not shown again"`
	APIKeyNote string  `json:"api_key_note,omitempty" doc:"Why api_key is null, in a replayed answer"`
}

// Redacted returns the answer without the secret.
func (c createdProject) Redacted() any {
	c.APIKey, c.APIKeyNote = nil, "the key was shown once, in the first answer to this request; create another if it is lost"
	return c
}

// projectPlan is what an effect on a project's folder goes by.
type projectPlan struct {
	Call   string `json:"call"`
	UID    string `json:"uid"`
	ID     string `json:"id"`
	Folder string `json:"folder"` // relative to the data folder
	// Others are the folders that other modules keep for the project.
	Others []string            `json:"others,omitempty"`
	Before eider.ProjectStatus `json:"before,omitempty"`
	// Sidecar is the first project.json.
	Sidecar *sidecar `json:"sidecar,omitempty"`
}

func claimProject(plan projectPlan) []metadata.Claim {
	return []metadata.Claim{{Resource: operation.ProjectResource(plan.UID), Exclusive: true}}
}

const (
	maxSettings = 64 << 10 // bytes
	maxName     = 256      // characters
)

func checkNameAndSettings(name string, settings json.RawMessage) error {
	if err := eider.CheckText("name", name, maxName); err != nil {
		return err
	}
	if name != "" && strings.TrimSpace(name) == "" {
		return eider.Invalid("name", "must not be of blanks alone")
	}
	if len(settings) > maxSettings {
		return eider.Invalid("settings", "must have at most %d bytes", maxSettings)
	}
	return nil
}

// reserve takes the id with a row that nobody sees yet.
func (p *Projects) reserve(ctx context.Context, tx *operation.Tx, in createProject) (projectPlan, error) {
	if err := eider.CheckProjectID(in.ID); err != nil {
		return projectPlan{}, err
	}
	if err := checkNameAndSettings(in.Name, in.Settings); err != nil {
		return projectPlan{}, err
	}
	call := operation.From(ctx)
	now := now()
	project := eider.Project{
		ID: in.ID, UID: uuid.Must(uuid.NewV7()).String(), Name: in.Name, CreatedAt: now, UpdatedAt: now,
		Status: eider.ProjectCreating, Settings: in.Settings, SizeBytes: p.folders.templateSize(),
	}
	if project.Name == "" {
		project.Name = in.ID
	}
	if len(project.Settings) == 0 {
		project.Settings = json.RawMessage("{}")
	}
	folder := folderOf(project)
	project.DBPath = databaseIn(folder)
	call.In(project)
	call.Resource(in.ID)
	call.Detail("name", project.Name)

	err := p.rows.Put(ctx, tx, newRow(project))
	var taken *metadata.DuplicateError
	if errors.As(err, &taken) {
		return projectPlan{}, eider.Errorf(eider.ProjectExists, "there is a project %s already", in.ID)
	}
	active := project
	active.Status = eider.ProjectActive
	return projectPlan{Call: call.ID, UID: project.UID, ID: project.ID, Folder: folder, Sidecar: newSidecar(active, 0)}, err
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func (p *Projects) createDatabase(ctx context.Context, plan projectPlan) error {
	return refusal(p.folders.create(ctx, plan))
}

func (p *Projects) hasDatabase(_ context.Context, plan projectPlan) (bool, error) {
	return p.folders.complete(plan.Folder)
}

func (p *Projects) removeDatabase(_ context.Context, plan projectPlan) error {
	return p.folders.uncreate(plan)
}

// activate makes the project visible, with its first key. A call that is
// settled has nobody to show a secret to and makes no key.
func (p *Projects) activate(ctx context.Context, tx *operation.Tx, plan projectPlan) (createdProject, error) {
	found, err := p.rows.Get(ctx, tx, plan.UID)
	if err != nil {
		return createdProject{}, err
	}
	found.Status = eider.ProjectActive
	if err := p.rows.Put(ctx, tx, found); err != nil {
		return createdProject{}, err
	}
	if err := p.usage.Add(ctx, tx, plan.UID, usage.Amounts{Projects: 1}); err != nil {
		return createdProject{}, err
	}
	out := createdProject{Project: found.Project}
	call := operation.From(ctx)
	call.In(found.Project)
	call.Detail("name", found.Name)
	if err := operation.Emit(ctx, tx, eider.CreatedProject{Project: found.Project}); err != nil || call.Settled {
		return out, err
	}
	key, secret, err := p.keys.Issue(tx, auth.Draft{
		ProjectID: found.ID, ProjectUID: found.UID, Scope: eider.ProjectAdmin, Description: "first key of " + found.ID,
	})
	out.APIKey = &secret
	call.Detail("api_key_id", key.ID)
	return out, err
}

// forget takes the row of a project back that was never made.
func (p *Projects) forget(ctx context.Context, tx *operation.Tx, plan projectPlan) error {
	return p.rows.Delete(ctx, tx, plan.UID)
}
