package audit

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/metadata"
)

// ArchiveOperation is the operation whose row proves that rows were archived.
const ArchiveOperation = "archive_log"

const selectArchived = selectRow + `WHERE operation = '` + ArchiveOperation + `' AND status = 'success' ORDER BY id DESC LIMIT 16`

// Archived is what an archive holds: in its manifest, and in the details of the
// row that was committed with the cut.
type Archived struct {
	File      string    `json:"file"` // beside the manifest
	First     int64     `json:"first"`
	Last      int64     `json:"last"`
	PrevHash  string    `json:"prev_hash"` // of the first row
	LastHash  string    `json:"last_hash"`
	FirstTime time.Time `json:"first_time"`
	LastTime  time.Time `json:"last_time"`
	SHA256    string    `json:"sha256"` // of the file
	Bytes     int64     `json:"bytes"`
	Epoch     int64     `json:"epoch,omitempty"` // of the last row
}

// Manifest stands beside the file of an archive.
type Manifest struct {
	Format int `json:"format"`
	Archived
	// Checkpoint is that of the last row, signed.
	Checkpoint Checkpoint `json:"checkpoint"`
}

const manifestSuffix = ".json"

// ArchiveName names the file of an archive.
func ArchiveName(first, last int64) string {
	return fmt.Sprintf("operations-%012d-%012d.parquet", first, last)
}

// Archivable returns the oldest rows that may be archived: at most most of them, of
// one month that was over before the given time, and none behind through, which the
// slowest follower has not seen, nor any that a call needs which has not ended.
func (l *Log) Archivable(ctx context.Context, v *metadata.View, before time.Time, through, most int64) (first, last int64, err error) {
	oldest, ok, err := l.Oldest(ctx, v)
	if err != nil || !ok {
		return 0, 0, err
	}
	month := time.Date(oldest.Year(), oldest.Month()+1, 1, 0, 0, 0, 0, time.UTC)
	if month.After(before) {
		return 0, 0, nil
	}
	after, last, err := Filter{To: month}.between(ctx, v, l.Head().ID)
	if err != nil {
		return 0, 0, err
	}
	return after + 1, l.limit(min(last, through, after+most)), nil
}

// limit keeps the head, and every unfinished call, on this side of a cut.
func (l *Log) limit(last int64) int64 {
	head, unfinished := l.snapshot()
	last = min(last, head-1)
	for _, id := range unfinished {
		last = min(last, id-1)
	}
	return last
}

// MayCut refuses a cut whose rows are not all over and done with.
func (l *Log) MayCut(last int64) error {
	if allowed := l.limit(last); allowed < last {
		return fmt.Errorf("rows behind %d are still needed, row %d cannot be cut", allowed, last)
	}
	return nil
}

// Cut stages the removal of the rows up to last.
func Cut(tx *metadata.Tx, last int64) { tx.Cut(&spec, last) }

// WriteArchive writes the rows into a file of the folder and its manifest beside it.
// Both are durable when it returns, the manifest last: a file that has one is whole.
func WriteArchive(ctx context.Context, v *metadata.View, files *disk.FS, signer *Signer, dir string, first, last int64) (*Manifest, error) {
	m := &Manifest{Format: 1, Archived: Archived{File: ArchiveName(first, last), First: first, Last: last}}
	epochs, err := readEpochs(v.Query(ctx, selectEpochs))
	if err != nil {
		return nil, err
	}
	m.Epoch = epochs.of(last)
	fresh := filepath.Join(dir, "."+m.File)
	if err := m.write(ctx, v, fresh); err != nil {
		return nil, errors.Join(err, ignoreMissing(os.Remove(fresh)))
	}
	err = files.SyncFile(fresh)
	if err == nil {
		m.SHA256, m.Bytes, err = disk.Sum(ctx, fresh)
	}
	if err != nil {
		return nil, errors.Join(err, ignoreMissing(os.Remove(fresh)))
	}
	path := filepath.Join(dir, m.File)
	if err := files.Rename(fresh, path); err != nil {
		return nil, err
	}
	if err := files.SyncDir(dir); err != nil {
		return nil, err
	}
	hash, err := hex.DecodeString(m.LastHash)
	if err != nil {
		return nil, err
	}
	m.Checkpoint = signer.Sign(Head{m.Last, hash, m.LastTime, m.Epoch})
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	return m, files.WriteFile(path+manifestSuffix, append(text, '\n'), 0o600)
}

