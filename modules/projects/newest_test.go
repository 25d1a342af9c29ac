package projects

import (
	"testing"

	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
)

// While an id is taken again and its new project is not there yet, the id answers
// as the purged one did: a purge whose answer was lost can be replayed.
func TestPurgeIsReplayedWhileItsIDIsTakenAgain(t *testing.T) {
	dir := t.TempDir()
	start := func() *apptest.Server {
		return apptest.Start(t, dir, app.Options{Modules: []core.Module{New()}, Version: "test"}, nil)
	}
	s := start()
	s.Want(201, s.Root, "POST /projects", `{"id":"again"}`)
	s.Want(204, s.Root, "DELETE /projects/again?purge=true", "", "Idempotency-Key: once")
	s.Stop()
	record(t, dir, `INSERT INTO projects SELECT * REPLACE ('01a2107b-4a51-705a-9586-cc15964c1544' AS uid, 'creating' AS status,
		created_at + INTERVAL 1 SECOND AS created_at) FROM projects`)
	s = start()
	a := s.Want(204, s.Root, "DELETE /projects/again?purge=true", "", "Idempotency-Key: once")
	if a.Header.Get("Idempotency-Replayed") != "true" {
		t.Error("the purge was not replayed")
	}
	s.Want(404, s.Root, "DELETE /projects/again?purge=true", "", "Idempotency-Key: another")
	s.Want(404, s.Root, "GET /projects/again", "")
	s.Want(410, s.Root, "POST /projects/again/undelete", "")
	s.Want(409, s.Root, "POST /projects", `{"id":"again"}`)
}
