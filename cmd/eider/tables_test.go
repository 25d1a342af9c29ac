package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/duck"
)

// inDatabase runs statements in a project's database, as a query would that the
// API does not take. Its worker is closed first.
func inDatabase(t *testing.T, s *apptest.Server, id string, statements ...string) {
	t.Helper()
	p := s.Want(200, s.Root, "GET /projects/"+id, "")
	must(t, s.App.Kernel.Databases.CloseProject(t.Context(), p.Text("uid")))
	db, err := duck.Open(t.Context(), filepath.Join(s.Dir, p.Text("db_path")), duck.Options{})
	must(t, err)
	conn, err := db.Conn(t.Context())
	must(t, err)
	for _, one := range statements {
		must(t, conn.Exec(t.Context(), one))
	}
	must(t, conn.Close())
	must(t, db.Close())
}

// bucketOf makes a project with a bucket b, and returns the server, the project's
// key and the path of the bucket.
func bucketOf(t *testing.T) (s *apptest.Server, key, base string) {
	t.Helper()
	s = start(t, nil)
	key = project(t, s, "sales")
	s.Want(201, key, "POST /projects/sales/buckets", `{"name":"b"}`)
	return s, key, "/projects/sales/buckets/b"
}

// shownColumns returns a table's columns as "name TYPE not null default".
func shownColumns(a apptest.Answer) string {
	var all []string
	for i, c := range a.List("columns") {
		text := fmt.Sprint(c["name"], " ", c["type"])
		if c["nullable"] == false {
			text += " not null"
		}
		if c["default"] != nil {
			text += fmt.Sprint(" = ", c["default"])
		}
		if c["ordinal_position"] != float64(i+1) {
			text += fmt.Sprint(" at ", c["ordinal_position"])
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

// line returns values with a space between each two.
func line(values ...any) string { return strings.TrimSpace(fmt.Sprintln(values...)) }

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s is\n%v\nwant\n%v", what, got, want)
	}
}

const bucketMembers = "description is_linked name source_bucket_name source_project_id table_count"

func TestBucketGoesThroughEveryRoute(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "sales")
	for _, base := range []string{"/projects/sales/buckets", "/projects/sales/branches/default/buckets"} {
		a := s.Want(201, key, "POST "+base, `{"name":"Räume 1","description":"of the house"}`)
		same(t, "a new bucket", fieldsOf(a.JSON), bucketMembers)
		same(t, "its description", a.Text("description"), "of the house")
		if a.JSON["is_linked"] != false || a.JSON["source_project_id"] != nil || a.JSON["table_count"] != 0.0 {
			t.Errorf("the bucket is %s", a.Body)
		}
		s.Want(201, key, "POST "+base, `{"name":"data"}`) // the name of the database itself
		s.Want(201, key, "POST "+base+"/data/tables", `{"name":"data","columns":[{"name":"data","type":"INTEGER"}]}`)
		list := s.Want(200, key, "GET "+base, "")
		same(t, "the list", line(list.JSON["total"], list.List("buckets")[0]["name"], list.List("buckets")[1]["table_count"]), "2 Räume 1 1")
		same(t, "an absent description", list.List("buckets")[1]["description"], nil)
		one := s.Want(200, key, "GET "+base+"/"+url.PathEscape("räume 1"), "")
		same(t, "the bucket again", string(one.Body), string(a.Body))
		first := s.Want(200, key, "GET "+base+"?limit=1", "")
		second := s.Want(200, key, "GET "+base+"?limit=1&cursor="+first.Text("next_cursor"), "")
		same(t, "the second page", line(len(second.List("buckets")), second.List("buckets")[0]["name"], second.JSON["next_cursor"]), "1 data <nil>")
		same(t, "the second by offset", string(s.Want(200, key, "GET "+base+"?limit=1&offset=1", "").Body), string(second.Body))
		apptest.Run(t, s, map[string]string{"p": key}, []apptest.Case{
			{Name: "taken", As: "p", Do: "POST " + base, Body: `{"name":"RäUME 1"}`, Status: 409, Code: "bucket_exists", Log: []string{"create_bucket in_progress", "create_bucket failed"}},
			{Name: "not empty", As: "p", Do: "DELETE " + base + "/data", Status: 409, Code: "bucket_not_empty"},
			{Name: "not there", As: "p", Do: "DELETE " + base + "/none", Status: 404, Code: "bucket_not_found"},
			{Name: "not there to get", As: "p", Do: "GET " + base + "/none", Status: 404, Code: "bucket_not_found"},
			{Name: "cursor", As: "p", Do: "GET " + base + "?cursor=%25", Status: 400, Code: "invalid_cursor"},
			{Name: "changed since", As: "p", Do: "DELETE " + base + "/data?cascade=true", Headers: []string{`If-Match: "old"`}, Status: 412, Code: "precondition_failed"},
			{Name: "with all", As: "p", Do: "DELETE " + base + "/DATA?cascade=true", Status: 204, Log: []string{"drop_bucket in_progress", "drop_bucket success"}},
			{Name: "gone", As: "p", Do: "GET " + base + "/data/tables", Status: 404, Code: "bucket_not_found"},
		})
		s.Want(204, key, "DELETE "+base+"/"+url.PathEscape("RäUME 1"), "", "If-Match: "+one.Header.Get("ETag"))
	}
	for _, rest := range []string{"", "/b", "/b/tables", "/b/tables/t", "/b/tables/t/preview"} {
		if a := s.Do(key, "GET /projects/sales/branches/dev/buckets"+rest, ""); a.Status != 404 || a.Code() != "branch_not_found" {
			t.Errorf("another branch answered %d %s to %s", a.Status, a.Code(), rest)
		}
	}
}

