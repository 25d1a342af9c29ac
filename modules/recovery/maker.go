package recovery

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/backup"
	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/projectdb"
)

// maker makes one backup:
//
//	link the storage files that the register has
//	copy the metadata, make one file of it, verify the chain in it
//	link the archives of the log
//	copy the projects' databases, each with its worker held
//	link the storage files that have come meanwhile, and those without a row
//	write list and manifest, rename
//
// So every file that the copied metadata names is in it, unless it came and went
// while the metadata was copied; and no database is behind the metadata.
type maker struct {
	recovery *Recovery
	plan     *backupPlan
	w        *backup.Writer
	before   map[string]backup.Entry // what the last backup has, by path
	last     string                  // its folder
	doubted  bool                    // a backup is damaged: storage files are read before they are linked
	leftOut  map[string]string       // files that could not be taken, and why
}

func (m *maker) run(ctx context.Context) (err error) {
	r := m.recovery
	if err := r.dropLeft(ctx, m.plan.ID); err != nil {
		return err
	}
	if m.w, err = backup.NewWriter(r.kernel.Files, r.fresh(m.plan.ID), check.NewPace(int64(r.settings.CheckRate))); err != nil {
		return err
	}
	if err := m.remember(); err != nil {
		return err
	}
	if m.plan.Files {
		if err := m.linkFiles(ctx); err != nil {
			return err
		}
	}
	manifest := backup.Manifest{ID: m.plan.ID, CreatedAt: m.plan.CreatedAt, Version: r.kernel.Version, Projects: m.plan.Projects, Files: m.plan.Files}
	if err := m.copyMetadata(ctx, &manifest); err != nil {
		return err
	}
	// Behind the metadata: rows that it does not hold any more are in an archive.
	if err := m.linkArchives(ctx); err != nil {
		return fmt.Errorf("back up the archives of the log: %w", err)
	}
	if m.plan.Projects {
		if err := m.copyProjects(ctx); err != nil {
			return err
		}
	}
	if m.plan.Files {
		if err := errors.Join(m.linkFiles(ctx), m.linkOthers(ctx)); err != nil {
			return err
		}
	}
	for _, path := range slices.Sorted(maps.Keys(m.leftOut)) {
		manifest.LeftOut = append(manifest.LeftOut, path+": "+m.leftOut[path])
	}
	m.plan.renamed = true
	m.plan.manifest, err = m.w.Finish(manifest, r.final(m.plan.ID))
	return err
}

// remember reads what the newest whole backup holds of databases. One that cannot be
// read saves nothing, and that is all.
func (m *maker) remember() error {
	m.before, m.leftOut = map[string]backup.Entry{}, map[string]string{}
	r := m.recovery
	r.backups.Scan(metadata.Range[Backup]{Order: byNewest, Descending: true}, func(b *Backup) bool {
		if b.Status == complete && b.Projects && m.last == "" {
			m.last = r.final(b.ID)
		}
		m.doubted = m.doubted || b.Status == damaged
		return true
	})
	if m.last == "" {
		return nil
	}
	manifest, err := backup.Read(m.last)
	if err == nil {
		err = backup.Contents(m.last, manifest, func(e backup.Entry) error {
			if e.Of != "" {
				m.before[e.Path] = e
			}
			return nil
		})
	}
	if err != nil {
		r.kernel.Log.Warn("the last backup cannot be read: nothing of it is used again", "error", err)
		m.before = map[string]backup.Entry{}
	}
	return nil
}

func (m *maker) copyMetadata(ctx context.Context, manifest *backup.Manifest) error {
	k := m.recovery.kernel
	err := k.Snapshot(ctx, func(suffix string, r io.Reader) error {
		return k.Files.CreateFrom(m.w.Path(backup.Metadata+suffix), disk.Until(ctx, r), 0o600)
	})
	if err != nil {
		return fmt.Errorf("copy the metadata: %w", err)
	}
	head, err := k.SettleCopy(ctx, m.w.Path(backup.Metadata))
	if err != nil {
		return fmt.Errorf("open the copy of the metadata: %w", err)
	}
	manifest.LogID, manifest.LogHash = head.ID, hex.EncodeToString(head.Hash)
	for _, suffix := range []string{".wal", ".journal"} { // empty, if DuckDB left one
		if err := k.Files.RemoveAll(m.w.Path(backup.Metadata + suffix)); err != nil {
			return err
		}
	}
	return m.w.Add(ctx, backup.Metadata)
}

