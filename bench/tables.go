package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/eiderdb/eider/core/duck"
)

// tableBench runs statements, imports and exports through eider.
type tableBench struct {
	*bench
	dir  string // the data folder
	s    *server
	rows int
}

// The decimals are no wider than 64 bits: of wider ones DuckDB takes five times the
// processor time to read or write a text, which is neither way's doing.
const (
	wideRows  = `SELECT range AS id, 'customer ' || range AS name, range %% 7 AS a, (range * 1.5)::DECIMAL(18,1) AS b, range %% 2 = 0 AS c, DATE '2024-01-01' + (range %% 365)::INTEGER AS d, TIMESTAMP '2024-01-01' + INTERVAL 1 SECOND * range AS e, range::DOUBLE AS f, 'some text' AS g, range %% 1000 AS h FROM range(%d)`
	wideTable = `{"name":"wide","columns":[{"name":"id","type":"BIGINT"},{"name":"name","type":"VARCHAR"},{"name":"a","type":"BIGINT"},{"name":"b","type":"DECIMAL(18,1)"},{"name":"c","type":"BOOLEAN"},{"name":"d","type":"DATE"},{"name":"e","type":"TIMESTAMP"},{"name":"f","type":"DOUBLE"},{"name":"g","type":"VARCHAR"},{"name":"h","type":"BIGINT"}]}`
)

