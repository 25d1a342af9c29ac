package config

import (
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"strconv"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/v2"
	"go.yaml.in/yaml/v3"
)

// fill stores the merged values in the sections.
func (s *Set) fill(k *koanf.Koanf) error {
	var wrong []error
	for _, name := range s.names() {
		if k.Exists(name) {
			wrong = append(wrong, s.set(s.fields[name], k.Get(name)))
		}
	}
	return errors.Join(wrong...)
}

// set converts a value and stores it. The error never shows the value, which
// may be a secret.
func (s *Set) set(f field, value any) error {
	if isItems(f.value.Type()) {
		return s.setItems(f, value)
	}
	source := s.where(f.name, s.source[f.name])
	if text, ok := value.(string); ok && f.secret {
		read, err := secret(text)
		if err != nil {
			return fmt.Errorf("%s (%s): %w", f.name, source, err)
		}
		value = read
	}
	into := reflect.New(f.value.Type())
	if decode(value, into.Interface(), !strings.HasPrefix(source, "file ")) != nil {
		return fmt.Errorf("%s (%s): must be %s", f.name, source, f.kind())
	}
	f.value.Set(into.Elem())
	return nil
}

// decode converts a value. Where all is text, a flag or a variable, weak lets a
// text be a number.
func decode(value, into any, weak bool) error {
	if value == nil && reflect.TypeOf(into).Elem().Kind() == reflect.Slice {
		value = []any{} // a list whose last line was commented out
	}
	if value == nil {
		return errNoValue
	}
	decoder, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result: into, TagName: "koanf", WeaklyTypedInput: weak,
		DecodeHook: mapstructure.ComposeDecodeHookFunc(
			listFromText, exact, mapstructure.TextUnmarshallerHookFunc()),
	})
	if err != nil {
		return err
	}
	return decoder.Decode(value)
}

// errNoValue and errInexact never reach the caller, who reads what the setting
// must be.
var (
	errNoValue = errors.New("no value")
	errInexact = errors.New("not exactly of the type")
)

// exact refuses what mapstructure would round, wrap around, or make of nothing.
// It lets a size be written as a plain number.
func exact(from, to reflect.Type, value any) (any, error) {
	v := reflect.ValueOf(value)
	if isText(to) && (v.CanInt() || v.CanUint()) {
		return fmt.Sprint(value), nil
	}
	switch to.Kind() {
	case reflect.Int, reflect.Int64:
		if isText(to) && from.Kind() == reflect.String {
			return value, nil
		}
		if v.CanFloat() || v.CanUint() || value == "" {
			return nil, errInexact
		}
	case reflect.Float64:
		number, err := strconv.ParseFloat(fmt.Sprint(value), 64)
		if err != nil || math.IsNaN(number) || math.IsInf(number, 0) {
			return nil, errInexact
		}
	case reflect.Bool:
		if value == "" {
			return nil, errInexact
		}
	case reflect.Slice:
		for i := 0; from.Kind() == reflect.Slice && i < v.Len(); i++ {
			if v.Index(i).Kind() == reflect.Interface && v.Index(i).IsNil() {
				return nil, errNoValue
			}
		}
	}
	return value, nil
}

// listFromText reads a list or a map that stands in a flag or a variable: as
// YAML (and so JSON), but a list that begins with no bracket is separated by
// commas.
func listFromText(from, to reflect.Type, value any) (any, error) {
	text, ok := value.(string)
	if !ok || isText(to) {
		return value, nil
	}
	switch {
	case to.Kind() == reflect.Map || to.Kind() == reflect.Slice && strings.HasPrefix(strings.TrimSpace(text), "["):
		var read any
		err := yaml.Unmarshal([]byte(text), &read)
		return read, err
	case to.Kind() != reflect.Slice:
		return value, nil
	case strings.TrimSpace(text) == "":
		return []string{}, nil
	}
	parts := strings.Split(text, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts, nil
}

// setItems fills a list of structs. Each item is a section of its own, so that
// an error names the very line: plugins.items[0].path.
func (s *Set) setItems(f field, value any) error {
	source := s.source[f.name]
	if text, ok := value.(string); ok {
		if yaml.Unmarshal([]byte(text), &value) != nil {
			return fmt.Errorf("%s (%s): must be a list, written as YAML or JSON", f.name, source)
		}
	}
	list, ok := value.([]any)
	if !ok && value != nil {
		return fmt.Errorf("%s (%s): must be a list", f.name, s.where(f.name, source))
	}
	into := reflect.MakeSlice(f.value.Type(), len(list), len(list))
	var wrong []error
	for i, value := range list {
		item, name, one := New(), fmt.Sprintf("%s[%d]", f.name, i), into.Index(i).Addr().Interface()
		item.lines = s.lines
		if d, ok := one.(interface{ Default() }); ok {
			d.Default()
		}
		item.Section(name, one)
		wrong = append(wrong, item.loadItem(name, source, value))
	}
	if err := errors.Join(wrong...); err != nil {
		return err
	}
	f.value.Set(into)
	return nil
}

func (s *Set) loadItem(name, source string, value any) error {
	tree, ok := asMap(value)
	if !ok {
		return fmt.Errorf("%s (%s): must be names and values", name, s.where(name, source))
	}
	k, values := koanf.New("."), map[string]any{}
	err := s.flatten(source, name, tree, values)
	if err := errors.Join(err, s.merge(k, values, source), s.fill(k)); err != nil {
		return err
	}
	return s.validate()
}

// secret returns the content of the file that "file:PATH" names, or the text.
func secret(text string) (string, error) {
	if text == mask {
		return "", errors.New("is the mask that stands for a secret in what config prints, not the secret")
	}
	path, ok := strings.CutPrefix(text, "file:")
	if !ok {
		return text, nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	read := strings.TrimRight(string(content), "\r\n")
	if read == "" { // an empty setting would mean the default
		return "", fmt.Errorf("the file %s is empty", path)
	}
	return read, nil
}
