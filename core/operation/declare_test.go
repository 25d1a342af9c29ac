package operation_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/schema"
)

// counted is an answer with a header.
type counted struct{}

func (counted) Headers() map[string]string { return map[string]string{"Count": "1"} }

// What no type shows has to be declared: else the document would be silent on
// bytes, and a client that is made from it could neither send nor read them.
func TestBytesAndHeadersMustBeDeclared(t *testing.T) {
	bytes, answers := []schema.Media{schema.Bytes("*/*")}, []schema.Answer{{Status: 200}}
	read := func(spec operation.Spec) func(*operation.Set) {
		return func(s *operation.Set) {
			spec.Name, spec.Route = "do", "POST /do"
			operation.Read(s, spec, func(context.Context, *operation.View, struct{}) (counted, error) { return counted{}, nil })
		}
	}
	write := func(spec operation.Spec) func(*operation.Set) {
		return func(s *operation.Set) {
			spec.Name, spec.Route = "do", "POST /do"
			operation.Write(s, spec, func(context.Context, *operation.Tx, struct{}) (operation.Nothing, error) {
				return operation.Nothing{}, nil
			})
		}
	}
	stream := func(spec operation.Spec) func(*operation.Set) {
		return func(s *operation.Set) {
			spec.Name, spec.Route = "do", "POST /do"
			operation.Stream(s, spec, func(context.Context, *operation.View, struct{}) (*operation.Content, error) { return nil, nil })
		}
	}
	for name, c := range map[string]struct {
		declare func(*operation.Set)
		says    string
	}{
		"a stream":                     {stream(operation.Spec{}), "what it answers"},
		"a stream that says it":        {stream(operation.Spec{Answers: answers}), ""},
		"answers of no stream":         {write(operation.Spec{Answers: answers}), "what it answers"},
		"a streamed body":              {write(operation.Spec{Streamed: true}), "what bodies"},
		"a streamed body, said":        {write(operation.Spec{Streamed: true, Accepts: bytes}), ""},
		"forms of a body that is JSON": {write(operation.Spec{Accepts: bytes}), "what bodies"},
		"a header":                     {read(operation.Spec{}), "a header Count"},
		"a header that is declared":    {read(operation.Spec{Headers: []schema.Header{{Name: "Count"}}}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				said := recover()
				if c.says == "" && said != nil || c.says != "" && !strings.Contains(fmt.Sprint(said), c.says) {
					t.Errorf("the declaration said %v, want %q", said, c.says)
				}
			}()
			c.declare(operation.NewSet())
		})
	}
}
