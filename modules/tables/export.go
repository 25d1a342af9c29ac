package tables

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/blob"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/projectdb/worker"
	"github.com/eiderdb/eider/core/usage"
	"github.com/google/uuid"
)

func (f *Tables) declareExport(r *core.Registry) {
	spec := route(operation.Spec{
		Name: "export_table", Role: eider.ProjectWrite, Target: "file", Slow: true, Async: true, Reserve: usage.Amounts{Files: 1},
		Summary:     "Export rows of a table as a stored file",
		Description: "The file is registered, with checksums and the tags type=export and table.",
		Errors: notThere(eider.InvalidFormat, eider.InvalidCompression, eider.InvalidWhereClause, eider.ColumnNotFound, eider.OutOfMemory,
			eider.QuotaExceeded, eider.OperationInProgress),
	}, "POST", inTable+"/export")
	operation.Effect(r.Operations, spec, operation.Steps[exportTable, *exportPlan, exported]{
		Intent: f.planExport, Claims: exportClaims, Effect: f.exportFile, Applied: f.isExported,
		Undo: f.unexport, Outcome: f.concludeExport,
		Revert: func(context.Context, *operation.Tx, *exportPlan) error { return nil },
	})
}

type exportTable struct {
	tablePlace
	Format      string   `json:"format" required:"true" doc:"csv, parquet or json (one object a line)"`
	Compression string   `json:"compression,omitempty" doc:"csv and json: none, gzip, zstd; parquet: none, snappy, gzip, zstd, lz4, brotli. If absent: none, and snappy for parquet"`
	Columns     []string `json:"columns,omitempty" doc:"All if absent"`
	WhereFilter string   `json:"where_filter,omitempty" maxLength:"1048576" doc:"What stands behind WHERE, such as amount < 0"`
	Limit       *int64   `json:"limit,omitempty" minimum:"0" doc:"How many rows at most"`
}

type exported struct {
	FileID        string `json:"file_id"`
	FilePath      string `json:"file_path"`
	RowsExported  int64  `json:"rows_exported"`
	FileSizeBytes int64  `json:"file_size_bytes"`
}

// compressions are those of a format; the first is taken if none is named.
var compressions = map[string][]string{
	worker.FormatCSV: {"none", "gzip", "zstd"}, worker.FormatJSON: {"none", "gzip", "zstd"},
	worker.FormatParquet: {"snappy", "none", "gzip", "zstd", "lz4", "brotli"},
}

// mediaTypes are those of the formats; a compressed text has that of its
// compression.
var mediaTypes = map[string]string{
	worker.FormatCSV: "text/csv", worker.FormatJSON: "application/x-ndjson", worker.FormatParquet: "application/vnd.apache.parquet",
	"gzip": "application/gzip", "zstd": "application/zstd",
}

// endings are what file names end in.
var endings = map[string]string{"gzip": ".gz", "zstd": ".zst"}

// exportPlan is an export. One of a project runs at a time: there is one name
// under which its worker can write a file.
type exportPlan struct {
	Project projectdb.Project `json:"project"`
	Target  worker.Target     `json:"target"` // its names
	Format  string            `json:"format"`
	Bytes   blob.Key          `json:"bytes"`
	FileID  string            `json:"file_id"`

	args worker.Export // with a tenant's condition, which is for no log
	name string
	kind string // the media type
	done bool
	rows int64
	sums blob.Sums
}

func exportClaims(p *exportPlan) []metadata.Claim {
	all := claims(p.Project.UID, p.Target)
	for i := range all {
		all[i].Exclusive = false // it only reads the table
	}
	return append(all, metadata.Claim{Resource: "export:" + p.Project.UID, Exclusive: true})
}

