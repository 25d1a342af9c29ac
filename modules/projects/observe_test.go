package projects

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/duck"
)

// What a scrape shows of databases is the sum of what the projects' rows say, for
// as long as there are databases.
func TestMetricsAreTheSumsOfTheProjectsRows(t *testing.T) {
	dir := t.TempDir()
	start := func() *apptest.Server {
		return apptest.Start(t, dir, app.Options{Modules: []core.Module{New()}, Version: "test"}, nil)
	}
	s := start()
	for _, id := range []string{"a", "b", "gone", "purged"} {
		s.Want(201, s.Root, "POST /projects", `{"id":"`+id+`"}`)
	}
	s.Want(204, s.Root, "DELETE /projects/gone", "")
	s.Want(204, s.Root, "DELETE /projects/purged", "")
	s.Want(204, s.Root, "DELETE /projects/purged?purge=true", "")
	s.Stop()
	record(t, dir, `UPDATE projects SET size_bytes = 1000, table_count = 2 WHERE id = 'a'`,
		`UPDATE projects SET size_bytes = 200, table_count = 3 WHERE id = 'b'`,
		`UPDATE projects SET size_bytes = 30, table_count = 4 WHERE id = 'gone'`,
		`UPDATE projects SET size_bytes = 4, table_count = 5 WHERE id = 'purged'`)
	s = start()
	metrics := string(s.Want(200, "", "GET /metrics", "").Body)
	for name, want := range map[string]int{
		"duckdb_projects_total": 3, "duckdb_tables_total": 9, `duckdb_storage_size_bytes{type="databases"}`: 1230, `duckdb_storage_size_bytes{type="files"}`: 0,
	} {
		if !strings.Contains(metrics, fmt.Sprintf("\n%s %d\n", name, want)) {
			t.Errorf("%s is not %d in\n%s", name, want, metrics)
		}
	}
}

// record changes rows while no server runs.
func record(t *testing.T, dir string, statements ...string) {
	t.Helper()
	db, err := duck.Open(t.Context(), filepath.Join(dir, "metadata.duckdb"), duck.Options{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range statements {
		if err := conn.Exec(t.Context(), one); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(conn.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
}
