package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb/gate"
)

// The formats of files.
const (
	FormatCSV     = "csv"
	FormatParquet = "parquet"
	FormatJSON    = "json"
)

// What becomes of a row whose key the table has, or the file has twice.
const (
	DedupUpdate = "update_duplicates" // the later one stays
	DedupInsert = "insert_duplicates" // both stay, which a primary key does not allow
	DedupFail   = "fail_on_duplicates"
)

// Import asks for the rows of the file in/import.
type Import struct {
	Bucket      string   `json:"bucket"`
	Table       string   `json:"table"`
	Format      string   `json:"format"`
	CSV         CSV      `json:"csv"`
	Incremental bool     `json:"incremental"` // else the rows replace all that were there
	Dedup       string   `json:"dedup"`
	Columns     []string `json:"columns,omitempty"` // of the table, that the file fills
}

// CSV tells how a file is written.
type CSV struct {
	Delimiter  string `json:"delimiter"`
	Quote      string `json:"quote"`
	Escape     string `json:"escape"`
	Header     bool   `json:"header"`
	NullString string `json:"null_string"`
}

// Imported is what an import has made of the table.
type Imported struct {
	Rows      int64     `json:"rows"`
	RowsAfter int64     `json:"rows_after"`
	Size      int64     `json:"size"`
	Warnings  []string  `json:"warnings"`
	Measured  *Measured `json:"measured,omitempty"`
}

func importFile(ctx context.Context, t *task) (any, error) {
	in := importing{task: t}
	if err := t.args(&in.Import); err != nil {
		return nil, err
	}
	if err := in.look(ctx); err != nil {
		return nil, err
	}
	out, err := in.change(ctx)
	if in.emptyMisfit(err) {
		in.quotedNulls = true
		out, err = in.change(ctx)
	}
	if err != nil {
		return nil, t.blameFile(err)
	}
	after := context.WithoutCancel(ctx) // it is done: who leaves now changes nothing
	var sizing sync.WaitGroup
	sizing.Go(func() { out.Size = in.size(after) })
	out.Measured = t.measure(after)
	sizing.Wait()
	return out, nil
}

// change imports in a transaction.
func (in *importing) change(ctx context.Context) (out Imported, err error) {
	err = in.changeOn(ctx, in.inward.use, func(conn *duck.Conn) (err error) {
		out, err = in.run(ctx, conn)
		if err != nil {
			return err
		}
		return in.keep(out)
	})
	return out, err
}

// emptyMisfit reports whether "" is what could not become a value. In a text column
// it is an empty text; but a program that quotes every field means NULL.
func (in *importing) emptyMisfit(err error) bool {
	complaint, ok := duck.Complains(err)
	return ok && in.Format == FormatCSV && !in.quotedNulls && in.CSV.NullString == "" && complaint.Kind != duck.ComplaintMemory &&
		(strings.Contains(complaint.Words, `string ""`) || strings.Contains(complaint.Words, `: ""`))
}

// size returns the size of the table once the rows are committed: before, the
// catalog counts none of them. It never fails an import.
func (in *importing) size(ctx context.Context) (n int64) {
	err := in.read(ctx, func(conn *duck.Conn) error {
		all, err := counted(ctx, conn, []described{in.afterwards()})
		if err == nil {
			n = all[0].SizeBytes
		}
		return err
	})
	if err != nil {
		in.log.Error("a table could not be measured", "error", err)
	}
	return n
}

// importing is an import under way.
type importing struct {
	*task
	Import
	compression string
	table       described
	fields      []string // of the file
	empty       bool     // it has no rows, and no fields to be told by
	quotedNulls bool     // "" is NULL in it, and not an empty text
	mapped      []mapped
	warnings    []string
}

// mapped is a column of the table that a field of the file fills.
type mapped struct{ field, column, kind string }

// run imports inside the transaction.
func (in *importing) run(ctx context.Context, conn *duck.Conn) (out Imported, err error) {
	in.mapped, in.warnings = nil, nil
	if in.table, err = describe(ctx, conn, in.Bucket, in.Table); err != nil {
		return out, err
	}
	if err := in.match(ctx, conn); err != nil {
		return out, err
	}
	in.progress(checkShare, 0)
	if !in.Incremental {
		if err := conn.Exec(ctx, "DELETE FROM "+in.table.sql()); err != nil {
			return out, err
		}
	}
	if !in.empty {
		err := in.follow(conn, checkShare, insertShare, func() (err error) {
			out.Rows, err = count(ctx, conn, in.insert())
			return err
		})
		if err != nil {
			return out, err
		}
	}
	in.progress(insertShare, out.Rows)
	if out.RowsAfter, err = countRows(ctx, conn, in.table.sql()); err != nil {
		return out, err
	}
	for _, m := range in.mapped {
		if why := inexact(in.Format, m.kind); why != "" {
			in.warnings = append(in.warnings, fmt.Sprintf("column %s: %s", m.column, why))
		}
	}
	if in.quotedNulls {
		in.warnings = append(in.warnings, `a column that is no text has "" in the file: there and in the others it was taken for NULL`)
	}
	out.Warnings = append([]string{}, in.warnings...)
	return out, nil
}

