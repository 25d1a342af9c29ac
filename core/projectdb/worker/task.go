package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb/wire"
	"google.golang.org/grpc"
)

// operation does what a request asks for. What it returns is the request's result.
type operation func(ctx context.Context, t *task) (any, error)

// task is a request under way.
type task struct {
	*worker
	request wire.Request
	stream  grpc.ServerStream
	kept    string // JSON that is written beside the call's id
	commits chan struct{}
}

// keep has the result of a change written beside the id of its call: whoever
// finds the change there after a crash learns what it was.
func (t *task) keep(result any) error {
	text, err := json.Marshal(result)
	t.kept = string(text)
	return err
}

// args reads the request's arguments.
func (t *task) args(into any) error {
	if err := json.Unmarshal(t.request.Args, into); err != nil {
		return fmt.Errorf("arguments of %s: %w", t.request.Op, err)
	}
	return nil
}

func (t *task) send(kind byte, body []byte) error {
	return t.stream.SendMsg(&wire.Frame{Kind: kind, Body: body})
}

// give sends bytes for the client, which are nobody else's from now on, and returns
// room for more where they filled theirs.
func (t *task) give(p []byte) (room []byte, err error) {
	full := len(p) >= pieceSize
	for len(p) >= wire.MaxFrame && err == nil {
		const n = wire.MaxFrame - 1
		err = t.stream.SendMsg(t.codec.Data(p[:n:n]))
		p = p[n:]
	}
	if err == nil {
		err = t.stream.SendMsg(t.codec.Data(p))
	}
	if full {
		room = (*t.codec.Pool.Get(pieceSize))[:0]
	}
	return room, err
}

func (t *task) head(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return t.send(wire.KindHead, text)
}

// read runs do with a connection of its own, which is thrown away: what a
// statement leaves in a connection is nobody else's.
func (t *task) read(ctx context.Context, do func(*duck.Conn) error) error {
	if err := t.begins(ctx); err != nil {
		return err
	}
	conn, err := t.db.Conn(ctx)
	if err != nil {
		return err
	}
	return errors.Join(do(conn), conn.Close())
}

// begins waits while a change commits. Rows that were written to the file before
// their commit are seen by all from its beginning on, those that it deletes until its
// end: a read that began between would see both.
func (w *worker) begins(ctx context.Context) error {
	if err := w.commit.take(ctx); err != nil {
		return err
	}
	w.commit.pass()
	return nil
}

// change runs do in a transaction, beside which the id of the call is written: a
// change that is there can be told from one that is not, whatever became of the
// worker or the server.
func (t *task) change(ctx context.Context, do func(*duck.Conn) error) error {
	return t.changeOn(ctx, t.read, do)
}

// changeOn is change on a connection that use has.
func (t *task) changeOn(ctx context.Context, use func(context.Context, func(*duck.Conn) error) error, do func(*duck.Conn) error) error {
	if err := t.write.take(ctx); err != nil {
		return err
	}
	defer t.write.pass()
	return use(ctx, func(conn *duck.Conn) error {
		if err := conn.Begin(ctx); err != nil {
			return err
		}
		err := do(conn)
		if err == nil && t.request.Call != "" {
			err = conn.Exec(ctx, `INSERT INTO "data"._eider.calls VALUES ($1, now(), $2)`, t.request.Call, cmp.Or(t.kept, "null"))
		}
		if err == nil {
			err = ctx.Err() // nobody waits for it any more
		}
		if err != nil {
			return errors.Join(err, conn.Rollback())
		}
		close(t.commits)
		if err := t.commit.take(context.WithoutCancel(ctx)); err != nil {
			return err
		}
		defer t.commit.pass()
		return conn.Commit()
	})
}

// turn is a lock that a waiting task gives up when it is cancelled: it must end
// then, or the worker is killed with what it waits for.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) pass() { <-t }

// What Eider itself keeps in a project's database. Tenants' SQL cannot name it.
const (
	createState   = `CREATE SCHEMA IF NOT EXISTS _eider`
	createCalls   = `CREATE TABLE IF NOT EXISTS _eider.calls (call_id TEXT, done_at TIMESTAMPTZ, result TEXT)`
	createBuckets = `CREATE TABLE IF NOT EXISTS _eider.buckets (name TEXT, description TEXT, created_at TIMESTAMPTZ)`
	createTables  = `CREATE TABLE IF NOT EXISTS _eider.tables (bucket TEXT, name TEXT, created_at TIMESTAMPTZ)`
)

// forgetCalls keeps the last 10,000. Only calls that a server left unfinished are
// asked for, and those are among the last.
const forgetCalls = `
	DELETE FROM "data"._eider.calls
	WHERE done_at < (SELECT done_at FROM "data"._eider.calls ORDER BY done_at DESC LIMIT 1 OFFSET 9999)`

func quoteText(s string) string { return strings.ReplaceAll(s, "'", "''") }

// explain gives an error of DuckDB the code by which a caller is told.
func explain(err error) *eider.Error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return eider.Errorf(eider.RequestTimeout, "the statement took too long")
	case errors.Is(err, context.Canceled), errors.Is(err, duck.ErrInterrupted):
		return eider.Errorf(eider.Cancelled, "the statement was cancelled")
	case errors.Is(err, duck.ErrFull):
		return eider.Errorf(eider.StorageFull, "there is no room for it")
	case errors.Is(err, duck.ErrFatal), errors.Is(err, duck.ErrSync), errors.Is(err, duck.ErrIO), errors.Is(err, duck.ErrCorrupt), errors.Is(err, duck.ErrWAL):
		return eider.Errorf(eider.StorageUnavailable, "the project's database cannot be used now").Because(err)
	}
	return eider.Errorf(eider.Internal, "the statement failed in the server").Because(err)
}
