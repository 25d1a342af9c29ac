// Package worker is the process that holds one project's database.
//
// It is started from the server's own binary with nothing but one end of a socket
// pair, confines itself before it opens anything, and does what the server asks
// until the socket closes. Tenants' SQL runs here and nowhere else: what it does
// to this process costs this project its running statements, and nobody else
// anything. The package trusts the server, and no text of a tenant.
package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb/gate"
	"github.com/eiderdb/eider/core/projectdb/wire"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
)

// SocketFD is the file descriptor of the worker's end of the socket pair.
const SocketFD = 3

// Confine confines the process before it opens the database.
type Confine func(wire.Setup) error

// Serve is the life of a worker. It returns when the server has closed its end.
func Serve(log *slog.Logger, confine Confine) error {
	return serve(confine, &worker{log: log, ops: operations(), locks: locks, write: newTurn(), commit: newTurn()})
}

func serve(confine Confine, w *worker) error {
	conn, err := socket()
	if err != nil {
		return err
	}
	if !spoken(conn) {
		if err := warm(); err != nil {
			return fmt.Errorf("warm up: %w", err)
		}
	}
	setup, lock, err := wire.ReceiveSetup(conn)
	if errors.Is(err, io.EOF) {
		return nil // it was not needed
	}
	if err != nil {
		return fmt.Errorf("receive the setup: %w", err)
	}
	defer lock.Close() // held for the worker's whole life
	w.setup = setup
	if err := confine(setup); err != nil { // nothing is opened
		w.log.Error("a worker could not be confined", "error", err)
		return wire.SendOpened(conn, &wire.Error{Code: eider.StorageUnavailable, Message: "the project's worker could not be confined"})
	}
	if err := w.open(); err != nil {
		return wire.SendOpened(conn, w.public(err))
	}
	if err := wire.SendOpened(conn, nil); err != nil {
		return errors.Join(err, w.close())
	}
	return w.serve(conn)
}

func socket() (*net.UnixConn, error) {
	file := os.NewFile(SocketFD, "socket")
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("a worker is started by the server: %w", err)
	}
	_ = file.Close() // conn has its own
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.New("a worker is started by the server, with a unix socket")
	}
	return unix, nil
}

// spoken reports whether a project waits for this worker already: then there is no time
// to warm up, which as a whole costs more than it spares.
func spoken(conn *net.UnixConn) (yes bool) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) { // what fails here fails again where the setup is received
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		yes = n > 0 && err == nil
	})
	return yes
}

// warm opens DuckDB once in memory: what it loads and allocates then is there
// when a project is opened, some 15 ms sooner.
func warm() error {
	db, err := duck.Open(context.Background(), "", duck.Options{})
	if err != nil {
		return err
	}
	rows, err := db.Query(context.Background(), "SELECT 1")
	if err != nil {
		return errors.Join(err, db.Close())
	}
	return errors.Join(rows.Close(), db.Close())
}

type worker struct {
	log     *slog.Logger
	setup   wire.Setup
	db      *duck.DB
	foreign string // what the file brings of its own: see gate.Foreign
	ops     map[string]operation
	locks   func(*worker) []string
	write   turn // one change at a time; reads go on beside it
	commit  turn // had while a change commits, and by each read as it begins
	codec   wire.Codec
	over    sync.Once
	quit    func()

	tasks   sync.Mutex
	running map[int64]*run // by request

	measuring sync.Mutex
	passed    passed

	inward, outward *kept // for imports and exports
}

// The names in a project's folder.
const (
	databaseFile = "db/data.duckdb"
	tempDir      = "db/tmp"
	inFile       = "in/import"
	outFile      = "out/export"
)

func (w *worker) path(name string) string { return filepath.Join(w.setup.Folder, name) }

