// Package core is what a module meets: the contract it fulfils, the registry in
// which it declares, and the kernel it is handed once everything is open.
//
// The life of a module:
//
//  1. It is made by cmd/eider, with nothing but its settings.
//  2. Declare lists its operations, tables, migrations, settings, jobs and
//     followers. It has no side effects, so that `eider openapi` and `eider
//     config print` run with no data folder.
//  3. The metadata store opens, migrates and loads the hot tables.
//  4. Provision hands over the kernel, where the module wants it.
//  5. Unfinished calls are settled in the background, jobs and followers start,
//     the doors open.
//
// Modules never import each other: they meet in an operation, a hook
// (operation.On) or what the kernel offers.
package core

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/auth"
	"github.com/eiderdb/eider/core/blob"
	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/core/config"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/job"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/usage"
	"github.com/eiderdb/eider/core/wasm"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Module is a part of Eider that declares operations.
type Module interface {
	Name() string
	// Declare lists what the module has. It has no side effects.
	Declare(*Registry) error
}

// Provisioner is a module that needs the kernel.
type Provisioner interface {
	Provision(context.Context, *Kernel) error
}

// ProjectRegister is the module that knows projects. There is exactly one; the
// pipeline asks it whose a request is.
type ProjectRegister interface {
	// Project returns the newest incarnation with the id, purged or not.
	Project(id string) (eider.Project, bool)
	// ProjectIn returns the one with the uid as the transaction sees it.
	ProjectIn(ctx context.Context, tx *operation.Tx, uid string) (eider.Project, error)
	// Projects yields every project that has not been purged.
	Projects(yield func(eider.Project) bool)
}

// FileRegister is the module that knows storage files, if there is one. What
// makes or reads files for a project asks it inside its own call.
type FileRegister interface {
	// FileIn returns a registered file of the call's project, where its bytes are,
	// and what to claim to keep them.
	FileIn(ctx context.Context, tx *operation.Tx, id string) (file eider.File, bytes blob.Key, claim string, err error)
	// KeepFile stages the row of a new file of the call's project, whose bytes are
	// whole.
	KeepFile(ctx context.Context, tx *operation.Tx, file eider.File, bytes blob.Key) (eider.File, error)
}

// Job is work that comes round. It changes state through operations only, so
// each of its changes has a row.
type Job struct {
	Name string
	// Every says how long is between two rounds. It is asked once the settings are
	// loaded.
	Every func() time.Duration
	Run   func(context.Context) error
}

// Registry is where modules declare.
type Registry struct {
	Operations *operation.Set
	Settings   *config.Set

	Tables     []metadata.AnyTable
	Migrations []metadata.Migration
	Followers  []audit.Follower
	// ProjectFolders name what modules keep of a project besides its own folder,
	// relative to the data folder. They go with it when it is purged.
	ProjectFolders []func(eider.Project) string
	Jobs           []Job
	// Checks are what modules bring to recovery.
	Checks []check.Source
}

// NewRegistry returns a registry in which nothing is declared.
func NewRegistry() *Registry {
	return &Registry{Operations: operation.NewSet(), Settings: config.New()}
}

// Table declares a table.
func (r *Registry) Table(t metadata.AnyTable) { r.Tables = append(r.Tables, t) }

// Migrate declares the next migration of the owner's tables.
func (r *Registry) Migrate(m ...metadata.Migration) { r.Migrations = append(r.Migrations, m...) }

// Follow declares a follower of the log.
func (r *Registry) Follow(f audit.Follower) { r.Followers = append(r.Followers, f) }

// ProjectFolder declares a folder of every project.
func (r *Registry) ProjectFolder(of func(eider.Project) string) {
	r.ProjectFolders = append(r.ProjectFolders, of)
}

// Check declares what the module brings to recovery.
func (r *Registry) Check(s check.Source) { r.Checks = append(r.Checks, s) }

// Schedule declares a job.
func (r *Registry) Schedule(j Job) { r.Jobs = append(r.Jobs, j) }

// Kernel is what modules work with. It hands out no transaction: only a
// declared operation gets one.
type Kernel struct {
	Dir      string // the data folder, absolute
	Files    *disk.FS
	View     *metadata.View
	Pipeline *operation.Pipeline
	Audit    *audit.Log
	Signer   *audit.Signer
	Register ProjectRegister
	Stored   FileRegister // nil where no module registers files
	Keys     *auth.Keys
	URLs     *auth.URLs
	Jobs     *job.Jobs
	// Databases runs statements in projects' databases, each in its worker.
	Databases   *projectdb.Supervisor
	Usage       *usage.Book
	Plugins     *wasm.Host
	PluginModes *wasm.Modes
	Log         *slog.Logger
	Tracer      trace.Tracer
	Meter       metric.Meter
	Space       *disk.Space
	// Checks returns what the modules bring to recovery.
	Checks func() []check.Source
	// Snapshot copies the metadata while it is written, each of its files to write with
	// the ending of its name; see duck.DB.Snapshot.
	Snapshot func(ctx context.Context, write func(suffix string, r io.Reader) error) error
	// SettleCopy makes one file of a copy of the metadata, verifies the chain in it and
	// returns its head. ExamineCopy only verifies.
	SettleCopy, ExamineCopy func(ctx context.Context, path string) (audit.Head, error)
	// Template is the file that every new project's database starts as.
	Template string
	// AuditDir holds the checkpoints.
	AuditDir string
	// Folders are those of the data folder, absolute; MakeFolders makes what is
	// missing and proves that each can be written.
	Folders     []string
	MakeFolders func() error
	// Slowest returns the row up to which all followers of the log have durably come.
	Slowest func(context.Context) (int64, error)
	// Sinks are the followers of the log, of which some take it out of the server.
	Sinks *audit.Followers
	// Stopping is closed when the server begins to stop: answers that would last
	// for ever end then.
	Stopping <-chan struct{}
	// Version is that of this binary.
	Version string
}
