package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb/gate"
)

// database is part of every name: a bucket may have the same one, and two parts
// would be ambiguous then.
const database = gate.Database

// schemaSQL returns a bucket as SQL names it; qualified a table.
func schemaSQL(bucket string) string       { return quote(database) + "." + quote(bucket) }
func qualified(bucket, name string) string { return schemaSQL(bucket) + "." + quote(name) }

// answer runs a query whose one value is JSON, rendered by DuckDB.
func answer(ctx context.Context, conn *duck.Conn, into any, query string, args ...any) error {
	text, err := conn.Text(ctx, query, args...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), into)
}

// ofBuckets are the schemas that are buckets. main is DuckDB's own, _eider ours.
var ofBuckets = `database_name = '` + database + `' AND NOT internal AND ` + gate.Folded("schema_name") + ` NOT IN ('main', '_eider')`

var selectBuckets = `
	WITH b AS MATERIALIZED (SELECT schema_name AS name FROM duckdb_schemas() WHERE ` + ofBuckets + `),
	page AS (SELECT name FROM b WHERE %s),
	tables AS (SELECT schema_name AS name, count(*) AS n FROM duckdb_tables() WHERE ` + ofBuckets + ` GROUP BY ALL)
	SELECT to_json({
		total: (SELECT count(*) FROM b),
		buckets: (SELECT coalesce(list({name: page.name, table_count: coalesce(t.n, 0), description: e.description} ORDER BY page.name), [])
			FROM page LEFT JOIN tables t USING (name) LEFT JOIN "data"._eider.buckets e ON e.name = page.name)
	})::VARCHAR`

// findBucket finds a bucket whatever the case of its name, the exact one first.
func findBucket(ctx context.Context, conn *duck.Conn, name string) (Bucket, error) {
	var found Buckets
	err := answer(ctx, conn, &found, fmt.Sprintf(selectBuckets, called("name", "$1")+` ORDER BY name = $1 DESC LIMIT 1`), name)
	if err != nil {
		return Bucket{}, err
	}
	if len(found.Buckets) == 0 {
		return Bucket{}, noBucket()
	}
	return found.Buckets[0], nil
}

// bucketNamed finds the name of a bucket, of which nothing else is wanted.
func bucketNamed(ctx context.Context, conn *duck.Conn, name string) (string, error) {
	var found []string
	err := answer(ctx, conn, &found, `SELECT to_json(coalesce(list(schema_name ORDER BY schema_name = $1 DESC), []))::VARCHAR
		FROM duckdb_schemas() WHERE `+ofBuckets+` AND `+called("schema_name", "$1"), name)
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", noBucket()
	}
	return found[0], nil
}

func noBucket() error { return eider.Errorf(eider.BucketNotFound, "there is no such bucket") }

// described is a table as the catalog knows it.
type described struct {
	Name     string   `json:"name"`
	Bucket   string   `json:"bucket"`
	Estimate int64    `json:"estimate"` // of its rows, deleted ones included
	Created  *int64   `json:"created"`
	Comment  *string  `json:"comment"`
	Key      []string `json:"key"`
	Others   int64    `json:"others"` // constraints that are neither key nor NOT NULL
	Columns  []struct {
		Column
		Comment *string `json:"comment"`
	} `json:"columns"`
}

// What a table's columns and constraints are gathered to.
const (
	listColumns = `list({
			name: column_name, type: data_type, nullable: is_nullable, ordinal_position: column_index, "default": column_default, comment: comment
		} ORDER BY column_index) AS columns`
	keyAndOthers = `any_value(constraint_column_names) FILTER (constraint_type = 'PRIMARY KEY') AS columns,
			count(*) FILTER (constraint_type NOT IN ('PRIMARY KEY', 'NOT NULL')) AS others`
)

