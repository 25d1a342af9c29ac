package worker

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// outgoing gathers bytes, so that they go out in pieces of some size.
type outgoing struct {
	send func([]byte) (room []byte, err error) // keeps what it is given, and returns room for more
	buf  []byte
	sent time.Time
}

// The bounds of a piece.
const (
	pieceSize  = 256 << 10 // in bytes
	pieceDelay = 100 * time.Millisecond
)

// Write appends.
func (o *outgoing) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), pieceSize-len(o.buf))
		o.buf, rest = append(o.buf, rest[:n]...), rest[n:]
		if err := o.flushFull(); err != nil {
			return len(p) - len(rest), err
		}
	}
	return len(p), nil
}

func (o *outgoing) flushFull() error {
	if len(o.buf) < pieceSize {
		return nil
	}
	return o.flush()
}

// flushLate sends what is waiting for long: a slow statement's rows too come as
// they are computed.
func (o *outgoing) flushLate() error {
	if len(o.buf) == 0 || time.Since(o.sent) < pieceDelay {
		return nil
	}
	return o.flush()
}

func (o *outgoing) flush() error {
	if len(o.buf) == 0 {
		return nil
	}
	room, err := o.send(o.buf)
	o.buf, o.sent = room, time.Now()
	return err
}

// renderer writes rows in one of the forms.
type renderer interface {
	rows(arrow.RecordBatch) error
	end() error
}

func (p *presentation) renderer(out *outgoing, columns []QueryColumn, schema *arrow.Schema) renderer {
	switch {
	case p.form == FormArrow:
		return p.arrowForm(out, schema)
	case p.native:
		return newCells(out, columns, p.form)
	case p.form == FormCSV:
		return newCSV(out, columns)
	case p.raw:
		return &plainForm{jsonForm{out: out, lines: p.form == FormLines}}
	}
	return &jsonForm{out: out, lines: p.form == FormLines}
}

// jsonForm writes the objects that DuckDB has rendered.
type jsonForm struct {
	out   *outgoing
	lines bool
	any   bool
}

func (f *jsonForm) rows(batch arrow.RecordBatch) error {
	texts, ok := batch.Column(0).(*array.String)
	if !ok {
		return fmt.Errorf("rows rendered as %s", batch.Column(0).DataType())
	}
	odd := maybeNoJSON(texts.ValueBytes())
	for i := range texts.Len() {
		row := texts.Value(i)
		if odd {
			row = string(lawful([]byte(row)))
		}
		f.add(row)
		if err := f.out.flushFull(); err != nil {
			return err
		}
	}
	return nil
}

func (f *jsonForm) add(row string) {
	if f.any && !f.lines {
		f.out.buf = append(f.out.buf, ',')
	}
	f.any = true
	f.out.buf = append(f.out.buf, row...)
	if f.lines {
		f.out.buf = append(f.out.buf, '\n')
	}
}

func (f *jsonForm) end() error { return nil }

// plainForm renders what DuckDB could not: an EXPLAIN.
type plainForm struct{ jsonForm }

func (f *plainForm) rows(batch arrow.RecordBatch) error {
	var text bytes.Buffer
	if err := array.RecordToJSON(batch, &text); err != nil {
		return fmt.Errorf("rows as JSON: %w", err)
	}
	for line := range bytes.Lines(text.Bytes()) {
		f.add(string(bytes.TrimSpace(line)))
	}
	return f.out.flushFull()
}

// numbersWithoutForm are those that JSON does not have.
var numbersWithoutForm = []string{"NaN", "-NaN", "Infinity", "-Infinity"}

// tracesOfNoJSON is what stands in what DuckDB renders wherever that is no JSON.
var tracesOfNoJSON = [][]byte{[]byte("NaN"), []byte("Infinity"), []byte(":."), []byte("-."), []byte("[."), []byte(",.")}

// maybeNoJSON reports whether lawful may have something to do.
func maybeNoJSON(text []byte) bool {
	return slices.ContainsFunc(tracesOfNoJSON, func(trace []byte) bool { return bytes.Contains(text, trace) })
}

