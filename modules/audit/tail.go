package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/operation"
)

type tailOperations struct {
	LastEventID string `header:"Last-Event-ID" json:"-" doc:"The id of the last event that was received: rows behind it are sent first. Without it: rows from now on"`
	ProjectID   string `query:"project_id" json:"-"`
	Operation   string `query:"operation" json:"-"`
	Status      string `query:"status" json:"-" enum:"success,failed,denied,in_progress"`
	Actor       string `query:"actor" json:"-" doc:"A key's id or an actor's name"`
}

// tailGather is how long rows are gathered that come one after another: a look
// into the log costs as much for one as for many.
const tailGather = 50 * time.Millisecond

// tail sends every row once it is durable, in the order of ids, as server-sent
// events whose id is the row's, with its epoch: a client that comes back with the last
// one misses nothing and gets nothing twice. Where the log has lost rows that it has
// seen, their ids name others: it is told so, and is sent those.
func (a *Audit) tail(ctx context.Context, v *operation.View, in tailOperations) (*operation.Content, error) {
	after, begin := a.log.Head().ID, "retry: 1000\n: rows of the log follow\n\n"
	if in.LastEventID != "" {
		from, err := a.resume(ctx, v, in.LastEventID)
		if err != nil {
			return nil, err
		}
		after = from.after
		begin += from.told()
	}
	f := audit.Filter{ProjectID: in.ProjectID, Operation: in.Operation, Status: in.Status, Actor: in.Actor, AllRows: true, After: after}
	pass := a.pass(operation.From(ctx).Actor)
	return &operation.Content{
		Type: "text/event-stream", Length: -1, Headers: map[string]string{"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
		Write: func(ctx context.Context, w io.Writer) error { return a.sendTail(ctx, v, f, begin, pass, w) },
	}, nil
}

// resumption is where a tail goes on.
type resumption struct {
	epoch, seen int64 // what the client has come to
	after       int64 // the row up to which that is still so
	begun       int64 // the epoch of the next
}

// told returns the event that tells the client that rows which it has seen are lost.
func (r resumption) told() string {
	if r.after == r.seen {
		return ""
	}
	return fmt.Sprintf("event: reset\ndata: {\"epoch\":%d,\"next_id\":%d,\"seen\":{\"epoch\":%d,\"id\":%d}}\n\n", r.begun, r.after+1, r.epoch, r.seen)
}

// resume returns where the tail goes on. A row that the log does not have would be a
// gap that nobody sees, so it is refused.
func (a *Audit) resume(ctx context.Context, v *operation.View, text string) (r resumption, err error) {
	row, known := text, true
	if epoch, id, both := strings.Cut(text, "-"); both {
		row = id
		r.epoch, err = strconv.ParseInt(epoch, 10, 64)
		known = err == nil && r.epoch >= 0
	}
	if r.seen, err = strconv.ParseInt(row, 10, 64); err != nil || !known || r.seen < 0 {
		return r, eider.Invalid("Last-Event-ID", "must be the id of an event of this log")
	}
	if r.after, known = a.log.Seen(r.epoch, r.seen); !known {
		return r, eider.Invalid("Last-Event-ID", "must be the id of an event of this log: it is of a state of the log that was lost, or of rows that are archived")
	}
	r.begun = a.log.EpochAt(r.after + 1)
	first, err := a.log.First(ctx, v)
	if err != nil {
		return r, err
	}
	if r.after+1 < first {
		return r, eider.Invalid("Last-Event-ID", "names a row before row %d: those between are archived and not in the log any more", first)
	}
	return r, nil
}

// eventID names a row, and its epoch in a log that has lost rows.
func (a *Audit) eventID(row int64) string {
	if epoch := a.log.EpochAt(row); epoch > 0 {
		return fmt.Sprintf("%d-%d", epoch, row)
	}
	return strconv.FormatInt(row, 10)
}

func (a *Audit) sendTail(ctx context.Context, v *operation.View, f audit.Filter, begin string, pass func(context.Context, *operation.View) error, w io.Writer) error {
	if _, err := io.WriteString(w, begin); err != nil {
		return err
	}
	beat := time.NewTicker(time.Duration(a.settings.Heartbeat))
	defer beat.Stop()
	for {
		grown := a.log.Grown()
		refused := pass(ctx, v)
		if refused != nil {
			_, err := io.WriteString(w, ": the key is not valid any more\n\n")
			return err
		}
		last, err := a.log.Walk(ctx, v, f, func(page []audit.Row) error {
			if refused = pass(ctx, v); refused != nil {
				return refused
			}
			return a.sendEvents(w, page)
		})
		if ctx.Err() != nil {
			return nil // a client that leaves is how a tail ends
		}
		if refused != nil {
			continue
		}
		if err != nil {
			return err
		}
		f.After = last
		select {
		case <-ctx.Done():
			return nil
		case <-a.stopping:
			return nil
		case <-beat.C:
			if _, err := io.WriteString(w, ": heartbeat\n\n"); err != nil {
				return err
			}
		case <-grown:
			select {
			case <-ctx.Done():
			case <-time.After(tailGather):
			}
		}
	}
}

// sendEvents writes a page with one Write, which is sent at once.
func (a *Audit) sendEvents(w io.Writer, page []audit.Row) error {
	var b bytes.Buffer
	for i := range page {
		text, err := json.Marshal(page[i].API())
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "id: %s\nevent: operation\ndata: %s\n\n", a.eventID(page[i].ID), text)
	}
	_, err := w.Write(b.Bytes())
	return err
}
