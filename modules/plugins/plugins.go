// Package plugins shows the plugins that the settings name, loads them anew and
// changes their modes while the server runs.
//
// core/wasm holds them and the chain of policies asks them; this package only
// gives operators a hand on both. No policy is asked about its operations: they
// are what a policy that denies everything is mended by.
package plugins

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/wasm"
)

// Plugins is the module.
type Plugins struct {
	host  *wasm.Host
	modes *wasm.Modes
	sinks *audit.Followers

	version string // of this binary
	loads   loads
}

// New returns the module.
func New() *Plugins { return &Plugins{loads: loads{done: map[string]wasm.Loaded{}}} }

var (
	_ core.Module      = (*Plugins)(nil)
	_ core.Provisioner = (*Plugins)(nil)
)

// Name returns "plugins".
func (p *Plugins) Name() string { return "plugins" }

// Declare lists the operations; the handlers follow in this order.
func (p *Plugins) Declare(r *core.Registry) error {
	operation.Read(r.Operations, operation.Spec{
		Name: "list_plugins", Route: "GET /plugins", Role: eider.Admin, Target: "plugin", Ungoverned: true,
		Summary:     "List plugins in the order in which they are asked",
		Description: "Behind them, where audit.file is set, the file that the server writes the log to: a sink without manifest and module.",
	}, p.list)
	operation.Read(r.Operations, operation.Spec{
		Name: "get_plugin", Route: "GET /plugins/{name}", Role: eider.Admin, Target: "plugin", Ungoverned: true, Tagged: true,
		Summary: "Show one plugin, its manifest and how it has done", Errors: []eider.Code{eider.PluginNotFound},
		Description: "The ETag is of what the plugin is and how it is set: how it has done does not change it.",
	}, p.get)
	operation.Write(r.Operations, operation.Spec{
		Name: "set_plugin_mode", Route: "PUT /plugins/{name}/mode", Role: eider.Admin, Target: "plugin", Ungoverned: true, Frees: true, Tagged: true,
		Summary: "Change what a plugin's answers do", Errors: []eider.Code{eider.PluginNotFound, eider.PluginRefused, eider.PreconditionFailed},
		Description: "Holds across restarts, until the settings name another mode than they do now. Setting the mode that the settings have (settings_mode) ends it.",
	}, p.setMode)
	operation.Effect(r.Operations, operation.Spec{
		Name: "load_plugin", Route: "POST /plugins/{name}/reload", Role: eider.Admin, Target: "plugin", Ungoverned: true, Frees: true,
		Slow: true, Tagged: true, Summary: "Load a plugin anew from its files", Errors: []eider.Code{eider.PluginNotFound, eider.PluginRefused, eider.PreconditionFailed},
		Description: "Calls that run end with the version that they began with. A version that fails its self-test is refused, and the one before stays. A load that ends with the server is interrupted, whatever the next start loads: that is another load, with a row of its own.",
	}, operation.Steps[reload, loading, Plugin]{
		Intent: p.plan, Claims: claims, Effect: p.load, Applied: p.loaded, Undo: p.forget, Outcome: p.shown, Revert: unchanged,
	})
	operation.Read(r.Operations, operation.Spec{
		Name: "test_plugin", Route: "POST /plugins/{name}/test", Role: eider.Admin, Target: "plugin", Ungoverned: true,
		Summary: "Ask a policy about a made-up event", Errors: []eider.Code{eider.PluginNotFound, eider.PluginRefused},
		Description: "Without effect: a guest is made for it alone, nothing is counted or sent, and the policy's memory is empty and forgotten. Members of the event that are left out are empty.",
	}, p.test)
	operation.Write(r.Operations, operation.Spec{
		Name: "skip_batch", Route: "POST /plugins/{name}/skip", Role: eider.Admin, Target: "plugin", Ungoverned: true, Frees: true,
		Summary: "Leave out rows that a sink does not take", Errors: []eider.Code{eider.PluginNotFound, eider.PluginRefused, eider.PreconditionFailed},
		Description: "The sink never gets them; the log keeps them. first_id is the row that it would be given next: batch.first_id of GET /plugins/{name}, or the one behind its cursor.",
	}, p.skip)
	return nil
}

// Provision takes the host.
func (p *Plugins) Provision(_ context.Context, k *core.Kernel) error {
	p.host, p.modes, p.sinks, p.version = k.Plugins, k.PluginModes, k.Sinks, k.Version
	return nil
}

