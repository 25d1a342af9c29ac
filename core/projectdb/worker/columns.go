package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
)

func addColumn(ctx context.Context, t *task) (any, error) {
	return t.alter(ctx, func(conn *duck.Conn, in Target, c *Changed) error {
		d, err := describe(ctx, conn, in.Bucket, in.Table)
		if err != nil {
			return err
		}
		if len(in.Columns) != 1 {
			return errors.New("one column is added at a time")
		}
		if _, err := d.column(in.Columns[0].Name); err == nil {
			return taken()
		}
		column, err := checkedColumn(ctx, conn, in.Columns[0])
		if err != nil {
			return err
		}
		statement := `ALTER TABLE ` + d.sql() + ` ADD COLUMN ` + quote(column.Name) + ` ` + column.Type
		if column.Default != nil {
			statement += ` DEFAULT (` + *column.Default + `)`
		}
		if err := conn.Exec(ctx, statement); err != nil {
			return blamed(err, eider.InvalidColumnType)
		}
		if !column.Nullable {
			if err := notNull(ctx, conn, &d, column.Name, "nullable"); err != nil {
				return err
			}
		}
		return c.shows(ctx, conn, d.Bucket, d.Name)
	})
}

func taken() error {
	return eider.Errorf(eider.ColumnExists, "the table has a column of that name; case does not count")
}

// notNull forbids NULL in a column, which the field asked for.
func notNull(ctx context.Context, conn *duck.Conn, d *described, column, field string) error {
	err := conn.Exec(ctx, `ALTER TABLE `+d.sql()+` ALTER COLUMN `+quote(column)+` SET NOT NULL`)
	if errors.Is(err, duck.ErrConstraint) {
		return eider.Invalid(field, "rows hold NULL in the column")
	}
	return err
}

func dropColumn(ctx context.Context, t *task) (any, error) {
	return t.alter(ctx, func(conn *duck.Conn, in Target, c *Changed) error {
		d, err := describe(ctx, conn, in.Bucket, in.Table)
		if err != nil {
			return err
		}
		at, err := d.column(in.Column)
		if err != nil {
			return err
		}
		if d.inKey(d.Columns[at].Name) {
			return eider.Errorf(eider.ColumnInPrimaryKey, "the column belongs to the primary key")
		}
		if len(d.Columns) == 1 {
			return eider.Errorf(eider.CannotDropLastColumn, "a table keeps at least one column")
		}
		if len(d.Key) > 0 { // DuckDB refuses where a column of the key stands behind it
			next := d
			next.Columns = append(append(next.Columns[:0:0], d.Columns[:at]...), d.Columns[at+1:]...)
			err = t.rebuild(ctx, conn, &d, &next, nil)
		} else {
			err = conn.Exec(ctx, `ALTER TABLE `+d.sql()+` DROP COLUMN `+quote(d.Columns[at].Name))
		}
		if err != nil {
			return err
		}
		return c.shows(ctx, conn, d.Bucket, d.Name)
	})
}

// alterColumn changes a column in the order type, default, NOT NULL, name.
func alterColumn(ctx context.Context, t *task) (any, error) {
	return t.alter(ctx, func(conn *duck.Conn, in Target, c *Changed) error {
		d, err := describe(ctx, conn, in.Bucket, in.Table)
		if err != nil {
			return err
		}
		at, err := d.column(in.Column)
		if err != nil {
			return err
		}
		if err := checkAlter(&d, at, in.Alter); err != nil {
			return err
		}
		if err := t.retype(ctx, conn, &d, at, in.Alter); err != nil {
			return err
		}
		if err := redefine(ctx, conn, &d, at, in.Alter); err != nil {
			return err
		}
		return c.shows(ctx, conn, d.Bucket, d.Name)
	})
}

// checkAlter refuses what the table's other columns or its key do not allow.
func checkAlter(d *described, at int, a *Alter) error {
	if a.Name != nil {
		if other, err := d.column(*a.Name); err == nil && other != at {
			return taken()
		}
	}
	if a.NotNull != nil && !*a.NotNull && d.inKey(d.Columns[at].Name) {
		return eider.Errorf(eider.ColumnInPrimaryKey, "a column of the primary key cannot hold NULL")
	}
	return nil
}

