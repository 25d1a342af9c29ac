package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/wasm/wasmtest"
)

// spends returns a module whose start spends all fuel that it is given.
func spends() []byte {
	start := 4
	return wasmtest.Policy(nil, func(m *wasmtest.Module) {
		m.Funcs = append(m.Funcs, wasmtest.Func{Code: wasmtest.Cat(0x03, 0x40, 0x0c, 0, 0x0b)}) // a loop without end
		m.Start = &start
	})
}

// A server that is told to stop while it starts does so, with code 0, whatever a plugin
// is at: this one spends fuel for seconds before it could be there.
func TestAServerStopsWhileAPluginStarts(t *testing.T) {
	t.Parallel()
	module := spends()
	dir, plugin := t.TempDir(), wasmtest.Folder(t, module, wasmtest.Manifest)
	stoppedOnce(t, dir, os.Stderr, []string{`EIDER_PLUGINS_ITEMS=[{name: x, path: "` + plugin + `", start_fuel: 2000000000}]`}, "it loads", func(string) bool {
		valid, err := filepath.Glob(filepath.Join(dir, "plugins", ".cache", "compiled", "*", "valid")) // before it is compiled
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

// A load that ends with the server was none, whatever the next start finds in its place:
// that has a row of its own.
func TestALoadThatEndsWithTheServerIsInterrupted(t *testing.T) {
	t.Parallel()
	benign := wasmtest.Policy(nil, nil)
	dir, plugin := t.TempDir(), wasmtest.Folder(t, benign, wasmtest.Manifest)
	items := `EIDER_PLUGINS_ITEMS=[{name: x, path: "` + plugin + `", guests: 1, mode: dry_run, start_fuel: 2000000000}]`
	version := func(v string) string { return strings.Replace(wasmtest.Manifest, "1.0.0", v, 1) }
	c := serve(t, dir, items, "EIDER_HTTP_DRAIN_TIMEOUT=0s")
	for _, end := range []struct {
		signal os.Signal
		module []byte
		next   string
	}{{syscall.SIGTERM, benign, "3.0.0"}, {syscall.SIGKILL, []byte("garbage"), "4.0.0"}} {
		wasmtest.Put(t, plugin, spends(), version("2.0.0"))
		go func() { _, _ = c.Try(c.Root, "POST /plugins/x/reload", "") }() // it gets no answer
		apptest.Eventually(t, "it loads", func() bool { return strings.Contains(onPlugins(c.Server, "load_plugin"), "in_progress") })
		must(t, c.cmd.Process.Signal(end.signal))
		c.wait(t)
		wasmtest.Put(t, plugin, end.module, version(end.next))
		c = serve(t, dir, items, "EIDER_HTTP_DRAIN_TIMEOUT=0s")
		apptest.Eventually(t, "the load is settled", func() bool { return !strings.Contains(onPlugins(c.Server, "load_plugin"), "in_progress") })
	}
	var ends []string
	for _, row := range c.Want(200, c.Root, "GET /operations?operation=load_plugin", "").List("operations") {
		details, _ := row["details"].(map[string]any)
		ends = append(ends, fmt.Sprint(row["status"], " ", cmp.Or[any](row["error_code"], "-"), " ", cmp.Or[any](details["at"], "-"), " ", cmp.Or[any](details["version"], "-")))
	}
	slices.Reverse(ends)
	if got := strings.Join(ends, ", "); got != "success - start 1.0.0, failed shutting_down - -, success - start 3.0.0, failed interrupted - -, failed plugin_refused start -" {
		t.Errorf("the loads are logged as %s", got)
	}
}

// A load is a success also where that could not be recorded at first.
func TestALoadThatIsDoneIsLoggedOnceTheStoreIsBack(t *testing.T) {
	t.Parallel()
	held, engine := wasmtest.NewHeld(wasmtest.Policy(nil, nil)), &deadly{}
	o := app.Options{Modules: modules(), Builtin: held.Read, Engine: func(e metadata.Engine) metadata.Engine {
		engine.Engine = e
		return engine
	}}
	s := apptest.Start(t, t.TempDir(), o, map[string]string{"plugins.items": `[{name: x, path: "builtin:x", guests: 1}]`})
	loaded, release := make(chan apptest.Answer), held.Hold()
	go func() {
		a, err := s.Try(s.Root, "POST /plugins/x/reload", "")
		if err != nil {
			t.Error(err)
		}
		loaded <- a
	}()
	<-held.Reading
	engine.dead.Store(true)
	release()
	apptest.Eventually(t, "its outcome is not recorded", func() bool { return s.Do("", "GET /health/ready", "").Status == 503 })
	engine.dead.Store(false)
	if a := <-loaded; a.Status != 503 || a.Code() != "storage_unavailable" {
		t.Errorf("the load says %s", a.Body)
	}
	apptest.Eventually(t, "the load is settled", func() bool {
		return onPlugins(s, "load_plugin", "settled", "version") == "x success <nil> 1.0.0, x success finished 1.0.0"
	})
}
