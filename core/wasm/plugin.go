package wasm

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eiderdb/eider/core/policy"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
)

const errNotLoaded = policy.Unable("it is not loaded")

var (
	errNoSink = errors.New("it is no sink")
	errEnded  = errors.New("the server has ended")
)

// Plugin is an item of the settings and the version of it that is loaded, if any.
type Plugin struct {
	host     *Host
	item     Item
	spanName string // of a call

	current atomic.Pointer[version] // nil: nothing is loaded
	figures figures

	loading chan struct{} // holds one while it is loaded, which may take long: only loads wait for it
	trying  chan struct{} // holds one while a guest is made and asked without effect

	mu     sync.Mutex // never held while anything is read, compiled or asked
	mode   policy.Mode
	closed bool     // nothing is put in place any more
	failed error    // why the last load failed
	kind   string   // once it is known: it stays until the server starts anew
	wanted []string // operations, as the manifest says of what could not be loaded
}

func newPlugin(h *Host, item Item) *Plugin {
	p := &Plugin{host: h, item: item, spanName: "plugin " + item.Name, mode: item.mode(), loading: make(chan struct{}, 1), trying: make(chan struct{}, 1)}
	if set, ok := h.Modes[item.Name]; ok {
		p.mode = set
	}
	return p
}

// Name returns the item's name.
func (p *Plugin) Name() string { return p.item.Name }

// SetMode changes the mode. Modes keep it.
func (p *Plugin) SetMode(m policy.Mode) {
	p.mu.Lock()
	p.mode = m
	p.mu.Unlock()
	if err := p.host.refresh(); err != nil { // every item was checked when it was loaded
		p.host.Log.Error("the mode of a plugin could not be changed", "plugin", p.item.Name, "error", err)
	}
	p.host.changed(p.item.Name)
}

// Item returns the plugin as the settings have it.
func (p *Plugin) Item() Item { return p.item }

// SettingsMode returns the mode that the settings have.
func (p *Plugin) SettingsMode() policy.Mode { return p.item.mode() }

// Fail says what becomes of a call that the plugin could not decide: closed or
// open.
func (p *Plugin) Fail() string {
	if p.item.Fail != "" {
		return p.item.Fail
	}
	if v := p.current.Load(); v != nil && v.manifest.Kind == Sink {
		return "open"
	}
	return "closed"
}

// Loaded is what is known of the version that is loaded.
type Loaded struct {
	Manifest                         Manifest
	SHA256, ManifestSHA256, SignedBy string
}

// Loaded returns what is loaded, false if nothing is.
func (p *Plugin) Loaded() (Loaded, bool) {
	v := p.current.Load()
	if v == nil {
		return Loaded{}, false
	}
	return v.loaded(), true
}

func (v *version) loaded() Loaded {
	return Loaded{v.manifest, v.sha256, v.manifestSHA256, v.signedBy}
}

// Refused returns why the last load failed, nil if it did not.
func (p *Plugin) Refused() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// Mode returns the mode.
func (p *Plugin) Mode() policy.Mode {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode
}

// Kind returns what the plugin is, Policy or Sink, also where it could not be loaded
// and its manifest alone said so when that was tried; "" where not even that could be
// read.
func (p *Plugin) Kind() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kind
}

// claimed returns what the manifest of something says that cannot be loaded: its kind
// and which operations it wants. A manifest whose pin or signature does not
// hold is not believed: it could turn a policy that denies into a sink that is not asked.
func (h *Host) claimed(item Item) (kind string, operations []string) {
	s, _ := h.read(item.Path) // the module may be missing
	if pin := item.ManifestSHA256; pin != "" && !strings.EqualFold(pin, digest(s.manifest)) {
		return "", nil
	}
	if _, err := h.signer(item.Path, s); err != nil {
		return "", nil
	}
	return s.parsed.Kind, s.parsed.Operations
}