// afterwards is the table with rows of this transaction, which the catalog does
// not count.
func (in *importing) afterwards() described {
	d := in.table
	d.Estimate = 1
	return d
}

// count runs a statement that changes rows, and returns how many.
func count(ctx context.Context, conn *duck.Conn, statement string) (n int64, err error) {
	b, err := conn.Stream(ctx, statement)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	var e Executed
	for {
		batch, err := b.Next()
		if errors.Is(err, io.EOF) {
			return e.Affected, nil
		}
		if err != nil {
			return 0, err
		}
		err = e.count(batch)
		batch.Release()
		if err != nil {
			return 0, err
		}
	}
}

// match finds out which field of the file fills which column: by name where the
// fields have names, by place where they have none.
func (in *importing) match(ctx context.Context, conn *duck.Conn) error {
	if err := in.findFields(ctx, conn); err != nil {
		return err
	}
	wanted, err := in.wanted()
	if err != nil {
		return err
	}
	if in.Format == FormatCSV && !in.CSV.Header {
		return in.byPlace(wanted)
	}
	if in.Format == FormatCSV {
		if err := in.headed(ctx, conn); err != nil {
			return err
		}
	}
	if in.empty, err = in.nothing(ctx, conn); err != nil || in.empty {
		return err
	}
	return in.byName(wanted)
}

// nothing reports whether a JSON file has no rows: it is how a table without rows
// is exported. DuckDB gives it one field of its own making.
func (in *importing) nothing(ctx context.Context, conn *duck.Conn) (empty bool, err error) {
	if in.Format != FormatJSON || len(in.fields) != 1 || in.fields[0] != "json" {
		return false, nil
	}
	err = answer(ctx, conn, &empty, "SELECT (count(*) = 0)::VARCHAR FROM (FROM read_json('"+quoteText(in.path(inFile))+"', maximum_depth=1"+in.packing()+") LIMIT 1)")
	if err != nil {
		return false, in.unreadable(ctx, err)
	}
	return empty, nil
}

// wanted returns the columns that the file may fill.
func (in *importing) wanted() ([]Column, error) {
	var all []Column
	if len(in.Columns) == 0 {
		for _, c := range in.table.Columns {
			all = append(all, c.Column)
		}
		return all, nil
	}
	for _, name := range in.Columns {
		at, err := in.table.column(name)
		if err != nil {
			return nil, err
		}
		for _, c := range all {
			if c.Name == in.table.Columns[at].Name {
				return nil, eider.Invalid("import_options.columns", "names a column twice")
			}
		}
		all = append(all, in.table.Columns[at].Column)
	}
	return all, nil
}

func (in *importing) byPlace(wanted []Column) error {
	if len(in.fields) != len(wanted) {
		return eider.Errorf(eider.ImportFailed, "the file has %d columns and no header, and the table is to have %d filled", len(in.fields), len(wanted))
	}
	for i, c := range wanted {
		in.mapped = append(in.mapped, mapped{in.fields[i], c.Name, c.Type})
	}
	return nil
}

func (in *importing) byName(wanted []Column) error {
	used := map[string]bool{}
	for _, c := range wanted {
		field, ok := in.field(c.Name)
		switch {
		case ok:
			used[field] = true
			in.mapped = append(in.mapped, mapped{field, c.Name, c.Type})
		case len(in.Columns) > 0:
			return eider.Errorf(eider.ImportFailed, "the file has no column %s", c.Name)
		default:
			in.warnings = append(in.warnings, fmt.Sprintf("the file has no column %s: it has its default", c.Name))
		}
	}
	for _, field := range in.fields {
		if used[field] {
			continue
		}
		if len(in.Columns) == 0 && in.Format != FormatJSON {
			return eider.Errorf(eider.ImportFailed, "the table has no column %s; import_options.columns names those to import", clipped(field)).
				LoggedAs("the table lacks a column of the file") // whose first line may be data
		}
		in.warnings = append(in.warnings, fmt.Sprintf("the file's column %s was not imported", clipped(field)))
	}
	if len(in.mapped) == 0 {
		return eider.Errorf(eider.ImportFailed, "no column of the file is one of the table; with csv_options.header false they are taken by their place")
	}
	return nil
}

// field finds a field by name: the exact one first, then whatever its case.
func (in *importing) field(name string) (string, bool) {
	for _, f := range in.fields {
		if f == name {
			return f, true
		}
	}
	for _, f := range in.fields {
		if gate.Same(f, name) {
			return f, true
		}
	}
	return "", false
}

// clipped bounds what a file says of itself.
func clipped(s string) string {
	if len(s) > 100 {
		return strings.ToValidUTF8(s[:100], "") + "..."
	}
	return s
}

// maxFields bounds the columns of a file.
const maxFields = 10_000

