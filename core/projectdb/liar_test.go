package projectdb_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/projectdb/wire"
	"github.com/eiderdb/eider/core/projectdb/worker"
	"go.opentelemetry.io/otel/sdk/metric"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
)

// lies are what a worker may answer that a tenant has got hold of. Each is one
// that the server has to see through. Where the name says so nobody takes more than
// a result.
var lies = map[string]func(grpc.ServerStream) error{
	"a kind that there is not":     frames(wire.Frame{Kind: 'x', Body: []byte("y")}),
	"an end that is no JSON":       frames(wire.Frame{Kind: wire.KindEnd, Body: []byte("{")}),
	"another result":               frames(head, wire.Frame{Kind: wire.KindEnd, Body: []byte(`{"result":"text"}`)}),
	"a frame too long":             frames(head, wire.Frame{Kind: wire.KindData, Body: make([]byte, wire.MaxFrame+32)}),
	"an answer without an end":     frames(head, wire.Frame{Kind: wire.KindData, Body: []byte("x")}),
	"nothing":                      frames(),
	"a code of the server's":       frames(wire.Frame{Kind: wire.KindEnd, Body: []byte(`{"error":{"code":"unauthorized","message":"give me your key"}}`)}),
	"a refusal too long":           frames(wire.Frame{Kind: wire.KindEnd, Body: []byte(`{"error":{"code":"query_failed","message":"` + strings.Repeat("x", 1<<20) + `"}}`)}),
	"an error of gRPC":             func(grpc.ServerStream) error { return errors.New("what does it know of us?") },
	"two heads":                    frames(head, head),
	"data before the head":         frames(wire.Frame{Kind: wire.KindData, Body: []byte("x")}, head, end(`{}`)),
	"a head after the data":        frames(head, wire.Frame{Kind: wire.KindData, Body: []byte("x")}, head),
	"no head":                      frames(end(`{}`)),
	"a head that is none":          frames(wire.Frame{Kind: wire.KindHead, Body: []byte("{")}),
	"a head that makes one panic":  frames(wire.Frame{Kind: wire.KindHead, Body: []byte(`"panic"`)}),
	"a head that nobody takes":     frames(head),
	"data that nobody takes":       frames(wire.Frame{Kind: wire.KindData, Body: []byte("x")}, end(`{}`)),
	"a progress that is none":      frames(wire.Frame{Kind: wire.KindProgress, Body: []byte("{")}),
	"a progress of negative rows":  frames(wire.Frame{Kind: wire.KindProgress, Body: []byte(`{"rows":-1}`)}),
	"a progress of too many rows":  frames(wire.Frame{Kind: wire.KindProgress, Body: []byte(`{"rows":9223372036854775807}`)}),
	"a size of no disk":            frames(head, end(`{"size":9223372036854775807}`)),
	"rows below zero":              frames(head, end(`{"rows":-9223372036854775808}`)),
	"more tables than there are":   frames(head, end(`{"tables":4611686018427387904}`)),
	"buckets below zero":           frames(head, end(`{"buckets":-1}`)),
	"measured before time began":   frames(head, end(`{"at":-9223372036854775808}`)),
	"a number that is too large":   frames(head, end(`{"rows":9223372036854775808}`)),
	"a fraction where none can be": frames(head, end(`{"rows":0.5}`)),
}

var head = wire.Frame{Kind: wire.KindHead, Body: []byte("{}")}

func end(result string) wire.Frame {
	return wire.Frame{Kind: wire.KindEnd, Body: []byte(`{"result":` + result + `}`)}
}

// takers are those of an answer that has all there can be.
func takers() projectdb.Sinks {
	return projectdb.Sinks{
		Head: func(text json.RawMessage) error {
			if string(text) == `"panic"` {
				panic("at the head")
			}
			if !json.Valid(text) {
				return projectdb.ErrLie
			}
			return nil
		},
		Data:     func([]byte) error { return nil },
		Progress: func(float64, int64) {},
	}
}

func frames(all ...wire.Frame) func(grpc.ServerStream) error {
	return func(s grpc.ServerStream) error {
		for i := range all {
			if err := s.SendMsg(&all[i]); err != nil {
				return err
			}
		}
		return nil
	}
}

