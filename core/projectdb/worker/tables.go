package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb/gate"
)

// listTables answers over data frames: a page of tables with many columns is
// larger than a frame may be.
func listTables(ctx context.Context, t *task) (any, error) {
	var page Page
	if err := t.args(&page); err != nil {
		return nil, err
	}
	var found struct {
		Total  int64       `json:"total"`
		Tables []described `json:"tables"`
	}
	list := Tables{Tables: []Table{}}
	err := t.read(ctx, func(conn *duck.Conn) error {
		bucket, err := bucketNamed(ctx, conn, page.Bucket)
		if err != nil {
			return err
		}
		if err := answer(ctx, conn, &found, fmt.Sprintf(selectTables, pageOf(page, 2)), bucket, page.After); err != nil {
			return err
		}
		list.Total = found.Total
		list.Tables, err = counted(ctx, conn, found.Tables)
		return err
	})
	if err != nil {
		return nil, err
	}
	return nil, t.say(list)
}

func getTable(ctx context.Context, t *task) (any, error) {
	var in Target
	if err := t.args(&in); err != nil {
		return nil, err
	}
	var found Table
	err := t.read(ctx, func(conn *duck.Conn) (err error) {
		found, err = readTable(ctx, conn, in.Bucket, in.Table)
		return err
	})
	return found, err
}

func createTable(ctx context.Context, t *task) (any, error) {
	return t.alter(ctx, func(conn *duck.Conn, in Target, c *Changed) error {
		bucket, err := bucketNamed(ctx, conn, in.Bucket)
		if err != nil {
			return err
		}
		taken, err := exists(ctx, conn, bucket, in.Table)
		if err != nil {
			return err
		}
		if taken {
			return eider.Errorf(eider.TableExists, "there is a table or view of that name; case does not count")
		}
		columns, err := checkedColumns(ctx, conn, in.Columns)
		if err != nil {
			return err
		}
		key, err := keyOf(columns, in.Key)
		if err != nil {
			return err
		}
		if err := conn.Exec(ctx, createSQL(qualified(bucket, in.Table), columns, key)); err != nil {
			return blamed(err, eider.InvalidPrimaryKey)
		}
		if err := conn.Exec(ctx, `INSERT INTO "data"._eider.tables VALUES ($1, $2, now())`, bucket, in.Table); err != nil {
			return err
		}
		return c.shows(ctx, conn, bucket, in.Table)
	})
}

// shows reads the table as the change has left it.
func (c *Changed) shows(ctx context.Context, conn *duck.Conn, bucket, name string) error {
	table, err := readTable(ctx, conn, bucket, name)
	c.Table = &table
	return err
}

// checkedColumns replaces what a tenant wrote by what may stand in a statement.
func checkedColumns(ctx context.Context, conn *duck.Conn, columns []Column) ([]Column, error) {
	checked := make([]Column, len(columns))
	for i, c := range columns {
		var err error
		if checked[i], err = checkedColumn(ctx, conn, c); err != nil {
			return nil, inColumn(i, err)
		}
	}
	return checked, nil
}

// inColumn says which column a refusal is about. It repeats no name.
func inColumn(i int, err error) error {
	var refusal *eider.Error
	if !errors.As(err, &refusal) {
		return err
	}
	told := *refusal
	told.Message = fmt.Sprintf("column %d: %s", i+1, refusal.Message)
	if refusal.Logged != "" {
		told.Logged = fmt.Sprintf("column %d: %s", i+1, refusal.Logged)
	}
	return &told
}

func checkedColumn(ctx context.Context, conn *duck.Conn, c Column) (Column, error) {
	var err error
	if c.Type, err = checkType(ctx, conn, c.Type); err != nil {
		return c, err
	}
	if c.Default != nil {
		text, err := checkDefault(ctx, conn, *c.Default, c.Type)
		if err != nil {
			return c, err
		}
		c.Default = &text
	}
	return c, nil
}

// keyOf returns the columns of a primary key by the names that they have.
func keyOf(columns []Column, names []string) ([]string, error) {
	var key []string
	for _, name := range names {
		at := -1
		for i := range columns {
			if gate.Same(columns[i].Name, name) {
				at = i
			}
		}
		if at < 0 {
			return nil, eider.Errorf(eider.InvalidPrimaryKey, "the primary key names a column that the table does not have")
		}
		for _, k := range key {
			if k == columns[at].Name {
				return nil, eider.Errorf(eider.InvalidPrimaryKey, "the primary key names a column twice")
			}
		}
		key = append(key, columns[at].Name)
	}
	return key, nil
}

func createSQL(table string, columns []Column, key []string) string {
	parts := make([]string, 0, len(columns)+1)
	for _, c := range columns {
		part := quote(c.Name) + " " + c.Type
		if c.Default != nil {
			part += " DEFAULT (" + *c.Default + ")"
		}
		if !c.Nullable {
			part += " NOT NULL"
		}
		parts = append(parts, part)
	}
	if len(key) > 0 {
		parts = append(parts, "PRIMARY KEY ("+quoteAll(key)+")")
	}
	return "CREATE TABLE " + table + " (" + strings.Join(parts, ", ") + ")"
}

func quoteAll(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = quote(name)
	}
	return strings.Join(quoted, ", ")
}

func dropTable(ctx context.Context, t *task) (any, error) {
	return t.alter(ctx, func(conn *duck.Conn, in Target, c *Changed) error {
		d, err := describe(ctx, conn, in.Bucket, in.Table)
		if err != nil {
			return err
		}
		if err := conn.Exec(ctx, `DROP TABLE `+d.sql()); err != nil {
			return err
		}
		return conn.Exec(ctx, `DELETE FROM "data"._eider.tables WHERE bucket = $1 AND name = $2`, d.Bucket, d.Name)
	})
}

// blamed gives what DuckDB says of a tenant's text or values the code. What is no
// fault of the tenant's stays as it is.
func blamed(err error, code eider.Code) error {
	if c, ok := said(err); ok {
		return eider.Errorf(code, "%s", c.Words).LoggedAs(gate.ForLog(c))
	}
	return err
}

// said returns what DuckDB says of a tenant's text or values, in its first line:
// the others may repeat a statement of ours.
func said(err error) (c duck.Complaint, ok bool) {
	var refusal *eider.Error
	if err == nil || errors.As(err, &refusal) {
		return c, false
	}
	c, ok = duck.Complains(err)
	c.Words, _, _ = strings.Cut(c.Words, "\n")
	return c, ok && c.Kind != duck.ComplaintMemory
}
