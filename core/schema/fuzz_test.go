package schema_test

import (
	"encoding/json"
	"errors"
	"net/url"
	"reflect"
	"testing"
	"unicode/utf8"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/schema"
)

// FuzzDecode: a request is refused with an *eider.Error in valid UTF-8, or it
// says the same again when it is encoded and decoded.
func FuzzDecode(f *testing.F) {
	for _, seed := range []struct{ query, body string }{
		{"", `{"name":"x"}`},
		{"limit=5&tag=a&tag=b&from=2026-01-02T03:04:05Z&row=-1", `{"name":"x","settings":{"a":[1,2.50,null]},"days":7}`},
		{"a=%ff", `{"name":"x","NAME":"y"}`},
		{"", `{"name":"x","keys":[{},{}]}`},
		{"", `{"name":"x","columns":[{"name":"c","type":"INTEGER"}],"options":{"inner":{"quote":"'"}}}`},
		{"", `{"name":"x","tags":{"a.b[0]":1},"params":[1e3,"x"],"extra":{"":null},"content":"aGk=","until":"2026-01-02T03:04:05,5Z"}`},
		{"", `{"name":"x","link":"http://a:%zz","size":1e18,"small":128}`},
		{"", "[[[\x00"},
	} {
		f.Add(seed.query, []byte(seed.body))
	}
	in := input[request](f)
	f.Fuzz(func(t *testing.T, query string, body []byte) {
		values, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		src := schema.Source{
			Param: func(string) string { return "one" }, Header: func(string) string { return "" }, Query: values, Body: body,
		}
		got, err := in.Decode(src)
		if err != nil {
			refused(t, err)
			return
		}
		again, err := json.Marshal(got)
		if err != nil {
			t.Fatalf("%q is read and cannot be written: %v", body, err)
		}
		src.Body = again
		second, err := in.Decode(src)
		if err != nil {
			t.Fatalf("%q is read, and its copy %s refused: %v", body, again, err)
		}
		if third, err := json.Marshal(second); err != nil || string(third) != string(again) {
			t.Fatalf("%s became %s, %v", again, third, err)
		}
		if !reflect.DeepEqual(got.page, second.page) || !reflect.DeepEqual(got.Tag, second.Tag) {
			t.Fatalf("the parameters changed: %+v, %+v", got.page, second.page)
		}
	})
}

func refused(t *testing.T, err error) {
	var e *eider.Error
	if !errors.As(err, &e) {
		t.Fatalf("the error %v is no *eider.Error", err)
	}
	if !utf8.ValidString(e.Message) || e.Code == eider.ValidationFailed && len(e.Fields) == 0 {
		t.Fatalf("the refusal is %+v", e)
	}
	for _, f := range e.Fields {
		if !utf8.ValidString(f.Field) || f.Message == "" {
			t.Fatalf("the refusal of a field is %+v", f)
		}
	}
}
