package worker

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb/wire"
)

// tellEvery is how often it is told how far work is.
const tellEvery = 250 * time.Millisecond

// progress tells how far the work is. That it cannot be told is no failure.
func (t *task) progress(fraction float64, rows int64) {
	body, err := json.Marshal(wire.Progress{Fraction: fraction, Rows: rows})
	if err == nil {
		_ = t.send(wire.KindProgress, body)
	}
}

// follow tells how far the statement of conn is while do runs it, as the part of
// the whole that lies between from and to.
func (t *task) follow(conn *duck.Conn, from, to float64, do func() error) error {
	over := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		tick := time.NewTicker(tellEvery)
		defer tick.Stop()
		most := 0.0
		for {
			select {
			case <-over:
				return
			case <-tick.C:
			}
			if p := conn.Progress(); p > most {
				most = p
				t.progress(from+(to-from)*p, 0)
			}
		}
	})
	defer telling.Wait()
	defer close(over)
	return do()
}

// kept is a connection whose statements tell how far they are. DuckDB must be asked
// for that before the settings are locked, so that it cannot be had of a new one.
// It runs the copies of imports and exports, one at a time, and no statement of a
// tenant: nothing is left in it.
type kept struct {
	turn turn
	conn *duck.Conn
}

func keep(ctx context.Context, db *duck.DB) (*kept, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if err := conn.TellProgress(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &kept{newTurn(), conn}, nil
}

// use runs do, which ends the transaction that it begins.
func (k *kept) use(ctx context.Context, do func(*duck.Conn) error) error {
	if err := k.turn.take(ctx); err != nil {
		return err
	}
	defer k.turn.pass()
	return do(k.conn)
}

// close ends the connection, if there is one.
func (k *kept) close() error {
	if k == nil {
		return nil
	}
	return k.conn.Close()
}
