package main

import (
	"io/fs"
	"path"
	"testing"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/wasm/wasmtest"
)

// While a plugin is loaded anew, however long that takes, the server answers: plugins are
// shown, the mode of another changes, and what writes does so.
func TestTheServerAnswersWhileAPluginLoads(t *testing.T) {
	t.Parallel()
	module := wasmtest.Policy(nil, nil)
	hold, reading := make(chan chan struct{}, 1), make(chan struct{})
	o := app.Options{Modules: modules(), Builtin: func(name string) ([]byte, error) {
		select {
		case until := <-hold:
			close(reading)
			<-until
		default:
		}
		switch path.Base(name) {
		case "plugin.yaml":
			return []byte(wasmtest.Manifest), nil
		case "guest.wasm":
			return module, nil
		}
		return nil, fs.ErrNotExist
	}}
	s := apptest.Start(t, t.TempDir(), o, map[string]string{
		"plugins.items": `[{name: slow, path: "builtin:slow", guests: 1}, {name: other, path: "` + wasmtest.Folder(t, module, wasmtest.Manifest) + `", guests: 1}]`})
	until, loaded := make(chan struct{}), make(chan apptest.Answer)
	hold <- until
	go func() {
		a, err := s.Try(s.Root, "POST /plugins/slow/reload", "")
		if err != nil {
			t.Error(err)
		}
		loaded <- a
	}()
	<-reading
	s.Want(200, s.Root, "PUT /plugins/other/mode", `{"mode":"warn"}`)
	s.Want(200, s.Root, "PUT /plugins/slow/mode", `{"mode":"dry_run"}`)
	s.Want(200, s.Root, "GET /health", "")
	s.Want(200, s.Root, "GET /plugins", "")
	s.Want(201, s.Root, "POST /projects", `{"id":"p"}`)
	close(until)
	if a := <-loaded; a.Status != 200 || a.Text("mode") != "dry_run" {
		t.Errorf("the load says %s", a.Body)
	}
}
