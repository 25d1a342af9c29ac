package schema_test

import (
	"encoding/json"
	"errors"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/schema"
)

type page struct {
	Limit  int    `query:"limit" json:"-" minimum:"1" maximum:"1000" default:"100"`
	Cursor string `query:"cursor" json:"-"`
}

// request has a field of every kind.
type request struct {
	page
	ID      string    `path:"id" json:"-" maxLength:"64"`
	IfMatch string    `header:"If-Match" json:"-" maxLength:"32"`
	Tag     []string  `query:"tag" json:"-" maxItems:"3"`
	All     bool      `query:"all" json:"-"`
	From    time.Time `query:"from" json:"-"`
	Row     int64     `query:"row" json:"-"`

	Name     string            `json:"name" required:"true" minLength:"1" maxLength:"8"`
	Status   *string           `json:"status,omitempty" enum:"active,locked"`
	Settings json.RawMessage   `json:"settings,omitempty" schema:"object"`
	Days     int               `json:"days" minimum:"1" maximum:"365" default:"30"`
	Size     int64             `json:"size" minimum:"0"`
	Small    int8              `json:"small"`
	Kind     string            `json:"kind" default:"table" pattern:"^[a-z]+$"`
	Purge    bool              `json:"purge" default:"true"`
	Until    *time.Time        `json:"until"`
	Link     string            `json:"link,omitempty" format:"uri"`
	Call     string            `json:"call,omitempty" format:"uuid"`
	Mail     string            `json:"mail,omitempty" format:"email"`
	Wait     string            `json:"wait,omitempty" format:"duration"`
	Content  []byte            `json:"content"`
	Keys     []string          `json:"keys" minItems:"1" maxItems:"4" uniqueItems:"true"`
	Columns  []column          `json:"columns"`
	Options  *options          `json:"options"`
	Tags     map[string]string `json:"tags" maxProperties:"3"`
	Params   []any             `json:"params"`
	Extra    map[string]any    `json:"extra"`
}

type column struct {
	Name     string  `json:"name" maxLength:"8"`
	Type     string  `json:"type" enum:"INTEGER,VARCHAR"`
	Nullable *bool   `json:"nullable,omitempty"`
	Default  *string `json:"default,omitempty"`
}

type options struct {
	Quote string   `json:"quote,omitempty" maxLength:"1"`
	Inner *options `json:"inner,omitempty"`
}

