package projectdb_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/projectdb/wire"
	"github.com/eiderdb/eider/core/projectdb/worker"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// worn is the file by which a worker of these tests learns that it is to have
// few addresses left: no statement can be relied on to take them for good.
const worn = "worn"

// limit is the confinement of these tests: the limit of addresses alone, and that
// only for a worker that is to be worn, which is the first to find the file.
func limit(s wire.Setup) error {
	if err := os.Remove(filepath.Join(s.Folder, worn)); err != nil {
		return nil
	}
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return err
	}
	var pages int
	if _, err := fmt.Sscan(string(text), &pages); err != nil {
		return err
	}
	most := uint64(pages*os.Getpagesize()) + uint64(s.Budget())
	if err := syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: most, Max: most}); err != nil {
		return err
	}
	_, err = syscall.Mmap(-1, 0, int(s.Budget()/5*4), syscall.PROT_NONE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	return err
}

func TestWorkerThatIsShortOfAddressesIsReplacedBetweenStatements(t *testing.T) {
	t.Parallel()
	ends := metric.NewManualReader()
	s, projects := superviseAs(t, measuredBy(ends), nil, "one")
	must(t, os.WriteFile(filepath.Join(s.Dir, "one", worn), nil, 0o600))
	first := 0
	for deadline := time.Now().Add(20 * time.Second); ; {
		must(t, s.Do(t.Context(), projects[0], wire.Request{Op: "ping"}, nil))
		now := s.Process("one")
		if first == 0 {
			first = now
		}
		if now != 0 && now != first {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the worker is not replaced")
		}
	}
	if n := endsOf(t, ends)["worn"]; n != 1 {
		t.Errorf("%d workers were worn", n)
	}
	if s.Degraded() != 0 {
		t.Error("it is held against the project")
	}
}

// Without a limit of addresses a statement may take what memory there is: the
// supervisor looks at what is resident.
func TestStatementThatHoldsTooMuchMemoryIsKilledAndCounted(t *testing.T) {
	t.Parallel()
	ends := metric.NewManualReader()
	s, projects := superviseAs(t, measuredBy(ends), func(s *projectdb.Settings) { s.Memory, s.Threads = 64<<20, 1 }, "one", "neighbour")
	call := ""
	run := func(p projectdb.Project, sql string) error {
		args, err := json.Marshal(worker.Query{SQL: sql, Form: worker.FormJSON})
		must(t, err)
		return s.Run(t.Context(), p, wire.Request{Op: "query", Call: call, Args: args}, takers(), nil)
	}
	must(t, run(projects[1], "SELECT 1"))
	kept := s.Process("neighbour")
	// 900 MiB are repeated at once, and held until all of them are hashed.
	const bomb = "SELECT max(sha256(repeat(repeat('x', 4096), 256 + (range % 2)::INTEGER))) FROM range(900)"
	if err := run(projects[0], bomb); eider.CodeOf(err) != eider.OutOfMemory || projectdb.OwnFault(err) != nil {
		t.Fatalf("the statement answered %v", err)
	}
	call = "of a change" // of which nobody knows yet whether it was committed
	if err := run(projects[0], bomb); eider.CodeOf(err) != eider.ProjectRestarted || eider.CodeOf(projectdb.OwnFault(err)) != eider.OutOfMemory {
		t.Fatalf("a change is answered %v", err)
	}
	call = ""
	must(t, run(projects[0], "SELECT 1"))
	must(t, run(projects[1], "SELECT 1"))
	if s.Process("neighbour") != kept {
		t.Error("the neighbour has another worker")
	}
	if n := endsOf(t, ends)["resident"]; n != 2 {
		t.Errorf("%d workers were killed for what they held", n)
	}
}

func measuredBy(r metric.Reader) func(*projectdb.Options) {
	return func(o *projectdb.Options) { o.Meter = metric.NewMeterProvider(metric.WithReader(r)).Meter("test") }
}

// endsOf returns how many workers ended, by reason.
func endsOf(t *testing.T, r *metric.ManualReader) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	must(t, r.Collect(context.Background(), &all))
	found := map[string]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if sum, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == "eider_worker_ends_total" {
				for _, p := range sum.DataPoints {
					reason, _ := p.Attributes.Value(attribute.Key("reason"))
					found[reason.AsString()] += p.Value
				}
			}
		}
	}
	return found
}
