package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What a child of the tests may be without or bound by, from its environment.
const (
	unprivileged = "EIDER_TEST_UNPRIVILEGED=1" // the mode of a file counts, for root too
	noFileGrows  = "EIDER_TEST_FILE_SIZE=0"    // no byte can be written to any file
	smallDisk    = "EIDER_TEST_SMALL_DISK=1"   // its data folder is a disk of smallDiskSize
)

const smallDiskSize = 256 << 20

// ownMounts are the attributes of a child that may mount a file system, which
// nobody else sees and which ends with it.
func ownMounts() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}

// mountDisk makes the data folder of the command a disk of its own.
func mountDisk() {
	dir := os.Args[slices.Index(os.Args, "--data-dir")+1]
	if err := syscall.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%d", smallDiskSize)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(126)
	}
}

// beChild prepares the process to be the command: it binds it as its environment
// says and takes out of that what is no setting.
func beChild() {
	if os.Getenv("EIDER_TEST_UNPRIVILEGED") != "" {
		os.Unsetenv("EIDER_TEST_UNPRIVILEGED")
		// What is dropped from the bounding set is gone after the next exec. Who may
		// not drop it does not have it.
		runtime.LockOSThread()
		_ = unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_DAC_OVERRIDE, 0, 0, 0)
		fmt.Fprintln(os.Stderr, syscall.Exec("/proc/self/exe", os.Args, os.Environ()))
		os.Exit(126)
	}
	if os.Getenv("EIDER_TEST_SMALL_DISK") != "" {
		mountDisk()
	}
	if limit, err := strconv.ParseUint(os.Getenv("EIDER_TEST_FILE_SIZE"), 10, 64); err == nil {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(126)
		}
	}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if slices.ContainsFunc(forTests, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			os.Unsetenv(name)
		}
	}
}

// ended is what a command that has ended left behind.
type ended struct {
	code         int
	out, message string
}

// runEider runs the command to its end, which must come by itself, as a process of
// its own. Arguments that are variables go into its environment.
func runEider(t testing.TB, args ...string) ended {
	t.Helper()
	exe, err := os.Executable()
	mustDo(t, err)
	c := exec.Command(exe)
	c.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "EIDER_") })
	c.Env = append(c.Env, "EIDER_TEST_AS_COMMAND=1", "EIDER_STORAGE_MIN_FREE=1MiB", "EIDER_STORAGE_BALLAST=0",
		"EIDER_HTTP_LISTEN=127.0.0.1:0", "EIDER_AUTH_ROOT_KEY="+childKey)
	for _, a := range args {
		if strings.HasPrefix(a, "EIDER_") || strings.HasPrefix(a, "LD_PRELOAD=") {
			c.Env = append(c.Env, a)
		} else {
			c.Args = append(c.Args, a)
		}
	}
	var out, message bytes.Buffer
	c.Stdout, c.Stderr = &out, &message
	mustDo(t, c.Start())
	// A server that should have refused to start would serve for ever.
	watch := time.AfterFunc(time.Minute, func() { _ = c.Process.Kill() })
	defer watch.Stop()
	_ = c.Wait() // the code tells more
	return ended{c.ProcessState.ExitCode(), out.String(), message.String()}
}

// head is the newest row of the log, along which the chain must hold.
func (c *child) head(t *testing.T) int64 {
	t.Helper()
	v := c.Want(200, childKey, "GET /operations/verify", "")
	if v.JSON["verified"] != true {
		t.Errorf("the chain does not hold: %s", v.Body)
	}
	id, _ := v.JSON["last_id"].(float64)
	return int64(id)
}

// contents maps the files below a folder to what is in them. What a start makes
// anew, and what is only there while a process runs, begins with a dot or is a
// socket, and does not count.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); path != dir && (strings.HasPrefix(name, ".") || d.Type() == fs.ModeSocket) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		name, _ := filepath.Rel(dir, path)
		if d.IsDir() {
			all[name+"/"] = ""
			return nil
		}
		if d.Type() == fs.ModeSymlink {
			to, err := os.Readlink(path)
			all[name] = "-> " + to
			return err
		}
		text, err := os.ReadFile(path)
		all[name] = fmt.Sprintf("%d bytes, %x", len(text), sha256.Sum256(text))
		return err
	})
	mustDo(t, err)
	return all
}

// changed says what differs between two folders' contents.
func changed(before, after map[string]string) []string {
	var all []string
	for name, content := range before {
		if now, ok := after[name]; !ok {
			all = append(all, name+" has gone")
		} else if now != content {
			all = append(all, fmt.Sprintf("%s was %s and is %s", name, content, now))
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			all = append(all, name+" is new")
		}
	}
	slices.Sort(all)
	return all
}

func copyFolder(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	mustDo(t, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(from, path)
		target := filepath.Join(to, name)
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o700)
		case d.Type() == fs.ModeSocket:
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, text, 0o600)
	}))
	return to
}

func mustDo(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
