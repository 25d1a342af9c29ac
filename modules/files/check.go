package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/blob"
	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/usage"
)

// findBatch is how many rows a check reads at a time: it holds no transaction.
const findBatch = 2000

// check compares the rows of files with their bytes. The folders are read before the
// rows, so that bytes whose row came or went meanwhile are no orphans.
func (f *Files) check(ctx context.Context, s check.Scope, tell func(check.Finding)) error {
	there := found{blobs: map[blob.Key]bool{}, others: map[string]int{}}
	err := f.blobs.Look(ctx, blob.Survey{
		Blob: func(k blob.Key, is blob.State) error {
			there.blobs[k] = is.Whole && !is.Described
			return nil
		},
		Other: func(path string) error {
			there.others[path] = 0
			return nil
		},
	})
	if err != nil {
		return err
	}
	l := &looking{f: f, scope: s, there: there, owners: f.owners(), tell: tell}
	if err := errors.Join(l.findRows(ctx), l.findUploads(ctx)); err != nil {
		return err
	}
	if err := f.findStray(ctx, there, tell); err != nil {
		return err
	}
	return f.findMiscounted(ctx, l.owners, tell)
}

// found is what lies in the folder of files and has no row so far.
type found struct {
	blobs  map[blob.Key]bool // true: whole, and nothing that tells of them stands beside them
	others map[string]int    // what is no blob, by path, and for how many rows their bytes are there
}

// claim takes out what a row names, and reports whether nothing tells of it. What is in
// its place may be a link, or a folder that leads there: then the row needs that.
func (there found) claim(k blob.Key) (bare bool) {
	bare = there.blobs[k]
	delete(there.blobs, k)
	if len(there.others) > 0 {
		for path := blob.Path(k); path != "."; path = filepath.Dir(path) {
			if _, ok := there.others[path]; ok {
				there.others[path]++
			}
		}
	}
	return bare
}

// looking is a check under way.
type looking struct {
	f      *Files
	scope  check.Scope
	there  found
	owners map[string]eider.Project
	tell   func(check.Finding)
}

// owners returns the projects that have their files, by uid: those of a
// project that is purged go later than its bytes.
func (f *Files) owners() map[string]eider.Project {
	all := map[string]eider.Project{}
	for p := range f.projects.Projects {
		if keepsFiles(p) {
			all[p.UID] = p
		}
	}
	return all
}

func keepsFiles(p eider.Project) bool {
	return p.Status == eider.ProjectActive || p.Status == eider.ProjectLocked || p.Status == eider.ProjectDeleted
}

// owns reports whether the project has its files now.
func (f *Files) owns(id, uid string) bool {
	p, ok := f.projects.Project(id)
	return ok && p.UID == uid && keepsFiles(p)
}

// seen is a row as a check reads it, with what is known of its bytes.
type seen struct {
	row
	checked bool // there is a word of an earlier look
	intact  bool
}

const selectSeen = `
	SELECT f.id, f.project_uid, f.project_id, f.name, f.blob, f.content_type, f.size_bytes, f.checksum_md5, f.checksum_sha256,
		f.created_at, f.expires_at, f.tags, c.id IS NOT NULL, coalesce(c.intact, true)
	FROM files f LEFT JOIN file_checks c ON c.id = f.id `

const selectPage = selectSeen + `WHERE f.id > $1 ORDER BY f.id LIMIT 2000`

