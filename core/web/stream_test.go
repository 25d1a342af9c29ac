package web

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/config"
	"github.com/eiderdb/eider/core/waittest"
	"go.opentelemetry.io/otel/codes"
)

func streaming(write func(io.Writer) error) Handler {
	return func(x *Exchange) error { return x.Stream(200, "text/plain", write) }
}

func TestStreamIsSentAsItIsWritten(t *testing.T) {
	d := newDoor(t, nil)
	seen := make(chan struct{})
	d.Handle("GET", "/stream", RouteOptions{}, streaming(func(w io.Writer) error {
		if _, err := io.WriteString(w, "first "); err != nil {
			return err
		}
		<-seen // nothing follows until the client has the first part
		_, err := io.WriteString(w, strings.Repeat("b", 1<<20))
		return err
	}))
	d.Handle("GET", "/next", RouteOptions{}, text("next"))
	d.open(t)
	w := d.dial(t)
	w.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n")
	response, err := http.ReadResponse(w.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 6)
	if _, err := io.ReadFull(response.Body, first); err != nil || string(first) != "first " {
		t.Fatalf("first came %q, %v", first, err)
	}
	close(seen)
	rest, err := io.ReadAll(response.Body)
	if err != nil || len(rest) != 1<<20 {
		t.Errorf("%d bytes followed, %v", len(rest), err)
	}
	if a := w.answer("GET"); a.body != "next" {
		t.Errorf("the next request is answered %q", a.body)
	}
}

// A clean last chunk after an error would make half an answer a whole one; a
// panic on fasthttp's own goroutine would end the process.
func TestStreamThatFailsIsCutVisibly(t *testing.T) {
	d := newDoor(t, nil)
	for path, fail := range map[string]func() error{
		"/error": func() error { return errors.New("disk secret") },
		"/panic": func() error { panic("panic secret") },
	} {
		d.Handle("GET", path, RouteOptions{}, streaming(func(w io.Writer) error {
			if _, err := io.WriteString(w, strings.Repeat("a", 10_000)); err != nil {
				return err
			}
			return fail()
		}))
		d.Handle("GET", path+"-at-once", RouteOptions{}, streaming(func(io.Writer) error { return fail() }))
	}
	d.open(t)
	for _, path := range []string{"/error", "/panic", "/error-at-once", "/panic-at-once"} {
		w := d.dial(t)
		w.send("GET " + path + " HTTP/1.1\r\nHost: a\r\nX-Request-Id: of-" + path[1:] + "\r\n\r\n")
		response, err := http.ReadResponse(w.r, nil)
		if err == nil {
			var body []byte
			body, err = io.ReadAll(response.Body)
			if strings.Contains(string(body), "secret") {
				t.Errorf("%s: the answer holds %q", path, body)
			}
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: the client sees %v; want an unexpected end", path, err)
		}
		waittest.Until(t, "the log has the cause of "+path, func() bool {
			return strings.Contains(d.log.String(), "secret") && strings.Contains(d.log.String(), "an answer was cut")
		})
	}
	if !strings.Contains(d.log.String(), "stack=") {
		t.Error("a panic leaves no stack in the log")
	}
	waittest.Until(t, "the requests are over", func() bool { return d.inFlight(t) == 0 })
	for _, span := range d.spans.Ended() {
		if span.Status().Code != codes.Error {
			t.Errorf("the span %s does not say that its answer was cut", span.Name())
		}
	}
}

// The request lasts as long as its answer: its context, its span and its place
// among those in flight.
func TestStreamHasItsRequestUntilItEnds(t *testing.T) {
	d := newDoor(t, nil)
	during, finish := make(chan error), make(chan struct{})
	d.Handle("GET", "/stream", RouteOptions{Watch: true}, func(x *Exchange) error {
		ctx := x.Context()
		return x.Stream(200, "text/plain", func(w io.Writer) error {
			during <- ctx.Err()
			<-finish
			_, err := io.WriteString(w, "done")
			return err
		})
	})
	d.open(t)
	w := d.dial(t)
	w.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
	if err := <-during; err != nil {
		t.Errorf("the context ended before the stream: %v", err)
	}
	if n := d.inFlight(t); n != 1 {
		t.Errorf("%d requests are in flight; want 1", n)
	}
	if n := len(d.spans.Ended()); n != 0 {
		t.Errorf("%d spans have ended before the stream", n)
	}
	close(finish)
	if a := w.answer("GET"); a.body != "done" {
		t.Errorf("answered %q", a.body)
	}
	waittest.Until(t, "the span ends", func() bool { return len(d.spans.Ended()) == 1 })
	if n := d.inFlight(t); n != 0 {
		t.Errorf("%d requests are in flight after the last", n)
	}
}

