package duck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Snapshot copies the database while it is written: the file, its journal if there
// is one, then the write-ahead log, each to write with the ending of its name. No
// checkpoint is made meanwhile. The log grows beside it and may be copied with half
// an entry at its end, which whoever opens the copy leaves out: the copy holds at
// least what was committed when it began.
func (db *DB) Snapshot(ctx context.Context, write func(suffix string, r io.Reader) error) error {
	if err := db.Dead(); err != nil {
		return err
	}
	db.folding.mu.Lock()
	defer db.folding.mu.Unlock()
	file, err := db.original()
	if err != nil {
		return ofSystem(err)
	}
	info, err := file.Stat()
	if err != nil {
		return ofSystem(err)
	}
	if err := write("", io.NewSectionReader(file, 0, info.Size())); err != nil {
		return err
	}
	for _, suffix := range []string{".journal", ".wal"} {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := copyBeside(db.path+suffix, suffix, write); err != nil {
			return err
		}
	}
	return db.Dead()
}

func copyBeside(path, suffix string, write func(suffix string, r io.Reader) error) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", suffix, ofSystem(err))
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return ofSystem(err)
	}
	size := info.Size() // what is appended meanwhile is not waited for
	if suffix == ".wal" {
		log, err := readLog(file, size)
		if err != nil {
			return err
		}
		size -= log.unfinished
	}
	return write(suffix, io.NewSectionReader(file, 0, size))
}
