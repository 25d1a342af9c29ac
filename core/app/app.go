// Package app puts a server together: it declares everything, opens the data
// folder, provisions the modules, settles what was left unfinished, and serves.
//
// It is the one package under core that imports core. Which modules there are
// is decided by cmd/eider.
package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/auth"
	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/core/config"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/job"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/metadata/duckdb"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/telemetry"
	"github.com/eiderdb/eider/core/usage"
	"github.com/eiderdb/eider/core/wasm"
	"github.com/eiderdb/eider/core/web"
	"github.com/google/uuid"
)

// Options are what a server is made of besides its settings.
type Options struct {
	Version string
	Modules []core.Module
	// Policies are native policies; those of the settings come beside them.
	Policies []policy.Item
	// Builtin reads a file of the plugins that the binary brings; nil: it brings none.
	Builtin func(name string) ([]byte, error)
	// PluginCache is where compiled plugins are kept, instead of the data folder, in
	// tests.
	PluginCache string
	// Files are the file operations; the zero value is the real file system.
	Files *disk.FS
	// Telemetry replaces what the settings ask for, in tests.
	Telemetry *telemetry.Telemetry
	// Terminal is where a fresh root key is shown, nil where there is none.
	Terminal io.Writer
	// Out is where logs go.
	Out io.Writer
	// Command says that a command works on a stopped server's folder, and nobody sees
	// its logs or its health.
	Command bool
	// Engine wraps the metadata engine, in tests.
	Engine func(metadata.Engine) metadata.Engine
}

// App is a server.
type App struct {
	Settings Settings
	Registry *core.Registry
	Kernel   *core.Kernel
	Web      *web.Server

	options   Options
	telemetry *telemetry.Telemetry
	lock      *disk.FileLock
	space     *disk.Space
	engine    *duckdb.Engine
	store     *metadata.Store
	keeper    *audit.Keeper
	followers *audit.Followers
	urls      *auth.URLs
	databases *projectdb.Supervisor
	plugins   *wasm.Host
	modes     *wasm.Modes
	pastModes []wasm.SetMode // that hold no more, until the log has been told
	signs     *audit.Signer
	file      *audit.File // nil: the log is written into none
	register  core.ProjectRegister
	stored    core.FileRegister // nil where no module registers files
	fatal     chan error

	rebuilding bool          // this is the rebuild that the folder waits for
	stopping   chan struct{} // closed at a stop

	background    sync.WaitGroup
	stopJobs      context.CancelFunc
	following     following
	stopKeeper    context.CancelFunc
	keeperStopped sync.WaitGroup
}

// New declares everything. It has no side effects.
func New(o Options) (*App, error) {
	a := &App{Settings: defaults(), Registry: core.NewRegistry(), options: o, fatal: make(chan error, 1), stopping: make(chan struct{})}
	if o.Files == nil {
		a.options.Files = &disk.FS{}
	}
	if o.Out == nil {
		a.options.Out = os.Stdout
	}
	a.Settings.declare(a.Registry)
	r := a.Registry
	r.Migrate(audit.Migrations()...)
	r.Migrate(auth.Migrations()...)
	r.Migrate(usage.Migrations()...)
	r.Migrate(operation.Migrations()...)
	r.Migrate(job.Migrations()...)
	r.Migrate(wasm.Migrations()...)
	for _, m := range o.Modules {
		if err := m.Declare(r); err != nil {
			return nil, fmt.Errorf("declare module %s: %w", m.Name(), err)
		}
		if register, ok := m.(core.ProjectRegister); ok {
			a.register = register
		}
		if stored, ok := m.(core.FileRegister); ok {
			a.stored = stored
		}
	}
	if a.register == nil {
		return nil, errors.New("no module registers projects")
	}
	return a, nil
}

// Load reads the settings.
func (a *App) Load(src config.Sources) error { return a.Registry.Settings.Load(src) }

// workerCommand is this very program, also where its file was replaced since.
var workerCommand = []string{"/proc/self/exe", "worker"}

// housekeeping names the tables that change without a log row of their own.
var housekeeping = []string{"api_keys", "sink_cursors", "idempotency_keys", "jobs", "stats", "file_checks", "plugin_state"}

// Open opens the data folder and provisions the modules. Nothing runs yet.
func (a *App) Open(ctx context.Context) (err error) {
	if a.Settings.Top.DataDir, err = filepath.Abs(a.Settings.Top.DataDir); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	if a.telemetry = a.options.Telemetry; a.telemetry == nil {
		if a.telemetry, err = telemetry.Open(ctx, a.Settings.Telemetry, a.options.Version, a.options.Out); err != nil {
			return err
		}
	}
	if err = a.openFolder(); err != nil {
		return err
	}
	if err = a.finished(); err != nil {
		return err
	}
	if err = a.withRoom(a.makeFolders); err != nil {
		return err
	}
	return a.openKernel(ctx)
}

