package job_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/job"
	"github.com/eiderdb/eider/core/waittest"
)

func TestJobEndsAsItsCallEnds(t *testing.T) {
	r := newRig(t, 2)
	id := r.begin(t, "a")
	r.has(t, "a")
	if now := r.get(t, id); now.Status != job.Running || now.Progress != 0.5 || now.RowsDone != 50 || now.StartedAt == nil || now.EndedAt != nil {
		t.Errorf("while it runs the job is %+v", now)
	}
	close(r.finish)
	end := r.ends(t, id, "succeeded: in_progress success")
	if end.Result != `{"name":"a"}` || end.Progress != 1 || end.RowsDone != 50 || end.StartedAt == nil || end.Operation != "work" {
		t.Errorf("the job ended as %+v", end)
	}
	r.ends(t, r.begin(t, "refused"), "failed file_not_found: failed")
	panicked := r.ends(t, r.begin(t, "panics"), "failed internal: in_progress failed")
	if strings.Contains(panicked.Error, "effect") {
		t.Errorf("the caller is told %q", panicked.Error)
	}
	if long := r.ends(t, r.begin(t, "long"), "succeeded: in_progress success"); long.Result != "" {
		t.Errorf("a result of %d bytes is kept", len(long.Result))
	}
	r.quiet(t)
}

func TestWriteRunsAsAJobToo(t *testing.T) {
	r := newRig(t, 1)
	answer, err := r.do("note", "a", "")
	must(t, err)
	if end := r.ends(t, idIn(answer), "succeeded: success"); end.Result != `{"name":"a"}` {
		t.Errorf("the job ended as %+v", end)
	}
	r.quiet(t)
}

// What is refused before a call may run is answered as ever, and is no job.
func TestRefusalAtTheDoorIsNoJob(t *testing.T) {
	r := newRig(t, 1)
	_, err := r.do("work", strings.Repeat("x", 21), "")
	if eider.CodeOf(err) != eider.ValidationFailed {
		t.Errorf("answered %v", err)
	}
	if n := r.jobs.Table.Len(); n != 0 {
		t.Errorf("there are %d jobs", n)
	}
}

func TestJobsBeyondTheSlotsWaitTheirTurn(t *testing.T) {
	r := newRig(t, 2)
	var ids []string
	for i := range 5 {
		ids = append(ids, r.begin(t, fmt.Sprint("w", i)))
	}
	<-r.begun
	<-r.begun
	states := map[job.Status]int{}
	for _, id := range ids {
		states[r.get(t, id).Status]++
	}
	if states[job.Running] != 2 || states[job.Queued] != 3 {
		t.Errorf("the jobs are %v", states)
	}
	close(r.finish)
	for _, id := range ids {
		r.ends(t, id, "succeeded: in_progress success")
	}
	r.quiet(t)
}

func TestCancelledJobEndsAsCancelledWithItsRow(t *testing.T) {
	r := newRig(t, 1)
	running := r.begin(t, "running")
	r.has(t, "running")
	queued := r.begin(t, "queued")
	r.jobs.Cancel(queued)
	if end := r.ends(t, queued, "cancelled client_closed_request: failed"); end.StartedAt != nil {
		t.Errorf("a job that never began says that it began at %v", end.StartedAt)
	}
	r.jobs.Cancel(running)
	r.ends(t, running, "cancelled client_closed_request: in_progress failed")
	r.jobs.Cancel(running)
	r.quiet(t)
	close(r.finish)
	r.ends(t, r.begin(t, "running"), "succeeded: in_progress success") // nothing is claimed any more
}

// A job can be cancelled from the moment at which it can be seen.
func TestCancelIsNeverMissed(t *testing.T) {
	r := newRig(t, 4)
	var ids []string
	for i := range 100 {
		id := r.begin(t, fmt.Sprint("w", i))
		r.jobs.Cancel(id)
		ids = append(ids, id)
	}
	for _, id := range ids {
		waittest.Until(t, "the job ends", func() bool { return r.get(t, id).Status.Ended() })
		if end := r.get(t, id); end.Status != job.Cancelled {
			t.Errorf("the job ended as %s", end.Status)
		}
	}
	r.quiet(t)
}

func TestKeyAnswersTheSameJob(t *testing.T) {
	r := newRig(t, 1)
	first, err := r.do("work", "a", "key")
	must(t, err)
	r.has(t, "a")
	for _, when := range []string{"runs", "has ended"} {
		again, err := r.do("work", "a", "key")
		must(t, err)
		if again.Status != 202 || !again.Replayed || string(again.Body) != string(first.Body) || fmt.Sprint(again.Headers) != fmt.Sprint(first.Headers) {
			t.Errorf("while it %s the key answers %+v, want %+v", when, again, first)
		}
		if when == "runs" {
			close(r.finish)
			r.ends(t, idIn(first), "succeeded: in_progress success")
		}
	}
	if _, err := r.do("work", "b", "key"); eider.CodeOf(err) != eider.IdempotencyConflict {
		t.Errorf("another request with the key is answered %v", err)
	}
	if n := r.jobs.Table.Len(); n != 1 {
		t.Errorf("there are %d jobs", n)
	}
}

