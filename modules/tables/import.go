package tables

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"unicode/utf8"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/blob"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/projectdb/worker"
)

func (f *Tables) declareImport(r *core.Registry) {
	spec := route(operation.Spec{
		Name: "import_table", Role: eider.ProjectWrite, Target: "table", Slow: true, Async: true,
		Summary: "Import a stored file into a table",
		Description: "In one transaction: a failed import leaves the table as it was. Without import_options.incremental the rows replace those " +
			"that were there. Columns are found by name, whatever the case, or by place in a CSV file without a header.",
		Errors: notThere(eider.FileNotFound, eider.FileContentNotFound, eider.InvalidFormat, eider.ImportFailed, eider.DuplicateKeyValue,
			eider.ColumnNotFound, eider.OutOfMemory, eider.OperationInProgress),
	}, "POST", inTable+"/import/file")
	operation.Effect(r.Operations, spec, operation.Steps[importTable, *importPlan, imported]{
		Intent: f.planImport, Claims: importClaims, Effect: f.importFile, Applied: f.isImported,
		Undo: f.unimport, Outcome: f.concludeImport,
		Revert: func(context.Context, *operation.Tx, *importPlan) error { return nil },
	})
}

type importTable struct {
	tablePlace
	FileID  string         `json:"file_id" required:"true" minLength:"1" doc:"A registered file of the project; gzip and zstd are seen by themselves"`
	Format  string         `json:"format" required:"true" doc:"csv, parquet or json (an array of objects, or one object a line)"`
	CSV     *csvOptions    `json:"csv_options,omitempty"`
	Options *importOptions `json:"import_options,omitempty"`
}

type csvOptions struct {
	Delimiter  *string `json:"delimiter,omitempty" doc:"A comma if absent"`
	Quote      *string `json:"quote,omitempty" doc:"A double quote if absent; empty for none"`
	Escape     *string `json:"escape,omitempty" doc:"The quote if absent"`
	Header     *bool   `json:"header,omitempty" doc:"Whether the first line holds names: true if absent"`
	NullString *string `json:"null_string,omitempty" doc:"What stands for NULL: nothing if absent"`
}

type importOptions struct {
	Incremental bool     `json:"incremental,omitempty" doc:"Add to the rows that are there"`
	DedupMode   string   `json:"dedup_mode,omitempty" enum:"update_duplicates,insert_duplicates,fail_on_duplicates" doc:"What becomes of rows whose primary key the table or an earlier line has: update_duplicates (if absent) keeps the later one; with the others the import is refused. A table without a primary key has no duplicates."`
	Columns     []string `json:"columns,omitempty" doc:"The columns of the table that the file fills; the others have their default. If absent: all that the file has, which must all be the table's"`
}

type imported struct {
	ImportedRows   int64    `json:"imported_rows"`
	TableRowsAfter int64    `json:"table_rows_after"`
	TableSizeBytes int64    `json:"table_size_bytes"`
	Warnings       []string `json:"warnings"`
}

// importPlan is an import. One of a project runs at a time: there is one name
// under which its worker can read a file.
type importPlan struct {
	Project projectdb.Project `json:"project"`
	Call    string            `json:"call"`
	Target  worker.Target     `json:"target"` // its names
	FileID  string            `json:"file_id"`
	Bytes   blob.Key          `json:"bytes"`
	Claim   string            `json:"claim"` // of the file
	Args    worker.Import     `json:"args"`

	out     worker.Imported
	refused bool // it is known that nothing was changed
}

func importClaims(p *importPlan) []metadata.Claim {
	return append(claims(p.Project.UID, p.Target),
		metadata.Claim{Resource: "import:" + p.Project.UID, Exclusive: true}, metadata.Claim{Resource: p.Claim})
}

func (f *Tables) planImport(ctx context.Context, tx *operation.Tx, in importTable) (*importPlan, error) {
	call := operation.From(ctx)
	if err := in.check(); err != nil {
		return nil, err
	}
	args, err := in.args()
	if err != nil {
		return nil, err
	}
	p := &importPlan{Project: projectdb.Of(*call.Project), Call: call.ID, Target: in.target(), FileID: in.FileID, Args: args}
	if _, p.Bytes, p.Claim, err = f.stored.FileIn(ctx, tx, in.FileID); err != nil {
		return nil, err
	}
	p.tell(call)
	return p, nil
}

// tell names for the log what is imported.
func (p *importPlan) tell(call *operation.Call) {
	call.Resource(p.Target.Bucket + "/" + p.Target.Table)
	call.Detail("bucket", p.Target.Bucket)
	call.Detail("table", p.Target.Table)
	call.Detail("file_id", p.FileID)
	call.Detail("format", p.Args.Format)
	call.Detail("incremental", p.Args.Incremental)
}