// lie is the life of a worker that answers each request with the lie that it
// names, and "ping" with the truth.
func lie() {
	file := os.NewFile(worker.SocketFD, "socket")
	conn, err := net.FileConn(file)
	if err != nil {
		os.Exit(1)
	}
	socket := conn.(*net.UnixConn)
	if _, _, err := wire.ReceiveSetup(socket); err != nil {
		os.Exit(0)
	}
	if err := wire.SendOpened(socket, nil); err != nil {
		os.Exit(1)
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(wire.Codec{Pool: &wire.Pool{}}))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "eider.Worker", HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{StreamName: wire.Stream.StreamName, ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			var first wire.Frame
			var request wire.Request
			if err := s.RecvMsg(&first); err != nil {
				return err
			}
			if err := json.Unmarshal(first.Body, &request); err != nil {
				return err
			}
			if answer := lies[request.Op]; answer != nil {
				return answer(s)
			}
			return s.SendMsg(&wire.Frame{Kind: wire.KindEnd, Body: []byte(`{"result":{}}`)})
		}}},
	}, struct{}{})
	_ = server.Serve(&one{conn: conn})
}

// one is a listener of one connection.
type one struct {
	conn net.Conn
	once sync.Once
}

func (l *one) Accept() (conn net.Conn, err error) {
	l.once.Do(func() { conn = l.conn })
	if conn == nil {
		select {} // until it is killed
	}
	return conn, nil
}

func (l *one) Close() error   { return nil }
func (l *one) Addr() net.Addr { return l.conn.LocalAddr() }

// What comes from a worker is believed in nothing that could harm the server: the
// worker is killed, its project has another, and others have theirs.
func TestWorkerThatLiesIsKilledAndCostsItsProjectAlone(t *testing.T) {
	t.Parallel()
	ends := metric.NewManualReader()
	s, projects := superviseAs(t, func(o *projectdb.Options) {
		measuredBy(ends)(o)
		o.Command = []string{o.Command[0], asLiar}
	}, nil, append([]string{"neighbour"}, namesOf(lies)...)...)
	ping := wire.Request{Op: "ping"}
	must(t, s.Do(t.Context(), projects[0], ping, nil))
	kept := s.Process("neighbour")
	for _, p := range projects[1:] {
		must(t, s.Do(t.Context(), p, ping, nil))
		before := s.Process(p.UID)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		var sinks projectdb.Sinks
		if !strings.Contains(p.UID, "nobody takes") {
			sinks = takers()
		}
		err := s.Run(ctx, p, wire.Request{Op: p.UID}, sinks, &worker.Measured{})
		cancel()
		if eider.CodeOf(err) != eider.ProjectRestarted || len(err.Error()) > 1<<10 {
			t.Errorf("%s is answered %.200v", p.UID, err)
		}
		must(t, s.Do(t.Context(), p, ping, nil))
		if s.Process(p.UID) == before {
			t.Errorf("%s: the worker goes on", p.UID)
		}
	}
	if s.Process("neighbour") != kept {
		t.Error("the neighbour has another worker")
	}
	if n := endsOf(t, ends)["protocol"]; n != int64(len(lies)) {
		t.Errorf("%d workers were killed for the protocol, of %d: %v", n, len(lies), endsOf(t, ends))
	}
}

func namesOf[V any](of map[string]V) (names []string) {
	for name := range of {
		names = append(names, name)
	}
	return names
}

// The project's lock is taken before anything is opened: whoever else holds it
// keeps the database shut, and is waited for.
func TestDatabaseIsOpenedOnceItsLockIsFree(t *testing.T) {
	t.Parallel()
	s, projects := supervise(t, nil, "one")
	held, err := os.OpenFile(filepath.Join(s.Dir, "one", "lock"), os.O_RDWR, 0)
	must(t, err)
	must(t, unix.Flock(int(held.Fd()), unix.LOCK_EX))
	done := make(chan error, 1)
	go func() { done <- s.Do(t.Context(), projects[0], wire.Request{Op: "ping"}, nil) }()
	select {
	case err := <-done:
		t.Fatalf("it was opened beside who holds the lock: %v", err)
	case <-time.After(300 * time.Millisecond): // it would have been long ago
	}
	must(t, held.Close())
	must(t, <-done)
	if _, err := disk.Lock(filepath.Join(s.Dir, "one", "lock")); err == nil {
		t.Error("the worker does not hold the lock")
	}
}
