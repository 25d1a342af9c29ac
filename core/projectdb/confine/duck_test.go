package confine_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"context"
	"errors"
	"fmt"

	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb/confine"
)

// database is what a child has open: DuckDB with all its settings as they come,
// so that nothing but the confinement is in the way.
type database struct{ db *duck.DB }

func (d *database) open(path string) error {
	db, err := duck.Open(context.Background(), path, duck.Options{Threads: 4, MemoryLimit: "96MiB"})
	if err == nil {
		d.db = db
	}
	return err
}

// noRows is what a query of no rows returns. read_text answers so where it may
// not look whether the file exists.
const noRows = "<nil>"

// query returns the first column of the last row.
func (d *database) query(text string) (string, error) {
	rows, err := d.db.Query(context.Background(), text)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var value any
	for rows.Next() {
		if err := rows.Scan(&value); err != nil {
			return "", err
		}
	}
	return fmt.Sprint(value), rows.Err()
}

func (d *database) close() error {
	if d.db == nil {
		return errors.New("nothing is open")
	}
	return d.db.Close()
}

// duckAt is a confined child that has the project's database open.
func duckAt(t *testing.T, user int, l confine.Limits) (*child, confine.State) {
	t.Helper()
	c, state := confined(t, newScene(t, user), user, l)
	c.ok("open", filepath.Join(c.scene.Root, "db", "data.duckdb"))
	return c, state
}

// queries runs statements that must go well. {in}, {out} and {db} are the
// project's folders.
func (c *child) queries(texts ...string) (last string) {
	c.t.Helper()
	for _, text := range texts {
		last = c.ok("query", c.fill(text))
	}
	return last
}

func (c *child) fill(text string) string {
	return strings.NewReplacer("{in}", c.scene.Root+"/in", "{out}", c.scene.Root+"/out", "{db}", c.scene.Root+"/db",
		"{root}", c.scene.Root, "{other}", c.scene.Other, "{outside}", c.scene.Outside, "{parent}", strconv.Itoa(c.scene.Parent),
		"{victim}", strconv.Itoa(c.scene.Victim), "{tcp}", c.scene.TCP).Replace(text)
}

func TestDuckDBWorksConfined(t *testing.T) {
	for name, user := range users() {
		t.Run(name, func(t *testing.T) {
			c, _ := duckAt(t, user, confine.Limits{Memory: 1 << 30, FileSize: 1 << 30, Files: 256})
			write(t, filepath.Join(c.scene.Root, "in", "import.csv"), "a,b\n1,x\n2,y\n")
			for _, q := range []struct{ query, want string }{
				{"CREATE TABLE t AS SELECT range AS id, 'row ' || range AS text, range % 7 AS n FROM range(1000000)", ""},
				{"SELECT count(*) FROM t", "1000000"},
				{"CREATE TABLE c AS SELECT * FROM read_csv('{in}/import.csv')", ""},
				{"SELECT sum(a) FROM c", "3"},
				{"COPY t TO '{out}/t.parquet' (FORMAT parquet)", ""},
				{"COPY (SELECT * FROM t LIMIT 1000) TO '{out}/t.csv'", ""},
				{"SELECT count(*) FROM read_parquet('{out}/t.parquet')", "1000000"},
				{"SELECT count(*) FROM read_csv('{out}/t.csv')", "1000"},
				{"UPDATE t SET n = n + 1 WHERE id < 1000", ""},
				{"DELETE FROM t WHERE id >= 900000", ""},
				{"CHECKPOINT", ""},
				{"VACUUM", ""},
				{"SELECT (timestamptz '2026-07-01 12:00:00+00' AT TIME ZONE 'Europe/Berlin')::VARCHAR", "2026-07-01 14:00:00"},
				{"SELECT length(uuid()::VARCHAR) + length(hash(random())::VARCHAR) > 36", "true"},
			} {
				if got := c.queries(q.query); q.want != "" && got != q.want {
					t.Errorf("%s: %s, want %s", q.query, got, q.want)
				}
			}
			c.ok("close", "")
			c.ok("open", filepath.Join(c.scene.Root, "db", "data.duckdb"))
			if got := c.queries("SELECT count(*) FROM t"); got != "900000" {
				t.Errorf("reopened: %s rows", got)
			}
		})
	}
}

