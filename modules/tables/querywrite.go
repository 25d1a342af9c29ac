package tables

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/eiderdb/eider"
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

// writePlan is a statement that writes. Its text is not in the log, nor in the
// plan: a call is settled by its id alone.
type writePlan struct {
	Project projectdb.Project `json:"project"`
	Call    string            `json:"call"`

	args    worker.Execute
	timeout time.Duration
	begun   time.Time
	out     worker.Executed
}

// runWrite runs a statement that writes as an effect of its own, with a row of
// its own and its call's id in the project's file.
func (q *queries) runWrite(ctx context.Context, call *operation.Call, in runQuery, as form) (*operation.Content, error) {
	call.Detail("mode", "write")
	if call.Actor.Role < eider.ProjectWrite {
		return nil, eider.Errorf(eider.Forbidden, "this key may not do that: mode write needs the role %s", eider.ProjectWrite)
	}
	if as.worker != worker.FormJSON {
		return nil, eider.Errorf(eider.NotAcceptable, "a statement that writes is answered in JSON alone")
	}
	out, err := q.write.Do(ctx, q.tables.pipeline, call.Actor, call.Project.ID, in)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	return &operation.Content{
		Type: "application/json", Length: int64(len(body)), Headers: map[string]string{"Cache-Control": "no-store"},
		Write: func(_ context.Context, w io.Writer) error {
			_, err := w.Write(body)
			return err
		},
	}, nil
}

func (q *queries) planWrite(ctx context.Context, _ *operation.Tx, in runQuery) (*writePlan, error) {
	call := operation.From(ctx)
	describeSQL(call, in.SQL)
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
		Project: projectdb.Of(*call.Project), Call: call.ID, timeout: timeout, begun: time.Now(),
		args: worker.Execute{SQL: in.SQL, Params: params, MaxRows: limit},
	}, nil
}

func (q *queries) execute(ctx context.Context, p *writePlan) error {
	leave, err := q.enter(p.Project.UID)
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithTimeoutCause(ctx, p.timeout, errTimeout)
	defer cancel()
	err = q.tables.commit(ctx, p.Project, "execute", p.Call, p.args, projectdb.Sinks{}, &p.out)
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
	return q.tables.isNotCommitted(ctx, p.Project, p.Call)
}

func (q *queries) conclude(ctx context.Context, tx *operation.Tx, p *writePlan) (executed, error) {
	operation.From(ctx).Detail("affected_rows", p.out.Affected)
	out := executed{Columns: p.out.Columns, Rows: p.out.Rows, Affected: p.out.Affected, Truncated: p.out.Truncated}
	if !p.begun.IsZero() {
		out.ElapsedMS = time.Since(p.begun).Milliseconds()
	}
	return out, q.tables.measured(ctx, tx, p.Project.UID, p.out.Measured)
}
