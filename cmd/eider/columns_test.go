package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/app/apptest"
)

// A table with a key is rebuilt for what DuckDB does not alter. Nothing is lost by
// it, nor by losing the worker right after.
func TestColumnsAndKeysChangeAndRowsStay(t *testing.T) {
	t.Parallel()
	s, key, base := bucketOf(t)
	table := base + "/tables/t"
	s.Want(201, key, "POST "+base+"/tables", `{"name":"t","columns":[{"name":"a","type":"VARCHAR"},{"name":"id","type":"INTEGER"},{"name":"c","type":"VARCHAR","nullable":false,"default":"'it''s'"}],"primary_key":["id"]}`)
	inDatabase(t, s, "sales", `INSERT INTO b.t SELECT i, i, i FROM range(5) r(i)`, `COMMENT ON TABLE b.t IS 'it''s mine'`, `COMMENT ON COLUMN b.t.c IS 'c''s'`)
	step := func(status int, do, body, columns, primary string) {
		t.Helper()
		method, rest, _ := strings.Cut(do, " ")
		a := s.Want(status, key, method+" "+table+rest, body)
		if status != 204 {
			same(t, "the answer to "+do, shownColumns(a), columns)
		}
		a = s.Want(200, key, "GET "+table, "")
		same(t, "the table after "+do, fmt.Sprint(shownColumns(a), " ", a.JSON["primary_key"], " ", a.JSON["row_count"]), columns+" "+primary+" 5")
		p := s.Want(200, key, "GET /projects/sales", "")
		must(t, s.App.Kernel.Databases.CloseProject(t.Context(), p.Text("uid"))) // the log is replayed
	}
	const rest = "c VARCHAR not null = 'it''s'"
	step(200, "PUT /columns/ID", `{"new_type":"BIGINT"}`, "a VARCHAR, id BIGINT not null, "+rest, "[id]")
	step(204, "DELETE /columns/A", "", "id BIGINT not null, "+rest, "[id]")
	step(201, "POST /columns", `{"name":"d","type":"INTEGER","nullable":false,"default":"7"}`, "id BIGINT not null, "+rest+", d INTEGER not null = 7", "[id]")
	step(204, "DELETE /primary-key", "", "id BIGINT not null, "+rest+", d INTEGER not null = 7", "[]")
	step(200, "PUT /columns/id", `{"set_not_null":false}`, "id BIGINT, "+rest+", d INTEGER not null = 7", "[]")
	step(200, "PUT /columns/d", `{"new_name":"D","new_type":"DECIMAL(5,1)","set_default":null,"set_not_null":false}`, "id BIGINT, "+rest+", D DECIMAL(5,1)", "[]")
	step(201, "POST /primary-key", `{"columns":["C","id"]}`, "id BIGINT not null, "+rest+", D DECIMAL(5,1)", "[c id]")
	step(200, "PUT /columns/d", `{"set_default":"2 + 3"}`, "id BIGINT not null, "+rest+", D DECIMAL(5,1) = (2 + 3)", "[c id]")
	step(200, "PUT /columns/c", `{"new_name":"e"}`, "id BIGINT not null, e VARCHAR not null = 'it''s', D DECIMAL(5,1) = (2 + 3)", "[e id]")
	rows := s.Want(200, key, "GET "+table+"/preview?limit=1", "").List("rows")
	same(t, "a row", rows[0], map[string]any{"id": 0.0, "e": "0", "D": 7.0})
	inDatabase(t, s, "sales", `CREATE TABLE b.comments AS SELECT comment FROM duckdb_tables() WHERE table_name = 't' UNION ALL SELECT comment FROM duckdb_columns() WHERE column_name = 'e'`)
	comments := s.Want(200, key, "GET "+base+"/tables/comments/preview", "").List("rows")
	same(t, "the comments", comments, `[map[comment:it's mine] map[comment:c's]]`)
}

