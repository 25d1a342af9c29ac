package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/eiderdb/eider"
)

// Decode reads a request into T. A refusal is malformed_json, validation_failed
// with every failing field, or unsupported_media_type.
func (in *Input[T]) Decode(src Source) (T, error) {
	var out T
	v := reflect.ValueOf(&out).Elem()
	failed := &failures{}
	in.registry.decodeParams(in.plan.params, src, v, failed)
	if err := in.registry.decodeBody(in.plan.body, src, v, failed); err != nil {
		return out, err
	}
	return out, failed.err()
}

// maxFailures bounds the fields that one answer names: a body can be wrong in
// more places than it has lines.
const maxFailures = 100

// failures collects what is wrong with a request. Paths and results that huma
// needs for a moment are kept for the next field.
type failures struct {
	fields []eider.FieldError
	path   huma.PathBuffer
	huma   huma.ValidateResult
}

func (f *failures) add(field, message string) {
	f.fields = append(f.fields, eider.FieldError{Field: field, Message: message})
}

func (f *failures) err() error {
	if len(f.fields) == 0 {
		return nil
	}
	sort.SliceStable(f.fields, func(i, j int) bool { return f.fields[i].Field < f.fields[j].Field })
	first := f.fields[0]
	e := eider.Errorf(eider.ValidationFailed, "%s: %s", first.Field, first.Message)
	if more := len(f.fields) - 1; more > 0 {
		e.Message += fmt.Sprintf(" (and %d more)", more)
	}
	e.Fields = f.fields[:min(len(f.fields), maxFailures)]
	return e
}

func (r *Registry) decodeParams(params []param, src Source, v reflect.Value, failed *failures) {
	known := map[string]bool{}
	for i := range params {
		p := &params[i]
		values := p.values(src)
		if p.in == "query" {
			known[p.name] = true
		}
		if len(values) == 0 {
			if p.required {
				failed.add(p.name, "is required")
			}
			continue
		}
		if len(values) > 1 && p.kind.Kind() != reflect.Slice {
			failed.add(p.name, "must be given once")
			continue
		}
		if !allUTF8(values) {
			failed.add(p.name, "must be valid UTF-8")
			continue
		}
		value, schemaValue, err := p.parse(values)
		if err != nil {
			failed.add(p.name, err.Error())
			continue
		}
		before := len(failed.fields)
		r.check(p.schema, &place{name: p.name}, schemaValue, failed)
		if len(failed.fields) == before {
			v.FieldByIndex(p.index).Set(reflect.ValueOf(value))
		}
	}
	for name := range src.Query {
		if !known[name] {
			failed.add(headerSafe(name), "is no parameter of this operation")
		}
	}
}

// allUTF8 reports whether every value is valid UTF-8. DuckDB's Appender turns
// what is not into NULL without a word.
func allUTF8(values []string) bool {
	for _, value := range values {
		if !utf8.ValidString(value) {
			return false
		}
	}
	return true
}

// headerSafe shortens a name that the caller made up.
func headerSafe(name string) string {
	if len(name) > 64 {
		name = name[:64]
	}
	return strings.ToValidUTF8(name, "?")
}

// values returns what the request says for the parameter, else its default.
func (p *param) values(src Source) []string {
	var values []string
	switch {
	case p.in == "path":
		return []string{src.Param(p.name)}
	case p.in == "query":
		values = src.Query[p.name]
	case src.Header != nil:
		if h := src.Header(p.name); h != "" {
			values = []string{h}
		}
	}
	if len(values) == 0 && p.fallback != "" {
		values = []string{p.fallback}
	}
	return values
}

// parse returns the value for the field, and the form in which its schema is
// checked.
func (p *param) parse(values []string) (value, schemaValue any, err error) {
	text := values[0]
	switch p.kind {
	case reflect.TypeFor[string]():
		return text, text, nil
	case reflect.TypeFor[int]():
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, nil, errors.New("must be a whole number")
		}
		return n, float64(n), nil
	case reflect.TypeFor[int64]():
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, nil, errors.New("must be a whole number")
		}
		return n, float64(n), nil
	case reflect.TypeFor[bool]():
		if text != "true" && text != "false" {
			return nil, nil, errors.New("must be true or false")
		}
		return text == "true", text == "true", nil
	case reflect.TypeFor[time.Time]():
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return nil, nil, errors.New("must be a time such as 2026-01-02T15:04:05Z")
		}
		if t.IsZero() { // that stands for none; and nothing is kept by the nanosecond
			t = t.Add(1)
		}
		return t, text, nil
	}
	list := make([]any, len(values))
	for i := range values {
		list[i] = values[i]
	}
	return values, list, nil
}

