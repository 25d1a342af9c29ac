package web

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/gofiber/fiber/v2"
)

// BenchmarkPipelineBesideBareFiber sends the same request to a bare Fiber handler
// and through the front door, for their ratio.
func BenchmarkPipelineBesideBareFiber(b *testing.B) {
	body := []byte(`{"id":"sales","status":"active"}`)
	b.Run("bare", func(b *testing.B) {
		app := fiber.New(fiber.Config{DisableStartupMessage: true})
		app.Get("/projects/:id", func(c *fiber.Ctx) error { return c.Send(body) })
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		go func() { _ = app.Listener(l) }()
		defer app.Shutdown()
		exchange(b, l.Addr())
	})
	for name, o := range map[string]RouteOptions{"door": {}, "door, watched": {Watch: true}} {
		b.Run(name, func(b *testing.B) {
			d := newDoor(b, nil)
			d.Handle("GET", "/projects/{id}", o, func(x *Exchange) error { return x.Bytes(200, "application/json", body) })
			d.open(b)
			exchange(b, d.Addr("public"))
		})
	}
}

func exchange(b *testing.B, addr net.Addr) {
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.WriteString(c, "GET /projects/sales HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			b.Fatal(err)
		}
		response, err := http.ReadResponse(r, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			b.Fatal(err)
		}
	}
}
