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

// failures collects what is wrong with a request.
type failures struct{ fields []eider.FieldError }

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
	e.Fields = f.fields
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
		value, schemaValue, err := p.parse(values)
		if err != nil {
			failed.add(p.name, err.Error())
			continue
		}
		if r.validate(p.schema, p.name, schemaValue, failed) {
			v.FieldByIndex(p.index).Set(reflect.ValueOf(value))
		}
	}
	for name := range src.Query {
		if !known[name] {
			failed.add(headerSafe(name), "is no parameter of this operation")
		}
	}
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
		return t, text, nil
	}
	list := make([]any, len(values))
	for i := range values {
		list[i] = values[i]
	}
	return values, list, nil
}

// validate checks a value against a schema and reports whether it holds. What
// huma says of a value names what was expected, never what came.
func (r *Registry) validate(s *huma.Schema, at string, value any, failed *failures) bool {
	path := huma.NewPathBuffer(make([]byte, 0, 64), 0)
	result := &huma.ValidateResult{}
	huma.Validate(r.huma, s, path, huma.ModeWriteToServer, value, result)
	for _, err := range result.Errors {
		field, message := at, err.Error()
		var detail *huma.ErrorDetail
		if errors.As(err, &detail) {
			message = detail.Message
			if detail.Location != "" {
				field = strings.TrimPrefix(at+"."+detail.Location, ".")
			}
		}
		failed.add(headerSafe(field), message)
	}
	return len(result.Errors) == 0
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
	for _, f := range plan.fields {
		if value, there := object[f.name]; there && value == nil && f.pointer {
			delete(object, f.name)
		}
	}
	if !r.validate(plan.schema, "", object, failed) {
		return nil
	}
	plan.fill(body, object, v, failed)
	return nil
}

// fill moves the fields of a valid body into the input.
func (plan *bodyPlan) fill(body []byte, object map[string]any, v reflect.Value, failed *failures) {
	into := reflect.New(plan.kind)
	if err := json.Unmarshal(body, into.Interface()); err != nil {
		var wrong *json.UnmarshalTypeError
		field := "body"
		if errors.As(err, &wrong) {
			field = wrong.Field
		}
		failed.add(field, "does not fit the field")
		return
	}
	for i, f := range plan.fields {
		value := into.Elem().Field(i)
		if _, there := object[f.name]; !there {
			if f.fallback != "" && value.Kind() == reflect.String {
				v.FieldByIndex(f.index).SetString(f.fallback)
			}
			continue
		}
		if f.raw {
			var compact bytes.Buffer
			if err := json.Compact(&compact, value.Bytes()); err != nil {
				failed.add(f.name, "is not valid JSON")
				continue
			}
			v.FieldByIndex(f.index).SetBytes(compact.Bytes())
			continue
		}
		v.FieldByIndex(f.index).Set(value)
	}
}

func checkMediaType(contentType string) error {
	if contentType == "" {
		return nil
	}
	media, _, err := mime.ParseMediaType(contentType)
	if err == nil && (media == "application/json" || strings.HasSuffix(media, "+json")) {
		return nil
	}
	return eider.Errorf(eider.UnsupportedMediaType, "the body must be application/json")
}
