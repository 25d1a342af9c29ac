package duck

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
)

// Recover puts back what a checkpoint has overwritten in a database file that it
// did not bring to its end, from the journal beside the file. The write-ahead log
// is there still, so that the next open replays it. What was overwritten is kept
// in a file of the journal's form, ".journal.undone", the last one only. Open does
// it by itself; a copy that is to be read only needs it done. A nil logger is
// slog's default.
func Recover(path string, log *slog.Logger) error {
	path, err := clean(path)
	if err != nil {
		return err
	}
	return recoverFile(path, log, nil)
}

// recoverFile does so in this order; killed anywhere, it begins again:
//
//	lock the file as DuckDB does, lest one that is in use is changed
//	is the journal whole, and in force? else leave it: it does no harm
//	keep what is going to be overwritten
//	write what differs, sync the file
//
// The journal is removed by Open, once the database has opened. It does not wait
// for DuckDB to refuse the file: a block may be torn that is read much later.
func recoverFile(path string, log *slog.Logger, s steps) error {
	j, err := openJournal(JournalPath(path))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoJournal) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the journal: %w", ofSystem(err))
	}
	defer j.close()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		// As DuckDB does with a log: it must not meet the file that is made next.
		return removeJournal(path, s)
	}
	if err != nil {
		return ofSystem(err)
	}
	if err := putBack(path, j, file, log, s); err != nil {
		return errors.Join(fmt.Errorf("put the journal back: %w", err), file.Close())
	}
	return ofSystem(file.Close())
}

func putBack(path string, j *journal, file *os.File, log *slog.Logger, s steps) error {
	if err := lockFile(file); err != nil {
		return err
	}
	changed, err := j.pending(file)
	if err != nil || len(changed) == 0 {
		return ofSystem(err)
	}
	// Without room for it the recovery must go on: it needs none itself.
	unkept := writeJournal(undonePath(path), padded{file}, changed, s)
	err = j.each(func(e extent, content []byte) error {
		return s.do("put back", func() error {
			_, err := file.WriteAt(content, e.at)
			return err
		})
	})
	if err != nil {
		return err
	}
	if err := s.do("sync database", file.Sync); err != nil {
		return fmt.Errorf("%w: %w", ErrSync, err)
	}
	tell(log, path, changed, unkept)
	return nil
}

func tell(log *slog.Logger, path string, changed []extent, unkept error) {
	if log == nil {
		log = slog.Default()
	}
	bytes := int64(0)
	for _, e := range changed {
		bytes += e.size
	}
	log.Warn("a checkpoint was cut short: what it had overwritten is put back from its journal, and the write-ahead log is replayed",
		"file", filepath.Base(path), "places", len(changed), "bytes", bytes)
	if unkept != nil {
		log.Warn("what was overwritten could not be kept", "error", unkept)
		return
	}
	log.Info("what was overwritten is kept", "file", filepath.Base(undonePath(path)))
}

// pending returns what of the journal is to be put back.
func (j *journal) pending(file io.ReaderAt) ([]extent, error) {
	if force, err := j.inForce(file); err != nil || !force {
		return nil, err
	}
	return j.changed(file)
}

// padded is a file that goes on with zeros.
type padded struct{ io.ReaderAt }

// ReadAt reads.
func (p padded) ReadAt(b []byte, at int64) (int, error) {
	n, err := p.ReaderAt.ReadAt(b, at)
	if errors.Is(err, io.EOF) {
		clear(b[n:])
		return len(b), nil
	}
	return n, err
}

// lockFile takes the lock that DuckDB takes, until the file is closed.
func lockFile(file *os.File) error {
	lock := syscall.Flock_t{Type: syscall.F_WRLCK}
	err := syscall.FcntlFlock(file.Fd(), syscall.F_SETLK, &lock)
	if !errors.Is(err, syscall.EACCES) && !errors.Is(err, syscall.EAGAIN) {
		return ofSystem(err)
	}
	locked := &LockedError{}
	if syscall.FcntlFlock(file.Fd(), syscall.F_GETLK, &lock) == nil && lock.Type != syscall.F_UNLCK {
		locked.PID = fmt.Sprint(lock.Pid)
	}
	return locked
}

// interrupted reports whether a checkpoint of the file was cut short. It is for
// those who may not change it.
func interrupted(path string) bool {
	j, err := openJournal(JournalPath(path))
	if err != nil {
		return false
	}
	defer j.close()
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	changed, err := j.pending(file)
	return err == nil && len(changed) > 0
}

// ofSystem says of an error of a system call what it is.
func ofSystem(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return fmt.Errorf("%w: %w", ErrIO, err)
}
