// Package notes is a whole module, to be copied: notes on projects. It has one
// table, one change, one read and one event, and needs nothing of the kernel;
// one that does has a method Provision as well. Besides this file a module is
// one line in cmd/eider.
package notes

import (
	"cmp"
	"context"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
)

// Note is a row and what the API shows of it.
type Note struct {
	ID      string    `json:"id"`
	Project string    `json:"project_uid"`
	Text    string    `json:"text"`
	AddedAt time.Time `json:"added_at"`
}

// Added is emitted in the transaction that adds a note: who hooks it with
// operation.On may refuse, and then there is no note.
type Added struct{ Note Note }

// Notes is the module.
type Notes struct{ rows *metadata.Table[Note] }

// New returns the module.
func New() *Notes {
	return &Notes{rows: metadata.NewTable(metadata.Def[Note]{
		Name: "notes", Hot: true, Missing: eider.NotFound, Noun: "note",
		Columns: []metadata.Column{{Name: "id"}, {Name: "project"}, {Name: "text"}, {Name: "added_at", Kind: metadata.Time}},
		Key:     func(n *Note) string { return n.ID },
		Encode:  func(n *Note) []any { return []any{n.ID, n.Project, n.Text, n.AddedAt} },
		Decode: func(scan func(...any) error) (n Note, err error) {
			err = scan(&n.ID, &n.Project, &n.Text, &n.AddedAt)
			return n, err
		},
		// Ids grow with time, so that a project's notes come oldest first.
		Orders: map[string]func(a, b *Note) int{"project": func(a, b *Note) int { return cmp.Compare(a.Project, b.Project) }},
	})}
}

// Name returns "notes".
func (n *Notes) Name() string { return "notes" }

// Declare lists the table and the operations; the handlers follow.
func (n *Notes) Declare(r *core.Registry) error {
	r.Table(n.rows)
	r.Migrate(metadata.Migration{Owner: "notes", Number: 1, SQL: []string{
		`CREATE TABLE notes (id TEXT PRIMARY KEY, project TEXT NOT NULL, text TEXT NOT NULL, added_at TIMESTAMPTZ NOT NULL)`}})
	operation.Write(r.Operations, operation.Spec{
		Name: "add_note", Route: "POST /projects/{id}/notes", Role: eider.ProjectWrite, Target: "note", Status: 201, Summary: "Add a note",
	}, n.add)
	operation.Read(r.Operations, operation.Spec{
		Name: "list_notes", Route: "GET /projects/{id}/notes", Role: eider.ProjectRead, Target: "note", Summary: "List notes, oldest first",
	}, n.list)
	return nil
}

type addNote struct {
	ID   string `path:"id" json:"-"` // of the project; the pipeline has found it already
	Text string `json:"text" required:"true" minLength:"1" maxLength:"1000"`
}

// add may run more than once for one call, so it touches rows and nothing else.
func (n *Notes) add(ctx context.Context, tx *operation.Tx, in addNote) (Note, error) {
	call := operation.From(ctx)
	note := Note{ID: call.ID, Project: call.Project.UID, Text: in.Text, AddedAt: time.Now().UTC().Truncate(time.Microsecond)}
	call.Resource(note.ID) // for the row in the log
	if err := n.rows.Insert(tx, note); err != nil {
		return note, err
	}
	return note, operation.Emit(ctx, tx, Added{note})
}

type listNotes struct {
	ID string `path:"id" json:"-"`
}

type noteList struct {
	Notes []Note `json:"notes"`
}

func (n *Notes) list(ctx context.Context, _ *operation.View, _ listNotes) (noteList, error) {
	project, out := operation.From(ctx).Project.UID, noteList{Notes: []Note{}}
	n.rows.Scan(metadata.Range[Note]{Order: "project", After: &Note{Project: project}}, func(note *Note) bool {
		if note.Project == project {
			out.Notes = append(out.Notes, *note)
		}
		return note.Project == project
	})
	return out, nil
}
