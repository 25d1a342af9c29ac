package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/metadata/duckdb"
	"github.com/eiderdb/eider/core/telemetry"
)

// benchRecovery measures the log, and what stands by for the day that something is
// lost: appending, verifying and exporting the log, checking the register, making it
// again, and what a backup costs those who write meanwhile.
func benchRecovery(ctx context.Context, b *bench) error {
	return errors.Join(b.benchLog(ctx), b.benchCheck(ctx), b.benchRebuild(ctx), b.benchBackup(ctx))
}

// once is a row of what was done one time, of n things.
func once(what string, n int64, took time.Duration) row {
	return row{What: what, PerSecond: float64(n) / took.Seconds(), P50: took}
}

// logBatch is how many rows share a commit.
const logBatch = 1000

func (b *bench) benchLog(ctx context.Context) error {
	dir, err := b.fresh("log")
	if err != nil {
		return err
	}
	s, err := b.serve(dir) // makes the folder
	if err != nil {
		return err
	}
	if err := s.stop(); err != nil {
		return err
	}
	head, err := b.appendLog(ctx, filepath.Join(dir, "metadata.duckdb"))
	if err != nil {
		return err
	}
	if s, err = b.serve(dir); err != nil {
		return err
	}
	return errors.Join(b.readLog(ctx, s, head), s.stop())
}

