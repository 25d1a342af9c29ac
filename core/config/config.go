// Package config reads the settings: defaults < YAML file < environment <
// flags.
//
// Every setting has one dotted name, the same in the file and, as EIDER_ and
// upper case with underscores, in the environment. The sections are plain
// structs that belong to the packages they configure; this package fills them
// and knows none of them. What nobody declared is refused.
package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"sort"
	"strings"
	"text/tabwriter"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
	"go.yaml.in/yaml/v3"
)

// EnvPrefix begins the name of every setting in the environment.
const EnvPrefix = "EIDER_"

// reserved are variables with the prefix that are no settings.
var reserved = map[string]bool{"EIDER_CONFIG": true, "EIDER_URL": true, "EIDER_KEY": true}

// mask stands for a secret wherever settings are shown.
const mask = "********"

// Set is the declared sections and, once loaded, where each value came from.
type Set struct {
	fields   map[string]field
	sections map[string]any
	source   map[string]string
}

// New returns a set without sections.
func New() *Set {
	return &Set{fields: map[string]field{}, sections: map[string]any{}, source: map[string]string{}}
}

// Section declares the settings below name ("" for the top level). into points
// to a struct that holds the defaults, with `koanf`, `doc` and `secret:"true"`
// tags; Load fills it. If it has Validate() error, that is called after Load.
func (s *Set) Section(name string, into any) {
	if _, twice := s.sections[name]; twice {
		panic("config: section " + name + " is declared twice")
	}
	s.sections[name] = into
	for _, f := range walk(name, reflect.ValueOf(into).Elem()) {
		if _, twice := s.fields[f.name]; twice {
			panic("config: setting " + f.name + " is declared twice")
		}
		s.fields[f.name] = f
		s.source[f.name] = "default"
	}
}

// Sources are where settings may stand, beside the defaults.
type Sources struct {
	File    string   // YAML; empty for none
	Environ []string // as os.Environ gives it
	Flags   map[string]string
}

// Load fills the sections. All that is wrong is reported at once, a line each.
func (s *Set) Load(src Sources) error {
	k := koanf.New(".")
	var wrong []error
	if src.File != "" {
		values, err := s.readFile(src.File)
		wrong = append(wrong, err)
		wrong = append(wrong, s.merge(k, values, "file "+src.File))
	}
	environ, err := s.readEnviron(src.Environ)
	wrong = append(wrong, err, s.merge(k, environ.values, "env"))
	for name, variable := range environ.names {
		s.source[name] = "env " + variable
	}
	flags := map[string]any{}
	for name, value := range src.Flags {
		flags[name] = value
	}
	wrong = append(wrong, s.merge(k, flags, "flag"))
	for _, name := range s.names() {
		if k.Exists(name) {
			wrong = append(wrong, s.set(s.fields[name], k.Get(name)))
		}
	}
	if err := errors.Join(wrong...); err != nil {
		return err
	}
	return s.validate()
}

// merge lays values over k, and refuses names that nobody declared.
func (s *Set) merge(k *koanf.Koanf, values map[string]any, source string) error {
	var wrong []error
	known := map[string]any{}
	for _, name := range sorted(values) {
		if _, ok := s.fields[name]; !ok {
			wrong = append(wrong, s.unknown(name, source))
			continue
		}
		known[name] = values[name]
		s.source[name] = source
	}
	wrong = append(wrong, k.Load(confmap.Provider(known, "."), nil))
	return errors.Join(wrong...)
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func (s *Set) names() []string { return sorted(s.fields) }

func (s *Set) unknown(name, source string) error {
	if near := nearest(name, s.names()); near != "" {
		return fmt.Errorf("unknown setting %s (%s): did you mean %s?", name, source, near)
	}
	return fmt.Errorf("unknown setting %s (%s)", name, source)
}

// set converts a value and stores it. The error never shows the value, which
// may be a secret.
func (s *Set) set(f field, value any) error {
	if text, ok := value.(string); ok && f.secret {
		read, err := secret(text)
		if err != nil {
			return fmt.Errorf("%s (%s): %w", f.name, s.source[f.name], err)
		}
		value = read
	}
	into := reflect.New(f.value.Type())
	decoder, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result: into.Interface(), TagName: "koanf", ErrorUnused: true, WeaklyTypedInput: strings.HasPrefix(s.source[f.name], "env") || s.source[f.name] == "flag",
		DecodeHook: mapstructure.ComposeDecodeHookFunc(
			numbersAsText, mapstructure.TextUnmarshallerHookFunc(), listFromText),
	})
	if err != nil {
		return err
	}
	if decoder.Decode(value) != nil {
		return fmt.Errorf("%s (%s): must be %s", f.name, s.source[f.name], f.kind())
	}
	f.value.Set(into.Elem())
	return nil
}