// benchTables measures the first statement of a closed project and later ones, an
// answer of a million rows in each form, imports and exports of it, and what the
// server and its worker hold meanwhile.
func benchTables(ctx context.Context, b *bench) (err error) {
	dir, err := b.fresh("tables")
	if err != nil {
		return err
	}
	t := &tableBench{bench: b, dir: dir, rows: 1_000_000}
	if b.rounds == 1 {
		t.rows = 200_000
	}
	if t.s, err = b.serve(dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.s.stop()) }()
	for _, step := range []func(context.Context) error{
		t.statements, t.inProcess, t.manyTables, t.open30, t.bombs, t.prepare, t.answers, t.exportAndImport,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// call sends a request and returns the answer's body, or how long it was where
// it is not wanted.
func (t *tableBench) call(ctx context.Context, do, accept, body string, keep bool) (text []byte, size int64, err error) {
	method, path, _ := strings.Cut(do, " ")
	r, err := http.NewRequestWithContext(ctx, method, "http://"+t.s.address+path, strings.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	r.Header.Set("Authorization", "Bearer "+t.s.root)
	r.Header.Set("Content-Type", "application/json")
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, 0, err
	}
	defer a.Body.Close()
	if a.StatusCode >= 300 {
		text, _ = io.ReadAll(a.Body)
		return nil, 0, fmt.Errorf("%s answered %d: %s", do, a.StatusCode, text)
	}
	if keep {
		text, err = io.ReadAll(a.Body)
		return text, int64(len(text)), err
	}
	size, err = io.Copy(io.Discard, a.Body)
	return nil, size, err
}

func (t *tableBench) query(ctx context.Context, project, accept, sql, more string) (size int64, took time.Duration, err error) {
	text, err := json.Marshal(sql)
	if err != nil {
		return 0, 0, err
	}
	begun := time.Now()
	_, size, err = t.call(ctx, "POST /projects/"+project+"/query", accept, `{"sql":`+string(text)+more+`}`, false)
	return size, time.Since(begun), err
}

// statements measures the first statement of projects that are closed, and those
// that follow.
func (t *tableBench) statements(ctx context.Context) error {
	var first, later []time.Duration
	for i := range 4 * t.rounds {
		id := fmt.Sprintf("closed%d", i)
		if _, _, err := t.call(ctx, "POST /projects", "", `{"id":"`+id+`"}`, false); err != nil {
			return err
		}
		for n := range 50 {
			_, took, err := t.query(ctx, id, "", "SELECT 1 AS one", "")
			if err != nil {
				return err
			}
			if n == 0 {
				first = append(first, took)
			} else {
				later = append(later, took)
			}
		}
	}
	t.table.add(row{What: "first statement of a closed project", P50: middle(first), Bar: "p50 < 60 ms"})
	t.table.add(row{What: "a later one", P50: middle(later)})
	return nil
}

func middle(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

func (t *tableBench) prepare(ctx context.Context) error {
	for _, one := range [][2]string{
		{"POST /projects", `{"id":"tables"}`}, {"POST /projects/tables/buckets", `{"name":"b"}`}, {"POST /projects/tables/buckets/b/tables", wideTable},
	} {
		if _, _, err := t.call(ctx, one[0], "", one[1], false); err != nil {
			return err
		}
	}
	_, _, err := t.query(ctx, "tables", "", "INSERT INTO b.wide "+fmt.Sprintf(wideRows, t.rows), `,"mode":"write"`)
	return err
}

// answers streams the whole table in each form.
func (t *tableBench) answers(ctx context.Context) error {
	for _, f := range []struct {
		name, accept, bar string
	}{
		{"Arrow", "application/vnd.apache.arrow.stream", ">= 5 M rows/s"}, {"NDJSON", "application/x-ndjson", ">= 1.5 M rows/s"},
		{"CSV", "text/csv", ">= 1.5 M rows/s"}, {"JSON", "application/json", ""},
	} {
		var all []time.Duration
		before, err := t.s.cpuOfAll()
		if err != nil {
			return err
		}
		for range max(3, t.rounds) {
			_, took, err := t.query(ctx, "tables", f.accept, "SELECT * FROM b.wide", fmt.Sprintf(`,"max_rows":%d`, t.rows))
			if err != nil {
				return err
			}
			all = append(all, took)
		}
		server, workers, err := t.s.held()
		if err != nil {
			return err
		}
		after, err := t.s.cpuOfAll()
		if err != nil {
			return err
		}
		t.table.add(row{
			What: fmt.Sprintf("rows of a query as %s (workers at most %d MiB)", f.name, workers>>20), PerSecond: float64(t.rows) / middle(all).Seconds(),
			CPU:    (after - before) / time.Duration(len(all)),
			Memory: server, Bar: f.bar,
		})
	}
	return nil
}

// held returns the most that the server, and any one of its workers, ever held.
func (s *server) held() (server, worker int64, err error) {
	if server, err = peak(s.cmd.Process.Pid); err != nil {
		return 0, 0, err
	}
	all, err := s.workers()
	if err != nil {
		return 0, 0, err
	}
	for _, pid := range all {
		if n, err := peak(pid); err == nil {
			worker = max(worker, n)
		}
	}
	return server, worker, nil
}

// peak returns the most memory that a process ever held, in bytes.
func peak(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(text, []byte("VmHWM:"))
	var kb int64
	_, err = fmt.Sscan(string(rest), &kb)
	return kb << 10, err
}

// exportAndImport writes the table as a file and reads it back.
func (t *tableBench) exportAndImport(ctx context.Context) error {
	const path = "/projects/tables/buckets/b/tables/wide"
	for _, format := range []string{"csv", "parquet"} {
		begun := time.Now()
		text, _, err := t.call(ctx, "POST "+path+"/export", "", `{"format":"`+format+`"}`, true)
		if err != nil {
			return err
		}
		t.table.add(row{What: "rows exported as " + format, PerSecond: float64(t.rows) / time.Since(begun).Seconds()})
		var made struct {
			FileID   string `json:"file_id"`
			FilePath string `json:"file_path"`
		}
		if err := json.Unmarshal(text, &made); err != nil {
			return err
		}
		begun = time.Now()
		if _, _, err := t.call(ctx, "POST "+path+"/import/file", "", `{"file_id":"`+made.FileID+`","format":"`+format+`"}`, false); err != nil {
			return err
		}
		took := time.Since(begun)
		alone, err := t.copyAlone(ctx, made.FilePath, format)
		if err != nil {
			return err
		}
		t.table.add(row{
			What: "rows imported from " + format, PerSecond: float64(t.rows) / took.Seconds(), Ratio: alone.Seconds() / took.Seconds(),
			Of: "the same COPY in the driver alone", Bar: ">= 0.9",
		})
	}
	return nil
}

// copyAlone does with the driver what an import does: it replaces the rows of a
// table by those of the file.
func (t *tableBench) copyAlone(ctx context.Context, file, format string) (took time.Duration, err error) {
	dir, err := t.fresh("copy")
	if err != nil {
		return 0, err
	}
	db, err := duck.Open(ctx, filepath.Join(dir, "data.duckdb"), duck.Options{Threads: 2, MemoryLimit: "512MiB"})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.CloseAsIs()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.Exec(ctx, "CREATE TABLE wide AS "+fmt.Sprintf(wideRows, t.rows)); err != nil {
		return 0, err
	}
	begun := time.Now()
	err = conn.Begin(ctx)
	for _, statement := range []string{"DELETE FROM wide", "COPY wide FROM '" + filepath.Join(t.dir, "files", file) + "' (FORMAT " + format + ")"} {
		if err == nil {
			err = conn.Exec(ctx, statement)
		}
	}
	return time.Since(begun), errors.Join(err, conn.Commit())
}
