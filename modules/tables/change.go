package tables

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/projectdb/wire"
	"github.com/eiderdb/eider/core/projectdb/worker"
)

// change is the plan of every change: one request to the project's worker, whose
// transaction holds the call's id.
//
// The worker may be lost, or the client leave, when the transaction has been
// committed and its answer is on the way. So a failure that does not come from
// the transaction itself is believed only once the database says that the call is
// not there.
type change struct {
	Project projectdb.Project `json:"project"`
	Op      string            `json:"op"`
	Call    string            `json:"call"`
	Target  worker.Target     `json:"target"` // its names alone

	whole   worker.Target   // with a tenant's texts, which are for no log
	ifMatch string          // a state that the caller named
	changed *worker.Changed // once it is known
	refused bool            // it is known that nothing was changed
}

// changing is a request that changes something.
type changing interface {
	check() error
	// target says what is to be done, and refuses what cannot be.
	ask() (worker.Target, error)
}

// conditional is one that names the state it is about.
type conditional interface{ ifMatch() string }

// declareChange declares an operation of the worker as an effect. show makes the
// answer.
func declareChange[In changing, Out any](f *Tables, r *core.Registry, op string, spec operation.Spec, show func(*worker.Changed) Out) {
	spec.Slow = true
	operation.Effect(r.Operations, spec, operation.Steps[In, *change, Out]{
		Intent: func(ctx context.Context, _ *operation.Tx, in In) (*change, error) { return f.intend(ctx, op, in) },
		Claims: func(c *change) []metadata.Claim { return claims(c.Project.UID, c.Target) },
		Effect: f.apply, Applied: f.isApplied, Undo: f.isNotApplied,
		Outcome: func(ctx context.Context, tx *operation.Tx, c *change) (Out, error) {
			return show(c.changed), f.conclude(ctx, tx, c)
		},
		Revert: func(context.Context, *operation.Tx, *change) error { return nil },
	})
}

func (f *Tables) intend(ctx context.Context, op string, in changing) (*change, error) {
	call := operation.From(ctx)
	if err := in.check(); err != nil {
		return nil, err
	}
	target, err := in.ask()
	if err != nil {
		return nil, err
	}
	c := &change{
		Project: projectdb.Of(*call.Project), Op: op, Call: call.ID, whole: target,
		Target: worker.Target{Bucket: target.Bucket, Table: target.Table, Column: target.Column},
	}
	if named, ok := in.(conditional); ok {
		c.ifMatch = named.ifMatch()
	}
	c.tell(call)
	return c, nil
}

// tell names for the log what is changed. Values and conditions of tenants are
// not in it.
func (c *change) tell(call *operation.Call) {
	resource := c.Target.Bucket
	call.Detail("bucket", c.Target.Bucket)
	if c.Target.Table != "" {
		resource += "/" + c.Target.Table
		call.Detail("table", c.Target.Table)
	}
	if c.Target.Column != "" {
		call.Detail("column", c.Target.Column)
	}
	call.Detail("change", c.Op)
	call.Resource(resource)
}

// apply has the worker do it.
func (f *Tables) apply(ctx context.Context, c *change) error {
	if err := f.match(ctx, c); err != nil {
		c.refused = true
		return err
	}
	args, err := json.Marshal(c.whole)
	if err != nil {
		return err
	}
	var changed worker.Changed
	err = f.databases.Do(ctx, c.Project, wire.Request{Op: c.Op, Call: c.Call, Args: args}, &changed)
	if err == nil && !c.shown(&changed) {
		err = projectdb.ErrLie
	}
	if err == nil {
		c.changed = &changed
		return nil
	}
	if c.refused = certain(err); c.refused {
		return err
	}
	f.log.WarnContext(ctx, "a change of a project's database was cut short", "call", c.Call, "error", err)
	applied, askErr := f.isApplied(context.WithoutCancel(ctx), c)
	if applied {
		return nil
	}
	if own := projectdb.OwnFault(err); own != nil && askErr == nil {
		c.refused = true
		return own
	}
	return errors.Join(err, askErr)
}

// shown reports whether the result has what the answer shows.
func (c *change) shown(changed *worker.Changed) bool {
	switch c.Op {
	case "create_bucket":
		return changed.Bucket != nil
	case "drop_bucket", "drop_table", "delete_rows":
		return true
	}
	return changed.Table != nil
}

