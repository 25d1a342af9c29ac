package schema_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/schema"
)

type onSomeRoutes struct {
	ID     string `path:"id" json:"-"`
	Branch string `path:"branch" json:"-" required:"false"`
}

// A path parameter that says required:"false" may be missing from a route, and
// stands in the document where it is.
func TestPathParameterOfSomeRoutes(t *testing.T) {
	r := schema.New()
	in, err := schema.InputOf[onSomeRoutes](r)
	if err != nil {
		t.Fatal(err)
	}
	document := func(path string) (string, error) {
		text, err := r.Document(schema.Info{Title: "t", Version: "1"}, []schema.Operation{{ID: "x", Method: "GET", Path: path, Role: "none", Input: in.Description(), Answers: []schema.Answer{{Status: 204}}}}, nil)
		if err == nil && !json.Valid(text) {
			t.Errorf("%s is no JSON", text)
		}
		return string(text), err
	}
	for path, there := range map[string]bool{"/projects/{id}/things": false, "/projects/{id}/branches/{branch}/things": true} {
		text, err := document(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, `"name": "branch"`) != there {
			t.Errorf("the document of %s is %s", path, text)
		}
	}
	for _, path := range []string{"/things", "/projects/{id}/{other}"} {
		if _, err := document(path); err == nil {
			t.Errorf("%s was documented", path)
		}
	}
}