// appendLog appends rows to the log of a stopped server, chained as the server does,
// and verifies them.
func (b *bench) appendLog(ctx context.Context, path string) (head int64, err error) {
	migrations, err := appliedTo(ctx, path)
	if err != nil {
		return 0, err
	}
	engine, err := duckdb.Open(ctx, duckdb.Options{Path: path, Threads: 1})
	if err != nil {
		return 0, err
	}
	logger := telemetry.Discard().Log
	log := audit.NewLog(nil, logger)
	store, err := metadata.Open(ctx, metadata.Options{Engine: engine, Sealer: log, Log: logger, Migrations: migrations})
	if err != nil {
		return 0, errors.Join(err, engine.Close())
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	spent, before := cpu(), log.Head().ID
	got, err := b.measure(ctx, 1, func(int) (session, error) {
		return session{turn: func() (bool, error) {
			_, err := store.Write(ctx, func(tx *metadata.Tx) error {
				for n := range logBatch {
					tx.Stage(logRow(n))
				}
				return nil
			})
			return true, err
		}}, nil
	})
	if err != nil {
		return 0, err
	}
	r := got.row("rows of the log, appended 1,000 at a time, chained")
	r.PerSecond, r.Bar = logBatch*r.PerSecond, "at least 20,000/s"
	r.CPU = (cpu() - spent) / time.Duration(log.Head().ID-before)
	b.table.add(r)
	begun := time.Now()
	spent = cpu()
	v, err := audit.Verify(ctx, store.View(), 0, 0, nil)
	if err == nil && !v.Verified {
		err = errors.New("the log does not hold: " + v.BrokenAt.Detail)
	}
	if err != nil {
		return 0, err
	}
	r = once(fmt.Sprintf("rows of the log, verified, of %s", thousands(v.Checked)), v.Checked, time.Since(begun))
	r.CPU = (cpu() - spent) / time.Duration(v.Checked)
	b.table.add(r)
	return v.LastID, nil
}

// cpu is the processor time of this process, which does the work of the server
// here: it is the steadiest figure on a busy machine.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // never fails
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func logRow(n int) *audit.Row {
	return &audit.Row{
		CallID: fmt.Sprintf("01a20fe4-16d7-772e-8c0e-%012d", n), RequestID: fmt.Sprintf("0190-%032d", n), ActorType: eider.ActorKey, ActorID: "0123456789abcdef",
		SourceIP: "127.0.0.1", ProjectID: fmt.Sprintf("p%d", n%100), ProjectUID: fmt.Sprintf("uid%d", n%100), Operation: "query", ResourceType: "project",
		ResourceID: "p", Details: `{"fingerprint":"9a1b2c3d4e5f6071","sql":"SELECT * FROM b.t WHERE n = ?"}`, Status: eider.StatusSuccess, Count: 1,
	}
}

// appliedTo returns migrations that a database has, without what they did.
func appliedTo(ctx context.Context, path string) (all []metadata.Migration, err error) {
	db, err := duck.Open(ctx, path, duck.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.Query(ctx, `SELECT owner, number FROM schema_version ORDER BY owner, number`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var m metadata.Migration
		if err := rows.Scan(&m.Owner, &m.Number); err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, rows.Err()
}

func (b *bench) readLog(ctx context.Context, s *server, head int64) error {
	for _, format := range []string{"ndjson", "csv", "parquet"} {
		begun := time.Now()
		n, err := s.download(ctx, "/operations/export?format="+format)
		if err != nil {
			return err
		}
		b.table.add(once(fmt.Sprintf("MB of the log exported as %s, of %s rows", format, thousands(head)), n/1_000_000+1, time.Since(begun)))
	}
	for _, c := range []struct{ what, path string }{
		{"newest page", "/operations?limit=100"}, {"page of a project", "/operations?limit=100&project_id=p7"},
		{"by a request's id", "/operations?request_id=0190-" + strings.Repeat("0", 30) + "77"},
	} {
		got, err := b.measure(ctx, 1, s.eachOf(func(_ int, cl *client) (bool, error) { return true, cl.want(200, "GET", c.path, s.root, "") }))
		if err != nil {
			return err
		}
		b.table.add(got.row("log of " + thousands(head) + " rows: " + c.what))
	}
	b.table.note("Pages of a log of 10 million rows, and what reading all of it costs a row: EIDER_BENCH_LOG=10000000 go test -tags duckdb_arrow -run '^$' -bench LargeLog ./core/audit")
	return nil
}

// download reads an answer whose length is not known, and returns it.
func (s *server) download(ctx context.Context, path string) (int64, error) {
	q, err := http.NewRequestWithContext(ctx, "GET", "http://"+s.address+path, nil)
	if err != nil {
		return 0, err
	}
	q.Header.Set("Authorization", "Bearer "+s.root)
	a, err := http.DefaultClient.Do(q)
	if err != nil {
		return 0, err
	}
	defer a.Body.Close()
	if a.StatusCode != 200 {
		return 0, fmt.Errorf("GET %s answered %d", path, a.StatusCode)
	}
	return io.Copy(io.Discard, a.Body)
}

// benchCheck looks at many projects, behind whose rows there are folders, each with
// an empty file of the length that the register says, and a sidecar.
func (b *bench) benchCheck(ctx context.Context) error {
	dir, err := b.largeFolder(ctx)
	if err != nil {
		return err
	}
	if err := fillFolders(ctx, dir); err != nil {
		return err
	}
	s, err := b.serve(dir)
	if err != nil {
		return err
	}
	begun := time.Now()
	n, err := s.download(ctx, "/health/consistency")
	took := time.Since(begun)
	if err == nil && n > 100_000 {
		err = fmt.Errorf("the check of what should be whole answered %d bytes", n)
	}
	if err := errors.Join(err, s.stop()); err != nil {
		return err
	}
	r := once(fmt.Sprintf("check of %s projects", thousands(int64(b.projects))), int64(b.projects), took)
	r.Bar = "seconds"
	b.table.add(r)
	return nil
}

func fillFolders(ctx context.Context, dir string) (err error) {
	db, err := duck.Open(ctx, filepath.Join(dir, "metadata.duckdb"), duck.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.Query(ctx, `SELECT db_path, size_bytes FROM projects`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var path string
		var size int64
		if err := rows.Scan(&path, &size); err != nil {
			return err
		}
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		sidecar := filepath.Join(filepath.Dir(filepath.Dir(path)), "project.json")
		if err := errors.Join(f.Truncate(size), f.Close(), os.WriteFile(sidecar, []byte("{}"), 0o600)); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (b *bench) benchRebuild(ctx context.Context) error {
	dir, err := b.fresh("rebuild")
	if err != nil {
		return err
	}
	s, err := b.serve(dir)
	if err != nil {
		return err
	}
	count := b.projects / 100
	_, err = s.populate(ctx, count)
	if err := errors.Join(err, s.stop()); err != nil {
		return err
	}
	for _, name := range []string{"metadata.duckdb", "metadata.duckdb.wal"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	begun := time.Now()
	said, err := exec.CommandContext(ctx, b.eider, "rebuild", "--data-dir", dir).CombinedOutput()
	if want := fmt.Sprintf("brought back: %d projects", count); err != nil || !strings.Contains(string(said), want) {
		return errors.Join(err, fmt.Errorf("eider rebuild said %s", said))
	}
	b.table.add(once(fmt.Sprintf("rebuild of %s projects", thousands(int64(count))), int64(count), time.Since(begun)))
	begun = time.Now()
	said, err = exec.CommandContext(ctx, b.eider, "check", "--deep", "--data-dir", dir).CombinedOutput()
	if err != nil || !strings.Contains(string(said), "consistent") {
		return errors.Join(err, fmt.Errorf("eider check --deep said %s", said))
	}
	b.table.add(once(fmt.Sprintf("deep check of the %s projects, each opened", thousands(int64(count))), int64(count), time.Since(begun)))
	return nil
}

// benchBackup has clients write, alone and while one backup follows another.
func (b *bench) benchBackup(ctx context.Context) error {
	dir, err := b.fresh("backup")
	if err != nil {
		return err
	}
	s, err := b.serve(dir)
	if err != nil {
		return err
	}
	clients := min(64, b.most)
	owners, err := s.populate(ctx, clients)
	if err != nil {
		return errors.Join(err, s.stop())
	}
	alone, spent, err := b.patch(ctx, s, owners, clients)
	if err != nil {
		return errors.Join(err, s.stop())
	}
	r := alone.row("PATCH /projects/{id}, " + many(clients))
	r.CPU = spent
	b.table.add(r)

	c, err := dial(s.address)
	if err != nil {
		return errors.Join(err, s.stop())
	}
	defer c.close()
	var made atomic.Int64
	stop, ended := make(chan struct{}), make(chan error, 1)
	begun := time.Now()
	go func() {
		for {
			if err := c.want(201, "POST", "/admin/backups", s.root, ""); err != nil {
				ended <- err
				return
			}
			made.Add(1)
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
		}
	}()
	beside, spent, err := b.patch(ctx, s, owners, clients)
	close(stop)
	err = errors.Join(err, <-ended, s.stop())
	if err != nil {
		return err
	}
	took := time.Since(begun)
	r = beside.row("the same while one backup follows another")
	r.CPU, r.Ratio, r.Of = spent, float64(beside.p99())/float64(max(1, alone.p99())), "p99 without backups"
	b.table.add(r)
	b.table.add(row{What: fmt.Sprintf("backups of %d projects meanwhile", clients), PerSecond: float64(made.Load()) / took.Seconds(), P50: took / time.Duration(made.Load())})
	return nil
}