// Plugin is a plugin as the API shows it.
type Plugin struct {
	Name         string         `json:"name"`
	Kind         string         `json:"kind" enum:"policy,sink,unknown"`
	Release      string         `json:"version" doc:"As the manifest has it"`
	SHA256       string         `json:"sha256"`
	ManifestSHA  string         `json:"manifest_sha256,omitempty" doc:"Of plugin.yaml"`
	SignedBy     string         `json:"signed_by,omitempty" doc:"The first half of the sha256 of the trusted key"`
	Mode         policy.Mode    `json:"mode" enum:"enforce,warn,dry_run,off"`
	SettingsMode policy.Mode    `json:"settings_mode" enum:"enforce,warn,dry_run,off" doc:"What the settings say; mode is another where it was set since"`
	Fail         string         `json:"fail" enum:"closed,open"`
	Priority     int            `json:"priority"`
	Projects     []string       `json:"projects"`
	Percent      int            `json:"percent"`
	Capabilities []string       `json:"capabilities" doc:"Those that are granted"`
	State        string         `json:"state" enum:"ready,failed,not_loaded,off"`
	Manifest     *wasm.Manifest `json:"manifest,omitempty"`
	wasm.Figures
	Sink *audit.SinkState `json:"sink,omitempty" doc:"How a sink is getting on with the log"`
}

// Version is what the ETag is of: the plugin without how it is doing.
func (p Plugin) Version() any {
	p.State, p.Figures, p.Sink = "", wasm.Figures{}, nil
	return p
}

type pluginList struct {
	Plugins []Plugin `json:"plugins"`
	Total   int      `json:"total"`
}

func (p *Plugins) list(context.Context, *operation.View, struct{}) (pluginList, error) {
	l := pluginList{Plugins: []Plugin{}}
	for _, one := range p.host.Ordered() {
		l.Plugins = append(l.Plugins, p.shownAs(one))
	}
	if p.isFile(audit.FileSink) {
		l.Plugins = append(l.Plugins, p.file())
	}
	l.Total = len(l.Plugins)
	return l, nil
}

type named struct {
	Name string `path:"name" json:"-"`
}

func (p *Plugins) find(ctx context.Context, name string) (*wasm.Plugin, error) {
	operation.From(ctx).Resource(name)
	found := p.host.Plugin(name)
	switch {
	case found == nil && p.isFile(name):
		return nil, eider.Errorf(eider.PluginRefused, "the server itself writes this file: it is no plugin, and audit.file of the settings changes it")
	case found == nil:
		return nil, eider.Errorf(eider.PluginNotFound, "the settings name no such plugin")
	}
	return found, nil
}

func (p *Plugins) get(ctx context.Context, _ *operation.View, in named) (Plugin, error) {
	if p.isFile(in.Name) {
		operation.From(ctx).Resource(in.Name)
		return p.file(), nil
	}
	found, err := p.find(ctx, in.Name)
	if err != nil {
		return Plugin{}, err
	}
	return p.shownAs(found), nil
}

func (p *Plugins) shownAs(one *wasm.Plugin) Plugin {
	i := one.Item()
	out := Plugin{
		Name: i.Name, Kind: cmp.Or(one.Kind(), "unknown"), Mode: one.Mode(), SettingsMode: one.SettingsMode(), Fail: one.Fail(), Priority: i.Priority, Projects: i.Projects, Percent: i.Percent,
		Capabilities: i.Capabilities, State: one.State(), Figures: one.Figures(), Sink: p.sinks.Sink(audit.PluginSink(i.Name)),
	}
	if out.Projects == nil {
		out.Projects = []string{}
	}
	if out.Capabilities == nil {
		out.Capabilities = []string{}
	}
	if v, ok := one.Loaded(); ok {
		out.Release, out.SHA256, out.ManifestSHA = v.Manifest.Version, v.SHA256, v.ManifestSHA256
		out.SignedBy, out.Manifest = v.SignedBy, &v.Manifest
	}
	return out
}

type setMode struct {
	Name    string `path:"name" json:"-"`
	IfMatch string `header:"If-Match" json:"-" doc:"Change only if the ETag is still this one"`
	Mode    string `json:"mode" required:"true" enum:"enforce,warn,dry_run,off"`
}