func (f *Tables) planExport(ctx context.Context, _ *operation.Tx, in exportTable) (*exportPlan, error) {
	call := operation.From(ctx)
	if err := in.check(); err != nil {
		return nil, err
	}
	known, ok := compressions[in.Format]
	if !ok {
		return nil, eider.Errorf(eider.InvalidFormat, "the format must be csv, parquet or json")
	}
	compression := strings.ToLower(in.Compression)
	if compression == "" {
		compression = known[0]
	}
	if !slices.Contains(known, compression) {
		return nil, eider.Errorf(eider.InvalidCompression, "the compression of %s must be one of %s", in.Format, strings.Join(known, ", "))
	}
	p := &exportPlan{
		Project: projectdb.Of(*call.Project), Target: in.target(), Format: in.Format, FileID: newID(), Bytes: blob.Key{Project: call.Project.UID, ID: newID()},
		args: worker.Export{Bucket: in.Bucket, Table: in.Table, Format: in.Format, Compression: compression, Columns: in.Columns, Where: in.WhereFilter, Limit: in.Limit},
	}
	p.named(compression)
	p.tell(call)
	return p, nil
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// named gives the file its name and type.
func (p *exportPlan) named(compression string) {
	p.name, p.kind = p.Target.Table+"."+p.Format, mediaTypes[p.Format]
	if p.Format == worker.FormatParquet {
		if compression == "none" {
			p.args.Compression = "uncompressed"
		}
		return
	}
	p.name += endings[compression]
	if kind, ok := mediaTypes[compression]; ok {
		p.kind = kind
	}
}

// tell names for the log what is exported.
func (p *exportPlan) tell(call *operation.Call) {
	call.Resource(p.FileID)
	call.Detail("bucket", p.Target.Bucket)
	call.Detail("table", p.Target.Table)
	call.Detail("format", p.Format)
}

// exportFile has the worker write the rows under the one name that it can write,
// and takes the bytes from there. They are copied, not moved: the worker may
// still hold the file open.
func (f *Tables) exportFile(ctx context.Context, p *exportPlan) error {
	call := operation.From(ctx)
	var out worker.Exported
	err := f.writeOut(ctx, p, &out)
	if eider.CodeOf(err) == eider.ProjectRestarted && ctx.Err() == nil {
		err = f.writeOut(ctx, p, &out) // its neighbour had the worker killed: it only reads, as a query does
	}
	if err == nil {
		p.rows = out.Rows
		call.Progress(exportShare, out.Rows)
		err = f.collect(ctx, call, p)
	}
	return errors.Join(err, f.clearOut(p))
}

// writeOut has the worker write the rows.
func (f *Tables) writeOut(ctx context.Context, p *exportPlan, out *worker.Exported) error {
	if err := f.clearOut(p); err != nil {
		return err
	}
	call := operation.From(ctx)
	return f.perform(ctx, p.Project, "export", p.args, projectdb.Sinks{Progress: func(fraction float64, rows int64) {
		call.Progress(exportShare*fraction, rows)
	}}, out)
}

// exportShare is how much of an export's progress is to write the rows.
const exportShare = 0.7

// collect copies what the worker has written into a blob, with its sums.
func (f *Tables) collect(ctx context.Context, call *operation.Call, p *exportPlan) error {
	// Nothing that the worker may have put there leads elsewhere, or waits.
	file, err := os.OpenFile(f.inProject(p.Project, goingOut), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open what was exported: %w", errors.Unwrap(err))
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("what was exported is no file")
	}
	if err := call.Extend(ctx, usage.Amounts{Bytes: info.Size()}); err != nil {
		return err
	}
	upload, err := f.blobs.Resume(p.Bytes)
	if err != nil {
		return disk.Refusal(err)
	}
	defer upload.Close()
	reserved := func(context.Context, int64) error { return nil }
	if err := upload.Append(ctx, file, info.Size(), reserved); err != nil {
		return disk.Refusal(err)
	}
	p.sums = upload.Sums()
	if err := upload.Finish(); err != nil {
		return disk.Refusal(err)
	}
	p.done = true
	return nil
}

func (f *Tables) clearOut(p *exportPlan) error {
	if err := f.files.RemoveAll(f.inProject(p.Project, goingOut)); err != nil {
		return disk.Refusal(fmt.Errorf("remove what was exported: %w", err))
	}
	return nil
}

// isExported reports whether the file is whole and it is known what is in it: not
// after a restart, when it is made again as easily.
func (f *Tables) isExported(_ context.Context, p *exportPlan) (bool, error) { return p.done, nil }

func (f *Tables) unexport(_ context.Context, p *exportPlan) error {
	return errors.Join(f.clearOut(p), f.blobs.Remove(p.Bytes))
}

func (f *Tables) concludeExport(ctx context.Context, tx *operation.Tx, p *exportPlan) (exported, error) {
	call := operation.From(ctx)
	p.tell(call)
	call.Detail("rows", p.rows)
	file, err := f.stored.KeepFile(ctx, tx, eider.File{
		ID: p.FileID, Name: p.name, ContentType: p.kind, SizeBytes: p.sums.Size, ChecksumMD5: p.sums.MD5, ChecksumSHA256: p.sums.SHA256,
		Tags: map[string]string{"type": "export", "table": p.Target.Table},
	}, p.Bytes)
	return exported{FileID: file.ID, FilePath: file.Path, RowsExported: p.rows, FileSizeBytes: file.SizeBytes}, err
}
