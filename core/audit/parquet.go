package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/metadata"
)

// Parquet is a Parquet file of rows under way. Its columns are those of
// operations_log, as they are stored, so that the chain can be verified from the
// file alone. It is written while rows are added, by a DuckDB without a file of its
// own: memory stays the same for any number.
type Parquet struct {
	path string
	db   *duck.DB
	conn *duck.Conn
	feed *duck.Feed
}

// parquetMemory bounds what DuckDB takes to write or read a file.
const parquetMemory = "256MiB"

// NewParquet begins a file at the path, in the place of what an earlier try has left.
// When ctx ends, so does it.
func NewParquet(ctx context.Context, path string) (*Parquet, error) {
	p := &Parquet{path: path}
	err := p.remove()
	if err == nil {
		err = p.begin(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("begin %s: %w", filepath.Base(path), err)
	}
	return p, nil
}

func (p *Parquet) begin(ctx context.Context) (err error) {
	if p.db, err = duck.Open(ctx, "", duck.Options{MemoryLimit: parquetMemory}); err != nil {
		return err
	}
	if p.conn, err = p.db.Conn(ctx); err != nil {
		return errors.Join(err, p.Close())
	}
	columns, types := make([]string, len(filed)), make([]duck.Type, len(filed))
	kinds := map[metadata.Kind]duck.Type{metadata.Int: duck.Int, metadata.Text: duck.Text, metadata.Time: duck.Time, metadata.Bytes: duck.Blob}
	for i, c := range filed {
		columns[i], types[i] = c.Name, kinds[c.Kind]
	}
	p.feed, err = p.conn.Feed(ctx, p.path, "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 50000", columns, types)
	if err != nil {
		return errors.Join(err, p.Close())
	}
	return nil
}

// filed are the columns of the file.
var filed = spec.Columns[:len(spec.Columns)-1] // but for request_hash, which follows from another

// Add adds rows to the file, in their order. A NUL in a text, which no row has that was
// written by us, is written as U+FFFD: one of them must not keep all others from
// being exported.
func (p *Parquet) Add(rows []Row) error {
	values := make([][]any, len(rows))
	for i := range rows {
		values[i] = rows[i].values()[:len(filed)]
		for j, v := range values[i] {
			if text, ok := v.(string); ok && strings.Contains(text, "\x00") {
				values[i][j] = strings.ReplaceAll(text, "\x00", "\uFFFD")
			}
		}
	}
	if err := p.feed.Add(values); err != nil {
		return fmt.Errorf("write rows to %s: %w", filepath.Base(p.path), err)
	}
	return nil
}

// Write writes what is left of the file. It is not synced.
func (p *Parquet) Write() error {
	err := p.feed.Close(nil)
	p.feed = nil
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(p.path), err)
	}
	return nil
}

// errUnwritten ends a file that is closed before it is whole.
var errUnwritten = errors.New("the file is given up")

// Close ends the work on the file, which stays where it was written.
func (p *Parquet) Close() error {
	var failed []error
	if p.feed != nil {
		if err := p.feed.Close(errUnwritten); err != nil && !errors.Is(err, errUnwritten) {
			failed = append(failed, err)
		}
		p.feed = nil
		failed = append(failed, p.remove())
	}
	if p.conn != nil {
		failed = append(failed, p.conn.Close())
	}
	return errors.Join(append(failed, p.db.CloseAsIs())...)
}

// remove removes what is left of the file; and what older versions gathered for it.
func (p *Parquet) remove() error {
	for _, suffix := range []string{"", ".rows", ".rows.wal"} {
		if err := os.Remove(p.path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove what an earlier try has left: %w", err)
		}
	}
	return nil
}

// ReadParquet hands each the rows of such a file with ids from first to last, in
// the file's order, a page at a time.
func ReadParquet(ctx context.Context, path string, first, last int64, each func([]Row) error) (err error) {
	db, err := duck.Open(ctx, "", duck.Options{MemoryLimit: parquetMemory})
	if err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	query := fmt.Sprintf(`SELECT %s FROM read_parquet(%s) WHERE id >= $1 AND id <= $2 ORDER BY id`, rowColumns, quoted(path))
	for from := first; from <= last; {
		to := min(last, from+walkWindow-1)
		found, err := db.Query(ctx, query, from, to)
		if err != nil {
			return fmt.Errorf("read %s: %w", filepath.Base(path), err)
		}
		page, err := readRows(found)
		if err != nil {
			return fmt.Errorf("read %s: %w", filepath.Base(path), err)
		}
		from = to + 1
		if len(page) == 0 { // a name may say more than is there
			if from, err = nextIn(ctx, db, path, from); err != nil || from == 0 {
				return err
			}
			continue
		}
		if err := each(page); err != nil {
			return err
		}
	}
	return nil
}

// nextIn returns the first id in a file that is not below another, 0 if there is none.
func nextIn(ctx context.Context, db *duck.DB, path string, from int64) (int64, error) {
	found, err := db.Query(ctx, fmt.Sprintf(`SELECT coalesce(min(id), 0) FROM read_parquet(%s) WHERE id >= $1`, quoted(path)), from)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	defer found.Close()
	var id int64
	for found.Next() {
		if err := found.Scan(&id); err != nil {
			return 0, fmt.Errorf("read %s: %w", filepath.Base(path), err)
		}
	}
	return id, found.Err()
}

func quoted(path string) string { return "'" + strings.ReplaceAll(path, "'", "''") + "'" }
