// Package projectdb gives each open project a process of its own: a worker, which
// alone opens the project's database.
//
// A worker is started from the server's own binary and confined before it opens
// anything (core/projectdb/confine). What a statement does to it costs its
// project the statements that run, and nobody else anything: the supervisor ends
// a worker that does not obey, and the next statement has a new one. There is
// never more than one per project: the lock of the project's folder sees to that,
// across servers and crashes. The package knows no table and no SQL.
package projectdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/config"
	"github.com/eiderdb/eider/core/projectdb/confine"
	"github.com/eiderdb/eider/core/projectdb/wire"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Settings is the workers' part of the section "projects".
type Settings struct {
	MaxOpen     int             `koanf:"max_open" doc:"How many projects have their database open at a time"`
	Idle        config.Duration `koanf:"idle" doc:"How long a database stays open without a statement"`
	Spare       int             `koanf:"spare_workers" doc:"How many workers wait, started, for a project to open"`
	Memory      config.Size     `koanf:"memory" doc:"Memory limit of each project's database"`
	MaxSize     config.Size     `koanf:"max_size" doc:"The largest database of a project"`
	MaxTemp     config.Size     `koanf:"max_temp" doc:"How much a project's statements may spill to disk"`
	Threads     int             `koanf:"threads" doc:"Threads of each project's database"`
	Confinement string          `koanf:"confinement" doc:"required: no project opens where the kernel cannot confine its worker; best_effort"`
	Wait        config.Duration `koanf:"wait_for_room" doc:"How long a statement waits while max_open other projects are open and in use, before it is refused"`
	Kill        config.Duration `koanf:"kill_after" doc:"How long a cancelled statement has to end before its worker is killed"`
}

// Validate refuses what could open nothing.
func (s *Settings) Validate() error {
	switch {
	case s.MaxOpen < 1:
		return fmt.Errorf("max_open must be at least 1")
	case s.Spare < 0:
		return fmt.Errorf("spare_workers must not be negative")
	case s.Memory < 64<<20:
		return fmt.Errorf("memory must be at least 64MiB")
	case s.Threads < 1:
		return fmt.Errorf("threads must be at least 1")
	case s.Confinement != "required" && s.Confinement != "best_effort":
		return fmt.Errorf("confinement must be required or best_effort")
	case s.Wait < 0:
		return fmt.Errorf("wait_for_room must not be negative")
	case time.Duration(s.Kill) < 100*time.Millisecond:
		return fmt.Errorf("kill_after must be at least 100ms")
	}
	return nil
}

// Defaults are for a small server.
func Defaults() Settings {
	return Settings{
		MaxOpen: 32, Idle: config.Duration(5 * time.Minute), Spare: 1, Memory: 512 << 20, MaxSize: 100 << 30, MaxTemp: 10 << 30,
		Threads: 2, Confinement: "required", Wait: config.Duration(5 * time.Second), Kill: config.Duration(2 * time.Second),
	}
}

// Options are what a supervisor is made of.
type Options struct {
	Settings Settings
	// Command is the program and the arguments of a worker.
	Command []string
	// Dir is the data folder.
	Dir   string
	Log   *slog.Logger
	Meter metric.Meter
	// Tracer is told of each start and each statement; nil: nobody is.
	Tracer trace.Tracer
}

// Supervisor holds the workers.
type Supervisor struct {
	Options
	starter *starter
	metrics instruments
	probed  atomic.Pointer[confine.State]
	// What workers held when they were last looked at, in bytes.
	resident, largest atomic.Int64

	mu      sync.Mutex
	open    map[string]*slot    // by the project's uid
	closing int                 // workers that make room
	queue   []*waiter           // those that wait for it, the first ones first
	ill     map[string]*illness // likewise
	living  map[*process]string // to the project's uid: those that are about to end too
	closed  bool
	stop    chan struct{}
	tended  sync.WaitGroup
}

// slot is a project that is open or being opened.
type slot struct {
	folder string        // of the project, absolute
	ready  chan struct{} // closed once worker or err is set
	worker *process
	err    error
	uses   int // statements that run or wait for ready
	last   time.Time
}

// New returns a supervisor without workers.
func New(o Options) (*Supervisor, error) {
	if o.Tracer == nil {
		o.Tracer = noop.NewTracerProvider().Tracer("")
	}
	m, err := newInstruments(o.Meter)
	if err != nil {
		return nil, err
	}
	s := &Supervisor{Options: o, metrics: m, open: map[string]*slot{}, ill: map[string]*illness{}, living: map[*process]string{}, stop: make(chan struct{})}
	if err := errors.Join(s.observeConfinement(), s.observeWorkers()); err != nil {
		return nil, err
	}
	s.starter = newStarter(o)
	s.tended.Add(1)
	go s.tend()
	return s, nil
}