// args checks the options and fills in those that are absent.
func (in *importTable) args() (worker.Import, error) {
	a := worker.Import{
		Bucket: in.Bucket, Table: in.Table, Format: in.Format, Dedup: worker.DedupUpdate,
		CSV: worker.CSV{Delimiter: ",", Quote: `"`, Header: true},
	}
	if o := in.Options; o != nil {
		a.Incremental, a.Columns = o.Incremental, o.Columns
		if o.DedupMode != "" {
			a.Dedup = o.DedupMode
		}
	}
	switch in.Format {
	case worker.FormatParquet, worker.FormatJSON:
		if in.CSV != nil {
			return a, eider.Invalid("csv_options", "are for a CSV file alone")
		}
		return a, nil
	case worker.FormatCSV:
	default:
		return a, eider.Errorf(eider.InvalidFormat, "the format must be csv, parquet or json")
	}
	return a, in.CSV.into(&a.CSV)
}

// into sets what is given.
func (o *csvOptions) into(csv *worker.CSV) error {
	if o != nil {
		for given, field := range map[**string]*string{&o.Delimiter: &csv.Delimiter, &o.Quote: &csv.Quote, &o.NullString: &csv.NullString} {
			if *given != nil {
				*field = **given
			}
		}
		if o.Header != nil {
			csv.Header = *o.Header
		}
	}
	csv.Escape = csv.Quote
	if o != nil && o.Escape != nil {
		csv.Escape = *o.Escape
	}
	switch {
	case len(csv.Delimiter) < 1 || len(csv.Delimiter) > 4:
		return eider.Invalid("csv_options.delimiter", "must have 1 to 4 bytes")
	case len(csv.Quote) > 1:
		return eider.Invalid("csv_options.quote", "must be one ASCII character, or empty")
	case len(csv.Escape) > 1:
		return eider.Invalid("csv_options.escape", "must be one ASCII character, or empty")
	case len(csv.NullString) > 100:
		return eider.Invalid("csv_options.null_string", "must have at most 100 bytes")
	}
	for name, value := range map[string]string{"delimiter": csv.Delimiter, "quote": csv.Quote, "escape": csv.Escape, "null_string": csv.NullString} {
		if !utf8.ValidString(value) || hasControl(value, name == "delimiter") {
			return eider.Invalid("csv_options."+name, "must be text without control characters")
		}
	}
	return nil
}

// hasControl reports characters that end lines or texts; a tab may divide.
func hasControl(s string, tab bool) bool {
	for _, c := range s {
		if c < ' ' && !(tab && c == '\t') {
			return true
		}
	}
	return false
}

// The names of the files that go in and out of a worker, in the project's folder.
const (
	goingIn  = "in/import"
	goingOut = "out/export"
)

func (f *Tables) inProject(p projectdb.Project, name string) string {
	return filepath.Join(f.dir, p.Folder, name)
}

// importFile gives the worker the file under the one name that it can read, and
// has it imported.
func (f *Tables) importFile(ctx context.Context, p *importPlan) error {
	call := operation.From(ctx)
	if err := f.lend(ctx, p); err != nil {
		p.refused = true
		return err
	}
	err := f.commit(ctx, p.Project, "import", p.Call, p.Args, projectdb.Sinks{Progress: call.Progress}, &p.out)
	p.refused = certain(err)
	return errors.Join(err, f.takeBack(p))
}

// lend links the bytes into the project's folder, where the worker can read and
// not write; another file system gets a copy.
func (f *Tables) lend(ctx context.Context, p *importPlan) error {
	from, to := filepath.Join(f.dir, filesDir, blob.Path(p.Bytes)), f.inProject(p.Project, goingIn)
	if err := f.takeBack(p); err != nil {
		return err
	}
	err := f.files.Link(from, to)
	if errors.Is(err, syscall.EXDEV) || errors.Is(err, syscall.EMLINK) || errors.Is(err, syscall.EPERM) {
		err = f.copyBytes(ctx, from, to)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return eider.Errorf(eider.FileContentNotFound, "the bytes of the file are not there").Because(err)
	}
	if err != nil {
		return disk.Refusal(fmt.Errorf("lend the file to the worker: %w", err))
	}
	return nil
}

func (f *Tables) copyBytes(ctx context.Context, from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	return f.files.CreateFrom(to, disk.Until(ctx, source), 0o600)
}

func (f *Tables) takeBack(p *importPlan) error {
	if err := f.files.RemoveAll(f.inProject(p.Project, goingIn)); err != nil {
		return disk.Refusal(fmt.Errorf("take the file back from the worker: %w", err))
	}
	return nil
}

func (f *Tables) isImported(ctx context.Context, p *importPlan) (bool, error) {
	if err := f.takeBack(p); err != nil {
		return false, err
	}
	applied, err := f.isCommitted(ctx, p.Project, p.Call, &p.out)
	if err == nil && applied {
		p.out.Measured, err = f.measure(ctx, p.Project)
	}
	return applied, err
}

func (f *Tables) unimport(ctx context.Context, p *importPlan) error {
	if err := f.takeBack(p); err != nil || p.refused {
		return err
	}
	return f.isNotCommitted(ctx, p.Project, p.Call)
}

func (f *Tables) concludeImport(ctx context.Context, tx *operation.Tx, p *importPlan) (imported, error) {
	call := operation.From(ctx)
	p.tell(call)
	call.Detail("imported_rows", p.out.Rows)
	out := imported{ImportedRows: p.out.Rows, TableRowsAfter: p.out.RowsAfter, TableSizeBytes: p.out.Size, Warnings: p.out.Warnings}
	return out, f.measured(ctx, tx, p.Project, p.out.Measured)
}
