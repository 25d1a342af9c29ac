package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
)

// benchCreate measures POST /projects beside the bare file operations that one
// needs: what it would cost if everything but the disk were free.
func benchCreate(ctx context.Context, b *bench) error {
	dir, err := b.fresh("create")
	if err != nil {
		return err
	}
	s, err := b.serve(dir)
	if err != nil {
		return err
	}
	return errors.Join(createRows(ctx, b, s, dir), s.stop())
}

func createRows(ctx context.Context, b *bench, s *server, dir string) error {
	b.table.note("Raw creation: four folders, a copy of the template, two small files, five fsyncs of these and their folders, " +
		"a rename and the fsync of its parent, and two appends to a file with an fsync each, as for the two commits. No sharing among clients.")
	var made atomic.Int64
	for _, clients := range b.clients(1, 8, 64) {
		raw, err := b.rawCreate(ctx, clients, filepath.Join(dir, ".template.duckdb"))
		if err != nil {
			return err
		}
		b.table.add(raw.row(fmt.Sprintf("raw creation, %s", many(clients))))
		got, cpu, err := s.spent(func() (*result, error) {
			return b.measure(ctx, clients, s.each(func(c *client) (bool, error) {
				return true, c.want(201, "POST", "/projects", s.root, fmt.Sprintf(`{"id":"p%d"}`, made.Add(1)))
			}))
		})
		if err != nil {
			return err
		}
		r := got.row(fmt.Sprintf("POST /projects, %s", many(clients)))
		r.CPU, r.Ratio, r.Of = cpu, float64(got.p50())/float64(raw.p50()), "p50 of raw creation"
		if clients == 1 {
			r.Bar = "at most 3 x; p99 < 25 ms"
		}
		b.table.add(r)
	}
	return nil
}

func many(clients int) string {
	if clients == 1 {
		return "1 client"
	}
	return fmt.Sprintf("%d clients", clients)
}

// each opens a connection for every client, and returns its turns.
func (s *server) each(do func(*client) (bool, error)) func(int) (session, error) {
	return s.eachOf(func(_ int, c *client) (bool, error) { return do(c) })
}

// eachOf is each for turns that depend on which client it is.
func (s *server) eachOf(do func(n int, c *client) (bool, error)) func(int) (session, error) {
	return func(n int) (session, error) {
		c, err := dial(s.address)
		if err != nil {
			return session{}, err
		}
		return session{func() (bool, error) { return do(n, c) }, c.conn.Close}, nil
	}
}

func (b *bench) rawCreate(ctx context.Context, clients int, template string) (*result, error) {
	dir, err := b.fresh("raw")
	if err != nil {
		return nil, err
	}
	return b.measure(ctx, clients, func(int) (session, error) {
		wal, err := os.CreateTemp(dir, "wal-")
		if err != nil {
			return session{}, err
		}
		made := 0
		return session{func() (bool, error) {
			made++
			return true, rawCreation(wal, fmt.Sprintf("%s.%d", wal.Name(), made), template)
		}, wal.Close}, nil
	})
}

// rowSize is about what one commit of a creation adds to the write-ahead log.
const rowSize = 2 << 10

// rawCreation does what POST /projects must do on the disk, with nothing around
// it: in the order of modules/projects, and one fsync for each of its commits.
func rawCreation(wal *os.File, path, template string) error {
	fresh := path + ".new"
	if err := commitRaw(wal); err != nil {
		return err
	}
	for _, dir := range []string{"", "db", "in", "out"} {
		if err := os.Mkdir(filepath.Join(fresh, dir), 0o700); err != nil {
			return err
		}
	}
	err := errors.Join(
		copyRaw(filepath.Join(fresh, "db", "data.duckdb"), template),
		writeRaw(filepath.Join(fresh, "lock"), nil),
		writeRaw(filepath.Join(fresh, "project.json"), make([]byte, 300)),
		syncRaw(filepath.Join(fresh, "db")),
		syncRaw(fresh),
		os.Rename(fresh, path),
		syncRaw(filepath.Dir(path)))
	if err != nil {
		return err
	}
	return commitRaw(wal)
}

func commitRaw(wal *os.File) error {
	_, err := wal.Write(make([]byte, rowSize))
	return errors.Join(err, wal.Sync())
}

func copyRaw(path, from string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Sync(), w.Close())
}

func writeRaw(path string, content []byte) error {
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = w.Write(content)
	return errors.Join(err, w.Sync(), w.Close())
}

func syncRaw(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
