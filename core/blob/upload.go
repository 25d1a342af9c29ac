package blob

import (
	"context"
	"crypto/md5" //nolint:gosec // asked for by the API, beside SHA-256
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/eiderdb/eider/core/disk"
)

// state is how much of a part is durable, with the hashes up to there, so that
// an upload goes on after a restart without reading it all again.
type state struct {
	Offset int64  `json:"offset"`
	MD5    []byte `json:"md5"`
	SHA256 []byte `json:"sha256"`

	About json.RawMessage `json:"about,omitempty"` // what Describe gave
}

// Upload is a part that grows. It is for one goroutine at a time.
type Upload struct {
	local  *Local
	key    Key
	file   *disk.File
	whole  bool  // nothing is saved between Save and Save
	offset int64 // of what was written
	saved  int64 // of what is durable, with its state
	lost   error // of a sync that failed: what was written since the one before may be gone
	md5    hash.Hash
	sha    hash.Hash
	about  About // nil: nothing is told of it
}

// About tells of bytes what is to stand beside them, as JSON; nil where nothing is.
// Of a whole blob it holds their sums; a part has none yet.
type About func(sums Sums, whole bool) any

// Describe has Save and Finish keep what about tells with the bytes, at no cost of
// its own.
func (u *Upload) Describe(about About) { u.about = about }

// saveEvery is how many bytes at most have to be sent again after a crash.
const saveEvery = 64 << 20

// Offset returns how many bytes of a part are durable; 0 where there is none.
func (l *Local) Offset(k Key) (int64, error) {
	s, err := l.state(k)
	return s.Offset, err
}

// Begun returns what Describe gave of a part that can be resumed; nil where there is
// no such part, or nothing is told of it.
func (l *Local) Begun(k Key) ([]byte, error) {
	s, err := l.state(k)
	if err != nil || s.About == nil {
		return nil, err
	}
	part, err := os.Stat(l.path(k) + partSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("part of blob %s: %w", k.ID, errors.Unwrap(err))
	}
	if part.Size() < s.Offset {
		return nil, nil
	}
	return s.About, nil
}

func (l *Local) state(k Key) (s state, err error) {
	if err := k.check(); err != nil {
		return s, err
	}
	text, err := os.ReadFile(l.path(k) + stateSuffix)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("state of blob %s: %w", k.ID, errors.Unwrap(err))
	}
	if json.Unmarshal(text, &s) != nil {
		return state{}, nil // a damaged one: the upload begins anew
	}
	return s, nil
}

// Resume opens a part where it was left, or begins one. What was written behind
// the last save is cut off: nobody was told that it is there. Bytes that have
// their final name become a part again: Finish failed after it gave it to them.
func (l *Local) Resume(k Key) (*Upload, error) {
	s, err := l.state(k)
	if err != nil {
		return nil, err
	}
	if err := l.folder(k); err != nil {
		return nil, err
	}
	if err := l.unsaved(k); err != nil {
		return nil, err
	}
	u := &Upload{local: l, key: k, offset: s.Offset, saved: s.Offset, md5: md5.New(), sha: sha256.New()}
	if s.Offset > 0 {
		if err := errors.Join(restore(u.md5, s.MD5), restore(u.sha, s.SHA256)); err != nil {
			return nil, fmt.Errorf("state of blob %s: %w", k.ID, err)
		}
	}
	if _, err := os.Lstat(l.path(k)); err == nil {
		if err := l.files.Rename(l.path(k), l.path(k)+partSuffix); err != nil {
			return nil, err
		}
	}
	if u.file, err = l.files.OpenAppend(l.path(k)+partSuffix, 0o600); err != nil {
		return nil, err
	}
	if err := u.cut(); err != nil {
		return nil, errors.Join(err, u.file.Close())
	}
	return u, nil
}

// unsaved removes the state that a save was writing when the server was killed. It
// has the blob's name, so that no sweep takes it for an orphan.
func (l *Local) unsaved(k Key) error {
	path := l.path(k) + stateSuffix + disk.NewSuffix
	if _, err := os.Lstat(path); err != nil {
		return nil
	}
	return l.files.Remove(path)
}

// cut makes the part as long as its state says.
func (u *Upload) cut() error {
	size, err := u.file.Size()
	switch {
	case err != nil:
		return err
	case size < u.saved:
		return fmt.Errorf("part of blob %s has %d bytes instead of %d", u.key.ID, size, u.saved)
	case size == u.saved:
		return nil
	}
	return u.file.Truncate(u.saved)
}

