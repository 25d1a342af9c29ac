// Command naming is a policy: what new projects, buckets, tables, columns, files and
// keys may be called.
package main

import (
	"errors"
	"regexp"

	plugin "github.com/eiderdb/eider/sdk/go"
)

var _ = plugin.Policy(configure)

func main() {}

// rule is what names of one kind must look like, and must not.
type rule struct {
	pattern, forbid *expression
	message         string
}

// expression is one as the operator wrote it, and as it is held against whole names.
type expression struct {
	text string
	re   *regexp.Regexp
}

type naming map[string]*rule

// given are the operations that give a name, the kind of thing that they name, and
// where in their input it is.
var given = map[string][]struct {
	kind string
	at   []string
}{
	"create_project": {{"project", []string{"id"}}},
	"create_bucket":  {{"bucket", []string{"name"}}},
	"create_table":   {{"table", []string{"name"}}},
	"add_column":     {{"column", []string{"name"}}},
	"alter_column":   {{"column", []string{"new_name"}}},
	"alter_table":    {{"column", []string{"name"}}, {"column", []string{"new_name"}}},
	"prepare_file":   {{"file", []string{"filename"}}},
	"upload_file":    {{"file", []string{"name"}}},
	"register_file":  {{"file", []string{"name"}}},
	"update_file":    {{"file", []string{"name"}}},
	"create_api_key": {{"key", []string{"description"}}},
}

func configure(c plugin.JSON) (func(*plugin.Event) plugin.Decision, error) {
	n := naming{}
	var wrong error
	c.Each(func(kind string, one plugin.JSON) bool {
		r := &rule{message: one.Get("message").String()}
		r.pattern, wrong = compile(kind, one.Get("pattern"))
		if wrong == nil {
			r.forbid, wrong = compile(kind, one.Get("forbid"))
		}
		n[kind] = r
		return wrong == nil
	})
	return n.decide, wrong
}

// compile anchors an expression: it is held against the whole name.
func compile(kind string, given plugin.JSON) (*expression, error) {
	if !given.Exists() {
		return nil, nil
	}
	text := given.String()
	// First alone, so that "a)|(b" does not become an expression by what is put around it.
	if _, err := regexp.Compile(text); err != nil {
		return nil, errors.New(kind + ": " + err.Error())
	}
	return &expression{text, regexp.MustCompile(`^(?:` + text + `)$`)}, nil
}

func (n naming) decide(e *plugin.Event) plugin.Decision {
	for _, g := range given[e.Operation] {
		name := e.Input.Get(g.at...)
		if !name.Exists() {
			continue // it is not named by this call
		}
		if d := n.hold(g.kind, name.String()); d.IsDeny() {
			return d
		}
	}
	if e.Operation == "create_table" && n["column"] != nil {
		return n.columns(e.Input.Get("columns"))
	}
	return plugin.Allow()
}

func (n naming) columns(columns plugin.JSON) plugin.Decision {
	answer := plugin.Allow()
	columns.Each(func(_ string, column plugin.JSON) bool {
		answer = n.hold("column", column.Get("name").String())
		return !answer.IsDeny()
	})
	return answer
}

func (n naming) hold(kind, name string) plugin.Decision {
	r := n[kind]
	if r == nil {
		return plugin.Allow()
	}
	text := r.message
	switch {
	case r.pattern != nil && !r.pattern.re.MatchString(name):
		if text == "" {
			text = "it must match " + r.pattern.text
		}
	case r.forbid != nil && r.forbid.re.MatchString(name):
		if text == "" {
			text = "it must not match " + r.forbid.text
		}
	default:
		return plugin.Allow()
	}
	return plugin.Deny(kind + ` "` + name + `" is refused: ` + text)
}
