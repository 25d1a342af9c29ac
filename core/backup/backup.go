// Package backup writes and reads the folders in which backups are kept.
//
// A backup is a folder that is like a data folder, with a manifest beside it: the
// list of all that is in it, with lengths and checksums, and the row of the log that
// it holds. It is built under another name and renamed once it is whole. Storage
// files never change, so they are hard links where the file system allows it; a
// database that has not changed since the last backup is a link to that one's copy.
// The package knows neither the register nor what a database holds.
package backup

import (
	"bufio"
	"context"
	"crypto/sha256"
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
	"time"

	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/core/disk"
)

// The names in a backup's folder, besides those of a data folder.
const (
	manifestFile = "manifest.json"
	contentsFile = "contents.ndjson"
	Metadata     = "metadata.duckdb"
)

// Manifest says what a backup is.
type Manifest struct {
	Format    int       `json:"format"`
	ID        string    `json:"id"`
	CreatedAt time.Time `json:"created_at"`
	Version   string    `json:"version"` // of the server that made it
	LogID     int64     `json:"log_id"`  // newest row of the log that it holds
	LogHash   string    `json:"log_hash"`
	Projects  bool      `json:"projects"` // holds projects' databases
	Files     bool      `json:"files"`    // holds storage files
	Entries   int       `json:"entries"`
	SizeBytes int64     `json:"size_bytes"`
	Contents  string    `json:"contents_sha256"` // of the list
	// LeftOut are files that rows name and that are not in it, with the reason.
	LeftOut []string `json:"left_out,omitempty"`
}

// Entry is one file of a backup.
type Entry struct {
	Path   string `json:"path"` // relative to the backup
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	// Of is the state of the source by which a later backup knows that it has not
	// changed; empty: it is not asked.
	Of string `json:"of,omitempty"`
}

// ErrDamaged says that bytes are not those that they should be.
var ErrDamaged = errors.New("the bytes are not what they should be")

// Writer builds a backup in a folder that must not exist.
type Writer struct {
	files *disk.FS
	dir   string
	pace  *check.Pace
	made  map[string]bool
	list  []Entry
	has   map[string]bool
}

// NewWriter makes the folder. What an earlier try has left there is removed. What is
// only read is read at the pace; nil does not bound it.
func NewWriter(files *disk.FS, dir string, pace *check.Pace) (*Writer, error) {
	if err := files.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := files.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	return &Writer{files: files, dir: dir, pace: pace, made: map[string]bool{dir: true}, has: map[string]bool{}}, nil
}

// Path returns where a file of the backup is.
func (w *Writer) Path(name string) string { return filepath.Join(w.dir, name) }

// Has reports whether the backup has the file.
func (w *Writer) Has(name string) bool { return w.has[name] }

func (w *Writer) folder(path string) error {
	dir := filepath.Dir(path)
	if w.made[dir] {
		return nil
	}
	if err := w.files.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	w.made[dir] = true
	return nil
}

// Put writes a file from a reader, until ctx ends, and syncs it.
func (w *Writer) Put(ctx context.Context, name string, r io.Reader, of string) error {
	if err := w.folder(w.Path(name)); err != nil {
		return err
	}
	sum := &counted{hash: sha256.New()}
	if err := w.files.CreateFrom(w.Path(name), io.TeeReader(disk.Until(ctx, r), sum), 0o600); err != nil {
		return err
	}
	w.add(Entry{name, sum.n, hex.EncodeToString(sum.hash.Sum(nil)), of})
	return nil
}

// Drop removes a file from the backup, if it is there.
func (w *Writer) Drop(name string) error {
	if !w.has[name] {
		return nil
	}
	delete(w.has, name)
	w.list = slices.DeleteFunc(w.list, func(e Entry) bool { return e.Path == name })
	return w.files.RemoveAll(w.Path(name))
}

// Add lists a file that was written otherwise.
func (w *Writer) Add(ctx context.Context, name string) error {
	e, err := measure(ctx, w.dir, name, w.pace)
	if err == nil {
		w.add(e)
	}
	return err
}

func (w *Writer) add(e Entry) {
	w.list = append(w.list, e)
	w.has[e.Path] = true
}

// Link takes a file that never changes into the backup, as a hard link; as a copy
// where there can be none. A checksum that the caller knows saves reading it; a copy
// that has another is ErrDamaged, and not taken.
func (w *Writer) Link(ctx context.Context, name, from string, known Entry) error {
	if err := w.folder(w.Path(name)); err != nil {
		return err
	}
	err := w.files.Link(from, w.Path(name))
	if err == nil && known.SHA256 != "" {
		known.Path = name
		w.add(known)
		return nil
	}
	if err == nil {
		return w.Add(ctx, name)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) || disk.IsFull(err) {
		return err
	}
	file, openErr := os.Open(from) // another file system, or too many links
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	defer file.Close()
	if err := w.Put(ctx, name, file, known.Of); err != nil {
		return err
	}
	if copied := w.list[len(w.list)-1]; known.SHA256 != "" && (copied.SHA256 != known.SHA256 || copied.Size != known.Size) {
		return errors.Join(ErrDamaged, w.Drop(name))
	}
	return nil
}

// LinkMeasured is Link for a file that is read first: where it is not what is known of
// it, it is ErrDamaged, and not taken.
func (w *Writer) LinkMeasured(ctx context.Context, name, from string, known Entry) error {
	found, err := measure(ctx, filepath.Dir(from), filepath.Base(from), w.pace)
	if err != nil {
		return err
	}
	if found.Size != known.Size || found.SHA256 != known.SHA256 {
		return ErrDamaged
	}
	return w.Link(ctx, name, from, known)
}