// lawful makes JSON (RFC 8259) of what DuckDB takes for it: texts of the numbers that
// JSON does not have, and a zero before the point where no digit is.
func lawful(row []byte) []byte {
	out := make([]byte, 0, len(row)+16)
next:
	for len(row) > 0 {
		n := 1
		if row[0] == '.' && (len(out) == 0 || out[len(out)-1] < '0' || out[len(out)-1] > '9') {
			out = append(out, '0')
		}
		if row[0] == '"' {
			n = textLength(row)
		}
		for _, word := range numbersWithoutForm {
			if row[0] == word[0] && bytes.HasPrefix(row, []byte(word)) {
				out = append(append(append(out, '"'), word...), '"')
				row = row[len(word):]
				continue next
			}
		}
		out, row = append(out, row[:n]...), row[n:]
	}
	return out
}

// textLength returns the length of the JSON text that row begins with.
func textLength(row []byte) int {
	for i := 1; i < len(row); i++ {
		switch row[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(row)
}

// csvForm writes rows as RFC 4180 has them, with line ends as DuckDB has them: no
// field is NULL, "" an empty text.
type csvForm struct{ out *outgoing }

func newCSV(out *outgoing, columns []QueryColumn) *csvForm {
	f := &csvForm{out}
	for i, c := range columns {
		if i > 0 {
			out.buf = append(out.buf, ',')
		}
		f.field(c.Name)
	}
	out.buf = append(out.buf, '\n')
	return f
}

func (f *csvForm) rows(batch arrow.RecordBatch) error {
	texts := make([]*array.String, batch.NumCols())
	for i := range texts {
		texts[i], _ = batch.Column(i).(*array.String)
	}
	for row := range int(batch.NumRows()) {
		for i, column := range texts {
			if i > 0 {
				f.out.buf = append(f.out.buf, ',')
			}
			switch {
			case column == nil: // of an EXPLAIN
				f.field(batch.Column(i).ValueStr(row))
			case !column.IsNull(row):
				f.field(column.Value(row))
			}
		}
		f.out.buf = append(f.out.buf, '\n')
		if err := f.out.flushFull(); err != nil {
			return err
		}
	}
	return nil
}

func (f *csvForm) end() error { return nil }

// mustQuote tells the bytes that a bare field cannot hold.
var mustQuote = [256]bool{',': true, '"': true, '\n': true, '\r': true}

func (f *csvForm) field(s string) { f.out.buf = appendField(f.out.buf, s) }

func appendField(buf []byte, s string) []byte {
	bare := s != ""
	for i := 0; bare && i < len(s); i++ {
		bare = !mustQuote[s[i]]
	}
	if bare {
		return append(buf, s...)
	}
	buf = append(buf, '"')
	for i := range len(s) {
		if s[i] == '"' {
			buf = append(buf, '"')
		}
		buf = append(buf, s[i])
	}
	return append(buf, '"')
}

// cellForm writes rows cell by cell.
type cellForm struct {
	out      *outgoing
	columns  []QueryColumn
	notation *notation
	before   []string // what stands before each cell of a row
	between  string   // rows
	after    string   // each row
	any      bool
}

// newCells returns the form of rows that come as they are.
func newCells(out *outgoing, columns []QueryColumn, form string) *cellForm {
	f := &cellForm{out: out, columns: columns, notation: &jsonNotation, after: "}"}
	lead := "{"
	switch form {
	case FormCSV:
		newCSV(out, columns) // the line of names
		f.notation, f.after = &csvNotation, "\n"
	case FormLines:
		f.after = "}\n"
	default:
		f.between = ","
	}
	for i, c := range columns {
		switch {
		case form != FormCSV:
			f.before = append(f.before, lead+string(appendJSONText(nil, c.Name))+":")
		case i > 0:
			f.before = append(f.before, ",")
		default:
			f.before = append(f.before, "")
		}
		lead = ","
	}
	return f
}

func (f *cellForm) rows(batch arrow.RecordBatch) error {
	cells, err := f.notation.cells(batch, f.columns)
	if err != nil {
		return err
	}
	for row := range int(batch.NumRows()) {
		buf := f.out.buf
		if f.any {
			buf = append(buf, f.between...)
		}
		f.any = true
		for i, one := range cells {
			buf = one(append(buf, f.before[i]...), row)
		}
		f.out.buf = append(buf, f.after...)
		if err := f.out.flushFull(); err != nil {
			return err
		}
	}
	return nil
}

func (f *cellForm) end() error { return nil }
