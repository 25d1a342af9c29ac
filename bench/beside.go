package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// beside measures /health alone, beside four uploads that never end, and beside
// many clients that hardly send.
func (f *fileBench) beside(ctx context.Context) error {
	health := func() (*result, error) {
		return f.measure(ctx, 1, f.s.each(func(c *client) (bool, error) { return true, c.want(200, "GET", "/health", "", "") }))
	}
	alone, err := health()
	if err != nil {
		return err
	}
	f.table.add(alone.row("GET /health, nothing beside it"))
	for _, load := range []struct {
		what  string
		begin func() (stop func() error, err error)
	}{{"four uploads beside it", f.fourUploads}, {fmt.Sprintf("%s slow uploads beside it", thousands(int64(f.slow))), f.slowUploads}} {
		stop, err := load.begin()
		if err != nil {
			return err
		}
		got, err := health()
		if err := errors.Join(err, stop()); err != nil {
			return err
		}
		r := got.row("GET /health, " + load.what)
		r.Ratio, r.Of = float64(got.p50())/float64(alone.p50()), "of p50 alone"
		f.table.add(r)
	}
	f.table.note("Uploads and their clients take the processors that /health needs: where they are as many as the cores, it waits for its turn.")
	return nil
}

func (f *fileBench) fourUploads() (func() error, error) {
	var ended atomic.Bool
	var all sync.WaitGroup
	failed := make([]error, 4)
	for i := range failed {
		all.Go(func() {
			_, failed[i] = eachFile(f.s.address, 1, 1, func(c *client, _ int) error {
				for !ended.Load() {
					if _, err := f.upload(c, filepath.Join(f.src, fmt.Sprintf("small-%04d", i))); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	return func() error {
		ended.Store(true)
		all.Wait()
		return errors.Join(failed...)
	}, nil
}

// slowUploads opens uploads whose clients send a byte ten times a second.
func (f *fileBench) slowUploads() (func() error, error) {
	var clients []*client
	closeAll := func() error {
		for _, c := range clients {
			c.close()
		}
		return nil
	}
	for range f.slow {
		c, err := dial(f.s.address)
		if err != nil {
			return nil, errors.Join(err, closeAll())
		}
		clients = append(clients, c)
		if _, err := fmt.Fprintf(c.conn, "POST %s?name=slow HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\nContent-Length: 1000000\r\n\r\n", filesPath, f.key); err != nil {
			return nil, errors.Join(err, closeAll())
		}
	}
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			for _, c := range clients {
				if _, err := c.conn.Write([]byte{'x'}); err != nil {
					done <- fmt.Errorf("a slow client was cut: %w", err)
					return
				}
			}
			select {
			case <-stop:
				done <- nil
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return func() error {
		close(stop)
		return errors.Join(<-done, closeAll())
	}, nil
}
