package web

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// hub tells when clients leave: one epoll for the whole server waits for the far
// end of each watched connection to close. Reading ahead would do, but not under
// TLS, and would take bytes that belong to the next request.
type hub struct {
	epoll int
	wake  [2]int // a pipe that ends run

	mu      sync.Mutex // also held while epoll is used, so that it is not closed meanwhile
	closed  bool
	next    int32
	watched map[int32]func()
	done    chan struct{}
}

func newHub() (*hub, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch for clients: %w", err)
	}
	h := &hub{epoll: epoll, watched: map[int32]func(){}, done: make(chan struct{})}
	if err := unix.Pipe2(h.wake[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, errors.Join(fmt.Errorf("watch for clients: %w", err), unix.Close(epoll))
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, h.wake[0], &event); err != nil {
		return nil, fmt.Errorf("watch for clients: %w", err)
	}
	go h.run()
	return h, nil
}

func (h *hub) run() {
	defer close(h.done)
	events := make([]unix.EpollEvent, 64)
	for {
		n, err := unix.EpollWait(h.epoll, events, -1)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return
		}
		for _, e := range events[:n] {
			if e.Fd == -1 {
				return
			}
			h.gone(e.Fd)
		}
	}
}

func (h *hub) gone(id int32) {
	h.mu.Lock()
	left := h.watched[id]
	delete(h.watched, id)
	h.mu.Unlock()
	if left != nil {
		left()
	}
}

// watch calls left once if the client of c leaves before the returned function
// is called. c must stay open until then.
func (h *hub) watch(c net.Conn, left func()) (stop func()) {
	own, ok := inner(c)
	if !ok {
		return func() {}
	}
	sc, ok := own.Conn.(syscall.Conn)
	if !ok {
		return func() {}
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return func() {}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return func() {}
	}
	h.next = (h.next + 1) & 0x7fffffff
	id := h.next
	h.watched[id] = left
	// One shot: a client that has left stays gone, and would wake us for ever.
	event := unix.EpollEvent{Events: unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR | unix.EPOLLONESHOT, Fd: id}
	_ = raw.Control(func(fd uintptr) { _ = unix.EpollCtl(h.epoll, unix.EPOLL_CTL_ADD, int(fd), &event) })
	return func() { h.forget(id, raw) }
}

func (h *hub) forget(id int32, raw syscall.RawConn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watched, id)
	if !h.closed {
		_ = raw.Control(func(fd uintptr) { _ = unix.EpollCtl(h.epoll, unix.EPOLL_CTL_DEL, int(fd), nil) })
	}
}

// close ends the hub. Who is still watched is not told; a second close does
// nothing, since the numbers of its files may have new owners by then.
func (h *hub) close() {
	h.mu.Lock()
	again := h.closed
	h.closed = true
	h.mu.Unlock()
	if again {
		return
	}
	_, _ = unix.Write(h.wake[1], []byte{0})
	<-h.done
	_ = unix.Close(h.epoll)
	_ = unix.Close(h.wake[0])
	_ = unix.Close(h.wake[1])
}
