package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/config"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/projectdb/wire"
	"github.com/eiderdb/eider/core/projectdb/worker"
	"github.com/eiderdb/eider/core/waittest"
)

// size of a file in the project's folder, 0 if there is none.
func (g *ground) size(name string) int64 {
	info, err := os.Stat(filepath.Join(g.dir, g.project.Folder, name))
	if err != nil {
		return 0
	}
	return info.Size()
}

func TestLogOfAnOpenDatabaseIsFoldedInButWhileItIsHeld(t *testing.T) {
	t.Parallel()
	g := newGround(t, asUngated)
	g.renew()
	folded := func() bool { return g.size("db/data.duckdb.wal") == 0 }
	g.must(g.project, "INSERT INTO sales.notes VALUES (1)")
	waittest.Until(t, "the log is folded in", folded)

	held, release, err := g.s.Hold(t.Context(), g.project)
	must(t, err)
	g.must(g.project, "INSERT INTO sales.notes SELECT range FROM range(9000000)") // its log is small: the rows are in the file
	g.must(g.project, "UPDATE sales.notes SET n = n + 1")                         // this one's is more than may wait
	if folded() || !held() {
		t.Errorf("held %t, with %d bytes of log", held(), g.size("db/data.duckdb.wal"))
	}
	release()
	waittest.Until(t, "the log is folded in", folded)
	if g.s.Open() != 1 {
		t.Error("the database was closed")
	}
}

// What is dropped makes room under the limit of a file's size, without a restart.
func TestDroppedTablesGiveTheirRoomBack(t *testing.T) {
	t.Parallel()
	g := newGround(t, asUngated, func(s *projectdb.Settings) { s.MaxSize = 24 << 20 })
	g.renew()
	fill := func(table string) error {
		_, err := g.run(g.project, worker.Raw{SQL: "CREATE TABLE sales." + table + " AS SELECT md5(range::VARCHAR) AS a, md5((range + 1)::VARCHAR) AS b FROM range(350000)"}, time.Minute)
		return err
	}
	must(t, fill("one"))
	if err := fill("two"); eider.CodeOf(err) != eider.StorageFull {
		t.Fatalf("a second table, in a file of %d bytes: %v", g.size("db/data.duckdb"), err)
	}
	g.must(g.project, "DROP TABLE sales.one")
	waittest.Until(t, "the log is folded in", func() bool { return g.size("db/data.duckdb.wal") == 0 })
	must(t, fill("two"))
}

// A client that leaves while a change commits leaves all of it behind, or nothing;
// nor does who reads then see a part.
func TestChangeThatIsLeftInItsCommitIsWholeOrNotThere(t *testing.T) {
	t.Parallel()
	g := newGround(t, asUngated, func(s *projectdb.Settings) { s.Kill, s.Memory = config.Duration(50*time.Millisecond), 512<<20 })
	g.renew()
	const rows = 200_000
	g.must(g.project, "CREATE TABLE sales.big (id BIGINT PRIMARY KEY, v BIGINT)")
	g.must(g.project, fmt.Sprintf("INSERT INTO sales.big SELECT range, 0 FROM range(%d)", rows))
	for round := 1; round <= 3; round++ {
		waittest.Until(t, "the log is folded in", func() bool { return g.size("db/data.duckdb.wal") == 0 })
		ctx, leave := context.WithCancel(t.Context())
		var file strings.Builder
		file.WriteString("id,v\n")
		for id := range rows {
			fmt.Fprintf(&file, "%d,%d\n", id, round)
		}
		must(t, os.WriteFile(filepath.Join(g.dir, g.project.Folder, "in/import"), []byte(file.String()), 0o600))
		args, err := json.Marshal(worker.Import{Bucket: "sales", Table: "big", Format: worker.FormatCSV, CSV: worker.CSV{Delimiter: ",", Quote: `"`, Escape: `"`, Header: true}})
		must(t, err)
		done := make(chan error, 1)
		go func() {
			done <- g.s.Run(ctx, g.project, wire.Request{Op: "import", Call: fmt.Sprint(round), Args: args}, projectdb.Sinks{}, nil)
		}()
		waittest.Until(t, "it commits", func() bool { return g.size("db/data.duckdb.wal") > 100<<10 || len(done) > 0 })
		leave()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		var said string
		waittest.Until(t, "the project is back", func() bool {
			said, err = g.run(g.project, worker.Raw{SQL: "SELECT concat_ws(' ', count(*), count(DISTINCT id), count(DISTINCT v)) AS said FROM sales.big"}, time.Minute)
			return err == nil
		})
		if want := fmt.Sprintf("%d %d 1", rows, rows); !strings.Contains(said, want) {
			t.Fatalf("round %d: %s, not %s", round, said, want)
		}
	}
}
