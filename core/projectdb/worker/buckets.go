package worker

import (
	"context"
	"fmt"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
)

func listBuckets(ctx context.Context, t *task) (any, error) {
	var page Page
	if err := t.args(&page); err != nil {
		return nil, err
	}
	found := Buckets{}
	err := t.read(ctx, func(conn *duck.Conn) error {
		return answer(ctx, conn, &found, fmt.Sprintf(selectBuckets, pageOf(page, 1)), page.After)
	})
	return found, err
}

// pageOf is the condition of a page, whose last name before it is parameter n.
func pageOf(p Page, n int) string {
	return fmt.Sprintf(`($%d = '' OR name > $%d) ORDER BY name LIMIT %d OFFSET %d`, n, n, p.Limit, p.Offset)
}

func getBucket(ctx context.Context, t *task) (any, error) {
	var in Target
	if err := t.args(&in); err != nil {
		return nil, err
	}
	var found Bucket
	err := t.read(ctx, func(conn *duck.Conn) (err error) {
		found, err = findBucket(ctx, conn, in.Bucket)
		return err
	})
	return found, err
}

// alter runs a change and measures the database after it.
func (t *task) alter(ctx context.Context, do func(*duck.Conn, Target, *Changed) error) (any, error) {
	var in Target
	if err := t.args(&in); err != nil {
		return nil, err
	}
	var c Changed
	err := t.change(ctx, func(conn *duck.Conn) error {
		c = Changed{}
		if err := do(conn, in, &c); err != nil {
			return err
		}
		return t.keep(Changed{Deleted: c.Deleted, Rows: c.Rows})
	})
	if err != nil {
		return nil, err
	}
	c.Measured = t.measure(context.WithoutCancel(ctx))
	return c, nil
}

func createBucket(ctx context.Context, t *task) (any, error) {
	return t.alter(ctx, func(conn *duck.Conn, in Target, c *Changed) error {
		switch _, err := findBucket(ctx, conn, in.Bucket); {
		case err == nil:
			return eider.Errorf(eider.BucketExists, "there is a bucket of that name; case does not count")
		case eider.CodeOf(err) != eider.BucketNotFound:
			return err
		}
		if err := conn.Exec(ctx, `CREATE SCHEMA `+schemaSQL(in.Bucket)); err != nil {
			return err
		}
		c.Bucket = &Bucket{Name: in.Bucket, Description: in.Description}
		return conn.Exec(ctx, `INSERT INTO "data"._eider.buckets VALUES ($1, $2, now())`, in.Bucket, nullable(in.Description))
	})
}

// nullable returns what the driver takes for a text that may be absent.
func nullable(text *string) any {
	if text == nil {
		return nil
	}
	return *text
}

func dropBucket(ctx context.Context, t *task) (any, error) {
	return t.alter(ctx, func(conn *duck.Conn, in Target, c *Changed) error {
		found, err := findBucket(ctx, conn, in.Bucket)
		if err != nil {
			return err
		}
		held := int64(0)
		err = answer(ctx, conn, &held, `
			SELECT ((SELECT count(*) FROM duckdb_tables() WHERE database_name = '`+database+`' AND schema_name = $1)
				+ (SELECT count(*) FROM duckdb_views() WHERE database_name = '`+database+`' AND schema_name = $1))::VARCHAR`, found.Name)
		if err != nil {
			return err
		}
		if held > 0 && !in.Cascade {
			return eider.Errorf(eider.BucketNotEmpty, "bucket %s holds %d tables and views; cascade=true drops them too", found.Name, held)
		}
		if err := conn.Exec(ctx, `DROP SCHEMA `+schemaSQL(found.Name)+` CASCADE`); err != nil {
			return err
		}
		if err := conn.Exec(ctx, `DELETE FROM "data"._eider.tables WHERE bucket = $1`, found.Name); err != nil {
			return err
		}
		return conn.Exec(ctx, `DELETE FROM "data"._eider.buckets WHERE name = $1`, found.Name)
	})
}
