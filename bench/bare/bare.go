// Package bare is the yardstick of the pipeline: a Fiber handler that answers
// with a given body and does nothing else. Outside core/web it is the one place
// that imports Fiber.
package bare

import (
	"context"
	"fmt"
	"io"
	"net"
	"os/signal"
	"syscall"

	"github.com/gofiber/fiber/v2"
)

// Serve answers GET /projects/:id with what it reads from in, tells its address
// on out, and ends with SIGTERM.
func Serve(in io.Reader, out io.Writer) error {
	body, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Get("/projects/:id", func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
		return c.Send(body)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	fmt.Fprintln(out, l.Addr())
	served := make(chan error, 1)
	go func() { served <- app.Listener(l) }()
	<-ctx.Done()
	if err := app.Shutdown(); err != nil {
		return err
	}
	return <-served
}
