package config

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readFile returns the values of a YAML file by dotted name. YAML refuses a key
// that stands twice.
func (s *Set) readFile(path string) (map[string]any, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the config file: %w", err)
	}
	var tree map[string]any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	values := map[string]any{}
	s.flatten("", tree, values)
	return values, nil
}

// flatten stops at names that are settings: their values may be maps.
func (s *Set) flatten(prefix string, tree map[string]any, into map[string]any) {
	for key, value := range tree {
		name := join(prefix, key)
		_, known := s.fields[name]
		below, isMap := value.(map[string]any)
		switch {
		case isMap && !known:
			s.flatten(name, below, into)
		case value != nil || !s.isSection(name): // an empty section is no setting
			into[name] = value
		}
	}
}

func (s *Set) isSection(name string) bool {
	for known := range s.fields {
		if strings.HasPrefix(known, name+".") {
			return true
		}
	}
	return false
}

type environ struct {
	values map[string]any
	names  map[string]string // setting -> variable
}

// readEnviron returns the values of the variables that name settings. Names
// hold underscores themselves, so that they are looked up, never split.
func (s *Set) readEnviron(variables []string) (environ, error) {
	known := map[string]string{}
	for name := range s.fields {
		known[Variable(name)] = name
	}
	found := environ{map[string]any{}, map[string]string{}}
	var wrong []error
	for _, v := range variables {
		variable, value, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(variable, EnvPrefix) || reserved[variable] {
			continue
		}
		name, ok := known[variable]
		if !ok {
			wrong = append(wrong, unknownVariable(variable, sorted(known)))
			continue
		}
		found.values[name], found.names[name] = value, variable
	}
	return found, errors.Join(wrong...)
}

func unknownVariable(variable string, known []string) error {
	if near := nearest(variable, known); near != "" {
		return fmt.Errorf("unknown setting %s (env): did you mean %s?", variable, near)
	}
	return fmt.Errorf("unknown setting %s (env)", variable)
}

// Variable returns the name of a setting in the environment.
func Variable(setting string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(setting, ".", "_"))
}

// nearest returns the known name with the least edit distance, "" if none is
// near enough to be what was meant.
func nearest(name string, known []string) string {
	best, least := "", len(name)/3+2
	for _, k := range known {
		if d := distance(name, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is the Levenshtein distance of two texts.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
