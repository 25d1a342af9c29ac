package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// server is a child process that answers HTTP.
type server struct {
	cmd     *exec.Cmd
	address string
	root    string        // the root key; empty for the bare handler
	ready   time.Duration // from its start until /health/ready said so

	mu     sync.Mutex
	said   []string // the last lines of its output
	reader sync.WaitGroup
}

const startTimeout = 2 * time.Minute

// serve starts eider on a data folder, with settings as the environment has them,
// and waits until it is ready.
func (b *bench) serve(dir string, settings ...string) (*server, error) {
	begun := time.Now()
	c := exec.Command(b.eider, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0")
	c.Env = settings
	s, err := launch(c, servesAt)
	if err != nil {
		return nil, err
	}
	if err := s.await("/health/ready"); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	s.ready = time.Since(begun)
	key, err := os.ReadFile(filepath.Join(dir, "root.key"))
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	s.root, _, _ = strings.Cut(string(key), "\n")
	return s, nil
}

// servesAt finds the address in the line of the log that tells it.
func servesAt(line string) string {
	var said struct{ Msg, Address string }
	if json.Unmarshal([]byte(line), &said) != nil || said.Msg != "eider serves" {
		return ""
	}
	return said.Address
}

// serveBare starts the bare handler, which answers with the body.
func serveBare(body []byte) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.Command(self, bareCommand)
	c.Stdin = bytes.NewReader(body)
	return launch(c, func(line string) string { return line })
}

// launch starts a process and waits for the line that tells its address.
func launch(c *exec.Cmd, find func(line string) string) (*server, error) {
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "EIDER_") { // settings of whoever runs this
			c.Env = append(c.Env, v)
		}
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.Stderr = c.Stdout
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true} // Ctrl-C is this program's to handle
	if err := c.Start(); err != nil {
		return nil, err
	}
	s := &server{cmd: c}
	addresses := make(chan string, 1)
	s.reader.Go(func() { s.listen(out, find, addresses) })
	select {
	case s.address = <-addresses:
	case <-time.After(startTimeout):
	}
	if s.address == "" {
		return nil, errors.Join(fmt.Errorf("%s did not start", filepath.Base(c.Path)), s.stop())
	}
	return s, nil
}

// listen reads what the process says; it must not block on a full pipe.
func (s *server) listen(out io.Reader, find func(string) string, addresses chan<- string) {
	defer close(addresses)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if address := find(lines.Text()); address != "" {
			select {
			case addresses <- address:
			default:
			}
		}
		s.mu.Lock()
		s.said = append(s.said[max(0, len(s.said)-39):], lines.Text())
		s.mu.Unlock()
	}
}

func (s *server) tail() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.said, "\n")
}

// await asks until the path answers 200.
func (s *server) await(path string) error {
	deadline := time.Now().Add(startTimeout)
	c, err := dial(s.address)
	if err != nil {
		return err
	}
	defer c.close()
	for {
		status, err := c.do("GET", path, "", "")
		if err != nil || status == 200 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s answers %d: %s", path, status, c.body)
		}
		time.Sleep(time.Millisecond)
	}
}

// stop ends the process as an operator would, and waits.
func (s *server) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(startTimeout, func() { _ = s.cmd.Process.Kill() })
	defer kill.Stop()
	s.reader.Wait()
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(s.cmd.Path), err, s.tail())
	}
	return nil
}

// cpu returns the processor time of all threads so far: what getrusage tells,
// of a process that still runs, to the nanosecond.
func (s *server) cpu() (time.Duration, error) { return cpuOf(s.cmd.Process.Pid) }

func cpuOf(pid int) (time.Duration, error) {
	var t unix.Timespec
	clock := ^int32(pid)<<3 | 2 // MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("processor time of a process: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// resident returns the resident size in bytes.
func (s *server) resident() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, errors.New("the server's status tells no resident size")
	}
	kb, err := strconv.ParseInt(fields[0], 10, 64)
	return kb << 10, err
}

// spent measures a load and what a request of it cost the server.
func (s *server) spent(run func() (*result, error)) (*result, time.Duration, error) {
	before, err := s.cpu()
	if err != nil {
		return nil, 0, err
	}
	r, err := run()
	if err != nil {
		return nil, 0, errors.Join(err, errors.New(s.tail()))
	}
	after, err := s.cpu()
	return r, (after - before) / time.Duration(max(1, r.all())), err
}