func input[T any](t testing.TB) *schema.Input[T] {
	t.Helper()
	in, err := schema.InputOf[T](schema.New())
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// source is a request for /things/{id} with a query and a body.
func source(query, body string) schema.Source {
	values, err := url.ParseQuery(query)
	if err != nil {
		panic(err)
	}
	return schema.Source{
		Param:  func(string) string { return "one" },
		Header: func(string) string { return "" },
		Query:  values, Body: []byte(body), ContentType: "application/json",
	}
}

// refusal returns the code and "field: message" of each field.
func refusal(t *testing.T, err error) (eider.Code, []string) {
	t.Helper()
	if err == nil {
		return "", nil
	}
	var e *eider.Error
	if !errors.As(err, &e) {
		t.Fatalf("the error %v is no *eider.Error", err)
	}
	var fields []string
	for _, f := range e.Fields {
		fields = append(fields, f.Field+": "+f.Message)
	}
	return e.Code, fields
}

func TestParametersAreRead(t *testing.T) {
	in := input[request](t)
	src := source("limit=5&tag=a&tag=b&all=true&from=2026-01-02T03:04:05.5%2B01:00&row=9007199254740993", `{"name":"x"}`)
	src.Header = func(name string) string { return map[string]string{"If-Match": `"t"`}[name] }
	got, err := in.Decode(src)
	if err != nil {
		t.Fatal(err)
	}
	from := time.Date(2026, 1, 2, 2, 4, 5, 500_000_000, time.UTC)
	if got.ID != "one" || got.IfMatch != `"t"` || got.Limit != 5 || !got.All || !got.From.Equal(from) ||
		got.Row != 9007199254740993 || !reflect.DeepEqual(got.Tag, []string{"a", "b"}) {
		t.Errorf("got %+v", got)
	}
}

func TestParametersAreRefusedByName(t *testing.T) {
	in := input[request](t)
	for _, c := range []struct{ name, query, want string }{
		{"no whole number", "limit=ten", "limit: must be a whole number"},
		{"a fraction", "limit=1.5", "limit: must be a whole number"},
		{"too large for the type", "limit=99999999999999999999", "limit: must be a whole number"},
		{"nothing", "limit=", "limit: must be a whole number"},
		{"too small", "limit=0", "limit: expected number >= 1"},
		{"too large", "limit=1001", "limit: expected number <= 1000"},
		{"given twice", "limit=1&limit=1", "limit: must be given once"},
		{"no truth", "all=yes", "all: must be true or false"},
		{"no time", "from=yesterday", "from: must be a time such as 2026-01-02T15:04:05Z"},
		{"too many", "tag=a&tag=b&tag=c&tag=d", "tag: must have at most 3 items"},
		{"not UTF-8", "cursor=%ff", "cursor: must be valid UTF-8"},
		{"not UTF-8 in a list", "tag=a&tag=%ff", "tag: must be valid UTF-8"},
		{"undeclared", "limt=5", "limt: is no parameter of this operation"},
		{"in another case", "Limit=5", "Limit: is no parameter of this operation"},
		{"undeclared and not UTF-8", "%ff=5", "?: is no parameter of this operation"},
		{"a field of the body", "name=x", "name: is no parameter of this operation"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := in.Decode(source(c.query, `{"name":"x"}`))
			code, fields := refusal(t, err)
			if code != eider.ValidationFailed || !reflect.DeepEqual(fields, []string{c.want}) {
				t.Errorf("got %q %q, want %q", code, fields, c.want)
			}
		})
	}
}

func TestRequiredParameters(t *testing.T) {
	type required struct {
		At string `query:"at" json:"-" required:"true"`
		By string `header:"X-By" json:"-" required:"true"`
	}
	_, err := input[required](t).Decode(schema.Source{})
	_, fields := refusal(t, err)
	if want := []string{"X-By: is required", "at: is required"}; !reflect.DeepEqual(fields, want) {
		t.Errorf("got %q, want %q", fields, want)
	}
}

func TestBodyIsRead(t *testing.T) {
	got, err := input[request](t).Decode(source("", `{
		"name": "x", "status": "locked", "settings": {"a.b" : [9007199254740993, null, 1.50]}, "days": 7,
		"size": 9007199254740993, "until": "2026-01-02T03:04:05Z", "content": "aGk=", "keys": ["a", "b"],
		"columns": [{"name": "c", "type": "INTEGER", "nullable": false}], "options": {"inner": {"quote": "'"}},
		"tags": {"a.b": "c"}, "params": [9007199254740993], "extra": {"n": 9007199254740993}, "purge": false
	}`))
	if err != nil {
		t.Fatal(err)
	}
	large := json.Number("9007199254740993")
	switch {
	case got.Name != "x", *got.Status != "locked", got.Days != 7, got.Purge, got.Kind != "table":
		t.Errorf("scalars: got %+v", got)
	case string(got.Settings) != `{"a.b":[9007199254740993,null,1.50]}`:
		t.Errorf("settings: got %s", got.Settings)
	case got.Size != 9007199254740993, got.Params[0] != large, got.Extra["n"] != large:
		t.Errorf("large numbers: got %d %v %v", got.Size, got.Params, got.Extra)
	case !got.Until.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), string(got.Content) != "hi":
		t.Errorf("time and bytes: got %v %q", got.Until, got.Content)
	case got.Columns[0].Name != "c", *got.Columns[0].Nullable, got.Options.Inner.Quote != "'", got.Tags["a.b"] != "c":
		t.Errorf("inner: got %+v", got)
	}
}

