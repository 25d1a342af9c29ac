package recovery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/backup"
	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/core/disk"
)

// archiveDir is where closed months of the log are.
const archiveDir = "archive"

// linkArchives links the archives of the log that are what their manifests say. The others
// are in no backup any more, and are told.
func (m *maker) linkArchives(ctx context.Context) error {
	k := m.recovery.kernel
	dir := filepath.Join(k.Dir, archiveDir)
	err := m.w.LinkFolder(ctx, backup.Folder{
		Root: k.Dir, Name: archiveDir,
		Known: func(path string) backup.Entry {
			size, sum := audit.ArchiveSum(dir, filepath.Base(path))
			return backup.Entry{Size: size, SHA256: sum}
		},
		Damaged: func(path string) { m.lackArchive(path, "not what its manifest says") },
	})
	if err != nil {
		return err
	}
	manifests, err := audit.Manifests(dir)
	if err != nil {
		return err
	}
	for i := range manifests {
		path := filepath.Join(archiveDir, manifests[i].File)
		if m.leftOut[path] == "" && !m.w.Has(path) && isLacking(dir, manifests[i].File) {
			m.lackArchive(path, "missing")
		}
	}
	return nil
}

// lackArchive leaves an archive out. Links to it in other backups are the same bytes.
func (m *maker) lackArchive(path, why string) {
	k := m.recovery.kernel
	m.leftOut[path] = why
	k.Log.Error("an archive of the log is not in the backup", "backup", m.plan.ID, "file", path, "why", why)
	if info, err := os.Lstat(filepath.Join(k.Dir, path)); err == nil {
		m.spoilLinks(path, info)
	}
}

// isLacking reports whether a manifest's archive is no file there. One that is being
// taken back loses its manifest first.
func isLacking(dir, file string) bool {
	info, err := os.Lstat(filepath.Join(dir, file))
	if err == nil && info.Mode().IsRegular() {
		return false
	}
	_, err = audit.ReadManifest(dir, file)
	_, gone := os.Lstat(filepath.Join(dir, file+".json"))
	return err != nil || gone == nil
}

// findArchives tells which archives of the log are missing, and, where the check is deep,
// which are not what their manifests say.
func (r *Recovery) findArchives(ctx context.Context, s check.Scope, tell func(check.Finding)) error {
	dir := filepath.Join(r.kernel.Dir, archiveDir)
	manifests, err := audit.Manifests(dir)
	if err != nil {
		return err
	}
	told := func(file string, kind check.Kind, detail string) {
		tell(check.Finding{
			Kind: kind, Severity: check.Error, Resource: archiveDir + "/" + file, Detail: detail,
			Repair: "bring it back from archive/ of a backup, and prove it by `eider audit verify --archive`",
		})
	}
	for i := range manifests {
		file, path := manifests[i].File, filepath.Join(dir, manifests[i].File)
		size, sum := audit.ArchiveSum(dir, file)
		info, err := os.Lstat(path)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular():
			if isLacking(dir, file) {
				told(file, check.MissingFile, "an archive of the log is not in its place; its rows are nowhere else")
			}
		case err != nil:
			return fmt.Errorf("look for an archive: %w", errors.Unwrap(err))
		case sum == "":
			if _, err := os.Lstat(path + ".json"); err == nil {
				told(file+".json", check.ChecksumMismatch, "the manifest of an archive of the log cannot be read")
			}
		case info.Size() != size:
			told(file, check.SizeDrift, fmt.Sprintf("an archive of the log has %d bytes, its manifest says %d", info.Size(), size))
		case s.Deep:
			is, err := sumAt(ctx, path, s.Pace)
			if err != nil && ctx.Err() == nil || err == nil && is != sum {
				told(file, check.ChecksumMismatch, "an archive of the log is not what its manifest says")
			}
		}
	}
	return nil
}

// dropLeft removes what backups of this log have left unfinished: on a target that could not
// be written any more it stayed. What another server may be making there is left alone.
func (r *Recovery) dropLeft(ctx context.Context, but string) error {
	left, err := filepath.Glob(r.fresh("*"))
	if err != nil {
		return err
	}
	for _, dir := range left {
		id := filepath.Base(dir)[len(freshPrefix):]
		if id == but {
			continue
		}
		ours, err := r.isOurs(ctx, id)
		if err != nil || !ours {
			if err == nil {
				r.kernel.Log.Warn("there is an unfinished backup that no call of this log has begun; it is left as it is", "folder", dir)
			}
			continue
		}
		if err := r.kernel.Files.RemoveAll(dir); err != nil && !disk.IsReadOnly(err) {
			return err
		}
	}
	return nil
}

const selectMaker = `SELECT id FROM operations_log WHERE operation = 'backup' AND resource_id = $1 LIMIT 1`

// isOurs reports whether a call of this log has begun a backup. There are none but this one
// under way.
func (r *Recovery) isOurs(ctx context.Context, id string) (bool, error) {
	rows, err := r.kernel.View.Query(ctx, selectMaker, id)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	return rows.Next(), rows.Err()
}
