package audit

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
)

// Batch is rows for a sink, all of one epoch, in the order of their ids.
type Batch struct {
	Epoch   int64
	Rows    []Row
	Attempt int // 1 for the first time that a batch begins with this row

	signer *Signer
}

// Checkpoint returns one, signed, that the row was in the chain; nil where there is
// nothing to sign with.
func (b *Batch) Checkpoint(r *Row) *Checkpoint {
	if b.signer == nil {
		return nil
	}
	c := b.signer.Sign(Head{r.ID, r.Hash, r.Time, b.Epoch})
	return &c
}

// readArchived returns rows behind at that the log does not have any more.
func (f *Followers) readArchived(ctx context.Context, at, to int64) (page, error) {
	var kept archives
	if f.Archive != "" {
		var err error
		if kept, err = f.Log.archives(ctx, f.Store.View(), f.Archive); err != nil {
			return page{}, err
		}
	}
	before := int64(0)
	for _, m := range kept.own {
		if m.First <= at+1 && at < m.Last {
			return f.readManifest(ctx, m, before, at, min(to, m.Last))
		}
		before = m.Epoch
	}
	next, err := oneID(ctx, f.Store.View(), selectFirstBehind, at)
	if err != nil {
		return page{}, err
	}
	if next == 0 {
		next = to + 1
	}
	return page{}, &NotTaken{at + 1, next - 1, 0, errors.New("they are archived, and their archive is not there: bring it back, or skip them")}
}

// readManifest returns rows of an archive. Where an epoch begins in it, the first row
// of that is looked for from the archive's first row on.
func (f *Followers) readManifest(ctx context.Context, m Manifest, epoch, at, to int64) (page, error) {
	if m.damaged {
		return page{}, fmt.Errorf("the manifest of the archive %s cannot be read", m.File)
	}
	first := at + 1
	if m.Epoch != epoch {
		first = m.First
	}
	out := page{}
	err := ReadParquet(ctx, filepath.Join(f.Archive, m.File), first, to, func(rows []Row) error {
		for i := range rows {
			r := &rows[i]
			if begins := epochOf(r); begins > epoch && r.Operation != ArchiveOperation {
				epoch = begins
			}
			if len(out.rows) == 0 {
				out.epoch = epoch
			}
			if r.ID > at && epoch == out.epoch {
				out.rows = append(out.rows, *r)
			}
		}
		return nil
	})
	if err == nil && (len(out.rows) == 0 || out.rows[0].ID != at+1) {
		err = fmt.Errorf("row %d is missing in the archive %s", at+1, m.File)
	}
	if err != nil {
		return page{}, err
	}
	out.to = out.rows[len(out.rows)-1].ID
	return out, nil
}

// Strict says which sinks must not lag. Names are those of Sink.
type Strict struct {
	Sinks []string
	Lag   time.Duration // how old a row may be that one of them has not taken
}

// Refusal returns why no change may be made: a row has waited for one of the strict
// sinks for too long. It returns nil where none has.
func (f *Followers) Refusal() error {
	if len(f.Strict.Sinks) == 0 {
		return nil
	}
	for _, name := range f.Strict.Sinks {
		f.mu.Lock()
		p := f.all[name]
		f.mu.Unlock()
		if p == nil {
			continue // it has not been started yet
		}
		p.mu.Lock()
		since := p.since
		p.mu.Unlock()
		if !since.IsZero() && time.Since(since) > f.Strict.Lag {
			refusal := eider.Errorf(eider.AuditSinkBehind, "the audit sink %s has not taken rows of the log for too long; changes wait for it, reads go on", SinkName(name))
			refusal.RetryAfter = 5 * time.Second
			return refusal
		}
	}
	return nil
}

// pluginPrefix stands before the names of plugins in cursors.
const pluginPrefix = "plugin:"

// PluginSink returns the name under which a plugin follows the log.
func PluginSink(plugin string) string { return pluginPrefix + plugin }

// SinkName returns the name of a sink as operators know it: that of a plugin, or that
// of the file.
func SinkName(name string) string { return strings.TrimPrefix(name, pluginPrefix) }

