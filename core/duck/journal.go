package duck

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// The journal of a checkpoint is a file beside the database with what the
// checkpoint may overwrite although the newest header still leads to it: the
// headers, and the blocks that hold metadata. Everything else a checkpoint
// writes where nothing is, and then moves to it by one header.
//
//	8 bytes   journalMagic
//	8 bytes   how many extents, then 16 bytes for each: where in the database, how long
//	          the bytes of the extents, one after the other; the first are the headers
//	32 bytes  SHA-256 of all before
//
// A journal that is cut or torn was never in force: it is whole on disk before
// its checkpoint begins.
const (
	journalMagic = "EIDERJ01"
	maxExtents   = 1 << 20
	maxExtent    = 1 << 20
)

// JournalPath returns the path of a database's journal. It belongs to the
// database as the write-ahead log does: whoever copies one copies all three.
func JournalPath(database string) string { return database + ".journal" }

// undonePath is where a recovery keeps what it has overwritten.
func undonePath(database string) string { return JournalPath(database) + ".undone" }

// errNoJournal: the file is none, or not a whole one.
var errNoJournal = errors.New("not a whole journal")

// steps are what a test puts before each step of writing a journal and of
// putting it back; an error stops the step. Go's calls cannot be faulted
// otherwise.
type steps func(name string) error

func (s steps) do(name string, step func() error) error {
	if s != nil {
		if err := s(name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := step(); err != nil {
		return fmt.Errorf("%s: %w", name, ofSystem(err))
	}
	return nil
}

// extent is a part of the database file.
type extent struct{ at, size int64 }

// journal is one that was read and found whole.
type journal struct {
	file    *os.File
	extents []extent
	headers []byte
}

func (j *journal) close() { _ = j.file.Close() }

// openJournal returns errNoJournal for one that is not whole, and fs.ErrNotExist.
func openJournal(path string) (*journal, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	j := &journal{file: f, headers: make([]byte, blocksAt)}
	if err := j.read(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return j, nil
}

func (j *journal) read() error {
	info, err := j.file.Stat()
	if err != nil {
		return err
	}
	head := make([]byte, 16)
	if _, err := j.file.ReadAt(head, 0); errors.Is(err, io.EOF) || string(head[:8]) != journalMagic {
		return errNoJournal
	} else if err != nil {
		return err
	}
	count := binary.LittleEndian.Uint64(head[8:])
	if count == 0 || count > maxExtents || int64(16+16*count) > info.Size() {
		return errNoJournal
	}
	table := make([]byte, 16*count)
	if _, err := j.file.ReadAt(table, 16); err != nil {
		return err
	}
	length := int64(16 + len(table))
	for entry := range slices.Chunk(table, 16) {
		at, size := binary.LittleEndian.Uint64(entry), binary.LittleEndian.Uint64(entry[8:])
		if size > maxExtent || at > 1<<62 {
			return errNoJournal
		}
		j.extents = append(j.extents, extent{int64(at), int64(size)})
		length += int64(size)
	}
	if j.extents[0] != (extent{0, blocksAt}) || length+sha256.Size != info.Size() {
		return errNoJournal
	}
	if err := j.verify(length); err != nil {
		return err
	}
	_, err = j.file.ReadAt(j.headers, int64(16+len(table)))
	return err
}

// verify compares the first length bytes with the sum behind them.
func (j *journal) verify(length int64) error {
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(j.file, 0, length)); err != nil {
		return err
	}
	stored := make([]byte, sha256.Size)
	if _, err := j.file.ReadAt(stored, length); err != nil {
		return err
	}
	if !bytes.Equal(stored, sum.Sum(nil)) {
		return errNoJournal
	}
	return nil
}

// inForce reports whether the checkpoint that the journal was written for has not
// come to its end: the newest header is still the one that the journal has. A
// checkpoint syncs everything else, then overwrites the older header and syncs
// it, and only then removes the write-ahead log. So a journal that is in force is
// right however old it is, and one that is not does no harm.
func (j *journal) inForce(file io.ReaderAt) (bool, error) {
	now := make([]byte, blocksAt)
	if _, err := file.ReadAt(now, 0); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	newest, older, err := newestHeader(j.headers)
	if err != nil || !bytes.Equal(newest.of(now), newest.of(j.headers)) {
		return false, nil // of another file, or of a header that is long gone
	}
	next, whole := parseHeader(older.of(now))
	ended := whole && next.iteration > newest.iteration && sound(now[:headerSize])
	return !ended, nil
}

// changed returns what of the journal is otherwise in the file.
func (j *journal) changed(file io.ReaderAt) (all []extent, err error) {
	err = j.each(func(e extent, content []byte) error {
		now := make([]byte, e.size)
		if _, err := file.ReadAt(now, e.at); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if !bytes.Equal(now, content) {
			all = append(all, e)
		}
		return nil
	})
	return all, err
}

// each calls a function with the content of each extent.
func (j *journal) each(do func(extent, []byte) error) error {
	at := int64(16 + 16*len(j.extents))
	for _, e := range j.extents {
		content := make([]byte, e.size)
		if _, err := j.file.ReadAt(content, at); err != nil {
			return err
		}
		if err := do(e, content); err != nil {
			return err
		}
		at += e.size
	}
	return nil
}

// writeJournal makes a journal of extents of a file: whole under its name, and
// durable, or not there.
func writeJournal(path string, from io.ReaderAt, extents []extent, s steps) error {
	fresh := path + ".new"
	var f *os.File
	err := s.do("create journal", func() (err error) {
		f, err = os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	err = s.do("write journal", func() error { return writeExtents(f, from, extents) })
	if err == nil {
		err = s.do("sync journal", f.Sync)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = s.do("rename journal", func() error { return os.Rename(fresh, path) })
	}
	if err != nil {
		_ = os.Remove(fresh) // the first error tells more
		return err
	}
	return s.do("sync folder", func() error { return syncDir(filepath.Dir(path)) })
}

func writeExtents(f io.Writer, from io.ReaderAt, extents []extent) error {
	sum := sha256.New()
	w := io.MultiWriter(f, sum)
	head := binary.LittleEndian.AppendUint64([]byte(journalMagic), uint64(len(extents)))
	for _, e := range extents {
		head = binary.LittleEndian.AppendUint64(head, uint64(e.at))
		head = binary.LittleEndian.AppendUint64(head, uint64(e.size))
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	for _, e := range extents {
		if n, err := io.Copy(w, io.NewSectionReader(from, e.at, e.size)); err != nil || n != e.size {
			return errors.Join(err, short(n, e))
		}
	}
	_, err := f.Write(sum.Sum(nil))
	return err
}

func short(n int64, e extent) error {
	if n == e.size {
		return nil
	}
	return fmt.Errorf("the file has %d of %d bytes at %d", n, e.size, e.at)
}

// removeJournal removes a journal that is of no more use, and what is left of one
// that was never finished.
func removeJournal(database string, s steps) error {
	removed := false
	for _, path := range []string{JournalPath(database), JournalPath(database) + ".new"} {
		err := s.do("remove journal", func() error {
			err := os.Remove(path)
			removed = removed || err == nil
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if !removed {
		return nil
	}
	return s.do("sync folder", func() error { return syncDir(filepath.Dir(database)) })
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