func (p *Plugins) setMode(ctx context.Context, tx *operation.Tx, in setMode) (Plugin, error) {
	found, err := p.find(ctx, in.Name)
	if err != nil {
		return Plugin{}, err
	}
	out, err := p.match(ctx, tx, found, in.IfMatch)
	if err != nil {
		return Plugin{}, err
	}
	call := operation.From(ctx)
	call.Detail("mode", in.Mode)
	call.Detail("before", out.Mode)
	if err := p.modes.Keep(ctx, tx, found.Item(), policy.Mode(in.Mode)); err != nil {
		return Plugin{}, err
	}
	out.Mode = policy.Mode(in.Mode)
	tx.After(func() { found.SetMode(out.Mode) })
	return out, nil
}

// match returns the plugin as the group of changes that runs sees it, and refuses one
// that is another than If-Match says. The plugin itself has a mode once it is committed:
// by that alone two changes of one group would both be of the same ETag.
func (p *Plugins) match(ctx context.Context, tx *operation.Tx, found *wasm.Plugin, ifMatch string) (Plugin, error) {
	out := p.shownAs(found)
	var err error
	if out.Mode, err = p.modes.Of(ctx, tx, found.Item()); err != nil {
		return Plugin{}, err
	}
	return out, operation.CheckMatch(ifMatch, out)
}

type testPlugin struct {
	Name  string          `path:"name" json:"-"`
	Event json.RawMessage `json:"event" required:"true" schema:"object" doc:"As docs/plugin-abi.md describes it"`
}

type tested struct {
	Decision     string     `json:"decision" enum:"allow,deny,warn"`
	Reason       string     `json:"reason"`
	Code         eider.Code `json:"code,omitempty"`
	RetryAfterMS int64      `json:"retry_after_ms,omitempty"`
	Fuel         int64      `json:"fuel"`
}

func (p *Plugins) test(ctx context.Context, _ *operation.View, in testPlugin) (tested, error) {
	found, err := p.find(ctx, in.Name)
	if err != nil {
		return tested{}, err
	}
	var e wasm.Event
	if err := json.Unmarshal(in.Event, &e); err != nil {
		return tested{}, eider.Invalid("event", "is no event: %v", err)
	}
	d, err := found.Try(ctx, &e)
	if err != nil {
		reason := "it could not decide"
		if u := policy.Unable(""); errors.As(err, &u) {
			reason = string(u)
		}
		return tested{}, eider.Errorf(eider.PluginRefused, "plugin %s: %s", in.Name, reason).Because(err)
	}
	out := tested{Decision: "allow", Reason: d.Reason, Fuel: d.Fuel}
	switch {
	case d.Deny:
		out.Decision, out.Code, out.RetryAfterMS = "deny", d.Code, int64(d.Retry)*1000
	case len(d.Warning) > 0:
		out.Decision = "warn"
	}
	return out, nil
}

type skipBatch struct {
	Name    string `path:"name" json:"-"`
	FirstID int64  `json:"first_id" required:"true" minimum:"1"`
	LastID  int64  `json:"last_id" required:"true" minimum:"1"`
	DryRun  *bool  `json:"dry_run,omitempty" doc:"Only say what would be skipped: true if absent"`
}

type skipped struct {
	Plugin  string `json:"plugin"`
	DryRun  bool   `json:"dry_run"`
	FirstID int64  `json:"first_id"`
	LastID  int64  `json:"last_id"`
	Rows    int64  `json:"rows" doc:"Of the log, with those that the sink's filters leave out"`
}

// skip moves a sink's cursor behind rows. What it leaves out, and who wanted that,
// is in the row of the call.
func (p *Plugins) skip(ctx context.Context, tx *operation.Tx, in skipBatch) (skipped, error) {
	name := audit.PluginSink(in.Name)
	if p.isFile(in.Name) { // it may wait for rows whose archive is gone
		name = audit.FileSink
		operation.From(ctx).Resource(in.Name)
	} else if _, err := p.find(ctx, in.Name); err != nil {
		return skipped{}, err
	}
	call := operation.From(ctx)
	call.Detail("first_id", in.FirstID)
	call.Detail("last_id", in.LastID)
	dry := in.DryRun == nil || *in.DryRun
	call.Detail("dry_run", dry)
	out := skipped{in.Name, dry, in.FirstID, in.LastID, in.LastID - in.FirstID + 1}
	if dry {
		return out, p.sinks.CheckSkip(name, in.FirstID, in.LastID)
	}
	return out, p.sinks.Skip(ctx, tx, name, in.FirstID, in.LastID)
}
