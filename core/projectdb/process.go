package projectdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/projectdb/wire"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/status"
)

// process is a worker as the server sees it.
type process struct {
	*waiting
	conn    *grpc.ClientConn
	kill    time.Duration
	ending  atomic.Bool
	running atomic.Int64 // statements
	ids     atomic.Int64 // of requests

	addresses int64       // how many bytes of them it may have; 0: as many as there are
	worn      atomic.Bool // it has few of them left

	// folding is held where its log is folded into the file, and shared by those who
	// copy both. soon asks for that at once; after an error it waits until notBefore.
	folding   sync.RWMutex
	soon      atomic.Bool
	notBefore atomic.Int64 // in nanoseconds since 1970

	once   sync.Once
	reason atomic.Pointer[string] // why it was ended, if we did that
	losing sync.Once
	lost   *loss
}

// loss is what was so when the worker was lost. It wraps errLost.
type loss struct {
	running int64 // statements
	err     error
}

func (l *loss) Error() string { return fmt.Sprintf("%v: %v", errLost, l.err) }

// Unwrap returns errLost.
func (l *loss) Unwrap() error { return errLost }

// errLost marks work whose worker is gone.
var errLost = errors.New("the worker is gone")

// lose remembers what ran when the worker was lost, and has it gone: by itself if
// it is about to, else killed.
func (p *process) lose(err error) *loss {
	p.losing.Do(func() {
		p.ending.Store(true)
		p.lost = &loss{p.running.Load(), err}
		late := time.NewTimer(settleWithin)
		defer late.Stop()
		select {
		case <-p.exited:
		case <-late.C:
			p.murder(endedProtocol)
			<-p.exited
		}
	})
	return p.lost
}

// death tells how the worker ended, once it has.
func (p *process) death() death {
	if reason := p.reason.Load(); reason != nil {
		return death{*reason, wordsOf(*reason)}
	}
	return ofState(p.state, p.said.outOfMemory())
}

// gone reports whether the worker takes no more work.
func (p *process) gone() bool {
	select {
	case <-p.exited:
		return true
	default:
		return p.ending.Load()
	}
}

// window is how much of a statement's rows may be on its way, in bytes: what a
// client that reads slowly costs at most.
const window = 1 << 20

// connect speaks gRPC over the server's end of the socket pair.
func connect(raw net.Conn) (*grpc.ClientConn, error) {
	once := make(chan net.Conn, 1)
	once <- raw
	pool := &wire.Pool{}
	return grpc.NewClient("passthrough:worker",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			select {
			case conn := <-once:
				return conn, nil
			default:
				return nil, errLost // there is one connection, and no second
			}
		}),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(wire.Codec{Pool: pool}), grpc.MaxCallRecvMsgSize(wire.MaxFrame+16), grpc.MaxCallSendMsgSize(wire.MaxRequest+16)),
		experimental.WithBufferPool(pool), grpc.WithReadBufferSize(256<<10), grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(16*window), grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithIdleTimeout(0))
}

// run has the worker do r. When ctx ends it returns at once, and the worker is told
// to stop the work. over is called once the work has ended: a worker that does not
// stop is killed first.
func (p *process) run(ctx context.Context, r wire.Request, sinks Sinks, out any, over func()) error {
	r.ID = p.ids.Add(1)
	body, err := json.Marshal(r)
	if err == nil && len(body) > wire.MaxRequest {
		err = eider.Errorf(eider.BodyTooLarge, "the statement may have at most %d bytes", wire.MaxRequest)
	}
	if err != nil {
		over()
		return err
	}
	p.running.Add(1)
	ended, err := p.guarded(ctx, body, sinks, out)
	finish := func() {
		p.running.Add(-1)
		over()
	}
	if ended {
		finish()
	} else {
		go func() {
			defer finish()
			p.settle(r.ID)
		}()
	}
	if ctx.Err() != nil && (errors.Is(err, errLost) || status.Code(err) == codes.Canceled || eider.CodeOf(err) == eider.Cancelled) {
		return ctx.Err()
	}
	return err
}

