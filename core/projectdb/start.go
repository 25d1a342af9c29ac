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
	orders  chan chan started

	mu    sync.Mutex
	spare []*waiting
	ended bool
}

// waiting is a worker that has opened nothing yet.
type waiting struct {
	child  *os.Process
	socket *net.UnixConn
	said   *output
	exited chan struct{}    // closed once the process is no more, and state is set
	state  *os.ProcessState // how it ended
}

type started struct {
	worker *waiting
	err    error
}

func newStarter(o Options) *starter {
	s := &starter{options: o, orders: make(chan chan started)}
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
	raw, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	said, speaks, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a pipe: %w", err), raw.Close())
	}
	defer speaks.Close()
	child, err := os.StartProcess(s.options.Command[0], s.options.Command, &os.ProcAttr{
		Dir: "/", Env: allocators(), Files: []*os.File{nil, speaks, speaks, theirs},
		Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true},
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start a worker: %w", err), raw.Close(), said.Close())
	}
	w := &waiting{child: child, socket: raw, exited: make(chan struct{}), said: &output{log: s.options.Log, done: make(chan struct{})}}
	go w.said.hear(said, child.Pid)
	go w.await()
	return w, nil
}

// allocators are settings by which those of C and of DuckDB, which is jemalloc, give
// addresses back: the worker's are limited. Each thread's arena of malloc would
// take 64 MiB. jemalloc by itself keeps all that it ever had, grows it in ever
// larger steps, and a worker of 512 MiB was short of it after one query of 60
// columns; so it returns what has not been used for 0.1 s. That costs no time that
// could be measured, and with 0 s a quarter more.
func allocators() []string {
	return []string{"MALLOC_ARENA_MAX=2", "DUCKDB_JE_MALLOC_CONF=retain:false,dirty_decay_ms:100,muzzy_decay_ms:0"}
}

// await waits for the end of the process, and of what it says.
func (w *waiting) await() {
	w.state, _ = w.child.Wait() // it is ours, and nobody else waits
	<-w.said.done
	close(w.exited)
}

// socketPair returns the server's end and the worker's.
func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	file := os.NewFile(uintptr(fds[0]), "worker")
	theirs = os.NewFile(uintptr(fds[1]), "server")
	raw, err := net.FileConn(file)
	if err = errors.Join(err, file.Close()); err != nil { // raw has its own
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return raw.(*net.UnixConn), theirs, nil
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
	worker := &process{waiting: w, kill: time.Duration(s.options.Settings.Kill)}
	if err := s.open(worker, folder, lock); err != nil {
		return nil, err
	}
	worker.addresses = limitOfAddresses(w.child.Pid)
	if worker.conn, err = connect(w.socket); err != nil {
		w.discard()
		return nil, fmt.Errorf("connect to a worker: %w", err)
	}
	go func() {
		<-w.exited
		_ = worker.conn.Close()
	}()
	return worker, nil
}

func (s *starter) setup(folder string) wire.Setup {
	o := s.options.Settings
	return wire.Setup{
		Folder: folder, MemoryLimit: int64(o.Memory), MaxSize: int64(o.MaxSize), MaxTemp: int64(o.MaxTemp), Threads: o.Threads, Confinement: o.Confinement,
	}
}

// openWithin is what a worker may take to open a project, with all of its log to
// be replayed.
const openWithin = 5 * time.Minute

// open has the worker open the project. The error is a *failure.
func (s *starter) open(w *process, folder string, lock *os.File) error {
	err := wire.SendSetup(w.socket, s.setup(folder), lock)
	if err == nil {
		err = w.socket.SetReadDeadline(time.Now().Add(openWithin))
	}
	var opened wire.Opened
	if err == nil {
		opened, err = wire.ReceiveOpened(w.socket)
	}
	if err == nil && opened.Error == nil {
		return w.socket.SetReadDeadline(time.Time{})
	}
	if err == nil && !believable(opened.Error) {
		w.murder(endedProtocol)
		err = errors.New("its refusal is none that a worker gives")
	}
	if err == nil {
		w.discard()
		return &failure{death{endedUnopened, opened.Error.Message}, refusal(opened.Error)}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		w.murder(endedStuck)
	}
	lost := w.lose(err)
	_ = w.socket.Close()
	e := eider.Errorf(eider.StorageUnavailable, "the project's database could not be opened: %s", w.death().words)
	return &failure{w.death(), e.Because(lost)}
}

// failure is why a project could not be opened.
type failure struct {
	death   death
	refusal *eider.Error
}

func (f *failure) Error() string { return f.refusal.Error() }

// Unwrap returns what the caller is told.
func (f *failure) Unwrap() error { return f.refusal }

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