func (r *Registry) decodeBody(plan *bodyPlan, src Source, v reflect.Value, failed *failures) error {
	body := bytes.TrimSpace(src.Body)
	if len(body) == 0 {
		body = []byte("{}")
	} else if err := checkMediaType(src.ContentType); err != nil {
		return err
	}
	tree, err := parse(body)
	if err != nil {
		return err
	}
	object, ok := tree.(map[string]any)
	if !ok {
		failed.add("body", "must be a JSON object")
		return nil
	}
	if plan == nil {
		for name := range object {
			failed.add(headerSafe(name), "is no field of this operation, which takes no body")
		}
		return nil
	}
	before := len(failed.fields)
	r.check(plan.schema, nil, object, failed)
	if len(failed.fields) == before {
		plan.fill(body, object, v, failed)
	}
	return nil
}

// fill moves the fields of a valid body into the input. What a field of type any
// holds keeps its numbers as json.Number, so that large ones stay exact.
func (plan *bodyPlan) fill(body []byte, object map[string]any, v reflect.Value, failed *failures) {
	into := reflect.New(plan.kind)
	if err := unmarshal(body, into.Interface()); err != nil {
		plan.blame(body, failed)
		return
	}
	for i, f := range plan.fields {
		value, field := into.Elem().Field(i), v.FieldByIndex(f.index)
		given, there := object[f.name]
		switch {
		case !there || given == nil && !takesNull(field.Type()):
			if f.fallback.IsValid() {
				field.Set(f.fallback)
			}
		case f.raw:
			var compact bytes.Buffer
			if err := json.Compact(&compact, value.Bytes()); err != nil {
				failed.add(f.name, "is not valid JSON")
				continue
			}
			field.SetBytes(compact.Bytes())
		default:
			field.Set(value)
		}
	}
}

func unmarshal(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	return d.Decode(into)
}

// blame names the fields that hold what their schema takes and their Go type
// does not, such as a number that is too large. An error of encoding/json does
// not always tell, and may repeat the value.
func (plan *bodyPlan) blame(body []byte, failed *failures) {
	before := len(failed.fields)
	var parts map[string]json.RawMessage
	if json.Unmarshal(body, &parts) == nil {
		for i, f := range plan.fields {
			part, there := parts[f.name]
			err := unmarshal(part, reflect.New(plan.kind.Field(i).Type).Interface())
			if !there || err == nil {
				continue
			}
			var wrong *json.UnmarshalTypeError
			at := &place{name: f.name}
			if errors.As(err, &wrong) && wrong.Field != "" {
				at = &place{in: at, name: wrong.Field}
			}
			failed.add(at.String(), "does not fit the field")
		}
	}
	if len(failed.fields) == before {
		failed.add("body", "does not fit its fields")
	}
}

func checkMediaType(contentType string) error {
	if contentType == "" {
		return nil
	}
	media, params, err := mime.ParseMediaType(contentType)
	charset, given := params["charset"]
	if err == nil && media == "application/json" && (!given || strings.EqualFold(charset, "utf-8")) {
		return nil
	}
	return eider.Errorf(eider.UnsupportedMediaType, "the body must be application/json, in UTF-8")
}

// Given returns what a request that was decoded has said, as one JSON object: the
// members of its body and the parameters of its path and query by their names. It
// is null where there are none.
func (d *Description) Given(src Source) (json.RawMessage, error) {
	members := map[string]json.RawMessage{}
	if d.HasBody() && len(src.Body) > 0 {
		if err := json.Unmarshal(src.Body, &members); err != nil {
			return nil, err
		}
	}
	for i := range d.params {
		p := &d.params[i]
		if p.in == "header" {
			continue
		}
		values := p.values(src)
		if len(values) == 0 {
			continue
		}
		value, _, err := p.parse(values)
		if err != nil {
			return nil, err
		}
		if members[p.name], err = json.Marshal(value); err != nil {
			return nil, err
		}
	}
	if len(members) == 0 {
		return nil, nil
	}
	return json.Marshal(members)
}
