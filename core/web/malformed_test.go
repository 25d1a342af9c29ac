package web

import (
	"strings"
	"testing"
)

// Every line here is one that some proxy reads otherwise than some server. None
// reaches a handler, none is repeated in the answer, none leaves the connection
// open for what comes after it.
func TestMalformedRequestIsRefusedAndItsConnectionClosed(t *testing.T) {
	d := newDoor(t, nil)
	reached := func(x *Exchange) error {
		t.Errorf("%s %s reached its handler", x.Method(), x.Target())
		return x.NoContent(204)
	}
	for _, method := range []string{"GET", "POST"} {
		d.Handle(method, "/secret", RouteOptions{}, reached)
	}
	d.open(t)
	const next = "GET /secret HTTP/1.1\r\nHost: eider\r\n\r\n"
	for name, request := range map[string]string{
		"no host":                    "GET /secret HTTP/1.1\r\n\r\n",
		"no host, another header":    "GET /secret HTTP/1.1\r\nX-A: b\r\n\r\n",
		"two hosts":                  "GET /secret HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"two equal hosts":            "GET /secret HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
		"two lengths":                "POST /secret HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"two equal lengths":          "POST /secret HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
		"a list of lengths":          "POST /secret HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na",
		"a signed length":            "POST /secret HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
		"a negative length":          "POST /secret HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\na",
		"a length in hex":            "POST /secret HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\na",
		"an empty length":            "POST /secret HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\na",
		"a length that overflows":    "POST /secret HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551617\r\n\r\na",
		"length and chunks":          "POST /secret HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"chunks and length":          "POST /secret HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		"two encodings":              "POST /secret HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"a list of encodings":        "POST /secret HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"identity":                   "POST /secret HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nContent-Length: 1\r\n\r\na",
		"identity alone":             "POST /secret HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
		"an unknown encoding":        "POST /secret HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"chunks in HTTP/1.0":         "POST /secret HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"a space before colon":       "POST /secret HTTP/1.1\r\nHost: a\r\nContent-Length : 1\r\n\r\na",
		"a tab before colon":         "POST /secret HTTP/1.1\r\nHost: a\r\nContent-Length\t: 1\r\n\r\na",
		"a space inside a name":      "GET /secret HTTP/1.1\r\nHost: a\r\nX A: b\r\n\r\n",
		"a space before a name":      "GET /secret HTTP/1.1\r\n Host: a\r\n\r\n",
		"a folded line":              "GET /secret HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n",
		"a folded length":            "POST /secret HTTP/1.1\r\nHost: a\r\nX-A: b\r\n Content-Length: 3\r\n\r\n",
		"no colon":                   "GET /secret HTTP/1.1\r\nHost: a\r\nsecret-word\r\n\r\n",
		"no name":                    "GET /secret HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
		"bare line feeds":            "GET /secret HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n",
		"a bare feed hides a length": "POST /secret HTTP/1.1\r\nHost: a\r\nX-A: b\nContent-Length: 3\r\n\r\nabc",
		"a bare carriage return":     "GET /secret HTTP/1.1\r\nHost: a\r\nX-A: b\rX-B: c\r\n\r\n",
		"a zero in a value":          "GET /secret HTTP/1.1\r\nHost: a\r\nX-A: b\x00c\r\n\r\n",
		"a zero in a name":           "GET /secret HTTP/1.1\r\nHost: a\r\nX\x00A: c\r\n\r\n",
		"letters beyond ASCII":       "GET /secret HTTP/1.1\r\nHost: a\r\nX-\xc3\xa4: c\r\n\r\n",
		"no target":                  "GET  HTTP/1.1\r\nHost: a\r\n\r\n",
		"no version":                 "GET /secret\r\nHost: a\r\n\r\n",
		"a word for a version":       "GET /secret HTTQ/1.1\r\nHost: a\r\n\r\n",
		"a space in the target":      "GET /secret /x HTTP/1.1\r\nHost: a\r\n\r\n",
		"a control in the target":    "GET /sec\x01ret HTTP/1.1\r\nHost: a\r\n\r\n",
		"a target without slash":     "GET secret HTTP/1.1\r\nHost: a\r\n\r\n",
		"TLS on a plain port":        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
		"a version to come":          "GET /secret HTTP/1.7\r\nHost: a\r\n\r\n",
		"another major version":      "GET /secret HTTP/2.0\r\nHost: a\r\n\r\n",
		"two keys":                   "GET /secret HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n",
		"two conditions":             "POST /secret HTTP/1.1\r\nHost: a\r\nIf-Match: a\r\nIf-Match: b\r\nContent-Length: 0\r\n\r\n",
		"two idempotency keys":       "POST /secret HTTP/1.1\r\nHost: a\r\nIdempotency-Key: a\r\nIdempotency-Key: b\r\nContent-Length: 0\r\n\r\n",
		"noise":                      "secret-word secret-word\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			w := d.dial(t)
			w.send(request + next)
			a := w.answer("POST")
			p := a.problem(t)
			if a.StatusCode != 400 || p.Code != "malformed_request" {
				t.Errorf("answered %d %s; want 400 malformed_request", a.StatusCode, p.Code)
			}
			if strings.Contains(a.body, "secret") && p.Instance == "" {
				t.Errorf("the answer repeats the request: %s", a.body)
			}
			if name != "a target without slash" && !w.ended() {
				t.Error("the connection stays open")
			}
		})
	}
}

