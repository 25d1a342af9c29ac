package tables

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/projectdb/wire"
)

// maxAnswer is the longest JSON that a worker may answer, in bytes.
const maxAnswer = 48 << 20

// ask has the worker of the call's project read something. One that was lost to
// another statement's fault is asked once more.
func (f *Tables) ask(ctx context.Context, op string, args, into any) error {
	return f.askOf(ctx, projectdb.Of(*operation.From(ctx).Project), op, args, into)
}

func (f *Tables) askOf(ctx context.Context, p projectdb.Project, op string, args, into any) error {
	text, err := json.Marshal(args)
	if err != nil {
		return err
	}
	request := wire.Request{Op: op, Args: text}
	err = f.run(ctx, p, request, into)
	if eider.CodeOf(err) == eider.ProjectRestarted {
		err = f.run(ctx, p, request, into)
	}
	return err
}

// run takes an answer as the result of the request, or in pieces where it may be
// longer than that.
func (f *Tables) run(ctx context.Context, p projectdb.Project, r wire.Request, into any) error {
	var pieces []byte
	var result json.RawMessage
	err := f.databases.Run(ctx, p, r, projectdb.Sinks{Data: func(piece []byte) error {
		if len(pieces)+len(piece) > maxAnswer {
			return errors.New("the worker's answer is too long")
		}
		pieces = append(pieces, piece...)
		return nil
	}}, &result)
	if err != nil {
		return err
	}
	if len(pieces) > 0 {
		result = pieces
	}
	if err := json.Unmarshal(result, into); err != nil {
		return fmt.Errorf("what the worker answered to %s: %w", r.Op, err)
	}
	return nil
}
