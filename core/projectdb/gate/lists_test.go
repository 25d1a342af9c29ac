package gate

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/duck"
)

func memory(t testing.TB) *duck.Conn {
	t.Helper()
	return opened(t, "")
}

func opened(t testing.TB, path string) *duck.Conn {
	t.Helper()
	db, err := duck.Open(context.Background(), path, duck.Options{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func names(t testing.TB, conn *duck.Conn, query string) []string {
	t.Helper()
	text, err := conn.Text(context.Background(), "SELECT string_agg(DISTINCT n, ' ') FROM ("+query+") AS t(n)")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(text)
}

// A new DuckDB brings new functions: each is decided on, by its name and its
// description, before it may be used.
func TestEveryFunctionOfDuckDBIsDecidedOn(t *testing.T) {
	conn := memory(t)
	for kinds, table := range map[string]map[string]verdict{
		"'scalar', 'aggregate', 'macro'": scalars,
		"'table', 'table_macro'":         tableFunctions,
	} {
		all := names(t, conn, "SELECT function_name FROM duckdb_functions() WHERE function_type IN ("+kinds+")")
		if len(all) < 50 {
			t.Fatalf("only %d functions of %s", len(all), kinds)
		}
		known := map[string]bool{}
		for _, name := range all {
			known[strings.ToLower(name)] = true
			if v, ok := table[strings.ToLower(name)]; !ok || v.why == "" {
				t.Errorf("%s is neither allowed nor refused, or has no reason", name)
			}
		}
		for name, v := range table {
			if v.allowed && !known[name] && name != "unnest" && name != "unlist" {
				t.Errorf("%s is allowed, and DuckDB has none of that name", name)
			}
		}
	}
}

func TestNoFunctionIsBothAllowedAndRefused(t *testing.T) {
	for _, lists := range [][2][]group{{allowedScalars, refusedScalars}, {allowedTableFunctions, refusedTableFunctions}} {
		seen := map[string]string{}
		for _, list := range lists {
			for _, g := range list {
				for _, name := range strings.Fields(g.names) {
					if other, twice := seen[name]; twice {
						t.Errorf("%s is in %q and in %q", name, g.why, other)
					}
					seen[name] = g.why
				}
			}
		}
	}
}

// The defaults of columns run at every insert, of whoever inserts.
func TestFunctionsOfDefaultsAreAllowedElsewhereToo(t *testing.T) {
	for name := range defaults {
		if v := scalars[name]; !v.allowed && name != "coalesce" {
			t.Errorf("%s is for defaults and not allowed", name)
		}
	}
}

// A view of DuckDB's own that is found without a schema must not pass as a table
// of the project.
func TestEveryCatalogViewHasANameThatIsLookedUp(t *testing.T) {
	all := names(t, memory(t), "SELECT view_name FROM duckdb_views() WHERE internal AND schema_name <> 'information_schema'")
	if len(all) < 20 {
		t.Fatalf("only %d views", len(all))
	}
	for _, name := range all {
		if !unusual("", name) || !unusual("main", strings.ToUpper(name)) {
			t.Errorf("%s would pass as a table", name)
		}
	}
}

// What information_schema shows may be read, so it must show no path.
func TestInformationSchemaShowsNoPath(t *testing.T) {
	ctx := context.Background()
	conn := opened(t, filepath.Join(t.TempDir(), "data.duckdb"))
	if n, err := conn.Text(ctx, "SELECT count(*)::VARCHAR FROM duckdb_databases() AS v WHERE v::VARCHAR LIKE '%/%'"); err != nil || n != "1" {
		t.Fatalf("the test sees no path where there is one: %s, %v", n, err)
	}
	for _, view := range names(t, conn, "SELECT view_name FROM duckdb_views() WHERE internal AND schema_name = 'information_schema'") {
		n, err := conn.Text(ctx, "SELECT count(*)::VARCHAR FROM information_schema."+view+" AS v WHERE v::VARCHAR LIKE '%/%'")
		if err != nil || n != "0" {
			t.Errorf("%s: %s rows with a slash, %v", view, n, err)
		}
	}
}