func TestChangesOfTablesAreRefused(t *testing.T) {
	t.Parallel()
	s, key, base := bucketOf(t)
	s.Want(201, key, "POST "+base+"/tables", `{"name":"t","columns":[{"name":"id","type":"INTEGER"},{"name":"v","type":"VARCHAR","default":"'x'"}],"primary_key":["id"]}`)
	s.Want(201, key, "POST "+base+"/tables", `{"name":"u","columns":[{"name":"id","type":"INTEGER"}]}`)
	inDatabase(t, s, "sales", `INSERT INTO b.t VALUES (1, 'x'), (2, NULL)`, `INSERT INTO b.u VALUES (1), (1)`)
	tt, u := base+"/tables/t", base+"/tables/u"
	before := string(s.Want(200, key, "GET "+base+"/tables", "").Body)
	refusal := func(status int, code, do, body string) apptest.Case {
		return apptest.Case{Name: code, As: "p", Do: do, Body: body, Status: status, Code: code}
	}
	apptest.Run(t, s, map[string]string{"p": key}, []apptest.Case{
		refusal(409, "column_exists", "POST "+tt+"/columns", `{"name":"V","type":"INTEGER"}`),
		refusal(400, "invalid_column_type", "POST "+tt+"/columns", `{"name":"w","type":"INTEGER CHECK (w > 0)"}`),
		refusal(422, "validation_failed", "POST "+tt+"/columns", `{"name":"w","type":"INTEGER","nullable":false}`),
		refusal(422, "validation_failed", "POST "+tt+"/columns", `{"type":"INTEGER"}`),
		refusal(404, "table_not_found", "POST "+base+"/tables/none/columns", `{"name":"w","type":"INTEGER"}`),
		refusal(400, "no_changes_specified", "PUT "+tt+"/columns/v", `{}`),
		refusal(400, "no_changes_specified", "PUT "+tt+"/columns/v", ""),
		refusal(404, "column_not_found", "PUT "+tt+"/columns/w", `{"set_not_null":true}`),
		refusal(409, "column_exists", "PUT "+tt+"/columns/v", `{"new_name":"ID"}`),
		refusal(422, "validation_failed", "PUT "+tt+"/columns/v", `{"new_name":"a\"b"}`),
		refusal(400, "invalid_column_type", "PUT "+tt+"/columns/v", `{"new_type":"DATE","set_default":null}`),
		refusal(400, "invalid_column_type", "PUT "+tt+"/columns/v", `{"new_type":"INTEGER"}`),
		refusal(400, "invalid_column_type", "PUT "+tt+"/columns/id", `{"new_type":"INTEGER[]"}`),
		refusal(400, "invalid_column_type", "PUT "+tt+"/columns/v", `{"set_default":"(SELECT 1)"}`),
		refusal(422, "validation_failed", "PUT "+tt+"/columns/v", `{"set_not_null":true}`),
		refusal(400, "column_in_primary_key", "PUT "+tt+"/columns/id", `{"set_not_null":false}`),
		{Name: "changed since", As: "p", Do: "PUT " + tt + "/columns/v", Body: `{"new_name":"w"}`, Headers: []string{`If-Match: "old"`}, Status: 412, Code: "precondition_failed"},
		refusal(404, "column_not_found", "DELETE "+tt+"/columns/w", ""),
		refusal(400, "column_in_primary_key", "DELETE "+tt+"/columns/ID", ""),
		refusal(400, "cannot_drop_last_column", "DELETE "+u+"/columns/id", ""),
		refusal(409, "primary_key_exists", "POST "+tt+"/primary-key", `{"columns":["v"]}`),
		refusal(400, "invalid_primary_key", "POST "+u+"/primary-key", `{"columns":["none"]}`),
		refusal(400, "invalid_primary_key", "POST "+u+"/primary-key", `{"columns":[]}`),
		refusal(400, "invalid_primary_key", "POST "+u+"/primary-key", `{"columns":["id"]}`), // 1 is there twice
		refusal(400, "no_primary_key", "DELETE "+u+"/primary-key", ""),
		refusal(400, "invalid_where_clause", "DELETE "+tt+"/rows", `{"where_clause":""}`),
		refusal(422, "validation_failed", "DELETE "+tt+"/rows", `{}`),
		refusal(400, "invalid_where_clause", "DELETE "+tt+"/rows", `{"where_clause":"nope = 1"}`),
		refusal(400, "invalid_where_clause", "DELETE "+tt+"/rows", `{"where_clause":"true); DROP SCHEMA b CASCADE; --"}`),
		refusal(400, "invalid_where_clause", "DELETE "+tt+"/rows", `{"where_clause":"v = (SELECT content FROM read_text('/etc/passwd'))"}`),
		refusal(400, "invalid_where_clause", "DELETE "+tt+"/rows", `{"where_clause":"CAST(v AS INTEGER) = 1"}`),
		refusal(404, "table_not_found", "DELETE "+base+"/tables/none/rows", `{"where_clause":"true"}`),
	})
	same(t, "what is there", string(s.Want(200, key, "GET "+base+"/tables", "").Body), before)
}
