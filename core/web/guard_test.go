package web

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/config"
)

// A connection that is cut looks like the end of the body to fasthttp, so that
// half an upload would be kept as a whole one.
func TestBodyThatIsCutIsNeverWhole(t *testing.T) {
	d := newDoor(t, func(c *Config) { c.BodyLimit = 8 << 20 })
	for path, read := range map[string]Handler{"/all": echo, "/stream": func(x *Exchange) error {
		_, err := io.Copy(io.Discard, x.BodyReader())
		if _, again := x.BodyReader().Read(make([]byte, 1)); again == nil || (err != nil && errors.Is(again, io.EOF)) {
			t.Errorf("the body ended with %v and then with %v", err, again)
		}
		if err != nil {
			return err
		}
		return x.NoContent(204)
	}} {
		d.Handle("POST", path, RouteOptions{}, read)
	}
	d.open(t)
	for _, path := range []string{"/all", "/stream"} {
		for _, size := range []int{2, 100, 8 << 10, 8<<10 + 1, 100_000, 1 << 20} {
			for name, header := range map[string]string{"length": "Content-Length: " + itoa(size), "chunks": "Transfer-Encoding: chunked"} {
				body := strings.Repeat("a", size-1)
				if name == "chunks" {
					body = fmt.Sprintf("%x\r\n%s", size, body)
				}
				w := d.dial(t)
				w.send("POST " + path + " HTTP/1.1\r\nHost: a\r\nX-Request-Id: cut\r\n" + header + "\r\n\r\n" + body)
				if err := w.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
					t.Fatal(err)
				}
				a := w.answer("POST")
				if p := a.problem(t); a.StatusCode != 400 || p.Code != "body_incomplete" || p.RequestID != "cut" {
					t.Errorf("%s, %d bytes by %s: answered %d %s", path, size, name, a.StatusCode, a.body)
				}
				if !w.ended() {
					t.Error("the connection stays open")
				}
			}
		}
	}
}

func TestBodyArrivesWhole(t *testing.T) {
	d := newDoor(t, func(c *Config) { c.BodyLimit = 8 << 20 })
	d.Handle("POST", "/echo", RouteOptions{}, echo)
	d.open(t)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for _, size := range []int{0, 1, 2, 4095, 4096, 8191, 8192, 8193, 16 << 10, 1 << 20, 8 << 20} {
		body := make([]byte, size)
		_, _ = rand.Read(body)
		for name, reader := range map[string]io.Reader{"length": bytes.NewReader(body), "chunks": struct{ io.Reader }{bytes.NewReader(body)}} {
			response, err := client.Post("http://"+d.addr+"/echo", "text/plain", reader)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil || response.StatusCode != 200 || !bytes.Equal(got, body) {
				t.Errorf("%d bytes by %s: %d, %d bytes, %v", size, name, response.StatusCode, len(got), err)
			}
		}
	}
}

func TestBodyOverItsLimitIs413(t *testing.T) {
	d := newDoor(t, func(c *Config) { c.BodyLimit = 1000 })
	d.Handle("POST", "/echo", RouteOptions{}, echo)
	d.open(t)
	for size, status := range map[int]int{999: 200, 1000: 200, 1001: 413, 9000: 413, 10 << 20: 413} {
		for _, chunked := range []bool{false, true} {
			w := d.dial(t)
			go func() { // the server may close before it has all
				body, header := strings.Repeat("a", size), "Content-Length: "+itoa(size)
				if chunked {
					body, header = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", size, body), "Transfer-Encoding: chunked"
				}
				_, _ = io.WriteString(w.Conn, "POST /echo HTTP/1.1\r\nHost: a\r\n"+header+"\r\n\r\n"+body)
			}()
			a := w.answer("POST")
			if a.StatusCode != status {
				t.Errorf("%d bytes, chunked %v: answered %d; want %d", size, chunked, a.StatusCode, status)
			}
			if status == 413 && a.problem(t).Code != "body_too_large" {
				t.Errorf("the code is %s", a.body)
			}
		}
	}
}

// What is refused by its length alone is refused before it comes.
func TestLengthOverTheLimitIsRefusedAtOnce(t *testing.T) {
	d := newDoor(t, nil)
	d.Handle("POST", "/echo", RouteOptions{}, echo)
	d.open(t)
	w := d.dial(t)
	w.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\na")
	if a := w.answer("POST"); a.StatusCode != 413 || !a.Close {
		t.Errorf("answered %d", a.StatusCode)
	}
}

