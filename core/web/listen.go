package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxSocketPath is the longest path of a unix socket (sun_path, with its zero).
const maxSocketPath = 107

// listen opens an address: host:port, or unix:PATH.
func listen(address string, mode fs.FileMode) (net.Listener, error) {
	path, isUnix := strings.CutPrefix(address, "unix:")
	if !isUnix {
		return net.Listen("tcp", address)
	}
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("listen on %s: the path of a unix socket may have at most %d bytes", path, maxSocketPath)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// The socket has its mode before it has its name: between bind and chmod
	// anybody could connect, and who is connected stays.
	narrow := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) { failed = unix.Fchmod(int(fd), uint32(mode.Perm())) })
		return errors.Join(err, failed)
	}}
	l, err := narrow.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil { // what the umask took away
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// removeStale removes a socket file that nobody answers on: it is left of a
// process that died. Any other file refuses a connection in the same way, and
// stays where it is.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listen on %s: %w", path, err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("listen on %s: there is a file that is not a socket", path)
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("listen on %s: %w", path, syscall.EADDRINUSE)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the stale socket: %w", err)
	}
	return nil
}

// listener accepts connections that know its name, and keeps count of them.
type listener struct {
	net.Listener
	name         string
	writeTimeout time.Duration
	log          *slog.Logger
	once         sync.Once
	closed       chan struct{}

	mu      sync.Mutex
	conns   map[*conn]struct{}
	surplus map[*conn]struct{} // those that are being refused
}

// conn is a connection whose every write has a deadline of its own: fasthttp's
// is for the whole answer and would cut a slow reader of a long one.
type conn struct {
	net.Conn
	owner  *listener
	linger atomic.Bool // see lingering

	mu    sync.Mutex
	deaf  bool // no read waits any more
	muted bool // nor any write
}

func newListener(l net.Listener, name string, writeTimeout time.Duration, log *slog.Logger) *listener {
	return &listener{Listener: l, name: name, writeTimeout: writeTimeout, log: log, closed: make(chan struct{}), conns: map[*conn]struct{}{}, surplus: map[*conn]struct{}{}}
}

// longestRetry is how long a listener that is out of file descriptors waits
// before it tries again.
const longestRetry = time.Second

// Accept waits for a connection. A shortage ends no listener: fasthttp would
// leave its loop on the first EMFILE and never accept again.
func (l *listener) Accept() (net.Conn, error) {
	for retry := 5 * time.Millisecond; ; retry = min(2*retry, longestRetry) {
		raw, err := l.Listener.Accept()
		if err == nil {
			return l.keep(raw), nil
		}
		if !isShortage(err) {
			return nil, err
		}
		l.log.Warn("connections have to wait", "listener", l.name, "error", err)
		select {
		case <-l.closed:
			return nil, net.ErrClosed
		case <-time.After(retry):
		}
	}
}

func isShortage(err error) bool {
	for _, shortage := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, shortage) {
			return true
		}
	}
	return false
}

func (l *listener) keep(raw net.Conn) *conn {
	l.tune(raw)
	c := &conn{Conn: raw, owner: l}
	l.mu.Lock()
	l.conns[c] = struct{}{}
	l.mu.Unlock()
	return c
}

// hasRoom reports whether a connection is one of the first max that are open. One
// that is not is to be refused, and takes no place while it is.
func (l *listener) hasRoom(c net.Conn, max int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	own, ok := inner(c)
	if !ok || len(l.conns) <= max {
		return true
	}
	delete(l.conns, own)
	l.surplus[own] = struct{}{}
	return false
}

// Close stops accepting. Connections stay. A second call does nothing.
func (l *listener) Close() (err error) {
	l.once.Do(func() {
		close(l.closed)
		err = l.Listener.Close()
	})
	return err
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
	for _, all := range []map[*conn]struct{}{l.conns, l.surplus} {
		for c := range all {
			_ = c.Conn.Close()
		}
	}
}

// SetReadDeadline sets until when reads wait, unless they were interrupted.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deaf {
		t = longAgo
	}
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline sets until when writes wait, unless they were interrupted.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.muted {
		t = longAgo
	}
	return c.Conn.SetWriteDeadline(t)
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// interrupt ends every read, now and from now on. The connection can still be
// written to, and has to be closed.
func (c *conn) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deaf = true
	_ = c.Conn.SetReadDeadline(longAgo)
}

// cut ends every write, now and from now on: the rest of an answer is not to be
// sent, and a client that reads nothing must not keep it from ending.
func (c *conn) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.muted = true
	_ = c.Conn.SetWriteDeadline(longAgo)
}

// Write gives the client time for as long as it takes something: only a pause is
// bounded. So a write is cut that got nothing rid within one timeout.
func (c *conn) Write(p []byte) (sent int, err error) {
	for {
		if err := c.SetWriteDeadline(time.Now().Add(c.owner.writeTimeout)); err != nil {
			return sent, err
		}
		n, err := c.Conn.Write(p[sent:])
		if sent += n; !goesOn(n, err) {
			return sent, err
		}
	}
}

// goesOn reports whether a write ended by its deadline whose client takes what comes,
// however slowly.
func goesOn[N int | int64](sent N, err error) bool {
	return sent > 0 && errors.Is(err, os.ErrDeadlineExceeded)
}

// sendSlice is how much the kernel sends of a file under one deadline, in bytes.
const sendSlice = 256 << 10

// ReadFrom lets the kernel send a file, a slice at a time.
func (c *conn) ReadFrom(r io.Reader) (sent int64, err error) {
	limited, ok := r.(*io.LimitedReader)
	into, can := c.Conn.(io.ReaderFrom)
	if !ok || !can {
		return io.Copy(struct{ io.Writer }{c}, r)
	}
	for limited.N > 0 {
		if err := c.SetWriteDeadline(time.Now().Add(c.owner.writeTimeout)); err != nil {
			return sent, err
		}
		size := min(limited.N, sendSlice)
		slice := &io.LimitedReader{R: limited.R, N: size}
		n, err := into.ReadFrom(slice)
		sent, limited.N = sent+n, limited.N-n
		if goesOn(n, err) && slice.N == size-n { // else some was read that was not sent
			continue
		}
		if err != nil || n == 0 {
			return sent, err
		}
	}
	return sent, nil
}

// Close closes the connection, once its client has had time to read the answer
// if there is more of the request on its way.
func (c *conn) Close() error {
	if c.linger.Load() {
		c.sayGoodbye()
	}
	c.owner.mu.Lock()
	delete(c.owner.conns, c)
	delete(c.owner.surplus, c)
	c.owner.mu.Unlock()
	return c.Conn.Close()
}

// maxLinger bounds the wait for a client that goes on sending.
const maxLinger = 500 * time.Millisecond

// sayGoodbye ends our half, and reads what still comes. To close with bytes
// unread sends a reset, which makes clients drop the refusal that they have not
// read yet.
func (c *conn) sayGoodbye() {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	if c.Conn.SetReadDeadline(time.Now().Add(maxLinger)) == nil {
		_, _ = io.Copy(io.Discard, c.Conn)
	}
}

// lingering makes a connection wait for its client when it is closed.
func lingering(c net.Conn) {
	if own, ok := inner(c); ok {
		own.linger.Store(true)
	}
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
