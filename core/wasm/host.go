package wasm

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/usage"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Options is what a host is made of.
type Options struct {
	Dir              string // the data folder: paths of items begin there
	Cache            string // folder of compiled modules, which only the server may write to
	Log              *slog.Logger
	Tracer           trace.Tracer
	Meter            metric.Meter
	KV               *KV
	Metadata         Metadata
	Keys             []ed25519.PublicKey
	RequireSignature bool
	// Builtin reads a file of the plugins that the binary brings, by the plugin's
	// name and the file's; nil: it brings none.
	Builtin func(name string) ([]byte, error)
	// Modes has the modes that were set and hold, by plugin, in place of the settings'.
	Modes map[string]policy.Mode
	// Changed is told of a plugin that was loaded anew or whose mode has changed; nil:
	// nobody is.
	Changed func(name string)
	// Chain is told which policies there are, whenever that changes.
	Chain *policy.Chain
}

// Metadata is what a plugin may ask of the register.
type Metadata struct {
	Project func(id string) (eider.Project, bool)
	Usage   func(ctx context.Context, scope string) (usage.Amounts, error)
}

// Host holds the plugins of a server.
type Host struct {
	Options
	codes   *codeCache
	metrics instruments
	plugins []*Plugin // in the order of the settings

	telling sync.Mutex // held while the chain is told: the newest state is told last
}

// New returns a host with the items, none of which is loaded yet.
func New(o Options, items []Item) (*Host, error) {
	codes, err := openCodeCache(filepath.Join(o.Cache, "compiled"), o.Log)
	if err != nil {
		return nil, err
	}
	h := &Host{Options: o, codes: codes}
	if h.metrics, err = newInstruments(o.Meter); err != nil {
		return nil, err
	}
	for _, item := range items {
		h.plugins = append(h.plugins, newPlugin(h, item))
	}
	return h, nil
}

// ParseKeys reads ed25519 public keys in base64.
func ParseKeys(texts []string) ([]ed25519.PublicKey, error) { return parseKeys(texts) }

// Start loads the plugins and says which policies there are. One that cannot be
// loaded keeps nobody else down: it cannot decide, and that is all. If ctx ends, it
// returns at once.
func (h *Host) Start(ctx context.Context) error {
	for _, p := range h.plugins {
		err := p.Load(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("load the plugins: %w", ctx.Err())
		}
		if err != nil {
			h.Log.Error("a plugin could not be loaded", "plugin", p.Name(), "error", err)
		}
	}
	h.codes.start()
	return h.refresh()
}

// refresh tells the chain what has changed.
func (h *Host) refresh() error {
	if h.Chain == nil {
		return nil
	}
	h.telling.Lock()
	defer h.telling.Unlock()
	var items []policy.Item
	for _, p := range h.plugins {
		if item, ok := p.chained(); ok {
			items = append(items, item)
		}
	}
	return h.Chain.Replace(items)
}

// changed tells that a plugin is another than it was.
func (h *Host) changed(name string) {
	if h.Changed != nil {
		h.Changed(name)
	}
}

// Ordered returns the plugins as they are asked: by priority, then by name.
func (h *Host) Ordered() []*Plugin {
	all := slices.Clone(h.plugins)
	slices.SortStableFunc(all, func(a, b *Plugin) int {
		return cmp.Or(cmp.Compare(b.item.Priority, a.item.Priority), cmp.Compare(a.item.Name, b.item.Name))
	})
	return all
}

// Plugin returns the one with the name, nil if there is none.
func (h *Host) Plugin(name string) *Plugin {
	for _, p := range h.plugins {
		if p.Name() == name {
			return p
		}
	}
	return nil
}

// Healthy reports whether every plugin that is to do something can.
func (h *Host) Healthy() bool {
	for _, p := range h.plugins {
		if s := p.State(); s != "ready" && s != "off" {
			return false
		}
	}
	return true
}

// Close lets go of everything. Calls that run end first.
func (h *Host) Close(ctx context.Context) error {
	h.codes.close()
	var failed []error
	for _, p := range h.plugins {
		failed = append(failed, p.close(ctx))
	}
	return errors.Join(failed...)
}

// read answers a question of metadata_read.
func (m *Metadata) read(ctx context.Context, question []byte) ([]byte, int64) {
	var q struct{ Get, ID string }
	if err := json.Unmarshal(question, &q); err != nil {
		return nil, codeMalformed
	}
	var answer struct {
		Project *EventProject `json:"project,omitempty"`
		Usage   usage.Amounts `json:"usage"`
	}
	scope := usage.Server
	switch q.Get {
	case "server":
	case "project":
		p, ok := m.Project(q.ID)
		if !ok {
			return nil, codeNotFound
		}
		answer.Project, scope = projectOf(&p), p.UID
	default:
		return nil, codeMalformed
	}
	var err error
	if answer.Usage, err = m.Usage(ctx, scope); err != nil {
		return nil, codeFailed
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return nil, codeFailed
	}
	return text, 0
}
