package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// text writes a setting's value as a variable or a flag would.
func (f field) text() string {
	if m, ok := f.value.Interface().(encoding.TextMarshaler); ok {
		if b, err := m.MarshalText(); err == nil {
			return string(b)
		}
	}
	switch f.value.Kind() {
	case reflect.Slice:
		if list, ok := f.value.Interface().([]string); ok {
			return strings.Join(list, ",")
		}
		return f.yaml()
	case reflect.Map:
		return f.yaml()
	}
	return fmt.Sprint(f.value.Interface())
}

// yaml writes a setting's value in one line, as a file would.
func (f field) yaml() string {
	var n yaml.Node
	if err := n.Encode(shown(f.value, f.secret)); err != nil {
		return ""
	}
	switch {
	case n.Kind != yaml.ScalarNode:
		n.Style = yaml.FlowStyle
	case strings.Contains(n.Value, "\n"):
		n.Style = yaml.DoubleQuotedStyle
	}
	text, err := yaml.Marshal(&n)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// shown copies a value for people: structs become maps under the names of their
// settings, and secrets the mask, in lists too.
func shown(v reflect.Value, secret bool) any {
	switch {
	case secret && !v.IsZero():
		return mask
	case isItems(v.Type()):
		items := []any{}
		for i := range v.Len() {
			item := map[string]any{}
			for _, f := range walk("", v.Index(i)) {
				put(item, strings.Split(f.name, "."), shown(f.value, f.secret))
			}
			items = append(items, item)
		}
		return items
	case v.Kind() == reflect.Slice && v.IsNil():
		return []any{}
	case v.Kind() == reflect.Map && v.IsNil():
		return map[string]any{}
	}
	return v.Interface()
}

// put stores a value below the parts of its name.
func put(tree map[string]any, name []string, value any) {
	for ; len(name) > 1; name = name[1:] {
		below, ok := tree[name[0]].(map[string]any)
		if !ok {
			below = map[string]any{}
			tree[name[0]] = below
		}
		tree = below
	}
	tree[name[0]] = value
}
