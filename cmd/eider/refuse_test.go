package main

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/eiderdb/eider/core/duck"
)

// change runs statements on the metadata of a stopped server.
func change(t *testing.T, dir string, statements ...string) {
	t.Helper()
	db, err := duck.Open(t.Context(), filepath.Join(dir, "metadata.duckdb"), duck.Options{})
	mustDo(t, err)
	conn, err := db.Conn(t.Context())
	mustDo(t, err)
	for _, s := range statements {
		mustDo(t, conn.Exec(t.Context(), s))
	}
	mustDo(t, conn.Close())
	mustDo(t, db.Close())
}

// chmodAll lets nobody write below a folder, or the owner again.
func chmodAll(t *testing.T, dir string, file, folder fs.FileMode) {
	t.Helper()
	mustDo(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, folder)
		}
		return os.Chmod(path, file)
	}))
}

// newerStorage gives a database the version of a DuckDB to come. The version is
// under a checksum, which DuckDB tells when it does not fit.
func newerStorage(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	mustDo(t, err)
	const versionAt = 12
	binary.LittleEndian.PutUint64(b[versionAt:], 200)
	mustDo(t, os.WriteFile(path, b, 0o600))
	_, err = duck.Open(t.Context(), path, duck.Options{ReadOnly: true})
	_, found, _ := strings.Cut(fmt.Sprint(err), "computed checksum ")
	var sum uint64
	_, err = fmt.Sscanf(found, "%d", &sum)
	mustDo(t, err)
	binary.LittleEndian.PutUint64(b, sum)
	mustDo(t, os.WriteFile(path, b, 0o600))
}

func truncate(part func(size int64) int64) func(t *testing.T, dir string) (args []string, undo func()) {
	return func(t *testing.T, dir string) ([]string, func()) {
		path := filepath.Join(dir, "metadata.duckdb")
		info, err := os.Stat(path)
		mustDo(t, err)
		mustDo(t, os.Truncate(path, part(info.Size())))
		return nil, nil
	}
}