// settle waits until the worker has stopped a request that was cut, and kills the
// worker that does not: to cut the stream is to ask, and nothing says that it was
// heard.
//
// A commit cannot be stopped, and is given its time: cut off, it would be told as
// undone, with all that was computed for it.
func (p *process) settle(id int64) {
	what := wire.Settle{ID: id}
	commits, err := p.ask(p.kill, what)
	if commits && err == nil {
		what.Committed = true
		_, err = p.ask(max(p.kill, commitWithin), what)
	}
	if err != nil && !errors.Is(err, errLost) {
		p.murder(endedStuck)
	}
}

// guarded is exchange for words of a worker at which a taker panics: they are no
// worker's, and end nothing but it.
func (p *process) guarded(ctx context.Context, body []byte, sinks Sinks, out any) (ended bool, err error) {
	defer func() {
		if v := recover(); v != nil {
			p.said.log.ErrorContext(ctx, "what a worker said was not understood", "panic", v, "stack", string(debug.Stack()))
			ended, err = true, p.lies("at what it said the server panicked")
		}
	}()
	return p.exchange(ctx, body, sinks, out)
}

// commitWithin is what a commit has that nobody waits for any more.
const commitWithin = time.Minute

func (p *process) ask(within time.Duration, what wire.Settle) (commits bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	args, err := json.Marshal(what)
	if err != nil {
		return false, err
	}
	var s wire.Settled
	err = p.request(ctx, wire.OpSettled, args, &s)
	return s.Commits, err
}

// request has the worker do something of the server's own.
func (p *process) request(ctx context.Context, op string, args json.RawMessage, out any) error {
	body, err := json.Marshal(wire.Request{ID: p.ids.Add(1), Op: op, Args: args})
	if err == nil {
		_, err = p.guarded(ctx, body, Sinks{}, out)
	}
	return err
}

// exchange sends a request and takes its answer. ended says that nothing of it runs
// any more.
func (p *process) exchange(ctx context.Context, body []byte, sinks Sinks, out any) (ended bool, err error) {
	// The worker keeps no time of its own: who waits decides what is late. Whatever
	// ends this ends the work.
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	stream, err := p.conn.NewStream(working, &wire.Stream, wire.Run)
	if err == nil {
		err = stream.SendMsg(&wire.Frame{Kind: wire.KindRequest, Body: body})
	}
	if err == nil {
		err = stream.CloseSend()
	}
	if err != nil {
		return p.broken(ctx, err)
	}
	told := answer{process: p, sinks: sinks}
	var data wire.Frame // the last that went to the sink
	for {
		var f wire.Frame
		if err := stream.RecvMsg(&f); err != nil {
			return p.broken(ctx, err)
		}
		if f.Kind == wire.KindEnd {
			return true, told.end(f.Body, out)
		}
		if err := told.pass(f); err != nil {
			return errors.Is(err, errLost), err
		}
		if f.Kind == wire.KindData {
			data.Free()
			data = f
		}
	}
}

// broken tells work that was cancelled from a worker that is gone.
func (p *process) broken(ctx context.Context, err error) (ended bool, _ error) {
	if errors.Is(err, io.EOF) {
		err = errors.New("it ended without a word")
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	return true, p.lose(err)
}

// murder kills the worker. What was acknowledged is in the database's log.
func (p *process) murder(reason string) {
	p.once.Do(func() {
		p.ending.Store(true)
		p.reason.Store(&reason)
		_ = p.child.Kill() // it may have ended by itself
	})
}

// closeWithin is what a worker has to fold its log into the database.
const closeWithin = 30 * time.Second

// end closes the connection, at which the worker closes its database and exits,
// and waits for that.
func (p *process) end(reason string) {
	p.ending.Store(true)
	p.reason.CompareAndSwap(nil, &reason)
	_ = p.conn.Close()
	late := time.NewTimer(closeWithin)
	defer late.Stop()
	select {
	case <-p.exited:
	case <-late.C:
		_ = p.child.Kill()
		<-p.exited
	}
}