func TestNamesAreRefusedOrHarmless(t *testing.T) {
	t.Parallel()
	s, key, base := bucketOf(t)
	refused := []string{
		"", ".", "..", ".hidden", "a/b", "a\\b", `a"b`, "a'b", "a;b", "a\tb", "a\x00b", "a\nb", " a", "a ", "a,b", "a(b)", "a*b", "a?b", "a--b;", "a%00b",
		strings.Repeat("x", 129), "\u202ea", "a\u200bb", "`a`", "a=b", "[a]", "{a}", "a|b", "a&b", "a#b", "a:b", "<a>", "a@b", "a!b", "a+b", "💥",
	}
	reservedNames := []string{"main", "MAIN", "temp", "Temp", "information_schema", "system", "pg_catalog", "PG_x", "_eider", "_EIDER"}
	for _, name := range append(refused, reservedNames...) {
		text, err := json.Marshal(name)
		must(t, err)
		if a := s.Do(key, "POST /projects/sales/buckets", `{"name":`+string(text)+`}`); a.Status != 422 {
			t.Errorf("the bucket %q answered %d", name, a.Status)
		}
	}
	for _, name := range refused {
		text, err := json.Marshal(name)
		must(t, err)
		for _, body := range []string{
			`{"name":` + string(text) + `,"columns":[{"name":"a","type":"INTEGER"}]}`,
			`{"name":"t","columns":[{"name":` + string(text) + `,"type":"INTEGER"}]}`,
		} {
			if a := s.Do(key, "POST "+base+"/tables", body); a.Status != 422 {
				t.Errorf("%s answered %d", body, a.Status)
			}
		}
		if a := s.Do(key, "GET /projects/sales/buckets/"+url.PathEscape(name)+"/tables", ""); a.Status != 404 && a.Status != 400 {
			t.Errorf("the path with %q answered %d %s", name, a.Status, a.Body)
		}
	}
	allowed := []string{"select", "table", "a b", "a-b", "a.b", "$a", "1", "ÄÖ", "表", "-- x", "a.b.c", strings.Repeat("é", 128), "a$$b", "null", "x y z"}
	for _, name := range allowed {
		path := "/projects/sales/buckets/" + url.PathEscape(name)
		text, _ := json.Marshal(name)
		s.Want(201, key, "POST /projects/sales/buckets", `{"name":`+string(text)+`}`)
		s.Want(201, key, "POST "+path+"/tables", `{"name":`+string(text)+`,"columns":[{"name":`+string(text)+`,"type":"INTEGER"}],"primary_key":[`+string(text)+`]}`)
		table := path + "/tables/" + url.PathEscape(name)
		same(t, "the table", s.Want(200, key, "GET "+table, "").Text("name"), name)
		s.Want(200, key, "GET "+table+"/preview", "")
		s.Want(200, key, "POST "+table+"/profile?mode=full", "")
		s.Want(204, key, "DELETE "+table+"/primary-key", "")
		s.Want(200, key, "PUT "+table+"/columns/"+url.PathEscape(name), `{"new_type":"BIGINT","set_not_null":false}`)
		s.Want(204, key, "DELETE "+path+"?cascade=true", "")
	}
	same(t, "what is left", s.Want(200, key, "GET /projects/sales/buckets", "").JSON["total"], 1)
}

