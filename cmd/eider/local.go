package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/eiderdb/eider/core/app"
	"github.com/spf13/cobra"
)

// ask calls an operation as the local administrator: of the server that runs on
// the data folder, or, where none does, of one that is opened for this call.
// It says on stderr which it was. A second process cannot open the metadata,
// not even to read.
func (f *flags) ask(c *cobra.Command, method, path string, out any) error {
	return f.askWith(c, method, path, nil, out)
}

// askWith is ask with a body.
func (f *flags) askWith(c *cobra.Command, method, path string, body, out any) error {
	return f.asking(c, func(ask asker) error { return ask(method, path, body, out) })
}

// warnUnproven is what the log of a server says at level error.
const warnUnproven = "warning: there was no checkpoint to compare the log with: rows may be missing at its end; the next server that starts here says so in /health"

// asker calls one operation.
type asker func(method, path string, in, out any) error

// asking is ask for more than one call.
func (f *flags) asking(c *cobra.Command, use func(asker) error) (err error) {
	a, err := f.load(app.Options{Out: io.Discard, Command: true})
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(a.Settings.Top.DataDir)
	if err != nil {
		return err
	}
	socket := filepath.Join(dir, app.AdminSocket)
	if conn, dialErr := net.Dial("unix", socket); dialErr == nil {
		conn.Close()
		fmt.Fprintf(c.ErrOrStderr(), "asking the server that runs on %s\n", dir)
		return use(func(method, path string, in, out any) error { return call(c.Context(), socket, method, path, in, out) })
	}
	if err := a.Used(); err != nil {
		return err
	}
	fmt.Fprintf(c.ErrOrStderr(), "no server runs on %s: opening it\n", dir)
	a.Settings.HTTP.Listen = "unix:" + filepath.Join(dir, "command.sock")
	if err := a.Open(c.Context()); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	if !a.Kernel.Audit.Proven() {
		fmt.Fprintln(c.ErrOrStderr(), warnUnproven)
	}
	if err := a.Listen(); err != nil {
		return err
	}
	a.Start()
	ctx, stop := context.WithCancel(c.Context())
	served := make(chan error, 1)
	go func() { served <- a.Serve(ctx) }()
	err = use(func(method, path string, in, out any) error { return call(c.Context(), socket, method, path, in, out) })
	stop()
	return errors.Join(err, <-served)
}

// callWithin bounds a command's call: verifying a long log takes a while.
const callWithin = time.Hour

func call(ctx context.Context, socket, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}}
	var text []byte
	if in != nil {
		var err error
		if text, err = json.Marshal(in); err != nil {
			return err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://admin.sock"+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("ask the server: %w", err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if answer.StatusCode >= 300 {
		var refusal struct{ Code, Message string }
		if json.Unmarshal(body, &refusal) != nil {
			return fmt.Errorf("the server answered %s", answer.Status)
		}
		return fmt.Errorf("%s: %s", refusal.Code, refusal.Message)
	}
	return json.Unmarshal(body, out)
}
