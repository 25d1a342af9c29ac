package web

import (
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/eiderdb/eider/core/waittest"
	"golang.org/x/sys/unix"
)

// socketPath returns a path that is short enough for a socket.
func socketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "door")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s.sock")
}

func TestPortInUse(t *testing.T) {
	d := newDoor(t, nil).open(t)
	if err := newIdle(t).Listen("second", d.addr, ListenOptions{}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the error is %v; want EADDRINUSE", err)
	}
}

// newIdle returns a server that never serves.
func newIdle(t testing.TB) *door {
	d := newDoor(t, nil)
	t.Cleanup(func() {
		if err := d.Shutdown(); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	return d
}

func TestSocketInUse(t *testing.T) {
	path := socketPath(t)
	d := newDoor(t, func(c *Config) { c.Listen = "unix:" + path })
	d.Handle("GET", "/", RouteOptions{}, text("first"))
	d.open(t)
	if err := newIdle(t).Listen("second", "unix:"+path, ListenOptions{Mode: 0o600}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the error is %v; want EADDRINUSE", err)
	}
	if a := d.do(t, "GET", "/"); a.body != "first" {
		t.Errorf("the first server answers %q", a.body)
	}
}

func TestStaleSocketIsRemoved(t *testing.T) {
	path := socketPath(t)
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false) // as when a process is killed
	stale.Close()
	d := newDoor(t, func(c *Config) { c.Listen = "unix:" + path })
	d.Handle("GET", "/", RouteOptions{}, text("alive"))
	d.open(t)
	if a := d.do(t, "GET", "/"); a.body != "alive" {
		t.Errorf("answered %q", a.body)
	}
	d.shut(t)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket's file is left: %v", err)
	}
}

// A file that is no socket refuses a connection just as a dead socket does. To
// remove it could mean to remove a database.
func TestFileThatIsNoSocketStays(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"file":    func(path string) error { return os.WriteFile(path, []byte("precious"), 0o600) },
		"folder":  func(path string) error { return os.Mkdir(path, 0o700) },
		"symlink": func(path string) error { return os.Symlink("elsewhere", path) },
	} {
		path := socketPath(t)
		if err := put(path); err != nil {
			t.Fatal(err)
		}
		if err := newIdle(t).Listen("public", "unix:"+path, ListenOptions{Mode: 0o600}); err == nil {
			t.Errorf("%s: it listens", name)
		}
		if info, err := os.Lstat(path); err != nil || info.Mode().Type() == fs.ModeSocket {
			t.Errorf("%s: it is gone: %v", name, err)
		}
	}
}

func TestSocketPathThatIsTooLong(t *testing.T) {
	err := newIdle(t).Listen("public", "unix:/tmp/"+strings.Repeat("a", 200), ListenOptions{Mode: 0o600})
	if err == nil || !strings.Contains(err.Error(), "at most 107 bytes") {
		t.Errorf("the error is %v", err)
	}
}

