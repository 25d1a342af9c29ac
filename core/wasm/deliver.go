package wasm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"time"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"github.com/eiderdb/eider/core/audit"
)

// Follower returns what gives a sink the log. One that could not be loaded fails, and
// its cursor stays where it is.
func (p *Plugin) Follower() audit.Follower {
	return audit.Follower{Name: audit.PluginSink(p.Name()), Take: p.Take}
}

// batchJSON is what a guest is told, in its JSON form.
type batchJSON struct {
	Sink       string            `json:"sink"`
	Epoch      int64             `json:"epoch"`
	FirstID    int64             `json:"first_id"`
	LastID     int64             `json:"last_id"`
	Attempt    int               `json:"attempt"`
	Rows       []json.RawMessage `json:"rows"`
	Checkpoint json.RawMessage   `json:"checkpoint"`
}

// batch is rows for a guest, and their texts.
type batch struct {
	batchJSON
	rows []*audit.Row
}

// Take gives the plugin the first rows of the batch that it wants, as many as its
// manifest says at a time. An error means that those come again.
func (p *Plugin) Take(ctx context.Context, given audit.Batch) (last int64, err error) {
	if p.Mode() == "off" {
		return 0, audit.ErrPaused
	}
	for {
		v := p.current.Load()
		if v == nil {
			return 0, errNotLoaded
		}
		if v.manifest.Kind != Sink {
			return 0, errNoSink
		}
		b, last, err := v.batch(given)
		if err != nil || b == nil {
			return last, err
		}
		r, err := p.deliver(ctx, v, b)
		switch {
		case errors.Is(err, errClosed) && p.current.Load() != v:
			continue // another version has taken its place
		case err == nil && r.Retry:
			err = fmt.Errorf("it wants the batch again: %s", r.Reason)
			fallthrough
		case err != nil:
			return 0, &audit.NotTaken{First: b.FirstID, Last: b.LastID, After: r.After, Err: err}
		}
		return last, nil
	}
}

// Give gives a sink the batch, for a test of it, and returns what it answers. given is
// false where it wants none of the rows.
func (p *Plugin) Give(ctx context.Context, b audit.Batch) (r Receipt, given bool, err error) {
	v := p.current.Load()
	if v == nil {
		return r, false, errNotLoaded
	}
	if v.manifest.Kind != Sink {
		return r, false, fmt.Errorf("plugin %s is no sink", p.item.Name)
	}
	rows, _, err := v.batch(b)
	if err != nil || rows == nil {
		return r, false, err
	}
	r, err = p.deliver(ctx, v, rows)
	return r, true, err
}

// wants reports whether the sink is to be given the row.
func (v *version) wants(r *audit.Row) bool {
	if !globbed(v.manifest.Operations, r.Operation) || !globbed(v.item.Projects, r.ProjectID) {
		return false
	}
	return v.filter.passes(rowView{r})
}

func globbed(globs []string, name string) bool {
	for _, glob := range globs {
		if ok, err := path.Match(glob, name); ok && err == nil {
			return true
		}
	}
	return len(globs) == 0
}

// batch makes the next batch of the rows, nil if the sink wants none of them. All up
// to last are in it or left out.
func (v *version) batch(given audit.Batch) (b *batch, last int64, err error) {
	b = &batch{batchJSON: batchJSON{Sink: v.item.Name, Epoch: given.Epoch, Attempt: given.Attempt}}
	size := 0
	for i := range given.Rows {
		r := &given.Rows[i]
		if !v.wants(r) {
			last = r.ID
			continue
		}
		if len(b.rows) == v.manifest.Batch.Rows {
			break
		}
		text, err := json.Marshal(r.Sink())
		if err != nil {
			return nil, 0, fmt.Errorf("encode row %d: %w", r.ID, err)
		}
		if size += len(text); len(b.rows) > 0 && size > int(v.manifest.Batch.Bytes) {
			break
		}
		b.Rows, b.rows, last = append(b.Rows, text), append(b.rows, r), r.ID
	}
	if len(b.rows) == 0 {
		return nil, last, nil
	}
	b.FirstID, b.LastID = b.rows[0].ID, b.rows[len(b.rows)-1].ID
	b.Checkpoint, err = json.Marshal(given.Checkpoint(b.rows[len(b.rows)-1]))
	return b, last, err
}

