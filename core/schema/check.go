package schema

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"
)

// place is where a value stands, such as columns[2].name. It is a chain on the
// stack, so that only a failure costs a string. The body itself is nil.
type place struct {
	in      *place
	name    string
	element bool // name is empty, index counts
	index   int
}

func (p *place) String() string {
	switch {
	case p == nil:
		return "body"
	case p.element:
		return p.in.String() + "[" + strconv.Itoa(p.index) + "]"
	case p.in == nil:
		return headerSafe(p.name)
	}
	return p.in.String() + "." + headerSafe(p.name)
}

// check adds everything that is wrong with a value.
//
// Objects and lists are walked here and scalars are left to huma, whose own
// walk takes names in any case (what it checks is then not what encoding/json
// reads), loses its way behind a key that holds a dot, reports a field that is
// missing at its parent, and panics on a list of objects that must be unique.
func (r *Registry) check(s *huma.Schema, at *place, value any, failed *failures) {
	for s.Ref != "" {
		s = r.huma.SchemaFromRef(s.Ref)
	}
	if anything(s) || value == nil && s.Nullable && !needsItems(s) {
		return
	}
	switch s.Type {
	case huma.TypeObject:
		if object, ok := value.(map[string]any); ok {
			r.checkObject(s, at, object, failed)
			return
		}
		failed.add(at.String(), "must be a JSON object")
	case huma.TypeArray:
		if list, ok := value.([]any); ok {
			r.checkList(s, at, list, failed)
			return
		}
		failed.add(at.String(), "must be a list")
	default:
		r.checkScalar(s, at, value, failed)
	}
}

// anything reports whether the schema takes every value.
func anything(s *huma.Schema) bool {
	return s.Type == "" && s.OneOf == nil && s.AnyOf == nil && s.AllOf == nil && s.Not == nil
}

// needsItems reports whether the schema is a list that must not be empty: null,
// which is an empty list to a Go slice, is then refused too.
func needsItems(s *huma.Schema) bool {
	return s.Type == huma.TypeArray && s.MinItems != nil && *s.MinItems > 0
}

func (r *Registry) checkObject(s *huma.Schema, at *place, object map[string]any, failed *failures) {
	checkCount(s.MinProperties, s.MaxProperties, len(object), "fields", at, failed)
	for _, name := range s.Required {
		if _, there := object[name]; !there && !readOnly(s.Properties[name]) {
			failed.add((&place{in: at, name: name}).String(), "is required")
		}
	}
	for name, others := range s.DependentRequired {
		for _, other := range others {
			if object[name] != nil && object[other] == nil {
				failed.add((&place{in: at, name: other}).String(), "is required together with "+name)
			}
		}
	}
	open, free := s.AdditionalProperties.(*huma.Schema)
	for name, value := range object {
		here := place{in: at, name: name}
		property := s.Properties[name]
		switch {
		case property != nil:
			// null for an optional field says that it is absent.
			if value != nil || slices.Contains(s.Required, name) {
				r.check(property, &here, value, failed)
			}
		case free:
			r.check(open, &here, value, failed)
		case s.AdditionalProperties == false:
			failed.add(here.String(), "is no field of this object")
		}
	}
}

// readOnly reports whether only answers hold the field.
func readOnly(s *huma.Schema) bool { return s != nil && s.ReadOnly }

func (r *Registry) checkList(s *huma.Schema, at *place, list []any, failed *failures) {
	checkCount(s.MinItems, s.MaxItems, len(list), "items", at, failed)
	if s.UniqueItems && repeats(list) {
		failed.add(at.String(), "must not hold an item twice")
	}
	for i, item := range list {
		r.check(s.Items, &place{in: at, element: true, index: i}, item, failed)
	}
}

func checkCount(least, most *int, n int, of string, at *place, failed *failures) {
	if least != nil && n < *least {
		failed.add(at.String(), fmt.Sprintf("must have at least %d %s", *least, of))
	}
	if most != nil && n > *most {
		failed.add(at.String(), fmt.Sprintf("must have at most %d %s", *most, of))
	}
}

// repeats reports whether a scalar is in the list twice.
func repeats(list []any) bool {
	seen := make(map[any]bool, len(list))
	for _, item := range list {
		switch item.(type) {
		case map[string]any, []any:
			continue // not comparable; the schema of the items decides on them
		}
		if seen[item] {
			return true
		}
		seen[item] = true
	}
	return false
}

func (r *Registry) checkScalar(s *huma.Schema, at *place, value any, failed *failures) {
	failed.path.Reset()
	failed.huma.Reset()
	huma.Validate(r.huma, s, &failed.path, huma.ModeWriteToServer, value, &failed.huma)
	for _, err := range failed.huma.Errors {
		message := "does not fit the field"
		var detail *huma.ErrorDetail
		if errors.As(err, &detail) {
			message = withoutCause(detail.Message)
		}
		failed.add(at.String(), message)
	}
}

// withoutCause cuts what the parser of a format said, as it repeats the value.
func withoutCause(message string) string {
	for _, format := range [...]string{
		validation.MsgExpectedRFC5322Email, validation.MsgExpectedRFC3986URI, validation.MsgExpectedRFC4122UUID,
		validation.MsgExpectedRegexp, validation.MsgExpectedDuration,
	} {
		said := strings.TrimSuffix(format, ": %v")
		if strings.HasPrefix(message, said+": ") {
			return said
		}
	}
	return message
}
