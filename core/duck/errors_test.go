package duck

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	duckdb "github.com/duckdb/duckdb-go/v2"
)

// sample makes a closed database of some blocks, and returns its bytes.
func sample(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sample.duckdb")
	db, conn := open(t, path)
	must(t, conn.Exec(t.Context(), "CREATE TABLE t (id BIGINT PRIMARY KEY, text TEXT)"))
	must(t, commitRows(conn, 20000))
	must(t, errors.Join(conn.Close(), db.Close()))
	content, err := os.ReadFile(path)
	must(t, err)
	return content
}

func open(t testing.TB, path string) (*DB, *Conn) {
	t.Helper()
	db, err := Open(context.Background(), path, Options{})
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	conn, err := db.Conn(context.Background())
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return db, conn
}

// use opens a file and reads and writes all of it.
func use(path string, o Options) error {
	ctx := context.Background()
	db, err := Open(ctx, path, o)
	if err != nil {
		return err
	}
	err = func() error {
		var n, text int64
		rows, err := db.Query(ctx, "SELECT sum(id)::BIGINT, sum(length(text))::BIGINT FROM t")
		if err != nil {
			return err
		}
		for rows.Next() {
			err = rows.Scan(&n, &text)
		}
		if err := errors.Join(err, rows.Err(), rows.Close()); err != nil {
			return err
		}
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		return errors.Join(conn.Append("t", [][]any{{n, "x"}}), conn.Close())
	}()
	return errors.Join(err, db.Close())
}

func TestDamagedFileIsNamedSo(t *testing.T) {
	whole := sample(t)
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= 0x40; return b }
	}
	version := func(v byte) func([]byte) []byte {
		return func(b []byte) []byte { b[12] = v; return b }
	}
	for _, c := range []struct {
		name   string
		change func([]byte) []byte
		kinds  string
	}{
		{"untouched", func(b []byte) []byte { return b }, ""},
		{"garbage", func([]byte) []byte { return []byte(strings.Repeat("garbage ", 4000)) }, "corrupt"},
		{"some bytes", func([]byte) []byte { return []byte("short") }, "corrupt"},
		{"empty", func([]byte) []byte { return nil }, "corrupt"},
		{"flip in the magic bytes", flip(9), "corrupt"},
		{"flip in the version", flip(12), "corrupt"},
		{"flip in a block's checksum", flip(12288), "corrupt"},
		{"flip in a block", flip(12288 + 300), "corrupt"},
		{"cut after the headers", func(b []byte) []byte { return b[:12288] }, "corrupt"},
		{"cut in half", func(b []byte) []byte { return b[:len(b)/2] }, "corrupt"},
		{"newer", version(200), "newer"},
		{"older", version(1), "io"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.duckdb")
			content := c.change(append([]byte{}, whole...))
			must(t, os.WriteFile(path, content, 0o600))
			err := use(path, Options{})
			if strings.HasSuffix(c.name, "er") { // a version is under the checksum, too
				at := strings.Index(err.Error(), "computed checksum ")
				var sum uint64
				_, scan := fmt.Sscanf(err.Error()[at:], "computed checksum %d", &sum)
				must(t, scan)
				binary.LittleEndian.PutUint64(content, sum)
				must(t, os.WriteFile(path, content, 0o600))
				err = use(path, Options{})
			}
			if got := kindsOf(err); got != c.kinds {
				t.Errorf("got %q: %v", got, err)
			}
		})
	}
}

// A log that is cut opens, short of rows. That is no wish of ours: whoever opens
// a file must know what should be in it.
func TestDamagedLogIsNamedSo(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.duckdb")
	_, conn := open(t, path)
	must(t, conn.Exec(t.Context(), "CREATE TABLE t (id BIGINT PRIMARY KEY, text TEXT)"))
	for range 10 {
		must(t, commitRows(conn, 100))
	}
	file, err := os.ReadFile(path)
	must(t, err)
	log, err := os.ReadFile(path + ".wal")
	must(t, err)
	flip := func(at int) []byte {
		l := append([]byte{}, log...)
		l[at] ^= 1
		return l
	}
	for _, c := range []struct {
		name  string
		log   []byte
		kinds string
		rows  int
	}{
		{"whole", log, "", 1000},
		{"cut in half", log[:len(log)/2], "", 500},
		{"flip", flip(len(log) / 2), "wal", 0},
		{"flip in the first entry", flip(32), "wal", 0},
		{"flip in the last byte", flip(len(log) - 1), "wal", 0},
		{"flip in the first byte", flip(0), "other", 0}, // it opens without the table
		{"zeros behind", append(append([]byte{}, log[:len(log)/2]...), make([]byte, 4096)...), "wal", 0},
		{"empty", nil, "other", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "y.duckdb")
			must(t, os.WriteFile(path, file, 0o600))
			must(t, os.WriteFile(path+".wal", c.log, 0o600))
			db, err := Open(t.Context(), path, Options{})
			var n int
			if err == nil {
				err = errors.Join(scanOne(db, &n, "SELECT count(*) FROM t"), db.Close())
			}
			if got := kindsOf(err); got != c.kinds || n != c.rows {
				t.Errorf("got %q, %d rows: %v", got, n, err)
			}
		})
	}
}

func TestPlaceThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "w.duckdb"), sample(t), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "w.duckdb.wal"), 0o700))
	for _, c := range []struct{ name, path, kinds string }{
		{"no folder", filepath.Join(dir, "none", "x.duckdb"), "io"},
		{"a folder", dir, "io"},
		{"below a file", filepath.Join(dir, "file", "x.duckdb"), "io"},
		{"the log is a folder", filepath.Join(dir, "w.duckdb"), "wal"},
		{"the words of another error in the path", filepath.Join(dir, "Corrupt WAL file: fsync failed!: No space left on device", "x.duckdb"), "io"},
		{"more statements than one", "", "other"},
	} {
		db, err := Open(t.Context(), c.path, Options{})
		if err == nil {
			_, err = db.Query(t.Context(), "CREATE TABLE t (i INT); SELECT 1")
			var n int
			if e := scanOne(db, &n, "SELECT count(*) FROM duckdb_tables()"); e != nil || n != 0 {
				t.Errorf("%s: %d tables: %v", c.name, n, e)
			}
			must(t, db.Close())
		}
		if got := kindsOf(err); got != c.kinds {
			t.Errorf("%s: got %q: %v", c.name, got, err)
		}
	}
}

// The settings are no longer ours behind a # in the path, and the file is not
// the one that was meant behind a ?.
func TestPathThatTheDriverMisreadsIsRefused(t *testing.T) {
	for _, name := range []string{"a b", "a&b=c", "a'b", "ä", "a:b", "md:a", "sqlite:a", "~", "a?b", "a#b", "a%b", "a%41", "a\nb"} {
		dir := filepath.Join(t.TempDir(), name)
		must(t, os.Mkdir(dir, 0o700))
		t.Chdir(filepath.Dir(dir))
		path := filepath.Join(name, "x.duckdb")
		db, err := Open(t.Context(), path, Options{})
		if strings.ContainsAny(name, "?#%\n") {
			if err == nil {
				t.Errorf("%q is accepted", name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		var autoload string
		must(t, scanOne(db, &autoload, "SELECT current_setting('autoload_known_extensions')"))
		must(t, db.Close())
		if _, err := os.Stat(filepath.Join(dir, "x.duckdb")); err != nil || autoload != "false" {
			t.Errorf("%q: autoload is %s: %v", name, autoload, err)
		}
	}
}

func TestLockNamesItsHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "(PID 1)", "x.duckdb")
	must(t, os.Mkdir(filepath.Dir(path), 0o700))
	c := startChild(t, path)
	c.all("open", "create", "commit")
	_, err := Open(t.Context(), path, Options{})
	var locked *LockedError
	if !errors.As(err, &locked) || !errors.Is(err, ErrLocked) || locked.PID != fmt.Sprint(c.Process.Pid) {
		t.Errorf("got %v, the holder is %d", err, c.Process.Pid)
	}
	c.kill()
	db, err := Open(t.Context(), path, Options{})
	must(t, err)
	var n int
	must(t, scanOne(db, &n, "SELECT count(*) FROM t"))
	must(t, db.Close())
	if n != 10 {
		t.Errorf("%d rows are left after the kill", n)
	}
}

func TestStatementErrors(t *testing.T) {
	db, conn := open(t, "")
	ctx := t.Context()
	must(t, conn.Exec(ctx, "CREATE TABLE t (id TEXT PRIMARY KEY, n BIGINT CHECK (n > 0), b BLOB NOT NULL)"))
	must(t, conn.Exec(ctx, "INSERT INTO t VALUES ('a', 1, ''), ('FATAL Error: fsync failed!', 1, ''), ('x: No space left on device', 1, '')"))
	slow := func() error { // its time begins with it, not with the table
		soon, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		return conn.Exec(soon, "SELECT sum(hash(a.range)) FROM range(100000000000) a")
	}
	gone, end := context.WithCancel(ctx)
	end()
	query := func(text string) error { _, err := db.Query(ctx, text); return err }
	for _, c := range []struct {
		name  string
		err   error
		kinds string
	}{
		{"duplicate", conn.Exec(ctx, "INSERT INTO t VALUES ('a', 1, '')"), "constraint"},
		{"duplicate, appended", conn.Append("t", [][]any{{"a", int64(1), []byte{}}}), "constraint"},
		{"duplicate of a wicked name", conn.Exec(ctx, "INSERT INTO t VALUES ('FATAL Error: fsync failed!', 1, '')"), "constraint"},
		{"the same, appended", conn.Append("t", [][]any{{"FATAL Error: fsync failed!", int64(1), []byte{}}}), "constraint"},
		{"another, appended", conn.Append("t", [][]any{{"x: No space left on device", int64(1), []byte{}}}), "constraint"},
		{"null", conn.Exec(ctx, "INSERT INTO t VALUES ('b', 1, NULL)"), "constraint"},
		{"null, appended", conn.Append("t", [][]any{{"b", int64(1), nil}}), "constraint"},
		{"check", conn.Exec(ctx, "INSERT INTO t VALUES ('b', 0, '')"), "constraint"},
		{"check, appended", conn.Append("t", [][]any{{"b", int64(0), []byte{}}}), "constraint"},
		{"words of a caller", query("SELECT error('FATAL Error: fsync failed!')"), "other"},
		{"words of a caller at the end", query("SELECT error('x: No space left on device')"), "other"},
		{"words of a caller in a cast", query("SELECT 'IO Error: Failure while replaying WAL file'::INT"), "other"},
		{"syntax", query("SELEC 1"), "other"},
		{"no table", query("SELECT * FROM none"), "other"},
		{"no table to append to", conn.Append("none", nil), "other"},
		{"two statements", query("SELECT 1; SELECT 2"), "other"},
		{"two statements to execute", conn.Exec(ctx, "DELETE FROM t; DELETE FROM t"), "other"},
		{"slow", slow(), "deadline interrupted"},
		{"gone", conn.Exec(gone, "DELETE FROM t"), "other"},
	} {
		if got := kindsOf(c.err); got != c.kinds {
			t.Errorf("%s: got %q: %v", c.name, got, c.err)
		}
		if db.Dead() != nil {
			t.Fatalf("%s: the instance is dead: %v", c.name, db.Dead())
		}
	}
	var n int
	must(t, scanOne(db, &n, "SELECT count(*) FROM t"))
	if n != 3 {
		t.Errorf("%d rows are left", n)
	}
}

func TestReadOnlyIsReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.duckdb")
	if _, err := Open(t.Context(), path, Options{ReadOnly: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	content := sample(t)
	must(t, os.WriteFile(path, content, 0o600))
	if got := kindsOf(use(path, Options{ReadOnly: true})); got != "readonly" {
		t.Errorf("appending is %q", got)
	}
	db, err := Open(t.Context(), path, Options{ReadOnly: true})
	must(t, err)
	conn, err := db.Conn(t.Context())
	must(t, err)
	if got := kindsOf(conn.Exec(t.Context(), "DELETE FROM t")); got != "readonly" {
		t.Errorf("deleting is %q", got)
	}
	must(t, errors.Join(conn.Close(), db.Close()))
	if after, err := os.ReadFile(path); err != nil || string(after) != string(content) {
		t.Errorf("the file has changed: %v", err)
	}
}

// What the tests on files could not provoke everywhere, word for word as it was
// seen.
func TestWordsThatWereSeen(t *testing.T) {
	for _, c := range []struct {
		kind  duckdb.ErrorType
		text  string
		kinds string
	}{
		{duckdb.ErrorTypeIO, `IO Error: Cannot open file "/d/x.duckdb": Permission denied`, "readonly"},
		{duckdb.ErrorTypeIO, `IO Error: Cannot open file "/d/x.duckdb": Too many open files`, "io"},
		{duckdb.ErrorTypeIO, `IO Error: Failure while replaying WAL file "/d/x.duckdb.wal": Cannot open file "/d/x.duckdb.wal": Permission denied`, "readonly"},
		{duckdb.ErrorTypeIO, `IO Error: Could not set lock on file "/d/x.duckdb": No locks available`, "locked"},
		{duckdb.ErrorTypeTransaction, `TransactionContext Error: Failed to commit: Could not write file "/d/x.duckdb.wal": Disk quota exceeded`, "full"},
		{duckdb.ErrorTypeTransaction, `TransactionContext Error: Cannot CHECKPOINT: there are other write transactions active.`, "other"},
		{duckdb.ErrorTypeFatal, "FATAL Error: Failed: database has been invalidated because of a previous fatal error. The database must be restarted prior to being used again.\nOriginal error: \"fsync failed!\"", "sync"},
		{duckdb.ErrorTypeInternal, "INTERNAL Error: Failure while replaying WAL file \"/d/x.duckdb.wal\": Calling DatabaseManager::GetDefaultDatabase with no default database set\nThis error signals", "wal"},
		{duckdb.ErrorTypeInvalid, "Failed to append: Interrupted!", "interrupted"},
	} {
		if got := kindsOf(classify(&duckdb.Error{Type: c.kind, Msg: c.text})); got != c.kinds {
			t.Errorf("%s: %q", c.text, got)
		}
	}
	if got := (&LockedError{PID: "7"}).Error(); got != "database file is held by another process (process 7)" {
		t.Errorf("got %q", got)
	}
	if err := classify(syscall.EIO); err != syscall.EIO {
		t.Errorf("got %v", err)
	}
}
