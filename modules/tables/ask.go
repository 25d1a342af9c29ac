package tables

import (
	"context"
	"encoding/json"
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
	a := reply{into: into}
	return f.databases.Run(ctx, p, r, projectdb.Sinks{Data: a.take}, &a)
}

// reply is what a worker answers.
type reply struct {
	into   any
	result json.RawMessage
	pieces []byte
}

func (r *reply) take(piece []byte) error {
	if len(r.pieces)+len(piece) > maxAnswer {
		return fmt.Errorf("%w: its answer is too long", projectdb.ErrLie)
	}
	r.pieces = append(r.pieces, piece...)
	return nil
}

// UnmarshalJSON keeps the result: it may be in the pieces.
func (r *reply) UnmarshalJSON(text []byte) error {
	r.result = append(r.result[:0], text...)
	return nil
}

// Check reads the answer.
func (r *reply) Check() error {
	text := r.pieces
	if len(text) == 0 {
		text = r.result
	}
	if err := json.Unmarshal(text, r.into); err != nil {
		return err
	}
	if checked, ok := r.into.(projectdb.Checked); ok {
		return checked.Check()
	}
	return nil
}
