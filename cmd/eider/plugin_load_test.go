package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/wasm/wasmtest"
)

// A server that is told to stop while it starts does so, with code 0, whatever a plugin
// is at: this one spends fuel for seconds before it could be there.
func TestAServerStopsWhileAPluginStarts(t *testing.T) {
	t.Parallel()
	start := 4
	module := wasmtest.Policy(nil, func(m *wasmtest.Module) {
		m.Funcs = append(m.Funcs, wasmtest.Func{Code: wasmtest.Cat(0x03, 0x40, 0x0c, 0, 0x0b)}) // a loop without end
		m.Start = &start
	})
	dir, plugin := t.TempDir(), wasmtest.Folder(t, module, wasmtest.Manifest)
	stoppedOnce(t, dir, os.Stderr, []string{`EIDER_PLUGINS_ITEMS=[{name: x, path: "` + plugin + `", start_fuel: 2000000000}]`}, "it loads", func(string) bool {
		valid, err := filepath.Glob(filepath.Join(dir, "plugins", ".cache", "valid-*")) // before it is compiled
		mustDo(t, err)
		return len(valid) > 0
	})
}

// While a plugin is loaded anew, however long that takes, the server answers: plugins are
// shown, the mode of another changes, and what writes does so.
func TestTheServerAnswersWhileAPluginLoads(t *testing.T) {
	t.Parallel()
	module := wasmtest.Policy(nil, nil)
	held := wasmtest.NewHeld(module)
	o := app.Options{Modules: modules(), Builtin: held.Read}
	s := apptest.Start(t, t.TempDir(), o, map[string]string{
		"plugins.items": `[{name: slow, path: "builtin:slow", guests: 1}, {name: other, path: "` + wasmtest.Folder(t, module, wasmtest.Manifest) + `", guests: 1}]`})
	loaded, release := make(chan apptest.Answer), held.Hold()
	go func() {
		a, err := s.Try(s.Root, "POST /plugins/slow/reload", "")
		if err != nil {
			t.Error(err)
		}
		loaded <- a
	}()
	<-held.Reading
	s.Want(200, s.Root, "PUT /plugins/other/mode", `{"mode":"warn"}`)
	s.Want(200, s.Root, "PUT /plugins/slow/mode", `{"mode":"dry_run"}`)
	s.Want(200, s.Root, "GET /health", "")
	s.Want(200, s.Root, "GET /plugins", "")
	s.Want(201, s.Root, "POST /projects", `{"id":"p"}`)
	release()
	if a := <-loaded; a.Status != 200 || a.Text("mode") != "dry_run" {
		t.Errorf("the load says %s", a.Body)
	}
}
