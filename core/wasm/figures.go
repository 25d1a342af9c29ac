package wasm

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// instruments are what all plugins are measured by.
type instruments struct {
	calls   metric.Int64Counter
	seconds metric.Float64Histogram
	fuel    metric.Int64Histogram
}

func newInstruments(m metric.Meter) (i instruments, err error) {
	if i.calls, err = m.Int64Counter("eider_plugin_calls_total", metric.WithDescription("Calls of plugins by what they answered")); err != nil {
		return i, fmt.Errorf("create eider_plugin_calls_total: %w", err)
	}
	i.seconds, err = m.Float64Histogram("eider_plugin_call_seconds", metric.WithDescription("Time of a plugin's call, waiting for a guest included"),
		metric.WithExplicitBucketBoundaries(.000002, .000005, .00001, .00002, .00005, .0001, .0005, .001, .01, .1, 1))
	if err != nil {
		return i, fmt.Errorf("create eider_plugin_call_seconds: %w", err)
	}
	i.fuel, err = m.Int64Histogram("eider_plugin_call_fuel", metric.WithDescription("Fuel that a plugin's call has used"),
		metric.WithExplicitBucketBoundaries(100, 1000, 10_000, 100_000, 1_000_000, 10_000_000))
	if err != nil {
		return i, fmt.Errorf("create eider_plugin_call_fuel: %w", err)
	}
	return i, nil
}

// spared is the outcome of a call that never entered a guest.
const spared = "spared"

// recent is how many calls the percentiles look back on.
const recent = 512

// figures are what GET /plugins shows of one plugin.
type figures struct {
	mu      sync.Mutex
	calls   int64
	spared  int64
	denials int64
	errors  int64
	last    string
	lastAt  time.Time
	times   [recent]time.Duration
	filled  int
	next    int

	labels map[string]metric.MeasurementOption
}

// Figures are how a plugin has done since the server started.
type Figures struct {
	Calls       int64      `json:"calls"`
	Spared      int64      `json:"spared" doc:"Calls of which the manifest's expression said that no guest need be asked"`
	Denials     int64      `json:"denials"`
	Errors      int64      `json:"errors"`
	P50         float64    `json:"p50_us" doc:"Of the last 512 calls that entered a guest, in microseconds"`
	P99         float64    `json:"p99_us"`
	Guests      int        `json:"guests" doc:"That wait for a call"`
	Replaced    int64      `json:"replaced" doc:"Guests that were thrown away"`
	MemoryBytes int64      `json:"memory_bytes" doc:"Of all guests together, at most"`
	LastError   string     `json:"last_error,omitempty"`
	LastErrorAt *time.Time `json:"last_error_at,omitempty"`
}

func (p *Plugin) count(ctx context.Context, outcome string, took time.Duration, fuel int64, err error) {
	f := &p.figures
	f.mu.Lock()
	f.calls++
	switch outcome {
	case "deny":
		f.denials++
	case spared:
		f.spared++
	}
	if err != nil {
		f.errors++
		f.last, f.lastAt = cut(err.Error(), maxReason), time.Now().UTC().Truncate(time.Microsecond)
	}
	if outcome != spared {
		f.times[f.next] = took
		f.next = (f.next + 1) % recent
		f.filled = min(f.filled+1, recent)
	}
	label := f.label(p.item.Name, outcome)
	f.mu.Unlock()
	m := &p.host.metrics
	m.calls.Add(ctx, 1, label)
	m.seconds.Record(ctx, took.Seconds(), label)
	if fuel > 0 {
		m.fuel.Record(ctx, fuel, label)
	}
}

func (f *figures) label(plugin, outcome string) metric.MeasurementOption {
	if l, ok := f.labels[outcome]; ok {
		return l
	}
	if f.labels == nil {
		f.labels = map[string]metric.MeasurementOption{}
	}
	l := metric.WithAttributeSet(attribute.NewSet(attribute.String("plugin", plugin), attribute.String("outcome", outcome)))
	f.labels[outcome] = l
	return l
}

// Figures returns how the plugin has done.
func (p *Plugin) Figures() Figures {
	f := &p.figures
	f.mu.Lock()
	out := Figures{Calls: f.calls, Spared: f.spared, Denials: f.denials, Errors: f.errors, LastError: f.last}
	if f.last != "" {
		at := f.lastAt
		out.LastErrorAt = &at
	}
	times := slices.Clone(f.times[:f.filled])
	f.mu.Unlock()
	slices.Sort(times)
	if n := len(times); n > 0 {
		out.P50 = float64(times[n/2].Nanoseconds()) / 1000
		out.P99 = float64(times[n*99/100].Nanoseconds()) / 1000
	}
	if err := p.Refused(); err != nil {
		out.LastError = cut(err.Error(), maxReason)
	}
	if v := p.current.Load(); v != nil {
		_, _, out.Replaced, out.Guests = v.pool.state()
		out.MemoryBytes = v.pool.memory()
	}
	return out
}