// chained returns the plugin as the chain has it, false where it is no policy.
func (p *Plugin) chained() (policy.Item, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := policy.Item{
		Name: p.item.Name, Policy: p, Mode: p.mode, FailOpen: p.item.Fail == "open", Priority: p.item.Priority,
		Projects: p.item.Projects, Percent: p.item.Percent,
	}
	if v := p.current.Load(); v != nil {
		i.Version, i.SHA256, i.Operations = v.manifest.Version, v.sha256, v.manifest.Operations
		return i, v.manifest.Kind == Policy
	}
	// What could not be loaded may be a sink, of which nothing is asked.
	i.Operations = p.wanted
	return i, p.kind != Sink
}

var _ policy.Policy = (*Plugin)(nil)

// Decide asks a guest, unless the manifest's expression says that it need not be.
func (p *Plugin) Decide(ctx context.Context, q *policy.Question) (policy.Decision, error) {
	ctx, span := p.host.Tracer.Start(ctx, p.spanName)
	defer span.End()
	begun := time.Now()
	d, v, err := p.ask(ctx, eventOf(q))
	outcome := outcomeOf(d, err)
	if v != nil {
		d.Version, d.SHA256 = v.manifest.Version, v.sha256
	}
	if span.IsRecording() { // nobody pays for the attributes of a span that is not kept
		span.SetAttributes(attribute.String("eider.plugin", p.item.Name), attribute.String("eider.plugin_version", d.Version),
			attribute.String("eider.decision", outcome), attribute.Int64("eider.fuel", d.Fuel))
	}
	if err != nil {
		span.SetStatus(codes.Error, "the plugin could not decide")
	}
	p.count(ctx, outcome, time.Since(begun), d.Fuel, err)
	return d, err
}

// ask takes a guest, asks it, and gives it back or buries it. Where a version was
// replaced meanwhile, the next one is asked.
func (p *Plugin) ask(ctx context.Context, e *Event) (policy.Decision, *version, error) {
	caller := e.caller()
	for {
		v := p.current.Load()
		if v == nil {
			return policy.Decision{}, nil, errNotLoaded
		}
		if !v.filter.passes(&eventView{e: e}) {
			return policy.Decision{Spared: true}, v, nil
		}
		g, err := v.pool.take(ctx, caller)
		if errors.Is(err, errClosed) && p.current.Load() != v {
			continue
		}
		if err != nil {
			return policy.Decision{}, v, err
		}
		d, sound, err := g.decide(ctx, e)
		v.pool.takeBack(g, caller, sound, err)
		return d, v, err
	}
}

// decide asks the guest. sound is false if it may not be used again.
func (g *guest) decide(ctx context.Context, e *Event) (d policy.Decision, sound bool, err error) {
	message, err := e.encode(g.flat, g.event[:0])
	if err != nil {
		return d, true, err
	}
	g.event = message
	g.begin(ctx, g.v.callFuel(len(message)), decideWithin)
	defer func() { g.running = nil }()
	answer, err := g.exchange(message)
	d.Fuel = g.fuel.used()
	if errors.Is(err, errNoRoom) {
		return d, true, err
	}
	if err != nil {
		return d, false, err
	}
	fuel := d.Fuel
	if d, err = decodeDecision(g.flat, answer); err != nil {
		err = &failure{errMalformed, err}
	}
	d.Fuel = fuel
	return d, err == nil, err
}

func outcomeOf(d policy.Decision, err error) string {
	switch {
	case err != nil:
		return "error"
	case d.Spared:
		return spared
	case d.Deny:
		return "deny"
	case len(d.Warning) > 0:
		return "warn"
	}
	return "allow"
}

// State says how the plugin is doing: off, ready, failed, or not_loaded.
func (p *Plugin) State() string {
	if p.Mode() == policy.Off {
		return "off"
	}
	v := p.current.Load()
	if v == nil {
		return "not_loaded"
	}
	state, _, _, _ := v.pool.state()
	return state
}

func (p *Plugin) close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	if v := p.current.Swap(nil); v != nil {
		return v.end(ctx)
	}
	return nil
}