func (b *batch) encode(flat bool) ([]byte, error) {
	if !flat {
		return json.Marshal(b.batchJSON)
	}
	w := flatWriter{[]byte{flatVersion}}
	w.text(b.Sink)
	w.i64(b.Epoch, b.FirstID, b.LastID)
	w.u32(uint32(b.Attempt))
	w.u32(uint32(len(b.rows)))
	for i, r := range b.rows {
		w.i64(r.ID, r.Time.UnixMicro())
		w.text(r.CallID, r.Operation, string(r.Status), r.Code, string(r.ActorType), r.ActorID, r.ActorName, r.ProjectID, r.ResourceType, r.ResourceID)
		w.bytes(b.Rows[i])
	}
	w.bytes(b.Checkpoint)
	return w.b, nil
}

// deliver gives a guest the batch.
func (p *Plugin) deliver(ctx context.Context, v *version, b *batch) (Receipt, error) {
	begun := time.Now()
	g, err := v.pool.take(ctx, "")
	if err != nil {
		return Receipt{}, err
	}
	r, used, sound, err := g.deliver(ctx, b)
	v.pool.takeBack(g, "", sound, err)
	if errors.Is(err, errGone) {
		return Receipt{}, ctx.Err() // the server stops, and the batch comes again
	}
	outcome, failed := "ok", err
	if r.Retry {
		outcome, failed = "retry", fmt.Errorf("it wants the batch again: %s", r.Reason)
	} else if err != nil {
		outcome = "error"
	}
	p.count(ctx, outcome, time.Since(begun), used, failed)
	return r, err
}

// deliver gives the guest the batch, and says how much fuel that took. sound is false
// if it may not be used again.
func (g *guest) deliver(ctx context.Context, b *batch) (r Receipt, used int64, sound bool, err error) {
	message, err := b.encode(g.flat)
	if err != nil {
		return r, 0, true, err
	}
	g.begin(ctx, g.v.callFuel(len(message)), deliverWithin)
	defer func() { g.running = nil }()
	answer, err := g.exchange(message)
	used = g.fuel.used()
	if err != nil {
		return r, used, errors.Is(err, errNoRoom), err
	}
	if r, err = decodeReceipt(g.flat, answer); err != nil {
		return Receipt{}, used, false, &failure{errMalformed, err}
	}
	return r, used, true, nil
}

// Receipt is a sink's answer: whether it has taken the batch, else why not.
type Receipt struct {
	Retry  bool
	Reason string
	After  time.Duration // when it may come again; 0: whenever
}

func decodeReceipt(flat bool, b []byte) (Receipt, error) {
	var in struct {
		Status, Reason string
		RetryAfterMS   int64 `json:"retry_after_ms"`
	}
	if flat {
		r := &flatReader{b: b}
		r.version()
		status := r.u8()
		in.RetryAfterMS, in.Reason = r.i64(), r.text()
		if r.err != nil {
			return Receipt{}, r.err
		}
		in.Status = map[byte]string{0: "ok", 1: "retry"}[status]
	} else {
		if !utf8.Valid(b) {
			return Receipt{}, errors.New("it is no UTF-8")
		}
		if err := json.Unmarshal(b, &in); err != nil {
			return Receipt{}, err
		}
	}
	if in.Status != "ok" && in.Status != "retry" {
		return Receipt{}, errors.New("its status is neither ok nor retry")
	}
	const longest = int64(24 * time.Hour / time.Millisecond)
	after := time.Duration(min(max(0, in.RetryAfterMS), longest)) * time.Millisecond
	return Receipt{in.Status == "retry", cut(in.Reason, maxReason), after}, nil
}

// rowView gives an expression the members of a row.
type rowView struct{ r *audit.Row }

// ResolveName returns a variable.
func (v rowView) ResolveName(name string) (any, bool) {
	r := v.r
	switch name {
	case "operation":
		return r.Operation, true
	case "status":
		return string(r.Status), true
	case "actor":
		return map[string]string{"type": string(r.ActorType), "id": r.ActorID, "name": r.ActorName}, true
	case "project_id":
		return r.ProjectID, true
	case "resource_type":
		return r.ResourceType, true
	case "resource_id":
		return r.ResourceID, true
	case "error_code":
		return r.Code, true
	}
	return nil, false
}

// Parent returns nil: there are no variables beyond.
func (v rowView) Parent() cel.Activation { return nil }
