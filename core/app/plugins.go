package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/usage"
	"github.com/eiderdb/eider/core/wasm"
)

// pluginCache is where compiled plugins are kept, in the data folder.
const pluginCache = "plugins/.cache"

// openPlugins loads the plugins of the settings and puts the policies among them
// into the chain.
func (a *App) openPlugins(ctx context.Context, kv *wasm.KV, chain *policy.Chain, book *usage.Book) error {
	if err := kv.Open(ctx, a.store); err != nil {
		return err
	}
	held, past, err := a.modes.Held(ctx, a.store.View(), a.Settings.Plugins.Items)
	if err != nil {
		return err
	}
	a.pastModes = past
	keys, err := wasm.ParseKeys(a.Settings.Plugins.TrustedKeys)
	if err != nil {
		return fmt.Errorf("plugins.trusted_keys: %w", err)
	}
	cache := a.options.PluginCache
	if cache == "" {
		cache = a.Settings.path(pluginCache)
	}
	t, view := a.telemetry, a.store.View()
	a.plugins, err = wasm.New(wasm.Options{
		Dir: a.Settings.Top.DataDir, Cache: cache, Log: t.Log, Tracer: t.Tracer, Meter: t.Meter, KV: kv,
		Keys: keys, RequireSignature: a.Settings.Plugins.RequireSignature, Builtin: a.options.Builtin, Chain: chain, Modes: held,
		Changed: a.pluginChanged,
		Metadata: wasm.Metadata{Project: a.register.Project, Usage: func(ctx context.Context, scope string) (usage.Amounts, error) {
			return book.Of(ctx, view, scope)
		}},
	}, a.Settings.Plugins.Items)
	if err != nil {
		return err
	}
	if err := a.plugins.Start(ctx); err != nil {
		return err
	}
	return a.openSinks()
}

// recordPlugins writes what the start did with the plugins into the log: a row for
// each that was loaded or refused, and one for each mode that holds no more.
func (a *App) recordPlugins(ctx context.Context) error {
	at := time.Now()
	var failed []error
	for _, past := range a.pastModes {
		row := startRow("set_plugin_mode", past.Plugin, at, map[string]any{"before": past.Mode, "because": "the settings have another mode than when it was set"})
		failed = append(failed, a.Kernel.Pipeline.Record(ctx, row, func(tx *operation.Tx) error {
			return a.modes.Forget(ctx, tx, past.Plugin)
		}))
	}
	a.pastModes = nil
	for _, p := range a.plugins.Ordered() {
		failed = append(failed, a.Kernel.Pipeline.Record(ctx, loadRow(p, at), nil))
	}
	return errors.Join(failed...)
}

func loadRow(p *wasm.Plugin, at time.Time) audit.Row {
	details := map[string]any{"at": "start", "mode": p.Mode()}
	if v, ok := p.Loaded(); ok {
		details["version"], details["sha256"] = v.Manifest.Version, v.SHA256
		if v.SignedBy != "" {
			details["signed_by"] = v.SignedBy
		}
	}
	row := startRow("load_plugin", p.Name(), at, details)
	if err := p.Refused(); err != nil {
		row.Status, row.Code, row.Error = eider.StatusFailed, string(eider.PluginRefused), "the plugin is refused: "+err.Error()
	}
	return row
}

func startRow(operation, plugin string, at time.Time, details map[string]any) audit.Row {
	text, err := json.Marshal(details)
	if err != nil {
		text = nil // words and numbers alone
	}
	return audit.Row{
		CallID: operation + "-" + plugin + "-" + at.UTC().Format(time.RFC3339Nano), ActorType: eider.ActorSystem, ActorName: "start",
		Operation: operation, ResourceType: "plugin", ResourceID: plugin, Status: eider.StatusSuccess, Details: string(text),
	}
}
