package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/duck"
)

// BenchmarkListsOfALargeLog measures pages of a log of EIDER_BENCH_LOG rows
// (a million if that is not set), whose chain is not one: only reading counts.
func BenchmarkListsOfALargeLog(b *testing.B) {
	r, n := large(b)
	at := func(id int64) time.Time {
		return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(id) * time.Second)
	}
	for _, c := range []struct {
		name string
		audit.Filter
	}{
		{"newest", audit.Filter{}},
		{"project", audit.Filter{ProjectID: "p77"}},
		{"uid", audit.Filter{ProjectUID: "u-77"}},
		{"request", audit.Filter{RequestID: requestOf(n / 3)}},
		{"no such request", audit.Filter{RequestID: "none"}},
		{"failed of a project", audit.Filter{ProjectID: "p77", Status: "failed"}},
		{"an hour long ago", audit.Filter{From: at(n / 10), To: at(n/10 + 3600)}},
		{"until long ago", audit.Filter{To: at(n / 10)}},
		{"text of a day", audit.Filter{Text: "nothing", From: at(n / 2), To: at(n/2 + 86400)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			c.Limit = 100
			for b.Loop() {
				_, err := r.log.List(b.Context(), r.store.View(), c.Filter)
				must(b, err)
			}
		})
	}
}

// large opens such a log.
func large(b *testing.B) (*register, int64) {
	b.Helper()
	n := int64(1_000_000)
	if text := os.Getenv("EIDER_BENCH_LOG"); text != "" {
		var err error
		n, err = strconv.ParseInt(text, 10, 64)
		must(b, err)
	}
	r := begin(b)
	must(b, r.store.Close())
	if dir := os.Getenv("EIDER_BENCH_LOG_IN"); dir != "" { // made once, for more than one run
		r.dir = dir
		must(b, r.open())
		must(b, r.store.Close())
	}
	if head := r.log.Head().ID; head == 0 {
		fill(b, r.path(), n)
	}
	r.kept = ""
	opened := time.Now()
	must(b, r.open())
	b.Logf("opened in %v", time.Since(opened))
	return r, r.log.Head().ID
}

// cpu is the processor time of this process: the steadiest figure on a busy machine.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // never fails
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func requestOf(id int64) string { return fmt.Sprintf("0190-%032d", id) }

func fill(b *testing.B, path string, n int64) {
	b.Helper()
	db, err := duck.Open(context.Background(), path, duck.Options{Threads: 2})
	must(b, err)
	conn, err := db.Conn(context.Background())
	must(b, err)
	for from := int64(0); from < n; from += 500_000 {
		must(b, conn.Exec(context.Background(), fmt.Sprintf(`INSERT INTO operations_log
			SELECT i, md5(i::TEXT), TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_seconds(i),
				printf('%%s0190-%%032d', CASE WHEN i = %d THEN '' ELSE left(md5(i::TEXT), 8) END, i), md5(i::TEXT), 'key', 'k' || (hash(i) %% 500), '', '10.0.0.' || (i %% 200),
				'p' || (hash(i) %% 1000), 'u-' || (hash(i) %% 1000), ['query', 'create_table', 'upload_file'][1 + i %% 3], 'table', 't' || (i %% 5000),
				'{"sql":"SELECT ' || md5(i::TEXT) || '"}', i %% 9999, CASE WHEN hash(i) %% 50 = 0 THEN 'failed' ELSE 'success' END,
				'', '', '', 0, 1, unhex(md5(i::TEXT) || md5(i::TEXT)), unhex(md5(i::TEXT) || md5(i::TEXT)),
				CASE WHEN i = %d THEN %d ELSE (hash(i)::HUGEINT - 9223372036854775808)::BIGINT END
			FROM range(%d, %d) r(i)`, n/3, n/3, audit.RequestHash(requestOf(n/3)), from+1, min(n, from+500_000)+1)))
	}
	must(b, db.Checkpoint(context.Background()))
	must(b, errors.Join(conn.Close(), db.Close()))
}

// BenchmarkReadingALargeLog measures what exports, archives and verifications do with
// all rows of such a log: it tells rows a second.
func BenchmarkReadingALargeLog(b *testing.B) {
	r, n := large(b)
	view := r.store.View()
	for _, c := range []struct {
		name string
		each func(b *testing.B, walk func(each func([]audit.Row) error))
	}{
		{"walk", func(_ *testing.B, walk func(func([]audit.Row) error)) {
			walk(func([]audit.Row) error { return nil })
		}},
		{"ndjson", func(b *testing.B, walk func(func([]audit.Row) error)) {
			encoder := json.NewEncoder(io.Discard)
			walk(func(page []audit.Row) error {
				for i := range page {
					must(b, encoder.Encode(page[i].Evidence()))
				}
				return nil
			})
		}},
		{"parquet", func(b *testing.B, walk func(func([]audit.Row) error)) {
			path := filepath.Join(b.TempDir(), "rows.parquet")
			file, err := audit.NewParquet(b.Context(), path)
			must(b, err)
			walk(file.Add)
			must(b, file.Write())
			must(b, file.Close())
			info, err := os.Stat(path)
			must(b, err)
			b.ReportMetric(float64(info.Size())/1e6, "MB")
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			spent := cpu()
			for b.Loop() {
				c.each(b, func(each func([]audit.Row) error) {
					_, err := r.log.Walk(b.Context(), view, audit.Filter{AllRows: true}, each)
					must(b, err)
				})
			}
			rows := float64(n) * float64(b.N)
			b.ReportMetric(rows/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64((cpu()-spent).Microseconds())/rows, "us-cpu/row")
		})
	}
}