// Who sends a body that nobody wants byte by byte still gets an answer: the wait
// for its end has a bound as a whole.
func TestUnwantedBodyThatTricklesIsAnswered(t *testing.T) {
	d := newDoor(t, nil)
	d.Handle("POST", "/ignore", RouteOptions{}, text("ignored"))
	d.open(t)
	w := d.dial(t)
	w.send("POST /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
	answered := make(chan struct{})
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-answered:
				return
			case <-tick.C:
				_, _ = io.WriteString(w.Conn, "a")
			}
		}
	}()
	a := w.answer("POST")
	close(answered)
	if a.body != "ignored" || !a.Close {
		t.Errorf("answered %d %q, close %v", a.StatusCode, a.body, a.Close)
	}
}

// A client that still sends what nobody wants must see why: a connection that is
// closed with bytes unread is reset, and the refusal lost.
func TestRefusalOfALargeBodyIsSeen(t *testing.T) {
	d := newDoor(t, nil)
	d.Handle("POST", "/echo", RouteOptions{}, echo)
	d.Handle("POST", "/locked", RouteOptions{}, func(*Exchange) error { return eider.Errorf(eider.Unauthorized, "no") })
	d.open(t)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	body := bytes.Repeat([]byte("a"), 16<<20)
	for path, status := range map[string]int{"/echo": 413, "/locked": 401, "/nowhere": 404} {
		for range 5 {
			response, err := client.Post("http://"+d.addr+path, "text/plain", bytes.NewReader(body))
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			response.Body.Close()
			if response.StatusCode != status {
				t.Errorf("%s is answered %d; want %d", path, response.StatusCode, status)
			}
		}
	}
}

// The deadline is for each read: what is slow may take its time, what has
// stopped may not.
func TestSteadyUploadOutlivesTheReadTimeout(t *testing.T) {
	const timeout = 400 * time.Millisecond
	d := newDoor(t, func(c *Config) {
		c.ReadTimeout, c.HeaderTimeout = config.Duration(timeout), config.Duration(timeout)
	})
	d.Handle("POST", "/echo", RouteOptions{}, echo)
	d.open(t)
	w := d.dial(t)
	begun := time.Now()
	w.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n")
	for range 12 {
		tick := time.NewTimer(timeout / 4)
		<-tick.C
		w.send("a")
	}
	if took := time.Since(begun); took < 2*timeout {
		t.Fatalf("the upload took %v, which shows nothing", took)
	}
	if a := w.answer("POST"); a.StatusCode != 200 || a.body != strings.Repeat("a", 12) {
		t.Errorf("a steady upload is answered %d %s", a.StatusCode, a.body)
	}
	w.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nhalf a")
	a := w.answer("POST")
	if p := a.problem(t); a.StatusCode != 408 || p.Code != "request_timeout" {
		t.Errorf("an upload that stops is answered %d %s", a.StatusCode, a.body)
	}
	if !w.ended() {
		t.Error("the connection stays open")
	}
}

func TestHeadersThatStopAre408(t *testing.T) {
	d := newDoor(t, func(c *Config) { c.HeaderTimeout = config.Duration(100 * time.Millisecond) }).open(t)
	w := d.dial(t)
	w.send("GET / HTTP/1.1\r\nHost: a\r\nX-Secret: word")
	a := w.answer("GET")
	if p := a.problem(t); a.StatusCode != 408 || p.Code != "request_timeout" || strings.Contains(a.body, "word") {
		t.Errorf("headers that stop are answered %d %s", a.StatusCode, a.body)
	}
	if !w.ended() {
		t.Error("the connection stays open")
	}
}

func TestIdleConnectionIsClosedWithoutAWord(t *testing.T) {
	d := newDoor(t, func(c *Config) { c.IdleTimeout = config.Duration(100 * time.Millisecond) })
	d.Handle("GET", "/", RouteOptions{}, text("root"))
	d.open(t)
	w := d.dial(t)
	w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if a := w.answer("GET"); a.StatusCode != 200 || !w.ended() {
		t.Errorf("answered %d, and the connection stays open", a.StatusCode)
	}
}