func (a *App) openKernel(ctx context.Context) error {
	t := a.telemetry
	var own files
	if err := a.withRoom(func() (err error) { own, err = a.openFiles(ctx); return err }); err != nil {
		return err
	}
	signer, space := own.signer, a.space
	a.signs = signer
	a.keeper = audit.NewKeeper(a.Settings.path(auditDir), signer, t.Log)
	log := audit.NewLog(a.keeper, t.Log)
	keys := auth.NewKeys(own.rootKey)
	book := usage.NewBook()
	cursors := audit.NewCursors()
	records := operation.NewIdempotency(time.Duration(a.Settings.Idempotency.Keep))
	jobs := job.New(a.Settings.Jobs.MaxRunning, a.Settings.Jobs.share())
	remembered := wasm.NewKV()
	a.modes = wasm.NewModes()
	a.Registry.Tables = append(a.Registry.Tables, remembered.Table, a.modes.Table, jobs.Table, keys.Table(), book.Table, cursors, records.Table())
	if err := a.withRoom(func() error { return a.openStore(ctx, log, signer) }); err != nil {
		return err
	}
	if a.options.Command {
		if err := log.KeepUnproven(); err != nil {
			return err
		}
	}
	if err := a.syncData(); err != nil {
		return err
	}
	chain, err := policy.NewChain(a.options.Policies, t.Log)
	if err != nil {
		return err
	}
	pipeline, err := operation.New(operation.Options{
		Set: a.Registry.Operations, Store: a.store, Audit: log, Usage: book, Policies: chain, Log: t.Log, Tracer: t.Tracer,
		Meter: t.Meter, Project: a.register.Project, ProjectIn: a.register.ProjectIn, Standing: keys.Standing, Full: space.Low,
		Jobs: jobs.Hooks(), LogReads: a.Settings.Audit.Reads == "on", Behind: a.behind,
	}, records)
	if err != nil {
		return err
	}
	a.followers = &audit.Followers{Store: a.store, Log: log, Cursors: cursors, Logger: t.Log}
	for _, f := range a.Registry.Followers {
		a.followers.Declared = append(a.followers.Declared, f.Name)
	}
	if a.urls, err = auth.OpenURLs(a.Settings.path(urlKeysFile), a.options.Files, keys, time.Duration(a.Settings.Auth.RotateURLKeys)); err != nil {
		return err
	}
	a.databases, err = projectdb.New(projectdb.Options{
		Settings: a.Settings.Projects, Command: workerCommand, Dir: a.Settings.Top.DataDir, Log: t.Log, Tracer: t.Tracer, Meter: t.Meter,
	})
	if err != nil {
		return err
	}
	if err := a.openPlugins(ctx, remembered, chain, book); err != nil {
		return err
	}
	a.Kernel = &core.Kernel{
		Dir: a.Settings.Top.DataDir, Files: a.options.Files, View: a.store.View(), Pipeline: pipeline, Audit: log, Signer: signer,
		Keys: keys, URLs: a.urls, Databases: a.databases, Jobs: jobs, Usage: book, Plugins: a.plugins, PluginModes: a.modes, Log: t.Log, Tracer: t.Tracer, Meter: t.Meter, Space: space, Template: own.template,
		Register: a.register, Stored: a.stored, AuditDir: a.Settings.path(auditDir), Folders: a.folders(), MakeFolders: a.makeFolders, Stopping: a.stopping, Slowest: a.followers.Slowest, Sinks: a.followers, Version: a.options.Version,
		Checks: func() []check.Source { return a.Registry.Checks }, Snapshot: a.engine.Snapshot, SettleCopy: a.settleCopy, ExamineCopy: a.examineCopy,
	}
	if err := a.provision(ctx); err != nil {
		return err
	}
	return a.logRepair(ctx)
}

