package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
)

// field is one setting: its dotted name and where its value goes.
type field struct {
	name   string
	doc    string
	secret bool
	value  reflect.Value
}

// walk lists the settings of a section. It panics on a field without a name: a
// mistake in a declaration.
func walk(prefix string, v reflect.Value) []field {
	var all []field
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := f.Tag.Get("koanf")
		if name == "" || !f.IsExported() {
			panic(fmt.Sprintf("config: field %s of %s has no koanf tag", f.Name, v.Type()))
		}
		name = join(prefix, name)
		if f.Type.Kind() == reflect.Struct && !isText(f.Type) {
			all = append(all, walk(name, v.Field(i))...)
			continue
		}
		all = append(all, field{name, f.Tag.Get("doc"), f.Tag.Get("secret") == "true", v.Field(i)})
	}
	return all
}

func join(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}

func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// text writes a setting's value as a file would.
func (f field) text() string {
	if m, ok := f.value.Interface().(encoding.TextMarshaler); ok {
		if b, err := m.MarshalText(); err == nil {
			return string(b)
		}
	}
	if f.value.Kind() == reflect.Slice && f.value.Type().Elem().Kind() == reflect.String {
		parts := make([]string, f.value.Len())
		for i := range parts {
			parts[i] = f.value.Index(i).String()
		}
		return strings.Join(parts, ",")
	}
	return fmt.Sprint(f.value.Interface())
}

// kind says in an error message what was expected.
func (f field) kind() string {
	switch f.value.Interface().(type) {
	case Size:
		return "a size such as 64MiB"
	case Duration:
		return "a duration such as 30s or 7d"
	}
	switch f.value.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list"
	}
	return "a text"
}