const tableMembers = "bucket columns created_at name primary_key row_count size_bytes source"

func TestTableGoesThroughEveryRoute(t *testing.T) {
	t.Parallel()
	s, key, base := bucketOf(t)
	a := s.Want(201, key, "POST "+base+"/tables", `{"name":"Orders","columns":[{"name":"id","type":"int8","nullable":false},
		{"name":"amount","type":"decimal(10,2)","default":"1.50"},{"name":"note","type":"text"},{"name":"at","type":"timestamptz","default":"now()"},
		{"name":"tags","type":"varchar[]"},{"name":"ratio","type":"double"}],"primary_key":["ID"]}`)
	same(t, "a new table", fieldsOf(a.JSON), tableMembers)
	const columns = "id BIGINT not null, amount DECIMAL(10,2) = 1.50, note VARCHAR, at TIMESTAMP WITH TIME ZONE = now(), tags VARCHAR[], ratio DOUBLE"
	same(t, "its columns", shownColumns(a), columns)
	same(t, "its key, source and rows", line(a.JSON["primary_key"], a.JSON["source"], a.JSON["row_count"], a.JSON["bucket"]), "[id] main 0 b")
	inDatabase(t, s, "sales",
		`INSERT INTO b."Orders" SELECT i, i / 4, CASE WHEN i % 2 = 0 THEN 'even' END, '2026-01-01', ['a', 'b"c'], CASE i WHEN 1 THEN 'nan'::DOUBLE WHEN 2 THEN 'inf'::DOUBLE ELSE i END FROM range(1, 1001) t(i)`,
		`CREATE TABLE b.made_elsewhere AS SELECT 1 AS x`, `CREATE VIEW b.seen AS SELECT 2 AS y`)
	list := s.Want(200, key, "GET "+base+"/tables", "")
	same(t, "the list", line(list.JSON["total"], list.List("tables")[0]["name"], list.List("tables")[1]["name"], list.List("tables")[1]["created_at"]), "2 Orders made_elsewhere <nil>")
	one := s.Want(200, key, "GET "+base+"/tables/ORDERS", "")
	listed, _ := json.Marshal(list.List("tables")[0])
	alone, _ := json.Marshal(one.JSON)
	same(t, "the table in the list", string(listed), string(alone))
	if one.JSON["row_count"] != 1000.0 || one.JSON["size_bytes"].(float64) < 1000 {
		t.Errorf("the table is %s", one.Body)
	}
	page := s.Want(200, key, "GET "+base+"/tables?limit=1", "")
	same(t, "the last page", s.Want(200, key, "GET "+base+"/tables?limit=1&cursor="+page.Text("next_cursor"), "").List("tables")[0]["name"], "made_elsewhere")

	p := s.Want(200, key, "GET "+base+"/tables/orders/preview?limit=2", "")
	same(t, "the preview", fieldsOf(p.JSON), "columns preview_row_count rows total_row_count")
	rows, _ := json.Marshal(p.JSON["rows"])
	same(t, "its rows", string(rows), `[{"amount":0.25,"at":"2026-01-01 00:00:00+00","id":1,"note":null,"ratio":"NaN","tags":["a","b\"c"]},`+
		`{"amount":0.5,"at":"2026-01-01 00:00:00+00","id":2,"note":"even","ratio":"Infinity","tags":["a","b\"c"]}]`)
	same(t, "its counts", line(p.JSON["total_row_count"], p.JSON["preview_row_count"], shownColumns(p)), "1000 2 "+columns)

	apptest.Run(t, s, map[string]string{"p": key}, []apptest.Case{
		{Name: "taken", As: "p", Do: "POST " + base + "/tables", Body: `{"name":"ORDERS","columns":[{"name":"a","type":"INTEGER"}]}`, Status: 409, Code: "table_exists"},
		{Name: "taken by a view", As: "p", Do: "POST " + base + "/tables", Body: `{"name":"Seen","columns":[{"name":"a","type":"INTEGER"}]}`, Status: 409, Code: "table_exists"},
		{Name: "no bucket", As: "p", Do: "POST /projects/sales/buckets/none/tables", Body: `{"name":"t","columns":[{"name":"a","type":"INTEGER"}]}`, Status: 404, Code: "bucket_not_found"},
		{Name: "no columns", As: "p", Do: "POST " + base + "/tables", Body: `{"name":"t","columns":[]}`, Status: 422, Code: "validation_failed"},
		{Name: "one name twice", As: "p", Do: "POST " + base + "/tables", Body: `{"name":"t","columns":[{"name":"a","type":"INTEGER"},{"name":"A","type":"INTEGER"}]}`, Status: 422, Code: "validation_failed"},
		{Name: "unknown field", As: "p", Do: "POST " + base + "/tables", Body: `{"name":"t","columns":[{"name":"a","type":"INTEGER","primary":true}]}`, Status: 422, Code: "validation_failed"},
		{Name: "unknown type", As: "p", Do: "POST " + base + "/tables", Body: `{"name":"t","columns":[{"name":"a","type":"WHATEVER"}]}`, Status: 400, Code: "invalid_column_type"},
		{Name: "a type with more", As: "p", Do: "POST " + base + "/tables", Body: `{"name":"t","columns":[{"name":"a","type":"INTEGER); DROP SCHEMA b CASCADE; --"}]}`, Status: 400, Code: "invalid_column_type"},
		{Name: "a default with more", As: "p", Do: "POST " + base + "/tables", Body: `{"name":"t","columns":[{"name":"a","type":"INTEGER","default":"1); DROP SCHEMA b CASCADE; --"}]}`, Status: 400, Code: "invalid_column_type"},
		{Name: "a default that reads", As: "p", Do: "POST " + base + "/tables", Body: `{"name":"t","columns":[{"name":"a","type":"VARCHAR","default":"getenv('HOME')"}]}`, Status: 400, Code: "invalid_column_type"},
		{Name: "a default of another type", As: "p", Do: "POST " + base + "/tables", Body: `{"name":"t","columns":[{"name":"a","type":"INTEGER","default":"'x'"}]}`, Status: 400, Code: "invalid_column_type"},
		{Name: "unknown key", As: "p", Do: "POST " + base + "/tables", Body: `{"name":"t","columns":[{"name":"a","type":"INTEGER"}],"primary_key":["b"]}`, Status: 400, Code: "invalid_primary_key"},
		{Name: "one key twice", As: "p", Do: "POST " + base + "/tables", Body: `{"name":"t","columns":[{"name":"a","type":"INTEGER"}],"primary_key":["a","A"]}`, Status: 400, Code: "invalid_primary_key"},
		{Name: "a key of lists", As: "p", Do: "POST " + base + "/tables", Body: `{"name":"t","columns":[{"name":"a","type":"INTEGER[]"}],"primary_key":["a"]}`, Status: 400, Code: "invalid_primary_key"},
		{Name: "not there", As: "p", Do: "GET " + base + "/tables/none", Status: 404, Code: "table_not_found"},
		{Name: "no preview of none", As: "p", Do: "GET " + base + "/tables/none/preview", Status: 404, Code: "table_not_found"},
		{Name: "a view is no table", As: "p", Do: "DELETE " + base + "/tables/seen", Status: 404, Code: "table_not_found"},
		{Name: "too much", As: "p", Do: "GET " + base + "/tables/orders/preview?limit=10001", Status: 422, Code: "validation_failed"},
		{Name: "unknown mode", As: "p", Do: "POST " + base + "/tables/orders/profile?mode=deep", Status: 422, Code: "validation_failed"},
		{Name: "changed since", As: "p", Do: "DELETE " + base + "/tables/orders", Headers: []string{`If-Match: "old"`}, Status: 412, Code: "precondition_failed"},
		{Name: "dropped", As: "p", Do: "DELETE " + base + "/tables/ORDERS", Headers: []string{"If-Match: " + one.Header.Get("ETag")}, Status: 204, Log: []string{"drop_table in_progress", "drop_table success"}},
		{Name: "once", As: "p", Do: "DELETE " + base + "/tables/orders", Status: 404, Code: "table_not_found"},
	})
	same(t, "what is left", s.Want(200, key, "GET "+base+"/tables", "").JSON["total"], 1)
}

