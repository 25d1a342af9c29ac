package wasm

import (
	"bytes"
	"encoding/json"
	"fmt"

	"cel.dev/cel-go/cel"
	"github.com/eiderdb/eider/core/usage"
)

// filter is the expression of a manifest that spares guests most events.
type filter struct{ program cel.Program }

var (
	eventVariables = []string{"operation", "actor", "resource", "project", "usage", "request", "input", "time_ms"}
	rowVariables   = []string{"operation", "status", "actor", "project_id", "resource_type", "resource_id", "error_code"}
)

// celCost bounds what an expression may do for one event.
const celCost = 10_000

func newFilter(m Manifest) (*filter, error) {
	if m.When == "" {
		return nil, nil
	}
	names := eventVariables
	if m.Kind == Sink {
		names = rowVariables
	}
	var options []cel.EnvOption
	for _, name := range names {
		options = append(options, cel.Variable(name, cel.DynType))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("when: %w", err)
	}
	ast, issues := env.Compile(m.When)
	if issues.Err() != nil {
		return nil, fmt.Errorf("when: %w", issues.Err())
	}
	if t := ast.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("when: it is a %s, and must be true or false", t)
	}
	program, err := env.Program(ast, cel.CostLimit(celCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, fmt.Errorf("when: %w", err)
	}
	return &filter{program}, nil
}

// passes reports whether a guest is to be asked. One whose expression fails is.
func (f *filter) passes(variables any) bool {
	if f == nil {
		return true
	}
	out, _, err := f.program.Eval(variables)
	if err != nil {
		return true
	}
	pass, ok := out.Value().(bool)
	return !ok || pass
}

// eventView gives an expression the members of an event, each made when it is
// asked for: most expressions look at one or two.
type eventView struct{ e *Event }

// ResolveName returns a variable.
func (v eventView) ResolveName(name string) (any, bool) {
	e := v.e
	switch name {
	case "operation":
		return e.Operation, true
	case "time_ms":
		return e.TimeMS, true
	case "actor":
		a := e.Actor
		return map[string]string{"type": a.Type, "id": a.ID, "name": a.Name, "role": a.Role, "project_id": a.ProjectID}, true
	case "resource":
		return map[string]string{"type": e.Resource.Type, "id": e.Resource.ID}, true
	case "project":
		if e.Project == nil {
			return nil, true
		}
		p := e.Project
		return map[string]any{"id": p.ID, "uid": p.UID, "name": p.Name, "status": p.Status, "settings": decoded(p.Settings)}, true
	case "usage":
		return usageView(e.Usage), true
	case "request":
		r := e.Request
		return map[string]string{"id": r.ID, "source_ip": r.SourceIP, "method": r.Method, "route": r.Route}, true
	case "input":
		return decoded(e.Input), true
	}
	return nil, false
}

// Parent returns nil: there are no variables beyond.
func (v eventView) Parent() cel.Activation { return nil }

func usageView(u EventUsage) any {
	one := func(a usage.Amounts) map[string]int64 {
		return map[string]int64{"projects": a.Projects, "bytes": a.Bytes, "files": a.Files, "tables": a.Tables, "rows": a.Rows}
	}
	return map[string]any{"project": one(u.Project), "server": one(u.Server), "adds": one(u.Adds)}
}

// decoded returns what JSON makes of a text, with whole numbers as such.
func decoded(text rawJSON) any {
	d := json.NewDecoder(bytes.NewReader(text.text()))
	d.UseNumber()
	var out any
	if d.Decode(&out) != nil {
		return nil
	}
	return numbers(out)
}

func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, err := v.Float64()
		if err != nil {
			return v.String()
		}
		return f
	case map[string]any:
		for name := range v {
			v[name] = numbers(v[name])
		}
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	}
	return v
}
