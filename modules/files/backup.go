package files

import (
	"context"
	"encoding/json"
	"path/filepath"

	"github.com/eiderdb/eider/core/blob"
	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/core/metadata"
)

// visitStored visits the bytes of files and of complete uploads, as the register has
// them: what stands beside them may be lost.
func (f *Files) visitStored(ctx context.Context, visit func(check.Stored) error) error {
	owners := f.owners()
	for after := ""; ; {
		head := f.audit.Head().ID // what is read is at least so new
		page, err := f.seen(ctx, selectPage, after)
		if err != nil {
			return err
		}
		for _, one := range page {
			after = one.ID
			if _, ok := owners[one.ProjectUID]; !ok {
				continue
			}
			if err := f.visitOne(one, describe(one.row, sumsOf(one.row), head), visit); err != nil {
				return err
			}
		}
		if len(page) < findBatch {
			break
		}
	}
	var whole []session
	head, at := f.audit.Head().ID, now()
	f.sessions.Scan(metadata.Range[session]{Order: byExpiry}, func(s *session) bool {
		if s.Uploaded && !s.expiredAt(at) {
			whole = append(whole, *s)
		}
		return true
	})
	for _, s := range whole {
		if _, ok := owners[s.ProjectUID]; !ok {
			continue
		}
		if err := f.visitOne(seen{row: s.row, intact: true}, describe(s.row, sumsOf(s.row), head).staged(s, true), visit); err != nil {
			return err
		}
	}
	return nil
}

func sumsOf(r row) blob.Sums {
	return blob.Sums{Size: r.SizeBytes, MD5: r.ChecksumMD5, SHA256: r.ChecksumSHA256}
}

func (f *Files) visitOne(one seen, is sidecar, visit func(check.Stored) error) error {
	text, err := json.Marshal(is)
	if err != nil {
		return err
	}
	return visit(check.Stored{
		Path: filepath.Join(filesDir, blob.Path(one.key())), Size: one.SizeBytes, SHA256: one.ChecksumSHA256, Intact: one.intact, Sidecar: text,
		Has: func(ctx context.Context) bool { return f.quiet(one.row) && f.stands(ctx, one.row) },
		Found: func(intact bool) {
			if is.Staged {
				return // no word is kept of uploads
			}
			one.intact = intact
			checks := f.newChecks()
			checks.add(one)
			checks.keep()
		},
	})
}
