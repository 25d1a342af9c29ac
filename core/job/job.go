// Package job keeps the calls that run on after their caller was answered.
//
// A job is a call: it has the call's policies, rows and settlement, and ends in
// the transaction that ends the call. The table remembers what to tell about it.
// After a restart a job is what its call is: succeeded where the work proves
// done, else failed with the code interrupted, and never lost. The package knows
// no operation by name.
package job

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/google/uuid"
)

// Status is how far a job is.
type Status string

// The states of a job.
const (
	Queued    Status = "queued"
	Running   Status = "running"
	Succeeded Status = "succeeded"
	Failed    Status = "failed"
	Cancelled Status = "cancelled"
)

// Ended reports whether the state is a last one.
func (s Status) Ended() bool { return s == Succeeded || s == Failed || s == Cancelled }

// Job is a row of the table.
type Job struct {
	ID         string
	CallID     string
	Operation  string
	ProjectID  string
	ProjectUID string
	ActorType  eider.ActorType
	ActorID    string
	Status     Status
	Progress   float64
	RowsDone   int64
	Result     string // JSON; empty: none
	Code       string
	Error      string
	CreatedAt  time.Time
	StartedAt  *time.Time
	EndedAt    *time.Time
}

// Jobs is the register of jobs.
type Jobs struct {
	Table *metadata.Table[Job]

	turns *queue

	mu   sync.Mutex
	open map[string]*entry // by id: those that have not ended, until that is durable
}

// entry is what a job that has not ended has in memory.
type entry struct {
	uid       string                  // of its project
	cancel    context.CancelCauseFunc // nil before it runs, and where its call is settled
	cancelled bool
	started   *time.Time
	done      float64
	rows      int64
}

// New returns a register that runs as many jobs at a time as it has slots, of one
// project as many as its share.
func New(slots, share int) *Jobs {
	return &Jobs{Table: newTable(), turns: newQueue(slots, share), open: map[string]*entry{}}
}

// Hooks are what the pipeline calls.
func (j *Jobs) Hooks() *operation.Jobs {
	return &operation.Jobs{Begin: j.begin, Run: j.run, Conclude: j.conclude, Progress: j.progress}
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// begin stages a job. Its entry is made before a transaction that cancels it can
// run: one that finds the row comes later in the writer's order.
func (j *Jobs) begin(tx *operation.Tx, c *operation.Call) (string, error) {
	row := Job{
		ID: uuid.Must(uuid.NewV7()).String(), CallID: c.ID, Operation: c.Operation.Name, ActorType: c.Actor.Type, ActorID: c.Actor.ID,
		Status: Queued, CreatedAt: now(),
	}
	if c.Project != nil {
		row.ProjectID, row.ProjectUID = c.Project.ID, c.Project.UID
	}
	tx.After(func() { j.enter(row.ID, &entry{uid: row.ProjectUID}) })
	return row.ID, j.Table.Insert(tx, row)
}

func (j *Jobs) enter(id string, e *entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.open[id] = e
}

func (j *Jobs) leave(id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.open, id)
}

// errCancelled is why a job ended that somebody cancelled.
var errCancelled = eider.Errorf(eider.Cancelled, "the job was cancelled")

// run runs do when it has its turn, or with a context that has ended. The job
// keeps its entry: what is left of its call may be settled afterwards.
func (j *Jobs) run(ctx context.Context, id string, do func(context.Context)) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	uid := j.cancelBy(id, cancel)
	if j.turns.take(ctx, uid) {
		defer j.turns.pass(uid)
	}
	if ctx.Err() == nil {
		j.start(id, now())
	}
	do(ctx)
}

// cancelBy makes the job end by cancel, at once where it was cancelled before, and
// returns the uid of its project.
func (j *Jobs) cancelBy(id string, cancel context.CancelCauseFunc) (uid string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.open[id]
	if e == nil {
		return ""
	}
	if e.cancel = cancel; e.cancelled {
		cancel(errCancelled)
	}
	return e.uid
}

func (j *Jobs) start(id string, at time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e := j.open[id]; e != nil {
		e.started = &at
	}
}

