package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/operation"
)

type tailOperations struct {
	LastEventID string `header:"Last-Event-ID" json:"-" doc:"The id of the last row that was received: those behind it are sent first. Without it: rows from now on"`
	ProjectID   string `query:"project_id" json:"-"`
	Operation   string `query:"operation" json:"-"`
	Status      string `query:"status" json:"-" enum:"success,failed,denied,in_progress"`
	Actor       string `query:"actor" json:"-" doc:"A key's id or an actor's name"`
}

// tailGather is how long rows are gathered that come one after another: a look
// into the log costs as much for one as for many.
const tailGather = 50 * time.Millisecond

// tail sends every row once it is durable, in the order of ids, as server-sent
// events whose id is the row's: a client that comes back with the last one misses
// nothing and gets nothing twice.
func (a *Audit) tail(ctx context.Context, v *operation.View, in tailOperations) (*operation.Content, error) {
	after := a.log.Head().ID
	if in.LastEventID != "" {
		var err error
		if after, err = a.resume(ctx, v, in.LastEventID); err != nil {
			return nil, err
		}
	}
	f := audit.Filter{ProjectID: in.ProjectID, Operation: in.Operation, Status: in.Status, Actor: in.Actor, AllRows: true, After: after}
	pass := a.pass(operation.From(ctx).Actor)
	return &operation.Content{
		Type: "text/event-stream", Length: -1, Headers: map[string]string{"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
		Write: func(ctx context.Context, w io.Writer) error { return a.sendTail(ctx, v, f, pass, w) },
	}, nil
}

// resume returns the row behind which the tail goes on. A row that the log does
// not have would be a gap that nobody sees, so it is refused.
func (a *Audit) resume(ctx context.Context, v *operation.View, text string) (int64, error) {
	after, err := strconv.ParseInt(text, 10, 64)
	if err != nil || after < 0 || after > a.log.Head().ID {
		return 0, eider.Invalid("Last-Event-ID", "must be the id of a row of this log")
	}
	first, err := a.log.First(ctx, v)
	if err != nil {
		return 0, err
	}
	if after+1 < first {
		return 0, eider.Invalid("Last-Event-ID", "names a row before row %d: those between are archived and not in the log any more", first)
	}
	return after, nil
}

func (a *Audit) sendTail(ctx context.Context, v *operation.View, f audit.Filter, pass func(context.Context, *operation.View) error, w io.Writer) error {
	if _, err := io.WriteString(w, "retry: 1000\n: rows of the log follow\n\n"); err != nil {
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
			return sendEvents(w, page)
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
func sendEvents(w io.Writer, page []audit.Row) error {
	var b bytes.Buffer
	for i := range page {
		text, err := json.Marshal(page[i].API())
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "id: %d\nevent: operation\ndata: %s\n\n", page[i].ID, text)
	}
	_, err := w.Write(b.Bytes())
	return err
}