// open opens the database, and locks its settings: nothing outside the folder's
// two exchange files can be named, and nothing of it can be changed any more.
func (w *worker) open() error {
	db, err := duck.Open(context.Background(), w.path(databaseFile), duck.Options{
		Threads: w.setup.Threads, MemoryLimit: fmt.Sprintf("%dB", w.setup.MemoryLimit),
		Settings: map[string]string{
			"temp_directory": w.path(tempDir), "max_temp_directory_size": fmt.Sprintf("%dB", w.setup.MaxTemp),
			"allow_community_extensions": "false", "allow_unsigned_extensions": "false", "enable_object_cache": "false",
		},
	})
	if err != nil {
		return fmt.Errorf("open the project's database: %w", err)
	}
	conn, err := db.Conn(context.Background())
	if err != nil {
		return errors.Join(err, db.Close())
	}
	w.db = db
	if err := w.prepare(context.Background(), db, conn); err != nil {
		return errors.Join(err, conn.Close(), w.close())
	}
	return conn.Close()
}

// prepare sets the database up and locks it.
func (w *worker) prepare(ctx context.Context, db *duck.DB, conn *duck.Conn) (err error) {
	for _, k := range []**kept{&w.inward, &w.outward} {
		if *k, err = keep(ctx, db); err != nil {
			return err
		}
	}
	for _, statement := range append([]string{createState, createCalls, createBuckets, createTables, forgetCalls}, w.locks(w)...) {
		if err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("set up the project's database: %w", err)
		}
	}
	w.foreign, err = gate.Foreign(ctx, conn)
	return err
}

// close ends the connections that are kept, and closes the database.
func (w *worker) close() error {
	return errors.Join(w.inward.close(), w.outward.close(), w.db.Close())
}

// locks keep DuckDB to the folder's two exchange files, and its settings as they
// are.
func locks(w *worker) []string {
	return []string{
		fmt.Sprintf("SET GLOBAL allowed_paths = ['%s', '%s']", quoteText(w.path(inFile)), quoteText(w.path(outFile))),
		"SET GLOBAL enable_external_access = false",
		"SET GLOBAL lock_configuration = true",
	}
}

// serve answers on the socket until the server closes it.
func (w *worker) serve(conn *net.UnixConn) error {
	closed := make(chan struct{})
	w.codec = wire.Codec{Pool: &wire.Pool{}}
	server := grpc.NewServer(grpc.ForceServerCodecV2(w.codec), grpc.MaxRecvMsgSize(wire.MaxRequest+16), grpc.WriteBufferSize(256<<10))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "eider.Worker", HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{StreamName: wire.Stream.StreamName, Handler: w.handle, ServerStreams: true}},
	}, w)
	go func() {
		<-closed
		server.Stop() // cancels what runs
	}()
	w.quit = func() { go w.giveUp(server) }
	err := server.Serve(&single{conn: &watched{UnixConn: conn, closed: closed}, closed: closed})
	if errors.Is(err, net.ErrClosed) || errors.Is(err, grpc.ErrServerStopped) {
		err = nil
	}
	return errors.Join(err, w.close())
}

// ExitInvalid is the code with which a worker ends whose database DuckDB has given
// up after a fatal error: it would answer nothing more.
const ExitInvalid = 3

// lastWords is how long a worker that ends waits for its answers to be taken.
const lastWords = 300 * time.Millisecond

// giveUp ends the process. The instance is not closed: nothing of it can be
// trusted, and what was committed is in the log beside the file.
func (w *worker) giveUp(server *grpc.Server) {
	w.log.Error("the database is given up", "error", w.db.Dead())
	time.AfterFunc(lastWords, func() { os.Exit(ExitInvalid) })
	server.GracefulStop()
	os.Exit(ExitInvalid)
}

// handle runs one request.
func (w *worker) handle(_ any, stream grpc.ServerStream) (err error) {
	var first wire.Frame
	if err := stream.RecvMsg(&first); err != nil {
		return err
	}
	var request wire.Request
	if err := json.Unmarshal(first.Body, &request); err != nil || first.Kind != wire.KindRequest {
		return fmt.Errorf("no request: %w", err)
	}
	r, end := w.begin(request.ID)
	defer end()
	t := &task{worker: w, request: request, stream: stream, commits: r.commits}
	result, err := w.run(stream.Context(), t)
	last := wire.End{Result: result}
	if err != nil {
		last.Error = w.public(err)
	}
	if last.Last = w.db.Dead() != nil; last.Last {
		defer w.over.Do(w.quit)
	}
	text, err := json.Marshal(last)
	if err != nil {
		return err
	}
	return t.send(wire.KindEnd, text)
}