// A chunked body that is wrong is found while the handler reads it.
func TestMalformedChunksAreRefusedAndTheirConnectionClosed(t *testing.T) {
	d := newDoor(t, nil)
	d.Handle("POST", "/echo", RouteOptions{}, echo)
	d.Handle("GET", "/secret", RouteOptions{}, func(x *Exchange) error {
		t.Error("the rest of a body was taken for a request")
		return x.NoContent(204)
	})
	d.open(t)
	for name, body := range map[string]string{
		"no size":                   "\r\nabc\r\n0\r\n\r\n",
		"a size that is no number":  "zz\r\nabc\r\n0\r\n\r\n",
		"a sign":                    "+3\r\nabc\r\n0\r\n\r\n",
		"a prefix":                  "0x3\r\nabc\r\n0\r\n\r\n",
		"a size that overflows":     "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
		"a bare feed after a size":  "3\nabc\r\n0\r\n\r\n",
		"a bare feed after a chunk": "3\r\nabc\n0\r\n\r\n",
		"a feed in an extension":    "3;a\nb\r\nabc\r\n0\r\n\r\n",
		"too short a chunk":         "5\r\nabc\r\n0\r\n\r\n",
		"too long a chunk":          "2\r\nabc\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			w := d.dial(t)
			w.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body + "GET /secret HTTP/1.1\r\nHost: a\r\n\r\n")
			if err := w.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			a := w.answer("POST")
			if p := a.problem(t); a.StatusCode != 400 || p.Code != "body_incomplete" {
				t.Errorf("answered %d %s; want 400 body_incomplete", a.StatusCode, p.Code)
			}
			if !w.ended() {
				t.Error("the connection stays open")
			}
		})
	}
}

func TestHeadersOverTheirLimitAre431(t *testing.T) {
	d := newDoor(t, nil)
	d.Handle("GET", "/", RouteOptions{}, text("root"))
	d.open(t)
	if a := d.do(t, "GET", "/", "X-Fits: "+strings.Repeat("a", 12<<10)); a.StatusCode != 200 {
		t.Errorf("12 KiB of headers are answered %d", a.StatusCode)
	}
	w := d.dial(t)
	w.send("GET / HTTP/1.1\r\nHost: eider\r\nX-Large: secret-word" + strings.Repeat("a", 1<<20) + "\r\n\r\n")
	a := w.answer("GET")
	if p := a.problem(t); a.StatusCode != 431 || p.Code != "headers_too_large" || strings.Contains(a.body, "secret") {
		t.Errorf("1 MiB of headers is answered %d %s", a.StatusCode, a.body)
	}
	if !w.ended() {
		t.Error("the connection stays open")
	}
}

func TestUnknownMethodIs405WithAllow(t *testing.T) {
	d := newDoor(t, nil)
	d.Handle("GET", "/", RouteOptions{}, text("root"))
	d.open(t)
	for _, method := range []string{"BREW", "get", "TRACE", "CONNECT", "PRI"} {
		a := d.do(t, method, "/")
		if p := a.problem(t); a.StatusCode != 405 || p.Code != "method_not_allowed" || a.Header.Get("Allow") == "" {
			t.Errorf("%s is answered %d, Allow %q", method, a.StatusCode, a.Header.Get("Allow"))
		}
	}
	if n := d.counted(t)["OTHER unmatched 405"]; n != 5 {
		t.Errorf("%d of 5 unknown methods are counted: %v", n, d.counted(t))
	}
}

// A body that nobody read was once parsed as the next request: a way past any
// proxy that lets only some requests through.
func TestUnreadBodyIsNeverTheNextRequest(t *testing.T) {
	d := newDoor(t, nil)
	d.Handle("POST", "/ignore", RouteOptions{}, text("ignored"))
	d.Handle("GET", "/ignore", RouteOptions{}, text("ignored"))
	d.Handle("POST", "/part", RouteOptions{}, func(x *Exchange) error {
		if _, err := x.BodyReader().Read(make([]byte, 5)); err != nil {
			return err
		}
		return x.NoContent(204)
	})
	d.Handle("GET", "/admin/secret", RouteOptions{}, func(x *Exchange) error { t.Error("smuggled"); return x.NoContent(204) })
	d.Handle("GET", "/next", RouteOptions{}, text("next"))
	d.open(t)
	const hidden = "GET /admin/secret HTTP/1.1\r\nHost: eider\r\n\r\n"
	for name, c := range map[string]struct {
		line   string
		status int
	}{
		"a handler that reads nothing": {"POST /ignore", 200},
		"a GET with a body":            {"GET /ignore", 200},
		"a handler that reads a part":  {"POST /part", 204},
		"no route":                     {"POST /nowhere", 404},
		"another method":               {"DELETE /ignore", 405},
		"a path that is none":          {"POST /%zz", 400},
	} {
		for _, size := range []int{len(hidden), 9 << 10, maxDrain, maxDrain + 1, 1 << 20} {
			body := hidden + strings.Repeat(" ", size-len(hidden))
			t.Run(name, func(t *testing.T) {
				w := d.dial(t)
				go func() { // the server may close before it has all
					_, _ = w.Conn.Write([]byte(c.line + " HTTP/1.1\r\nHost: eider\r\nContent-Length: " + itoa(size) + "\r\n\r\n" + body +
						"GET /next HTTP/1.1\r\nHost: eider\r\n\r\n"))
				}()
				a := w.answer("POST")
				if a.StatusCode != c.status {
					t.Fatalf("answered %d; want %d", a.StatusCode, c.status)
				}
				if a.Close {
					if !w.ended() {
						t.Error("the connection stays open")
					}
					return
				}
				if size > maxDrain+5 {
					t.Errorf("a connection with %d bytes unread goes on", size)
				}
				if next := w.answer("GET"); next.body != "next" {
					t.Errorf("the request after the body is answered %q", next.body)
				}
			})
		}
	}
}