func (j *Jobs) progress(id string, fraction float64, rows int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.open[id]
	if e == nil {
		return
	}
	if fraction > e.done { // it never falls, and is a number
		e.done = math.Floor(min(fraction, 1)*million) / million
	}
	e.rows = max(rows, e.rows)
}

// maxResult caps the result that is kept, in bytes.
const maxResult = 64 << 10

func (j *Jobs) conclude(ctx context.Context, tx *operation.Tx, c *operation.Call, result json.RawMessage, refusal error) error {
	row, err := j.Table.By(ctx, tx, byCall, c.ID)
	if eider.CodeOf(err) == eider.JobNotFound || (err == nil && row.Status.Ended()) {
		return nil // the call is no job
	}
	if err != nil {
		return err
	}
	row = j.live(row)
	at := now()
	row.EndedAt = &at
	switch {
	case refusal == nil:
		row.Status, row.Progress = Succeeded, 1
		if len(result) <= maxResult {
			row.Result = string(result)
		}
	case eider.CodeOf(refusal) == eider.Cancelled:
		row.Status = Cancelled
	default:
		row.Status = Failed
	}
	if refusal != nil {
		public := operation.Public(refusal)
		row.Code, row.Error = string(public.Code), public.Message
	}
	tx.After(func() { j.leave(row.ID) })
	return j.Table.Put(ctx, tx, row)
}

// live adds to a row what is known in memory alone.
func (j *Jobs) live(row Job) Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.open[row.ID]
	if e == nil || row.Status.Ended() {
		return row
	}
	row.Progress, row.RowsDone = e.done, e.rows
	if e.started != nil {
		row.StartedAt = e.started
		row.Status = Running
	}
	return row
}

// Get returns the job as it is now.
func (j *Jobs) Get(ctx context.Context, v metadata.Reader, id string) (Job, error) {
	row, err := j.Table.Get(ctx, v, id)
	return j.live(row), err
}

// Cancel asks the job to end. Its call ends as one whose client has left.
func (j *Jobs) Cancel(id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.open[id]
	if e == nil {
		return
	}
	if e.cancelled = true; e.cancel != nil {
		e.cancel(errCancelled)
	}
}

// List visits every job, newest first.
func (j *Jobs) List(visit func(Job)) {
	j.Table.Scan(metadata.Range[Job]{Order: byNewest, Descending: true}, func(row *Job) bool {
		visit(j.live(*row))
		return true
	})
}

// Tend forgets, until ctx ends, jobs that ended longer than keep ago.
func (j *Jobs) Tend(ctx context.Context, s *metadata.Store, keep time.Duration) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			j.forget(s, now().Add(-keep))
		}
	}
}

// forgetBatch bounds how many jobs are forgotten at a time.
const forgetBatch = 1000

func (j *Jobs) forget(s *metadata.Store, before time.Time) {
	var old []Job
	j.Table.Scan(metadata.Range[Job]{Order: byNewest}, func(row *Job) bool {
		if row.EndedAt != nil && row.EndedAt.Before(before) {
			old = append(old, *row)
		}
		return len(old) < forgetBatch && row.CreatedAt.Before(before)
	})
	if len(old) == 0 {
		return
	}
	s.Note(func(tx *metadata.Tx) error {
		for _, row := range old {
			if err := j.Table.Drop(tx, row); err != nil {
				return err
			}
		}
		return nil
	})
}

// Recover ends the jobs of an earlier process whose call never began. Those that
// did begin run until their call is settled.
func (j *Jobs) Recover(ctx context.Context, p *operation.Pipeline) error {
	begun := map[string]time.Time{}
	for _, r := range p.Audit.Unfinished() {
		begun[r.CallID] = r.Time
	}
	var lost []Job
	j.Table.Scan(metadata.Range[Job]{Order: byNewest}, func(row *Job) bool {
		at, ok := begun[row.CallID]
		switch {
		case row.Status.Ended():
		case ok:
			j.enter(row.ID, &entry{started: &at})
		default:
			lost = append(lost, *row)
		}
		return true
	})
	for _, row := range lost {
		at := now()
		row.Status, row.EndedAt, row.Code, row.Error = Failed, &at, string(eider.Interrupted), "the server stopped before the job began"
		err := p.Record(ctx, audit.Row{
			CallID: row.CallID, ActorType: row.ActorType, ActorID: row.ActorID, Operation: row.Operation, ProjectID: row.ProjectID, ProjectUID: row.ProjectUID,
			ResourceType: "job", ResourceID: row.ID, Status: eider.StatusFailed, Code: row.Code, Error: row.Error,
		}, func(tx *operation.Tx) error { return j.Table.Put(ctx, tx, row) })
		if err != nil {
			return fmt.Errorf("end job %s: %w", row.ID, err)
		}
	}
	return nil
}

