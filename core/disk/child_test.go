package disk

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// What this test binary does as a child of itself, by the first argument.
var children = map[string]func(args []string) error{
	"lock":     lockUntilEOF,
	"inherit":  holdUntilEOF,
	"tmpfs":    onTmpfs,
	"limit":    underLimit,
	"readonly": onReadOnly,
	"exit":     func([]string) error { return nil },
}

const childVariable = "EIDER_DISK_CHILD"

func TestMain(m *testing.M) {
	do, ok := children[os.Getenv(childVariable)]
	if !ok {
		os.Exit(m.Run())
	}
	if err := do(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func child(kind string, args ...string) *exec.Cmd {
	c := exec.Command("/proc/self/exe", args...)
	c.Env = append(os.Environ(), childVariable+"="+kind)
	c.Stderr = os.Stderr
	return c
}

// holder is a child that holds a lock until it is let go.
type holder struct {
	*exec.Cmd
	stdin io.WriteCloser
}

func hold(t *testing.T, c *exec.Cmd) *holder {
	t.Helper()
	in, err := c.StdinPipe()
	must(t, err)
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("the child said %q: %v", line, err)
	}
	return &holder{c, in}
}

func (h *holder) end(t *testing.T) {
	t.Helper()
	must(t, h.stdin.Close())
	must(t, h.Wait())
}

func lockUntilEOF(args []string) error {
	if _, err := Lock(args[0]); err != nil {
		return err
	}
	return holdUntilEOF(nil)
}

func holdUntilEOF([]string) error {
	fmt.Println("held")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// mountable are the attributes of a child that may mount file systems, which
// nobody else sees and which end with it.
func mountable() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}
