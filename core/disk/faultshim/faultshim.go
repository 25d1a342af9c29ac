// Package faultshim makes the calls by which a child process changes files fail,
// fall short, hang or kill it, and lists them. It is for tests.
//
// It is a small C library, compiled by the test, that LD_PRELOAD puts before
// libc. DuckDB is linked into our binaries but calls libc for every write (open,
// write, pwrite, fsync, ftruncate, fallocate, rename, unlink, remove), so its
// files can be faulted at any point. Go's own system calls do not go through
// libc and are never seen: for those there is disk.FS.Hook. Nor are calls that
// libc makes itself, as behind fwrite.
//
// A test first runs an operation without rules and counts its calls, then runs
// it once for each with a rule:
//
//	control.Arm()
//	run(t, control)
//	calls, err := control.Calls()
//	for n := 1; n <= len(faultshim.Of(calls, faultshim.Fsync, ".wal")); n++ {
//		control.Arm(faultshim.Rule{Call: faultshim.Fsync, Path: ".wal", Nth: n, Kill: true})
//		run(t, control)
//		...
//	}
package faultshim

import (
	_ "embed" // for the C text
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

//go:embed preload/shim.c
var source []byte

// Kind is what a call does, whatever of its several names it was made by.
type Kind string

// The kinds of call.
const (
	Open      Kind = "open"      // open, openat, creat
	Write     Kind = "write"     // write, writev
	Pwrite    Kind = "pwrite"    // pwrite, pwritev
	Fsync     Kind = "fsync"     // fsync
	Fdatasync Kind = "fdatasync" // fdatasync
	Truncate  Kind = "truncate"  // ftruncate
	Fallocate Kind = "fallocate" // fallocate, posix_fallocate
	Rename    Kind = "rename"    // rename, renameat, renameat2
	Unlink    Kind = "unlink"    // unlink, unlinkat, rmdir, remove
)

// Rule is a fault: which calls, and what becomes of them. Of the effects that are
// set Delay comes first, then Short or Done, then Kill, then Errno.
type Rule struct {
	// Call is the kind of call, "" any.
	Call Kind
	// Path is a part of the file's path, at most 255 bytes; with a $ at its end it
	// is the end of the path. Either path of a rename counts.
	Path string
	// Nth is which of these calls it meets, counted from Arm on over all processes:
	// 1 is the first, 0 means each.
	Nth int
	// Onward means the calls after the Nth, too.
	Onward bool

	// Delay makes the call begin later.
	Delay time.Duration
	// Short makes a write that is longer write only so many bytes; the first of a
	// vector at most. 0 is no effect: a write of nothing is an Errno.
	Short int
	// Done has the call carried out before Kill or Errno.
	Done bool
	// Kill ends the process by SIGKILL.
	Kill bool
	// Errno is returned.
	Errno syscall.Errno
}

// matchesPath is what the library does, for Of.
func matchesPath(pattern, path string) bool {
	if end, ok := strings.CutSuffix(pattern, "$"); ok {
		return strings.HasSuffix(path, end)
	}
	return strings.Contains(path, pattern)
}

// Build compiles the library into a folder, with $CC or cc, and returns its path.
func Build(dir string) (string, error) {
	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "cc"
	}
	text, library := filepath.Join(dir, "shim.c"), filepath.Join(dir, "faultshim.so")
	if err := os.WriteFile(text, source, 0o600); err != nil {
		return "", err
	}
	words := append(strings.Fields(compiler), "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-fvisibility=hidden",
		"-U_FORTIFY_SOURCE", "-o", library, text)
	if said, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile the fault shim: %w: %s", err, said)
	}
	return library, nil
}
