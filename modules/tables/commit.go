package tables

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/projectdb/wire"
	"github.com/eiderdb/eider/core/projectdb/worker"
)

// commit has a worker do what ends in one transaction with the call's id in it,
// and reads its result into out. A failure that does not come from the
// transaction itself is believed only once the database says that the call is not
// there: see change.
func (f *Tables) commit(ctx context.Context, p projectdb.Project, op, call string, args any, sinks projectdb.Sinks, out any) error {
	text, err := json.Marshal(args)
	if err != nil {
		return err
	}
	err = f.databases.Run(ctx, p, wire.Request{Op: op, Call: call, Args: text}, sinks, out)
	if err == nil || certain(err) {
		return err
	}
	f.log.WarnContext(ctx, "a change of a project's database was cut short", "call", call, "error", err)
	applied, askErr := f.isCommitted(context.WithoutCancel(ctx), p, call, out)
	if applied && askErr == nil {
		return nil
	}
	if own := projectdb.OwnFault(err); own != nil && askErr == nil {
		return own
	}
	return errors.Join(err, askErr)
}

// isCommitted asks the database whether the call is there, and reads the result
// that was kept beside it into out.
func (f *Tables) isCommitted(ctx context.Context, p projectdb.Project, call string, out any) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var is worker.Applied
	if err := f.databases.Do(ctx, p, wire.Request{Op: "applied", Call: call}, &is); err != nil || !is.Applied {
		return false, err
	}
	return true, keptResult(is.Result, out)
}

// keptResult reads what was kept beside the id of a call.
func keptResult(text json.RawMessage, out any) error {
	err := json.Unmarshal(text, out)
	if checked, ok := out.(projectdb.Checked); ok && err == nil {
		err = checked.Check()
	}
	if err != nil {
		return fmt.Errorf("the result that was kept: %w", err)
	}
	return nil
}

// isNotCommitted is all the undoing there is: what was not committed is not there.
func (f *Tables) isNotCommitted(ctx context.Context, p projectdb.Project, call string) error {
	var ignored json.RawMessage
	applied, err := f.isCommitted(ctx, p, call, &ignored)
	if applied {
		return operation.ErrApplied
	}
	return err
}

// measure asks what the database holds, where nobody knows any more.
func (f *Tables) measure(ctx context.Context, p projectdb.Project) (*worker.Measured, error) {
	var m worker.Measured
	return &m, f.askOf(ctx, p, "measure", struct{}{}, &m)
}

// perform has a worker do what changes nothing in the database.
func (f *Tables) perform(ctx context.Context, p projectdb.Project, op string, args any, sinks projectdb.Sinks, out any) error {
	text, err := json.Marshal(args)
	if err != nil {
		return err
	}
	return f.databases.Run(ctx, p, wire.Request{Op: op, Args: text}, sinks, out)
}
