package worker

import "fmt"

// The server believes no figure of a worker that no database has. What it shows
// to the project alone may still be wrong where a tenant has got hold of the
// worker; what it adds up must neither overflow nor be negative.
const (
	maxRows     = 1 << 44
	maxThings   = 1 << 24 // tables, or buckets
	maxBytes    = 1 << 50
	rowsPerByte = 1024 // rows that a byte of the file stands for, where all are alike
)

// figure is a number that a worker told, and the most that it can be.
type figure struct {
	what    string
	n, most int64
}

func check(all ...figure) error {
	for _, f := range all {
		if f.n < 0 || f.n > f.most {
			return fmt.Errorf("%s cannot be %d", f.what, f.n)
		}
	}
	return nil
}

// Check refuses figures that no database has.
func (m *Measured) Check() error {
	if m == nil {
		return nil
	}
	if m.At < 0 {
		return fmt.Errorf("nothing was measured at %d", m.At)
	}
	return check(figure{"size", m.Size, maxBytes}, figure{"tables", m.Tables, maxThings}, figure{"buckets", m.Buckets, maxThings}, figure{"rows", m.Rows, maxRows})
}

// Within is what was measured, as far as files of that size, in bytes, can hold it.
func (m Measured) Within(size int64) Measured {
	m.Size = size
	m.Tables, m.Buckets = min(m.Tables, size), min(m.Buckets, size)
	m.Rows = min(m.Rows, size*rowsPerByte)
	return m
}

// Check refuses figures that no table has.
func (t *Table) Check() error {
	if t == nil {
		return nil
	}
	return check(figure{"rows", t.RowCount, maxRows}, figure{"size", t.SizeBytes, maxBytes})
}

// Check refuses a count that no bucket has.
func (b *Bucket) Check() error {
	if b == nil {
		return nil
	}
	return check(figure{"tables", b.TableCount, maxThings})
}

// Check refuses figures that no change has.
func (c *Changed) Check() error {
	for _, of := range []interface{ Check() error }{c.Measured, c.Table, c.Bucket} {
		if err := of.Check(); err != nil {
			return err
		}
	}
	return check(figure{"deleted rows", c.Deleted, maxRows}, figure{"rows", c.Rows, maxRows})
}

// Check refuses figures that no list has.
func (b *Buckets) Check() error {
	for i := range b.Buckets {
		if err := b.Buckets[i].Check(); err != nil {
			return err
		}
	}
	return check(figure{"buckets", b.Total, maxThings})
}

// Check refuses figures that no list has.
func (t *Tables) Check() error {
	for i := range t.Tables {
		if err := t.Tables[i].Check(); err != nil {
			return err
		}
	}
	return check(figure{"tables", t.Total, maxThings})
}

// Check refuses figures that no preview has.
func (p *Preview) Check() error {
	return check(figure{"rows", p.TotalRowCount, maxRows}, figure{"rows shown", p.PreviewRowCount, int64(len(p.Rows))})
}

// Check refuses figures that no profile has.
func (p *Profile) Check() error {
	all := []figure{{"rows", p.RowCount, maxRows}, {"columns", int64(p.ColumnCount), maxThings}}
	for _, c := range p.Statistics {
		all = append(all, figure{"values", c.Count, maxRows}, figure{"values that differ", c.ApproxUnique, 2 * maxRows})
	}
	return check(all...)
}

// Check refuses figures that no query has.
func (e *QueryEnd) Check() error { return check(figure{"rows", e.Rows, maxRows}) }

// Check refuses figures that no statement has.
func (e *Executed) Check() error {
	if err := e.Measured.Check(); err != nil {
		return err
	}
	return check(figure{"affected rows", e.Affected, maxRows})
}

// Check refuses figures that no import has.
func (i *Imported) Check() error {
	if err := i.Measured.Check(); err != nil {
		return err
	}
	return check(figure{"rows", i.Rows, maxRows}, figure{"rows afterwards", i.RowsAfter, maxRows}, figure{"size", i.Size, maxBytes})
}

// Check refuses figures that no export has.
func (e *Exported) Check() error { return check(figure{"rows", e.Rows, maxRows}) }
