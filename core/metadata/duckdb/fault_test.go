package duckdb_test

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/disk/faultshim"
)

// The store over real files, each of which fails at one call of one write.
func TestWriteMeetsAFaultOfTheDisk(t *testing.T) {
	type rule = faultshim.Rule
	const log, file = ".wal", "metadata.duckdb$"
	for _, c := range []struct {
		name  string
		rule  rule
		how   string
		code  eider.Code
		full  int  // times that room was asked for
		fatal bool // and no write goes on
		rows  int  // afterwards, with one more write where they go on
	}{
		{"no space once", rule{Call: faultshim.Write, Path: log, Nth: 1, Errno: syscall.ENOSPC}, "", "", 1, false, 3},
		{"no space", rule{Call: faultshim.Write, Path: log, Errno: syscall.ENOSPC}, "", eider.StorageFull, 1, false, 2},
		{"bad disk once", rule{Call: faultshim.Write, Path: log, Nth: 1, Errno: syscall.EIO}, "", eider.StorageUnavailable, 0, false, 2},
		{"fsync", rule{Call: faultshim.Fsync, Path: log, Nth: 1, Errno: syscall.EIO}, "", eider.StorageUnavailable, 0, true, 1},
		{"fsync without space", rule{Call: faultshim.Fsync, Path: log, Nth: 1, Errno: syscall.ENOSPC}, "", eider.StorageUnavailable, 0, true, 1},
		{"checkpoint without space", rule{Call: faultshim.Pwrite, Path: file, Nth: 1, Errno: syscall.ENOSPC}, "checkpoints", "", 1, false, 3},
		{"checkpoint on a bad disk", rule{Call: faultshim.Pwrite, Path: file, Nth: 1, Errno: syscall.EIO}, "checkpoints", "", 0, false, 3},
		{"fsync of a checkpoint", rule{Call: faultshim.Fsync, Path: file, Nth: 1, Errno: syscall.EIO}, "checkpoints", "", 0, true, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "metadata.duckdb")
			p := startChild(t, path, c.how)
			if a := p.do("write"); a.Code != "" {
				t.Fatal(a.Text)
			}
			p.do("wait")
			must(t, p.control.Arm(c.rule))
			met := p.do("write")
			p.do("wait")
			must(t, p.control.Arm())
			after := p.do("write")
			if met.Code != c.code || after.Full != c.full || after.Ready == c.fatal || (after.Fatal == 1) != c.fatal {
				t.Errorf("got %+v, then %+v", met, after)
			}
			if c.fatal && after.Code != eider.StorageUnavailable || !c.fatal && after.Code != "" {
				t.Errorf("a later write: %+v", after)
			}
			calls, err := p.control.Calls()
			must(t, err)
			if tried := faultshim.Of(calls, faultshim.Pwrite, file); len(tried) > 0 {
				t.Errorf("a checkpoint that cost an instance is tried again at once: %v", tried)
			}
			if a := p.do("close"); a.Text != "" {
				t.Errorf("close: %s", a.Text)
			}
			calls, err = p.control.Calls()
			must(t, err)
			if c.fatal && len(calls) > 0 {
				t.Errorf("after the failed fsync the process still did %v", calls)
			}
			must(t, p.in.Close())
			must(t, p.cmd.Wait())
			stored(t, path, c.fatal, c.rows)
		})
	}
}

// stored opens the database in a process without faults. What was refused after
// a failed fsync may be there or not.
func stored(t *testing.T, path string, orMore bool, want int) {
	t.Helper()
	store, rows, err := openStore(path, false, nil)
	must(t, err)
	if n := rows.Len(); n != want && !(orMore && n == want+1) {
		t.Errorf("%d rows are stored, want %d", n, want)
	}
	must(t, store.Close())
}
