package worker_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/config"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/projectdb/wire"
	"github.com/eiderdb/eider/core/projectdb/worker"
	"github.com/eiderdb/eider/core/waittest"
)

// told runs a request, and returns what was told of its progress.
func (g *ground) told(op string, args any) (all []float64) {
	g.t.Helper()
	text, err := json.Marshal(args)
	must(g.t, err)
	must(g.t, g.s.Run(g.t.Context(), g.project, wire.Request{Op: op, Args: text}, projectdb.Sinks{Progress: func(fraction float64, _ int64) {
		all = append(all, fraction)
	}}, nil))
	return all
}

// Work that is too quick tells nothing: the table grows until it is not.
func TestExportsAndImportsTellHowFarTheyAre(t *testing.T) {
	t.Parallel()
	g := newGround(t, asUngated)
	g.renew()
	rises := func(all []float64, from, to float64) bool {
		between := 0
		for i, f := range all {
			if i > 0 && f < all[i-1] || f < 0 || f > 1 {
				t.Errorf("the progress was %v", all)
			}
			if f > from && f < to {
				between++
			}
		}
		return between > 0
	}
	for rows := 500_000; ; rows *= 2 {
		if rows > 20_000_000 {
			t.Fatal("no progress was told")
		}
		g.must(g.project, fmt.Sprintf("INSERT INTO sales.notes SELECT range FROM range(%d)", rows))
		out := g.told("export", worker.Export{Bucket: "sales", Table: "notes", Format: worker.FormatCSV, Compression: "none", Where: "md5(n::VARCHAR) <> 'x'"})
		root := filepath.Join(g.dir, g.project.Folder)
		must(t, os.Rename(filepath.Join(root, "out/export"), filepath.Join(root, "in/import")))
		in := g.told("import", worker.Import{Bucket: "sales", Table: "notes", Format: worker.FormatCSV, CSV: worker.CSV{Delimiter: ",", Quote: `"`, Escape: `"`, Header: true}})
		if rises(out, 0, 1) && rises(in, 0.4, 0.9) {
			return
		}
	}
}

func TestDatabaseThatNobodyUsesIsClosed(t *testing.T) {
	t.Parallel()
	g := newGround(t, asUngated, func(s *projectdb.Settings) { s.Idle = config.Duration(time.Millisecond) })
	g.renew()
	for n := range 2 {
		g.must(g.project, "INSERT INTO sales.notes VALUES (1)")
		waittest.Until(t, "it is closed", func() bool { return g.s.Open() == 0 })
		must(t, g.s.CloseProject(t.Context(), g.project.UID)) // its worker may still be about to end
		file := filepath.Join(g.dir, g.project.Folder, "db/data.duckdb")
		if _, err := os.Stat(file + ".wal"); !os.IsNotExist(err) {
			t.Errorf("it was not closed well: %v", err)
		}
		db, err := duck.Open(t.Context(), file, duck.Options{ReadOnly: true})
		must(t, err)
		rows, err := db.Query(t.Context(), "SELECT count(*) FROM sales.notes")
		must(t, err)
		var count int
		rows.Next()
		must(t, rows.Scan(&count))
		must(t, rows.Close())
		must(t, db.Close())
		if count != n+1 {
			t.Errorf("it has %d rows", count)
		}
	}
}
