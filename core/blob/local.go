// Package blob keeps the bytes of storage files on the local disk.
//
// A blob has three states: a part that grows and can be resumed, a whole blob
// under its final name with its sums beside it, and trash that is about to go.
// What has its final name is complete and durable. Paths are made of
// identifiers that the server gave out, never of a user's text. The package
// knows no row: whoever calls it keeps the register.
package blob

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/eiderdb/eider/core/disk"
)

// Local keeps blobs below a folder:
//
//	<project>/<xx>/<id>         the bytes; xx are the id's last two characters
//	<project>/<xx>/<id>.json    what is known of them: Sums, later the whole row
//	<project>/<xx>/<id>.part    bytes that are being uploaded
//	<project>/<xx>/<id>.state   how much of the part is durable, its hashes, and whose it is
type Local struct {
	root  string
	files *disk.FS

	spare sync.Pool // of large blocks

	mu   sync.Mutex
	made map[string]bool // folders that are known to be durable
}

// NewLocal returns the store of the blobs below root, which exists.
func NewLocal(root string, files *disk.FS) *Local {
	return &Local{root: root, files: files, made: map[string]bool{}}
}

// Key names a blob: the uid of its project, and its own id.
type Key struct {
	Project string `json:"project"`
	ID      string `json:"id"`
}

// check refuses a key that could not have come from the server.
func (k Key) check() error {
	for _, name := range []string{k.Project, k.ID} {
		if !isName(name) {
			return fmt.Errorf("blob: %q names no blob", name)
		}
	}
	return nil
}

func isName(s string) bool {
	if len(s) < 8 || len(s) > 64 {
		return false
	}
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && c != '-' {
			return false
		}
	}
	return true
}

// Sums is what is known of whole bytes: their length, and their hashes in
// hexadecimal.
type Sums struct {
	Size   int64  `json:"size_bytes"`
	MD5    string `json:"checksum_md5"`
	SHA256 string `json:"checksum_sha256"`
}

// Path returns where the blob is, relative to the store's root.
func Path(k Key) string { return filepath.Join(k.Project, k.ID[len(k.ID)-2:], k.ID) }

// StagingPath returns where the blob is while it is uploaded.
func StagingPath(k Key) string { return Path(k) + partSuffix }

const (
	partSuffix  = ".part"
	stateSuffix = ".state"
	sumsSuffix  = ".json"
)

// suffixes are those of all that a blob may have on the disk, the bytes first. A
// crash may leave what was about to replace the small ones (disk.WriteFile).
var suffixes = []string{"", partSuffix, stateSuffix, sumsSuffix, stateSuffix + ".new", sumsSuffix + ".new"}

func (l *Local) path(k Key) string { return filepath.Join(l.root, Path(k)) }

// folder makes the folder of a blob durable, once in the life of the process.
func (l *Local) folder(k Key) error {
	dir := filepath.Dir(l.path(k))
	l.mu.Lock()
	known := l.made[dir]
	l.mu.Unlock()
	if known {
		return nil
	}
	if err := l.files.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made[dir] = true
	return nil
}

// Open opens whole bytes for reading. They are fs.ErrNotExist if they are not
// there.
func (l *Local) Open(k Key) (*os.File, error) {
	if err := k.check(); err != nil {
		return nil, err
	}
	f, err := os.Open(l.path(k))
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", k.ID, errors.Unwrap(err))
	}
	return f, nil
}

// Size returns the length of whole bytes. They are fs.ErrNotExist if they are not
// there, or a folder has their place.
func (l *Local) Size(k Key) (int64, error) {
	if err := k.check(); err != nil {
		return 0, err
	}
	info, err := os.Stat(l.path(k))
	if err != nil {
		return 0, fmt.Errorf("blob %s: %w", k.ID, errors.Unwrap(err))
	}
	if info.IsDir() {
		return 0, fmt.Errorf("blob %s: a folder is in its place: %w", k.ID, fs.ErrNotExist)
	}
	return info.Size(), nil
}