// A start that cannot go on says why, ends with a code of its own and leaves the
// data folder as it was: where the hindrance can be taken away, the next start
// has everything.
func TestStartThatMustFail(t *testing.T) {
	k := killFolder(t, true)
	for _, c := range []struct {
		name   string
		code   int
		says   string
		hinder func(t *testing.T, dir string) (args []string, undo func())
	}{
		{"unknown setting", 2, "did you mean EIDER_HTTP_LISTEN?", func(*testing.T, string) ([]string, func()) {
			return []string{"EIDER_HTTP_LISTN=x"}, func() {}
		}},
		{"nothing may be written", 4, "permission denied", func(t *testing.T, dir string) ([]string, func()) {
			chmodAll(t, dir, 0o400, 0o500)
			undo := func() { chmodAll(t, dir, 0o600, 0o700) }
			t.Cleanup(undo)
			return []string{unprivileged}, undo
		}},
		{"the metadata may not be written", 4, "Permission denied", func(t *testing.T, dir string) ([]string, func()) {
			path := filepath.Join(dir, "metadata.duckdb")
			mustDo(t, os.Chmod(path, 0o400))
			return []string{unprivileged}, func() { mustDo(t, os.Chmod(path, 0o600)) }
		}},
		{"a file where a folder belongs", 4, "not a directory", func(t *testing.T, dir string) ([]string, func()) {
			path := filepath.Join(dir, "trash")
			mustDo(t, os.Remove(path))
			mustDo(t, os.WriteFile(path, nil, 0o600))
			return nil, func() { mustDo(t, os.Remove(path)) }
		}},
		{"a trash that is a link", 4, "trash is a symbolic link", func(t *testing.T, dir string) ([]string, func()) {
			path, elsewhere := filepath.Join(dir, "trash"), t.TempDir()
			mustDo(t, os.Remove(path))
			mustDo(t, os.Symlink(elsewhere, path))
			mustDo(t, os.WriteFile(filepath.Join(elsewhere, "file"), nil, 0o600))
			return nil, func() {
				if names := listing(t, elsewhere); names != "file" {
					t.Errorf("behind the link there is left %q", names)
				}
				mustDo(t, os.Remove(path))
			}
		}},
		{"full disk", 5, "there is no room", func(*testing.T, string) ([]string, func()) {
			return []string{noFileGrows}, func() {}
		}},
		{"port in use", 6, "another process listens there", func(t *testing.T, _ string) ([]string, func()) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			mustDo(t, err)
			t.Cleanup(func() { l.Close() })
			return []string{"--listen", l.Addr().String()}, func() {}
		}},
		{"socket in use", 6, "another process listens there", func(t *testing.T, _ string) ([]string, func()) {
			path := filepath.Join(t.TempDir(), "s")
			l, err := net.Listen("unix", path)
			mustDo(t, err)
			t.Cleanup(func() { l.Close() })
			return []string{"--listen", "unix:" + path}, func() {}
		}},
		{"newer schema", 7, "it has schema projects/1000, this version knows", func(t *testing.T, dir string) ([]string, func()) {
			change(t, dir, `INSERT INTO schema_version VALUES ('projects', 1000, now())`)
			return nil, func() { change(t, dir, `DELETE FROM schema_version WHERE number = 1000`) }
		}},
		{"schema of a module that is not there", 7, "it has schema to_come/1", func(t *testing.T, dir string) ([]string, func()) {
			change(t, dir, `INSERT INTO schema_version VALUES ('to_come', 1, now())`)
			return nil, func() { change(t, dir, `DELETE FROM schema_version WHERE owner = 'to_come'`) }
		}},
		{"newer database file", 7, "newer", func(t *testing.T, dir string) ([]string, func()) {
			path := filepath.Join(dir, "metadata.duckdb")
			whole, err := os.ReadFile(path)
			mustDo(t, err)
			newerStorage(t, path)
			return nil, func() { mustDo(t, os.WriteFile(path, whole, 0o600)) }
		}},
		{"no metadata", 8, "missing or empty", func(t *testing.T, dir string) ([]string, func()) {
			path := filepath.Join(dir, "metadata.duckdb")
			mustDo(t, os.Rename(path, path+".aside"))
			return nil, func() { mustDo(t, os.Rename(path+".aside", path)) }
		}},
		{"empty metadata", 8, "missing or empty", truncate(func(int64) int64 { return 0 })},
		{"metadata cut in its header", 8, "backup", truncate(func(int64) int64 { return 4000 })},
		{"metadata cut behind its header", 8, "backup", truncate(func(int64) int64 { return 12288 })},
		{"metadata cut in half", 8, "backup", truncate(func(size int64) int64 { return size / 2 })},
		{"metadata without its last block", 8, "backup", truncate(func(size int64) int64 { return size - 256<<10 })},
		{"metadata without its last byte", 8, "backup", truncate(func(size int64) int64 { return size - 1 })},
		{"metadata of something else", 8, "backup", func(t *testing.T, dir string) ([]string, func()) {
			mustDo(t, os.WriteFile(filepath.Join(dir, "metadata.duckdb"), []byte(strings.Repeat("no database ", 2000)), 0o600))
			return nil, nil
		}},
		{"rows altered", 11, "has another hash", func(t *testing.T, dir string) ([]string, func()) {
			change(t, dir, fmt.Sprintf(`UPDATE operations_log SET hash = 'x' WHERE id = %d`, k.head))
			return nil, nil
		}},
		{"rows deleted", 10, fmt.Sprintf("the checkpoint says %d", k.head), func(t *testing.T, dir string) ([]string, func()) {
			change(t, dir, fmt.Sprintf(`DELETE FROM operations_log WHERE id = %d`, k.head))
			return nil, nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := copyFolder(t, k.dir)
			args, undo := c.hinder(t, dir)
			before := contents(t, dir)
			r := runEider(t, append([]string{"serve", "--data-dir", dir}, args...)...)
			if r.code != c.code || !strings.Contains(r.message, c.says) || !strings.HasPrefix(r.message, "eider: ") {
				t.Errorf("it ended with %d: %s", r.code, r.message)
			}
			if what := changed(before, contents(t, dir)); what != nil {
				t.Errorf("it changed: %v", what)
			}
			if undo == nil {
				return
			}
			undo()
			s, err := startHere(t, dir)
			mustDo(t, err)
			defer s.Stop()
			if got := projectIDs(s); !slices.Equal(got, k.ids) {
				t.Errorf("then there are the projects %v of %v", got, k.ids)
			}
		})
	}
}

func TestSecondServerIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	s := serve(t, dir)
	r := runEider(t, "serve", "--data-dir", dir)
	if r.code != 3 || !strings.Contains(r.message, fmt.Sprintf("another server uses the data folder %s: locked by another process (process %d)", dir, s.cmd.Process.Pid)) {
		t.Errorf("it ended with %d: %s", r.code, r.message)
	}
	s.Want(201, childKey, "POST /projects", `{"id":"p"}`)
	s.stop(t)
}

