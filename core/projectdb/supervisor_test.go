package projectdb_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/config"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/projectdb/wire"
	"github.com/eiderdb/eider/core/projectdb/worker"
	"go.opentelemetry.io/otel/metric/noop"
)

// asWorker makes the test binary a worker, asLiar one that breaks the protocol.
const (
	asWorker = "worker-of-the-test"
	asLiar   = "worker-that-lies"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == asWorker {
		err := worker.Serve(slog.New(slog.NewTextHandler(os.Stderr, nil)), limit)
		if err != nil {
			slog.Error("worker", "error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == asLiar {
		lie()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// supervise starts a supervisor over a data folder with projects in it.
func supervise(t *testing.T, change func(*projectdb.Settings), names ...string) (*projectdb.Supervisor, []projectdb.Project) {
	t.Helper()
	return superviseAs(t, func(*projectdb.Options) {}, change, names...)
}

// superviseAs is supervise with other options.
func superviseAs(t *testing.T, with func(*projectdb.Options), change func(*projectdb.Settings), names ...string) (*projectdb.Supervisor, []projectdb.Project) {
	t.Helper()
	dir := t.TempDir()
	template := filepath.Join(dir, "template")
	must(t, duck.CreateTemplate(t.Context(), template))
	image, err := os.ReadFile(template)
	must(t, err)
	var all []projectdb.Project
	for _, name := range names {
		for _, sub := range []string{"db", "in", "out"} {
			must(t, os.MkdirAll(filepath.Join(dir, name, sub), 0o700))
		}
		must(t, os.WriteFile(filepath.Join(dir, name, "db/data.duckdb"), image, 0o600))
		must(t, os.WriteFile(filepath.Join(dir, name, "lock"), nil, 0o600))
		all = append(all, projectdb.Project{UID: name, Folder: name})
	}
	exe, err := os.Executable()
	must(t, err)
	settings := projectdb.Defaults()
	settings.Kill = config.Duration(500 * time.Millisecond)
	if change != nil {
		change(&settings)
	}
	options := projectdb.Options{Settings: settings, Command: []string{exe, asWorker}, Dir: dir, Log: slog.Default(), Meter: noop.Meter{}}
	with(&options)
	s, err := projectdb.New(options)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s, all
}

func TestWorkerAnswersAndIsStartedAnew(t *testing.T) {
	s, projects := supervise(t, nil, "one")
	for range 3 {
		must(t, s.Do(t.Context(), projects[0], wire.Request{Op: "ping"}, nil))
	}
	must(t, s.CloseProject(t.Context(), "one"))
	var a worker.Applied
	must(t, s.Do(t.Context(), projects[0], wire.Request{Op: "applied", Call: "x"}, &a))
	if a.Applied {
		t.Error("a call that never was is applied")
	}
}

func TestMoreProjectsThanMayBeOpen(t *testing.T) {
	s, projects := supervise(t, func(s *projectdb.Settings) { s.MaxOpen = 2 }, "a", "b", "c", "d", "e")
	for range 2 {
		for _, p := range projects {
			must(t, s.Do(t.Context(), p, wire.Request{Op: "ping"}, nil))
			if n := s.Open(); n > 2 {
				t.Fatalf("%d are open", n)
			}
		}
	}
}

func TestCancelledBeforeItBegan(t *testing.T) {
	s, projects := supervise(t, nil, "one")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Do(ctx, projects[0], wire.Request{Op: "ping"}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	must(t, s.Do(t.Context(), projects[0], wire.Request{Op: "ping"}, nil))
}

// A database that cannot be opened is tried ever less often, costs the others
// nothing, and is back once it can.
func TestDatabaseThatCannotBeOpenedIsDegradedUntilItCan(t *testing.T) {
	s, projects := supervise(t, nil, "damaged", "whole")
	damaged, ping := projects[0], wire.Request{Op: "ping"}
	file := filepath.Join(s.Dir, "damaged/db/data.duckdb")
	image, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, []byte("no database"), 0o600))
	var refused *eider.Error
	for range 10 {
		err := s.Do(t.Context(), damaged, ping, nil)
		if eider.CodeOf(err) != eider.StorageUnavailable {
			t.Fatalf("got %v", err)
		}
		must(t, s.Do(t.Context(), projects[1], ping, nil))
		if errors.As(err, &refused); refused.RetryAfter > 0 {
			break
		}
	}
	if refused.RetryAfter == 0 || !strings.Contains(refused.Message, "degraded") {
		t.Errorf("it is tried again and again: %v", refused)
	}
	if c := s.Condition("damaged"); !c.Degraded || c.Reason == "" || s.Degraded() != 1 || s.Condition("whole").Degraded {
		t.Errorf("the condition is %+v, %d are degraded", c, s.Degraded())
	}
	must(t, os.WriteFile(file, image, 0o600))
	for err = errors.New("not yet"); err != nil && t.Context().Err() == nil; {
		if err = s.Do(t.Context(), damaged, ping, nil); err != nil && eider.CodeOf(err) != eider.StorageUnavailable {
			t.Fatal(err)
		}
	}
	must(t, err)
}
