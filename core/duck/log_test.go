package duck

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// A transaction that replaces all rows is cut short at each of its entries, in a
// copy of what a killed process leaves: what is found is the old rows or the new
// ones, and the next transaction holds.
func TestCommitThatIsCutShortIsNotThere(t *testing.T) {
	const rows = 130_000 // more than a row group: it goes to the file before the commit
	dir := t.TempDir()
	path := filepath.Join(dir, "a.duckdb")
	db, err := Open(t.Context(), path, Options{})
	must(t, err)
	conn, err := db.Conn(t.Context())
	must(t, err)
	must(t, conn.Exec(t.Context(), "CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT)"))
	must(t, conn.Exec(t.Context(), fmt.Sprintf("INSERT INTO t SELECT range, 1 FROM range(%d)", rows)))
	before, err := logEnd(path + ".wal")
	must(t, err)
	must(t, conn.Begin(t.Context()))
	must(t, conn.Exec(t.Context(), "DELETE FROM t"))
	must(t, conn.Exec(t.Context(), fmt.Sprintf("INSERT INTO t SELECT range, 2 FROM range(%d)", rows)))
	must(t, conn.Commit())
	file, err := os.ReadFile(path)
	must(t, err)
	log, err := os.ReadFile(path + ".wal")
	must(t, err)
	must(t, errors.Join(conn.Close(), db.CloseAsIs()))
	whole := int64(len(log))
	for i, c := range []struct {
		size int64
		want int64 // of v
	}{
		{whole, 2}, {whole - 1, 1}, {whole - 21, 1}, {whole - 22, 1}, {whole - 100, 1}, {(whole + before.committed) / 2, 1},
		{before.committed + 30, 1}, {before.committed + 7, 1}, {before.committed, 1},
	} {
		copied := filepath.Join(dir, fmt.Sprint("copy", i))
		must(t, os.WriteFile(copied, file, 0o600))
		must(t, os.WriteFile(copied+".wal", log[:c.size], 0o600))
		for round := range 2 {
			db, err := Open(t.Context(), copied, Options{})
			must(t, err)
			conn, err := db.Conn(t.Context())
			must(t, err)
			found, err := conn.Text(t.Context(), "SELECT concat_ws(' ', count(*), count(DISTINCT id), min(v), max(v)) FROM t")
			must(t, err)
			if want := fmt.Sprintf("%d %d %d %d", rows+round, rows+round, c.want, c.want); found != want {
				t.Errorf("cut at %d of %d, round %d: %s, not %s", c.size, whole, round, found, want)
			}
			must(t, conn.Exec(t.Context(), fmt.Sprintf("INSERT INTO t VALUES (%d, %d)", rows+round, c.want)))
			must(t, errors.Join(conn.Close(), db.CloseAsIs()))
		}
	}
}

// What fails its checksum is left as it is, for DuckDB to refuse.
func TestDamagedLogIsNotCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.duckdb")
	db, err := Open(t.Context(), path, Options{})
	must(t, err)
	conn, err := db.Conn(t.Context())
	must(t, err)
	must(t, conn.Exec(t.Context(), "CREATE TABLE t (id BIGINT)"))
	must(t, conn.Exec(t.Context(), "INSERT INTO t SELECT range FROM range(1000)"))
	must(t, errors.Join(conn.Close(), db.CloseAsIs()))
	log, err := os.ReadFile(path + ".wal")
	must(t, err)
	for at := len(logVersion) + 16; at < len(log); at += 97 {
		damaged := append([]byte(nil), log...)
		damaged[at] ^= 0x10
		must(t, os.WriteFile(path+".wal", damaged, 0o600))
		end, err := logEnd(path + ".wal")
		// A length that is damaged is found out by what stands behind it.
		if end.unfinished > 0 && !errors.Is(err, ErrWAL) {
			t.Errorf("damaged at %d of %d: %d bytes would be cut", at, len(log), end.unfinished)
		}
	}
	longer := append([]byte(nil), log...)
	longer[len(logVersion)+2] ^= 0x10 // of the first length
	must(t, os.WriteFile(path+".wal", longer, 0o600))
	if _, err := Open(t.Context(), path, Options{}); !errors.Is(err, ErrWAL) {
		t.Errorf("a log with a damaged length: %v", err)
	}
	if found, err := os.ReadFile(path + ".wal"); err != nil || string(found) != string(longer) {
		t.Errorf("it was changed: %v", err)
	}
}
