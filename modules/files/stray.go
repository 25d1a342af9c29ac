package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/eiderdb/eider/core/blob"
	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
)

// findStray tells of what no row names. Uploads that are under way have a session or
// an unfinished call.
func (f *Files) findStray(ctx context.Context, there found, tell func(check.Finding)) error {
	for _, path := range slices.Sorted(maps.Keys(there.others)) {
		if left, err := f.files.Exists(filepath.Join(f.dir, filesDir, path)); err != nil || !left {
			continue
		}
		if n := there.others[path]; n > 0 && !f.isFolder(path) {
			tell(check.Finding{
				Kind: check.OrphanFile, Severity: check.Warning, Resource: filesDir + "/" + path,
				Detail: fmt.Sprintf("it is none of the server's, such as a link, and %d files are read through it; backups do not hold them", n),
				Repair: "put the bytes themselves in its place",
			})
			continue
		}
		f.tellStray(stray{Path: path}, path, "it is none of the server's, or not where the server keeps it", tell)
	}
	var batch []blob.Key
	flush := func() error {
		lost, err := f.withoutRow(ctx, batch)
		batch = nil
		for _, k := range lost {
			f.tellLeft(k, tell)
		}
		return err
	}
	for k := range there.blobs {
		if batch = append(batch, k); len(batch) == sweepBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if len(batch) == 0 {
		return nil
	}
	return flush()
}

// isFolder reports whether a folder, and no link to one, is in the folder of files. Nobody's
// bytes are read through it.
func (f *Files) isFolder(path string) bool {
	info, err := os.Lstat(filepath.Join(f.dir, filesDir, path))
	return err == nil && info.IsDir()
}

// tellLeft tells of what is left of a blob: bytes, or only what told of them.
func (f *Files) tellLeft(k blob.Key, tell func(check.Finding)) {
	if absent, err := f.blobs.Absent(k); err != nil || absent {
		return // it was on its way
	}
	where, detail := blob.Path(k), "no file and no upload has these bytes"
	if gone, err := f.blobs.Gone(k); err == nil && gone {
		where, detail = where+".json", "it tells of bytes that are not there, and of a file that the register does not have"
	}
	f.tellStray(stray{Blob: k}, where, detail, tell)
}

// stray is what nobody has: the bytes of a blob, or anything else by its path below the
// folder of files.
type stray struct {
	Blob blob.Key
	Path string
}

func (f *Files) tellStray(s stray, where, detail string, tell func(check.Finding)) {
	tell(check.Finding{
		Kind: check.OrphanFile, Severity: check.Warning, Resource: filesDir + "/" + where, Detail: detail,
		Repair: "move it to lost+found",
		Fix: func(ctx context.Context) error {
			_, err := f.strayOp.Do(ctx, f.pipeline, repairer, "", s)
			return err
		},
	})
}

// lostBlobs are moved to a folder of lost+found.
type lostBlobs struct {
	Blobs []blob.Key `json:"blobs"`
	Path  string     `json:"path,omitempty"` // of what is no blob, relative to the data folder
	To    string     `json:"to"`             // relative to the data folder
}

// pickStray takes what find told. A blob's name is given out once, so that bytes
// without a row never get one.
func (f *Files) pickStray(ctx context.Context, _ *operation.Tx, in stray) (*lostBlobs, error) {
	call := operation.From(ctx)
	to := filepath.Join(lostDir, "files."+call.ID)
	if in.Path != "" {
		call.Resource(filepath.Join(filesDir, in.Path))
		return &lostBlobs{Path: filepath.Join(filesDir, in.Path), To: to}, nil
	}
	call.Resource(in.Blob.ID)
	return &lostBlobs{Blobs: []blob.Key{in.Blob}, To: to}, nil
}

func (plan *lostBlobs) place(dir string, k blob.Key) string {
	return filepath.Join(dir, plan.To, k.Project+"."+k.ID)
}

// paths returns where what is no blob is, and where it goes.
func (plan *lostBlobs) paths(dir string) (from, to string) {
	return filepath.Join(dir, plan.Path), filepath.Join(dir, plan.To, filepath.Base(plan.Path))
}

func (f *Files) lose(_ context.Context, plan *lostBlobs) error {
	if err := f.files.MkdirAll(filepath.Join(f.dir, plan.To), 0o700); err != nil {
		return disk.Refusal(err)
	}
	for _, k := range plan.Blobs {
		if err := f.blobs.Trash(k, plan.place(f.dir, k)); err != nil {
			return disk.Refusal(err)
		}
	}
	if plan.Path == "" {
		return nil
	}
	from, to := plan.paths(f.dir)
	return disk.Refusal(f.move(from, to))
}

// move moves anything but what is not there. A link is moved as what it is.
func (f *Files) move(from, to string) error {
	if err := f.files.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(f.files.SyncDir(filepath.Dir(to)), f.files.SyncDir(filepath.Dir(from)))
}

func (f *Files) areLost(_ context.Context, plan *lostBlobs) (bool, error) {
	for _, k := range plan.Blobs {
		if gone, err := f.blobs.Absent(k); err != nil || !gone {
			return false, err
		}
	}
	if plan.Path == "" {
		return true, nil
	}
	left, err := f.files.Exists(filepath.Join(f.dir, plan.Path))
	return !left, err
}

func (f *Files) unlose(_ context.Context, plan *lostBlobs) error {
	var failed []error
	for _, k := range plan.Blobs {
		failed = append(failed, f.blobs.Untrash(k, plan.place(f.dir, k)))
	}
	if plan.Path == "" {
		return errors.Join(failed...)
	}
	from, to := plan.paths(f.dir)
	there, err := f.files.Exists(to)
	if err == nil && there {
		err = f.move(to, from)
	}
	return errors.Join(append(failed, err)...)
}

func (f *Files) tellLost(ctx context.Context, _ *operation.Tx, plan *lostBlobs) (operation.Nothing, error) {
	call := operation.From(ctx)
	call.Detail("finding", check.OrphanFile)
	if plan.Path == "" {
		call.Detail("blobs", plan.Blobs)
	}
	call.Detail("kept_as", plan.To)
	return operation.Nothing{}, nil
}

// straySteps are those of the repair of what nobody has.
func (f *Files) straySteps() operation.Steps[stray, *lostBlobs, operation.Nothing] {
	return operation.Steps[stray, *lostBlobs, operation.Nothing]{
		Intent: f.pickStray, Claims: func(*lostBlobs) []metadata.Claim { return nil },
		Effect: f.lose, Applied: f.areLost, Undo: f.unlose, Outcome: f.tellLost,
		Revert: func(context.Context, *operation.Tx, *lostBlobs) error { return nil },
	}
}
