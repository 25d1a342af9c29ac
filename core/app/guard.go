package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/metadata"
)

// ErrNoMetadata says that the metadata database is gone: DuckDB would make a new
// one in its place, and remove the write-ahead log of the old.
var ErrNoMetadata = errors.New("the metadata database is missing or empty, although this data folder was in use")

// freshMetadata is a new metadata database until it is whole.
const freshMetadata = ".metadata.new"

// prepareMetadata makes a metadata database where there has never been one, and
// returns the newest checkpoint, nil if there is none. A first start that is
// killed leaves no half database: the name comes last.
func (a *App) prepareMetadata(ctx context.Context, signer *audit.Signer) (*audit.Checkpoint, error) {
	newest, err := audit.NewestCheckpoint(a.Settings.path(auditDir), signer)
	if err != nil {
		return nil, err
	}
	database := a.Settings.path(metadataFile)
	there, err := size(database)
	if err != nil {
		return nil, err
	}
	if there > 0 {
		return newest, a.mayTrim(ctx, newest)
	}
	wal, err := size(database + ".wal")
	if err != nil {
		return nil, err
	}
	if newest != nil || wal > 0 {
		return nil, fmt.Errorf("open %s: %w: bring it back from a backup", metadataFile, ErrNoMetadata)
	}
	fresh := a.Settings.path(freshMetadata)
	if err := duck.CreateTemplate(ctx, fresh); err != nil {
		return nil, fmt.Errorf("make %s: %w", metadataFile, err)
	}
	if err := a.options.Files.Rename(fresh, database); err != nil {
		return nil, fmt.Errorf("make %s: %w", metadataFile, err)
	}
	return nil, a.syncData()
}

// mayTrim refuses a write-ahead log that ends in a transaction without its end, where
// rows are missing with it that a checkpoint proves: it was cut, and opening it would
// cut off what is left of them.
func (a *App) mayTrim(ctx context.Context, newest *audit.Checkpoint) (err error) {
	path := a.Settings.path(metadataFile)
	if newest == nil || duck.Unfinished(path) == 0 {
		return nil
	}
	db, err := duck.Open(ctx, path, duck.Options{ReadOnly: true})
	if err != nil {
		return nil //nolint:nilerr // opening it for writing says what is wrong, or puts it right
	}
	head, err := headOrNone(ctx, db.Query)
	if err = errors.Join(err, db.Close()); err != nil {
		return nil //nolint:nilerr // likewise
	}
	repaired, err := readRepair(a.Settings.path(auditDir))
	if err != nil {
		return err
	}
	return behind(newest, head, repaired)
}

// behind returns audit.ErrBehind if the log ends before the newest checkpoint, and
// nobody has accepted that.
func behind(newest *audit.Checkpoint, head audit.Head, repaired *audit.Repair) error {
	if newest == nil || head.ID >= newest.ID || accepts(repaired, head) {
		return nil
	}
	return fmt.Errorf("%w: the log ends at row %d, the checkpoint says %d; `eider repair --wal --dry-run` shows what is lost",
		audit.ErrBehind, head.ID, newest.ID)
}

// guarded is an engine that migrates no database in which rows are missing.
// DuckDB takes a write-ahead log that does not begin as one for an empty one, and
// removes it once anything is written: with one flipped bit a migration would
// find no tables, make them, and destroy what they could be restored from.
type guarded struct {
	metadata.Engine
	newest   *audit.Checkpoint
	database string
	dir      string // of the checkpoints
}

// Migrate returns duck.ErrCorrupt if the file lacks blocks, or audit.ErrBehind, and has written nothing, if the log ends
// before the newest checkpoint and nobody has accepted that.
func (g *guarded) Migrate(ctx context.Context, all []metadata.Migration) error {
	if err := g.hasAllBlocks(ctx); err != nil {
		return err
	}
	head, err := headOrNone(ctx, g.Engine.Query)
	if err != nil {
		return err
	}
	repaired, err := readRepair(g.dir)
	if err != nil {
		return err
	}
	if err := behind(g.newest, head, repaired); err != nil {
		return err
	}
	return g.Engine.Migrate(ctx, all)
}

// headers is what stands in a database file before its blocks.
const headers = 3 * 4096

const selectBlocks = `SELECT total_blocks * block_size FROM pragma_database_size()`

// hasAllBlocks reads every row if the file is shorter than its blocks. DuckDB does
// not look: it would find out at the first read of a row that is not there.
func (g *guarded) hasAllBlocks(ctx context.Context) error {
	blocks, err := each[int64](ctx, g.Engine, selectBlocks)
	if err != nil {
		return err
	}
	there, err := size(g.database)
	if err != nil || len(blocks) == 0 || there >= headers+blocks[0] {
		return err
	}
	tables, err := each[string](ctx, g.Engine, `SELECT table_name FROM duckdb_tables()`)
	if err != nil {
		return err
	}
	for _, name := range tables {
		if _, err := each[any](ctx, g.Engine, fmt.Sprintf(`SELECT bit_xor(hash(t)) FROM "%s" t`, name)); err != nil {
			return fmt.Errorf("the file is cut: read %s: %w", name, err)
		}
	}
	return nil
}

// each returns the one column of a query.
func each[T any](ctx context.Context, e metadata.Engine, query string) ([]T, error) {
	rows, err := e.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		var one T
		if err := rows.Scan(&one); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// blame returns what kept a database from opening. A damaged block that is met
// while the write-ahead log replays is no fault of the log, which must not be cut
// for it.
func blame(err error) error {
	if !errors.Is(err, duck.ErrWAL) {
		return err
	}
	for _, words := range []string{"Could not read enough bytes from file", "Corrupt database file"} {
		if strings.Contains(err.Error(), words) {
			return fmt.Errorf("%w: %w", duck.ErrCorrupt, err)
		}
	}
	return err
}

// readRepair returns the word that a repair has left for the next start, nil if
// there is none.
func readRepair(dir string) (*audit.Repair, error) {
	text, err := os.ReadFile(filepath.Join(dir, "repair.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the word of the repair: %w", err)
	}
	var r audit.Repair
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("read the word of the repair: %w", err)
	}
	return &r, nil
}

// accepts reports whether this is the head at which the repair has left the log.
func accepts(r *audit.Repair, head audit.Head) bool {
	return r != nil && r.Head == head.ID && r.Hash == hex.EncodeToString(head.Hash)
}

// headOrNone returns the newest row of the log; in a database that has no log
// yet, the head of an empty one.
func headOrNone[R metadata.Rows](ctx context.Context, query func(context.Context, string, ...any) (R, error)) (audit.Head, error) {
	tables, err := query(ctx, `SELECT 1 FROM duckdb_tables() WHERE table_name = 'operations_log'`)
	if err != nil {
		return audit.Head{}, fmt.Errorf("look for the log: %w", err)
	}
	defer tables.Close()
	if !tables.Next() {
		return audit.Head{Hash: make([]byte, sha256.Size)}, tables.Err()
	}
	return audit.ReadHead(ctx, query)
}