func restore(h hash.Hash, state []byte) error {
	return h.(encoding.BinaryUnmarshaler).UnmarshalBinary(state)
}

// Offset returns how many bytes there are.
func (u *Upload) Offset() int64 { return u.offset }

// Grow is asked before bytes are kept that make the upload longer than it was,
// with the new length; its error ends the upload. It is asked in steps.
type Grow func(ctx context.Context, length int64) error

// growStep is how much an upload grows before it asks again, in bytes.
const growStep = 64 << 20

// Together has what is appended from now on saved by Save and Finish alone, so
// that it can be left out as a whole: whoever closes the part without a Save finds
// it as it was.
func (u *Upload) Together() { u.whole = true }

// Append reads r to its end, or to limit bytes altogether. What was written is
// durable only after Save or Finish. It returns io.ErrShortBuffer if there is
// more than limit.
func (u *Upload) Append(ctx context.Context, r io.Reader, limit int64, grow Grow) error {
	c := newCopier(u)
	err := c.run(ctx, r, limit, grow)
	c.wait()
	return err
}

// Save makes what was written durable: the part, then its state.
func (u *Upload) Save() error {
	if u.offset == u.saved {
		return nil
	}
	err := u.sync()
	if err != nil {
		return err
	}
	s := state{Offset: u.offset}
	if s.MD5, err = u.md5.(encoding.BinaryMarshaler).MarshalBinary(); err != nil {
		return err
	}
	if s.SHA256, err = u.sha.(encoding.BinaryMarshaler).MarshalBinary(); err != nil {
		return err
	}
	if u.about != nil {
		if about := u.about(Sums{}, false); about != nil {
			if s.About, err = json.Marshal(about); err != nil {
				return err
			}
		}
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := u.local.files.WriteFile(u.local.path(u.key)+stateSuffix, text, 0o600); err != nil {
		return err
	}
	u.saved = u.offset
	return nil
}

// sync makes the part durable. It is not tried again: after one that failed the
// kernel forgets what it could not write, and the next would succeed without it.
func (u *Upload) sync() error {
	if u.lost == nil {
		u.lost = u.file.Sync()
	}
	return u.lost
}

// Keep saves what it can of an upload that failed, and cuts off the rest: on a
// full disk nothing is left that nobody was told of.
func (u *Upload) Keep() error {
	if err := u.Save(); err != nil {
		return errors.Join(err, u.Drop())
	}
	return u.Drop()
}

// Drop ends an upload where it was last saved, and cuts off what came behind.
func (u *Upload) Drop() error {
	if _, err := os.Lstat(u.local.path(u.key)); err == nil {
		return nil // it has its final name, with sums; Resume sees to it
	}
	s, err := u.local.state(u.key) // a save that failed may have come as far as to replace it
	if err != nil {
		return err
	}
	u.offset, u.saved = s.Offset, s.Offset
	return u.cut()
}

// Sums returns the sums of what was written.
func (u *Upload) Sums() Sums {
	return Sums{u.offset, hex.EncodeToString(u.md5.Sum(nil)), hex.EncodeToString(u.sha.Sum(nil))}
}

// Finish gives the part its final name:
//
//	fsync the part
//	write the sums, or what Describe gave, beside it, fsync them
//	rename the part, fsync the folder, remove the state
//
// Where it fails the part stays, as far as it was saved.
func (u *Upload) Finish() error {
	if err := u.sync(); err != nil {
		return err
	}
	var about any = u.Sums()
	if u.about != nil {
		about = u.about(u.Sums(), true)
	}
	text, err := json.Marshal(about)
	if err != nil {
		return err
	}
	path := u.local.path(u.key)
	files := u.local.files
	if err := files.Remove(path + sumsSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := files.CreateFile(path+sumsSuffix, text, 0o600); err != nil {
		return err
	}
	if err := files.Rename(path+partSuffix, path); err != nil {
		return err
	}
	if err := files.SyncDir(filepath.Dir(path)); err != nil {
		_ = files.Rename(path, path+partSuffix) // else Resume does
		return err
	}
	if u.saved > 0 {
		_ = files.Remove(path + stateSuffix) // it says nothing of whole bytes, and goes with them
	}
	return nil
}

// Close ends the work on the part, which stays as it is.
func (u *Upload) Close() error { return u.file.Close() }
