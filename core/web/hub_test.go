package web

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/waittest"
)

// waiting is a route that waits for its context to end, and tells how it did.
type waiting struct {
	begun chan struct{}
	ended chan error
}

func (d *door) wait(path string, watch bool) waiting {
	w := waiting{make(chan struct{}, 64), make(chan error, 64)}
	d.Handle("GET", path, RouteOptions{Watch: watch}, func(x *Exchange) error {
		w.begun <- struct{}{}
		<-x.Context().Done()
		w.ended <- x.Context().Err()
		return x.Context().Err()
	})
	return w
}

func TestContextEndsWhenTheClientLeaves(t *testing.T) {
	cert := newPair(t)
	reset := func(c net.Conn) {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		c.Close()
	}
	half := func(c net.Conn) { _ = c.(interface{ CloseWrite() error }).CloseWrite() }
	for name, c := range map[string]struct {
		listen string
		tls    bool
		leave  func(net.Conn)
	}{
		"close":             {listen: "127.0.0.1:0", leave: func(c net.Conn) { c.Close() }},
		"reset":             {listen: "127.0.0.1:0", leave: reset},
		"half close":        {listen: "127.0.0.1:0", leave: half},
		"unix close":        {listen: "unix:" + socketPath(t), leave: func(c net.Conn) { c.Close() }},
		"TLS close":         {listen: "127.0.0.1:0", tls: true, leave: func(c net.Conn) { c.Close() }},
		"TLS without alert": {listen: "127.0.0.1:0", tls: true, leave: func(c net.Conn) { c.(*tls.Conn).NetConn().Close() }},
		"TLS half close":    {listen: "127.0.0.1:0", tls: true, leave: func(c net.Conn) { half(c.(*tls.Conn).NetConn()) }},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoor(t, func(config *Config) {
				config.Listen = c.listen
				if c.tls {
					config.TLS = cert.files
				}
			})
			route := d.wait("/wait", true)
			d.open(t)
			w := d.dial(t)
			if c.tls {
				w = newWire(t, tls.Client(w.Conn, cert.client()))
			}
			// What is pipelined behind the request must not hide that its client left.
			w.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\nGET /unread HTTP/1.1\r\nHost: a\r\n\r\n")
			<-route.begun
			c.leave(w.Conn)
			if err := <-route.ended; !errors.Is(err, context.Canceled) {
				t.Errorf("the context ended with %v", err)
			}
			waittest.Until(t, "the request is counted as left", func() bool { return d.counted(t)["GET /wait 499"] == 1 })
			if strings.Contains(d.log.String(), "level=ERROR") {
				t.Errorf("a client that left is an error in the log: %s", d.log)
			}
		})
	}
}

// A connection is watched for each of its requests anew, and for none after its
// answer.
func TestConnectionIsWatchedRequestByRequest(t *testing.T) {
	d := newDoor(t, nil)
	route := d.wait("/wait", true)
	d.Handle("GET", "/quick", RouteOptions{Watch: true}, text("quick"))
	d.open(t)
	w := d.dial(t)
	for range 20 {
		w.send("GET /quick HTTP/1.1\r\nHost: a\r\n\r\n")
		if a := w.answer("GET"); a.body != "quick" {
			t.Fatalf("answered %d %q", a.StatusCode, a.body)
		}
	}
	waittest.Until(t, "nothing is watched between requests", func() bool { return d.watching() == 0 })
	w.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
	<-route.begun
	if n := d.watching(); n != 1 {
		t.Errorf("%d connections are watched; want 1", n)
	}
	w.Close()
	<-route.ended
	waittest.Until(t, "nothing is watched after all", func() bool { return d.watching() == 0 })
}

func (d *door) watching() int {
	d.hub.mu.Lock()
	defer d.hub.mu.Unlock()
	return len(d.hub.watched)
}

func TestManyClientsLeaveAtOnce(t *testing.T) {
	d := newDoor(t, nil)
	route := d.wait("/wait", true)
	d.open(t)
	var clients []*wire
	for range 64 {
		w := d.dial(t)
		w.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
		clients = append(clients, w)
	}
	for range clients {
		<-route.begun
	}
	for _, w := range clients {
		w.Close()
	}
	for range clients {
		<-route.ended
	}
}

func TestHubThatIsClosedWatchesNobody(t *testing.T) {
	d := newDoor(t, nil).open(t)
	d.shut(t)
	w, _ := net.Pipe()
	d.hub.close() // again
	stop := d.hub.watch(&conn{Conn: w}, func() { t.Error("it was told of") })
	stop()
}

// A handler that fails because its client has left says so with a code that no
// one retries; one that fails at a stop says that the server stops.
func TestCancelledRequestSaysWhy(t *testing.T) {
	for name, given := range map[string]error{
		"a bare error": context.Canceled,
		"a refusal":    eider.Errorf(eider.Cancelled, "the request was cancelled"),
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoor(t, func(c *Config) { c.DrainTimeout = 1 })
			begun := make(chan struct{})
			d.Handle("GET", "/wait", RouteOptions{}, func(x *Exchange) error {
				close(begun)
				<-x.Context().Done()
				return given
			})
			d.Handle("GET", "/own", RouteOptions{}, func(*Exchange) error { return context.Canceled })
			d.open(t)
			if a := d.do(t, "GET", "/own"); a.problem(t).Code != "internal" {
				t.Errorf("a context of the handler's own is answered %d %s", a.StatusCode, a.body)
			}
			w := d.dial(t)
			w.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
			<-begun
			go d.shut(t)
			a := w.answer("GET")
			if p := a.problem(t); a.StatusCode != 503 || p.Code != "shutting_down" {
				t.Errorf("answered %d %s", a.StatusCode, a.body)
			}
			d.shut(t)
		})
	}
}