// What was running is settled by its work, what was queued never began; each is
// told, and each has its rows.
func TestCrashLosesNoJob(t *testing.T) {
	r := newRig(t, 2)
	applied := r.begin(t, "applied")
	r.has(t, "applied")
	cut := r.begin(t, "cut")
	r.has(t, "cut")
	queued := r.begin(t, "queued")
	next := r.crash(t)
	if end := next.ends(t, applied, "succeeded: in_progress success"); end.Result != `{"name":"applied"}` || end.StartedAt == nil {
		t.Errorf("the job ended as %+v", end)
	}
	if end := next.ends(t, cut, "failed interrupted: in_progress failed"); end.StartedAt == nil {
		t.Errorf("the job ended as %+v", end)
	}
	if end := next.ends(t, queued, "failed interrupted: failed"); end.StartedAt != nil {
		t.Errorf("the job ended as %+v", end)
	}
	next.quiet(t)
	close(r.finish)
}

func TestCleanStopEndsItsJobs(t *testing.T) {
	r := newRig(t, 1)
	running := r.begin(t, "running")
	r.has(t, "running")
	queued := r.begin(t, "queued")
	r.close(t)
	r.open(t)
	r.ends(t, running, "failed interrupted: in_progress failed")
	r.ends(t, queued, "failed interrupted: failed")
	r.quiet(t)
}

// A job whose call is still to be settled runs, as far as anybody can tell, here
// and after a crash.
func TestJobRunsUntilItsCallIsSettled(t *testing.T) {
	r := newRig(t, 1)
	id := r.begin(t, "a")
	r.has(t, "a")
	r.undoing(errors.New("the folder cannot be read"))
	r.jobs.Cancel(id)
	probe, err := r.do("note", "another", "")
	must(t, err)
	r.ends(t, idIn(probe), "succeeded: success") // there is one slot, so that the first has left it
	if now := r.get(t, id); now.Status != job.Running || now.Progress != 0.5 || now.StartedAt == nil {
		t.Errorf("until it is settled the job is %+v", now)
	}
	next := r.crash(t)
	next.ends(t, id, "failed interrupted: in_progress failed")
	next.quiet(t)
	r.undoing(nil)
	r.ends(t, id, "cancelled client_closed_request: in_progress failed")
	r.quiet(t)
}

// A job that cannot be written is refused; where nobody knows whether it was, it
// ends as refused, too.
func TestJobThatCannotBeKeptIsRefusedWithARow(t *testing.T) {
	for _, unknown := range []bool{false, true} {
		r := newRig(t, 1)
		r.engine.arm("jobs", unknown)
		_, err := r.do("work", "a", "key")
		r.engine.arm("", false)
		if eider.CodeOf(err) != eider.StorageUnavailable {
			t.Fatalf("unknown %v: answered %v", unknown, err)
		}
		all, err := r.Audit.List(context.Background(), r.Store.View(), audit.Filter{AllRows: true, Limit: 10})
		must(t, err)
		if len(all) != 1 || all[0].Status != eider.StatusFailed || all[0].Code != "storage_unavailable" {
			t.Errorf("unknown %v: the log has %+v", unknown, all)
		}
		var ended []job.Status
		r.jobs.List(func(j job.Job) { ended = append(ended, j.Status) })
		if want := []job.Status{job.Failed}; unknown != slices.Equal(ended, want) {
			t.Errorf("unknown %v: the jobs are %v", unknown, ended)
		}
		answer, err := r.do("work", "a", "key")
		must(t, err)
		if answer.Replayed != unknown {
			t.Errorf("unknown %v: tried again it answered %+v", unknown, answer)
		}
		if !unknown {
			r.has(t, "a")
		}
		close(r.finish)
	}
}

// The end of a job is written as soon as it can be.
func TestEndThatCannotBeWrittenIsWrittenLater(t *testing.T) {
	r := newRig(t, 1)
	running := r.begin(t, "running")
	r.has(t, "running")
	queued := r.begin(t, "queued")
	r.engine.arm("jobs", false)
	r.jobs.Cancel(queued)
	waittest.Until(t, "an end is refused", r.engine.refused)
	if now := r.get(t, queued); now.Status.Ended() {
		t.Errorf("the job is %+v", now)
	}
	r.engine.arm("", false)
	r.ends(t, queued, "cancelled client_closed_request: failed")
	close(r.finish)
	r.ends(t, running, "succeeded: in_progress success")
	r.quiet(t)
}

func TestEndedJobsAreForgottenAfterTheirTime(t *testing.T) {
	r := newRig(t, 1)
	old := r.begin(t, "refused")
	r.ends(t, old, "failed file_not_found: failed")
	between := time.Now()
	running := r.begin(t, "running")
	r.has(t, "running")
	fresh := r.begin(t, "fresh")
	r.jobs.Cancel(fresh)
	r.ends(t, fresh, "cancelled client_closed_request: failed")
	r.jobs.Forget(r.Store, between)
	waittest.Until(t, "the old job is forgotten", func() bool {
		_, err := r.jobs.Get(context.Background(), r.Store.View(), old)
		return eider.CodeOf(err) == eider.JobNotFound
	})
	r.get(t, running)
	r.get(t, fresh)
	close(r.finish)
	r.ends(t, running, "succeeded: in_progress success")
}