const selectTables = `
	WITH everything AS MATERIALIZED (
		SELECT table_oid, table_name AS name, estimated_size, comment, index_count
		FROM duckdb_tables() WHERE database_name = '` + database + `' AND NOT temporary AND schema_name = $1),
	t AS MATERIALIZED (SELECT * FROM everything WHERE %s),
	c AS (
		SELECT table_oid, ` + listColumns + `
		FROM duckdb_columns() WHERE database_name = '` + database + `' AND schema_name = $1 AND table_oid IN (SELECT table_oid FROM t) GROUP BY table_oid),
	k AS (
		SELECT table_oid, ` + keyAndOthers + `
		FROM duckdb_constraints() WHERE database_name = '` + database + `' AND schema_name = $1 GROUP BY table_oid)
	SELECT to_json({
		total: (SELECT count(*) FROM everything),
		tables: (SELECT coalesce(list({
				name: t.name, bucket: $1::VARCHAR, estimate: t.estimated_size, created: epoch_us(e.created_at), comment: t.comment,
				key: coalesce(k.columns, []), others: coalesce(k.others, 0), columns: c.columns
			} ORDER BY t.name), [])
			FROM t JOIN c USING (table_oid) LEFT JOIN k USING (table_oid)
			LEFT JOIN "data"._eider.tables e ON e.bucket = $1 AND e.name = t.name)
	})::VARCHAR`

// selectTable is selectTables for one, which DuckDB plans in half of the time: most of
// what such a statement costs.
var selectTable = `
	WITH t AS MATERIALIZED (
		SELECT table_oid, table_name AS name, estimated_size, comment
		FROM duckdb_tables() WHERE database_name = '` + database + `' AND NOT temporary AND schema_name = $1 AND ` + called("table_name", "$2") + `
		ORDER BY table_name = $2 DESC LIMIT 1),
	c AS (
		SELECT ` + listColumns + `
		FROM duckdb_columns() WHERE database_name = '` + database + `' AND table_oid = (SELECT table_oid FROM t)),
	k AS (
		SELECT ` + keyAndOthers + `
		FROM duckdb_constraints() WHERE database_name = '` + database + `' AND table_oid = (SELECT table_oid FROM t)),
	e AS (SELECT any_value(created_at) AS created_at FROM "data"._eider.tables WHERE bucket = $1 AND name = (SELECT name FROM t))
	SELECT to_json({tables: coalesce(list({
		name: t.name, bucket: $1::VARCHAR, estimate: t.estimated_size, created: epoch_us(e.created_at), comment: t.comment,
		key: coalesce(k.columns, []), others: k.others, columns: c.columns
	}), [])})::VARCHAR FROM t, c, k, e`

// describe finds a table whatever the case of its name and its bucket's.
func describe(ctx context.Context, conn *duck.Conn, bucket, name string) (described, error) {
	bucket, err := bucketNamed(ctx, conn, bucket)
	if err != nil {
		return described{}, err
	}
	var found struct {
		Tables []described `json:"tables"`
	}
	err = answer(ctx, conn, &found, selectTable, bucket, name)
	if err != nil {
		return described{}, err
	}
	if len(found.Tables) == 0 {
		return described{}, eider.Errorf(eider.TableNotFound, "there is no such table in bucket %s", bucket)
	}
	return found.Tables[0], nil
}

// sql returns the table as SQL names it.
func (d *described) sql() string { return qualified(d.Bucket, d.Name) }

// called is the condition that DuckDB takes two names for one.
func called(a, b string) string { return gate.Folded(a) + " = " + gate.Folded(b) }

// column returns the place of a column: of that name, or else whatever its case.
func (d *described) column(name string) (int, error) {
	for i := range d.Columns {
		if d.Columns[i].Name == name {
			return i, nil
		}
	}
	for i := range d.Columns {
		if gate.Same(d.Columns[i].Name, name) {
			return i, nil
		}
	}
	return 0, eider.Errorf(eider.ColumnNotFound, "there is no such column in table %s", d.Name)
}

func (d *described) inKey(name string) bool {
	for _, k := range d.Key {
		if k == name {
			return true
		}
	}
	return false
}

