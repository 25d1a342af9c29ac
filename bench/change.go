package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/eiderdb/eider/core/duck"
	"github.com/google/uuid"
)

// benchChange measures PATCH /projects beside the same change made on the driver
// as most programs would: a transaction for each, with its three statements.
func benchChange(ctx context.Context, b *bench) error {
	dir, err := b.fresh("change")
	if err != nil {
		return err
	}
	s, err := b.serve(dir)
	if err != nil {
		return err
	}
	owners, err := s.populate(ctx, b.most)
	if err != nil {
		return errors.Join(err, s.stop())
	}
	loads := map[int]*result{}
	spent := map[int]time.Duration{}
	counts := b.clients(1, 8, 64, 512)
	for _, clients := range counts {
		if loads[clients], spent[clients], err = b.patch(ctx, s, owners, clients); err != nil {
			return errors.Join(err, s.stop())
		}
	}
	if err := s.stop(); err != nil {
		return err
	}
	alone, err := b.changeAlone(ctx, dir)
	if err != nil {
		return err
	}
	b.table.add(alone.row("the driver, a transaction for each change"))
	bars := map[int]string{64: "at least 3,000/s and 15 x", 512: "at least 10,000/s"}
	for _, clients := range counts {
		r := loads[clients].row("PATCH /projects/{id}, " + many(clients))
		r.CPU, r.Bar = spent[clients], bars[clients]
		r.Ratio, r.Of = loads[clients].rate()/alone.rate(), "rate of the driver's"
		b.table.add(r)
	}
	return nil
}

func (b *bench) patch(ctx context.Context, s *server, owners []owner, clients int) (*result, time.Duration, error) {
	names := make([]int, clients)
	return s.spent(func() (*result, error) {
		return b.measure(ctx, clients, s.eachOf(func(n int, c *client) (bool, error) {
			names[n]++
			return true, c.want(200, "PATCH", owners[n].path, owners[n].key, fmt.Sprintf(`{"name":"name %d of %d"}`, names[n], n))
		}))
	})
}

// owner is a project and its own key.
type owner struct{ path, key string }

// populate makes projects, each with its folder.
func (s *server) populate(ctx context.Context, count int) ([]owner, error) {
	c, err := dial(s.address)
	if err != nil {
		return nil, err
	}
	defer c.close()
	all := make([]owner, count)
	for i := range all {
		if err := errors.Join(ctx.Err(), c.want(201, "POST", "/projects", s.root, fmt.Sprintf(`{"id":"p%d"}`, i))); err != nil {
			return nil, err
		}
		var made struct {
			Key string `json:"api_key"`
		}
		if err := json.Unmarshal(c.body, &made); err != nil {
			return nil, err
		}
		all[i] = owner{fmt.Sprintf("/projects/p%d", i), made.Key}
	}
	return all, nil
}

const (
	selectAlone = `SELECT * FROM projects WHERE id = $1`
	updateAlone = `UPDATE projects SET name = $1, updated_at = $2 WHERE id = $3`
	insertAlone = `
		INSERT INTO operations_log VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
			$13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25)`
)

// changeAlone makes the change on the metadata database of a stopped server:
// read the project, update it, insert a log row, commit. Neither HTTP nor keys nor hashes
// are in it, and one client is as fast as many: they take turns.
func (b *bench) changeAlone(ctx context.Context, dir string) (*result, error) {
	db, err := duck.Open(ctx, filepath.Join(dir, "metadata.duckdb"), duck.Options{MemoryLimit: "1GiB"})
	if err != nil {
		return nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	id := int64(1 << 40)
	got, err := b.measure(ctx, 1, func(int) (session, error) {
		return session{turn: func() (bool, error) {
			id++
			return true, changeOnce(ctx, conn, id, int64(b.most))
		}}, nil
	})
	return got, errors.Join(err, conn.Close(), db.Close())
}

func changeOnce(ctx context.Context, conn *duck.Conn, id, owners int64) error {
	now := time.Now().UTC()
	if err := conn.Begin(ctx); err != nil {
		return err
	}
	project := fmt.Sprintf("p%d", id%owners)
	if err := conn.Exec(ctx, selectAlone, project); err != nil {
		return err
	}
	if err := conn.Exec(ctx, updateAlone, fmt.Sprintf("name %d", id), now, project); err != nil {
		return err
	}
	values := []any{
		id, uuid.NewString(), now, uuid.NewString(), "", "key", "0123456789abcdef", "first key", "127.0.0.1",
		"p", uuid.NewString(), "update_project", "project", "p", `{"name":"name"}`, int64(400), "success", "", "", "",
		int64(0), int64(1), make([]byte, 32), make([]byte, 32), id,
	}
	if err := conn.Exec(ctx, insertAlone, values...); err != nil {
		return err
	}
	return conn.Commit()
}