func TestDuckDBSpillsBesideItsFile(t *testing.T) {
	c, _ := duckAt(t, 0, confine.Limits{Memory: 1 << 30})
	c.queries("SET preserve_insertion_order = false", "SET threads = 2",
		"CREATE TABLE t AS SELECT hash(range) AS h, repeat(hash(range)::VARCHAR, 8) AS text FROM range(500000)")
	// The folder is made for the first spill.
	folder := filepath.Join(c.scene.Root, "db", "data.duckdb.tmp")
	if _, err := os.Stat(folder); err == nil {
		t.Error("a table alone has spilled")
	}
	c.queries("CREATE TABLE sorted AS SELECT * FROM t ORDER BY h")
	if _, err := os.Stat(folder); err != nil {
		t.Errorf("nothing was spilled: %v", err)
	}
	if got := c.queries("SELECT count(*) FROM sorted"); got != "500000" {
		t.Errorf("%s rows", got)
	}
}

func TestMemoryBombIsAnErrorAndNotTheEnd(t *testing.T) {
	c, state := duckAt(t, 0, confine.Limits{Memory: 512 << 20})
	if !state.Memory.Holds {
		t.Log("not tried: address space is not bounded on this machine")
		return
	}
	for _, bomb := range []string{
		"SELECT length(repeat(repeat('x',1000000),3000))",
		"SELECT length(repeat('x', 2000000000))",
		"SELECT len(repeat([1], 400000000))",
		"SELECT len(range(200000000))",
		"SELECT len(list_transform(range(200000000), lambda x: x + 1))",
	} {
		if a := c.do("query", bomb); !strings.Contains(strings.ToLower(a.Error), "memory") {
			t.Errorf("%s: %q, %q", bomb, a.Error, a.Text)
		}
		if got := c.queries("SELECT 42"); got != "42" {
			t.Errorf("after %s: %s", bomb, got)
		}
	}
}

func TestFileAtItsLimitIsAnErrorAndNotTheEnd(t *testing.T) {
	c, state := duckAt(t, 0, confine.Limits{Memory: 1 << 30, FileSize: 16 << 20})
	if !state.FileSize.Holds {
		t.Log("not tried: files are not bounded on this machine")
		return
	}
	c.queries("CREATE TABLE kept AS SELECT 42 AS a", "CHECKPOINT")
	if a := c.do("query", c.fill("COPY (SELECT hash(range), hash(range + 1) FROM range(3000000)) TO '{out}/large.csv'")); a.Error == "" {
		t.Error("a CSV file beyond the limit was written")
	}
	if got := c.queries("SELECT a FROM kept"); got != "42" {
		t.Errorf("kept %s", got)
	}
	if a := c.do("query", "CREATE TABLE large AS SELECT hash(range) AS a, hash(range + 1) AS b FROM range(3000000)"); a.Error == "" {
		t.Error("the database grew beyond the limit")
	}
	// Whether the instance goes on depends on where it met the limit. The process
	// does, and what was committed is in the file.
	_ = c.do("close", "")
	c.ok("open", filepath.Join(c.scene.Root, "db", "data.duckdb"))
	if got := c.queries("SELECT a FROM kept"); got != "42" {
		t.Errorf("kept %s", got)
	}
	for _, name := range []string{"db/data.duckdb", "db/data.duckdb.wal", "out/large.csv"} {
		if info, err := os.Stat(filepath.Join(c.scene.Root, name)); err == nil && info.Size() > 16<<20 {
			t.Errorf("%s has %d bytes", name, info.Size())
		}
	}
}

// reaches are statements that go out of the project's folder, with what they do
// if they may. {x} is filled in as by queries.
func reaches() []string {
	return []string{
		"SELECT length(content) FROM read_text('/etc/passwd')",
		"SELECT octet_length(content) FROM read_blob('/etc/passwd')",
		"SELECT column0 FROM read_csv('/etc/passwd', header = false, delim = ':', all_varchar = true)",
		"SELECT * FROM '{outside}/table.csv'",
		"SELECT length(content) FROM read_text('{outside}/secret')",
		"SELECT length(content) FROM read_text('{db}/link')",
		"SELECT length(content) FROM read_text('{db}/../project.json')",
		"SELECT length(content) FROM read_text('{other}/db/file')",
		"SELECT content FROM read_text('/proc/{parent}/environ')",
		"SELECT content FROM read_text('/proc/{victim}/environ')",
		"SELECT content FROM read_text('/proc/self/environ')",
		"SELECT content FROM read_text('/proc/{victim}/cmdline')",
		"SELECT length(content) FROM read_text('/proc/{victim}/root{outside}/secret')",
		"COPY (SELECT 1) TO '{outside}/x'",
		"COPY (SELECT 1) TO '{root}/x'",
		"COPY (SELECT 1) TO '{in}/x'",
		"COPY (SELECT 1) TO '{in}/file'",
		"COPY (SELECT 1) TO '{other}/out/x'",
		"COPY (SELECT 1 AS a) TO '{outside}/parts' (FORMAT csv, PARTITION_BY a, WRITE_PARTITION_COLUMNS true)",
		"EXPORT DATABASE '{outside}/export'",
		"ATTACH '{other}/db/data.duckdb' AS other (READ_ONLY)",
		"ATTACH '{outside}/new.duckdb' AS other",
		"ATTACH '{in}/new.duckdb' AS other",
		"LOAD '{out}/x.duckdb_extension'",
		"SELECT * FROM read_csv('http://{tcp}/x.csv')",
	}
}

