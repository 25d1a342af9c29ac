package web

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxSocketPath is the longest path of a unix socket (sun_path, with its zero).
const maxSocketPath = 107

// listen opens an address: host:port, or unix:PATH. A socket file that nobody
// answers on is left of a process that died, and is removed.
func listen(address string, mode os.FileMode) (net.Listener, error) {
	path, isUnix := strings.CutPrefix(address, "unix:")
	if !isUnix {
		return net.Listen("tcp", address)
	}
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("listen on %s: the path of a unix socket may have at most %d bytes", path, maxSocketPath)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, syscall.EADDRINUSE)
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove the stale socket: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// listener accepts connections that know its name, and keeps count of them.
type listener struct {
	net.Listener
	name         string
	writeTimeout time.Duration

	mu    sync.Mutex
	conns map[*conn]struct{}
}

// conn is a connection whose every write has a deadline of its own: fasthttp's
// is for the whole answer and would cut a slow reader of a long one.
type conn struct {
	net.Conn
	owner *listener
}

func newListener(l net.Listener, name string, writeTimeout time.Duration) *listener {
	return &listener{Listener: l, name: name, writeTimeout: writeTimeout, conns: map[*conn]struct{}{}}
}

func (l *listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.tune(raw)
	c := &conn{raw, l}
	l.mu.Lock()
	l.conns[c] = struct{}{}
	l.mu.Unlock()
	return c, nil
}

// tune ends connections whose network has vanished: without it a write waits
// for a quarter of an hour.
func (l *listener) tune(c net.Conn) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(l.writeTimeout.Milliseconds()))
	})
}

// cut closes every connection that is still open.
func (l *listener) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Conn.Close()
	}
}

func (c *conn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.owner.writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *conn) Close() error {
	c.owner.mu.Lock()
	delete(c.owner.conns, c)
	c.owner.mu.Unlock()
	return c.Conn.Close()
}

// inner returns the listener's connection below TLS.
func inner(c net.Conn) (*conn, bool) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	own, ok := c.(*conn)
	return own, ok
}

func listenerOf(c net.Conn) string {
	if own, ok := inner(c); ok {
		return own.owner.name
	}
	return ""
}
