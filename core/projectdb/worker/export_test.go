package worker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/eiderdb/eider/core/duck"
)

// Raw asks a worker of the tests to run a text as it came. Its rows are answered
// as bytes.
type Raw struct {
	SQL    string `json:"sql"`
	Undone bool   `json:"undone"` // in a transaction that is rolled back
}

// ServeUngated is Serve with a further operation, raw, which no gate looks at.
// Without locks DuckDB's own settings are left open too, so that nothing but the
// confinement is in the way.
func ServeUngated(log *slog.Logger, confine Confine, locked bool) error {
	w := &worker{log: log, ops: operations(), locks: locks, write: newTurn(), commit: newTurn()}
	if !locked {
		w.locks = func(*worker) []string { return nil }
	}
	w.ops["raw"] = raw
	return serve(confine, w)
}

func raw(ctx context.Context, t *task) (any, error) {
	var in Raw
	if err := t.args(&in); err != nil {
		return nil, err
	}
	err := t.read(ctx, func(conn *duck.Conn) (err error) {
		if in.Undone {
			if err := conn.Begin(ctx); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, conn.Rollback()) }()
		}
		b, err := conn.Stream(ctx, in.SQL)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, b.Close()) }()
		for {
			batch, err := b.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err == nil {
				var text bytes.Buffer
				err = array.RecordToJSON(batch, &text)
				batch.Release()
				if err == nil {
					_, err = t.give(text.Bytes())
				}
			}
			if err != nil {
				return err
			}
		}
	})
	return struct{}{}, t.blame(err, in.SQL)
}
