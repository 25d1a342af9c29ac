// Package projects registers projects and makes their databases.
//
// A project has a row before it has a folder, and a folder before it is active.
// Every incarnation has a uid and a folder of its own, so that neither the file
// nor the write-ahead log of an old project can meet a new one. Deleting is
// soft; a job purges what is due. The package copies a closed template and
// never opens a database.
package projects

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/auth"
	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/core/config"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/usage"
)

// Settings is the section "projects".
type Settings struct {
	Retention  config.Duration `koanf:"retention" doc:"How long a deleted project can be restored before it is purged"`
	PurgeEvery config.Duration `koanf:"purge_every" doc:"How often projects that are due are looked for"`
}

// Validate refuses a retention below zero and a pause below a second.
func (s *Settings) Validate() error {
	if s.Retention < 0 {
		return fmt.Errorf("retention must not be negative")
	}
	if time.Duration(s.PurgeEvery) < time.Second {
		return fmt.Errorf("purge_every must be at least 1s")
	}
	return nil
}

// Projects is the module.
type Projects struct {
	settings  Settings
	rows      *metadata.Table[row]
	folders   folders
	keys      *auth.Keys
	usage     *usage.Book
	audit     *audit.Log
	pipeline  *operation.Pipeline
	log       *slog.Logger
	others    func() []func(eider.Project) string // what other modules keep of a project
	databases *projectdb.Supervisor
	purgeOp   *operation.Handle[purgeProject, operation.Nothing]
	orphanOp  *operation.Handle[orphanFolder, operation.Nothing]
	replaceOp *operation.Handle[projectPath, operation.Nothing]
	measureOp *operation.Handle[projectPath, operation.Nothing]

	describeOp *operation.Handle[projectPath, operation.Nothing]
	describing sync.RWMutex // the follower writes many sidecars at a time, a repair alone
}

// New returns the module.
func New() *Projects {
	return &Projects{
		settings: Settings{Retention: config.Duration(7 * 24 * time.Hour), PurgeEvery: config.Duration(time.Minute)},
		rows:     newTable(),
	}
}

var (
	_ core.Module          = (*Projects)(nil)
	_ core.Provisioner     = (*Projects)(nil)
	_ core.ProjectRegister = (*Projects)(nil)
)

// Name returns "projects".
func (p *Projects) Name() string { return "projects" }

// Declare lists the operations; the handlers follow in this order.
func (p *Projects) Declare(r *core.Registry) error {
	r.Settings.Section("projects", &p.settings)
	r.Table(p.rows)
	p.others = func() []func(eider.Project) string { return r.ProjectFolders } // later modules add theirs
	r.Migrate(migrations()...)
	r.Follow(audit.Follower{Name: "project_sidecars", Handle: p.writeSidecars})
	r.Schedule(core.Job{Name: "purge_projects", Every: func() time.Duration { return time.Duration(p.settings.PurgeEvery) }, Run: p.purgeDue})
	r.Schedule(core.Job{Name: "empty_trash", Every: func() time.Duration { return emptyEvery }, Run: p.emptyTrash})

	r.Check(check.Source{Name: "projects", Find: p.find, Rebuild: p.rebuild})
	p.declareRepairs(r)
	operation.On(r.Operations, p.measured)

	operation.Effect(r.Operations, operation.Spec{
		Name: "create_project", Route: "POST /projects", Role: eider.Admin, Target: "project", Status: 201,
		Summary: "Create a project", Errors: []eider.Code{eider.ProjectExists}, Slow: true,
		Description: "Makes the project's database and its first key, whose secret is in this answer and nowhere else.",
		Reserve:     usage.Amounts{Projects: 1},
		Makes:       func(in any) string { return in.(createProject).ID },
	}, operation.Steps[createProject, projectPlan, createdProject]{
		Intent: p.reserve, Claims: claimProject, Effect: p.createDatabase, Applied: p.hasDatabase,
		Undo: p.removeDatabase, Outcome: p.activate, Revert: p.forget,
	})
	operation.Read(r.Operations, operation.Spec{
		Name: "list_projects", Route: "GET /projects", Role: eider.Admin, Target: "project",
		Summary: "List projects, newest first", Errors: []eider.Code{eider.InvalidCursor},
	}, p.list)
	operation.Read(r.Operations, operation.Spec{
		Name: "get_project", Route: "GET /projects/{id}", Role: eider.ProjectRead, Target: "project",
		Summary: "Get a project", Deleted: true, Tagged: true, Errors: []eider.Code{eider.NotFound},
	}, p.get)
	operation.Write(r.Operations, operation.Spec{
		Name: "update_project", Route: "PATCH /projects/{id}", Also: []string{"PUT /projects/{id}"}, Role: eider.ProjectAdmin,
		Target: "project", Summary: "Change a project's name, settings or status", Tagged: true, Locked: true,
		Description: "Status is changed by an admin only. Settings replace the old ones as a whole.",
		Errors:      []eider.Code{eider.NotFound, eider.InvalidTransition, eider.PreconditionFailed, eider.ProjectIsLocked, eider.Forbidden},
	}, p.update)
	operation.Write(r.Operations, operation.Spec{
		Name: "undelete_project", Route: "POST /projects/{id}/undelete", Role: eider.Admin, Target: "project",
		Summary: "Restore a deleted project", Deleted: true, Purged: true, Tagged: true,
		Errors: []eider.Code{eider.NotDeleted, eider.Purged, eider.NotFound},
	}, p.undelete)
	return p.declareDelete(r)
}

// Provision takes what the handlers need of the kernel.
func (p *Projects) Provision(_ context.Context, k *core.Kernel) error {
	p.folders = folders{root: k.Dir, files: k.Files, template: k.Template}
	p.keys, p.usage, p.audit, p.pipeline, p.log, p.databases = k.Keys, k.Usage, k.Audit, k.Pipeline, k.Log, k.Databases
	return p.observe(k.Meter)
}

// Project returns the newest incarnation with the id.
func (p *Projects) Project(id string) (eider.Project, bool) {
	found, ok := p.newest(id)
	return found.Project, ok
}

// ProjectIn returns the project with the uid as the transaction sees it.
func (p *Projects) ProjectIn(ctx context.Context, tx *operation.Tx, uid string) (eider.Project, error) {
	found, err := p.rows.Get(ctx, tx, uid)
	return found.Project, err
}
