package worker

import (
	"context"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
)

// deleteRows counts before and after: what a condition holds for may be another
// row each time it is asked.
func deleteRows(ctx context.Context, t *task) (any, error) {
	return t.alter(ctx, func(conn *duck.Conn, in Target, c *Changed) error {
		d, err := describe(ctx, conn, in.Bucket, in.Table)
		if err != nil {
			return err
		}
		where, err := checkWhere(ctx, conn, in.Where)
		if err != nil {
			return err
		}
		before, err := countRows(ctx, conn, d.sql())
		if err != nil {
			return err
		}
		if err := conn.Exec(ctx, `DELETE FROM `+d.sql()+` WHERE (`+where+`)`); err != nil {
			return blamed(err, eider.InvalidWhereClause)
		}
		c.Rows, err = countRows(ctx, conn, d.sql())
		c.Deleted = before - c.Rows
		return err
	})
}
