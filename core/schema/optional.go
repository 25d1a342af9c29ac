package schema

import (
	"bytes"
	"encoding/json"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

// Optional is a field of a body for which null says something else than that it
// is absent: that a value is taken away.
type Optional[T any] struct {
	Given bool // the field is there
	Value *T   // nil: null
}

// UnmarshalJSON reads a value or null.
func (o *Optional[T]) UnmarshalJSON(text []byte) error {
	o.Given, o.Value = true, nil
	if bytes.Equal(text, []byte("null")) {
		return nil
	}
	return json.Unmarshal(text, &o.Value)
}

// Schema is that of T, or null.
func (Optional[T]) Schema(r huma.Registry) *huma.Schema {
	s := *huma.SchemaFromType(r, reflect.TypeFor[T]())
	s.Nullable = true
	return &s
}

func (Optional[T]) takesNull() {}

// takesNull reports whether null is a value of the field.
func takesNull(t reflect.Type) bool {
	_, ok := reflect.Zero(t).Interface().(interface{ takesNull() })
	return ok
}
