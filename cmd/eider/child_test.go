package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/app/apptest"
)

// childKey is the root key of servers that run as a process of their own.
const childKey = "root-key-of-a-server-that-tests-kill-0123456789"

// child is `eider serve` as a process of its own, which can be killed.
type child struct {
	*apptest.Server
	cmd   *exec.Cmd
	ended chan struct{}

	mu   sync.Mutex
	said []string
}

// serve starts a server on dir, with settings from the environment, and waits
// until it listens.
func serve(t *testing.T, dir string, environ ...string) *child {
	t.Helper()
	c, address := tryServe(t, dir, environ...)
	if address == "" {
		t.Fatalf("the server ended with code %d before it served:\n%s", c.code(), c.log())
	}
	return c
}

// tryServe is serve for a server that may end before it listens: then it has no
// address.
func tryServe(t *testing.T, dir string, environ ...string) (*child, string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.Command(exe, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0"), ended: make(chan struct{})}
	inherited := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "EIDER_") })
	c.cmd.Env = append(inherited, "EIDER_TEST_AS_COMMAND=1", "EIDER_AUTH_ROOT_KEY="+childKey,
		"EIDER_STORAGE_MIN_FREE=1MiB", "EIDER_STORAGE_BALLAST=0")
	c.cmd.Env = append(c.cmd.Env, environ...)
	if slices.Contains(environ, smallDisk) {
		c.cmd.SysProcAttr = ownMounts()
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.cmd.Stderr = c.cmd.Stdout
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	served := make(chan string, 1)
	go func() {
		defer close(c.ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			c.heard(lines.Text(), served)
		}
		_ = c.cmd.Wait()
	}()
	select {
	case address := <-served:
		c.Server = apptest.Connect(t, "http://"+address, dir, childKey)
		return c, address
	case <-c.ended:
		return c, ""
	case <-time.After(time.Minute):
		t.Fatalf("the server does not start:\n%s", c.log())
		return nil, ""
	}
}

func (c *child) heard(line string, served chan<- string) {
	var entry struct{ Msg, Address string }
	if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "eider serves" {
		served <- entry.Address
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = append(c.said, line)
}

// log returns the last lines that the process said.
func (c *child) log() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.said[max(0, len(c.said)-40):], "\n")
}

// kill ends the process by SIGKILL, if it still runs, and waits for its end.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	<-c.ended
}

// stop ends the process cleanly.
func (c *child) stop(t *testing.T) {
	t.Helper()
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	c.wait(t)
	if c.code() != 0 {
		t.Errorf("the server ended with code %d:\n%s", c.code(), c.log())
	}
}

// wait waits until the process has ended by itself.
func (c *child) wait(t *testing.T) {
	t.Helper()
	select {
	case <-c.ended:
	case <-time.After(time.Minute):
		t.Fatalf("the server does not end:\n%s", c.log())
	}
}

// code is the exit code of a process that has ended; -1: by a signal.
func (c *child) code() int { return c.cmd.ProcessState.ExitCode() }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
