package duck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
)

// folding is what checkpoints of one database share.
type folding struct {
	mu   sync.Mutex
	file *os.File // the database, to be read; see original
}

// Checkpoint folds the write-ahead log into the file, with a journal beside it
// until it is done: DuckDB overwrites metadata in place, and what is torn by a
// power cut or a kill would take the whole file with it. No other way leads to a
// checkpoint: those that DuckDB makes by itself are off. It cannot be interrupted
// promptly, and fails while a long transaction is open.
func (db *DB) Checkpoint(ctx context.Context) error {
	if err := db.Dead(); err != nil {
		return err
	}
	ctx, done, err := db.readers.begin(ctx)
	if err != nil {
		return err
	}
	defer db.readers.running.Done()
	defer done()
	return db.fold(ctx)
}

// fold makes the checkpoint:
//
//	write the journal, sync it, rename it to its name, sync the folder
//	CHECKPOINT
//	remove the journal, sync the folder
//
// A checkpoint that fails leaves the journal: it stays in force until one comes
// to its end, in this process or after the next open.
func (db *DB) fold(ctx context.Context) error {
	if db.path == "" || db.options.ReadOnly {
		return db.foldBare(ctx)
	}
	db.folding.mu.Lock()
	defer db.folding.mu.Unlock()
	if err := db.keepOriginal(ctx); err != nil {
		return fmt.Errorf("write the journal of a checkpoint: %w", err)
	}
	if err := db.foldBare(ctx); err != nil {
		return err
	}
	return removeJournal(db.path, db.options.steps)
}

// foldBare is for a file that is new, or no file.
func (db *DB) foldBare(ctx context.Context) error {
	_, err := db.pool.ExecContext(ctx, "CHECKPOINT")
	return db.check(err)
}

// keepOriginal writes the journal, unless a checkpoint has failed before whose
// journal is still in force: what it has overwritten is in that one alone.
func (db *DB) keepOriginal(ctx context.Context) error {
	file, err := db.original()
	if err != nil {
		return ofSystem(err)
	}
	if there, err := db.hasJournal(file); err != nil || there {
		return err
	}
	extents, err := db.extents(ctx, file)
	if err != nil {
		return err
	}
	return writeJournal(JournalPath(db.path), file, extents, db.options.steps)
}

// original returns the database file, to be read. It stays open as long as the
// instance: closing any descriptor of a file gives up the locks that the process
// has on it, DuckDB's among them.
func (db *DB) original() (_ *os.File, err error) {
	if db.folding.file == nil {
		db.folding.file, err = os.Open(db.path)
	}
	return db.folding.file, err
}

func (db *DB) hasJournal(file io.ReaderAt) (bool, error) {
	j, err := openJournal(JournalPath(db.path))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoJournal) {
		return false, nil
	}
	if err != nil {
		return false, ofSystem(err)
	}
	defer j.close()
	force, err := j.inForce(file)
	return force, ofSystem(err)
}

// The list of free blocks lies in blocks of metadata, too.
const selectMetadata = `SELECT block_id FROM pragma_metadata_info()`

// extents returns the places of the file that a checkpoint may overwrite although
// they are in use.
func (db *DB) extents(ctx context.Context, file *os.File) ([]extent, error) {
	headers := make([]byte, blocksAt)
	if _, err := file.ReadAt(headers, 0); err != nil {
		return nil, ofSystem(err)
	}
	newest, _, err := newestHeader(headers)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, ofSystem(err)
	}
	blocks, err := db.metadataBlocks(ctx)
	if err != nil {
		return nil, err
	}
	all := []extent{{0, blocksAt}}
	for _, id := range blocks {
		at := blocksAt + id*newest.blockSize
		// A block beyond the end is new, and in memory only.
		if size := min(newest.blockSize, info.Size()-at); id >= 0 && size > 0 {
			all = append(all, extent{at, size})
		}
	}
	return all, nil
}

func (db *DB) metadataBlocks(ctx context.Context) (ids []int64, err error) {
	rows, err := db.pool.QueryContext(ctx, selectMetadata)
	if err != nil {
		return nil, db.check(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, db.check(err)
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return slices.Compact(ids), db.check(rows.Err())
}