// run is a request that runs. Its channels are closed once it is over, and once its
// commit has begun.
type run struct{ over, commits chan struct{} }

// begin notes that a request runs, until end is called.
func (w *worker) begin(id int64) (r *run, end func()) {
	r = &run{make(chan struct{}), make(chan struct{})}
	w.tasks.Lock()
	defer w.tasks.Unlock()
	if w.running == nil {
		w.running = map[int64]*run{}
	}
	w.running[id] = r
	return r, func() {
		w.tasks.Lock()
		defer w.tasks.Unlock()
		delete(w.running, id)
		close(r.over)
	}
}

// settled waits for the end of a request, if it runs, or until its commit has begun:
// that is finished, and cannot be told to stop.
func settled(ctx context.Context, t *task) (any, error) {
	var s wire.Settle
	if err := t.args(&s); err != nil {
		return nil, err
	}
	t.tasks.Lock()
	r := t.running[s.ID]
	t.tasks.Unlock()
	if r == nil {
		return wire.Settled{}, nil
	}
	commits := r.commits
	if s.Committed {
		commits = nil
	}
	select {
	case <-r.over:
		return wire.Settled{}, nil
	case <-commits:
		return wire.Settled{Commits: true}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// checkpoint folds the write-ahead log into the file. No change runs meanwhile.
func checkpoint(ctx context.Context, t *task) (any, error) {
	if err := t.write.take(ctx); err != nil {
		return nil, err
	}
	defer t.write.pass()
	return struct{}{}, t.db.Checkpoint(ctx)
}

func (w *worker) run(ctx context.Context, t *task) (result json.RawMessage, err error) {
	defer func() {
		if v := recover(); v != nil {
			w.log.Error("an operation panicked", "op", t.request.Op, "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic in %s: %v", t.request.Op, v)
		}
	}()
	if err := w.trusts(t.request.Op); err != nil {
		return nil, err
	}
	do := w.ops[t.request.Op]
	if do == nil {
		return nil, fmt.Errorf("there is no operation %q", t.request.Op)
	}
	out, err := do(ctx, t)
	if errors.Is(err, duck.ErrInterrupted) && ctx.Err() == nil {
		// DuckDB stops its other threads where one of them fails, and at times tells
		// that instead of the failure.
		err = eider.Errorf(eider.QueryFailed, "the statement failed while it ran").Because(err)
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

// public tells the server what it may tell on. What is no refusal of ours goes to
// the log here.
func (w *worker) public(err error) *wire.Error {
	var refusal *eider.Error
	if errors.As(err, &refusal) {
		return &wire.Error{Code: refusal.Code, Message: refusal.Message, Fields: refusal.Fields, Logged: refusal.Logged}
	}
	if complaint, ok := duck.Complains(err); ok && complaint.Kind == duck.ComplaintMemory {
		return &wire.Error{Code: eider.OutOfMemory, Message: fmt.Sprintf("this needs more memory than the project may use: the limit is %d MiB", w.setup.MemoryLimit>>20)}
	}
	refusal = explain(err)
	if refusal.Code == eider.Internal {
		w.log.Error("an operation failed", "error", err)
	}
	return &wire.Error{Code: refusal.Code, Message: refusal.Message}
}

// single is a listener of one connection.
type single struct {
	conn   net.Conn
	once   sync.Once
	closed chan struct{}
}

// Accept returns the connection, then waits for its end.
func (s *single) Accept() (conn net.Conn, err error) {
	s.once.Do(func() { conn = s.conn })
	if conn != nil {
		return conn, nil
	}
	<-s.closed
	return nil, net.ErrClosed
}

// Close does nothing: the connection decides.
func (s *single) Close() error { return nil }

// Addr returns the connection's.
func (s *single) Addr() net.Addr { return s.conn.LocalAddr() }

// watched tells when the server has closed its end: a worker does not outlive it,
// whatever its statements do.
type watched struct {
	*net.UnixConn
	once   sync.Once
	closed chan struct{}
}

func (c *watched) Read(p []byte) (int, error) {
	n, err := c.UnixConn.Read(p)
	if err != nil {
		c.once.Do(func() { close(c.closed) })
	}
	return n, err
}