// table returns the table as the API shows it, but for what counting tells.
func (d *described) table() Table {
	t := Table{Name: d.Name, Bucket: d.Bucket, Columns: []Column{}, PrimaryKey: d.Key, Source: "main"}
	for _, c := range d.Columns {
		t.Columns = append(t.Columns, c.Column)
	}
	if d.Created != nil {
		at := time.UnixMicro(*d.Created).UTC()
		t.CreatedAt = &at
	}
	return t
}

// readTable returns the table with what counting tells.
func readTable(ctx context.Context, conn *duck.Conn, bucket, name string) (Table, error) {
	d, err := describe(ctx, conn, bucket, name)
	if err != nil {
		return Table{}, err
	}
	d.Estimate = 1 // it may have rows of this transaction, which the catalog does not count
	all, err := counted(ctx, conn, []described{d})
	if err != nil {
		return Table{}, err
	}
	return all[0], nil
}

// sizeOf is the size of the segments of a table: whole blocks of 256 KiB where
// they are in the file, and what their values take while they are in the log.
const sizeOf = `
	SELECT coalesce(count(DISTINCT block_id) FILTER (persistent AND block_id >= 0) * 262144
		+ coalesce(sum(len(additional_block_ids)), 0) * 262144
		+ coalesce(sum("count" * CASE segment_type WHEN 'VALIDITY' THEN 0.125 WHEN 'BOOLEAN' THEN 1 WHEN 'SMALLINT' THEN 2
			WHEN 'INTEGER' THEN 4 WHEN 'FLOAT' THEN 4 WHEN 'DATE' THEN 4 WHEN 'VARCHAR' THEN 16 WHEN 'HUGEINT' THEN 16 ELSE 8 END)
			FILTER (NOT persistent), 0), 0)::BIGINT
	FROM pragma_storage_info('%s')`

// countAtOnce is how many tables one query counts: DuckDB plans some hundred
// parts of a UNION quickly, and a thousand slowly.
const countAtOnce = 100

// counted adds rows and sizes. What the catalog estimates counts deleted rows
// too; a table that it calls empty is.
func counted(ctx context.Context, conn *duck.Conn, all []described) ([]Table, error) {
	tables := make([]Table, len(all))
	var parts []string
	count := func() error {
		if len(parts) == 0 {
			return nil
		}
		var found []struct {
			I    int   `json:"i"`
			Rows int64 `json:"n"`
			Size int64 `json:"s"`
		}
		err := answer(ctx, conn, &found, `SELECT to_json(list({i: i, n: n, s: s}))::VARCHAR FROM (`+strings.Join(parts, " UNION ALL ")+`)`)
		for _, f := range found {
			tables[f.I].RowCount, tables[f.I].SizeBytes = f.Rows, f.Size
		}
		parts = nil
		return err
	}
	for i := range all {
		tables[i] = all[i].table()
		if all[i].Estimate > 0 {
			parts = append(parts, fmt.Sprintf(`SELECT %d AS i, (SELECT count(*) FROM %s) AS n, (%s) AS s`,
				i, all[i].sql(), fmt.Sprintf(sizeOf, quoteText(all[i].sql()))))
		}
		if len(parts) == countAtOnce || i == len(all)-1 {
			if err := count(); err != nil {
				return nil, err
			}
		}
	}
	return tables, nil
}

// countRows counts the rows of a table.
func countRows(ctx context.Context, conn *duck.Conn, table string) (n int64, err error) {
	return n, answer(ctx, conn, &n, `SELECT count(*)::VARCHAR FROM `+table)
}

// exists reports whether a table or a view of the name is in the bucket.
func exists(ctx context.Context, conn *duck.Conn, bucket, name string) (yes bool, err error) {
	return yes, answer(ctx, conn, &yes, `
		SELECT (EXISTS (SELECT 1 FROM duckdb_tables() WHERE database_name = '`+database+`' AND schema_name = $1 AND `+called("table_name", "$2")+`)
			OR EXISTS (SELECT 1 FROM duckdb_views() WHERE database_name = '`+database+`' AND schema_name = $1 AND `+called("view_name", "$2")+`))::VARCHAR`,
		bucket, name)
}