// Only a few kilobytes of a large multipart body are in memory, and none of it is
// in a file of its own: fasthttp would spool it before the handler is called.
func TestMultipartIsAStream(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	d := newDoor(t, nil)
	d.Handle("POST", "/upload", RouteOptions{}, func(x *Exchange) error {
		_, params, err := mime.ParseMediaType(x.Header("Content-Type"))
		if err != nil {
			return err
		}
		part, err := multipart.NewReader(x.BodyReader(), params["boundary"]).NextPart()
		if err != nil {
			return err
		}
		n, err := io.Copy(io.Discard, part)
		if err != nil {
			return err
		}
		spooled, err := os.ReadDir(os.TempDir())
		if err != nil {
			return err
		}
		return x.JSON(200, map[string]any{"name": part.FileName(), "bytes": n, "spooled": len(spooled)})
	})
	d.open(t)
	const size = 24 << 20
	head := "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\n\r\n"
	tail := "\r\n--x--\r\n"
	w := d.dial(t)
	w.send(fmt.Sprintf("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\n\r\n%s",
		len(head)+size+len(tail), head))
	if _, err := io.CopyN(w.Conn, zeros{}, size); err != nil {
		t.Fatal(err)
	}
	w.send(tail)
	if a := w.answer("POST"); a.body != fmt.Sprintf(`{"bytes":%d,"name":"a.bin","spooled":0}`, size) {
		t.Errorf("answered %d %s", a.StatusCode, a.body)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestExpectation(t *testing.T) {
	d := newDoor(t, func(c *Config) { c.BodyLimit = 1000 })
	d.Handle("POST", "/echo", RouteOptions{}, echo)
	d.open(t)
	ask := func(expect, length string) *wire {
		w := d.dial(t)
		w.send("POST /echo HTTP/1.1\r\nHost: a\r\nExpect: " + expect + "\r\nContent-Length: " + length + "\r\n\r\n")
		return w
	}
	t.Run("a body that fits is asked for", func(t *testing.T) {
		for _, word := range []string{"100-continue", "100-Continue"} {
			w := ask(word, "5")
			line, err := w.r.ReadString('\n')
			if err != nil || line != "HTTP/1.1 100 Continue\r\n" {
				t.Fatalf("first came %q, %v", line, err)
			}
			if _, err := w.r.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			w.send("hello")
			if a := w.answer("POST"); a.StatusCode != 200 || a.body != "hello" {
				t.Errorf("answered %d %s", a.StatusCode, a.body)
			}
		}
	})
	t.Run("a body that is too large is not", func(t *testing.T) {
		w := ask("100-continue", "1001")
		a := w.answer("POST")
		if p := a.problem(t); a.StatusCode != 413 || p.Code != "body_too_large" || !w.ended() {
			t.Errorf("answered %d %s", a.StatusCode, a.body)
		}
	})
	t.Run("anything else is 417", func(t *testing.T) {
		w := ask("200-ok", "5")
		w.send("hello")
		a := w.answer("POST")
		if p := a.problem(t); a.StatusCode != 417 || p.Code != "expectation_failed" {
			t.Errorf("answered %d %s", a.StatusCode, a.body)
		}
	})
}

// Fiber and fasthttp use their buffers again for the next request: what a handler
// keeps must not change under it.
func TestWhatAHandlerKeepsStaysAsItWas(t *testing.T) {
	d := newDoor(t, nil)
	var kept []func() string
	d.Handle("POST", "/keep/{name}", RouteOptions{}, func(x *Exchange) error {
		body, err := x.Body()
		if err != nil {
			return err
		}
		name, query, header, target, id, path := x.Param("name"), x.Query().Get("q"), x.Header("X-Word"), x.Target(), x.RequestID(), x.Pattern()
		kept = append(kept, func() string {
			return strings.Join([]string{name, query, header, target, id, path, string(body)}, " ")
		})
		return x.NoContent(204)
	})
	d.open(t)
	w := d.dial(t)
	for i := range 50 {
		word := fmt.Sprintf("%03d", i)
		w.send("POST /keep/" + word + "?q=" + word + " HTTP/1.1\r\nHost: a\r\nX-Word: " + word + "\r\nX-Request-Id: " + word +
			"\r\nContent-Length: 3\r\n\r\n" + word)
		if a := w.answer("POST"); a.StatusCode != 204 {
			t.Fatalf("answered %d", a.StatusCode)
		}
	}
	for i, is := range kept {
		w := fmt.Sprintf("%03d", i)
		if want := strings.Join([]string{w, w, w, "/keep/" + w + "?q=" + w, w, "/keep/{name}", w}, " "); is() != want {
			t.Errorf("request %d is now %q; want %q", i, is(), want)
		}
	}
}
