package operation_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
)

// show runs calls on a pipeline of its own, and prints the answers and what the
// log got.
func show(declare func(*rig, *operation.Set), calls ...call) {
	dir, err := os.MkdirTemp("", "operation")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	r, err := openRig(dir, nil, declare)
	if err != nil {
		panic(err)
	}
	for _, c := range calls {
		if answer, err := r.do(c); err != nil {
			fmt.Println(eider.CodeOf(err), operation.Public(err).Message)
		} else {
			fmt.Println(strings.TrimSpace(fmt.Sprint(answer.Status, " ", string(answer.Body))))
		}
	}
	fmt.Println("log:", told(r.rows(0)))
	if err := r.close(); err != nil {
		panic(err)
	}
}

// A read gets a View. It leaves no row, unless it was denied.
func ExampleRead() {
	type getThing struct {
		ID string `path:"id" json:"-" doc:"The thing's id"`
	}
	show(func(r *rig, set *operation.Set) {
		operation.Read(set, operation.Spec{
			Name: "get_thing", Route: "GET /things/{id}", Role: eider.Admin, Target: "thing",
			Summary: "Get a thing", Tagged: true, Errors: []eider.Code{eider.NotFound},
		}, func(ctx context.Context, view *operation.View, in getThing) (thing, error) {
			return r.things.Get(ctx, view, in.ID) // answers not_found itself
		})
	}, call{op: "get_thing", id: "a"})
	// Output:
	// not_found there is no such thing
	// log:
}

// A write gets a Tx, in which it reads and stages rows, and nothing else: it may
// run more than once for one call. Its row in the log is committed with it.
func ExampleWrite() {
	type addThing struct {
		State string `json:"state,omitempty" default:"new" enum:"new,used"`
		ID    string `json:"id" required:"true" maxLength:"64"`
	}
	show(func(r *rig, set *operation.Set) {
		operation.Write(set, operation.Spec{
			Name: "add_thing", Route: "POST /things", Role: eider.Admin, Target: "thing", Status: 201,
			Summary: "Add a thing", Errors: []eider.Code{eider.ProjectExists},
		}, func(ctx context.Context, tx *operation.Tx, in addThing) (thing, error) {
			operation.From(ctx).Resource(in.ID) // names it in the log
			if _, err := r.things.Get(ctx, tx, in.ID); err == nil {
				return thing{}, eider.Errorf(eider.ProjectExists, "there is a thing %s already", in.ID)
			}
			it := thing{ID: in.ID, State: in.State}
			return it, r.things.Put(ctx, tx, it)
		})
	},
		call{op: "add_thing", body: `{"id":"a"}`},
		call{op: "add_thing", body: `{"id":"a"}`},
		call{op: "add_thing", body: `{"id":"b","state":"lost"}`})
	// Output:
	// 201 {"id":"a","state":"new"}
	// project_exists there is a thing a already
	// validation_failed state: expected value to be one of "new, used"
	// log: add_thing success, add_thing failed project_exists, add_thing failed validation_failed
}

// An effect touches files, which no transaction covers. Its plan is stored with
// its intent, so that after a crash the same steps finish it or take it back.
func ExampleEffect() {
	type makeFolder struct {
		Name string `json:"name" required:"true" pattern:"^[a-z]+$"`
	}
	type plan struct {
		Folder string `json:"folder"`
	}
	show(func(r *rig, set *operation.Set) {
		path := func(p plan) string { return filepath.Join(r.dir, p.Folder) }
		operation.Effect(set, operation.Spec{
			Name: "make_folder", Route: "POST /folders", Role: eider.Admin, Target: "folder", Status: 201,
			Summary: "Make a folder", Slow: true,
		}, operation.Steps[makeFolder, plan, thing]{
			// What makes the call visible as unfinished, and the plan.
			Intent: func(ctx context.Context, tx *operation.Tx, in makeFolder) (plan, error) {
				operation.From(ctx).Resource(in.Name)
				return plan{in.Name}, r.things.Put(ctx, tx, thing{in.Name, "making"})
			},
			// What nobody else may change meanwhile.
			Claims: func(p plan) []metadata.Claim {
				return []metadata.Claim{{Resource: "folder:" + p.Folder, Exclusive: true}}
			},
			// The work, idempotent and with no transaction. It stops when ctx ends.
			Effect:  func(_ context.Context, p plan) error { return os.MkdirAll(path(p), 0o700) },
			Applied: func(_ context.Context, p plan) (bool, error) { return exists(path(p)), nil },
			Undo:    func(_ context.Context, p plan) error { return os.RemoveAll(path(p)) },
			// The rows of success, or those from before.
			Outcome: func(ctx context.Context, tx *operation.Tx, p plan) (thing, error) {
				made := thing{p.Folder, "made"}
				return made, r.things.Put(ctx, tx, made)
			},
			Revert: func(ctx context.Context, tx *operation.Tx, p plan) error { return r.things.Delete(ctx, tx, p.Folder) },
		})
	}, call{op: "make_folder", body: `{"name":"in"}`})
	// Output:
	// 201 {"id":"in","state":"made"}
	// log: make_folder in_progress, make_folder success
}

// A module meets another in an event: the one emits it, the other hooks it, and
// may refuse.
func ExampleOn() {
	type added struct{ Thing string }
	type add struct {
		Name string `json:"name" required:"true"`
	}
	show(func(_ *rig, set *operation.Set) {
		operation.Write(set, operation.Spec{Name: "add", Route: "POST /names", Role: eider.Admin, Target: "name"},
			func(ctx context.Context, tx *operation.Tx, in add) (operation.Nothing, error) {
				return operation.Nothing{}, operation.Emit(ctx, tx, added{in.Name})
			})
		operation.On(set, func(_ context.Context, _ *operation.Tx, e added) error {
			if e.Thing == "eider" {
				return eider.Invalid("name", "is reserved")
			}
			return nil
		})
	}, call{op: "add", body: `{"name":"duck"}`}, call{op: "add", body: `{"name":"eider"}`})
	// Output:
	// 204
	// validation_failed name: is reserved
	// log: add success, add failed validation_failed
}

// A job changes state through an operation, so that its changes have rows.
func ExampleHandle_Do() {
	var sweep *operation.Handle[operation.Nothing, thing]
	dir, err := os.MkdirTemp("", "operation")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	r, err := openRig(dir, nil, func(_ *rig, set *operation.Set) {
		sweep = operation.Write(set, operation.Spec{Name: "sweep", Route: operation.Internal + " /things", Role: eider.Admin, Target: "thing"},
			func(context.Context, *operation.Tx, operation.Nothing) (thing, error) {
				return thing{"a", "swept"}, nil
			})
	})
	if err != nil {
		panic(err)
	}
	system := eider.Actor{Type: eider.ActorSystem, Name: "sweeper", Role: eider.Admin}
	swept, err := sweep.Do(context.Background(), r.Pipeline, system, "", operation.Nothing{})
	fmt.Println(swept.State, err)
	row := r.rows(0)[0]
	fmt.Println(row.Operation, row.Status, "by", row.ActorName)
	if err := r.close(); err != nil {
		panic(err)
	}
	// Output:
	// swept <nil>
	// sweep success by sweeper
}