// Whole returns the sums of a blob that is complete, and false for any other.
func (l *Local) Whole(k Key) (Sums, bool, error) {
	var sums Sums
	if err := k.check(); err != nil {
		return sums, false, err
	}
	info, err := os.Stat(l.path(k))
	if errors.Is(err, fs.ErrNotExist) {
		return sums, false, nil
	}
	if err != nil {
		return sums, false, fmt.Errorf("blob %s: %w", k.ID, errors.Unwrap(err))
	}
	text, err := os.ReadFile(l.path(k) + sumsSuffix)
	if err != nil {
		return sums, false, fmt.Errorf("sums of blob %s: %w", k.ID, errors.Unwrap(err))
	}
	if err := json.Unmarshal(text, &sums); err != nil {
		return sums, false, fmt.Errorf("sums of blob %s: %w", k.ID, err)
	}
	if info.Size() != sums.Size {
		return sums, false, fmt.Errorf("blob %s has %d bytes instead of %d", k.ID, info.Size(), sums.Size)
	}
	return sums, true, nil
}

// Settle is Whole for a blob whose upload a crash may have cut short: it also
// removes what Finish had no time for.
func (l *Local) Settle(k Key) (Sums, bool, error) {
	sums, whole, err := l.Whole(k)
	if whole {
		_ = l.files.Remove(l.path(k) + stateSuffix) // it goes with the blob at the latest
	}
	return sums, whole, err
}

// Gone reports whether there are no bytes of the blob, neither whole nor in part.
func (l *Local) Gone(k Key) (bool, error) { return l.lacks(k, suffixes[:2]) }

// Absent reports whether there is nothing of the blob, not even what told of its bytes.
func (l *Local) Absent(k Key) (bool, error) { return l.lacks(k, suffixes) }

func (l *Local) lacks(k Key, any []string) (bool, error) {
	if err := k.check(); err != nil {
		return false, err
	}
	for _, suffix := range any {
		_, err := os.Lstat(l.path(k) + suffix)
		if err == nil {
			return false, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("blob %s: %w", k.ID, errors.Unwrap(err))
		}
	}
	return true, nil
}

// Describe replaces what stands beside whole bytes: JSON that holds their sums.
func (l *Local) Describe(k Key, sidecar any) error {
	if err := k.check(); err != nil {
		return err
	}
	text, err := json.Marshal(sidecar)
	if err != nil {
		return err
	}
	return l.files.WriteFile(l.path(k)+sumsSuffix, text, 0o600)
}

// Described returns what stands beside whole bytes.
func (l *Local) Described(k Key) ([]byte, error) {
	if err := k.check(); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(l.path(k) + sumsSuffix)
	if err != nil {
		return nil, fmt.Errorf("sums of blob %s: %w", k.ID, errors.Unwrap(err))
	}
	return text, nil
}

// Remove removes a blob, whatever its state. What is not there is no error.
func (l *Local) Remove(k Key) error {
	if err := k.check(); err != nil {
		return err
	}
	return l.RemoveBatch([]Key{k})
}

// RemoveBatch removes blobs, and syncs each of their folders once.
func (l *Local) RemoveBatch(keys []Key) error {
	dirs := map[string]bool{}
	for _, k := range keys {
		if err := k.check(); err != nil {
			return err
		}
		for _, suffix := range suffixes {
			err := l.files.Remove(l.path(k) + suffix)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			dirs[filepath.Dir(l.path(k))] = true
		}
	}
	for dir := range dirs {
		if err := l.files.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// Trash moves a blob, whatever its state, to a place from which Untrash brings it
// back, both on one file system. It may be repeated.
func (l *Local) Trash(k Key, to string) error { return l.swap(k, l.path(k), to) }

// Untrash brings back what Trash moved. It may be repeated.
func (l *Local) Untrash(k Key, from string) error { return l.swap(k, from, l.path(k)) }

func (l *Local) swap(k Key, from, to string) error {
	if err := k.check(); err != nil {
		return err
	}
	for _, suffix := range slices.Backward(suffixes) { // the bytes last: while they are there, nothing is missing
		err := l.files.Rename(from+suffix, to+suffix)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, dir := range []string{filepath.Dir(to), filepath.Dir(from)} {
		if err := l.files.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