func (f *Files) seen(ctx context.Context, statement string, args ...any) (all []seen, err error) {
	rows, err := f.pipeline.Store.View().Query(ctx, statement, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var s seen
		s.row, err = decode(func(dest ...any) error { return rows.Scan(append(dest, &s.checked, &s.intact)...) })
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, rows.Err()
}

func (l *looking) findRows(ctx context.Context) error {
	for after := ""; ; {
		page, err := l.f.seen(ctx, selectPage, after)
		if err != nil {
			return err
		}
		checks := l.f.newChecks()
		for _, one := range page {
			after = one.ID
			if err := l.findBytes(ctx, one, checks); err != nil {
				return err
			}
		}
		checks.keep()
		if len(page) < findBatch {
			return nil
		}
	}
}

// findUploads looks for the bytes of uploads that are complete: they were acknowledged,
// as those of files. There are few of them, and no word of earlier looks is kept.
func (l *looking) findUploads(ctx context.Context) error {
	var whole []row
	at := now()
	l.f.sessions.Scan(metadata.Range[session]{Order: byExpiry}, func(one *session) bool {
		if one.Uploaded && !one.expiredAt(at) {
			whole = append(whole, one.row)
		} else {
			l.there.claim(one.key())
		}
		return true
	})
	for _, one := range whole {
		if err := l.findBytes(ctx, seen{row: one, intact: true}, nil); err != nil {
			return err
		}
	}
	return nil
}

// findBytes looks for the bytes of a file or an upload, reads them where the check is
// deep, and looks for what stands beside them.
func (l *looking) findBytes(ctx context.Context, one seen, checks *checks) error {
	f := l.f
	bare := l.there.claim(one.key())
	if _, ok := l.owners[one.ProjectUID]; !ok || ctx.Err() != nil {
		return ctx.Err()
	}
	if told, err := l.confirm(ctx, one.row, f.lookAt); told || err != nil {
		return err
	}
	if l.scope.Deep {
		var err error
		if one.intact, err = f.intact(ctx, one.row, l.scope.Pace); err != nil {
			return err
		}
		if checks != nil {
			checks.add(one)
		}
	}
	if !one.intact && f.quiet(one.row) && f.stands(ctx, one.row) { // bytes never change: once is enough
		l.tell(*f.damaged(one.row, check.ChecksumMismatch, "the file's bytes are not those that were registered"))
		return nil
	}
	if !bare && !l.scope.Deep {
		return nil
	}
	_, err := l.confirm(ctx, one.row, f.lookBeside)
	return err
}

// confirm tells what look finds wrong with a file, unless that is an operation under
// way.
func (l *looking) confirm(ctx context.Context, r row, look func(row) (*check.Finding, error)) (told bool, err error) {
	wrong, err := check.Confirm(ctx, func() (struct{}, bool) { return struct{}{}, l.f.quiet(r) }, func() (*check.Finding, error) {
		wrong, err := look(r)
		if wrong == nil || err != nil || !l.f.stands(ctx, r) {
			return nil, err
		}
		return wrong, nil
	})
	if wrong != nil {
		l.tell(*wrong)
	}
	return wrong != nil, err
}

// lookAt compares the row with what is in its place.
func (f *Files) lookAt(r row) (*check.Finding, error) {
	size, err := f.blobs.Size(r.key())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f.damaged(r, check.MissingFile, "the register has the file, and its bytes are not in their place"), nil
	case err == nil && size != r.SizeBytes:
		return f.damaged(r, check.SizeDrift, fmt.Sprintf("the file has %d bytes, the register says %d", size, r.SizeBytes)), nil
	}
	return nil, err
}

// lookBeside looks for what tells of the file, from which its row could be made again.
func (f *Files) lookBeside(r row) (*check.Finding, error) {
	there, err := f.blobs.IsDescribed(r.key())
	if err != nil {
		return nil, err
	}
	if !there {
		return f.undescribed(r, "what stands beside the file's bytes, to make its row again, is missing or empty"), nil
	}
	text, err := f.blobs.Described(r.key())
	var is sidecar
	if err == nil && json.Unmarshal(text, &is) == nil && is.tellsOf(r) {
		return nil, nil
	}
	return f.undescribed(r, "what stands beside the file's bytes, to make its row again, cannot be read or is not of this file"), nil
}

func (f *Files) undescribed(r row, detail string) *check.Finding {
	return &check.Finding{
		Kind: check.ChecksumMismatch, Severity: check.Warning, Resource: filesDir + "/" + blob.Path(r.key()) + ".json",
		Detail: detail + fmt.Sprintf(" (file %s, project %s)", r.ID, r.ProjectID),
		Repair: "write it again from the register; the file stays as it is",
		Fix: func(ctx context.Context) error {
			_, err := f.describeOp.Do(ctx, f.pipeline, repairer, r.ProjectID, damagedFile{ID: r.ID, Kind: check.ChecksumMismatch})
			return err
		},
	}
}

// quiet reports whether no call is about to change the file. Whoever did before has
// changed its row by then.
func (f *Files) quiet(r row) bool {
	return !underWay(f.audit.Unfinished())[r.key()]
}