// retype changes a column's type. DuckDB does so for no column of a primary key:
// such a table is rebuilt.
func (t *task) retype(ctx context.Context, conn *duck.Conn, d *described, at int, a *Alter) error {
	if a.Type == nil {
		return nil
	}
	kind, err := checkType(ctx, conn, *a.Type)
	if err != nil {
		return err
	}
	column := &d.Columns[at]
	if column.Default != nil && a.Default == nil && !a.DropDefault {
		if _, err := checkDefault(ctx, conn, *column.Default, kind); err != nil {
			return eider.Errorf(eider.InvalidColumnType, "the default of the column does not go with the type; change both")
		}
	}
	if d.inKey(column.Name) {
		before := *d
		before.Columns = append(before.Columns[:0:0], d.Columns...)
		column.Type = kind
		err = t.rebuild(ctx, conn, &before, d, map[string]string{column.Name: `CAST(` + quote(column.Name) + ` AS ` + kind + `)`})
	} else {
		column.Type = kind
		err = conn.Exec(ctx, `ALTER TABLE `+d.sql()+` ALTER COLUMN `+quote(column.Name)+` SET DATA TYPE `+kind)
	}
	return blamed(err, eider.InvalidColumnType)
}

// redefine changes default, NOT NULL and name.
func redefine(ctx context.Context, conn *duck.Conn, d *described, at int, a *Alter) error {
	column := d.Columns[at]
	alter := `ALTER TABLE ` + d.sql() + ` ALTER COLUMN ` + quote(column.Name)
	if a.Default != nil {
		text, err := checkDefault(ctx, conn, *a.Default, column.Type)
		if err != nil {
			return err
		}
		if err := conn.Exec(ctx, alter+` SET DEFAULT (`+text+`)`); err != nil {
			return err
		}
	}
	if a.DropDefault {
		if err := conn.Exec(ctx, alter+` DROP DEFAULT`); err != nil {
			return err
		}
	}
	if a.NotNull != nil && *a.NotNull == column.Nullable {
		if !*a.NotNull {
			if err := conn.Exec(ctx, alter+` DROP NOT NULL`); err != nil {
				return err
			}
		} else if err := notNull(ctx, conn, d, column.Name, "set_not_null"); err != nil {
			return err
		}
	}
	if a.Name == nil || *a.Name == column.Name {
		return nil
	}
	return conn.Exec(ctx, `ALTER TABLE `+d.sql()+` RENAME COLUMN `+quote(column.Name)+` TO `+quote(*a.Name))
}

// rebuild makes the table anew, with other columns or another key, and moves the
// rows; how says by which expression a column is read where that is not its name.
// Defaults, NOT NULL and comments stay as next has them.
func (t *task) rebuild(ctx context.Context, conn *duck.Conn, old, next *described, how map[string]string) error {
	if old.Others > 0 {
		return eider.Errorf(eider.StatementNotAllowed, "the table has constraints that were made elsewhere and would be lost")
	}
	aside := described{Bucket: old.Bucket, Name: "_eider_" + t.request.Call}
	plain := make([]Column, len(next.Columns))
	values, names := make([]string, len(plain)), make([]string, len(plain))
	for i := range next.Columns {
		plain[i] = next.Columns[i].Column
		names[i], values[i] = plain[i].Name, quote(plain[i].Name)
		if expression := how[plain[i].Name]; expression != "" {
			values[i] = expression
		}
	}
	statements := []string{
		`ALTER TABLE ` + old.sql() + ` RENAME TO ` + quote(aside.Name),
		createSQL(next.sql(), plain, next.Key),
		`INSERT INTO ` + next.sql() + ` (` + quoteAll(names) + `) SELECT ` + strings.Join(values, ", ") + ` FROM ` + aside.sql(),
		`DROP TABLE ` + aside.sql(),
	}
	if next.Comment != nil {
		statements = append(statements, `COMMENT ON TABLE `+next.sql()+` IS '`+quoteText(*next.Comment)+`'`)
	}
	for _, c := range next.Columns {
		if c.Comment != nil {
			statements = append(statements, fmt.Sprintf(`COMMENT ON COLUMN %s.%s IS '%s'`, next.sql(), quote(c.Name), quoteText(*c.Comment)))
		}
	}
	for _, one := range statements {
		if err := conn.Exec(ctx, one); err != nil {
			return err
		}
	}
	return nil
}
