package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/app/apptest"
)

// The table that the tests of imports fill, and the path of it.
const (
	ordersTable = "/projects/p/buckets/shop/tables/orders"
	ordersShape = `{"name":"orders","columns":[{"name":"id","type":"INTEGER"},{"name":"Customer","type":"VARCHAR"},{"name":"amount","type":"DOUBLE","default":"7"}],"primary_key":["id"]}`
)

// startOrders starts a server with a project "p" and the table, which has one
// row.
func startOrders(t *testing.T) (s *apptest.Server, key string) {
	t.Helper()
	s, keys := startQueries(t, nil)
	key = keys["write"]
	makeOrders(s, key)
	return s, key
}

func makeOrders(s *apptest.Server, key string) {
	s.Want(201, key, "POST /projects/p/buckets", `{"name":"shop"}`)
	s.Want(201, key, "POST /projects/p/buckets/shop/tables", ordersShape)
	s.Want(200, key, "POST /projects/p/query", statement("INSERT INTO shop.orders VALUES (1, 'before', 1)", `"mode":"write"`))
}

// store uploads a file and returns its id.
func store(s *apptest.Server, key, content string) string {
	return s.Want(201, key, "POST /projects/p/files?name=data", content, "Content-Type: application/octet-stream").Text("id")
}

// orders returns the rows of the table as lines.
func orders(s *apptest.Server, key string) string {
	a := s.Want(200, key, "POST /projects/p/query", statement("SELECT * FROM shop.orders ORDER BY id"), "Accept: text/csv")
	return strings.TrimPrefix(string(a.Body), "id,Customer,amount\n")
}

func zipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write([]byte(text))
	must(t, err)
	must(t, z.Close())
	return b.String()
}

