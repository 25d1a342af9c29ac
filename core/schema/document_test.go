package schema_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/schema"
)

var update = flag.Bool("update", false, "write the golden files")

type thingPath struct {
	ID string `path:"id" json:"-" doc:"The thing's id"`
}

type changeThing struct {
	thingPath
	IfMatch  string          `header:"If-Match" json:"-"`
	Name     string          `json:"name" required:"true" maxLength:"8" example:"one"`
	Status   *string         `json:"status,omitempty" enum:"active,locked" doc:"Admin only"`
	Settings json.RawMessage `json:"settings,omitempty" schema:"object"`
	Columns  []column        `json:"columns,omitempty"`
}

type thing struct {
	ID       string          `json:"id" readOnly:"true"`
	Made     time.Time       `json:"made"`
	Gone     *time.Time      `json:"gone,omitempty"`
	Status   string          `json:"status" enum:"active,locked"`
	Settings json.RawMessage `json:"settings"`
	Parent   *thing          `json:"parent,omitempty"`
}

type thingList struct {
	Things []thing `json:"things"`
	Next   string  `json:"next_cursor,omitempty"`
}

type listThings struct {
	page
	Tag []string `query:"tag" json:"-" doc:"k:v"`
}

func okay(m ...schema.Media) []schema.Answer { return []schema.Answer{{Status: 200, Media: m}} }

// things declares four operations on one registry.
func things(t *testing.T) (*schema.Registry, []schema.Operation) {
	r := schema.New()
	list, err := schema.InputOf[listThings](r)
	if err != nil {
		t.Fatal(err)
	}
	change, err := schema.InputOf[changeThing](r)
	if err != nil {
		t.Fatal(err)
	}
	one, err := schema.InputOf[thingPath](r)
	if err != nil {
		t.Fatal(err)
	}
	missing := schema.ErrorResponse{Code: eider.NotFound, Status: 404}
	invalid := schema.ErrorResponse{Code: eider.ValidationFailed, Status: 422}
	return r, []schema.Operation{
		{ID: "list_things", Method: "GET", Path: "/things", Summary: "List things", Tag: "things", Role: "admin",
			Input: list.Description(), Answers: okay(schema.JSON[thingList]()), Errors: []schema.ErrorResponse{invalid}},
		{ID: "get_thing", Method: "GET", Path: "/things/{id}", Summary: "Get a thing", Tag: "things", Role: "project_read",
			Input: one.Description(), Answers: okay(schema.JSON[thing]()), Tagged: true, Errors: []schema.ErrorResponse{missing}},
		{ID: "update_thing", Method: "PATCH", Path: "/things/{id}", Summary: "Change a thing", Description: "At length.", Tag: "things",
			Role: "project_admin", Input: change.Description(), Answers: okay(schema.JSON[thing]()), Tagged: true, Idempotent: true,
			Errors: []schema.ErrorResponse{missing, invalid, {Code: eider.PreconditionFailed, Status: 412}, {Code: eider.InvalidTransition, Status: 422}}},
		{ID: "get_metrics", Method: "GET", Path: "/metrics", Summary: "Metrics", Tag: "server", Role: "none", Answers: okay(schema.Text("text/plain"))},
	}
}

var anywhere = []schema.ErrorResponse{{Code: eider.RequestTimeout, Status: 408}, {Code: eider.HeadersTooLarge, Status: 431}}

func document(t *testing.T) []byte {
	t.Helper()
	r, ops := things(t)
	text, err := r.Document(schema.Info{Title: "Things", Version: "1", Description: "A sample."}, ops, anywhere)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestDocumentIsGolden(t *testing.T) {
	const golden = "testdata/openapi.golden.json"
	got := document(t)
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the document has changed; look at the difference that -update makes in %s", golden)
	}
}

func TestDocumentIsTheSameEveryTime(t *testing.T) {
	first := document(t)
	for range 10 {
		if !bytes.Equal(document(t), first) {
			t.Fatal("two documents of the same declarations differ")
		}
	}
	r, ops := things(t)
	for range 2 { // of one registry too
		if text, err := r.Document(schema.Info{Title: "Things", Version: "1", Description: "A sample."}, ops, anywhere); err != nil || !bytes.Equal(text, first) {
			t.Fatalf("the second document of one registry differs: %v", err)
		}
	}
}

func TestReferencesResolve(t *testing.T) {
	var root map[string]any
	if err := json.Unmarshal(document(t), &root); err != nil {
		t.Fatal(err)
	}
	found := 0
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, item := range v {
				walk(item)
			}
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				found++
				if at(root, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...) == nil {
					t.Errorf("%s leads nowhere", ref)
				}
			}
			for _, child := range v {
				walk(child)
			}
		}
	}
	walk(root)
	if found == 0 {
		t.Error("there is no reference")
	}
}

