package duckdb_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/eiderdb/eider/core/disk/faultshim"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/metadata"
)

// A store whose checkpoint is killed in any call, with any write half done, opens
// with every write that it acknowledged.
func TestStoreOutlivesATornCheckpoint(t *testing.T) {
	base := filepath.Join(t.TempDir(), "metadata.duckdb")
	p := startChild(t, base, "checkpoints")
	for range 3 { // each is folded
		p.do("write")
		p.do("wait")
	}
	must(t, p.in.Close())
	must(t, p.cmd.Wait())
	calls := checkpointCalls(t, base)
	var recovered atomic.Int64
	t.Run("cases", func(t *testing.T) {
		for n, call := range calls {
			for _, rule := range tears(n+1, call) {
				t.Run(fmt.Sprintf("%d %v, %d of %d bytes, done %v", n, call, rule.Short, call.Size, rule.Done), func(t *testing.T) {
					t.Parallel()
					path := copyOf(t, base)
					acknowledged := writeUntilKilled(t, path, rule)
					if _, err := os.Stat(path + ".journal"); err == nil {
						recovered.Add(1)
					}
					store, rows, err := openStore(path, true, nil)
					if err != nil {
						t.Fatal(err)
					}
					if n := rows.Len(); n != acknowledged && n != acknowledged+1 {
						t.Errorf("%d rows are stored, %d were acknowledged", n, acknowledged)
					}
					_, err = store.Write(context.Background(), func(tx *metadata.Tx) error {
						tx.Stage("after")
						return rows.Insert(tx, row{"after"})
					})
					must(t, err)
					must(t, store.Close())
				})
			}
		}
	})
	if recovered.Load() < 5 {
		t.Errorf("in only %d cases a journal was left: %v", recovered.Load(), calls)
	}
}

func copyOf(t *testing.T, path string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.CopyFS(dir, os.DirFS(filepath.Dir(path))))
	return filepath.Join(dir, filepath.Base(path))
}

// checkpointCalls lists the calls of a write that is folded at once, where nothing
// fails.
func checkpointCalls(t *testing.T, base string) []faultshim.Call {
	t.Helper()
	p := startChild(t, copyOf(t, base), "checkpoints")
	p.do("wait")
	must(t, p.control.Arm())
	p.do("write 10")
	p.do("wait")
	calls, err := p.control.Calls()
	must(t, err)
	for n, call := range calls {
		if call.Kind == faultshim.Unlink {
			return calls[:n+1]
		}
	}
	t.Fatalf("no checkpoint: %v", calls)
	return nil
}

func tears(n int, c faultshim.Call) []faultshim.Rule {
	rule := faultshim.Rule{Nth: n, Kill: true}
	done := rule
	done.Done = true
	all := []faultshim.Rule{rule, done}
	if c.Kind == faultshim.Pwrite {
		for _, rule.Short = range []int{10, 512, 2048, 4096, 8192, c.Size / 2} {
			all = append(all, rule)
		}
	}
	if os.Getenv("EIDER_TORTURE_ROUNDS") == "" {
		return all[len(all)-1:]
	}
	return all
}

// writeUntilKilled returns how many rows were acknowledged, those of the base
// among them.
func writeUntilKilled(t *testing.T, path string, rule faultshim.Rule) (acknowledged int) {
	t.Helper()
	p := startChild(t, path, "checkpoints")
	acknowledged = p.do("wait").Rows
	must(t, p.control.Arm(rule))
	for n := 10; n < 15; n++ {
		a, alive := p.try(fmt.Sprint("write ", n))
		if !alive {
			_ = p.cmd.Wait()
			return acknowledged
		}
		if a.Code == "" {
			acknowledged++
		}
	}
	must(t, p.cmd.Process.Signal(syscall.SIGKILL))
	_ = p.cmd.Wait()
	return acknowledged
}

// What a checkpoint costs on a database of some 100 MB whose largest table is as
// wide as the log, and how much of it is the journal's: CHECKPOINT as a statement
// has none.
func BenchmarkCheckpoint(b *testing.B) {
	path := filepath.Join(b.TempDir(), "metadata.duckdb")
	db, err := duck.Open(b.Context(), path, duck.Options{})
	must(b, err)
	conn, err := db.Conn(b.Context())
	must(b, err)
	columns := []string{"i AS id"}
	for n := range 23 {
		columns = append(columns, fmt.Sprintf("md5((i * 100 + %d)::TEXT) AS c%d", n, n))
	}
	must(b, conn.Exec(b.Context(), "CREATE TABLE log AS SELECT "+strings.Join(columns, ", ")+" FROM range(240000) r(i)"))
	must(b, db.Checkpoint(b.Context()))
	for _, journaled := range []bool{false, true} {
		b.Run(fmt.Sprintf("journal=%v", journaled), func(b *testing.B) {
			for b.Loop() {
				must(b, conn.Exec(b.Context(), "INSERT INTO log SELECT * REPLACE (id + 1 AS id) FROM log LIMIT 10"))
				if journaled {
					must(b, db.Checkpoint(b.Context()))
				} else {
					must(b, conn.Exec(b.Context(), "CHECKPOINT"))
				}
			}
			b.ReportMetric(count(b, db, "SELECT count(*) FROM pragma_metadata_info()"), "blocks-kept")
			b.ReportMetric(count(b, db, "SELECT block_size * total_blocks FROM pragma_database_size()")/1e6, "MB")
		})
	}
	must(b, conn.Close())
	must(b, db.Close())
}

func count(b *testing.B, db *duck.DB, query string) (n float64) {
	b.Helper()
	rows, err := db.Query(b.Context(), query)
	must(b, err)
	for rows.Next() {
		must(b, rows.Scan(&n))
	}
	must(b, rows.Close())
	return n
}
