package app

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/wasm"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// behind refuses changes while a sink lags that they wait for.
func (a *App) behind() error { return a.followers.Refusal() }

// following are the followers that run. One may begin while the server serves: a sink
// that can be read now and could not at the start.
type following struct {
	mu      sync.Mutex
	ctx     context.Context // nil: none runs yet
	cancel  context.CancelFunc
	ended   bool
	names   map[string]bool
	running sync.WaitGroup
}

// begin runs do beside its caller, once announce has returned, unless one of the name
// runs or all have been told to end.
func (f *following) begin(name string, announce, do func(context.Context)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended || f.names[name] {
		return
	}
	if f.names == nil {
		f.ctx, f.cancel = context.WithCancel(context.Background())
		f.names = map[string]bool{}
	}
	f.names[name] = true
	announce(f.ctx)
	f.running.Go(func() { do(f.ctx) })
}

// end tells all to end, and waits until they have.
func (f *following) end() {
	f.mu.Lock()
	f.ended = true
	if f.cancel != nil {
		f.cancel()
	}
	f.mu.Unlock()
	f.running.Wait()
}

// follow runs the follower until the server stops.
func (a *App) follow(f audit.Follower) {
	a.following.begin(f.Name, func(ctx context.Context) {
		if err := a.followers.Announce(ctx, f); err != nil {
			a.telemetry.Log.Error("the cursor of a follower cannot be read", "follower", f.Name, "error", err)
		}
	}, func(ctx context.Context) {
		if err := a.followers.Run(ctx, f, followDrain); err != nil {
			a.telemetry.Log.Error("a follower of the log stopped early", "follower", f.Name, "error", err)
		}
	})
}

// pluginChanged has a sink that was loaded anew, or whose mode has changed, go on at
// once. Of one that could not be read at the start it is known only now that it is one.
func (a *App) pluginChanged(name string) {
	if p := a.plugins.Plugin(name); p != nil && p.Kind() == wasm.Sink {
		a.follow(p.Follower())
	}
	a.followers.Wake(audit.PluginSink(name))
}

// sinks returns those that there are. Of what cannot be read nothing is known: it is
// followed if changes are to wait for it, so that they do.
func (a *App) sinks() (all []audit.Follower) {
	for _, p := range a.plugins.Ordered() {
		kind := p.Kind()
		if kind == wasm.Sink || kind == "" && slices.Contains(a.Settings.Audit.StrictSinks, p.Name()) {
			all = append(all, p.Follower())
		}
	}
	if a.file != nil {
		all = append(all, a.file.Follower())
	}
	return all
}

// openSinks finds out which sinks there are, and holds the names that changes wait for
// against them.
func (a *App) openSinks() error {
	s := a.Settings.Audit
	if s.File != "" {
		path := s.File
		if !filepath.IsAbs(path) {
			path = a.Settings.path(path)
		}
		if a.plugins.Plugin(audit.FileSink) != nil {
			return fmt.Errorf("%w: plugins.items: %s is the name of the sink that audit.file makes", ErrSettings, audit.FileSink)
		}
		a.file = &audit.File{Path: filepath.Clean(path), MaxSize: int64(s.FileMaxSize), Keep: s.FileKeep, Files: a.options.Files}
	}
	f := a.followers
	f.Archive, f.Signer, f.Hold = a.Settings.path(archiveDir), a.signs, time.Duration(s.SinkHold)
	f.Strict = audit.Strict{Lag: time.Duration(s.StrictLag)}
	for _, sink := range a.sinks() {
		f.Declared = append(f.Declared, sink.Name)
	}
	for _, name := range s.StrictSinks {
		full := name
		if name != audit.FileSink || s.File == "" {
			full = audit.PluginSink(name)
		}
		if !slices.Contains(f.Declared, full) {
			return fmt.Errorf("%w: audit.strict_sinks: there is no sink %s", ErrSettings, name)
		}
		f.Strict.Sinks = append(f.Strict.Sinks, full)
	}
	return nil
}

// observeSinks reports how the sinks are doing.
func (a *App) observeSinks() error {
	err := a.gauges(
		gauge{"eider_sink_cursor_row", "Id of the row of the log up to which a sink has taken all", func(_ context.Context, tell func(int64, ...attribute.KeyValue)) error {
			a.eachSink(func(sink attribute.KeyValue, s *audit.SinkState) { tell(s.Cursor, sink) })
			return nil
		}},
		gauge{"eider_sink_lag_rows", "Rows of the log that a sink has not taken", func(_ context.Context, tell func(int64, ...attribute.KeyValue)) error {
			a.eachSink(func(sink attribute.KeyValue, s *audit.SinkState) { tell(s.Behind, sink) })
			return nil
		}},
		gauge{"eider_sink_lag_seconds", "Age of the oldest row that a sink was given and has not taken, 0 without one", func(_ context.Context, tell func(int64, ...attribute.KeyValue)) error {
			a.eachSink(func(sink attribute.KeyValue, s *audit.SinkState) {
				age := time.Duration(0)
				if s.OldestAt != nil {
					age = max(0, time.Since(*s.OldestAt))
				}
				tell(int64(age.Seconds()), sink)
			})
			return nil
		}},
		gauge{"eider_sink_state", "1 for the state that a sink is in, 0 for the others", func(_ context.Context, tell func(int64, ...attribute.KeyValue)) error {
			a.eachSink(func(sink attribute.KeyValue, s *audit.SinkState) {
				for _, state := range audit.SinkStates {
					n := int64(0)
					if state == s.State {
						n = 1
					}
					tell(n, sink, attribute.String("state", state))
				}
			})
			return nil
		}},
	)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		name, description string
		of                func(audit.SinkFigures) int64
	}{
		{"eider_sink_rows_total", "Rows of the log that a sink has taken, or its own filters have left out", func(f audit.SinkFigures) int64 { return f.Rows }},
		{"eider_sink_batches_total", "Batches that a sink was given, those that it did not take included", func(f audit.SinkFigures) int64 { return f.Calls }},
		{"eider_sink_failures_total", "Batches that a sink has not taken", func(f audit.SinkFigures) int64 { return f.Errors }},
	} {
		_, err := a.telemetry.Meter.Int64ObservableCounter(c.name, metric.WithDescription(c.description), metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			for _, name := range a.followers.Sinks() {
				if f, ok := a.followers.SinkFigures(name); ok {
					o.Observe(c.of(f), metric.WithAttributes(attribute.String("sink", audit.SinkName(name))))
				}
			}
			return nil
		}))
		if err != nil {
			return fmt.Errorf("create %s: %w", c.name, err)
		}
	}
	return nil
}

// eachSink calls do with how each sink of the log is doing.
func (a *App) eachSink(do func(sink attribute.KeyValue, s *audit.SinkState)) {
	for _, name := range a.followers.Sinks() {
		if s := a.followers.Sink(name); s != nil {
			do(attribute.String("sink", audit.SinkName(name)), s)
		}
	}
}
