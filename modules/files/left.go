package files

import (
	"context"
	"encoding/json"
	"time"

	"github.com/eiderdb/eider/core/blob"
	"github.com/google/uuid"
)

// The rows of calls that were about to write bytes. What they planned names them.
const selectWriters = `
	SELECT id, project_uid, details FROM operations_log
	WHERE status = 'in_progress' AND operation IN ('upload_file', 'register_file', 'export_table', 'query') AND timestamp BETWEEN $1 AND $2`

// A blob's id tells when it was planned, its row when that was committed: they may
// be so far apart, and a clock may have been set.
const aroundRow = time.Hour

// left returns those of the bytes without a row that a call of this log has left
// behind. Bytes that it does not know may be files: a register that was restored, cut
// or rebuilt lacks those that came later. Nor do the rows before that say that bytes
// are nobody's: what they planned may have become a file that is forgotten.
func (f *Files) left(ctx context.Context, lost []blob.Key) ([]blob.Key, error) {
	var first, last time.Time
	for _, k := range lost {
		at, ok := plannedAt(k)
		if !ok {
			continue
		}
		if first.IsZero() || at.Before(first) {
			first = at
		}
		if at.After(last) {
			last = at
		}
	}
	if first.IsZero() {
		return nil, nil
	}
	rows, err := f.pipeline.Store.View().Query(ctx, selectWriters, first.Add(-aroundRow), last.Add(aroundRow))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	epoch := f.audit.EpochAt(f.audit.Head().ID)
	planned := map[blob.Key]bool{}
	for rows.Next() {
		var id int64
		var project, details string
		if err := rows.Scan(&id, &project, &details); err != nil {
			return nil, err
		}
		if f.audit.EpochAt(id) != epoch {
			continue
		}
		for _, one := range plannedBlobs(details) {
			if one.Project == project { // nobody's call decides about bytes of others
				planned[one] = true
			}
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	var all []blob.Key
	for _, k := range lost {
		if planned[k] {
			all = append(all, k)
		}
	}
	return f.unregistered(all), nil
}

// plannedAt returns when a blob got its id.
func plannedAt(k blob.Key) (time.Time, bool) {
	id, err := uuid.Parse(k.ID)
	if err != nil || id.Version() != 7 {
		return time.Time{}, false
	}
	return time.Unix(id.Time().UnixTime()), true
}

// unregistered leaves out bytes beside which stands that they are a file of which the
// log has told: where no row has them, the register has forgotten them.
func (f *Files) unregistered(keys []blob.Key) []blob.Key {
	var all []blob.Key
	for _, k := range keys {
		var is sidecar
		text, err := f.blobs.Described(k)
		if err == nil && json.Unmarshal(text, &is) == nil && !is.Staged && is.LogID > 0 {
			f.log.Warn("bytes are kept that were registered as a file, and that the register does not know", "blob", k.ID, "project_uid", k.Project)
			continue
		}
		all = append(all, k)
	}
	return all
}
