package duck

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// A write-ahead log is a mark of its version, then entries: the length of what they
// hold, its checksum, and itself, which begins with its type. A transaction is there
// once the entry FLUSH stands behind its others.
//
// DuckDB means to leave out a transaction without one when it opens the file, and
// rolls back what it has replayed of it; but not the row groups, which are large
// inserts that were written to the file already: those stay, while the deletes
// before them do not. So nobody may open a log with such an end: it is cut off here,
// as DuckDB would cut it at its next commit. Any other end is left to DuckDB.

// logVersion is the mark at the beginning of a log without encryption.
var logVersion = []byte{100, 0, 98, 101, 0, 2, 0xff, 0xff}

// The types of entries that are told apart.
const (
	entryRowGroups  = 29
	entryCheckpoint = 99
	entryFlush      = 100
)

// trimLog cuts off the write-ahead log of a database a transaction with row groups at
// its end that was not committed.
func trimLog(path string, log *slog.Logger, s steps) error {
	name := path + ".wal"
	end, err := logEnd(name)
	if err != nil || end.unfinished == 0 {
		return err
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // DuckDB removes the log then
	}
	if err != nil {
		return ofSystem(err)
	}
	defer file.Close()
	if err := lockFile(file); err != nil {
		return err
	}
	if end, err = logEnd(name); err != nil || end.unfinished == 0 {
		return err
	}
	if err := cutLog(name, end.committed, s); err != nil {
		return fmt.Errorf("cut a transaction off the write-ahead log that was not committed: %w", err)
	}
	if log == nil {
		log = slog.Default()
	}
	log.Warn("the write-ahead log ended in a transaction that was not committed: it is cut off", "file", filepath.Base(name), "bytes", end.unfinished)
	return nil
}

// Unfinished returns how many bytes stand at the end of the write-ahead log of a
// database that opening it for writing would cut off; 0 of a log that cannot be
// judged: opening it says why.
func Unfinished(path string) int64 {
	end, err := logEnd(path + ".wal")
	if err != nil {
		return 0
	}
	return end.unfinished
}

func cutLog(name string, size int64, s steps) error {
	file, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return ofSystem(err)
	}
	defer file.Close()
	if err := s.do("cut log", func() error { return file.Truncate(size) }); err != nil {
		return ofSystem(err)
	}
	if err := s.do("sync log", file.Sync); err != nil {
		return fmt.Errorf("%w: %w", ErrSync, err)
	}
	return nil
}

// end is where the last transaction of a log ends, and how many bytes of another with
// row groups follow it.
type end struct{ committed, unfinished int64 }

// logEnd finds it. Of a log that is none of ours, or is damaged, it says that nothing
// follows: that is for DuckDB to judge, which refuses what fails its checksum.
func logEnd(name string) (end, error) {
	file, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return end{}, nil
	}
	if err != nil {
		return end{}, ofSystem(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return end{}, ofSystem(err)
	}
	if !info.Mode().IsRegular() {
		return end{}, nil
	}
	return readLog(file, info.Size())
}

func readLog(r io.ReaderAt, size int64) (end, error) {
	e, err := walkLog(r, size)
	if err != nil && !errors.Is(err, ErrWAL) {
		err = ofSystem(err)
	}
	return e, err
}

func walkLog(r io.ReaderAt, size int64) (end, error) {
	in := bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 1<<20)
	mark := make([]byte, len(logVersion))
	if size < int64(len(mark)) {
		return end{}, nil
	}
	if _, err := io.ReadFull(in, mark); err != nil {
		return end{}, err
	}
	if string(mark) != string(logVersion) {
		return end{}, nil
	}
	var e end
	var groups bool // of the transaction that is read
	var header [16]byte
	for at := int64(len(mark)); ; {
		left := size - at - int64(len(header))
		if left < 0 {
			return e.upTo(at, groups), nil
		}
		if _, err := io.ReadFull(in, header[:]); err != nil {
			return end{}, err
		}
		length := binary.LittleEndian.Uint64(header[:])
		if length > uint64(left) {
			return e.upTo(at, groups), torn(r, at, size)
		}
		kind, sum, err := readEntry(in, int64(length))
		switch {
		case err != nil:
			return end{}, err
		case sum != binary.LittleEndian.Uint64(header[8:]) || kind == entryCheckpoint:
			return end{}, nil
		}
		at += int64(len(header)) + int64(length)
		groups = groups || kind == entryRowGroups
		if kind == entryFlush {
			e.committed, groups = at, false
		}
	}
}

// flushed is how a transaction ends.
var flushed = []byte{5, 0, 0, 0, 0, 0, 0, 0, 0xe7, 0xfe, 0x7d, 0x72, 0x2f, 0xed, 0x3d, 0x5e, 100, 0, entryFlush, 0xff, 0xff}

// torn tells a log that ends within the entry at from one in which the entry's
// length is damaged. DuckDB takes both for torn, and would leave out without a word
// what was committed behind it.
func torn(r io.ReaderAt, at, size int64) error {
	last := make([]byte, len(flushed))
	if size-at < int64(len(last)) {
		return nil
	}
	if _, err := r.ReadAt(last, size-int64(len(last))); err != nil {
		return err
	}
	if string(last) == string(flushed) {
		return fmt.Errorf("%w: the entry at byte %d says that it is longer than the log, which ends in a whole transaction", ErrWAL, at)
	}
	return nil
}

// upTo is the end of a log whose whole entries reach up to at.
func (e end) upTo(at int64, groups bool) end {
	if groups {
		e.unfinished = at - e.committed
	}
	return e
}

// readEntry reads what an entry holds, and returns its type and checksum: each eight
// bytes are mixed, the rest by MurmurHash64A (DuckDB, src/common/checksum.cpp).
func readEntry(r io.Reader, length int64) (kind byte, sum uint64, err error) {
	sum = 5381
	buf := make([]byte, min(length, 64<<10))
	for first := true; length > 0; first = false {
		piece := buf[:min(length, int64(len(buf)))]
		if _, err := io.ReadFull(r, piece); err != nil {
			return 0, 0, err
		}
		if first && len(piece) > 2 && piece[0] == 100 && piece[1] == 0 {
			kind = piece[2]
		}
		length -= int64(len(piece))
		for ; len(piece) >= 8; piece = piece[8:] {
			sum ^= binary.LittleEndian.Uint64(piece) * 0xbf58476d1ce4e5b9
		}
		if len(piece) > 0 {
			sum ^= murmur(piece)
		}
	}
	return kind, sum, nil
}

// murmur is MurmurHash64A of fewer than eight bytes, with DuckDB's seed.
func murmur(p []byte) uint64 {
	const m = 0xc6a4a7935bd1e995
	h := 0xe17a1465 ^ uint64(len(p))*m
	for i, b := range p {
		h ^= uint64(b) << (8 * i)
	}
	h *= m
	h ^= h >> 47
	h *= m
	return h ^ h>>47
}
