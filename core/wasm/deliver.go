package wasm

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/eiderdb/eider/core/audit"
)

// Sinks returns the followers that give sinks the log. A plugin that could not be
// loaded is followed too, if its manifest says that it is a sink or cannot be read:
// it fails, and its cursor stays where it is.
func (h *Host) Sinks() []audit.Follower {
	var all []audit.Follower
	for _, p := range h.plugins {
		if _, policy := p.chained(); !policy {
			all = append(all, audit.Follower{Name: "plugin:" + p.Name(), Handle: p.Deliver})
		}
	}
	return all
}

// sinkRow is a row of the log as sinks are given it.
type sinkRow struct {
	audit.Operation
	ProjectUID string `json:"project_uid"`
	IntentID   int64  `json:"intent_id"`
}

type batchJSON struct {
	Sink    string            `json:"sink"`
	Epoch   int64             `json:"epoch"`
	FirstID int64             `json:"first_id"`
	LastID  int64             `json:"last_id"`
	Attempt int               `json:"attempt"`
	Rows    []json.RawMessage `json:"rows"`
}

// batch is rows for a guest, and their texts.
type batch struct {
	batchJSON
	rows []audit.Row
}

// Deliver gives the plugin rows, in batches of the size that its manifest says. An
// error means that they come again, from the first of them.
func (p *Plugin) Deliver(ctx context.Context, rows []audit.Row) error {
	if p.Mode() == "off" {
		return errors.New("the sink is off: its cursor stays where it is")
	}
	for len(rows) > 0 {
		v := p.current.Load()
		if v == nil {
			return errNotLoaded
		}
		b, n, err := v.batch(rows)
		if err != nil {
			return err
		}
		p.mu.Lock()
		if p.attempted == b.FirstID {
			p.attempts++
		} else {
			p.attempted, p.attempts = b.FirstID, 1
		}
		b.Attempt = p.attempts
		p.mu.Unlock()
		if err := p.deliver(ctx, v, b); err != nil {
			return fmt.Errorf("rows %d to %d: %w", b.FirstID, b.LastID, err)
		}
		rows = rows[n:]
	}
	return nil
}

// batch makes the next batch of the rows and says how many it holds.
func (v *version) batch(rows []audit.Row) (*batch, int, error) {
	b := &batch{batchJSON: batchJSON{Sink: v.item.Name, FirstID: rows[0].ID}}
	size := 0
	for i := range rows {
		if i == v.manifest.Batch.Rows {
			break
		}
		r := &rows[i]
		row := sinkRow{r.API(), r.ProjectUID, r.IntentID}
		row.PrevHash, row.Hash = hex.EncodeToString(r.PrevHash), hex.EncodeToString(r.Hash)
		text, err := json.Marshal(row)
		if err != nil {
			return nil, 0, fmt.Errorf("encode row %d: %w", r.ID, err)
		}
		if size += len(text); i > 0 && size > int(v.manifest.Batch.Bytes) {
			break
		}
		b.Rows, b.rows, b.LastID = append(b.Rows, text), append(b.rows, *r), r.ID
	}
	return b, len(b.rows), nil
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
	for i := range b.rows {
		r := &b.rows[i]
		w.i64(r.ID, r.Time.UnixMicro())
		w.text(r.CallID, r.Operation, string(r.Status), r.Code, string(r.ActorType), r.ActorID, r.ActorName, r.ProjectID, r.ResourceType, r.ResourceID)
		w.bytes(b.Rows[i])
	}
	return w.b, nil
}

func (p *Plugin) deliver(ctx context.Context, v *version, b *batch) error {
	begun := time.Now()
	g, err := v.pool.take(ctx)
	if err != nil {
		return err
	}
	given := v.callFuel()
	g.begin(ctx, given, deliverWithin)
	sound, err := g.deliver(b)
	used := g.used(given)
	g.running = nil
	if sound {
		v.pool.give(g)
	} else {
		v.pool.bury(g, err)
	}
	outcome := "ok"
	if err != nil {
		outcome = "error"
	}
	p.count(ctx, outcome, time.Since(begun), used, err)
	return err
}

func (g *guest) deliver(b *batch) (sound bool, err error) {
	message, err := b.encode(g.flat)
	if err != nil {
		return true, err
	}
	answer, err := g.exchange(message)
	if err != nil {
		return errors.Is(err, errNoRoom), err
	}
	reason, ok, err := decodeReceipt(g.flat, answer)
	if err != nil {
		return false, &failure{errMalformed, err}
	}
	if !ok {
		return true, fmt.Errorf("it wants the batch again: %s", reason)
	}
	return true, nil
}

// decodeReceipt reads a sink's answer: whether it has taken the batch, else why
// not.
func decodeReceipt(flat bool, b []byte) (reason string, ok bool, err error) {
	if flat {
		r := &flatReader{b: b}
		r.version()
		status := r.u8()
		r.i64()
		reason = r.text()
		if r.err == nil && status > 1 {
			r.err = errors.New("its status is neither ok nor retry")
		}
		return cut(reason, maxReason), status == 0, r.err
	}
	var in struct{ Status, Reason string }
	if !utf8.Valid(b) {
		return "", false, errors.New("it is no UTF-8")
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return "", false, err
	}
	if in.Status != "ok" && in.Status != "retry" {
		return "", false, errors.New("its status is neither ok nor retry")
	}
	return cut(in.Reason, maxReason), in.Status == "ok", nil
}