// Warm starts the workers that wait for a project. Without it they are started
// once the first project has been opened.
func (s *Supervisor) Warm() { s.starter.refill() }

// Project is what the supervisor must know of one.
type Project struct {
	UID, Folder string // Folder is relative to the data folder

	// Patient work, for which nobody waits, is not refused for want of room.
	Patient bool `json:"-"`
}

// Patiently returns the project for work that may wait for room for as long as it
// takes.
func (p Project) Patiently() Project {
	p.Patient = true
	return p
}

// Of returns the supervisor's view of a project.
func Of(p eider.Project) Project {
	return Project{UID: p.UID, Folder: filepath.Dir(filepath.Dir(p.DBPath))}
}

// acquire returns the project's worker, started if need be, and what to call when
// the statement has ended.
func (s *Supervisor) acquire(ctx context.Context, p Project) (*process, func(), error) {
	for {
		held, mine, err := s.turn(ctx, p)
		if err != nil {
			return nil, nil, err
		}
		release := sync.OnceFunc(func() { s.release(p.UID, held) })
		if mine {
			held.worker, held.err = s.start(context.WithoutCancel(ctx), p)
			close(held.ready)
		}
		select {
		case <-held.ready:
		case <-ctx.Done():
			release()
			return nil, nil, ctx.Err()
		}
		if held.err != nil {
			s.forget(p.UID, held)
			release()
			return nil, nil, held.err
		}
		if held.worker.gone() {
			s.forget(p.UID, held)
			release()
			continue
		}
		return held.worker, release, nil
	}
}

// start opens the project in a worker, and follows it to its end.
func (s *Supervisor) start(ctx context.Context, p Project) (*process, error) {
	ctx, span := s.Tracer.Start(ctx, "worker start", trace.WithAttributes(attribute.String("eider.project_uid", p.UID)))
	defer span.End()
	begun := time.Now()
	worker, err := s.starter.start(ctx, p)
	var unopened *failure
	if errors.As(err, &unopened) {
		s.metrics.ends.Add(ctx, 1, because(unopened.death.cause))
		s.died(p.UID, unopened.death.words, unopened.refusal)
	}
	if err != nil {
		failed(span, err)
		return nil, err
	}
	s.metrics.started(ctx, time.Since(begun))
	s.mu.Lock()
	s.living[worker] = p.UID
	s.mu.Unlock()
	go s.follow(worker, p.UID)
	return worker, nil
}

// failed marks a span by its code alone: the message may hold a tenant's values.
func failed(span trace.Span, err error) { span.SetStatus(codes.Error, string(eider.CodeOf(err))) }

// follow waits for the worker's end, and holds it against the project where it
// must.
func (s *Supervisor) follow(worker *process, uid string) {
	<-worker.exited
	s.mu.Lock()
	delete(s.living, worker)
	s.mu.Unlock()
	d := worker.death()
	s.metrics.ended(context.Background(), d.cause)
	if !d.counts() {
		return
	}
	s.Log.Warn("a worker has died", "project_uid", uid, "cause", d.cause, "pid", worker.child.Pid)
	s.died(uid, d.words, eider.Errorf(eider.ProjectRestarted, "the project's database was restarted; try again"))
}

func (s *Supervisor) release(uid string, held *slot) {
	s.mu.Lock()
	defer s.unlock()
	held.uses--
	held.last = time.Now()
	s.replace(uid, held)
}

// replace ends the project's worker where it is worn and nothing runs in it. The
// next statement waits for its end, and has a new one.
func (s *Supervisor) replace(uid string, held *slot) {
	if held.uses == 0 && s.open[uid] == held && held.worker != nil && held.worker.worn.Load() {
		delete(s.open, uid)
		go held.worker.end(endedWorn)
	}
}

// closeWorn does so for those that nobody has used since they were seen to be.
func (s *Supervisor) closeWorn() {
	s.mu.Lock()
	defer s.unlock()
	for uid, held := range s.open {
		s.replace(uid, held)
	}
}

func (s *Supervisor) forget(uid string, held *slot) {
	s.mu.Lock()
	defer s.unlock()
	if s.open[uid] == held {
		delete(s.open, uid)
	}
}

