package files

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/blob"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
)

func (f *Files) declareOrphans(r *core.Registry) {
	f.orphanOp = operation.Effect(r.Operations, operation.Spec{
		Name: "sweep_files", Route: operation.Internal + " /files/orphans", Role: eider.Admin, Target: "server", Frees: true,
	}, operation.Steps[orphans, *removal, swept]{
		Intent: f.pickOrphans, Claims: claimRemoval, Effect: f.removeBytes, Applied: f.rollForward, Undo: f.removeBytes,
		Outcome: f.reportSwept, Revert: func(context.Context, *operation.Tx, *removal) error { return nil },
	})
	f.forgetOp = operation.Write(r.Operations, operation.Spec{
		Name: "sweep_files", ID: "sweep_purged_files", Route: operation.Internal + " /files/purged", Role: eider.Admin, Target: "server", Frees: true,
	}, f.forgetPurged)
}

// orphans are bytes that no row names.
type orphans struct {
	Blobs []blob.Key `json:"blobs"`
}

type swept struct{ Removed int }

// sweepOrphans looks for bytes without a row that an upload has left, and for rows
// of projects that were purged. Neither is ever younger than files.grace: an upload
// may be on its way to its row.
func (f *Files) sweepOrphans(ctx context.Context) error {
	var batch []blob.Key
	unknown := 0
	flush := func() error {
		lost, err := f.withoutRow(ctx, batch)
		batch = nil
		if err != nil || len(lost) == 0 {
			return err
		}
		found, err := f.left(ctx, lost)
		unknown += len(lost) - len(found)
		if err != nil || len(found) == 0 {
			return err
		}
		_, err = f.orphanOp.Do(ctx, f.pipeline, sweeper, "", orphans{found})
		return err
	}
	old := time.Now().Add(-time.Duration(f.settings.Grace))
	err := f.blobs.Walk(ctx, old, func(k blob.Key) error {
		if batch = append(batch, k); len(batch) < sweepBatch {
			return nil
		}
		return flush()
	})
	if err == nil && len(batch) > 0 {
		err = flush()
	}
	if unknown > 0 {
		f.log.Warn("there are bytes that neither a row nor a call of this log knows; they are kept: a check names them, a repair moves them to lost+found", "files", unknown)
	}
	return errors.Join(err, f.sweepPurged(ctx))
}

// withoutRow returns those of the blobs that no row and no unfinished call names.
func (f *Files) withoutRow(ctx context.Context, keys []blob.Key) ([]blob.Key, error) {
	// In this order: a call that ends meanwhile has its row by the time that rows
	// are read.
	planned := underWay(f.audit.Unfinished())
	known, err := f.named(ctx, keys)
	if err != nil {
		return nil, err
	}
	var lost []blob.Key
	for _, k := range keys {
		if !known[k.ID] && !planned[k] {
			lost = append(lost, k)
		}
	}
	return lost, nil
}

// named returns which of the blobs have a row.
func (f *Files) named(ctx context.Context, keys []blob.Key) (map[string]bool, error) {
	known := map[string]bool{}
	f.sessions.Scan(metadata.Range[session]{Order: byExpiry}, func(s *session) bool {
		known[s.Blob] = true
		return true
	})
	marks := make([]string, len(keys))
	args := make([]any, len(keys))
	for i, k := range keys {
		marks[i], args[i] = fmt.Sprintf("$%d", i+1), k.ID
	}
	rows, err := f.pipeline.Store.View().Query(ctx, "SELECT blob FROM files WHERE blob IN ("+strings.Join(marks, ", ")+")", args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		known[id] = true
	}
	return known, rows.Err()
}

func (f *Files) pickOrphans(_ context.Context, _ *operation.Tx, in orphans) (*removal, error) {
	return &removal{Blobs: in.Blobs}, nil
}

func (f *Files) reportSwept(ctx context.Context, _ *operation.Tx, plan *removal) (swept, error) {
	operation.From(ctx).Detail("removed", len(plan.Blobs))
	operation.From(ctx).Detail("blobs", plan.Blobs)
	return swept{len(plan.Blobs)}, nil
}

// The project's newest incarnation tells: an older one with the id was purged,
// or there could not be a newer.
const selectOwners = `SELECT DISTINCT project_uid, project_id FROM files`

const selectOwned = `SELECT id, blob FROM files WHERE project_uid = $1 LIMIT 500`

// sweepPurged removes the rows of files whose project was purged, in batches.
func (f *Files) sweepPurged(ctx context.Context) error {
	owners, err := f.pairs(ctx, selectOwners)
	if err != nil {
		return err
	}
	for _, owner := range owners {
		newest, ok := f.pipeline.Project(owner[1])
		if ok && newest.UID == owner[0] && newest.Status != eider.ProjectPurged {
			continue
		}
		if err := f.forgetOwned(ctx, owner); err != nil {
			return err
		}
	}
	return nil
}

// forgetOwned removes the rows of the files of a purged project: its uid and id.
func (f *Files) forgetOwned(ctx context.Context, owner [2]string) error {
	for {
		owned, err := f.pairs(ctx, selectOwned, owner[0])
		if err != nil || len(owned) == 0 {
			return err
		}
		in := purgedFiles{UID: owner[0], Project: owner[1]}
		for _, one := range owned {
			in.Files = append(in.Files, one[0])
		}
		if _, err := f.forgetOp.Do(ctx, f.pipeline, sweeper, "", in); err != nil {
			return err
		}
	}
}

// rememberPurge has the next round forget the project's files. What a stop
// forgets here, the first round after a start finds.
func (f *Files) rememberPurge(p eider.Project) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.purges = append(f.purges, [2]string{p.UID, p.ID})
}

func (f *Files) forgetPurges(ctx context.Context) error {
	f.mu.Lock()
	due := f.purges
	f.purges = nil
	f.mu.Unlock()
	for i, owner := range due {
		if err := f.forgetOwned(ctx, owner); err != nil {
			f.mu.Lock()
			f.purges = append(f.purges, due[i:]...)
			f.mu.Unlock()
			return err
		}
	}
	return nil
}

// purgedFiles names rows of files whose project was purged.
type purgedFiles struct {
	UID     string   `json:"uid"`
	Project string   `json:"project"`
	Files   []string `json:"files"`
}

func (f *Files) forgetPurged(ctx context.Context, tx *operation.Tx, in purgedFiles) (swept, error) {
	call := operation.From(ctx)
	call.In(eider.Project{ID: in.Project, UID: in.UID})
	call.Detail("rows", len(in.Files))
	for _, id := range in.Files {
		f.changed(tx, id)
		if err := f.rows.Drop(tx, row{File: eider.File{ID: id}}); err != nil {
			return swept{}, err
		}
	}
	return swept{len(in.Files)}, nil
}

func (f *Files) pairs(ctx context.Context, statement string, args ...any) (all [][2]string, err error) {
	rows, err := f.pipeline.Store.View().Query(ctx, statement, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var pair [2]string
		if err := rows.Scan(&pair[0], &pair[1]); err != nil {
			return nil, err
		}
		all = append(all, pair)
	}
	return all, rows.Err()
}