func TestImports(t *testing.T) {
	t.Parallel()
	s, key := startOrders(t)
	const before = "1,before,1.0\n"
	var many strings.Builder
	many.WriteString("id,customer,amount\n")
	for i := range 50_000 {
		fmt.Fprintf(&many, "%d,customer %d,%d.5\n", i, i*7919%50021, i)
	}
	whole := zipped(t, many.String())
	for _, c := range []struct {
		name, content, body string // body: after file_id
		status              int
		says                string // in the answer
		rows                string // afterwards; "" for those before
	}{
		{name: "rows replace those before", content: "id,customer,amount\n2,new,3\n", body: `"format":"csv"`, status: 200, says: `"imported_rows":1,"table_rows_after":1`, rows: "2,new,3.0\n"},
		{name: "incremental adds", content: "id,customer,amount\n2,new,3\n", body: `"format":"csv","import_options":{"incremental":true}`, status: 200, says: `"imported_rows":1,"table_rows_after":2`, rows: before + "2,new,3.0\n"},
		{name: "the later row of a key stays", content: "id,customer,amount\n1,a,1\n2,b,2\n1,c,3\n", body: `"format":"csv","import_options":{"incremental":true}`, status: 200, rows: "1,c,3.0\n2,b,2.0\n"},
		{name: "duplicates fail where asked for", content: "id,customer,amount\n2,b,2\n1,c,3\n", body: `"format":"csv","import_options":{"incremental":true,"dedup_mode":"fail_on_duplicates"}`, status: 409, says: "duplicate_key"},
		{name: "duplicates in the file fail", content: "id,customer,amount\n2,b,2\n2,c,3\n", body: `"format":"csv","import_options":{"dedup_mode":"fail_on_duplicates"}`, status: 409, says: "duplicate_key"},
		{name: "a primary key has no duplicates", content: "id,customer,amount\n1,c,3\n", body: `"format":"csv","import_options":{"incremental":true,"dedup_mode":"insert_duplicates"}`, status: 409, says: "duplicate_key"},
		{name: "bad cast in the last row", content: many.String() + "x,last,1\n", body: `"format":"csv"`, status: 400, says: "line 50002: column id: Could not convert string"},
		{name: "a line too short", content: "id,customer,amount\n1,a,2\n2,b\n", body: `"format":"csv"`, status: 400, says: "line 3: Expected Number of Columns: 3 Found: 2"},
		{name: "a line too long", content: "id,customer,amount\n1,a,2\n2,b,3,4\n", body: `"format":"csv"`, status: 400, says: "line 3: Expected Number of Columns: 3 Found: 4"},
		{name: "nothing", content: "", body: `"format":"csv"`, status: 400, says: "the file is empty"},
		{name: "an open quote", content: "id,customer,amount\n1,\"a,2\n2,b,1\n", body: `"format":"csv"`, status: 400, says: "line 2: a quote is opened that nothing closes"},
		{name: "no UTF-8", content: "id,customer,amount\n1,\xff\xfe,2\n", body: `"format":"csv"`, status: 400, says: "import_failed"},
		{name: "an empty key", content: "id,customer,amount\n,a,2\n", body: `"format":"csv"`, status: 400, says: "NOT NULL constraint failed"},
		{name: "gzip", content: zipped(t, "id,customer,amount\n2,new,3\n"), body: `"format":"csv"`, status: 200, rows: "2,new,3.0\n"},
		{name: "truncated gzip", content: whole[:len(whole)/2], body: `"format":"csv"`, status: 400, says: "the compressed file is cut"},
		{name: "gzip without its last bytes", content: whole[:len(whole)-4], body: `"format":"csv"`, status: 400, says: "the compressed file is cut"},
		{name: "gzip with a changed byte", content: whole[:100] + "\x00\x01\x02" + whole[103:], body: `"format":"csv"`, status: 400, says: "the compressed file is"},
		{name: "another dialect", content: "2;'a;''b';-\r\n3;c;-\r\n", body: `"format":"csv","csv_options":{"delimiter":";","quote":"'","header":false,"null_string":"-"}`, status: 200, rows: "2,a;'b,\n3,c,\n"},
		{name: "some columns", content: "amount,id,more\n5,2,x\n", body: `"format":"csv","import_options":{"columns":["id","amount"]}`, status: 200, says: `"warnings":["the file's column more was not imported"]`, rows: "2,,5.0\n"},
		{name: "columns by place", content: "5,2\n", body: `"format":"csv","csv_options":{"header":false},"import_options":{"columns":["amount","id"]}`, status: 200, rows: "2,,5.0\n"},
		{name: "a default", content: "id\n2\n", body: `"format":"csv"`, status: 200, says: "the file has no column amount", rows: "2,,7.0\n"},
		{name: "a column too many", content: "id,more\n2,3\n", body: `"format":"csv"`, status: 400, says: "the table has no column more"},
		{name: "a column that the table lacks", content: "id\n2\n", body: `"format":"csv","import_options":{"columns":["nope"]}`, status: 404, says: "column_not_found"},
		{name: "a header alone", content: "id,customer,amount\n", body: `"format":"csv"`, status: 200, rows: "\n"},
		{name: "lines of JSON", content: `{"id":2,"customer":"a"}` + "\n" + `{"id":3,"amount":1.5,"extra":[1]}` + "\n", body: `"format":"json"`, status: 200, says: "column extra was not imported", rows: "2,a,\n3,,1.5\n"},
		{name: "an array of JSON", content: `[{"id":2,"customer":"a","amount":1},{"id":3,"customer":null,"amount":1.5}]`, body: `"format":"json"`, status: 200, rows: "2,a,1.0\n3,,1.5\n"},
		{name: "a cut array", content: `[{"id":2,"customer":"a"},{"id":3`, body: `"format":"json"`, status: 400, says: "JSON"},
		{name: "no line of JSON", content: "", body: `"format":"json"`, status: 200, says: `"imported_rows":0,"table_rows_after":0,`, rows: "\n"},
		{name: "an empty array of JSON", content: "[]", body: `"format":"json","import_options":{"incremental":true,"columns":["id"]}`, status: 200, says: `"imported_rows":0,"table_rows_after":1,`},
		{name: "what DuckDB calls a file of none", content: `{"json":1}`, body: `"format":"json"`, status: 400, says: "no column of the file"},
		{name: "a wrong value in JSON", content: `{"id":2}` + "\n" + `{"id":"x"}` + "\n", body: `"format":"json"`, status: 400, says: "line 2"},
		{name: "what is no Parquet", content: "id,customer\n1,a\n", body: `"format":"parquet"`, status: 400, says: "invalid_format"},
		{name: "what is no format", content: "x", body: `"format":"xml"`, status: 400, says: "invalid_format"},
		{name: "what is no delimiter", content: "x", body: `"format":"csv","csv_options":{"delimiter":"\n"}`, status: 422, says: "csv_options.delimiter"},
	} {
		s.Want(200, key, "POST /projects/p/query", statement("DELETE FROM shop.orders", `"mode":"write"`))
		s.Want(200, key, "POST /projects/p/query", statement("INSERT INTO shop.orders VALUES (1, 'before', 1)", `"mode":"write"`))
		a := s.Do(key, "POST "+ordersTable+"/import/file", `{"file_id":"`+store(s, key, c.content)+`",`+c.body+`}`)
		if a.Status != c.status || !strings.Contains(string(a.Body), strings.ReplaceAll(c.says, "\n", "")) {
			t.Errorf("%s: %d %s, want %d %s", c.name, a.Status, a.Body, c.status, c.says)
		}
		if strings.Contains(string(a.Body), s.Dir) {
			t.Errorf("%s: the answer shows a path: %s", c.name, a.Body)
		}
		want := strings.TrimPrefix(c.rows, "\n")
		if c.rows == "" {
			want = before
		}
		if got := orders(s, key); got != want {
			t.Errorf("%s: the rows are\n%s, want\n%s", c.name, got, want)
		}
	}
}

