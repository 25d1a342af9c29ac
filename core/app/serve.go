package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/web"
)

// The names of the listeners.
const (
	publicListener = "public"
	adminListener  = "admin"
)

// followDrain is what a follower has at a stop to handle the last rows.
const followDrain = 5 * time.Second

// Listen opens the doors, without answering yet: a port in use is found before
// anything runs.
func (a *App) Listen() error {
	server, err := web.New(a.Settings.HTTP, web.Deps{Log: a.telemetry.Log, Tracer: a.telemetry.Tracer, Meter: a.telemetry.Meter})
	if err != nil {
		return err
	}
	a.Web = server
	a.Web.Mount(&web.Doors{
		Pipeline: a.Kernel.Pipeline, Local: adminListener, Authenticate: a.authenticate, Used: a.Kernel.Keys.Used, Verify: a.verify,
	})
	if err := a.mountServer(); err != nil {
		return err
	}
	if err := a.observe(); err != nil {
		return err
	}
	if err := server.Listen(publicListener, a.Settings.HTTP.Listen, web.ListenOptions{TLS: true, Mode: 0o660}); err != nil {
		err = fmt.Errorf("listen on %s: %w", a.Settings.HTTP.Listen, err)
		if errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
		return fmt.Errorf("%w: %w", ErrSettings, err) // no such address, or no right to it
	}
	if err := server.Listen(adminListener, "unix:"+a.Settings.path(AdminSocket), web.ListenOptions{Mode: 0o600}); err != nil {
		return fmt.Errorf("listen on %s: %w", AdminSocket, err)
	}
	return nil
}

// Addr returns the address of the public listener.
func (a *App) Addr() net.Addr { return a.Web.Addr(publicListener) }

// Start settles what was left unfinished, in the background, and starts jobs
// and followers. It is also what a command needs that works on a stopped
// server's folder.
func (a *App) Start() {
	keeping, stop := context.WithCancel(context.Background())
	a.stopKeeper = stop
	a.keeperStopped.Go(func() {
		if err := a.keeper.Run(keeping); err != nil {
			a.telemetry.Log.Error("checkpoints are not kept", "error", err)
		}
	})
	if err := a.Kernel.Jobs.Recover(keeping, a.Kernel.Pipeline); err != nil {
		a.telemetry.Log.Error("jobs of an earlier process could not be ended", "error", err)
	}
	a.Kernel.Pipeline.Recover()
	for _, f := range slices.Concat(a.Registry.Followers, a.sinks()) {
		a.follow(f)
	}
}

// OpenWorkers finds out what confines workers, says so, and starts those that wait
// for a project.
func (a *App) OpenWorkers(ctx context.Context) error {
	state, err := a.databases.Probe(ctx)
	if err != nil {
		return err
	}
	a.telemetry.Log.Info("workers are confined", "confined", state.Confined(), "what", state.String())
	if a.Settings.Projects.Confinement == "required" && !state.Confined() {
		a.telemetry.Log.Error("no project's database will open: projects.confinement is required and the kernel cannot hold it")
	}
	a.databases.Warm()
	return nil
}

// Serve answers requests until ctx ends, then drains. It returns an error if the
// storage fails so that the process must end.
func (a *App) Serve(ctx context.Context) error {
	jobs, stop := context.WithCancel(context.Background())
	a.stopJobs = stop
	a.background.Go(func() { a.Kernel.Pipeline.Tend(jobs) })
	a.background.Go(func() { a.Kernel.Keys.Tend(jobs, a.store) })
	a.background.Go(func() { a.Kernel.Jobs.Tend(jobs, a.store, time.Duration(a.Settings.Jobs.Keep)) })
	a.background.Go(func() { a.urls.Tend(jobs, a.telemetry.Log) })
	for _, j := range a.Registry.Jobs {
		a.background.Go(func() { a.run(jobs, j) })
	}
	if err := a.recordPlugins(ctx); err != nil {
		a.telemetry.Log.Error("the log was not told of the plugins", "error", err)
	}
	served := make(chan error, 1)
	go func() { served <- a.Web.Serve() }()
	if !a.options.Command {
		if err := a.Kernel.Audit.UnprovenTold(); err != nil {
			a.telemetry.Log.Error("the next start will tell of it again", "error", err)
		}
	}
	a.telemetry.Log.Info("eider serves", "version", a.options.Version, "address", a.Addr().String(), "data_dir", a.Settings.Top.DataDir)

	var err error
	select {
	case <-ctx.Done():
		a.telemetry.Log.Info("eider stops: running requests are finished")
	case err = <-a.fatal:
		a.telemetry.Log.Error("eider stops: the storage failed", "error", err)
		err = &StorageError{err}
	case err = <-served:
		served <- nil
	}
	close(a.stopping)
	if shut := a.Web.Shutdown(); shut != nil {
		a.telemetry.Log.Warn("the listeners did not close cleanly", "error", shut)
	}
	if <-served != nil && err == nil {
		a.telemetry.Log.Warn("a listener ended with an error")
	}
	a.stopJobs()
	a.background.Wait()
	return err
}

// StorageError says that the storage failed while the server ran, so that only
// a new process can go on.
type StorageError struct{ Err error }

// Error returns the cause.
func (e *StorageError) Error() string { return "the storage failed: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *StorageError) Unwrap() error { return e.Err }

// run runs a job at its times. A round that fails is logged and the next one
// comes as if it had not.
func (a *App) run(ctx context.Context, j core.Job) {
	tick := time.NewTicker(j.Every())
	defer tick.Stop()
	for {
		if err := a.round(ctx, j); err != nil && ctx.Err() == nil {
			a.telemetry.Log.Error("a job failed", "job", j.Name, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (a *App) round(ctx context.Context, j core.Job) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return j.Run(ctx)
}
