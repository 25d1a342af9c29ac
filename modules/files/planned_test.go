package files

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/blob"
)

// details returns what the row of an unfinished call holds.
func details(t *testing.T, plan any) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{"operation": "x", "plan": plan})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Every plan of an operation on files tells which bytes are its own, also those of
// operations of other modules that make files or read them.
func TestPlansNameTheirBytes(t *testing.T) {
	a, b, c := blob.Key{Project: "p", ID: "a"}, blob.Key{Project: "p", ID: "b"}, blob.Key{Project: "p", ID: "c"}
	for name, one := range map[string]struct {
		plan any
		want []blob.Key
	}{
		"upload":          {&uploadPlan{Blob: a, Replaces: "b", Instead: "c"}, []blob.Key{a, b, c}},
		"one-step upload": {&putPlan{Row: row{ProjectUID: "p", Blob: "a"}}, []blob.Key{a}},
		"delete":          {&dropPlan{Blob: a}, []blob.Key{a}},
		"expiry":          {&removal{Blobs: []blob.Key{a, b}}, []blob.Key{a, b}},
		"repair":          {&damagePlan{Blob: a}, []blob.Key{a}},
		"orphan":          {&lostBlobs{Blobs: []blob.Key{a}}, []blob.Key{a}},
		"export, import":  {map[string]any{"bytes": a, "file_id": "b"}, []blob.Key{a}},
	} {
		if got := plannedBlobs(details(t, one.plan)); !slices.Equal(got, one.want) {
			t.Errorf("%s: it names %v", name, got)
		}
	}
}

// A statement that names bytes, or looks like a plan, hides nobody's and gives up none.
func TestTextsOfTenantsNameNoBytes(t *testing.T) {
	a := blob.Key{Project: "p", ID: "0199c7a2-0000-7000-8000-000000000001"}
	key, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	for name, plan := range map[string]any{
		"a statement":             map[string]any{"sql": `CREATE TABLE b."` + a.ID + `" (x int)`},
		"a statement with a plan": map[string]any{"sql": `{"plan":{"blob":` + string(key) + `}}`, "call": string(key)},
		"a text":                  a.ID,
		"a key that is a text":    map[string]any{"blob": a.ID, "bytes": string(key), "row": string(key), "blobs": a.ID},
		"nothing":                 nil,
	} {
		open := []audit.Row{{Operation: "query", Details: details(t, plan)}}
		if got := underWay(open); len(got) > 0 {
			t.Errorf("%s names %v", name, got)
		}
	}
	if got := underWay([]audit.Row{{Details: "{"}}); len(got) > 0 {
		t.Errorf("what cannot be read names %v", got)
	}
}