// Folder is a folder of files that never change.
type Folder struct {
	Root, Name string // Name is relative to Root
	// Known returns what is known of a file of it, by its path relative to Root; an empty
	// entry where nothing is.
	Known func(path string) Entry
	// Damaged is told of each file that is not what is known of it, and is not taken.
	Damaged func(path string)
}

// LinkFolder takes all that stands in a folder and is what it should be, but for what
// is still being written: that begins with a point, or ends like what replaces a file.
// A file that something is known of is read first.
func (w *Writer) LinkFolder(ctx context.Context, f Folder) error {
	root, name := f.Root, f.Name
	return filepath.WalkDir(filepath.Join(root, name), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err = errors.Join(err, ctx.Err()); err != nil || !d.Type().IsRegular() {
			return err
		}
		if base := d.Name(); strings.HasPrefix(base, ".") || strings.HasSuffix(base, disk.NewSuffix) {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if known := f.Known(rel); known.SHA256 != "" {
			err = w.LinkMeasured(ctx, rel, path, known)
		} else {
			err = w.Link(ctx, rel, path, known)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // it has gone meanwhile
		case errors.Is(err, ErrDamaged):
			f.Damaged(rel)
			return nil
		}
		return err
	})
}

// Finish writes the list and the manifest, syncs all folders, and renames the
// backup to its final name.
func (w *Writer) Finish(m Manifest, final string) (Manifest, error) {
	sum := sha256.New()
	r, pipe := io.Pipe()
	go func() {
		buffered := bufio.NewWriter(io.MultiWriter(pipe, sum))
		e := json.NewEncoder(buffered)
		var err error
		for _, one := range w.list {
			if err = e.Encode(one); err != nil {
				break
			}
		}
		pipe.CloseWithError(errors.Join(err, buffered.Flush())) // nil: the end
	}()
	if err := w.files.CreateFrom(w.Path(contentsFile), r, 0o600); err != nil {
		_ = r.CloseWithError(err)
		return m, err
	}
	m.Format, m.Entries, m.Contents = 1, len(w.list), hex.EncodeToString(sum.Sum(nil))
	for _, one := range w.list {
		m.SizeBytes += one.Size
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return m, err
	}
	if err := w.files.CreateFile(w.Path(manifestFile), append(text, '\n'), 0o600); err != nil {
		return m, err
	}
	for _, dir := range slices.Backward(slices.Sorted(maps.Keys(w.made))) { // what is below comes first
		if err := w.files.SyncDir(dir); err != nil {
			return m, err
		}
	}
	if err := w.files.Rename(w.dir, final); err != nil {
		return m, err
	}
	return m, w.files.SyncDir(filepath.Dir(final))
}

// Read returns the manifest of a backup.
func Read(dir string) (m Manifest, err error) {
	text, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return m, fmt.Errorf("%s is no backup: %w", filepath.Base(dir), errors.Unwrap(err))
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("the manifest of %s: %w: %w", filepath.Base(dir), ErrDamaged, err)
	}
	if m.Format != 1 {
		return m, fmt.Errorf("the manifest of %s has the format %d, this version knows 1", filepath.Base(dir), m.Format)
	}
	return m, nil
}

// Contents visits the files of a backup, whose list must be what the manifest says.
func Contents(dir string, m Manifest, visit func(Entry) error) error {
	file, err := os.Open(filepath.Join(dir, contentsFile))
	if err != nil {
		return fmt.Errorf("read the list of the backup: %w", errors.Unwrap(err))
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != m.Contents {
		return fmt.Errorf("the list of the backup is not what its manifest says: %w", ErrDamaged)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	for lines := json.NewDecoder(bufio.NewReader(file)); ; {
		var e Entry
		if err := lines.Decode(&e); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read the list of the backup: %w", err)
		}
		if !filepath.IsLocal(e.Path) {
			return fmt.Errorf("the list of the backup names %q", e.Path)
		}
		if err := visit(e); err != nil {
			return err
		}
	}
}

// Unread ends the word about a file that could not be read.
const Unread = ": cannot be read"

// Check reads every file of a backup and returns those that are not what the list
// says, with the reason. Some of them may only be unreadable now: unread is why.
func Check(ctx context.Context, dir string, m Manifest) (wrong []string, unread, err error) {
	err = Contents(dir, m, func(e Entry) error {
		found, err := measure(ctx, dir, e.Path, nil)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			wrong = append(wrong, e.Path+": missing")
		case err != nil:
			unread = err
			wrong = append(wrong, e.Path+Unread)
		case found.Size != e.Size || found.SHA256 != e.SHA256:
			wrong = append(wrong, e.Path+": not what was backed up")
		}
		return nil
	})
	return wrong, unread, err
}

func measure(ctx context.Context, dir, name string, pace *check.Pace) (Entry, error) {
	file, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return Entry{}, err
	}
	defer file.Close()
	sum := sha256.New()
	n, err := pace.Copy(ctx, sum, disk.Until(ctx, file))
	return Entry{Path: name, Size: n, SHA256: hex.EncodeToString(sum.Sum(nil))}, err
}

type counted struct {
	n    int64
	hash interface {
		io.Writer
		Sum([]byte) []byte
	}
}

func (c *counted) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.hash.Write(p)
}
