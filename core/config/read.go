package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readFile returns the values of a YAML file by dotted name, and notes the lines
// of the names. YAML refuses a key that stands twice.
func (s *Set) readFile(path string) (map[string]any, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the config file: %w", err)
	}
	document, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var tree map[string]any
	if err := document.Decode(&tree); err != nil {
		return nil, fmt.Errorf("%s: %w", path, oneLine(err))
	}
	s.lines = map[string]int{}
	number(document, "", s.lines)
	values := map[string]any{}
	return values, s.flatten("file "+path, "", tree, values)
}

// parse returns the one document of a file, empty or a mapping. Anything else is
// refused here, because YAML's own error would show some of the text: it may be
// the file of a key that was named by mistake.
func parse(text []byte) (*yaml.Node, error) {
	reader := yaml.NewDecoder(bytes.NewReader(text))
	var document yaml.Node
	err := reader.Decode(&document)
	if errors.Is(err, io.EOF) {
		return &document, nil
	}
	if err != nil {
		return nil, oneLine(err)
	}
	root := document.Content[0]
	if root.Kind != yaml.MappingNode && root.Tag != "!!null" {
		return nil, fmt.Errorf("line %d: the file must hold names and values", root.Line)
	}
	if reader.Decode(&yaml.Node{}) != io.EOF {
		return nil, fmt.Errorf("the file must hold one document: nothing may follow a second ---")
	}
	return root, nil
}

// oneLine writes YAML's errors in one line, without the alias that it does not
// know: a secret that begins with an asterisk looks like one.
func oneLine(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if strings.HasPrefix(text, "unknown anchor") {
		return errors.New("a value is an alias of nothing: a text that begins with * stands in quotes")
	}
	text = strings.TrimPrefix(text, "unmarshal errors:\n")
	return errors.New(strings.ReplaceAll(strings.TrimSpace(text), "\n ", ";"))
}

// number notes the line of every name below a node. Aliases are not followed.
func number(n *yaml.Node, name string, lines map[string]int) {
	for i, below := range n.Content {
		switch n.Kind {
		case yaml.SequenceNode:
			number(below, fmt.Sprintf("%s[%d]", name, i), lines)
			lines[fmt.Sprintf("%s[%d]", name, i)] = below.Line
		case yaml.MappingNode:
			if i%2 == 1 {
				key := n.Content[i-1]
				lines[join(name, key.Value)] = key.Line
				number(below, join(name, key.Value), lines)
			}
		}
	}
}

// where adds the line to a file in which a setting stands.
func (s *Set) where(name, source string) string {
	if line, ok := s.lines[name]; ok && strings.HasPrefix(source, "file ") {
		return fmt.Sprintf("%s:%d", source, line)
	}
	return source
}

// flatten stops at names that are settings: their values may be maps.
func (s *Set) flatten(source, prefix string, tree, into map[string]any) error {
	var wrong []error
	for _, key := range sorted(tree) {
		name, value := join(prefix, key), tree[key]
		_, known := s.fields[name]
		_, twice := into[name]
		below, isMap := asMap(value)
		switch {
		case twice: // as http.listen, and as listen below http
			wrong = append(wrong, fmt.Errorf("%s (%s): stands twice", name, s.where(name, source)))
		case !known && len(below) > 0:
			wrong = append(wrong, s.flatten(source, name, below, into))
		case known || !s.isSection(name):
			into[name] = value
		case value != nil && !isMap: // an empty section is none
			wrong = append(wrong, fmt.Errorf("%s (%s): is a section, whose settings stand below it", name, s.where(name, source)))
		}
	}
	return errors.Join(wrong...)
}

// asMap returns what YAML made of a mapping. Keys that are no texts are there to
// be refused by name.
func asMap(value any) (map[string]any, bool) {
	if m, ok := value.(map[string]any); ok {
		return m, true
	}
	m, ok := value.(map[any]any)
	named := map[string]any{}
	for key, v := range m {
		named[fmt.Sprint(key)] = v
	}
	return named, ok
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
// near enough to be what was meant. One that lacks only its section is nearest.
func nearest(name string, known []string) string {
	best, least := "", len(name)/3+2
	for _, k := range known {
		if strings.HasSuffix(k, "."+name) {
			return k
		}
	}
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