func TestProfileDescribesValues(t *testing.T) {
	t.Parallel()
	s, key, base := bucketOf(t)
	s.Want(201, key, "POST "+base+"/tables", `{"name":"t","columns":[{"name":"n","type":"INTEGER"},{"name":"twice","type":"DOUBLE"},{"name":"word","type":"VARCHAR"},{"name":"none","type":"DATE"},{"name":"one","type":"VARCHAR"}]}`)
	empty := s.Want(200, key, "POST "+base+"/tables/t/profile", "", "Content-Type: application/json")
	same(t, "a profile", fieldsOf(empty.JSON), "bucket_name column_count columns correlations quality_issues quality_score row_count statistics table_name")
	for _, name := range []string{"statistics", "columns", "quality_issues", "correlations"} {
		if _, ok := empty.JSON[name].([]any); !ok {
			t.Errorf("%s is no list: %s", name, empty.Body)
		}
	}
	inDatabase(t, s, "sales", `INSERT INTO b.t SELECT i, CASE WHEN i = 1 THEN 'nan'::DOUBLE ELSE 2 * i END, CASE WHEN i < 60 THEN 'a' ELSE 'NaN' END, NULL, 'x' FROM range(1, 101) r(i)`)
	issues := map[string]int{"basic": 0, "distribution": 0, "quality": 2, "full": 2}
	for mode, want := range issues {
		a := s.Want(200, key, "POST "+base+"/tables/T/profile?mode="+mode, "")
		if got := len(a.List("quality_issues")); got != want {
			t.Errorf("mode %s tells %d issues, want %d: %s", mode, got, want, a.Body)
		}
		same(t, "the counts", line(a.JSON["row_count"], a.JSON["column_count"], a.JSON["quality_score"]), "100 5 78")
		n, twice, word, none := a.List("statistics")[0], a.List("statistics")[1], a.List("columns")[2], a.List("columns")[3]
		same(t, "a number", line(n["column_name"], n["column_type"], n["count"], n["null_count"], n["min"], n["max"]), "n INTEGER 100 0 1 100")
		same(t, "no value", line(none["count"], none["null_percentage"], none["min"]), "0 100 <nil>")
		same(t, "a text", line(word["min"], word["max"]), "NaN a")
		if mode != "quality" {
			same(t, "means", line(n["avg"], twice["avg"]), "50.5 102")
		}
		if top := len(word["top_values"].([]any)); (top > 0) != (mode == "full" || mode == "distribution") {
			t.Errorf("mode %s tells %d frequent values", mode, top)
		}
		if mode == "full" {
			same(t, "correlations", fmt.Sprint(a.List("correlations")), "[map[coefficient:1 column_a:n column_b:twice]]")
		} else {
			same(t, "correlations", len(a.List("correlations")), 0)
		}
	}
}
