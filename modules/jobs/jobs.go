// Package jobs answers how far jobs are, and cancels them.
//
// It has no state of its own: core/job keeps the register, and the call of a job
// is that of its operation. A job of a project exists for who may see the
// project.
package jobs

import (
	"context"
	"encoding/json"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/job"
	"github.com/eiderdb/eider/core/operation"
	"github.com/google/uuid"
)

// Jobs is the module.
type Jobs struct{ register *job.Jobs }

// New returns the module.
func New() *Jobs { return &Jobs{} }

var (
	_ core.Module      = (*Jobs)(nil)
	_ core.Provisioner = (*Jobs)(nil)
)

// Name returns "jobs".
func (j *Jobs) Name() string { return "jobs" }

// Declare lists the operations; the handlers follow in this order.
func (j *Jobs) Declare(r *core.Registry) error {
	operation.Read(r.Operations, operation.Spec{
		Name: "list_jobs", Route: "GET /jobs", Role: eider.ProjectRead, Target: "job",
		Summary: "List jobs, newest first", Errors: []eider.Code{eider.InvalidCursor},
		Description: "A project's key sees the jobs of its project.",
	}, j.list)
	operation.Read(r.Operations, operation.Spec{
		Name: "get_job", Route: "GET /jobs/{job}", Role: eider.ProjectRead, Target: "job",
		Summary: "Ask how far a job is", Errors: []eider.Code{eider.JobNotFound},
	}, j.get)
	operation.Write(r.Operations, operation.Spec{
		Name: "cancel_job", Route: "DELETE /jobs/{job}", Role: eider.ProjectRead, Target: "job", Status: 202, Frees: true,
		Summary: "Cancel a job", Errors: []eider.Code{eider.JobNotFound, eider.JobFinished},
		Description: "For project_write, and for the key that began it. Answers the job as it is; it ends soon after, as cancelled, unless it was about to succeed.",
	}, j.cancel)
	return nil
}

// Provision takes the register.
func (j *Jobs) Provision(_ context.Context, k *core.Kernel) error {
	j.register = k.Jobs
	return nil
}

// jobState is a job as the API shows it.
type jobState struct {
	ID        string          `json:"id"`
	Operation string          `json:"operation"`
	ProjectID string          `json:"project_id,omitempty"`
	CallID    string          `json:"call_id" doc:"Finds the rows of the log"`
	Status    job.Status      `json:"status" enum:"queued,running,succeeded,failed,cancelled"`
	Progress  float64         `json:"progress" doc:"From 0 to 1"`
	RowsDone  int64           `json:"rows_done" doc:"Rows, or bytes where the work is on bytes"`
	Result    json.RawMessage `json:"result,omitempty" doc:"What the operation would have answered"`
	TooLong   bool            `json:"result_too_long,omitempty" doc:"The result was too long to be kept (64 KiB)"`
	Error     *jobError       `json:"error,omitempty"`
	CreatedAt time.Time       `json:"created_at"`
	StartedAt *time.Time      `json:"started_at"`
	EndedAt   *time.Time      `json:"ended_at"`
}

type jobError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func shown(row job.Job) jobState {
	s := jobState{
		ID: row.ID, Operation: row.Operation, ProjectID: row.ProjectID, CallID: row.CallID, Status: row.Status, Progress: row.Progress,
		RowsDone: row.RowsDone, CreatedAt: row.CreatedAt, StartedAt: row.StartedAt, EndedAt: row.EndedAt,
	}
	if row.Result != "" {
		s.Result = json.RawMessage(row.Result)
	}
	s.TooLong = row.Status == job.Succeeded && row.Result == ""
	if row.Code != "" {
		s.Error = &jobError{row.Code, row.Error}
	}
	return s
}

type listJobs struct {
	Status string `query:"status" json:"-" enum:"queued,running,succeeded,failed,cancelled"`
	Limit  int    `query:"limit" json:"-" minimum:"1" maximum:"1000" default:"100"`
	Cursor string `query:"cursor" json:"-" doc:"next_cursor of the page before"`
}

type jobPage struct {
	Jobs       []jobState `json:"jobs"`
	Total      int        `json:"total" doc:"How many match, on all pages"`
	NextCursor string     `json:"next_cursor,omitempty"`
}

func (j *Jobs) list(ctx context.Context, _ *operation.View, in listJobs) (jobPage, error) {
	actor := operation.From(ctx).Actor
	page := jobPage{Jobs: []jobState{}}
	if in.Cursor != "" && uuid.Validate(in.Cursor) != nil {
		return page, eider.Errorf(eider.InvalidCursor, "the cursor is none of this list")
	}
	more := false
	j.register.List(func(row job.Job) {
		if !actor.Sees(row.ProjectID, row.ProjectUID) || (in.Status != "" && in.Status != string(row.Status)) {
			return
		}
		page.Total++
		switch { // ids sort by time
		case in.Cursor != "" && row.ID >= in.Cursor:
		case len(page.Jobs) == in.Limit:
			more = true
		default:
			page.Jobs = append(page.Jobs, shown(row))
		}
	})
	if more {
		page.NextCursor = page.Jobs[in.Limit-1].ID
	}
	return page, nil
}

type jobPath struct {
	Job string `path:"job" json:"-"`
}

func (j *Jobs) find(ctx context.Context, id string, read func(id string) (job.Job, error)) (job.Job, error) {
	call := operation.From(ctx)
	call.Resource(id)
	row, err := read(id)
	if err == nil && !call.Actor.Sees(row.ProjectID, row.ProjectUID) {
		err = eider.Errorf(eider.JobNotFound, "there is no such job")
	}
	return row, err
}

func (j *Jobs) get(ctx context.Context, v *operation.View, in jobPath) (jobState, error) {
	row, err := j.find(ctx, in.Job, func(id string) (job.Job, error) { return j.register.Get(ctx, v, id) })
	return shown(row), err
}

func (j *Jobs) cancel(ctx context.Context, tx *operation.Tx, in jobPath) (jobState, error) {
	row, err := j.find(ctx, in.Job, func(id string) (job.Job, error) { return j.register.Get(ctx, tx, id) })
	if err != nil {
		return jobState{}, err
	}
	actor := operation.From(ctx).Actor
	if actor.Role < eider.ProjectWrite && (actor.Type != row.ActorType || actor.ID != row.ActorID) {
		return jobState{}, eider.Errorf(eider.Forbidden, "this key may not do that: it needs the role %s, or to have begun the job", eider.ProjectWrite)
	}
	if row.Status.Ended() {
		return jobState{}, eider.Errorf(eider.JobFinished, "the job has ended as %s", row.Status)
	}
	call := operation.From(ctx)
	call.In(eider.Project{ID: row.ProjectID, UID: row.ProjectUID})
	tx.After(func() { j.register.Cancel(row.ID) })
	return shown(row), nil
}