// at follows names into nested objects, nil if there is nothing.
func at(v any, path ...string) any {
	for _, name := range path {
		object, _ := v.(map[string]any)
		v = object[name]
	}
	return v
}

func TestDocumentSaysWhatHolds(t *testing.T) {
	var doc map[string]any
	if err := json.Unmarshal(document(t), &doc); err != nil {
		t.Fatal(err)
	}
	list, get := at(doc, "paths", "/things", "get"), at(doc, "paths", "/things/{id}", "get")
	patch, metrics := at(doc, "paths", "/things/{id}", "patch"), at(doc, "paths", "/metrics", "get")
	body := at(patch, "requestBody", "content", "application/json", "schema")
	made := at(doc, "components", "schemas", "Thing", "properties")
	for name, c := range map[string]struct{ got, want any }{
		"version":             {doc["openapi"], "3.1.0"},
		"bearer":              {at(doc, "components", "securitySchemes", "bearer"), map[string]any{"type": "http", "scheme": "bearer"}},
		"role":                {at(patch, "x-eider-role"), "project_admin"},
		"security":            {at(patch, "security"), []any{map[string]any{"bearer": []any{}}}},
		"no key, no security": {at(metrics, "security"), nil},
		"no key, no role":     {at(metrics, "x-eider-role"), nil},
		"text":                {at(metrics, "responses", "200", "content", "text/plain", "schema", "type"), "string"},
		"body required":       {at(patch, "requestBody", "required"), true},
		"no body":             {at(get, "requestBody"), nil},
		"field required":      {at(body, "required"), []any{"name"}},
		"closed":              {at(body, "additionalProperties"), false},
		"enum":                {at(body, "properties", "status", "enum"), []any{"active", "locked"}},
		"settings":            {at(body, "properties", "settings", "type"), "object"},
		"time":                {at(made, "made", "format"), "date-time"},
		"settings of answer":  {at(made, "settings", "type"), "object"},
		"read only":           {at(made, "id", "readOnly"), true},
		"two codes":           {at(patch, "responses", "422", "description"), "validation_failed, invalid_transition"},
		"problem":             {at(patch, "responses", "404", "content", "application/problem+json", "schema", "$ref"), "#/components/schemas/Problem"},
		"request id":          {at(patch, "responses", "404", "headers", "X-Request-ID", "$ref"), "#/components/headers/X-Request-ID"},
		"etag":                {at(get, "responses", "200", "headers", "ETag", "$ref"), "#/components/headers/ETag"},
		"no etag":             {at(list, "responses", "200", "headers", "ETag"), nil},
		"not modified":        {at(get, "responses", "304") != nil, true},
		"nothing modified":    {at(patch, "responses", "304"), nil},
		"list parameters":     {parameters(list), "query limit, query cursor, query tag, header X-Request-ID"},
		"get parameters":      {parameters(get), "path id!, header If-None-Match, header X-Request-ID"},
		"patch parameters":    {parameters(patch), "path id!, header If-Match, header Idempotency-Key, header X-Request-ID"},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: got %v, want %v", name, c.got, c.want)
		}
	}
}

// putThing is what the query with=bytes makes of update_thing.
type putThing struct {
	thingPath
	With string `query:"with" json:"-" required:"true"`
	Kind string `header:"Content-Type" json:"-"`
}

