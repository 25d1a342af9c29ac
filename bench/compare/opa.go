package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
)

//go:embed guard.rego
var guard string

// opa measures Open Policy Agent as a library: prepared queries, evaluated in this process
// by its interpreter.
func opa(ctx context.Context, event []byte, lasts time.Duration, out func(string, figures) error) error {
	parsed, err := ast.ValueFromReader(bytes.NewReader(event))
	if err != nil {
		return fmt.Errorf("OPA, the event: %w", err)
	}
	text := func() (ast.Value, error) { return ast.ValueFromReader(bytes.NewReader(event)) }
	value := func() (ast.Value, error) { return parsed, nil }
	for _, c := range []struct {
		what, query string
		input       func() (ast.Value, error)
	}{
		{"no-op", "data.guard.allow", text}, {"no-op, the event parsed before", "data.guard.allow", value},
		{"quota", "data.guard.decide", text}, {"quota, the event parsed before", "data.guard.decide", value},
	} {
		query, err := rego.New(rego.Query(c.query), rego.Module("guard.rego", guard)).PrepareForEval(ctx)
		if err != nil {
			return fmt.Errorf("OPA, %s: %w", c.query, err)
		}
		f, err := measure(lasts, func() error {
			input, err := c.input()
			if err != nil {
				return err
			}
			answer, err := query.Eval(ctx, rego.EvalParsedInput(input))
			if err != nil {
				return err
			}
			if len(answer) != 1 || len(answer[0].Expressions) != 1 {
				return errors.New("no answer")
			}
			if d, ok := answer[0].Expressions[0].Value.(map[string]any); !ok || d["decision"] != "allow" {
				shown, err := json.Marshal(answer)
				return errors.Join(fmt.Errorf("it answers %s", shown), err)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("OPA, %s: %w", c.what, err)
		}
		if err := out("OPA in this process, "+c.what, f); err != nil {
			return err
		}
	}
	return nil
}
