package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/eiderdb/eider/core/duck"
)

// ErrWhole says that a register that can be read would be given up.
var ErrWhole = errors.New("the metadata can be read")

// mustBeBroken returns ErrWhole for metadata that can be read to its last row: a rebuild
// would lose what no folder tells, such as the keys and the log. A write-ahead log that
// is damaged alone is no reason for one, nor is a database of a newer version.
func (a *App) mustBeBroken(ctx context.Context) error {
	path := a.Settings.path(metadataFile)
	if there, err := size(path); err != nil || there == 0 {
		return err
	}
	db, err := duck.Open(ctx, path, duck.Options{ReadOnly: true})
	switch err = blame(err); {
	case errors.Is(err, duck.ErrWAL):
		return fmt.Errorf("%w, but for its write-ahead log, of which `eider repair --wal` keeps all but the end: %w", ErrWhole, err)
	case errors.Is(err, duck.ErrNewer):
		return err
	case err != nil:
		return nil //nolint:nilerr // it is broken
	}
	head, err := headOrNone(ctx, db.Query)
	if err == nil && head.ID > 0 {
		err = readAll(ctx, db)
	}
	closed := db.Close()
	if err != nil || head.ID == 0 {
		return nil //nolint:nilerr // it is broken, or empty
	}
	return errors.Join(closed, fmt.Errorf("%w, and its log goes up to row %d: a rebuild would lose its API keys, its log, its jobs and its root key", ErrWhole, head.ID))
}

// readAll reads every row of a database.
func readAll(ctx context.Context, db *duck.DB) error {
	tables, err := column(ctx, db, `SELECT table_name FROM duckdb_tables()`)
	for _, name := range tables {
		if err == nil {
			_, err = column(ctx, db, fmt.Sprintf(`SELECT CAST(bit_xor(hash(t)) AS VARCHAR) FROM "%s" t`, name))
		}
	}
	return err
}

// column returns the one column of a query; what is NULL is left out.
func column(ctx context.Context, db *duck.DB, query string) (all []string, err error) {
	rows, err := db.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var one *string
		if err := rows.Scan(&one); err != nil {
			return nil, err
		}
		if one != nil {
			all = append(all, *one)
		}
	}
	return all, rows.Err()
}