// match compares the state that the caller named with the one that is there. The
// claim keeps it as it is.
func (f *Tables) match(ctx context.Context, c *change) error {
	if c.ifMatch == "" {
		return nil
	}
	if c.Target.Table == "" {
		var bucket worker.Bucket
		if err := f.askOf(ctx, c.Project, "get_bucket", c.Target, &bucket); err != nil {
			return err
		}
		return operation.CheckMatch(c.ifMatch, bucket)
	}
	var table worker.Table
	if err := f.askOf(ctx, c.Project, "get_table", c.Target, &table); err != nil {
		return err
	}
	return operation.CheckMatch(c.ifMatch, table)
}

// certain reports that the transaction was refused by what it met, and rolled
// back, or that it never began for want of room.
func certain(err error) bool {
	var refusal *eider.Error
	if !errors.As(err, &refusal) {
		return false
	}
	switch refusal.Code {
	case eider.ProjectRestarted, eider.StorageUnavailable, eider.StorageFull, eider.Internal, eider.Cancelled, eider.RequestTimeout, eider.ShuttingDown:
		return false
	}
	return true
}

// answerWithin bounds how long a database is asked what became of a call.
const answerWithin = 20 * time.Second

// isApplied asks the database, and reads there what the answer needs.
func (f *Tables) isApplied(ctx context.Context, c *change) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var is worker.Applied
	err := f.databases.Do(ctx, c.Project, wire.Request{Op: "applied", Call: c.Call}, &is)
	if err != nil || !is.Applied {
		return false, err
	}
	changed := worker.Changed{}
	if err := keptResult(is.Result, &changed); err != nil {
		return true, err
	}
	if err := f.recall(ctx, c, &changed); err != nil {
		return true, err
	}
	c.changed = &changed
	return true, nil
}

// recall reads again what a change has made. The claim has kept it as it was.
func (f *Tables) recall(ctx context.Context, c *change, changed *worker.Changed) error {
	var m worker.Measured
	if err := f.askOf(ctx, c.Project, "measure", struct{}{}, &m); err != nil {
		return err
	}
	changed.Measured = &m
	switch c.Op {
	case "create_bucket":
		changed.Bucket = &worker.Bucket{}
		return f.askOf(ctx, c.Project, "get_bucket", c.Target, changed.Bucket)
	case "drop_bucket", "drop_table", "delete_rows":
		return nil
	}
	changed.Table = &worker.Table{}
	return f.askOf(ctx, c.Project, "get_table", c.Target, changed.Table)
}

// isNotApplied is all the undoing there is: what was not committed is not there.
// A change that is there was done, and is left for Applied to find.
func (f *Tables) isNotApplied(ctx context.Context, c *change) error {
	if c.refused {
		return nil
	}
	applied, err := f.isApplied(ctx, c)
	if applied {
		return operation.ErrApplied
	}
	return err
}

// conclude stages what the database holds now.
func (f *Tables) conclude(ctx context.Context, tx *operation.Tx, c *change) error {
	call := operation.From(ctx)
	c.tell(call)
	if c.Op == "delete_rows" {
		call.Detail("deleted_rows", c.changed.Deleted)
	}
	return f.measured(ctx, tx, c.Project, c.changed.Measured)
}

// measured tells the register what the project's database holds. Changes of one
// project may be committed here in another order than there: the newest counts.
// What a worker says is true of no time to come, and of no more than its files can
// hold.
func (f *Tables) measured(ctx context.Context, tx *operation.Tx, p projectdb.Project, m *worker.Measured) error {
	if m == nil {
		return nil
	}
	is := m.Within(f.databases.Size(p))
	is.At = min(is.At, time.Now().UnixNano())
	f.mu.Lock()
	if newest := f.newest[p.UID]; newest.At < is.At {
		f.newest[p.UID] = is
	}
	held := f.newest[p.UID]
	f.mu.Unlock()
	return operation.Emit(ctx, tx, eider.MeasuredProject{UID: p.UID, Size: held.Size, Tables: held.Tables, Buckets: held.Buckets, Rows: held.Rows})
}

func (f *Tables) forget(uid string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.newest, uid)
}

// The answers of changes.
func nothing(*worker.Changed) operation.Nothing  { return operation.Nothing{} }
func showBucket(c *worker.Changed) worker.Bucket { return *c.Bucket }
func showTable(c *worker.Changed) worker.Table   { return *c.Table }