func (m *maker) copyProjects(ctx context.Context) error {
	var all []eider.Project
	for p := range m.recovery.kernel.Register.Projects {
		if p.Status == eider.ProjectActive || p.Status == eider.ProjectLocked || p.Status == eider.ProjectDeleted {
			all = append(all, p)
		}
	}
	for i, p := range all {
		if err := m.copyProject(ctx, p); err != nil {
			return fmt.Errorf("back up project %s: %w", p.ID, err)
		}
		operation.From(ctx).Progress(float64(i+1)/float64(len(all)+1), int64(i+1))
	}
	return ctx.Err()
}

// tries is how often a database is copied whose worker ends meanwhile.
const tries = 3

func (m *maker) copyProject(ctx context.Context, p eider.Project) error {
	folder := projectdb.Of(p).Folder
	if err := m.copySidecar(ctx, folder); err != nil {
		return m.purged(p, err)
	}
	if m.unchanged(ctx, p) {
		return nil
	}
	var err error
	for range tries {
		var whole bool
		if whole, err = m.copyHeld(ctx, p); err == nil && whole {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && eider.CodeOf(err) != eider.ProjectRestarted {
			break
		}
		if err == nil {
			err = eider.Errorf(eider.ProjectRestarted, "the project's database was restarted")
		}
	}
	return m.purged(p, err)
}

// purged forgives what is missing of a project that is being purged.
func (m *maker) purged(p eider.Project, err error) error {
	if now, ok := m.recovery.kernel.Register.Project(p.ID); err != nil && (!ok || now.UID != p.UID || now.Status == eider.ProjectPurging || now.Status == eider.ProjectPurged) {
		return nil
	}
	return err
}

func (m *maker) copySidecar(ctx context.Context, folder string) error {
	name := filepath.Join(folder, "project.json")
	file, err := os.Open(filepath.Join(m.recovery.kernel.Dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it is written anew after a restore
	}
	if err != nil {
		return err
	}
	defer file.Close()
	return m.w.Put(ctx, name, file, "")
}

// state tells by length and time whether a database has changed since; "" where it
// has a log, so that it is not known.
func (m *maker) state(p eider.Project) string {
	path := filepath.Join(m.recovery.kernel.Dir, p.DBPath)
	for _, suffix := range []string{".wal", ".journal"} {
		if info, err := os.Stat(path + suffix); err == nil && info.Size() > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
			return ""
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%d bytes of %d", info.Size(), info.ModTime().UnixNano())
}

// unchanged takes the last backup's copy of a database that is as it was then. The copy
// is read first: one that the disk has lost must not be in every backup from then on.
func (m *maker) unchanged(ctx context.Context, p eider.Project) bool {
	known, ok := m.before[p.DBPath]
	if !ok || known.Of != m.state(p) {
		return false
	}
	err := m.w.LinkMeasured(ctx, p.DBPath, filepath.Join(m.last, p.DBPath), known)
	if err != nil && ctx.Err() == nil {
		m.recovery.kernel.Log.Error("a copy in the last backup cannot be used again; the database is copied anew", "backup", filepath.Base(m.last), "file", p.DBPath, "error", err)
		m.spoil(p.DBPath, err)
	}
	return err == nil
}

// copyHeld copies data, journal and log, in this order, while the worker is held. It
// reports whether the worker was the same all the time.
func (m *maker) copyHeld(ctx context.Context, p eider.Project) (whole bool, err error) {
	k := m.recovery.kernel
	held, release, err := k.Databases.Hold(ctx, projectdb.Of(p).Patiently())
	if err != nil {
		return false, err
	}
	defer release()
	of := m.state(p)
	for _, suffix := range []string{"", ".journal", ".wal"} {
		if err := m.copyAnew(ctx, p.DBPath+suffix, of); err != nil {
			return false, err
		}
	}
	return held(), nil
}

func (m *maker) copyAnew(ctx context.Context, name, of string) error {
	file, err := os.Open(filepath.Join(m.recovery.kernel.Dir, name))
	if errors.Is(err, fs.ErrNotExist) && !strings.HasSuffix(name, ".duckdb") {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if err := m.w.Drop(name); err != nil { // of a try before
		return err
	}
	return m.w.Put(ctx, name, io.LimitReader(file, info.Size()), of)
}

// linkFiles links the storage files that the register has and the backup has not yet.
func (m *maker) linkFiles(ctx context.Context) error {
	for _, source := range m.recovery.kernel.Checks() {
		if source.Stored == nil {
			continue
		}
		if err := source.Stored(ctx, func(f check.Stored) error { return m.linkFile(ctx, f) }); err != nil {
			return err
		}
	}
	return nil
}

// linkFile links a file, and writes what the register knows of it beside it. Its bytes
// were read at the upload, and are again by the scrub: they are read here only where
// something is known against them, or against a backup. What is damaged or missing is
// left out by name, so that it fails no backup, and is in none.
func (m *maker) linkFile(ctx context.Context, f check.Stored) error {
	if m.w.Has(f.Path) || m.leftOut[f.Path] != "" {
		return ctx.Err()
	}
	path := filepath.Join(m.recovery.kernel.Dir, f.Path)
	link := m.w.Link
	if m.doubted || !f.Intact {
		link = m.w.LinkMeasured
	}
	err := hasSize(path, f.Size)
	if err == nil {
		err = link(ctx, f.Path, path, backup.Entry{Size: f.Size, SHA256: f.SHA256})
	}
	switch {
	case err == nil && !f.Intact:
		f.Found(true)
	case err == nil:
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrNotExist):
		if f.Has(ctx) {
			m.leaveOut(f, "missing", err)
		}
		return nil // else it has gone meanwhile
	case errors.Is(err, backup.ErrDamaged):
		f.Found(false)
		m.leaveOut(f, "not what was registered", err)
		return nil
	default:
		if _, _, unread := disk.Sum(ctx, path); unread != nil && ctx.Err() == nil {
			m.leaveOut(f, "cannot be read", unread)
			return nil
		}
		return fmt.Errorf("back up %s: %w", f.Path, err)
	}
	return m.w.Put(ctx, f.Path+".json", bytes.NewReader(f.Sidecar), "")
}

func hasSize(path string, size int64) error {
	info, err := os.Lstat(path)
	if err == nil && (!info.Mode().IsRegular() || info.Size() != size) {
		err = backup.ErrDamaged
	}
	return err
}

func (m *maker) leaveOut(f check.Stored, why string, err error) {
	m.leftOut[f.Path] = why
	m.recovery.kernel.Log.Error("a storage file is not in the backup", "backup", m.plan.ID, "file", f.Path, "why", why, "error", err)
}

// linkOthers links the whole bytes that no row has: uploads on their way, and what a
// register that was restored has forgotten. Their checksum stands beside them; those
// beside which nothing can be read are nobody's.
func (m *maker) linkOthers(ctx context.Context) error {
	root := filepath.Join(m.recovery.kernel.Dir, "files")
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it has gone meanwhile
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(m.recovery.kernel.Dir, path)
		if err != nil || strings.Contains(filepath.Base(name), ".") || m.w.Has(name) || m.leftOut[name] != "" {
			return err // sidecars go with their bytes; what is being uploaded is not whole
		}
		return m.linkOther(ctx, name, path)
	})
}

func (m *maker) linkOther(ctx context.Context, name, path string) error {
	text, err := os.ReadFile(path + ".json")
	if err != nil {
		return nil //nolint:nilerr // it is on its way, or nobody's
	}
	var known struct {
		Size   int64  `json:"size_bytes"`
		SHA256 string `json:"checksum_sha256"`
	}
	if json.Unmarshal(text, &known) != nil || known.SHA256 == "" || hasSize(path, known.Size) != nil {
		m.recovery.kernel.Log.Warn("bytes without a row are not in the backup: what stands beside them does not tell what they are", "backup", m.plan.ID, "file", name)
		return nil
	}
	err = m.w.Link(ctx, name, path, backup.Entry{Size: known.Size, SHA256: known.SHA256})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, backup.ErrDamaged) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("back up %s: %w", name, err)
	}
	return m.w.Put(ctx, name+".json", bytes.NewReader(text), "")
}