// secret returns the content of the file that "file:PATH" names, or the text.
func secret(text string) (string, error) {
	path, ok := strings.CutPrefix(text, "file:")
	if !ok {
		return text, nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(content), "\r\n"), nil
}

// numbersAsText lets a size be written as a plain number.
func numbersAsText(from, to reflect.Type, value any) (any, error) {
	if (to == reflect.TypeFor[Size]() || to == reflect.TypeFor[Duration]()) && from.Kind() == reflect.Int {
		return fmt.Sprint(value), nil
	}
	return value, nil
}

// listFromText reads a list that stands in a flag or a variable: as YAML (and so
// JSON) if it begins with a bracket, else separated by commas.
func listFromText(from, to reflect.Type, value any) (any, error) {
	text, ok := value.(string)
	if !ok || to.Kind() != reflect.Slice || from.Kind() != reflect.String {
		return value, nil
	}
	if strings.HasPrefix(strings.TrimSpace(text), "[") {
		var list []any
		err := yaml.Unmarshal([]byte(text), &list)
		return list, err
	}
	if strings.TrimSpace(text) == "" {
		return []string{}, nil
	}
	parts := strings.Split(text, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts, nil
}

func (s *Set) validate() error {
	var wrong []error
	for _, name := range sorted(s.sections) {
		v, ok := s.sections[name].(interface{ Validate() error })
		if !ok {
			continue
		}
		if err := v.Validate(); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", strings.TrimPrefix(name+".", "."), err))
		}
	}
	return errors.Join(wrong...)
}

// Setting is a setting as it is shown to people.
type Setting struct{ Name, Value, Source, Doc string }

// Settings returns every setting, sorted by name, secrets masked.
func (s *Set) Settings() []Setting {
	var all []Setting
	for _, name := range s.names() {
		f := s.fields[name]
		value := f.text()
		if f.secret && value != "" {
			value = mask
		}
		all = append(all, Setting{name, value, s.source[name], f.doc})
	}
	return all
}

// Print writes the settings with their values and sources.
func (s *Set) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, one := range s.Settings() {
		fmt.Fprintf(t, "%s\t%s\t%s\n", one.Name, one.Value, one.Source)
	}
	return t.Flush()
}

// Reference writes a YAML file that holds every setting with its description
// and its present value.
func (s *Set) Reference(w io.Writer) error {
	open := ""
	for _, name := range s.names() {
		section, key := "", name
		if i := strings.LastIndexByte(name, '.'); i >= 0 {
			section, key = name[:i], name[i+1:]
		}
		for open != section && open != "" && !strings.HasPrefix(section, open+".") {
			open = parent(open)
		}
		for open != section {
			rest := strings.TrimPrefix(strings.TrimPrefix(section, open), ".")
			next, _, _ := strings.Cut(rest, ".")
			fmt.Fprintf(w, "%s%s:\n", indent(open), next)
			open = join(open, next)
		}
		f := s.fields[name]
		fmt.Fprintf(w, "%s# %s\n%s%s: %s\n", indent(section), f.doc, indent(section), key, f.yaml())
	}
	return nil
}

func parent(section string) string {
	if i := strings.LastIndexByte(section, '.'); i >= 0 {
		return section[:i]
	}
	return ""
}

func indent(section string) string {
	if section == "" {
		return ""
	}
	return strings.Repeat("  ", 1+strings.Count(section, "."))
}

func (f field) yaml() string {
	var value any = f.text()
	switch f.value.Kind() {
	case reflect.Slice, reflect.Bool, reflect.Int, reflect.Float64:
		value = f.value.Interface()
	}
	text, err := yaml.Marshal(value)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
