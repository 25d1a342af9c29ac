package tables

import (
	"context"
	"encoding/json"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/projectdb/worker"
)

// executed is the answer to a statement that writes.
type executed struct {
	Columns   []worker.QueryColumn `json:"columns"`
	Rows      []json.RawMessage    `json:"rows"`
	Affected  int64                `json:"affected_rows"`
	Truncated bool                 `json:"truncated"`
	ElapsedMS int64                `json:"elapsed_ms"`
}

// writePlan is a statement that writes. It holds nothing of the data in its text:
// a call is settled by its id alone.
type writePlan struct {
	Project projectdb.Project `json:"project"`
	Call    string            `json:"call"`
	SQL     string            `json:"sql"` // redacted

	args    worker.Execute
	timeout time.Duration
	begun   time.Time
	out     worker.Executed
	refused bool // it is known that nothing was changed
}

// declareWrite declares the statement that writes: one transaction, with its
// call's id in the project's file.
func (q *queries) declareWrite(r *core.Registry, spec operation.Spec) {
	spec.ID, spec.Role = "query_write", eider.ProjectWrite
	q.write = operation.Effect(r.Operations, spec, operation.Steps[runQuery, *writePlan, executed]{
		Intent: q.planWrite, Claims: func(p *writePlan) []metadata.Claim {
			return []metadata.Claim{{Resource: operation.ProjectResource(p.Project.UID)}}
		},
		Effect: q.execute, Applied: q.isExecuted, Undo: q.isNotExecuted,
		Outcome: q.conclude, Revert: func(context.Context, *operation.Tx, *writePlan) error { return nil },
	})
}

func (q *queries) planWrite(ctx context.Context, _ *operation.Tx, in runQuery) (*writePlan, error) {
	call := operation.From(ctx)
	timeout, err := q.timeout(in.TimeoutMS)
	if err != nil {
		return nil, err
	}
	params, err := bindable(in.Params)
	if err != nil {
		return nil, err
	}
	limit := in.MaxRows
	if limit == 0 {
		limit = q.settings.MaxRows
	}
	return &writePlan{
		Project: projectdb.Of(*call.Project), Call: call.ID, SQL: redact(in.SQL), timeout: timeout, begun: time.Now(),
		args: worker.Execute{SQL: in.SQL, Params: params, MaxRows: limit},
	}, nil
}

func (q *queries) execute(ctx context.Context, p *writePlan) error {
	leave, err := q.enter(p.Project.UID)
	if err != nil {
		p.refused = true
		return err
	}
	defer leave()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(p.timeout, func() { cancel(errTimeout) })
	defer timer.Stop()
	timer.Stop() // its time runs once it has begun
	begun := func() { timer.Reset(p.timeout) }
	err = q.tables.commit(ctx, p.Project, "execute", p.Call, p.args, projectdb.Sinks{Begun: begun}, &p.out)
	p.refused = certain(err)
	if err == nil {
		operation.From(ctx).Progress(1, p.out.Affected)
	}
	return overdue(ctx, err, p.timeout)
}

func (q *queries) isExecuted(ctx context.Context, p *writePlan) (bool, error) {
	applied, err := q.tables.isCommitted(ctx, p.Project, p.Call, &p.out)
	if err == nil && applied {
		p.out.Measured, err = q.tables.measure(ctx, p.Project)
	}
	return applied, err
}

func (q *queries) isNotExecuted(ctx context.Context, p *writePlan) error {
	if p.refused {
		return nil
	}
	return q.tables.isNotCommitted(ctx, p.Project, p.Call)
}

func (q *queries) conclude(ctx context.Context, tx *operation.Tx, p *writePlan) (executed, error) {
	call := operation.From(ctx)
	describeSQL(call, p.SQL)
	call.Detail("mode", "write")
	call.Detail("affected_rows", p.out.Affected)
	out := executed{Columns: p.out.Columns, Rows: p.out.Rows, Affected: p.out.Affected, Truncated: p.out.Truncated}
	if !p.begun.IsZero() {
		out.ElapsedMS = time.Since(p.begun).Milliseconds()
	}
	return out, q.tables.measured(ctx, tx, p.Project, p.out.Measured)
}
