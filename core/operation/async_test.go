package operation_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/operation"
)

// A job has a row for its end and a body that outlives its request: what has not
// cannot be declared as one.
func TestOnlyWhatEndsInARowCanBeAJob(t *testing.T) {
	spec := func(s operation.Spec) operation.Spec {
		s.Name, s.Route, s.Async = "work", "POST /work", true
		return s
	}
	for name, declare := range map[string]func(*operation.Set){
		"read": func(s *operation.Set) {
			operation.Read(s, spec(operation.Spec{}), func(context.Context, *operation.View, struct{}) (operation.Nothing, error) {
				return operation.Nothing{}, nil
			})
		},
		"stream": func(s *operation.Set) {
			operation.Stream(s, spec(operation.Spec{}), func(context.Context, *operation.View, struct{}) (*operation.Content, error) {
				return nil, nil
			})
		},
		"streamed body": func(s *operation.Set) {
			operation.Write(s, spec(operation.Spec{Streamed: true}), func(context.Context, *operation.Tx, struct{}) (operation.Nothing, error) {
				return operation.Nothing{}, nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if said := fmt.Sprint(recover()); !strings.Contains(said, "cannot run as a job") {
					t.Errorf("the declaration said %s", said)
				}
			}()
			declare(operation.NewSet())
		})
	}
}