// Migrations creates the table of jobs.
func Migrations() []metadata.Migration {
	return []metadata.Migration{{Owner: "job", Number: 1, SQL: []string{`
		CREATE TABLE jobs (
			id TEXT PRIMARY KEY, call_id TEXT NOT NULL, operation TEXT NOT NULL, project_id TEXT NOT NULL, project_uid TEXT NOT NULL,
			actor_type TEXT NOT NULL, actor_id TEXT NOT NULL, status TEXT NOT NULL, progress_ppm BIGINT NOT NULL, rows_done BIGINT NOT NULL,
			result TEXT NOT NULL, code TEXT NOT NULL, error TEXT NOT NULL,
			created_at TIMESTAMPTZ NOT NULL, started_at TIMESTAMPTZ, ended_at TIMESTAMPTZ)`}}}
}

// million makes a fraction a whole number, which is what tables hold.
const million = 1e6

const (
	byCall   = "call"
	byNewest = "newest"
)

func newTable() *metadata.Table[Job] {
	return metadata.NewTable(metadata.Def[Job]{
		Name: "jobs",
		Columns: []metadata.Column{
			{Name: "id", Kind: metadata.Text}, {Name: "call_id", Kind: metadata.Text}, {Name: "operation", Kind: metadata.Text},
			{Name: "project_id", Kind: metadata.Text}, {Name: "project_uid", Kind: metadata.Text}, {Name: "actor_type", Kind: metadata.Text},
			{Name: "actor_id", Kind: metadata.Text}, {Name: "status", Kind: metadata.Text}, {Name: "progress_ppm", Kind: metadata.Int},
			{Name: "rows_done", Kind: metadata.Int}, {Name: "result", Kind: metadata.Text}, {Name: "code", Kind: metadata.Text},
			{Name: "error", Kind: metadata.Text}, {Name: "created_at", Kind: metadata.Time}, {Name: "started_at", Kind: metadata.Time},
			{Name: "ended_at", Kind: metadata.Time},
		},
		Key: func(j *Job) string { return j.ID },
		Encode: func(j *Job) []any {
			return []any{j.ID, j.CallID, j.Operation, j.ProjectID, j.ProjectUID, string(j.ActorType), j.ActorID, string(j.Status), int64(math.Round(j.Progress * million)),
				j.RowsDone, j.Result, j.Code, j.Error, j.CreatedAt, metadata.NullTime(metadata.OrZero(j.StartedAt)), metadata.NullTime(metadata.OrZero(j.EndedAt))}
		},
		Decode: func(scan func(...any) error) (j Job, err error) {
			var ppm int64
			err = scan(&j.ID, &j.CallID, &j.Operation, &j.ProjectID, &j.ProjectUID, (*string)(&j.ActorType), &j.ActorID, (*string)(&j.Status), &ppm,
				&j.RowsDone, &j.Result, &j.Code, &j.Error, &j.CreatedAt, &j.StartedAt, &j.EndedAt)
			j.CreatedAt, j.Progress = j.CreatedAt.UTC(), float64(ppm)/million
			return j, err
		},
		Missing: eider.JobNotFound, Noun: "job", Hot: true,
		Unique: map[string]func(*Job) (string, bool){byCall: func(j *Job) (string, bool) { return j.CallID, true }},
		Orders: map[string]func(a, b *Job) int{byNewest: func(a, b *Job) int { return cmp.Compare(a.ID, b.ID) }},
	})
}