// CloseProject ends the project's worker and waits for its end, so that its
// folder can be moved. Statements that run are ended.
func (s *Supervisor) CloseProject(ctx context.Context, uid string) error {
	s.mu.Lock()
	held := s.open[uid]
	delete(s.open, uid)
	delete(s.ill, uid)
	s.unlock()
	if held != nil {
		select {
		case <-held.ready:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.end(func(of string) bool { return of == uid })
	return nil
}

// end ends workers, and waits also for those of them that were about to end.
func (s *Supervisor) end(which func(uid string) bool) {
	var ending sync.WaitGroup
	s.mu.Lock()
	for worker, uid := range s.living {
		if which(uid) {
			ending.Go(func() { worker.end(endedClosed) })
		}
	}
	s.mu.Unlock()
	ending.Wait()
}

// Hold keeps the project's worker, opened if need be, until release is called: it
// makes no checkpoint, so that database and log can be copied, in this order. Held
// reports whether it was the same worker all the time; if not, the copy is none.
func (s *Supervisor) Hold(ctx context.Context, p Project) (held func() bool, release func(), err error) {
	worker, used, err := s.acquire(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	if err := worker.run(ctx, wire.Request{Op: "ping"}, Sinks{}, nil, func() {}); err != nil {
		used()
		return nil, nil, err
	}
	worker.folding.RLock()
	return func() bool { return !worker.gone() }, func() {
		worker.folding.RUnlock()
		used()
	}, nil
}

// tendEvery is how often workers are looked at.
const tendEvery = 500 * time.Millisecond

// tend closes what is idle, and watches what is not.
func (s *Supervisor) tend() {
	defer s.tended.Done()
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		now := time.Now()
		s.closeIdle(now.Add(-time.Duration(s.Settings.Idle)))
		s.watch()
		s.fold(now)
		s.recover(now)
	}
}

func (s *Supervisor) closeIdle(before time.Time) {
	s.mu.Lock()
	defer s.unlock()
	for uid, held := range s.open {
		if held.uses == 0 && held.last.Before(before) {
			delete(s.open, uid)
			go held.worker.end(endedIdle)
		}
	}
}

// Size returns what the files of the project's database have, in bytes, whatever
// its worker says of them. One that is not there has none.
func (s *Supervisor) Size(p Project) (total int64) {
	for _, name := range []string{databaseFile, databaseFile + ".wal"} {
		if info, err := os.Lstat(filepath.Join(s.Dir, p.Folder, name)); err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
	}
	return total
}

// databaseFile is the database in a project's folder. Its log is beside it.
const databaseFile = "db/data.duckdb"

// Open returns how many projects are open.
func (s *Supervisor) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// Close ends all workers, each with a checkpoint if it obeys.
func (s *Supervisor) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.stop)
	s.dismiss()
	var all []*slot
	for uid, held := range s.open {
		all = append(all, held)
		delete(s.open, uid)
	}
	s.mu.Unlock()
	s.tended.Wait()
	for _, held := range all {
		<-held.ready
	}
	s.end(func(string) bool { return true })
	s.starter.close()
	return nil
}

// Do has the project's worker do something, and reads its result into out.
func (s *Supervisor) Do(ctx context.Context, p Project, r wire.Request, out any) error {
	return s.Run(ctx, p, r, Sinks{}, out)
}

// Run is Do for work that answers with bytes or tells how far it is. Work that is
// lost with its worker through no fault of its own is refused as
// project_restarted.
func (s *Supervisor) Run(ctx context.Context, p Project, r wire.Request, sinks Sinks, out any) error {
	ctx, span := s.Tracer.Start(ctx, "worker "+r.Op, trace.WithAttributes(attribute.String("eider.project_uid", p.UID)))
	defer span.End()
	worker, release, err := s.acquire(ctx, p)
	if err != nil {
		failed(span, err)
		return err
	}
	begun := time.Now()
	if sinks.Begun != nil {
		sinks.Begun()
	}
	err = worker.run(ctx, r, sinks, out, release)
	var lost *loss
	if errors.As(err, &lost) {
		err = worker.death().blame(lost, r.Call != "", int64(s.Settings.Memory))
	}
	s.metrics.ran(ctx, r.Op, time.Since(begun), err)
	if err != nil {
		failed(span, err)
	}
	if lost == nil && !worker.gone() {
		s.worked(p.UID)
	}
	if eider.CodeOf(err) == eider.StorageFull {
		worker.soon.Store(true) // what was dropped gives its room back at a checkpoint
	}
	return err
}
