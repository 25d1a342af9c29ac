package worker_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/config"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/projectdb/gate/hostile"
	"github.com/eiderdb/eider/core/projectdb/wire"
	"github.com/eiderdb/eider/core/projectdb/worker"
	"go.opentelemetry.io/otel/metric/noop"
)

// What the test binary is as a process of its own: a worker without the gate, and
// one without DuckDB's own locks besides.
const (
	asUngated  = "worker-without-gate"
	asUnlocked = "worker-without-gate-and-locks"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == asUngated || os.Args[1] == asUnlocked) {
		log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError + 1}))
		if err := worker.ServeUngated(log, worker.ToFolder, os.Args[1] == asUngated); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ground is a data folder with projects that are all alike, and a file beside them.
type ground struct {
	t       *testing.T
	s       *projectdb.Supervisor
	dir     string
	image   []byte // of a project's database, with what hostile.Setup makes
	paths   hostile.Paths
	project projectdb.Project // the one that is attacked
	made    int
	broken  int
}

func newGround(t *testing.T, as string, change ...func(*projectdb.Settings)) *ground {
	t.Helper()
	dir := t.TempDir()
	template := filepath.Join(dir, "template")
	must(t, duck.CreateTemplate(t.Context(), template))
	db, err := duck.Open(t.Context(), template, duck.Options{})
	must(t, err)
	conn, err := db.Conn(t.Context())
	must(t, err)
	for _, sql := range append(hostile.Setup(), "CREATE TABLE sales.notes (n INTEGER)") {
		if strings.Contains(sql, "_eider") {
			continue // the worker makes its own
		}
		must(t, conn.Exec(t.Context(), sql))
	}
	must(t, errors.Join(conn.Close(), db.Close()))
	g := &ground{t: t, dir: dir}
	g.image, err = os.ReadFile(template)
	must(t, err)
	must(t, os.Remove(template))
	exe, err := os.Executable()
	must(t, err)
	settings := projectdb.Defaults()
	settings.Kill, settings.Memory, settings.MaxTemp, settings.MaxSize, settings.Spare = config.Duration(200*time.Millisecond), 128<<20, 64<<20, 256<<20, 1
	for _, c := range change {
		c(&settings)
	}
	g.s, err = projectdb.New(projectdb.Options{
		Settings: settings, Command: []string{exe, as}, Dir: dir, Log: slog.New(slog.DiscardHandler), Meter: noop.Meter{},
	})
	must(t, err)
	t.Cleanup(func() { must(t, g.s.Close()) })
	must(t, os.Mkdir(filepath.Join(dir, "outside"), 0o700))
	g.paths.File, g.paths.Out = filepath.Join(dir, "outside", "secret.csv"), filepath.Join(dir, "outside", "new")
	must(t, os.WriteFile(g.paths.File, []byte(hostile.Secret), 0o600))
	return g
}

// found makes a project.
func (g *ground) found(name string) projectdb.Project {
	g.t.Helper()
	root := filepath.Join(g.dir, name)
	for _, sub := range []string{"db", "in", "out"} {
		must(g.t, os.MkdirAll(filepath.Join(root, sub), 0o700))
	}
	must(g.t, os.WriteFile(filepath.Join(root, "db/data.duckdb"), g.image, 0o600))
	must(g.t, os.WriteFile(filepath.Join(root, "in/import"), []byte("a\n1\n"), 0o600))
	for _, own := range []string{"lock", "project.json"} {
		must(g.t, os.WriteFile(filepath.Join(root, own), nil, 0o600))
	}
	return projectdb.Project{UID: name, Folder: name}
}

// renew puts a project that is whole in the place of the one that is attacked.
func (g *ground) renew() {
	g.t.Helper()
	if g.made > 0 {
		must(g.t, g.s.CloseProject(g.t.Context(), g.project.UID))
		must(g.t, os.RemoveAll(filepath.Join(g.dir, g.project.Folder)))
	}
	g.made++
	g.project = g.found(fmt.Sprintf("attacked%d", g.made))
	g.paths.Own = filepath.Join(g.dir, g.project.Folder, "db/data.duckdb")
}

// run has a project's worker run a text as it is, and returns all that it said.
func (g *ground) run(p projectdb.Project, r worker.Raw, within time.Duration) (said string, err error) {
	ctx, cancel := context.WithTimeout(g.t.Context(), within)
	defer cancel()
	args, err := json.Marshal(r)
	must(g.t, err)
	var rows strings.Builder
	err = g.s.Run(ctx, p, wire.Request{Op: "raw", Args: args}, projectdb.Sinks{Data: func(b []byte) error {
		if rows.Len() < 1<<20 {
			rows.Write(b)
		}
		return nil
	}}, nil)
	return fmt.Sprint(rows.String(), err), err
}

