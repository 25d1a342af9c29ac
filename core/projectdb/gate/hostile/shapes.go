package hostile

import "strings"

// shapes are texts whose form alone is the attack: too long, too deep, not text.
func shapes() []Case {
	const query, where = "statement_not_allowed", "invalid_where_clause"
	return []Case{
		{Select, "SELECT " + strings.Repeat("[", 900) + strings.Repeat("]", 900), query},
		{Select, "SELECT " + strings.Repeat("(", 5000) + "1" + strings.Repeat(")", 5000), query},
		{Select, "SELECT " + strings.Repeat("{'a':", 900) + "1" + strings.Repeat("}", 900), query},
		{Select, "SELECT " + strings.Repeat("CASE WHEN true THEN ", 500) + "1" + strings.Repeat(" END", 500), query},
		{Select, "SELECT " + strings.Repeat("(SELECT ", 300) + "1" + strings.Repeat(")", 300), query},
		{Select, "SELECT " + strings.Repeat("1+", 100000) + "1", "query_failed"},
		{Select, "SELECT " + strings.Repeat("- ", 50000) + "1", "query_failed"},
		{Select, "SELECT '" + strings.Repeat("x", 1<<20) + "'", query},
		{Select, "SELECT 1::INTEGER" + strings.Repeat("[]", 5000), "query_failed"},
		{Select, "SELECT '\xff\xfe'", "query_failed"},
		{Select, "SELECT 1\x00; DROP TABLE sales.orders", "query_failed"},
		{Select, "SELECT 1 /* /* */", "query_failed"},
		{Select, "SELECT 'x", "query_failed"},
		{Select, "SELECT $a$ x", "query_failed"},
		{Select, "SELECT 1e400", "query_failed"},
		{Select, "", "query_failed"},
		{Select, ";", "query_failed"},
		{Select, "-- nothing", "query_failed"},
		{Select, "SELEC 1", "query_failed"},
		{Select, "EXPLAIN EXPLAIN SELECT 1", query},
		{Select, "EXPLAIN (FORMAT html) SELECT 1", query},
		{Select, "SELECT * FROM sales.orders AT (VERSION => 1)", query},
		{Select, "SELECT\u00a0*\u00a0FROM\u00a0read_text('{file}')", query},
		{Select, "SELECT * FROM read_text(U&'\\0041')", "query_failed"},
		{Select, "SELECT E'\\'' FROM read_text('{file}') --'", query},
		{Write, "", "query_failed"},
		{Write, "DELETE FROM sales.orders WHERE id = ? AND id = $1", "query_failed"},
		{Write, "INSERT INTO sales.orders VALUES (" + strings.Repeat("[", 900) + strings.Repeat("]", 900) + ")", query},
		{Where, strings.Repeat("(", 5000) + "true" + strings.Repeat(")", 5000), where},
		{Where, strings.Repeat("NOT ", 50000) + "true", where},
		{Where, "id = 1 -- \n) OR (true", where},
		{Where, "", where},
		{Type, "", "invalid_column_type"},
		{Type, "INTEGER" + strings.Repeat("[]", 5000), "invalid_column_type"},
		{Default, "", "invalid_column_type"},
	}
}
