// Package config reads the settings: defaults < YAML file < environment <
// flags.
//
// Every setting has one dotted name, the same in the file and, as EIDER_ and
// upper case with underscores, in the environment. The sections are plain
// structs that belong to the packages they configure; this package fills them
// and knows none of them. What nobody declared is refused, and so is what does
// not say exactly what it means: a setting without a value, a fraction where a
// whole number belongs, a name that stands twice.
//
// The value of a secret may be "file:PATH", which stands for the content of that
// file without the newline at its end. No error and no output shows a secret.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"sort"
	"strings"
	"text/tabwriter"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
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
	sections map[string][]any
	source   map[string]string
	lines    map[string]int // of the names in the file
}

// New returns a set without sections.
func New() *Set {
	return &Set{fields: map[string]field{}, sections: map[string][]any{}, source: map[string]string{}}
}

// Section declares the settings below name ("" for the top level). into points
// to a struct that holds the defaults, with `koanf`, `doc` and `secret:"true"`
// tags; Load fills it. If it has Validate() error, that is called after Load; its
// message begins with the name of the setting within the section. What stands in a list
// of structs begins empty; if it has Default(), that is called first.
//
// A section may have several parts, each with names of its own.
//
// It panics on a mistake in the declaration: a name that is taken, in the
// environment too, or a field of a kind that no setting can have.
func (s *Set) Section(name string, into any) {
	s.sections[name] = append(s.sections[name], into)
	for _, f := range walk(name, reflect.ValueOf(into).Elem()) {
		s.mustBeFree(f.name)
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
		wrong = append(wrong, err, s.merge(k, values, "file "+src.File))
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
	wrong = append(wrong, s.merge(k, flags, "flag"), s.fill(k))
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
			wrong = append(wrong, s.unknown(name, s.where(name, source)))
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

func (s *Set) validate() error {
	var wrong []error
	for _, name := range sorted(s.sections) {
		for _, part := range s.sections[name] {
			v, ok := part.(interface{ Validate() error })
			if !ok {
				continue
			}
			if err := v.Validate(); err != nil {
				wrong = append(wrong, named(name, err))
			}
		}
	}
	return errors.Join(wrong...)
}

// named puts the section's name before what its Validate says, which begins with
// the name of a setting; each of several errors has its own line.
func named(section string, err error) error {
	prefix := strings.TrimPrefix(section+".", ".")
	lines := strings.Split(err.Error(), "\n")
	if len(lines) == 1 {
		return fmt.Errorf("%s%w", prefix, err)
	}
	var all []error
	for _, line := range lines {
		all = append(all, errors.New(prefix+line))
	}
	return errors.Join(all...)
}

// Setting is a setting as it is shown to people.
type Setting struct{ Name, Value, Source, Doc string }

// Settings returns every setting, sorted by name, secrets masked.
func (s *Set) Settings() []Setting {
	var all []Setting
	for _, name := range s.names() {
		f := s.fields[name]
		value := f.text()
		if f.secret && !f.value.IsZero() {
			value = mask
		}
		all = append(all, Setting{name, value, s.where(name, s.source[name]), f.doc})
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
// and its present value. In place of a secret it holds the mask, which Load
// refuses: nobody may open a server by mistake with eight asterisks.
func (s *Set) Reference(w io.Writer) error {
	var b bytes.Buffer
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
			fmt.Fprintf(&b, "%s%s:\n", indent(open), next)
			open = join(open, next)
		}
		f := s.fields[name]
		if f.doc != "" {
			fmt.Fprintf(&b, "%s# %s\n", indent(section), f.doc)
		}
		fmt.Fprintf(&b, "%s%s: %s\n", indent(section), key, f.yaml())
	}
	_, err := w.Write(b.Bytes())
	return err
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
