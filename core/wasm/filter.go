package wasm

import (
	"bytes"
	"encoding/json"
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"github.com/eiderdb/eider/core/usage"
)

// filter is the expression of a manifest that spares guests most events.
type filter struct{ program cel.Program }

var (
	eventVariables = []string{"operation", "actor", "resource", "project", "usage", "request", "input", "extends", "time_ms"}
	rowVariables   = []string{"operation", "status", "actor", "project_id", "resource_type", "resource_id", "error_code"}
)

const (
	// celCost bounds what an expression may do for one event. One that is known to do
	// more is refused; one that does it for an event fails on it.
	celCost = 10_000
	// celSize and celDepth bound the expression itself.
	celSize  = 4096 // characters
	celDepth = 100
)

func newFilter(m Manifest) (*filter, error) {
	if m.When == "" {
		return nil, nil
	}
	names := eventVariables
	if m.Kind == Sink {
		names = rowVariables
	}
	options := []cel.EnvOption{cel.ParserExpressionSizeLimit(celSize), cel.ParserRecursionLimit(celDepth)}
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
	least, err := env.EstimateCost(ast, unknownSizes{})
	if err != nil {
		return nil, fmt.Errorf("when: %w", err)
	}
	if least.Min > celCost {
		return nil, fmt.Errorf("when: it costs at least %d for each event, and may cost %d", least.Min, celCost)
	}
	program, err := env.Program(ast, cel.CostLimit(celCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, fmt.Errorf("when: %w", err)
	}
	return &filter{program}, nil
}

// unknownSizes estimates what an expression costs at least: of events and what is in
// them nothing is known beforehand.
type unknownSizes struct{}

// EstimateCallCost leaves functions to what CEL knows of them.
func (unknownSizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}

// EstimateSize leaves sizes to what the expression says itself.
func (unknownSizes) EstimateSize(cost.AstNode) *cost.SizeEstimate { return nil }

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

// eventView gives an expression the members of an event, each made when it is first
// asked for: most expressions look at one or two, and at those more than once.
type eventView struct {
	e                     *Event
	usage, project, input any
}

// ResolveName returns a variable.
func (v *eventView) ResolveName(name string) (any, bool) {
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
		if p := e.Project; v.project == nil {
			v.project = map[string]any{"id": p.ID, "uid": p.UID, "name": p.Name, "status": p.Status, "settings": decoded(p.Settings)}
		}
		return v.project, true
	case "usage":
		if v.usage == nil {
			v.usage = usageView(e.Usage)
		}
		return v.usage, true
	case "request":
		r := e.Request
		return map[string]string{"id": r.ID, "source_ip": r.SourceIP, "method": r.Method, "route": r.Route}, true
	case "input":
		if v.input == nil {
			v.input = decoded(e.Input)
		}
		return v.input, true
	case "extends":
		return e.Extends, true
	}
	return nil, false
}

// Parent returns nil: there are no variables beyond.
func (v *eventView) Parent() cel.Activation { return nil }

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