func TestNullAndAbsentAreOne(t *testing.T) {
	in := input[request](t)
	absent, err := in.Decode(source("", `{"name":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	if absent.Days != 30 || absent.Kind != "table" || !absent.Purge || absent.Limit != 100 || absent.Status != nil || absent.Settings != nil {
		t.Errorf("defaults: got %+v", absent)
	}
	null, err := in.Decode(source("", `{"name":"x","status":null,"settings":null,"days":null,"size":null,"small":null,"kind":null,
		"purge":null,"until":null,"link":null,"content":null,"keys":null,"columns":null,"options":null,"tags":null,"params":null,"extra":null}`))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(null, absent) {
		t.Errorf("null: got %+v, want %+v", null, absent)
	}
}

func TestBodyIsRefusedByField(t *testing.T) {
	in := input[request](t)
	for _, c := range []struct {
		name, body string
		want       []string
	}{
		{"required", `{}`, []string{"name: is required"}},
		{"required and null", `{"name":null}`, []string{"name: expected string"}},
		{"too short", `{"name":""}`, []string{"name: expected length >= 1"}},
		{"counted in characters", `{"name":"ääääääää"}`, nil},
		{"too long", `{"name":"123456789"}`, []string{"name: expected length <= 8"}},
		{"another type", `{"name":1}`, []string{"name: expected string"}},
		{"two at once", `{"days":0}`, []string{"days: expected number >= 1", "name: is required"}},
		{"a fraction", `{"name":"x","days":1.5}`, []string{"days: expected integer"}},
		{"a number in quotes", `{"name":"x","days":"7"}`, []string{"days: expected integer"}},
		{"too large for the type", `{"name":"x","small":128}`, []string{"small: does not fit the field"}},
		{"too large for any integer", `{"name":"x","size":99999999999999999999}`, []string{"size: does not fit the field"}},
		{"enum", `{"name":"x","status":"gone"}`, []string{`status: expected value to be one of "active, locked"`}},
		{"pattern", `{"name":"x","kind":"A"}`, []string{"kind: expected string to match pattern ^[a-z]+$"}},
		{"time", `{"name":"x","until":"soon"}`, []string{"until: expected string to be RFC 3339 date-time"}},
		{"base64", `{"name":"x","content":"aGk"}`, []string{"content: does not fit the field"}},
		{"too few", `{"name":"x","keys":[]}`, []string{"keys: must have at least 1 items"}},
		{"too many", `{"name":"x","keys":["a","b","c","d","e"]}`, []string{"keys: must have at most 4 items"}},
		{"twice", `{"name":"x","keys":["a","a"]}`, []string{"keys: must not hold an item twice"}},
		{"objects where scalars must be unique", `{"name":"x","keys":[{},{}]}`, []string{"keys[0]: expected string", "keys[1]: expected string"}},
		{"null in a list", `{"name":"x","keys":[null]}`, []string{"keys[0]: expected string"}},
		{"no list", `{"name":"x","keys":"a"}`, []string{"keys: must be a list"}},
		{"no object", `{"name":"x","options":[]}`, []string{"options: must be a JSON object"}},
		{"in a list", `{"name":"x","columns":[{"name":"a","type":"INTEGER"},{"name":"b","type":"INT"}]}`,
			[]string{`columns[1].type: expected value to be one of "INTEGER, VARCHAR"`}},
		{"required in a list", `{"name":"x","columns":[{}]}`, []string{"columns[0].name: is required", "columns[0].type: is required"}},
		{"deep", `{"name":"x","options":{"inner":{"inner":{"quote":"''"}}}}`, []string{"options.inner.inner.quote: expected length <= 1"}},
		{"too many properties", `{"name":"x","tags":{"a":"","b":"","c":"","d":""}}`, []string{"tags: must have at most 3 fields"}},
		{"behind a key with a dot", `{"name":"x","tags":{"a.b[0]":1},"status":"?"}`,
			[]string{`status: expected value to be one of "active, locked"`, "tags.a.b[0]: expected string"}},
		{"settings", `{"name":"x","settings":[]}`, []string{"settings: must be a JSON object"}},
		{"settings in quotes", `{"name":"x","settings":"{}"}`, []string{"settings: must be a JSON object"}},
		{"body is a list", `[]`, []string{"body: must be a JSON object"}},
		{"body is null", `null`, []string{"body: must be a JSON object"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := in.Decode(source("", c.body))
			code, fields := refusal(t, err)
			if !reflect.DeepEqual(fields, c.want) || (c.want != nil) != (code == eider.ValidationFailed) {
				t.Errorf("got %q %q, want %q", code, fields, c.want)
			}
		})
	}
}

func TestNamesAreTakenAsDeclared(t *testing.T) {
	in := input[request](t)
	for body, want := range map[string]string{
		`{"name":"x","nmae":"y"}`:                          "nmae: is no field of this object",
		`{"name":"x","NAME":"a far too long name"}`:        "NAME: is no field of this object",
		`{"name":"x","\u017ftatus":"active"}`:              "ſtatus: is no field of this object",
		`{"name":"x","":1}`:                                ": is no field of this object",
		`{"name":"x","id":"two"}`:                          "id: is no field of this object",
		`{"name":"x","-":1}`:                               "-: is no field of this object",
		`{"name":"x","page":{}}`:                           "page: is no field of this object",
		`{"name":"x","options":{"Quote":"''"}}`:            "options.Quote: is no field of this object",
		`{"name":"x","columns":[{"a":1}]}`:                 "columns[0].a: is no field of this object",
		`{"name":"x","` + strings.Repeat("ä", 50) + `":1}`: strings.Repeat("ä", 32) + ": is no field of this object",
	} {
		_, err := in.Decode(source("", body))
		_, fields := refusal(t, err)
		if len(fields) == 0 || fields[0] != want {
			t.Errorf("%s: got %q, want %q", body, fields, want)
		}
	}
}

func TestRefusedValuesAreNotRepeated(t *testing.T) {
	in := input[request](t)
	const secret = "s3cr3t"
	for _, body := range []string{
		`{"name":"s3cr3t-s3cr3t"}`, `{"name":{"a":"s3cr3t"}}`, `{"name":"x","status":"s3cr3t"}`, `{"name":"x","kind":"s3cr3t"}`,
		`{"name":"x","link":"http://s3cr3t:%zz"}`, `{"name":"x","call":"s3cr3t"}`, `{"name":"x","mail":"s3cr3t"}`,
		`{"name":"x","wait":"s3cr3t"}`, `{"name":"x","until":"s3cr3t"}`, `{"name":"x","content":"s3cr3t"}`,
		`{"name":"x","keys":["s3cr3t","s3cr3t"]}`, `{"name":"x","days":"s3cr3t"}`, `{"name":"x","options":"s3cr3t"}`,
		`{"name":"x","settings":"s3cr3t"}`, `{"name":s3cr3t}`, `"s3cr3t"`, `{"name":"x"} s3cr3t`,
	} {
		_, err := in.Decode(source("", body))
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: got %v", body, err)
		}
	}
	for _, query := range []string{"limit=s3cr3t", "all=s3cr3t", "from=s3cr3t", "other=s3cr3t", "tag=s3cr3t&tag=&tag=&tag="} {
		_, err := in.Decode(source(query, `{"name":"x"}`))
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: got %v", query, err)
		}
	}
}

func TestRefusalNamesABoundedNumberOfFields(t *testing.T) {
	body := `{"name":"x","keys":["a"` + strings.Repeat(",1", 5000) + `]}`
	_, err := input[request](t).Decode(source("", body))
	_, fields := refusal(t, err)
	if len(fields) != 100 || !strings.Contains(err.Error(), "and 5001 more") {
		t.Errorf("got %d fields: %v", len(fields), err)
	}
}

func TestMediaTypes(t *testing.T) {
	in := input[request](t)
	for _, c := range []struct {
		contentType, body string
		want              eider.Code
	}{
		{"", `{"name":"x"}`, ""},
		{"application/json", `{"name":"x"}`, ""},
		{"Application/JSON; charset=utf-8", `{"name":"x"}`, ""},
		{"application/json; charset=latin1", `{"name":"x"}`, eider.UnsupportedMediaType},
		{"application/merge-patch+json", `{"name":"x"}`, eider.UnsupportedMediaType},
		{"text/plain", `{"name":"x"}`, eider.UnsupportedMediaType},
		{"application/x-www-form-urlencoded", `name=x`, eider.UnsupportedMediaType},
		{"application/jsonp", `{"name":"x"}`, eider.UnsupportedMediaType},
		{"json", `{"name":"x"}`, eider.UnsupportedMediaType},
		{"application/json;;", `{"name":"x"}`, eider.UnsupportedMediaType},
		{"text/plain", "", eider.ValidationFailed}, // nothing came: the name is missing
	} {
		src := source("", c.body)
		src.ContentType = c.contentType
		_, err := in.Decode(src)
		if code := eider.CodeOf(err); code != c.want {
			t.Errorf("%q with %q: got %v, want %q", c.contentType, c.body, err, c.want)
		}
	}
}

func TestEmptyBodies(t *testing.T) {
	type optional struct {
		Grace int `json:"grace_seconds" default:"60"`
	}
	for _, body := range []string{"", " \r\n\t", "{}"} {
		got, err := input[optional](t).Decode(source("", body))
		if err != nil || got.Grace != 60 {
			t.Errorf("optional, %q: got %+v, %v", body, got, err)
		}
		if _, err := input[struct{}](t).Decode(source("", body)); err != nil {
			t.Errorf("none, %q: %v", body, err)
		}
	}
	_, err := input[struct{}](t).Decode(source("", `{"a":1}`))
	if _, fields := refusal(t, err); len(fields) != 1 || !strings.HasPrefix(fields[0], "a: ") {
		t.Errorf("a body where there is none: got %v", err)
	}
}

func TestRequestsDoNotShareValues(t *testing.T) {
	in := input[request](t)
	body := []byte(`{"name":"x","settings":{"a":1},"keys":["a"]}`)
	src := source("tag=a", "")
	src.Body = body
	one, err := in.Decode(src)
	if err != nil {
		t.Fatal(err)
	}
	for i := range body { // the server uses its buffers again
		body[i] = '#'
	}
	if one.Name != "x" || string(one.Settings) != `{"a":1}` || one.Keys[0] != "a" {
		t.Errorf("got %+v", one)
	}
}

type withOptional struct {
	At schema.Optional[int64] `json:"at,omitempty" minimum:"1"`
}

func TestOptionalTellsNullFromAbsent(t *testing.T) {
	in, err := schema.InputOf[withOptional](schema.New())
	if err != nil {
		t.Fatal(err)
	}
	seven := int64(7)
	for body, want := range map[string]schema.Optional[int64]{
		`{}`: {}, `{"at":null}`: {Given: true}, `{"at":7}`: {Given: true, Value: &seven},
	} {
		got, err := in.Decode(schema.Source{Body: []byte(body), ContentType: "application/json"})
		if err != nil || !reflect.DeepEqual(got.At, want) {
			t.Errorf("%s: %+v, %v", body, got.At, err)
		}
	}
	for _, body := range []string{`{"at":"x"}`, `{"at":0}`, `{"at":1.5}`} {
		if _, err := in.Decode(schema.Source{Body: []byte(body), ContentType: "application/json"}); eider.CodeOf(err) != eider.ValidationFailed {
			t.Errorf("%s: %v", body, err)
		}
	}
}
