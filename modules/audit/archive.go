package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
)

// archiveRows is how many rows an archive has at most: the writer stands still
// while they are deleted, and nobody waits for more than a moment.
const archiveRows = 500_000

// declareArchive declares how the log is kept from growing for ever: whole months
// that are over are written to archive/, and only then deleted, in one commit with
// the row that proves it.
func (a *Audit) declareArchive(r *core.Registry) {
	r.Schedule(core.Job{Name: "archive_log", Every: func() time.Duration { return time.Duration(a.settings.ArchiveEvery) }, Run: a.archiveDue})
	a.cutOp = operation.Effect(r.Operations, operation.Spec{
		Name: audit.ArchiveOperation, Route: operation.Internal + " /operations/archive", Role: eider.Admin, Target: "operation", Frees: true,
	}, operation.Steps[archiveRange, *archivePlan, operation.Nothing]{
		Intent: a.planArchive, Claims: func(*archivePlan) []metadata.Claim {
			return []metadata.Claim{{Resource: "operations_log", Exclusive: true}}
		},
		Effect: a.writeArchive, Applied: a.isArchived, Undo: a.removeArchive, Outcome: a.cutLog,
		Revert: func(context.Context, *operation.Tx, *archivePlan) error { return nil },
	})
}

type archiveRange struct{ First, Last int64 }

// archivePlan is what is archived. The manifest is known once it is written.
type archivePlan struct {
	First int64  `json:"first"`
	Last  int64  `json:"last"`
	File  string `json:"file"`

	manifest *audit.Manifest
}

var archiver = eider.Actor{Type: eider.ActorSystem, ID: "archive_log", Name: "archive_log", Role: eider.Admin}

// archiveDue archives the months that are due, a piece at a time. It waits while
// the clock is behind the log, and for the slowest follower.
func (a *Audit) archiveDue(ctx context.Context) error {
	if a.settings.Retention == 0 || a.log.Behind() > 0 {
		return nil
	}
	before := a.Now().UTC().Add(-time.Duration(a.settings.Retention))
	for ctx.Err() == nil {
		through, err := a.slowest(ctx)
		if err != nil {
			return err
		}
		first, last, err := a.log.Archivable(ctx, a.pipeline.Store.View(), before, through, a.Most)
		if err != nil || first == 0 {
			return err
		}
		if last < first {
			a.logger.Warn("a month of the log is due and cannot be archived yet: a follower or an unfinished call needs its rows", "from", first, "followed", through)
			return nil
		}
		if _, err := a.cutOp.Do(ctx, a.pipeline, archiver, "", archiveRange{first, last}); err != nil {
			return fmt.Errorf("archive rows %d to %d of the log: %w", first, last, err)
		}
	}
	return nil
}

func (a *Audit) planArchive(ctx context.Context, _ *operation.Tx, in archiveRange) (*archivePlan, error) {
	name, err := audit.FreeName(a.archive, a.log.EpochAt(in.Last), in.First, in.Last)
	if err != nil {
		return nil, err
	}
	p := &archivePlan{First: in.First, Last: in.Last, File: name}
	p.tell(ctx)
	return p, a.log.MayCut(in.Last)
}

func (p *archivePlan) tell(ctx context.Context) { operation.From(ctx).Resource(p.file()) }

// file returns the name of the archive. Plans of older versions do not have it.
func (p *archivePlan) file() string {
	if p.File == "" {
		return audit.ArchiveName(0, p.First, p.Last)
	}
	return p.File
}

func (a *Audit) writeArchive(ctx context.Context, p *archivePlan) (err error) {
	p.manifest, err = audit.WriteArchive(ctx, a.pipeline.Store.View(), a.files, a.signer, a.archive, p.file(), p.First, p.Last)
	return err
}

// isArchived reports whether the archive is whole: its manifest is written last.
func (a *Audit) isArchived(_ context.Context, p *archivePlan) (bool, error) {
	name := p.file()
	m, err := audit.ReadManifest(a.archive, name)
	if err != nil || m == nil {
		return false, err
	}
	info, err := os.Stat(filepath.Join(a.archive, name))
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() != m.Bytes {
		return false, nil
	}
	p.manifest = m
	return err == nil, err
}

func (a *Audit) removeArchive(_ context.Context, p *archivePlan) error {
	return audit.RemoveArchive(a.files, a.archive, p.file())
}

// cutLog deletes the rows. Its own row, in the same commit, tells of the archive.
func (a *Audit) cutLog(ctx context.Context, tx *operation.Tx, p *archivePlan) (operation.Nothing, error) {
	p.tell(ctx)
	call, m := operation.From(ctx), p.manifest.Archived
	for name, value := range map[string]any{
		"file": m.File, "first": m.First, "last": m.Last, "prev_hash": m.PrevHash, "last_hash": m.LastHash,
		"first_time": m.FirstTime, "last_time": m.LastTime, "sha256": m.SHA256, "bytes": m.Bytes,
	} {
		call.Detail(name, value)
	}
	if m.Epoch != 0 {
		call.Detail("epoch", m.Epoch)
	}
	audit.Cut(tx, p.Last)
	return operation.Nothing{}, nil
}