// write fills the file, and proves on the way that the rows are a whole piece of
// the chain: a log that is broken must not be archived, and its evidence removed.
func (m *Manifest) write(ctx context.Context, v *metadata.View, path string) (err error) {
	file, err := NewParquet(ctx, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	walk := walker{view: v, next: m.First}
	for from := m.First; from <= m.Last; from += verifyPage {
		rows, err := walk.query(ctx, selectRange, from, min(m.Last, from+verifyPage-1))
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		if err := walk.page(ctx, rows); err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		if found := walk.breaks.told(m.First, m.Last); len(found) > 0 {
			return fmt.Errorf("the log is broken and is not archived: %s", found[0].Detail)
		}
		if len(rows) == 0 {
			continue
		}
		if from == m.First {
			m.PrevHash, m.FirstTime = hex.EncodeToString(rows[0].PrevHash), rows[0].Time
		}
		m.LastHash, m.LastTime = hex.EncodeToString(rows[len(rows)-1].Hash), rows[len(rows)-1].Time
		if err := file.Add(rows); err != nil {
			return err
		}
	}
	if walk.next != m.Last+1 {
		return fmt.Errorf("the log is broken and is not archived: rows from %d on are missing", walk.next)
	}
	return file.Write()
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// ReadManifest returns the manifest of an archive, nil if it has none.
func ReadManifest(dir, file string) (*Manifest, error) {
	text, err := os.ReadFile(filepath.Join(dir, file+manifestSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read a manifest: %w", err)
	}
	m := &Manifest{}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("the manifest of %s: %w", file, err)
	}
	return m, nil
}

// RemoveArchive takes an archive back whose rows were not cut.
func RemoveArchive(files *disk.FS, dir string, first, last int64) error {
	name := ArchiveName(first, last)
	for _, path := range []string{name + manifestSuffix, name, "." + name} {
		if err := files.RemoveAll(filepath.Join(dir, path)); err != nil {
			return err
		}
	}
	return files.SyncDir(dir)
}

// Manifests returns those of a folder, by their first row.
func Manifests(dir string) ([]Manifest, error) {
	found, err := filepath.Glob(filepath.Join(dir, "operations-*.parquet"+manifestSuffix))
	if err != nil {
		return nil, err
	}
	var all []Manifest
	for _, path := range found {
		name := filepath.Base(path)
		m, err := ReadManifest(dir, name[:len(name)-len(manifestSuffix)])
		if err != nil {
			return nil, err
		}
		if m != nil {
			all = append(all, *m)
		}
	}
	slices.SortFunc(all, func(a, b Manifest) int { return int(a.First - b.First) })
	return all, nil
}

// VerifyArchive walks the archives of a folder from the first row on, and then the
// log behind them, as one chain.
func VerifyArchive(ctx context.Context, v *metadata.View, dir string, signer *Signer, checkpoints []Checkpoint) (Verification, error) {
	head, err := readHead(ctx, v)
	if err != nil {
		return Verification{}, err
	}
	walk := walker{next: 1, prev: genesis()}
	walk.expect(checkpoints, true, head.ID)
	for {
		walk.view = nil
		if err := walk.archives(ctx, dir, signer); err != nil {
			return Verification{}, err
		}
		walk.view = v
		cut, prev := walk.next, walk.prev
		if _, err := walk.afterCut(ctx); err != nil {
			return Verification{}, fmt.Errorf("read the log: %w", err)
		}
		if walk.next == cut {
			return walk.table(ctx, head.ID)
		}
		// Rows between are archived: meanwhile, or in a file that is not there.
		more, err := covered(dir, cut)
		if err != nil {
			return Verification{}, err
		}
		if !more {
			walk.fail(cut, walk.next-1, "missing", "%s in no archive and not in the log", span(cut, walk.next-1, "is", "are"))
			return walk.table(ctx, head.ID)
		}
		walk.next, walk.prev = cut, prev
	}
}

// covered reports whether an archive has the row.
func covered(dir string, id int64) (bool, error) {
	manifests, err := Manifests(dir)
	for _, m := range manifests {
		if m.First <= id && id <= m.Last {
			return true, err
		}
	}
	return false, err
}

// archives walks those that are there behind what was walked.
func (w *walker) archives(ctx context.Context, dir string, signer *Signer) error {
	manifests, err := Manifests(dir)
	if err != nil {
		return err
	}
	for i := range manifests {
		m := &manifests[i]
		if m.Last < w.next { // present twice
			continue
		}
		if m.First > w.next {
			w.fail(w.next, m.First-1, "missing", "%s in no archive", span(w.next, m.First-1, "is", "are"))
			w.next, w.prev = m.First, nil
		}
		if err := w.archive(ctx, dir, signer, m); err != nil {
			return err
		}
		if w.next <= m.Last { // what cannot be read
			w.next, w.prev = m.Last+1, nil
		}
	}
	return nil
}

// archive walks one archive, which has the next row.
func (w *walker) archive(ctx context.Context, dir string, signer *Signer, m *Manifest) error {
	path, before := filepath.Join(dir, m.File), w.breaks.count()
	sum, _, err := disk.Sum(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		w.fail(w.next, m.Last, "missing", "the archive of rows %d to %d is not there", m.First, m.Last)
		return nil
	}
	if err != nil {
		return err
	}
	from := w.next
	err = ReadParquet(ctx, path, from, m.Last, func(page []Row) error { return errors.Join(w.page(ctx, page), ctx.Err()) })
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch {
	case err != nil:
		w.fail(w.next, m.Last, "altered", "the archive of rows %d to %d cannot be read", m.First, m.Last)
	case w.next <= m.Last:
		w.fail(w.next, m.Last, "missing", "%s missing in the archive", span(w.next, m.Last, "is", "are"))
	case w.breaks.count() > before: // it names the rows
	case hex.EncodeToString(w.prev) != m.LastHash || m.Checkpoint.ID != m.Last || m.Checkpoint.Hash != m.LastHash:
		w.fail(m.Last, 0, "checkpoint", "row %d does not have the hash that the manifest tells", m.Last)
	case m.Checkpoint.Key == signer.KeyID() && !signer.Valid(m.Checkpoint):
		w.fail(m.Last, 0, "checkpoint", "the manifest of rows %d to %d does not carry its key's signature", m.First, m.Last)
	case sum != m.SHA256:
		w.fail(from, m.Last, "altered", "the archive of rows %d to %d does not have the checksum of its manifest", m.First, m.Last)
	}
	return nil
}
