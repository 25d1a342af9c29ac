package duck

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"sync"

	duckdb "github.com/duckdb/duckdb-go/v2"
)

// Statement is one statement that is parsed and bound, and has not run.
type Statement struct {
	conn *Conn
	stmt *duckdb.Stmt
	kind string
}

// Prepare parses and binds one statement without running it. A text of more
// than one is refused. Binding is not harmless by itself: a table function opens
// its file there. What a stranger wrote is looked at before it comes here.
func (c *Conn) Prepare(ctx context.Context, query string) (*Statement, error) {
	if err := c.db.Dead(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	prepared, err := c.conn.Prepare(query)
	if err != nil {
		return nil, c.note(c.db.check(err))
	}
	stmt, ok := prepared.(*duckdb.Stmt)
	if !ok {
		return nil, errors.Join(fmt.Errorf("prepare: the driver answers a %T", prepared), prepared.Close())
	}
	kind, err := stmt.StatementType()
	if err != nil {
		return nil, errors.Join(c.db.check(err), stmt.Close())
	}
	return &Statement{conn: c, stmt: stmt, kind: statementKind(kind)}, nil
}

// Type returns what kind of statement it is, such as SELECT or CREATE, and OTHER
// for one that this package has no word for.
func (s *Statement) Type() string { return s.kind }

// Parameters returns how many parameters the statement has.
func (s *Statement) Parameters() int { return s.stmt.NumInput() }

// Close frees the statement.
func (s *Statement) Close() error { return s.stmt.Close() }

func statementKind(t duckdb.StmtType) string {
	switch t {
	case duckdb.STATEMENT_TYPE_SELECT:
		return "SELECT"
	case duckdb.STATEMENT_TYPE_INSERT:
		return "INSERT"
	case duckdb.STATEMENT_TYPE_UPDATE:
		return "UPDATE"
	case duckdb.STATEMENT_TYPE_DELETE:
		return "DELETE"
	case duckdb.STATEMENT_TYPE_CREATE:
		return "CREATE"
	case duckdb.STATEMENT_TYPE_EXPLAIN:
		return "EXPLAIN"
	case mergeStatement:
		return "MERGE"
	default:
		return "OTHER"
	}
}

// mergeStatement is MERGE_INTO_STATEMENT of DuckDB, which the driver's list lacks.
const mergeStatement = duckdb.StmtType(30)

// Pure is Text of a statement that asks nothing of its connection, its transaction
// or the database, as one that only parses what it is given. It runs beside them,
// and stays prepared: most of what it would cost is to plan it.
func (c *Conn) Pure(ctx context.Context, query string, args ...any) (text string, err error) {
	db := c.db
	rows, err := db.query(ctx, func(ctx context.Context) (*sql.Rows, error) {
		stmt, err := db.prepared(ctx, query)
		if err != nil {
			return nil, err
		}
		return stmt.QueryContext(ctx, args...)
	})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	if !rows.Next() {
		return "", errors.Join(errors.New("the statement has no value"), rows.Err())
	}
	return text, rows.Scan(&text)
}

// pure are the statements of Pure, by their texts.
type pure struct {
	mu         sync.Mutex
	statements map[string]*sql.Stmt
}

// prepared returns a statement that is kept until the database closes.
func (db *DB) prepared(ctx context.Context, query string) (*sql.Stmt, error) {
	db.pure.mu.Lock()
	defer db.pure.mu.Unlock()
	if stmt := db.pure.statements[query]; stmt != nil {
		return stmt, nil
	}
	stmt, err := db.pool.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	if db.pure.statements == nil {
		db.pure.statements = map[string]*sql.Stmt{}
	}
	db.pure.statements[query] = stmt
	return stmt, nil
}

// Text runs one statement and returns the one value of its one row, which must
// be text.
func (c *Conn) Text(ctx context.Context, query string, args ...any) (text string, err error) {
	if err := c.db.Dead(); err != nil {
		return "", err
	}
	stmt, err := c.conn.Prepare(query)
	if err != nil {
		return "", c.note(c.db.check(err))
	}
	defer func() { err = errors.Join(err, stmt.Close()) }()
	named := make([]driver.NamedValue, len(args))
	for i, a := range args {
		named[i] = driver.NamedValue{Ordinal: i + 1, Value: a}
	}
	rows, err := stmt.(driver.StmtQueryContext).QueryContext(ctx, named)
	if err != nil {
		return "", c.note(c.db.check(err))
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	return c.only(rows)
}

// only returns the text in the first column of the first row.
func (c *Conn) only(rows driver.Rows) (string, error) {
	row := make([]driver.Value, len(rows.Columns()))
	switch err := rows.Next(row); {
	case errors.Is(err, io.EOF) || err == nil && len(row) == 0:
		return "", errors.New("the statement has no value")
	case err != nil:
		return "", c.note(c.db.check(err))
	}
	text, ok := row[0].(string)
	if !ok {
		return "", fmt.Errorf("the statement's value is a %T, not text", row[0])
	}
	return text, nil
}