// whole is true of a project that is as it was made.
const whole = `SELECT concat(
	(SELECT string_agg(o::VARCHAR, ';' ORDER BY id) FROM data.sales.orders AS o),
	(SELECT count(*) FROM system.main.duckdb_tables() WHERE database_name = 'data' AND schema_name <> '_eider'),
	(SELECT count(*) FROM system.main.duckdb_views() WHERE NOT internal),
	(SELECT count(*) FROM system.main.duckdb_sequences()),
	(SELECT count(*) FROM system.main.duckdb_databases())) AS said`

// next runs the next statement, on a worker that may have to be started, and
// reports whether the project is whole.
func (g *ground) next(want string) (said string, ok bool) {
	for range 3 {
		if said, _ = g.run(g.project, worker.Raw{SQL: whole}, 5*time.Second); said == want {
			return said, true
		}
	}
	return said, false
}

// outside is all that is not the attacked project's database and its out/.
func (g *ground) outside() string {
	var all strings.Builder
	must(g.t, filepath.WalkDir(g.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(g.dir, path)
		inner, attacked := strings.CutPrefix(name, g.project.Folder)
		if attacked && (inner == "/db" || inner == "/out") {
			return fs.SkipDir
		}
		if d.IsDir() {
			fmt.Fprintln(&all, inner)
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(&all, "%s %s %d links %x\n", inner, info.Mode(), info.Sys().(*syscall.Stat_t).Nlink, sha256.Sum256(text))
		return err
	}))
	return all.String()
}

// The table is run without the gate: what keeps a tenant in is the confinement of
// the worker, first with DuckDB's own locks and then by itself. A case may harm
// its own project, whose file another takes the place of; and its worker, which is
// started anew.
func TestHostileInputWithoutTheGateReachesNothingOutside(t *testing.T) {
	for _, as := range []string{asUngated, asUnlocked} {
		t.Run(as, func(t *testing.T) {
			t.Parallel()
			g := newGround(t, as)
			neighbour := g.found("neighbour")
			wants, err := g.run(neighbour, worker.Raw{SQL: whole}, 10*time.Second)
			must(t, err)
			must(t, g.s.CloseProject(t.Context(), neighbour.UID)) // its log is folded in
			g.renew()
			outside := g.outside()
			if _, ok := g.next(wants); !ok {
				t.Fatal("the project is not whole from the start")
			}
			if said, err := g.run(g.project, worker.Raw{SQL: "SELECT content FROM read_text('" + filepath.Join(g.dir, g.project.Folder, "in/import") + "')"}, 5*time.Second); err != nil || !strings.Contains(said, `a\n1`) {
				t.Fatalf("what it may read says %s", said) // the table would prove nothing
			}
			for i, c := range append(hostile.Cases(), hostile.Bombs()...) {
				g.attack(i, c, wants)
				if now := g.outside(); now != outside {
					t.Fatalf("case %d %.200s changed what is outside:\n%s\nwas\n%s", i, c.Input, now, outside)
				}
			}
			if said, err := g.run(neighbour, worker.Raw{SQL: whole}, 10*time.Second); err != nil || said != wants {
				t.Errorf("the neighbour says %s", said)
			}
			t.Logf("%d cases, %d projects that harmed themselves beyond a restart", len(hostile.Cases()), g.broken)
		})
	}
}

// attack runs a case, and holds its answer to showing nothing of the server.
func (g *ground) attack(i int, c hostile.Case, wants string) {
	g.t.Helper()
	said, err := g.run(g.project, worker.Raw{SQL: c.Statement(g.paths), Undone: c.Kind != hostile.Select}, 700*time.Millisecond)
	if strings.Contains(said, hostile.Secret) {
		g.t.Errorf("case %d %.200s read the file: %.300s", i, c.Input, said)
	}
	if _, ok := g.next(wants); ok && !strings.Contains(c.Input, "CREATE") { // a macro is not seen by next
		return
	}
	if _, alive := g.run(g.project, worker.Raw{SQL: "SELECT 1"}, 5*time.Second); alive != nil {
		g.broken++
		g.t.Logf("case %d %.100s broke its own project: %v, then %v", i, c.Input, err, alive)
	}
	g.renew()
	if now, ok := g.next(wants); !ok {
		g.t.Fatalf("after case %d %.200s the next project says %s", i, c.Input, now)
	}
}
