package projectdb_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/config"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/projectdb/wire"
	"github.com/eiderdb/eider/core/projectdb/worker"
	"github.com/eiderdb/eider/core/waittest"
)

// occupy keeps the project in use until the returned function is called, and
// waits until it is.
func occupy(t *testing.T, s *projectdb.Supervisor, p projectdb.Project) (leave func()) {
	t.Helper()
	args, err := json.Marshal(worker.Query{SQL: "SELECT sum(a.range + b.range) FROM range(10000000) a, range(10000000) b", Form: worker.FormJSON})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	begun, done := make(chan struct{}), make(chan struct{})
	sinks := takers()
	sinks.Begun = func() { close(begun) }
	go func() {
		defer close(done)
		if err := s.Run(ctx, p, wire.Request{Op: "query", Args: args}, sinks, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("%s is not in use any more: %v", p.UID, err)
		}
	}()
	<-begun
	return func() {
		cancel()
		<-done
	}
}

func roomFor(n int, wait time.Duration) func(*projectdb.Settings) {
	return func(s *projectdb.Settings) { s.MaxOpen, s.Wait, s.Spare = n, config.Duration(wait), 0 }
}

// Where all that may be open are in use, a statement of another project is refused
// after a while; patient work is not.
func TestStatementThatFindsNoRoomIsRefusedAfterAWhile(t *testing.T) {
	t.Parallel()
	s, projects := supervise(t, roomFor(1, 50*time.Millisecond), "busy", "late", "patient")
	leave := occupy(t, s, projects[0])
	patient := make(chan error, 1)
	go func() { patient <- s.Do(t.Context(), projects[2].Patiently(), wire.Request{Op: "ping"}, nil) }()
	begun := false
	err := s.Run(t.Context(), projects[1], wire.Request{Op: "ping"}, projectdb.Sinks{Begun: func() { begun = true }}, nil)
	var refused *eider.Error
	if !errors.As(err, &refused) || refused.Code != eider.TooManyQueries || refused.RetryAfter == 0 || begun {
		t.Errorf("it is answered %v; it has begun: %v", err, begun)
	}
	must(t, s.Do(t.Context(), projects[0], wire.Request{Op: "ping"}, nil)) // there is room for its own
	leave()
	must(t, <-patient)
}

// Room is had in the order in which it was asked for.
func TestRoomIsHadByWhoCameFirst(t *testing.T) {
	t.Parallel()
	names := []string{"busy", "a", "b", "c", "d"}
	s, projects := supervise(t, roomFor(1, time.Minute), names...)
	leave := occupy(t, s, projects[0])
	had := make(chan string, len(names))
	left, giveUp := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i, p := range projects[1:] {
		ctx := t.Context()
		if p.UID == "b" {
			ctx = left
		}
		all.Go(func() {
			sinks := projectdb.Sinks{Begun: func() { had <- p.UID }}
			if err := s.Run(ctx, p, wire.Request{Op: "ping"}, sinks, nil); err != nil && p.UID != "b" {
				t.Error(p.UID, err)
			}
		})
		waittest.Until(t, "they wait", func() bool { return s.Waiting() == i+1 })
	}
	giveUp()
	waittest.Until(t, "they wait", func() bool { return s.Waiting() == 3 })
	leave()
	for _, want := range []string{"a", "c", "d"} {
		if uid := <-had; uid != want {
			t.Errorf("%s had room before %s", uid, want)
		}
	}
	all.Wait()
}

// One whose statement lasts takes others beside it after a moment, although
// somebody waits for room.
func TestProjectThatCannotMakeRoomIsNotHeldUp(t *testing.T) {
	t.Parallel()
	s, projects := supervise(t, roomFor(1, time.Minute), "busy", "other")
	leave := occupy(t, s, projects[0])
	other := make(chan error, 1)
	go func() { other <- s.Do(t.Context(), projects[1], wire.Request{Op: "ping"}, nil) }()
	waittest.Until(t, "they wait", func() bool { return s.Waiting() == 1 })
	for range 3 {
		must(t, s.Do(t.Context(), projects[0], wire.Request{Op: "ping"}, nil))
	}
	leave()
	must(t, <-other)
}