// globs find nothing where the folder cannot be listed.
func globs() []string {
	return []string{
		"SELECT count(*) FROM glob('/etc/*')",
		"SELECT count(*) FROM glob('{root}/*')",
		"SELECT count(*) FROM glob('{other}/db/*')",
		"SELECT count(*) FROM glob('{outside}/*')",
		"SELECT count(*) FROM glob('/proc/*')",
		"SELECT count(*) FROM glob('{root}/*/*') WHERE file NOT LIKE '{db}/%'",
	}
}

// DuckDB's external access is on: only the kernel is in the way.
func TestDuckDBReachesNothingOutside(t *testing.T) {
	for name, user := range users() {
		t.Run(name, func(t *testing.T) {
			c := startChild(t, newReachable(t, user), user)
			state := c.apply(confine.Limits{Memory: 1 << 30})
			expected(t, state)
			if !state.Landlock.Holds {
				t.Log("not tried: this machine has no Landlock to test")
				return
			}
			c.ok("open", filepath.Join(c.scene.Root, "db", "data.duckdb"))
			before := tree(t, c.scene.Outside) + tree(t, c.scene.Other) + tree(t, filepath.Join(c.scene.Root, "in"))
			for _, text := range reaches() {
				if a := c.do("query", c.fill(text)); a.Error == "" && a.Text != noRows {
					t.Errorf("%s: %q", text, a.Text)
				}
				if got := c.queries("SELECT 42"); got != "42" {
					t.Errorf("after %s: %s", text, got)
				}
			}
			for _, text := range globs() {
				if a := c.do("query", c.fill(text)); a.Error == "" && a.Text != "0" {
					t.Errorf("%s: %s found", text, a.Text)
				}
			}
			if after := tree(t, c.scene.Outside) + tree(t, c.scene.Other) + tree(t, filepath.Join(c.scene.Root, "in")); after != before {
				t.Errorf("files have changed:\n%s\nwere:\n%s", after, before)
			}
			if _, err := os.Stat(filepath.Join(c.scene.Root, "x")); err == nil {
				t.Error("a file was made beside db")
			}
		})
	}
}

// The same without Apply: each statement reaches what it names, but for the last
// two, which need what is not built in.
func TestDuckDBReachesOutsideUnconfined(t *testing.T) {
	c := startChild(t, newReachable(t, 0), 0)
	c.ok("open", filepath.Join(c.scene.Root, "db", "data.duckdb"))
	all := reaches()
	for _, text := range all[:len(all)-2] {
		if a := c.do("query", c.fill(text)); a.Error != "" || strings.HasPrefix(text, "SELECT") && a.Text == noRows {
			t.Errorf("%s: %q %s", text, a.Text, a.Error)
		}
		_ = c.do("query", "DETACH other")
	}
	for _, text := range globs() {
		if a := c.do("query", c.fill(text)); a.Error != "" || a.Text == "0" {
			t.Errorf("%s: %s %s", text, a.Text, a.Error)
		}
	}
}

// newReachable is a scene with a database and a table to be reached for.
func newReachable(t *testing.T, user int) scene {
	t.Helper()
	s := newScene(t, 0)
	db, err := duck.Open(context.Background(), filepath.Join(s.Other, "db", "data.duckdb"), duck.Options{})
	must(t, err)
	must(t, db.Close())
	write(t, filepath.Join(s.Outside, "table.csv"), "a\n1\n")
	if user != 0 {
		give(t, filepath.Dir(s.Root), user)
	}
	return s
}