func (a *App) openStore(ctx context.Context, log *audit.Log, signer *audit.Signer) error {
	newest, err := a.prepareMetadata(ctx, signer)
	if err != nil {
		return err
	}
	engine, err := duckdb.Open(ctx, duckdb.Options{
		Path: a.Settings.path(metadataFile), Threads: a.Settings.Metadata.Threads,
		MemoryLimit: fmt.Sprintf("%dB", a.Settings.Metadata.Memory), CheckpointSize: int64(a.Settings.Metadata.Checkpoint),
	})
	if err != nil {
		return fmt.Errorf("open %s: %w", metadataFile, blame(err))
	}
	a.engine = engine
	if err := a.backUpBefore(ctx, engine); err != nil {
		return errors.Join(err, engine.Close())
	}
	var e metadata.Engine = &guarded{engine, newest, a.Settings.path(metadataFile), a.Settings.path(auditDir)}
	if a.options.Engine != nil {
		e = a.options.Engine(e)
	}
	observe, err := a.observeStore()
	if err != nil {
		return errors.Join(err, engine.Close())
	}
	a.store, err = metadata.Open(ctx, metadata.Options{
		Engine: e, Tables: a.Registry.Tables, Migrations: a.Registry.Migrations, Sealer: log, Housekeeping: housekeeping,
		Log: a.telemetry.Log, Committed: observe, Full: a.release, Fatal: func(err error) {
			select {
			case a.fatal <- err:
			default:
			}
		},
	})
	if err != nil {
		return fmt.Errorf("open %s: %w", metadataFile, err)
	}
	return nil
}

func (a *App) provision(ctx context.Context) error {
	for _, m := range a.options.Modules {
		if p, ok := m.(core.Provisioner); ok {
			if err := p.Provision(ctx, a.Kernel); err != nil {
				return fmt.Errorf("provision module %s: %w", m.Name(), err)
			}
		}
	}
	return nil
}

// logRepair gives a loss that the operator accepted with `eider repair --wal`
// its row in the log.
func (a *App) logRepair(ctx context.Context) error {
	head := a.Kernel.Audit.Head().ID // what a repair's row says is behind it, and followers are given it
	past, err := audit.PastHead(ctx, a.followers.Cursors, a.store.View(), head)
	if err != nil {
		return err
	}
	if repaired := a.Kernel.Audit.Repaired(); repaired != nil {
		if err := a.logRepaired(ctx, *repaired); err != nil {
			return err
		}
	}
	return a.resetCursors(ctx, past, head)
}

func (a *App) logRepaired(ctx context.Context, repaired audit.Repair) error {
	if err := a.keeper.Reset(); err != nil {
		return err
	}
	err := a.Kernel.Pipeline.Record(ctx, a.repairRow(repaired), nil)
	if err != nil {
		return fmt.Errorf("log the repair: %w", err)
	}
	return a.Kernel.Audit.RepairLogged()
}

// resetCursors sets those that wait behind the head on it, and leaves a row of each.
func (a *App) resetCursors(ctx context.Context, past []audit.Cursor, head int64) error {
	for _, c := range past {
		was := c.LogID
		c.LogID, c.UpdatedAt = head, time.Now().UTC().Truncate(time.Microsecond)
		details, err := json.Marshal(map[string]int64{"was": was, "log_id": c.LogID})
		if err != nil {
			return err
		}
		err = a.Kernel.Pipeline.Record(ctx, audit.Row{
			CallID: uuid.Must(uuid.NewV7()).String(), ActorType: eider.ActorSystem, ActorName: "start",
			Operation: "reset_cursor", ResourceType: "cursor", ResourceID: c.Name, Status: eider.StatusSuccess, Details: string(details),
		}, func(tx *metadata.Tx) error { return a.followers.Cursors.Put(ctx, tx, c) })
		if err != nil {
			return fmt.Errorf("reset the cursor of %s: %w", c.Name, err)
		}
		a.telemetry.Log.Warn("a follower of the log was further than the log and is set back", "follower", c.Name, "was", was, "is", c.LogID)
	}
	return nil
}

// Close ends everything that Open began. It may be called after a failed Open.
func (a *App) Close() error {
	var failed []error
	if a.Kernel != nil {
		a.Kernel.Pipeline.Close(context.Background())
	}
	if a.databases != nil {
		failed = append(failed, a.databases.Close())
	}
	a.following.end() // they read what the pipeline wrote last
	if a.file != nil {
		failed = append(failed, a.file.Close())
	}
	if a.plugins != nil {
		failed = append(failed, a.plugins.Close(context.Background()))
	}
	if a.store != nil {
		failed = append(failed, a.store.Close())
	}
	if a.stopKeeper != nil {
		a.stopKeeper()
		a.keeperStopped.Wait()
	}
	if a.telemetry != nil && a.options.Telemetry == nil {
		if err := a.telemetry.Close(context.Background()); err != nil {
			a.telemetry.Log.Warn("telemetry could not send everything", "error", err)
		}
	}
	if a.lock != nil {
		failed = append(failed, a.lock.Unlock())
	}
	return errors.Join(failed...)
}