// Who connects before the mode is set stays connected: the socket must never be
// open to others, not even for a moment, whatever the umask.
func TestSocketIsNeverOpenToOthers(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	path := socketPath(t)
	stop := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		for {
			if info, err := os.Lstat(path); err == nil && info.Mode().Perm() != 0o600 {
				t.Errorf("its mode is %v", info.Mode())
				return
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	for range 300 {
		l, err := listen("unix:"+path, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	close(stop)
	looking.Wait()
	unix.Umask(0o077)
	l, err := listen("unix:"+path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("under a narrow umask the mode is %v, %v; want 0660", info.Mode(), err)
	}
}

func TestRequestKnowsItsListener(t *testing.T) {
	p := newPair(t)
	d := newDoor(t, func(c *Config) { c.TLS = p.files })
	d.Handle("GET", "/", RouteOptions{}, func(x *Exchange) error {
		return x.Bytes(200, "text/plain", []byte(x.Listener()+" "+x.SourceIP()))
	})
	if err := d.Listen("admin", "unix:"+socketPath(t), ListenOptions{Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	d.open(t)
	w := dialTo(t, d.Addr("admin"))
	w.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n")
	if a := w.answer("GET"); a.body != "admin local" {
		t.Errorf("on the socket: %q", a.body)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: p.client()}}
	defer client.CloseIdleConnections()
	response, err := client.Get("https://" + d.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body := make([]byte, 64)
	n, _ := response.Body.Read(body)
	if string(body[:n]) != "public 127.0.0.1" {
		t.Errorf("on the port: %q", body[:n])
	}
	if d.Addr("other") != nil {
		t.Error("a listener that is not there has an address")
	}
}

// short is a listener that is out of file descriptors for some calls.
type short struct {
	net.Listener
	mu   sync.Mutex
	errs []error
}

func (l *short) Accept() (net.Conn, error) {
	l.mu.Lock()
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		l.mu.Unlock()
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", err)}
	}
	l.mu.Unlock()
	return l.Listener.Accept()
}

// fasthttp takes any error of Accept but a timeout for the end.
func TestListenerOutlivesAShortage(t *testing.T) {
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := newDoor(t, nil)
	d.Handle("GET", "/", RouteOptions{}, text("alive"))
	l := newListener(&short{Listener: raw, errs: []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ECONNABORTED}},
		"short", 1e9, d.Server.log)
	d.listeners, d.serving = append(d.listeners, l), append(d.serving, l)
	d.open(t)
	w := dialTo(t, raw.Addr())
	w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if a := w.answer("GET"); a.body != "alive" {
		t.Errorf("answered %q", a.body)
	}
	if !strings.Contains(d.log.String(), "connections have to wait") {
		t.Error("the log does not say so")
	}
}

func TestListenerThatIsShortCanBeClosed(t *testing.T) {
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	errs := make([]error, 100)
	for i := range errs {
		errs[i] = syscall.EMFILE
	}
	l := newListener(&short{Listener: raw, errs: errs}, "short", 1e9, newIdle(t).Server.log)
	accepted := make(chan error)
	go func() {
		_, err := l.Accept()
		accepted <- err
	}()
	l.Close()
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept ended with %v", err)
	}
}

// One listener that fails for good ends Serve, so that the process does not go on
// half deaf.
func TestServeEndsWithItsFirstListener(t *testing.T) {
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := newDoor(t, nil)
	l := newListener(&short{Listener: raw, errs: []error{syscall.EINVAL}}, "broken", 1e9, d.Server.log)
	d.listeners, d.serving = append(d.listeners, l), append(d.serving, l)
	if err := d.Listen("public", "127.0.0.1:0", ListenOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := d.Serve(); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("Serve ended with %v", err)
	}
	if err := d.Shutdown(); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

// Clients that take all connections of one listener leave the other's alone: an
// administrator gets in on the socket.
func TestFullListenerLeavesTheOtherOpen(t *testing.T) {
	d := newDoor(t, func(c *Config) { c.MaxConnections = 8 })
	d.Handle("GET", "/", RouteOptions{}, text("root"))
	if err := d.Listen("admin", "unix:"+socketPath(t), ListenOptions{Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	d.open(t)
	var taken []*wire
	for range 8 {
		w := d.dial(t)
		taken = append(taken, w)
		w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if a := w.answer("GET"); a.StatusCode != 200 {
			t.Fatalf("answered %d", a.StatusCode)
		}
	}
	for range 2 * maxRefusing { // one after the other
		w := d.dial(t)
		w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		a := w.answer("GET")
		p := a.problem(t)
		if a.StatusCode != 503 || !a.Close || p.Code != "too_many_connections" || a.Header.Get("Retry-After") != "1" || a.Header.Get("X-Request-Id") != p.RequestID || p.RequestID == "" {
			t.Fatalf("one connection too many is answered %d %v %s", a.StatusCode, a.Header, a.body)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	w := dialTo(t, d.Addr("admin"))
	w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if a := w.answer("GET"); a.StatusCode != 200 {
		t.Errorf("on the socket: %d", a.StatusCode)
	}
	if err := taken[0].Close(); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the place of one that has left is free", func() bool {
		w := d.dial(t)
		w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		return w.answer("GET").StatusCode == 200
	})
}

// Clients that send a byte now and then hold their connections, and nobody else.
func TestSlowClientsHoldNobodyUp(t *testing.T) {
	d := newDoor(t, nil)
	d.Handle("POST", "/echo", RouteOptions{}, echo)
	d.open(t)
	var slow []*wire
	for i := range 200 {
		w := d.dial(t)
		if i%2 == 0 {
			w.send("POST /echo HTTP/1.1\r\nHost: a\r\nX-A") // inside the headers
		} else {
			w.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nh") // inside the body
		}
		slow = append(slow, w)
	}
	for range 20 {
		w := d.dial(t)
		w.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
		if a := w.answer("POST"); a.body != "hello" {
			t.Fatalf("answered %d %q", a.StatusCode, a.body)
		}
	}
	for i, w := range slow {
		if i%2 == 0 {
			w.send(": b\r\nContent-Length: 5\r\n\r\nhello")
		} else {
			w.send("ello")
		}
	}
	for _, w := range slow {
		if a := w.answer("POST"); a.body != "hello" {
			t.Fatalf("a slow client is answered %d %q", a.StatusCode, a.body)
		}
	}
}

func TestVanishedNetworkHasABound(t *testing.T) {
	d := newDoor(t, nil)
	d.Handle("GET", "/", RouteOptions{}, func(x *Exchange) error {
		own, _ := inner(x.fiber.Context().Conn())
		raw, err := own.Conn.(syscall.Conn).SyscallConn()
		if err != nil {
			return err
		}
		var bound int
		err = errors.Join(raw.Control(func(fd uintptr) { bound, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) }), err)
		if err != nil {
			return err
		}
		return x.JSON(200, bound)
	})
	d.open(t)
	if a := d.do(t, "GET", "/"); a.body != "30000" {
		t.Errorf("TCP_USER_TIMEOUT is %s ms; want 30000", a.body)
	}
}
