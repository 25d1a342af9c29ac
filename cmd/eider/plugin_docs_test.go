package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/wasm/wasmtest"
)

// The guide is walked in two parts: the server that the second one asks starts with
// the plugin that the first one has built.
func TestTheGuideToPluginsWorks(t *testing.T) {
	dir := t.TempDir()
	text := docText(t, "docs/plugin-guide.md")
	before, after, found := strings.Cut(text, "## Load\n")
	if !found {
		t.Fatal("the guide has no part that loads the plugin")
	}
	walk(t, dir, before, 4)
	s := apptest.Start(t, filepath.Join(dir, "data"), app.Options{Modules: modules(), Version: "test", PluginCache: wasmtest.Cache(t)},
		map[string]string{"plugins.items": `[{name: guard, path: "` + dir + `/guard", mode: enforce, config: {protect: [production]}}]`})
	walk(t, dir, strings.ReplaceAll(after, "http://127.0.0.1:8080", s.URL), 4)
}
