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
// file alone. Rows are gathered in a database of their own, on disk: memory stays
// the same for any number.
type Parquet struct {
	path string
	db   *duck.DB
	conn *duck.Conn
	rows int64
}

// parquetMemory bounds what DuckDB takes to write or read a file.
const parquetMemory = "256MiB"

// NewParquet begins a file at the path, which must not exist.
func NewParquet(ctx context.Context, path string) (*Parquet, error) {
	p := &Parquet{path: path}
	var err error
	if err = p.remove(); err != nil { // what a crash has left
		return nil, err
	}
	p.db, err = duck.Open(ctx, p.gathered(), duck.Options{MemoryLimit: parquetMemory})
	if err != nil {
		return nil, fmt.Errorf("begin %s: %w", filepath.Base(path), err)
	}
	if p.conn, err = p.db.Conn(ctx); err != nil {
		return nil, fmt.Errorf("begin %s: %w", filepath.Base(path), errors.Join(err, p.Close()))
	}
	if err := p.conn.Exec(ctx, createParquet()); err != nil {
		return nil, fmt.Errorf("begin %s: %w", filepath.Base(path), errors.Join(err, p.Close()))
	}
	return p, nil
}

// gathered is where the rows are until the file is written.
func (p *Parquet) gathered() string { return p.path + ".rows" }

// filed are the columns of the file.
var filed = spec.Columns[:len(spec.Columns)-1] // but for request_hash, which follows from another

func createParquet() string {
	types := map[metadata.Kind]string{metadata.Int: "BIGINT", metadata.Text: "TEXT", metadata.Time: "TIMESTAMPTZ", metadata.Bytes: "BLOB"}
	columns := make([]string, len(filed))
	for i, c := range filed {
		columns[i] = c.Name + " " + types[c.Kind] + " NOT NULL"
	}
	return "CREATE TABLE rows (" + strings.Join(columns, ", ") + ")"
}

// Add adds rows to the file, in their order.
func (p *Parquet) Add(rows []Row) error {
	values := make([][]any, len(rows))
	for i := range rows {
		values[i] = rows[i].values()[:len(filed)]
	}
	if err := p.conn.Append("rows", values); err != nil {
		return fmt.Errorf("gather rows for %s: %w", filepath.Base(p.path), err)
	}
	p.rows += int64(len(rows))
	return nil
}

// Write writes the file. It is not synced.
func (p *Parquet) Write(ctx context.Context) error {
	err := p.conn.Exec(ctx, fmt.Sprintf(`COPY rows TO '%s' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 50000)`,
		strings.ReplaceAll(p.path, "'", "''")))
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(p.path), err)
	}
	return nil
}

// Close removes what was gathered; the file stays.
func (p *Parquet) Close() error {
	var failed []error
	if p.conn != nil {
		failed = append(failed, p.conn.Close())
	}
	failed = append(failed, p.db.CloseAsIs())
	for _, suffix := range []string{"", ".wal"} {
		if err := os.Remove(p.gathered() + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

func (p *Parquet) remove() error {
	for _, path := range []string{p.path, p.gathered(), p.gathered() + ".wal"} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
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
	query := fmt.Sprintf(`SELECT %s FROM read_parquet('%s') WHERE id >= $1 AND id <= $2 ORDER BY id`, rowColumns, strings.ReplaceAll(path, "'", "''"))
	for from := first; from <= last; from += walkWindow {
		found, err := db.Query(ctx, query, from, min(last, from+walkWindow-1))
		if err != nil {
			return fmt.Errorf("read %s: %w", filepath.Base(path), err)
		}
		page, err := readRows(found)
		if err != nil {
			return fmt.Errorf("read %s: %w", filepath.Base(path), err)
		}
		if len(page) == 0 {
			continue
		}
		if err := each(page); err != nil {
			return err
		}
	}
	return nil
}
