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
	"regexp"
	"strconv"
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

	damaged bool // it cannot be read, or does not say what the name of its file does
}

const manifestSuffix = ".json"

// ArchiveName names the file of an archive, whose last row is in the epoch: what a
// log that was lost has left is never in the way. Older versions left the epoch out.
func ArchiveName(epoch, first, last int64) string { return archiveName(epoch, first, last, 1) }

func archiveName(epoch, first, last, nth int64) string {
	name := fmt.Sprintf("operations-%012d-%012d", first, last)
	if epoch != 0 {
		name += fmt.Sprintf("-e%d", epoch)
	}
	if nth > 1 {
		name += fmt.Sprintf("-%d", nth)
	}
	return name + ".parquet"
}

var archiveNames = regexp.MustCompile(`^operations-(\d+)-(\d+)(?:-e(\d+))?(?:-\d+)?\.parquet$`)

// readName returns what the name of an archive says.
func readName(file string) (a Archived, ok bool) {
	found := archiveNames.FindStringSubmatch(file)
	if found == nil {
		return a, false
	}
	a.File = file
	for i, n := range []*int64{&a.First, &a.Last, &a.Epoch} {
		if text := found[i+1]; text != "" {
			var err error
			if *n, err = strconv.ParseInt(text, 10, 64); err != nil {
				return a, false
			}
		}
	}
	return a, a.First >= 1 && a.First <= a.Last && a.Last <= maxID
}

// FreeName returns the name for an archive, which nothing in the folder has: a range
// may be present twice, and neither is ever written over.
func FreeName(dir string, epoch, first, last int64) (string, error) {
	for nth := int64(1); ; nth++ {
		name := archiveName(epoch, first, last, nth)
		if err := free(dir, name); !errors.Is(err, ErrArchived) {
			return name, err
		}
	}
}

// ErrArchived says that an archive has the name already.
var ErrArchived = errors.New("there is an archive with this name")

func free(dir, name string) error {
	for _, path := range []string{name, name + manifestSuffix} {
		_, err := os.Lstat(filepath.Join(dir, path))
		if err == nil {
			return fmt.Errorf("%w: %s", ErrArchived, path)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
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
// It returns ErrArchived, and has written nothing, if the name is not free.
func WriteArchive(ctx context.Context, v *metadata.View, files *disk.FS, signer *Signer, dir, name string, first, last int64) (*Manifest, error) {
	if err := free(dir, name); err != nil {
		return nil, err
	}
	m := &Manifest{Format: 1, Archived: Archived{File: name, First: first, Last: last}}
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
func RemoveArchive(files *disk.FS, dir, name string) error {
	for _, path := range []string{name + manifestSuffix, name, "." + name} {
		if err := files.RemoveAll(filepath.Join(dir, path)); err != nil {
			return err
		}
	}
	return files.SyncDir(dir)
}
