package main

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/app/apptest"
)

// rowIDs returns those of the operations that a list shows.
func rowIDs(a apptest.Answer) (all []string) {
	for _, row := range a.List("operations") {
		all = append(all, fmt.Sprint(row["id"]))
	}
	return all
}

func TestOperationsAreFoundByEachFilter(t *testing.T) {
	s := start(t, nil)
	project(t, s, "sales")
	between := time.Now().UTC()
	s.Want(200, s.Root, "PATCH /projects/sales", `{"name":"Überseehandel"}`, "X-Request-ID: looked-for")
	s.Want(409, s.Root, "POST /projects", `{"id":"sales"}`)
	moment := url.QueryEscape(between.Format(time.RFC3339Nano))
	row := s.Want(200, s.Root, "GET /operations?request_id=looked-for", "").List("operations")[0]
	for query, want := range map[string]string{
		"project_id=sales&operation=update_project": "update_project", "request_id=looked-for": "update_project",
		"status=failed": "create_project", "operation=create_project&status=success": "create_project",
		"resource_type=project&resource_id=sales&status=success&from=" + moment: "update_project",
		"actor=" + row["actor"].(map[string]any)["id"].(string) + "&limit=1":    "create_project",
		"to=" + moment + "&status=success":                                      "create_project",
		"q=UPDATE_&project_id=sales":                                            "update_project",
		"q=exists&from=" + moment:                                               "create_project",
		"q=nowhere&from=" + moment:                                              "",
		"project_id=other":                                                      "",
	} {
		a := s.Want(200, s.Root, "GET /operations?"+query, "")
		var got []string
		for _, row := range a.List("operations") {
			got = append(got, row["operation"].(string))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s finds %v, want %q", query, got, want)
		}
		if _, ok := a.JSON["total"]; ok {
			t.Errorf("%s has a total", query)
		}
	}
	for _, query := range []string{"q=anything", "q=x&actor=root", "status=what", "from=yesterday", "from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z&q=x", "limit=1001"} {
		s.Want(422, s.Root, "GET /operations?"+query, "")
	}
	s.Want(200, s.Root, "GET /projects/sales/operations?q=anything", "") // the project is its bound
	s.Want(400, s.Root, "GET /operations?cursor=garbage", "")
	s.Want(400, s.Root, "GET /operations?cursor="+base64.RawURLEncoding.EncodeToString([]byte("5 3")), "")
	if old := rowIDs(s.Want(200, s.Root, "GET /operations?all_rows=true&cursor="+base64.RawURLEncoding.EncodeToString([]byte("3")), "")); strings.Join(old, " ") != "2 1" {
		t.Errorf("a cursor of an older version goes on with %v", old)
	}

	var paged []string
	for next := "/operations?limit=1&all_rows=true"; next != ""; {
		a := s.Want(200, s.Root, "GET "+next, "")
		paged = append(paged, rowIDs(a)...)
		if next = a.Text("next_cursor"); next != "" {
			next = "/operations?limit=1&all_rows=true&cursor=" + next
		}
	}
	if want := rowIDs(s.Want(200, s.Root, "GET /operations?all_rows=true", "")); strings.Join(paged, " ") != strings.Join(want, " ") {
		t.Errorf("pages of one show %v, want %v", paged, want)
	}
}