func TestStreamEndsWithItsClient(t *testing.T) {
	d := newDoor(t, nil)
	begun, ended := make(chan struct{}), make(chan error)
	d.Handle("GET", "/watched", RouteOptions{Watch: true}, func(x *Exchange) error {
		ctx := x.Context()
		return x.Stream(200, "text/plain", func(io.Writer) error {
			close(begun)
			<-ctx.Done() // nothing is written that could fail
			ended <- ctx.Err()
			return ctx.Err()
		})
	})
	d.Handle("GET", "/endless", RouteOptions{}, streaming(func(w io.Writer) error {
		for {
			if _, err := w.Write(make([]byte, 32<<10)); err != nil {
				ended <- err
				return err
			}
		}
	}))
	d.open(t)
	w := d.dial(t)
	w.send("GET /watched HTTP/1.1\r\nHost: a\r\n\r\n")
	<-begun
	w.Close()
	if err := <-ended; err == nil {
		t.Error("the context did not end")
	}
	w = d.dial(t)
	w.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
	if _, err := io.ReadFull(w.r, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := <-ended; eider.CodeOf(err) != eider.Cancelled {
		t.Errorf("the writer failed because of %v", err)
	}
	waittest.Until(t, "both requests are over", func() bool { return d.inFlight(t) == 0 })
}

// The deadline is for each write: a long answer to a client that reads may take
// its time, one that nobody reads may not.
func TestStreamOutlivesTheWriteTimeout(t *testing.T) {
	const timeout = 400 * time.Millisecond
	d := newDoor(t, func(c *Config) { c.WriteTimeout = config.Duration(timeout) })
	stalled := make(chan error, 1)
	d.Handle("GET", "/steady", RouteOptions{}, streaming(func(w io.Writer) error {
		for range 12 {
			if _, err := io.WriteString(w, "a"); err != nil {
				return err
			}
			tick := time.NewTimer(timeout / 4)
			<-tick.C
		}
		return nil
	}))
	d.Handle("GET", "/stalled", RouteOptions{}, streaming(func(w io.Writer) error {
		for {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				stalled <- err
				return err
			}
		}
	}))
	// On TCP the kernel's TCP_USER_TIMEOUT would end it too.
	if err := d.Listen("local", "unix:"+socketPath(t), ListenOptions{Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	d.open(t)
	if a := d.do(t, "GET", "/steady"); a.body != strings.Repeat("a", 12) {
		t.Errorf("a steady answer came as %q", a.body)
	}
	w := dialTo(t, d.Addr("local"))
	w.send("GET /stalled HTTP/1.1\r\nHost: a\r\n\r\n") // and nothing is read
	if err := <-stalled; err == nil {
		t.Error("the writer did not fail")
	}
}

func TestStreamForHEADIsNotWritten(t *testing.T) {
	d := newDoor(t, nil)
	d.Handle("GET", "/stream", RouteOptions{}, streaming(func(io.Writer) error { t.Error("a HEAD was written"); return nil }))
	d.open(t)
	w := d.dial(t)
	for range 2 {
		w.send("HEAD /stream HTTP/1.1\r\nHost: a\r\n\r\n")
		if a := w.answer("HEAD"); a.StatusCode != 200 || a.body != "" {
			t.Errorf("answered %d %q", a.StatusCode, a.body)
		}
	}
	waittest.Until(t, "both requests are over", func() bool { return d.inFlight(t) == 0 && d.counted(t)["HEAD /stream 200"] == 2 })
}

func TestErrorAfterStreamReplacesIt(t *testing.T) {
	d := newDoor(t, nil)
	d.Handle("GET", "/stream", RouteOptions{}, func(x *Exchange) error {
		x.SetHeader("Cache-Control", "max-age=3600")
		if err := x.Stream(200, "text/plain", func(io.Writer) error { t.Error("it was written"); return nil }); err != nil {
			return err
		}
		return eider.Errorf(eider.NotFound, "it is gone")
	})
	d.open(t)
	a := d.do(t, "GET", "/stream")
	if p := a.problem(t); a.StatusCode != 404 || p.Detail != "it is gone" {
		t.Errorf("answered %d %s", a.StatusCode, a.body)
	}
	waittest.Until(t, "the request is over", func() bool { return d.inFlight(t) == 0 })
}
