package notes_test

import (
	"context"
	"strings"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/examples/notes"
	"github.com/eiderdb/eider/modules/audit"
	"github.com/eiderdb/eider/modules/keys"
	"github.com/eiderdb/eider/modules/projects"
)

// censor is another module: it meets notes in the event, and nowhere else.
type censor struct{}

func (censor) Name() string { return "censor" }

func (censor) Declare(r *core.Registry) error {
	operation.On(r.Operations, func(_ context.Context, _ *operation.Tx, e notes.Added) error {
		if strings.Contains(e.Note.Text, "secret") {
			return eider.Invalid("text", "must hold no secret")
		}
		return nil
	})
	return nil
}

func start(t *testing.T, dir string) *apptest.Server {
	t.Helper()
	modules := []core.Module{projects.New(), keys.New(), audit.New(), notes.New(), censor{}}
	return apptest.Start(t, dir, app.Options{Modules: modules, Version: "test"}, nil)
}

func TestNotesAreAddedListedAndLogged(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	owner := s.Want(201, s.Root, "POST /projects", `{"id":"sales"}`).Text("api_key")
	reader := s.Want(201, owner, "POST /projects/sales/api-keys", `{"description":"reads","scope":"project_read"}`).Text("api_key")
	other := s.Want(201, s.Root, "POST /projects", `{"id":"other"}`).Text("api_key")
	apptest.Run(t, s, map[string]string{"owner": owner, "reader": reader, "other": other}, []apptest.Case{
		{Name: "add", As: "owner", Do: "POST /projects/sales/notes", Body: `{"text":"first"}`, Status: 201, Log: []string{"add_note success"}},
		{Name: "another", As: "owner", Do: "POST /projects/sales/notes", Body: `{"text":"second"}`, Status: 201},
		{Name: "empty", As: "owner", Do: "POST /projects/sales/notes", Body: `{"text":""}`, Status: 422, Code: "validation_failed", Log: []string{"add_note failed"}},
		{Name: "refused by the hook", As: "owner", Do: "POST /projects/sales/notes", Body: `{"text":"a secret"}`, Status: 422, Code: "validation_failed", Log: []string{"add_note failed"}},
		{Name: "a role too low", As: "reader", Do: "POST /projects/sales/notes", Body: `{"text":"x"}`, Status: 403, Code: "forbidden", Log: []string{"add_note denied"}},
		{Name: "of another project", As: "other", Do: "POST /projects/sales/notes", Body: `{"text":"x"}`, Status: 404, Code: "not_found", Log: []string{"add_note denied"}},
		{Name: "list", As: "reader", Do: "GET /projects/sales/notes", Status: 200, Log: []string{}},
	})
	s.Want(201, other, "POST /projects/other/notes", `{"text":"elsewhere"}`)
	s.Stop()

	s = start(t, dir) // what was acknowledged is there
	for project, want := range map[string]string{"sales": "first, second", "other": "elsewhere"} {
		var texts []string
		for _, note := range s.Want(200, s.Root, "GET /projects/"+project+"/notes", "").List("notes") {
			texts = append(texts, note["text"].(string))
		}
		if got := strings.Join(texts, ", "); got != want {
			t.Errorf("%s has the notes %q, want %q", project, got, want)
		}
	}
}
