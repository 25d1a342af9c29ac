package projectdb

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/eiderdb/eider/core/projectdb/confine"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// probeWithin is what a probe may take.
const probeWithin = 10 * time.Second

// Probe finds out what confines workers on this machine: a worker confines itself
// to an empty folder and tells. Operators see it at start, in the details of
// health, and in metrics.
func (s *Supervisor) Probe(ctx context.Context) (confine.State, error) {
	var state confine.State
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	folder, err := os.MkdirTemp("", "eider-probe")
	if err != nil {
		return state, fmt.Errorf("probe the confinement: %w", err)
	}
	defer os.RemoveAll(folder)
	for _, sub := range []string{"db", "in", "out"} {
		if err := os.Mkdir(filepath.Join(folder, sub), 0o700); err != nil {
			return state, fmt.Errorf("probe the confinement: %w", err)
		}
	}
	c := exec.CommandContext(ctx, s.Command[0], append(append([]string(nil), s.Command[1:]...), "--probe", folder)...)
	c.Env, c.Stderr = []string{}, os.Stderr
	text, err := c.Output()
	if err == nil {
		err = json.Unmarshal(text, &state)
	}
	if err != nil {
		return state, fmt.Errorf("probe the confinement: %w", err)
	}
	s.probed.Store(&state)
	return state, nil
}

// Confined reports what the last probe found; known is false before it.
func (s *Supervisor) Confined() (holds, known bool) {
	state := s.probed.Load()
	return state != nil && state.Confined(), state != nil
}

// observeConfinement reports each layer as 1 or 0.
func (s *Supervisor) observeConfinement() error {
	_, err := s.Meter.Int64ObservableGauge("eider_worker_confinement", metric.WithDescription("Whether a layer of the confinement holds"),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			state := s.probed.Load()
			if state == nil {
				return nil
			}
			for _, l := range state.Layers() {
				value := int64(0)
				if l.Holds {
					value = 1
				}
				o.Observe(value, metric.WithAttributes(attribute.String("layer", l.Name)))
			}
			return nil
		}))
	return err
}
