package worker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/ipc"
)

// What Arrow has no type for keeps its value as a text, and its type beside it.
func TestWhatArrowLacksIsTextInIt(t *testing.T) {
	conn := openProject(t)
	p := presentation{form: FormArrow, args: []any{int64(1)}, sql: `SELECT range AS n, 340282366920938463463374607431768211455::UHUGEINT AS u, TIMETZ '12:00:00+05:30' AS n,
		{'at': [TIMETZ '01:02:03.5-08']} AS "a ""b", MAP {'k': 5::UHUGEINT} AS m FROM range(3) WHERE range >= $1 ORDER BY range DESC`}
	b, _, err := p.stream(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var text bytes.Buffer
	out := &outgoing{send: func(p []byte) ([]byte, error) { text.Write(p); return nil, nil }}
	form := p.renderer(out, nil, b.Schema())
	for {
		batch, err := b.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = form.rows(batch)
			batch.Release()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(form.end(), out.flush()); err != nil {
		t.Fatal(err)
	}
	r, err := ipc.NewReader(&text)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	told := ""
	for _, f := range r.Schema().Fields() {
		kind, _ := f.Metadata.GetValue(arrowType)
		told += fmt.Sprintf("%s %s %s\n", f.Name, f.Type, kind)
	}
	for r.Next() {
		for row := range int(r.RecordBatch().NumRows()) {
			for _, column := range r.RecordBatch().Columns() {
				told += column.ValueStr(row) + " "
			}
			told += "\n"
		}
	}
	want := `n int64 
u utf8 UHUGEINT
n utf8 TIME WITH TIME ZONE
a "b struct<at: list<l: utf8, nullable>> STRUCT("at" TIME WITH TIME ZONE[])
m map<utf8, utf8, items_nullable> MAP(VARCHAR, UHUGEINT)
2 340282366920938463463374607431768211455 12:00:00+05:30 {"at":["01:02:03.5-08"]} [{"key":"k","value":"5"}] 
1 340282366920938463463374607431768211455 12:00:00+05:30 {"at":["01:02:03.5-08"]} [{"key":"k","value":"5"}] 
`
	if told != want {
		t.Errorf("told\n%s", told)
	}
}