// stands reports whether the file is registered, or the upload complete, and its
// project has files still: the rows of one that was purged go later than their bytes.
func (f *Files) stands(ctx context.Context, r row) bool {
	if !f.owns(r.ProjectID, r.ProjectUID) {
		return false
	}
	view := f.pipeline.Store.View()
	now, err := f.rows.Get(ctx, view, r.ID)
	if eider.CodeOf(err) == eider.FileNotFound {
		var s session
		if s, err = f.sessions.Get(ctx, view, r.ID); !s.Uploaded {
			return false
		}
		now = s.row
	}
	return err == nil && now.Blob == r.Blob
}

func (f *Files) damaged(r row, kind check.Kind, detail string) *check.Finding {
	return &check.Finding{
		Kind: kind, Severity: check.Error, Resource: "file:" + r.ID, Detail: detail + fmt.Sprintf(" (%q of project %s)", r.Name, r.ProjectID),
		Repair: "put the bytes back from a backup; a repair takes the file out of the register and keeps what is left of it in lost+found",
		Fix: func(ctx context.Context) error {
			_, err := f.dropOp.Do(ctx, f.pipeline, repairer, r.ProjectID, damagedFile{r.ID, kind})
			return err
		},
	}
}

// One statement sees one instant, so the difference is right whatever is uploaded
// meanwhile: it is added, and nothing is set.
const selectMiscounted = `
	SELECT coalesce(u.scope, f.uid), coalesce(u.files, 0), coalesce(u.bytes, 0), coalesce(f.files, 0), coalesce(f.bytes, 0)
	FROM (SELECT scope, files, bytes FROM usage WHERE scope <> 'server') u
	FULL JOIN (SELECT project_uid AS uid, count(*) AS files, CAST(sum(size_bytes) AS BIGINT) AS bytes FROM files GROUP BY project_uid) f ON f.uid = u.scope
	WHERE coalesce(u.files, 0) <> coalesce(f.files, 0) OR coalesce(u.bytes, 0) <> coalesce(f.bytes, 0)`

func (f *Files) findMiscounted(ctx context.Context, owners map[string]eider.Project, tell func(check.Finding)) error {
	rows, err := f.pipeline.Store.View().Query(ctx, selectMiscounted)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var uid string
		var said, counted usage.Amounts
		if err := rows.Scan(&uid, &said.Files, &said.Bytes, &counted.Files, &counted.Bytes); err != nil {
			return err
		}
		// A purge forgets usage at once and rows later: it may have come since.
		if owner, ok := owners[uid]; ok && f.owns(owner.ID, uid) {
			tell(f.miscounted(owner, said, counted))
		}
	}
	return rows.Err()
}

func (f *Files) miscounted(owner eider.Project, said, counted usage.Amounts) check.Finding {
	return check.Finding{
		Kind: check.CounterDrift, Severity: check.Warning, Resource: "project:" + owner.ID,
		Detail: fmt.Sprintf("there are %d files of %d bytes, usage says %d of %d", counted.Files, counted.Bytes, said.Files, said.Bytes),
		Repair: "add the difference to usage",
		Fix: func(ctx context.Context) error {
			_, err := f.countOp.Do(ctx, f.pipeline, repairer, owner.ID, miscount{counted.Minus(said)})
			return err
		},
	}
}

var repairer = eider.Actor{Type: eider.ActorSystem, ID: "repair", Name: "repair", Role: eider.Admin}

// verified is what is known of a file's bytes.
type verified struct {
	ID         string
	VerifiedAt time.Time
	Intact     bool
}

func newVerified() *metadata.Table[verified] {
	return metadata.NewTable(metadata.Def[verified]{
		Name: "file_checks",
		Columns: []metadata.Column{
			{Name: "id", Kind: metadata.Text}, {Name: "verified_at", Kind: metadata.Time}, {Name: "intact", Kind: metadata.Bool},
		},
		Key:    func(v *verified) string { return v.ID },
		Encode: func(v *verified) []any { return []any{v.ID, v.VerifiedAt, v.Intact} },
		Decode: func(scan func(...any) error) (v verified, err error) {
			err = scan(&v.ID, &v.VerifiedAt, &v.Intact)
			return v, err
		},
		Missing: eider.FileNotFound, Noun: "check",
	})
}
