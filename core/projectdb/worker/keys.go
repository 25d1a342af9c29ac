package worker

import (
	"context"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
)

func addKey(ctx context.Context, t *task) (any, error) {
	return t.alter(ctx, func(conn *duck.Conn, in Target, c *Changed) error {
		d, err := describe(ctx, conn, in.Bucket, in.Table)
		if err != nil {
			return err
		}
		if len(d.Key) > 0 {
			return eider.Errorf(eider.PrimaryKeyExists, "the table has a primary key already")
		}
		key, err := keyOf(d.table().Columns, in.Key)
		if err != nil {
			return err
		}
		if err := conn.Exec(ctx, `ALTER TABLE `+d.sql()+` ADD PRIMARY KEY (`+quoteAll(key)+`)`); err != nil {
			return blamed(err, eider.InvalidPrimaryKey)
		}
		return c.shows(ctx, conn, d.Bucket, d.Name)
	})
}

// dropKey rebuilds the table: DuckDB drops no primary key. Its columns still hold
// no NULL.
func dropKey(ctx context.Context, t *task) (any, error) {
	return t.alter(ctx, func(conn *duck.Conn, in Target, c *Changed) error {
		d, err := describe(ctx, conn, in.Bucket, in.Table)
		if err != nil {
			return err
		}
		if len(d.Key) == 0 {
			return eider.Errorf(eider.NoPrimaryKey, "the table has no primary key")
		}
		next := d
		next.Key = nil
		if err := t.rebuild(ctx, conn, &d, &next, nil); err != nil {
			return err
		}
		return c.shows(ctx, conn, d.Bucket, d.Name)
	})
}