// SinkStates are the states of SinkState.
var SinkStates = []string{"following", "retrying", "dead", "paused"}

// SinkState is how a sink is doing.
type SinkState struct {
	State     string     `json:"state" enum:"following,retrying,dead,paused" doc:"dead: it has failed 10 times in a row, or for two minutes, and is tried once a minute; paused: it is off"`
	Cursor    int64      `json:"cursor" doc:"The row up to which it has taken all"`
	Behind    int64      `json:"behind" doc:"Rows that it has not taken"`
	OldestAt  *time.Time `json:"oldest_at,omitempty" doc:"When the oldest of them was written"`
	Epoch     int64      `json:"epoch"`
	Failures  int        `json:"failures" doc:"Of the batch that comes next, in a row"`
	Batch     *SinkBatch `json:"batch,omitempty" doc:"The batch that it does not take"`
	Error     string     `json:"error,omitempty"`
	NextTryAt *time.Time `json:"next_try_at,omitempty"`
	Strict    bool       `json:"strict" doc:"Changes wait for it"`
}

// SinkBatch is the rows of a batch.
type SinkBatch struct {
	FirstID int64 `json:"first_id"`
	LastID  int64 `json:"last_id"`
}

// Sink returns how a sink is doing, nil if none has the name.
func (f *Followers) Sink(name string) *SinkState {
	p := f.sink(name)
	if p == nil {
		return nil
	}
	head := f.Log.Head().ID
	p.mu.Lock()
	defer p.mu.Unlock()
	at := max(p.at, p.skip) // what was skipped is, also before the follower has come to it
	s := &SinkState{State: "following", Cursor: at, Behind: max(0, head-at), Epoch: f.Log.EpochAt(at + 1), Failures: p.tries}
	for _, strict := range f.Strict.Sinks {
		s.Strict = s.Strict || strict == name
	}
	if !p.since.IsZero() {
		oldest := p.since
		s.OldestAt = &oldest
	}
	switch {
	case p.paused:
		s.State = "paused"
	case p.dead():
		s.State = "dead"
	case p.failed != nil:
		s.State = "retrying"
	}
	if p.failed != nil {
		next := p.next.UTC().Truncate(time.Millisecond)
		s.Error, s.NextTryAt = p.failed.Error(), &next
	}
	if p.batch[0] > at {
		s.Batch = &SinkBatch{p.batch[0], p.batch[1]}
	}
	return s
}

// CheckSkip refuses a skip of rows that are not the ones that the sink would be
// given next, or that are not there.
func (f *Followers) CheckSkip(name string, first, last int64) error {
	s := f.Sink(name)
	switch {
	case s == nil:
		return eider.Errorf(eider.PluginRefused, "it follows no log")
	case last < first:
		return eider.Invalid("last_id", "must not be before first_id")
	case first != s.Cursor+1 && (s.Batch == nil || first != s.Batch.FirstID):
		return eider.Errorf(eider.PreconditionFailed, "the sink has gone on: the next row that it is given is %d", s.Cursor+1)
	case last > f.Log.Head().ID:
		return eider.Invalid("last_id", "is behind the newest row")
	}
	return nil
}

// Skip moves the cursor of a sink behind rows that it does not take, with the
// transaction.
func (f *Followers) Skip(ctx context.Context, tx *metadata.Tx, name string, first, last int64) error {
	if err := f.CheckSkip(name, first, last); err != nil {
		return err
	}
	p := f.progress(name, true)
	tx.After(func() {
		p.mu.Lock()
		p.skip = max(p.skip, last)
		if p.stop != nil {
			p.stop()
		}
		p.mu.Unlock()
		f.Wake(name)
	})
	return f.Cursors.Put(ctx, tx, Cursor{name, last, time.Now().UTC().Truncate(time.Microsecond)})
}

// skipped reports whether rows are to be left out.
func (p *progress) skipped() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.skip > p.at
}

// adopted moves behind what was skipped, and returns the row; 0: nothing was.
func (p *progress) adopted() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.skip <= p.at {
		return 0
	}
	return p.skip
}
