// Package schema says how a Go struct describes a request or an answer: it
// decodes and validates requests, and writes the OpenAPI document.
//
// It is the reflective half of huma (registry, schemas, validation) behind rules
// of our own: what nobody declared is refused, every failing field is named, and
// no refused value is repeated, since it may be a secret. All plans are made at
// declaration. The package knows no HTTP server.
package schema

import (
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Registry holds the schemas of all declarations.
type Registry struct{ huma huma.Registry }

// New returns an empty registry.
func New() *Registry {
	r := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	// JSON that is kept as it came is always an object here.
	r.RegisterTypeAlias(reflect.TypeFor[json.RawMessage](), reflect.TypeFor[map[string]any]())
	return &Registry{r}
}

// Source is where the parts of a request come from.
type Source struct {
	Param       func(name string) string
	Query       url.Values
	Header      func(name string) string
	Body        []byte
	ContentType string
}

// Description is an input type with the type put away, for the document.
type Description struct {
	params []param
	body   *bodyPlan // nil: no body fields
}

// HasBody reports whether the input has body fields.
func (d *Description) HasBody() bool { return d.body != nil }

// BodyRequired reports whether one of them must be there.
func (d *Description) BodyRequired() bool { return d.body != nil && len(d.body.schema.Required) > 0 }

// Header reports whether the input reads the header.
func (d *Description) Header(name string) bool {
	return slices.ContainsFunc(d.params, func(p param) bool { return p.in == "header" && p.name == name })
}

// param is a field that stands in the path, the query or a header.
type param struct {
	in, name string
	index    []int
	kind     reflect.Type
	schema   *huma.Schema
	doc      string
	required bool
	fallback string
}

// bodyPlan is the fields of the JSON body, as a struct of their own.
type bodyPlan struct {
	kind   reflect.Type
	fields []bodyField
	schema *huma.Schema
}

type bodyField struct {
	name     string
	index    []int
	raw      bool
	fallback reflect.Value // of an absent field; invalid if none is declared
}

// Input decodes requests into T. Fields tagged path, query or header are
// parameters; the others are the JSON body's. A path parameter that says
// required:"false" is one that not each of the routes has. A field of T is required only
// where it says required:"true"; in structs below it huma's rule holds, by which
// a field is required unless it says omitempty or required:"false".
//
// What a request may hold:
//   - names exactly as declared, at any depth: others are refused, as are
//     parameters of the query that nobody declared;
//   - null for an optional field, which is then absent;
//   - no key twice, even in free-form objects (json.RawMessage, map[string]any);
//   - no body at all, whatever the content type, where no field is required.
type Input[T any] struct {
	registry *Registry
	plan     Description
}

// InputOf makes the plan of T. An error is a mistake in the declaration.
func InputOf[T any](r *Registry) (in *Input[T], err error) {
	t := reflect.TypeFor[T]()
	defer func() { // huma and reflect panic on what they cannot describe
		if v := recover(); v != nil {
			err = fmt.Errorf("the input %s: %v", t, v)
		}
	}()
	in = &Input[T]{registry: r}
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("the input %s is no struct", t)
	}
	var body []reflect.StructField
	var fields []bodyField
	err = eachField(t, nil, func(f reflect.StructField, index []int) error {
		p, err := r.param(f, index)
		switch {
		case err != nil:
			return err
		case p != nil:
			in.plan.params = append(in.plan.params, *p)
		case f.Tag.Get("json") != "-":
			b, field := bodyFieldOf(f, index)
			body, fields = append(body, field), append(fields, b)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("the input %s: %w", t, err)
	}
	if len(body) > 0 {
		kind := reflect.StructOf(body)
		in.plan.body = &bodyPlan{kind, fields, huma.SchemaFromType(r.huma, kind)}
		in.plan.body.schema.PrecomputeMessages()
	}
	if err := r.checkPlan(&in.plan); err != nil {
		return nil, fmt.Errorf("the input %s: %w", t, err)
	}
	return in, nil
}

// Description returns the plan with its type put away.
func (in *Input[T]) Description() *Description { return &in.plan }

// eachField visits the fields of a struct, those of embedded structs in place.
func eachField(t reflect.Type, at []int, visit func(reflect.StructField, []int) error) error {
	for i := range t.NumField() {
		f := t.Field(i)
		index := append(append([]int(nil), at...), i)
		if f.Anonymous && (f.Type.Kind() != reflect.Struct || f.Tag != "") {
			return fmt.Errorf("field %s of %s is embedded: that must be a struct without tags", f.Name, t)
		}
		if f.Anonymous {
			if err := eachField(f.Type, index, visit); err != nil {
				return err
			}
			continue
		}
		if !f.IsExported() {
			return fmt.Errorf("field %s of %s is not exported", f.Name, t)
		}
		if err := visit(f, index); err != nil {
			return err
		}
	}
	return nil
}

var paramKinds = []reflect.Type{
	reflect.TypeFor[string](), reflect.TypeFor[int](), reflect.TypeFor[int64](), reflect.TypeFor[bool](),
	reflect.TypeFor[time.Time](), reflect.TypeFor[[]string](),
}

func (r *Registry) param(f reflect.StructField, index []int) (*param, error) {
	for _, in := range []string{"path", "query", "header"} {
		name := f.Tag.Get(in)
		if name == "" {
			continue
		}
		known := false
		for _, k := range paramKinds {
			known = known || k == f.Type
		}
		if !known {
			return nil, fmt.Errorf("parameter %s has type %s", name, f.Type)
		}
		s := huma.SchemaFromField(r.huma, f, "")
		s.PrecomputeMessages()
		return &param{
			in: in, name: name, index: index, kind: f.Type, schema: s, doc: f.Tag.Get("doc"),
			required: f.Tag.Get("required") == "true" || in == "path" && f.Tag.Get("required") != "false", fallback: f.Tag.Get("default"),
		}, nil
	}
	return nil, nil
}

func bodyFieldOf(f reflect.StructField, index []int) (bodyField, reflect.StructField) {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "" {
		name = f.Name
	}
	if f.Tag.Get("required") == "" {
		f.Tag += ` required:"false"`
	}
	f.Index, f.Offset = nil, 0
	return bodyField{
		name: name, index: index,
		raw: f.Type == reflect.TypeFor[json.RawMessage](),
	}, f
}