func TestExports(t *testing.T) {
	t.Parallel()
	s, key := startOrders(t)
	s.Want(200, key, "POST /projects/p/query", statement(`INSERT INTO shop.orders SELECT range, 'customer "' || range || '"', range / 4 FROM range(2, 1000)`, `"mode":"write"`))
	all := orders(s, key)
	back := func(id, format string) string {
		s.Want(200, key, "POST /projects/p/query", statement("DELETE FROM shop.orders", `"mode":"write"`))
		s.Want(200, key, "POST "+ordersTable+"/import/file", `{"file_id":"`+id+`","format":"`+format+`"}`)
		return orders(s, key)
	}
	for _, format := range []string{"csv", "parquet", "json"} {
		for _, compression := range []string{"", "none", "gzip", "zstd", "snappy"} {
			body := `{"format":"` + format + `","compression":"` + compression + `"}`
			if compression == "snappy" && format != "parquet" {
				if a := s.Do(key, "POST "+ordersTable+"/export", body); a.Status != 400 || a.Code() != "invalid_compression" {
					t.Errorf("%s: %s", body, a.Body)
				}
				continue
			}
			a := s.Want(200, key, "POST "+ordersTable+"/export", body)
			if a.JSON["rows_exported"] != 999.0 {
				t.Errorf("%s: %s", body, a.Body)
			}
			id := a.Text("file_id")
			file := s.Want(200, key, "GET /projects/p/files/"+id, "")
			tags, _ := file.JSON["tags"].(map[string]any)
			if file.JSON["size_bytes"] != a.JSON["file_size_bytes"] || file.Text("path") != a.Text("file_path") || tags["type"] != "export" || tags["table"] != "orders" {
				t.Errorf("%s: the file is %s", body, file.Body)
			}
			content := s.Want(200, key, "GET /projects/p/files/"+id+"/download", "").Body
			if sha256Of(string(content)) != file.Text("checksum_sha256") {
				t.Errorf("%s: the bytes are not those of the checksum", body)
			}
			if got := back(id, format); got != all {
				t.Errorf("%s: it came back as %.300s", body, got)
			}
		}
	}
	a := s.Want(200, key, "POST "+ordersTable+"/export", `{"format":"csv","columns":["customer","ID"],"where_filter":"id > 997 AND amount > 0","limit":1}`)
	if got := s.Want(200, key, "GET /projects/p/files/"+a.Text("file_id")+"/download", "").Body; !strings.HasPrefix(string(got), "Customer,id\n\"customer \"\"99") || strings.Count(string(got), "\n") != 2 {
		t.Errorf("a part of it is %s", got)
	}
	for _, c := range []struct {
		body   string
		status int
		code   string
	}{
		{`{"format":"xml"}`, 400, "invalid_format"},
		{`{"format":"csv","where_filter":"nope = 1"}`, 400, "invalid_where_clause"},
		{`{"format":"csv","where_filter":"customer::INTEGER = 1"}`, 400, "invalid_where_clause"},
		{`{"format":"json","columns":["id","ID"]}`, 422, "validation_failed"},
		{`{"format":"csv","where_filter":"1=1; DROP TABLE shop.orders"}`, 400, "invalid_where_clause"},
		{`{"format":"csv","where_filter":"id IN (SELECT content FROM read_text('/etc/passwd'))"}`, 400, "invalid_where_clause"},
		{`{"format":"csv","where_filter":"1=1) TO '/tmp/x' --"}`, 400, "invalid_where_clause"},
		{`{"format":"csv","columns":["nope"]}`, 404, "column_not_found"},
		{`{"format":"csv","limit":-1}`, 422, "validation_failed"},
	} {
		if a := s.Do(key, "POST "+ordersTable+"/export", c.body); a.Status != c.status || a.Code() != c.code {
			t.Errorf("%s: %d %s", c.body, a.Status, a.Body)
		}
	}
	if got := s.Want(200, key, "GET /projects/p/files?tag=type:export", "").JSON["total"]; got != 14.0 {
		t.Errorf("%v exports are registered", got)
	}
}