// findFields reads the names of the file's columns. Rows that do not fit are
// looked at later, when they can be told by their line.
func (in *importing) findFields(ctx context.Context, conn *duck.Conn) error {
	path := "'" + quoteText(in.path(inFile)) + "'"
	from := ""
	switch in.Format {
	case FormatCSV:
		from = in.lenient()
	case FormatJSON:
		from = "read_json(" + path + ", maximum_depth=1" + in.packing() + ")"
	default:
		from = "read_parquet(" + path + ")"
	}
	err := answer(ctx, conn, &in.fields, "SELECT to_json(list(column_name))::VARCHAR FROM (DESCRIBE SELECT * FROM "+from+")")
	if err != nil {
		return in.unreadable(ctx, err)
	}
	if len(in.fields) > maxFields {
		return eider.Errorf(eider.ImportFailed, "the file has more than %d columns", maxFields)
	}
	return nil
}

// unreadable tells a file that is not of its format from one with a row that is
// not.
func (in *importing) unreadable(ctx context.Context, err error) error {
	complaint, ok := ofFile(err)
	if !ok {
		return err
	}
	if strings.HasPrefix(complaint.Words, "Error when sniffing") {
		return in.noCSV(ctx)
	}
	return eider.Errorf(eider.InvalidFormat, "the file is no %s that can be read: %s", in.Format, in.told(complaint.Words)).
		LoggedAs(fmt.Sprintf("the file is no %s that can be read: %s", in.Format, in.logged(complaint)))
}

// dialect is what read_csv is told of the file.
func (in *importing) dialect() string {
	return fmt.Sprintf(", header=%t, allow_quoted_nulls=%t, delim='%s', quote='%s', escape='%s', nullstr='%s', compression='%s'", in.CSV.Header, in.quotedNulls,
		quoteText(in.CSV.Delimiter), quoteText(in.CSV.Quote), quoteText(in.CSV.Escape), quoteText(in.CSV.NullString), in.compression)
}

// packing is what read_json is told of the file: it has no word for none, and
// takes what has no ending for it.
func (in *importing) packing() string {
	if in.compression == "none" {
		return ""
	}
	return ", compression='" + in.compression + "'"
}

// source is the file as a table with the columns that are imported.
func (in *importing) source() string {
	path := "'" + quoteText(in.path(inFile)) + "'"
	kinds := map[string]string{}
	for _, m := range in.mapped {
		kinds[m.field] = readAs(in.Format, m.kind)
	}
	var types []string
	for _, f := range in.fields {
		kind, imported := kinds[f]
		if !imported {
			if in.Format == FormatJSON {
				continue
			}
			kind = "VARCHAR"
		}
		types = append(types, "'"+quoteText(f)+"': '"+quoteText(kind)+"'")
	}
	columns := "columns={" + strings.Join(types, ", ") + "}"
	switch in.Format {
	case FormatCSV:
		return "read_csv(" + path + ", auto_detect=false, " + columns + in.dialect() + ")"
	case FormatJSON:
		return "read_json(" + path + ", " + columns + in.packing() + ")"
	}
	return "read_parquet(" + path + ")"
}

// value is the expression that a column is filled with.
func (m *mapped) value(format string) string {
	if readAs(format, m.kind) == m.kind {
		return quote(m.field)
	}
	return "CAST(" + quote(m.field) + " AS " + m.kind + ")"
}

// insert is the statement that imports.
func (in *importing) insert() string {
	var columns, values []string
	for _, m := range in.mapped {
		columns, values = append(columns, quote(m.column)), append(values, m.value(in.Format))
	}
	head := "INSERT INTO " + in.table.sql() + " (" + strings.Join(columns, ", ") + ") SELECT " + strings.Join(values, ", ")
	if in.Dedup != DedupUpdate || len(in.table.Key) == 0 {
		return head + " FROM " + in.source()
	}
	var key, sets []string
	for _, m := range in.mapped {
		if in.table.inKey(m.column) {
			key = append(key, m.value(in.Format))
		} else {
			sets = append(sets, quote(m.column)+" = excluded."+quote(m.column))
		}
	}
	if len(key) < len(in.table.Key) {
		return head + " FROM " + in.source() // a key with a default: what doubles it is refused
	}
	// DuckDB would keep the first of two rows of one key without a word. Here as
	// elsewhere the later one counts.
	do := " DO NOTHING"
	if len(sets) > 0 {
		do = " DO UPDATE SET " + strings.Join(sets, ", ")
	}
	place := unlike("_eider_place", func(i int) string { return in.fields[i] }, len(in.fields))
	return head + " FROM (SELECT *, row_number() OVER () AS " + place + " FROM " + in.source() + ")" +
		" QUALIFY row_number() OVER (PARTITION BY " + strings.Join(key, ", ") + " ORDER BY " + place + " DESC) = 1" +
		" ON CONFLICT (" + quoteAll(in.table.Key) + ")" + do
}
