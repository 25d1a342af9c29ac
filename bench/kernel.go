package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/metadata/duckdb"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/schema"
	"github.com/eiderdb/eider/core/telemetry"
	"github.com/eiderdb/eider/core/usage"
)

// benchKernel measures a declared change of one row through the whole pipeline,
// in this process: what the kernel makes durable when nobody has to be spoken to
// over HTTP. Each change is a row, its usage and a chained row of the log.
func benchKernel(ctx context.Context, b *bench) error {
	dir, err := b.fresh("kernel")
	if err != nil {
		return err
	}
	k, err := openKernel(ctx, dir)
	if err != nil {
		return err
	}
	bars := map[int]string{64: "at least 3,000/s", 512: "at least 10,000/s"}
	for _, callers := range b.clients(1, 8, 64, 512) {
		got, err := b.measure(ctx, callers, k.session)
		if err != nil {
			return errors.Join(err, k.close())
		}
		r := got.row("a declared change in this process, " + strings.Replace(many(callers), "client", "caller", 1))
		r.Bar = bars[callers]
		b.table.add(r)
	}
	return k.close()
}

// counter is the row that a caller changes.
type counter struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Count int64  `json:"count"`
}

type addToCounter struct {
	ID   string `path:"id" json:"-" doc:"The counter"`
	Name string `json:"name"`
}

// kernel is a pipeline on a store of its own.
type kernel struct {
	pipeline *operation.Pipeline
	counters *metadata.Table[counter]
	add      *operation.Declared
}

func openKernel(ctx context.Context, dir string) (*kernel, error) {
	t := telemetry.Discard()
	engine, err := duckdb.Open(ctx, duckdb.Options{Path: filepath.Join(dir, "metadata.duckdb"), Threads: 1})
	if err != nil {
		return nil, err
	}
	k := &kernel{counters: metadata.NewTable(metadata.Def[counter]{
		Name: "counters", Hot: true, Missing: eider.NotFound, Noun: "counter",
		Columns: []metadata.Column{{Name: "id", Kind: metadata.Text}, {Name: "name", Kind: metadata.Text}, {Name: "count", Kind: metadata.Int}},
		Key:     func(c *counter) string { return c.ID },
		Encode:  func(c *counter) []any { return []any{c.ID, c.Name, c.Count} },
		Decode: func(scan func(...any) error) (c counter, err error) {
			return c, scan(&c.ID, &c.Name, &c.Count)
		},
	})}
	set, records, book, log := operation.NewSet(), operation.NewIdempotency(time.Hour), usage.NewBook(), audit.NewLog(nil, t.Log)
	operation.Write(set, operation.Spec{
		Name: "add", Route: "PATCH /counters/{id}", Role: eider.Admin, Target: "counter", Summary: "Add one",
		Reserve: usage.Amounts{Rows: 1},
	}, func(ctx context.Context, tx *operation.Tx, in addToCounter) (counter, error) {
		c, err := k.counters.Get(ctx, tx, in.ID)
		if err != nil && eider.CodeOf(err) != eider.NotFound {
			return c, err
		}
		c = counter{in.ID, in.Name, c.Count + 1}
		if err := book.Add(ctx, tx, "", usage.Amounts{Rows: 1}); err != nil {
			return c, err
		}
		return c, k.counters.Put(ctx, tx, c)
	})
	k.add = set.Named("add")
	store, err := metadata.Open(ctx, metadata.Options{
		Engine: engine, Sealer: log, Log: t.Log, Housekeeping: []string{"idempotency_keys"},
		Tables: []metadata.AnyTable{k.counters, book.Table, records.Table()},
		Migrations: append(append(append(audit.Migrations(), usage.Migrations()...), operation.Migrations()...), metadata.Migration{
			Owner: "bench", Number: 1, SQL: []string{`CREATE TABLE counters (id TEXT PRIMARY KEY, name TEXT NOT NULL, count BIGINT NOT NULL)`},
		}),
	})
	if err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	chain, err := policy.NewChain(nil, t.Log)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	k.pipeline, err = operation.New(operation.Options{
		Set: set, Store: store, Audit: log, Usage: book, Policies: chain, Log: t.Log, Tracer: t.Tracer, Meter: t.Meter,
		Full: func() bool { return false },
	}, records)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return k, nil
}

// session changes the caller's own counter, turn by turn.
func (k *kernel) session(n int) (session, error) {
	id, turn := fmt.Sprintf("counter-%d", n), 0
	return session{turn: func() (bool, error) {
		turn++
		_, err := k.pipeline.Do(context.Background(), k.add, &operation.Request{
			Method: "PATCH", Path: "/counters/" + id, RequestID: "bench", SourceIP: "127.0.0.1", Begun: time.Now(),
			Actor: eider.Actor{Type: eider.ActorRoot, Role: eider.Admin},
			Source: schema.Source{
				Param: func(string) string { return id }, Header: func(string) string { return "" },
				Body: fmt.Appendf(nil, `{"name":"name %d of %d"}`, turn, n), ContentType: "application/json",
			},
		})
		return true, err
	}}, nil
}

func (k *kernel) close() error {
	k.pipeline.Close(context.Background())
	return k.pipeline.Store.Close()
}
