package gate

import (
	"slices"
	"strings"
)

// String returns the name as it is written.
func (n Name) String() string {
	if n.Schema == "" {
		return n.Table
	}
	return n.Schema + "." + n.Table
}

// whole returns the name with its catalog.
func (t named) whole() string {
	if t.catalog == "" {
		return t.String()
	}
	return t.catalog + "." + t.String()
}

// Database is what DuckDB calls the project's database, after its file.
const Database = "data"

// ownBucket reports whether a bucket has the name of the database. Written with two
// parts, a table of it could be one of the schema main as well; so the gate writes
// three.
func ownBucket(schema string) bool { return Same(schema, Database) }

// Reserved reports whether a schema or catalog belongs to the server or to DuckDB,
// so that no bucket has the name.
func Reserved(name string) bool {
	name = Fold(name)
	switch name {
	case "main", "temp", "system", "information_schema", "_eider":
		return true
	}
	return strings.HasPrefix(name, "pg_")
}

// unusual reports whether a table's name could mean something else than a table
// of the project: one of DuckDB's own views, which are found without a schema, or
// a file, which DuckDB reads where there is no table of that name.
func unusual(schema, table string) bool {
	table = Fold(table)
	if schema = Fold(schema); schema == "" || schema == "main" {
		for _, prefix := range []string{"duckdb_", "pg_", "sqlite_", "pragma_"} {
			if strings.HasPrefix(table, prefix) {
				return true
			}
		}
	}
	if strings.ContainsAny(schema+table, `./\*?[]:~`) {
		return true
	}
	return schema != "" && slices.Contains(suffixes, table)
}

// suffixes are those by which DuckDB, or an extension of it, takes a name for
// that of a file: in `FROM a.csv` the table is csv.
var suffixes = []string{
	"csv", "tsv", "txt", "json", "jsonl", "ndjson", "parquet", "db", "duckdb", "ddb", "wal", "gz", "zst", "arrow", "arrows",
	"feather", "avro", "xlsx", "xls", "shp", "gpkg", "geojson", "fgb", "sqlite", "sqlite3", "orc", "lance", "vortex", "blob",
}

var exists = `SELECT count(*)::VARCHAR FROM (
		SELECT schema_name, table_name FROM system.main.duckdb_tables() WHERE NOT internal AND database_name = current_database()
		UNION ALL
		SELECT schema_name, view_name FROM system.main.duckdb_views() WHERE NOT internal AND database_name = current_database()
	) AS t(s, n) WHERE ` + Folded("n") + ` = ` + Folded("?::VARCHAR") + `
		AND ` + Folded("s") + ` = ` + Folded("?::VARCHAR") + `
		AND ` + Folded("?::VARCHAR") + ` IN ('', ` + Folded("current_database()") + `)`

// settle looks up the tables whose names could mean something else. They are few:
// a look-up reads the whole catalog.
func (g *gate) settle(doubts []named) error {
	for _, t := range doubts {
		schema := t.Schema
		if schema == "" {
			schema = "main"
		}
		g.looked = true
		n, err := g.conn.Text(g.ctx, exists, t.Table, schema, t.catalog)
		if err != nil {
			return err
		}
		if n == "0" {
			return refuseAt(t.at, "there is no table %q in the project, and files and catalog tables cannot be read", clip(t.whole(), 40))
		}
	}
	return nil
}

// target holds the table that a statement writes to, to the rules of those that
// are read.
func (g *gate) target(n Name) error {
	w := walk{}
	if err := w.table(named{Name: n, at: -1}); err != nil {
		return err
	}
	if Same(n.Schema, "information_schema") {
		return refuse("information_schema cannot be written to")
	}
	return g.settle(w.doubts)
}

var bucket = `SELECT count(*)::VARCHAR FROM system.main.duckdb_schemas()
	WHERE database_name = current_database() AND ` + Folded("schema_name") + ` = ` + Folded("?::VARCHAR")

// place holds a table or view that is made to the existing buckets.
func (g *gate) place(n Name) error {
	if n.Schema == "" || Reserved(n.Schema) {
		return refuse("a new table or view is named with its bucket, as in sales.orders")
	}
	count, err := g.conn.Text(g.ctx, bucket, n.Schema)
	if err != nil {
		return err
	}
	if count == "0" {
		return failed(-1, "there is no bucket %q", clip(n.Schema, 40))
	}
	if unusual(n.Schema, n.Table) && strings.ContainsAny(n.Table, `./\*?[]:~`) {
		return refuse("%q is not allowed as the name of a table or view", clip(n.Table, 40))
	}
	return nil
}
