package duckdb_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/disk/faultshim"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/metadata/duckdb"
	"go.uber.org/goleak"
)

// This test binary as a child of itself is a process with a store whose files
// can be faulted.
const childVariable = "EIDER_METADATA_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		if err := serve(os.Args[1], os.Args[2] == "checkpoints"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if library, err := shim(); err == nil {
		_ = os.RemoveAll(filepath.Dir(library))
	}
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

var shim = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "metadata-shim")
	if err != nil {
		return "", err
	}
	return faultshim.Build(dir)
})

type row struct{ ID string }

func newRows() *metadata.Table[row] {
	return metadata.NewTable(metadata.Def[row]{
		Name: "rows", Columns: []metadata.Column{{Name: "id", Kind: metadata.Text}}, Hot: true,
		Key: func(r *row) string { return r.ID }, Encode: func(r *row) []any { return []any{r.ID} },
		Decode:  func(scan func(...any) error) (r row, err error) { return r, scan(&r.ID) },
		Missing: eider.NotFound, Noun: "row",
	})
}

var migrations = []metadata.Migration{{Owner: "child", Number: 1, SQL: []string{`CREATE TABLE rows (id TEXT PRIMARY KEY)`}}}

// byTable is a sealer without a log: a group is kept if its first item is the
// key of a row.
type byTable struct{ rows *metadata.Table[row] }

func (byTable) Load(context.Context, *metadata.View) error { return nil }
func (byTable) Seal(*metadata.Group) error                 { return nil }
func (byTable) Sealed(*metadata.Group)                     {}
func (b byTable) Kept(g *metadata.Group) bool {
	for _, key := range b.rows.Keys() {
		if key == g.Items()[0] {
			return true
		}
	}
	return false
}

func openStore(path string, checkpoints bool, change func(*metadata.Options)) (*metadata.Store, *metadata.Table[row], error) {
	o := duckdb.Options{Path: path}
	if checkpoints {
		o.CheckpointSize = 1
	}
	e, err := duckdb.Open(context.Background(), o)
	if err != nil {
		return nil, nil, err
	}
	rows := newRows()
	options := metadata.Options{Engine: e, Tables: []metadata.AnyTable{rows}, Migrations: migrations, Sealer: byTable{rows}}
	if change != nil {
		change(&options)
	}
	s, err := metadata.Open(context.Background(), options)
	return s, rows, err
}

// answer is what a child says of a step.
type answer struct {
	Code  eider.Code // of the step's error
	Text  string
	Rows  int // in memory
	Ready bool
	Fatal int // times that the store was given up
	Full  int // times that room was asked for
}

func serve(path string, checkpoints bool) error {
	var fatal, full atomic.Int64
	store, rows, err := openStore(path, checkpoints, func(o *metadata.Options) {
		o.Fatal = func(error) { fatal.Add(1) }
		o.Full = func() bool { full.Add(1); return true }
	})
	if err != nil {
		return err
	}
	written := 0
	steps := map[string]func() error{
		"write": func() error {
			written++
			_, err := store.Write(context.Background(), func(tx *metadata.Tx) error {
				key := fmt.Sprint("row ", written)
				tx.Stage(key)
				return rows.Insert(tx, row{key})
			})
			return err
		},
		// What the writer does after a group is over once it has begun another.
		"wait": func() error {
			_, err := store.Write(context.Background(), func(*metadata.Tx) error { return errors.New("nothing") })
			if err.Error() == "nothing" {
				return nil
			}
			return err
		},
		"close": store.Close,
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var a answer
		step, number, _ := strings.Cut(in.Text(), " ")
		if number != "" { // of the row that is written
			written, _ = strconv.Atoi(number)
		}
		if err := steps[step](); err != nil {
			a.Code, a.Text = eider.CodeOf(err), err.Error()
		}
		a.Rows, a.Ready, a.Fatal, a.Full = rows.Len(), store.Ready() == nil, int(fatal.Load()), int(full.Load())
		if err := json.NewEncoder(os.Stdout).Encode(a); err != nil {
			return err
		}
	}
	return in.Err()
}

// child is such a process.
type child struct {
	t       *testing.T
	control *faultshim.Control
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Scanner
}

func startChild(t *testing.T, path, how string) *child {
	t.Helper()
	library, err := shim()
	must(t, err)
	control, err := faultshim.New(t.TempDir())
	must(t, err)
	t.Cleanup(func() { must(t, control.Close()) })
	cmd := exec.Command("/proc/self/exe", path, how)
	cmd.Env = append(append(os.Environ(), childVariable+"=1"), control.Env(library)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &child{t, control, cmd, in, bufio.NewScanner(out)}
}

func (c *child) do(step string) (a answer) {
	c.t.Helper()
	a, alive := c.try(step)
	if !alive {
		c.t.Fatalf("%s: the process has gone: %v", step, c.cmd.Wait())
	}
	return a
}

// try takes a step in which the process may end.
func (c *child) try(step string) (a answer, alive bool) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in, step); err != nil || !c.out.Scan() {
		return a, false
	}
	must(c.t, json.Unmarshal(c.out.Bytes(), &a))
	return a, true
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