// Most of the file is read when it is needed only. What is missing shows at the
// start all the same.
func TestCutMetadataIsRefusedAfterACleanStop(t *testing.T) {
	k := killFolder(t, true)
	s, err := startHere(t, k.dir)
	mustDo(t, err)
	s.Want(201, childKey, "POST /projects", `{"id":"last"}`)
	s.Stop()
	// Rows that no start needs, as old ones of the log, come to be the file's end.
	rows := `AS SELECT i, md5(i::TEXT) FROM range(100000) t(i)`
	change(t, k.dir, `CREATE TABLE before `+rows, `CHECKPOINT`, `CREATE TABLE behind `+rows, `CHECKPOINT`,
		`DROP TABLE before`, `CHECKPOINT`, `CREATE TABLE other (i BIGINT)`, `CHECKPOINT`)
	info, err := os.Stat(filepath.Join(k.dir, "metadata.duckdb"))
	mustDo(t, err)
	if _, err := os.Stat(filepath.Join(k.dir, walName)); err == nil {
		t.Fatal("there is a write-ahead log")
	}
	started := 0
	cuts := []int64{info.Size() - 1, info.Size() - 256<<10, info.Size() - 3*256<<10, info.Size() / 2, 12288 + 256<<10, 12288, 12287, 4096, 1}
	for _, at := range cuts {
		dir := copyFolder(t, k.dir)
		mustDo(t, os.Truncate(filepath.Join(dir, "metadata.duckdb"), at))
		before := contents(t, dir)
		s, err := startHere(t, dir)
		if err == nil { // what is missing may have been free
			started++
			if v := s.Want(200, childKey, "GET /operations/verify", ""); v.JSON["verified"] != true || len(projectIDs(s)) != len(k.ids)+1 {
				t.Errorf("cut to %d of %d bytes it starts, and not whole: %s", at, info.Size(), v.Body)
			}
			s.Stop()
			continue
		}
		if exitCode(err) != 8 {
			t.Errorf("cut to %d of %d bytes it ends with %d: %v", at, info.Size(), exitCode(err), err)
		}
		if what := changed(before, contents(t, dir)); what != nil {
			t.Errorf("cut to %d bytes, it changed: %v", at, what)
		}
	}
	if started > 2 {
		t.Errorf("of %d cuts %d were not met", len(cuts), started)
	}
}

// A repair of the log must not cut it for what another file lacks.
func TestRepairDoesNotCutTheLogForACutDatabase(t *testing.T) {
	k := killFolder(t, true)
	path := filepath.Join(k.dir, "metadata.duckdb")
	info, err := os.Stat(path)
	mustDo(t, err)
	mustDo(t, os.Truncate(path, info.Size()/2))
	before := contents(t, k.dir)
	if r := runEider(t, "repair", "--wal", "--data-dir", k.dir); r.code != 8 || !strings.Contains(r.message, "it is not the write-ahead log that is damaged") {
		t.Errorf("it ended with %d: %s%s", r.code, r.out, r.message)
	}
	if what := changed(before, contents(t, k.dir)); what != nil {
		t.Errorf("it changed: %v", what)
	}
}

// A file system that is mounted read-only, where one may be mounted.
func TestReadOnlyFileSystem(t *testing.T) {
	k := killFolder(t, true)
	before := contents(t, k.dir)
	exe, err := os.Executable()
	mustDo(t, err)
	mount := `mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 77; exec "$0" serve --data-dir "$1"`
	c := exec.Command("/bin/sh", "-c", mount, exe, k.dir)
	c.Env = append(os.Environ(), "EIDER_TEST_AS_COMMAND=1", "EIDER_HTTP_LISTEN=127.0.0.1:0")
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	said, _ := c.CombinedOutput()
	if c.ProcessState == nil || c.ProcessState.ExitCode() == 77 {
		t.Logf("nobody may mount here, TestStartThatMustFail has to do: %s", said)
		return
	}
	if c.ProcessState.ExitCode() != 4 || !strings.Contains(string(said), "read-only file system") {
		t.Errorf("it ended with %d: %s", c.ProcessState.ExitCode(), said)
	}
	if what := changed(before, contents(t, k.dir)); what != nil {
		t.Errorf("it changed: %v", what)
	}
}
