package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// field is one setting: its dotted name and where its value goes.
type field struct {
	name   string
	doc    string
	secret bool
	value  reflect.Value
}

// mustBeFree panics if a setting's name is taken: by another one, by a section,
// or in the environment, where dots and underscores are one.
func (s *Set) mustBeFree(name string) {
	if reserved[Variable(name)] {
		panic("config: setting " + name + " has a name that is reserved in the environment")
	}
	for known := range s.fields {
		switch {
		case known == name:
			panic("config: setting " + name + " is declared twice")
		case strings.HasPrefix(known, name+".") || strings.HasPrefix(name, known+"."):
			panic("config: settings " + name + " and " + known + " stand inside each other")
		case Variable(known) == Variable(name):
			panic("config: settings " + name + " and " + known + " share a variable")
		}
	}
}

// walk lists the settings of a section. It panics on a field without a name or
// of a kind that is not read: a mistake in a declaration.
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
		if !readable(f.Type) {
			panic(fmt.Sprintf("config: field %s of %s: a setting cannot be a %s", f.Name, v.Type(), f.Type))
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

// readable says whether a setting can be of the type. A time.Duration cannot: it
// would be read as nanoseconds.
func readable(t reflect.Type) bool {
	if isText(t) {
		return true
	}
	switch t.Kind() {
	case reflect.Bool, reflect.Int, reflect.Float64, reflect.String:
		return true
	case reflect.Int64:
		return t != reflect.TypeFor[time.Duration]()
	case reflect.Map:
		return t.Key().Kind() == reflect.String
	case reflect.Slice:
		if isItems(t) {
			walk("", reflect.New(t.Elem()).Elem())
			return true
		}
		return readable(t.Elem())
	}
	return false
}

// isItems says whether a type is a list of structs, such as plugins.items.
func isItems(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct && !isText(t.Elem())
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
	case reflect.Map:
		return "names and values"
	}
	return "a text"
}
