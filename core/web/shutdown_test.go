package web

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/eiderdb/eider/core/config"
	"github.com/eiderdb/eider/core/waittest"
)

func TestShutdownLetsRequestsEnd(t *testing.T) {
	d := newDoor(t, nil)
	begun, finish := make(chan struct{}), make(chan struct{})
	d.Handle("GET", "/work", RouteOptions{}, func(x *Exchange) error {
		close(begun)
		<-finish
		if err := x.Context().Err(); err != nil {
			t.Errorf("the request was cancelled: %v", err)
		}
		return x.Bytes(200, "text/plain", []byte("finished"))
	})
	d.Handle("GET", "/", RouteOptions{}, text("root"))
	d.open(t)
	idle := d.dial(t)
	idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	idle.answer("GET")
	w := d.dial(t)
	w.send("GET /work HTTP/1.1\r\nHost: a\r\n\r\n")
	<-begun
	addr := d.Addr("public").String()
	done := make(chan struct{})
	go func() {
		d.shut(t)
		close(done)
	}()
	waittest.Until(t, "it says that it drains", d.Draining)
	waittest.Until(t, "nobody new is let in", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	if !idle.ended() {
		t.Error("an idle connection stays open")
	}
	select {
	case <-done:
		t.Error("it did not wait for the request")
	default:
	}
	close(finish)
	if a := w.answer("GET"); a.body != "finished" || !a.Close {
		t.Errorf("answered %q, close %v", a.body, a.Close)
	}
	<-done
}

// fasthttp's own shutdown leaves a stream running for as long as it likes.
func TestShutdownCancelsWhatOutlastsTheDrain(t *testing.T) {
	d := newDoor(t, func(c *Config) { c.DrainTimeout = 1 })
	begun := make(chan struct{})
	d.Handle("GET", "/stream", RouteOptions{}, func(x *Exchange) error {
		ctx := x.Context()
		return x.Stream(200, "text/plain", func(w io.Writer) error {
			if _, err := io.WriteString(w, "some"); err != nil {
				return err
			}
			close(begun)
			<-ctx.Done()
			return ctx.Err()
		})
	})
	d.open(t)
	w := d.dial(t)
	w.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
	<-begun
	d.shut(t)
	response, err := http.ReadResponse(w.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(response.Body); string(body) != "some" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the stream came as %q, %v; want it cut", body, err)
	}
}

// What does not listen to its context loses its connection.
func TestShutdownCutsWhatIgnoresItsContext(t *testing.T) {
	d := newDoor(t, func(c *Config) { c.DrainTimeout = 1 })
	begun, failed := make(chan struct{}), make(chan error, 1)
	d.Handle("GET", "/endless", RouteOptions{}, streaming(func(w io.Writer) error {
		close(begun)
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				failed <- err
				return err
			}
		}
	}))
	d.open(t)
	w := d.dial(t)
	w.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
	<-begun
	go func() { _, _ = io.Copy(io.Discard, w.r) }() // a client that would read for ever
	d.shut(t)
	if err := <-failed; err == nil {
		t.Error("the writer did not fail")
	}
}

func TestShutdownOfAServerThatNeverServed(t *testing.T) {
	d := newDoor(t, nil)
	if err := d.Listen("public", "127.0.0.1:0", ListenOptions{}); err != nil {
		t.Fatal(err)
	}
	addr := d.Addr("public").String()
	for range 2 {
		if err := d.Shutdown(); err != nil {
			t.Error(err)
		}
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("it still listens")
	}
}

// A client that has sent half a request keeps nobody from stopping.
func TestShutdownDoesNotWaitForHalfARequest(t *testing.T) {
	d := newDoor(t, func(c *Config) { c.DrainTimeout = config.Duration(1) })
	d.Handle("POST", "/echo", RouteOptions{}, echo)
	d.open(t)
	w := d.dial(t)
	w.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
	waittest.Until(t, "the request is in flight", func() bool { return d.inFlight(t) == 1 })
	d.shut(t)
	if strings.Contains(d.log.String(), "panic") {
		t.Errorf("the log is %s", d.log)
	}
}