// What is no JSON is described as far as a client has to know it: the forms of a
// body, the variants that a query chooses, headers, and that HEAD has no body.
func TestDocumentSaysWhatIsNoJSON(t *testing.T) {
	r, ops := things(t)
	put, err := schema.InputOf[putThing](r)
	if err != nil {
		t.Fatal(err)
	}
	ops[2].Variants = []schema.Variant{{Input: put.Description(), Accepts: []schema.Media{schema.Bytes("*/*"), schema.Form("file")}}}
	ops[1].Signed = true
	ops[1].Answers = []schema.Answer{
		{Status: 200, Doc: "All", Media: []schema.Media{schema.Bytes("*/*"), schema.Text("text/csv"), schema.JSON[thing]()},
			Headers: []schema.Header{{Name: "Size", Doc: "How many", Number: true, Always: true}, {Name: "Note"}}},
		{Status: 206, Media: []schema.Media{schema.Bytes("multipart/byteranges")}},
	}
	ops[1].Errors = append(ops[1].Errors, schema.ErrorResponse{Code: eider.RangeNotSatisfiable, Status: 416})
	head := ops[1]
	head.ID, head.Method = "head_thing", "HEAD"
	made, err := r.Document(schema.Info{}, append(ops, head), anywhere)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(made, &doc); err != nil {
		t.Fatal(err)
	}
	get, patch, headed := at(doc, "paths", "/things/{id}", "get"), at(doc, "paths", "/things/{id}", "patch"), at(doc, "paths", "/things/{id}", "head")
	binary := map[string]any{"type": "string", "format": "binary"}
	body := at(patch, "requestBody", "content")
	for name, c := range map[string]struct{ got, want any }{
		"bytes":           {at(get, "responses", "200", "content", "*/*", "schema"), binary},
		"text":            {at(get, "responses", "200", "content", "text/csv", "schema"), map[string]any{"type": "string"}},
		"json":            {at(get, "responses", "200", "content", "application/json", "schema", "$ref"), "#/components/schemas/Thing"},
		"another answer":  {at(get, "responses", "206", "content", "multipart/byteranges", "schema"), binary},
		"header":          {at(get, "responses", "200", "headers", "Size"), map[string]any{"description": "How many", "required": true, "schema": map[string]any{"type": "integer"}}},
		"of some answers": {at(get, "responses", "200", "headers", "Note", "required"), nil},
		"of a refusal":    {at(get, "responses", "416", "headers", "Content-Range", "required"), true},
		"anything else":   {at(get, "responses", "default", "$ref"), "#/components/responses/Problem"},
		"which":           {strings.HasSuffix(at(doc, "components", "responses", "Problem", "description").(string), "408 request_timeout, 431 headers_too_large"), true},
		"signed":          {at(get, "security"), []any{map[string]any{"bearer": []any{}}, map[string]any{"signed_url": []any{}}}},
		"how":             {at(doc, "components", "securitySchemes", "signed_url", "name"), "signature"},
		"raw body":        {at(body, "*/*", "schema"), binary},
		"form":            {at(body, "multipart/form-data", "schema", "properties", "file"), binary},
		"beside JSON":     {at(body, "application/json", "schema", "required"), []any{"name"}},
		"parameters":      {parameters(patch), "path id!, header If-Match, query with, header Idempotency-Key, header X-Request-ID"},
		"HEAD":            {at(headed, "responses", "200", "content"), nil},
		"HEAD's headers":  {at(headed, "responses", "200", "headers", "Size", "required"), true},
		"HEAD refused":    {at(headed, "responses", "404", "content"), nil},
		"HEAD, else":      {at(headed, "responses", "default", "$ref"), "#/components/responses/ProblemWithoutBody"},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: got %v, want %v", name, c.got, c.want)
		}
	}
}

func TestDocumentSaysWhatCanBeAJob(t *testing.T) {
	r, ops := things(t)
	for i := range ops {
		ops[i].Async = ops[i].Method == "PATCH"
	}
	text, err := r.Document(schema.Info{}, ops, anywhere)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	patch, get := at(doc, "paths", "/things/{id}", "patch"), at(doc, "paths", "/things/{id}", "get")
	for name, c := range map[string]struct{ got, want any }{
		"parameters": {parameters(patch), "path id!, header If-Match, header Idempotency-Key, header Prefer, header X-Request-ID"},
		"answer":     {at(patch, "responses", "202", "content", "application/json", "schema", "$ref"), "#/components/schemas/AcceptedJob"},
		"location":   {at(patch, "responses", "202", "headers", "Location") != nil, true},
		"others":     {at(get, "responses", "202"), nil},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: got %v, want %v", name, c.got, c.want)
		}
	}
}

// parameters lists the parameters of an operation, required ones with a mark.
func parameters(op any) string {
	var all []string
	for _, p := range at(op, "parameters").([]any) {
		text := at(p, "in").(string) + " " + at(p, "name").(string)
		if at(p, "required") == true {
			text += "!"
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

func TestDocumentRefusesWhatCannotBe(t *testing.T) {
	r, ops := things(t)
	for name, op := range map[string]schema.Operation{
		"documented twice":       ops[0],
		"a part nobody reads":    {Method: "PUT", Path: "/things/{id}"},
		"no such part":           {Method: "PUT", Path: "/things/{thing}", Input: ops[1].Input},
		"a parameter too few":    {Method: "PUT", Path: "/things", Input: ops[1].Input},
		"a part that looks like": {Method: "PUT", Path: "/things/x{id}", Input: ops[1].Input},
	} {
		if _, err := r.Document(schema.Info{}, append(ops[:len(ops):len(ops)], op), nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
