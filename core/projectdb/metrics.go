package projectdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/eiderdb/eider"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// instruments have no attribute of the project: there may be as many as there are
// folders. Spans have.
type instruments struct {
	starts       metric.Int64Counter
	ends         metric.Int64Counter
	open         metric.Int64UpDownCounter
	startSeconds metric.Float64Histogram
	ranSeconds   metric.Float64Histogram
}

func newInstruments(m metric.Meter) (i instruments, err error) {
	var all [5]error
	i.starts, all[0] = m.Int64Counter("eider_worker_starts_total", metric.WithDescription("Projects opened in a worker"))
	i.ends, all[1] = m.Int64Counter("eider_worker_ends_total", metric.WithDescription("Workers that ended, by reason"))
	i.open, all[2] = m.Int64UpDownCounter("eider_workers_open", metric.WithDescription("Projects that are open"))
	i.startSeconds, all[3] = m.Float64Histogram("eider_worker_start_seconds", metric.WithDescription("Time to open a project in a worker"))
	i.ranSeconds, all[4] = m.Float64Histogram("eider_worker_statement_seconds", metric.WithDescription("Time that workers took for what they were asked, by operation and outcome"))
	if err := errors.Join(all[:]...); err != nil {
		return i, fmt.Errorf("create the instruments of workers: %w", err)
	}
	return i, nil
}

func because(cause string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("reason", cause))
}

func (i instruments) started(ctx context.Context, took time.Duration) {
	i.starts.Add(ctx, 1)
	i.open.Add(ctx, 1)
	i.startSeconds.Record(ctx, took.Seconds())
}

func (i instruments) ended(ctx context.Context, cause string) {
	i.ends.Add(ctx, 1, because(cause))
	i.open.Add(ctx, -1)
}

// ran counts a statement. Of an error only what there are few of is told.
func (i instruments) ran(ctx context.Context, op string, took time.Duration, err error) {
	outcome := "ok"
	switch code := eider.CodeOf(err); {
	case err == nil:
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), code == eider.Cancelled:
		outcome = "cancelled"
	case code == eider.ProjectRestarted:
		outcome = "lost"
	default:
		outcome = "refused"
	}
	i.ranSeconds.Record(ctx, took.Seconds(), metric.WithAttributes(attribute.String("op", op), attribute.String("outcome", outcome)))
}

// observeWorkers reports what all workers hold, the largest of them, and how many
// projects are degraded.
func (s *Supervisor) observeWorkers() error {
	resident, err := s.Meter.Int64ObservableGauge("eider_worker_resident_bytes", metric.WithDescription("Memory that all workers have resident, as last looked at"))
	if err != nil {
		return err
	}
	largest, err := s.Meter.Int64ObservableGauge("eider_worker_resident_largest_bytes", metric.WithDescription("Memory that the largest worker has resident"))
	if err != nil {
		return err
	}
	degraded, err := s.Meter.Int64ObservableGauge("eider_projects_degraded", metric.WithDescription("Projects whose workers keep dying"))
	if err != nil {
		return err
	}
	_, err = s.Meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(resident, s.resident.Load())
		o.ObserveInt64(largest, s.largest.Load())
		o.ObserveInt64(degraded, int64(s.Degraded()))
		return nil
	}, resident, largest, degraded)
	return err
}

// watch looks at the memory of every worker, and kills one that has more than its
// limit of address space would let it have: where the kernel keeps that, none. One
// that has little of its addresses left is replaced once nothing runs in it.
func (s *Supervisor) watch() {
	limit := s.starter.setup("").Budget()
	var sum, largest int64
	for _, worker := range s.workers() {
		addresses, held, err := memory(worker.child.Pid)
		if err != nil {
			continue // it has ended
		}
		sum, largest = sum+held, max(largest, held)
		if held > limit {
			s.Log.Error("a worker holds more memory than it may, and is killed", "pid", worker.child.Pid, "resident", held, "limit", limit)
			worker.murder(endedResident)
		}
		if worker.short(addresses, limit) {
			s.Log.Warn("a worker has few addresses left, and is replaced once it is idle", "pid", worker.child.Pid, "addresses", addresses, "limit", worker.addresses)
			worker.worn.Store(true)
		}
	}
	s.resident.Store(sum)
	s.largest.Store(largest)
	s.closeWorn()
}

// wornAt is the share of its budget at which a worker is replaced, in quarters. At
// rest it holds what DuckDB caches, which is a third of the budget or, where that
// is large, half.
const wornAt = 3

// short reports whether the worker is about to have too few addresses, and was not
// yet known to.
func (p *process) short(addresses, budget int64) bool {
	return p.addresses > 0 && addresses > p.addresses-budget+budget/4*wornAt && !p.worn.Load()
}

// workers returns those that are open.
func (s *Supervisor) workers() (all []*process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, held := range s.open {
		select {
		case <-held.ready:
			if held.worker != nil {
				all = append(all, held.worker)
			}
		default:
		}
	}
	return all
}

// memory returns how many bytes of addresses a process has, and of memory that is
// resident.
func memory(pid int) (addresses, resident int64, err error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Sscan(string(text), &addresses, &resident); err != nil {
		return 0, 0, fmt.Errorf("statm is %q: %w", text, err)
	}
	page := int64(os.Getpagesize())
	return addresses * page, resident * page, nil
}

// limitOfAddresses returns what the kernel lets a process have, 0 for no limit.
func limitOfAddresses(pid int) int64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/limits")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "Max address space")
	var limit int64
	if _, err := fmt.Sscan(rest, &limit); err != nil {
		return 0 // it says unlimited
	}
	return limit
}
