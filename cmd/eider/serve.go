package main

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"

	"github.com/eiderdb/eider/core/app"
	"github.com/spf13/cobra"
)

func serveCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use: "serve", Short: "Serve the HTTP API", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			// A core dump would hold what tenants stored.
			if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
				return err
			}
			var terminal io.Writer
			if isTerminal() {
				terminal = os.Stderr
			}
			a, err := f.load(app.Options{Terminal: terminal})
			if err != nil {
				return err
			}
			if err := a.Open(c.Context()); err != nil {
				return unlessTold(c.Context(), err)
			}
			defer func() { err = errors.Join(err, a.Close()) }()
			if err := a.Listen(); err != nil {
				return err
			}
			a.Start()
			if err := a.OpenWorkers(c.Context()); err != nil {
				return unlessTold(c.Context(), err)
			}
			return a.Serve(c.Context())
		},
	}
}

// unlessTold returns why a server did not come to serve, nil where it was told to stop
// before it could: that is no failure.
func unlessTold(ctx context.Context, err error) error {
	if ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))) {
		return nil
	}
	return err
}
