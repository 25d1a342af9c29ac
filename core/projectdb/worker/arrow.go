package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/eiderdb/eider/core/duck"
)

// asTextInArrow are the types, wherever in a column's, that Arrow has not: its decimals
// end before a UHUGEINT does, and its times have no zone.
var asTextInArrow = []string{"UHUGEINT", "TIME WITH TIME ZONE"}

// arrowType is what a column of such texts is said to be in the metadata of its field.
const arrowType = "eider:type"

// inArrow begins the statement that has the rows as Arrow.
func (p *presentation) inArrow(ctx context.Context, conn *duck.Conn, stmt *duck.Statement) (*duck.Batches, error) {
	misfits, err := stmt.Misfits()
	if err == nil && !misfits {
		return stmt.Stream(ctx, p.args...)
	}
	known, knownErr := stmt.Columns()
	if err := errors.Join(err, knownErr, stmt.Close()); err != nil {
		return nil, err
	}
	p.row = unlike("_eider_row", func(i int) string { return known[i].Name }, len(known))
	columns, err := p.columns(ctx, conn)
	if err != nil {
		return nil, err
	}
	p.texts = map[int]string{}
	places, values := make([]string, len(known)), make([]string, len(known))
	for i, c := range columns {
		places[i] = fmt.Sprintf("c%d", i)
		values[i] = places[i]
		if other := within(c.Type, asTextInArrow); other != c.Type {
			values[i] = "CAST(" + places[i] + " AS " + other + ")"
			p.texts[i] = c.Type
		}
		values[i] += " AS " + quote(known[i].Name)
	}
	return conn.Stream(ctx, "SELECT "+strings.Join(values, ", ")+" FROM ("+p.sql+"\n) AS "+p.row+"("+strings.Join(places, ", ")+")", p.args...)
}

// arrowForm hands batches on as they are.
type arrowForm struct {
	w      *ipc.Writer
	schema *arrow.Schema // nil: that of the batches
}

func (p *presentation) arrowForm(out *outgoing, schema *arrow.Schema) *arrowForm {
	if len(p.texts) == 0 {
		return &arrowForm{w: ipc.NewWriter(out, ipc.WithSchema(schema))}
	}
	fields := schema.Fields()
	for i, kind := range p.texts {
		told := fields[i].Metadata.ToMap()
		told[arrowType] = kind
		fields[i].Metadata = arrow.MetadataFrom(told)
	}
	told := schema.Metadata()
	schema = arrow.NewSchema(fields, &told)
	return &arrowForm{ipc.NewWriter(out, ipc.WithSchema(schema)), schema}
}

func (f *arrowForm) rows(batch arrow.RecordBatch) error {
	if f.schema != nil {
		batch = array.NewRecordBatch(f.schema, batch.Columns(), batch.NumRows())
		defer batch.Release()
	}
	return f.w.Write(batch)
}

// end writes the schema too where there was no row.
func (f *arrowForm) end() error { return f.w.Close() }
