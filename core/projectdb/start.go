package projectdb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/projectdb/wire"
	"golang.org/x/sys/unix"
)

// starter starts workers, and keeps some that wait for a project.
//
// A parent-death signal goes by the thread that started the child, not by the
// process: all are started by one goroutine that keeps its thread for ever.
type starter struct {
	options Options
	metrics instruments
	orders  chan chan started

	mu    sync.Mutex
	spare []*waiting
	ended bool
}

// waiting is a worker that has opened nothing yet.
type waiting struct {
	child  *os.Process
	socket *net.UnixConn
	exited chan struct{}
}

type started struct {
	worker *waiting
	err    error
}

func newStarter(o Options, m instruments) *starter {
	s := &starter{options: o, metrics: m, orders: make(chan chan started)}
	go s.serve()
	return s
}

// serve starts workers, each from this thread.
func (s *starter) serve() {
	runtime.LockOSThread() // and never let go
	for order := range s.orders {
		worker, err := s.spawn()
		order <- started{worker, err}
	}
}

func (s *starter) spawn() (*waiting, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "worker"), os.NewFile(uintptr(fds[1]), "server")
	defer theirs.Close()
	raw, err := net.FileConn(ours)
	_ = ours.Close() // raw has its own
	if err != nil {
		return nil, err
	}
	child, err := os.StartProcess(s.options.Command[0], s.options.Command, &os.ProcAttr{
		// Each thread's arena of malloc would take 64 MiB of the worker's address space.
		Dir: "/", Env: []string{"MALLOC_ARENA_MAX=2"}, Files: []*os.File{nil, os.Stderr, os.Stderr, theirs},
		Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true},
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start a worker: %w", err), raw.Close())
	}
	w := &waiting{child: child, socket: raw.(*net.UnixConn), exited: make(chan struct{})}
	go func() {
		_, _ = child.Wait() // its status tells less than why it was ended
		close(w.exited)
	}()
	return w, nil
}

func (s *starter) order() (*waiting, error) {
	answer := make(chan started, 1)
	s.orders <- answer
	a := <-answer
	return a.worker, a.err
}

// refill starts what is missing of the spare ones.
func (s *starter) refill() {
	go func() {
		for s.short() {
			w, err := s.order()
			if err != nil {
				s.options.Log.Error("a worker could not be started", "error", err)
				return
			}
			s.mu.Lock()
			if s.ended {
				s.mu.Unlock()
				w.discard()
				return
			}
			s.spare = append(s.spare, w)
			s.mu.Unlock()
		}
	}()
}

func (s *starter) short() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.ended && len(s.spare) < s.options.Settings.Spare
}

// idle returns a worker that waits, or a new one.
func (s *starter) idle() (*waiting, error) {
	defer s.refill()
	for {
		s.mu.Lock()
		if len(s.spare) == 0 {
			s.mu.Unlock()
			return s.order()
		}
		w := s.spare[0]
		s.spare = s.spare[1:]
		s.mu.Unlock()
		select {
		case <-w.exited:
		default:
			return w, nil
		}
	}
}

// discard ends a worker that is not needed: it sees its socket close.
func (w *waiting) discard() {
	_ = w.socket.Close()
	<-w.exited
}

// lockFile is the lock in a project's folder.
const lockFile = "lock"

// lockWithin is how long an earlier worker of the project may take to end: it is
// being closed, or killed with its server.
const lockWithin = 7 * time.Second

// start opens the project in a worker.
func (s *starter) start(ctx context.Context, p Project) (*process, error) {
	folder := filepath.Join(s.options.Dir, p.Folder)
	lock, err := lock(ctx, filepath.Join(folder, lockFile))
	if err != nil {
		return nil, err
	}
	defer lock.Close() // the worker has its own
	w, err := s.idle()
	if err != nil {
		return nil, err
	}
	o := s.options.Settings
	err = wire.SendSetup(w.socket, wire.Setup{
		Folder: folder, MemoryLimit: int64(o.Memory), MaxSize: int64(o.MaxSize), MaxTemp: int64(o.MaxTemp), Threads: o.Threads, Confinement: o.Confinement,
	}, lock)
	if err != nil {
		w.discard()
		return nil, fmt.Errorf("open the project in a worker: %w", err)
	}
	conn, err := connect(w.socket)
	if err != nil {
		w.discard()
		return nil, fmt.Errorf("connect to a worker: %w", err)
	}
	worker := &process{child: w.child, conn: conn, kill: time.Duration(o.Kill), exited: w.exited, metrics: s.metrics}
	s.metrics.started(ctx)
	go func() {
		<-worker.exited
		_ = conn.Close()
		s.metrics.ended(context.Background(), worker.why())
	}()
	return worker, nil
}

// why tells how the worker came to its end.
func (p *process) why() string {
	if reason := p.reason.Load(); reason != nil {
		return *reason
	}
	return endedByItself
}

// lock takes the project's lock, as soon as an earlier worker has let go of it.
func lock(ctx context.Context, path string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, lockWithin)
	defer cancel()
	for {
		file, err := os.OpenFile(path, os.O_RDWR|syscall.O_CLOEXEC, 0)
		if err != nil {
			return nil, disk.Refusal(fmt.Errorf("lock the project: %w", errors.Unwrap(err)))
		}
		if err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			return file, nil
		}
		_ = file.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock the project: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, eider.Errorf(eider.OperationInProgress, "another process holds the project's database").Because(ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// close ends the workers that wait.
func (s *starter) close() {
	s.mu.Lock()
	s.ended = true
	spare := s.spare
	s.spare = nil
	s.mu.Unlock()
	for _, w := range spare {
		w.discard()
	}
}
