package schema

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// checkPlan refuses declarations that would mislead at run time, and sets the
// defaults of the body's fields.
func (r *Registry) checkPlan(d *Description) error {
	seen := map[string]bool{}
	for i := range d.params {
		p := &d.params[i]
		key := p.in + " " + strings.ToLower(p.name)
		if seen[key] {
			return fmt.Errorf("parameter %s is declared twice", p.name)
		}
		seen[key] = true
		if err := r.checkParam(p); err != nil {
			return err
		}
	}
	if d.body == nil {
		return nil
	}
	for i := range d.body.fields {
		f := &d.body.fields[i]
		// encoding/json takes names in any case: two of them would be one.
		key := "body " + strings.ToLower(f.name)
		if seen[key] {
			return fmt.Errorf("field %s is declared twice", f.name)
		}
		seen[key] = true
		if err := f.setDefault(d.body); err != nil {
			return err
		}
	}
	return r.refuseDefaults(d.body.schema, map[*huma.Schema]bool{d.body.schema: true})
}

func (r *Registry) checkParam(p *param) error {
	if p.schema.Format == "date-time-http" {
		return fmt.Errorf("parameter %s is a time in a header, of which there is no form here", p.name)
	}
	if p.fallback == "" {
		return nil
	}
	if p.kind.Kind() == reflect.Slice {
		return fmt.Errorf("parameter %s is a list, which has no default", p.name)
	}
	_, value, err := p.parse([]string{p.fallback})
	failed := &failures{}
	if err == nil {
		r.check(p.schema, &place{name: p.name}, value, failed)
		err = failed.err()
	}
	if err != nil {
		return fmt.Errorf("the default of parameter %s: %w", p.name, err)
	}
	return nil
}

// setDefault takes the default from the schema, where huma has given it the
// field's type. Lists and pointers would be shared by all requests.
func (f *bodyField) setDefault(plan *bodyPlan) error {
	s := plan.schema.Properties[f.name]
	if s == nil {
		return fmt.Errorf("field %s has a type that JSON does not know", f.name)
	}
	if s.Default == nil {
		return nil
	}
	value := reflect.ValueOf(s.Default)
	switch value.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int64, reflect.Float64:
		f.fallback = value
		return nil
	}
	return fmt.Errorf("field %s is a %s, which has no default", f.name, value.Type())
}

// refuseDefaults refuses a default below the body's own fields: it would be
// documented and never applied.
func (r *Registry) refuseDefaults(s *huma.Schema, seen map[*huma.Schema]bool) error {
	below := make([]*huma.Schema, 0, len(s.Properties)+2)
	for _, property := range s.Properties {
		below = append(below, property)
	}
	if s.Items != nil {
		below = append(below, s.Items)
	}
	if open, ok := s.AdditionalProperties.(*huma.Schema); ok {
		below = append(below, open)
	}
	for _, child := range below {
		for child.Ref != "" {
			child = r.huma.SchemaFromRef(child.Ref)
		}
		if seen[child] {
			continue
		}
		seen[child] = true
		for name, property := range child.Properties {
			if property.Default != nil {
				return fmt.Errorf("field %s of an inner object has a default, which is not applied: use a pointer", name)
			}
		}
		if err := r.refuseDefaults(child, seen); err != nil {
			return err
		}
	}
	return nil
}
