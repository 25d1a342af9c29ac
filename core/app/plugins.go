package app

import (
	"context"
	"fmt"

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
		Keys: keys, RequireSignature: a.Settings.Plugins.RequireSignature, Builtin: a.options.Builtin, Chain: chain,
		Metadata: wasm.Metadata{Project: a.register.Project, Usage: func(ctx context.Context, scope string) (usage.Amounts, error) {
			return book.Of(ctx, view, scope)
		}},
	}, a.Settings.Plugins.Items)
	if err != nil {
		return err
	}
	return a.plugins.Start(ctx)
}
