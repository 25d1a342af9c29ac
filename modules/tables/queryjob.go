package tables

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/blob"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/projectdb/worker"
	"github.com/eiderdb/eider/core/usage"
)

// queryResult is the result of a query that ran as a job: its rows, where they are
// JSON and few, else a stored file with the answer that the query would have had.
type queryResult struct {
	Columns   []worker.QueryColumn `json:"columns,omitempty"`
	Rows      json.RawMessage      `json:"rows,omitempty"`
	RowCount  int64                `json:"row_count"`
	Truncated bool                 `json:"truncated"`
	ElapsedMS int64                `json:"elapsed_ms"`

	FileID        string     `json:"file_id,omitempty"`
	FilePath      string     `json:"file_path,omitempty"`
	FileSizeBytes int64      `json:"file_size_bytes,omitempty"`
	ContentType   string     `json:"content_type,omitempty"`
	ExpiresAt     *time.Time `json:"expires_at,omitempty"`
}

// maxInline is the longest answer that is a job's result itself, in bytes.
const maxInline = 48 << 10

// fileNames are what the files of results are called.
var fileNames = map[string]string{
	worker.FormJSON: "query.json", worker.FormLines: "query.ndjson", worker.FormCSV: "query.csv", worker.FormArrow: "query.arrow",
}

// queryPlan is a query that runs as a job. The file is there only where the rows
// need one. It holds nothing of the data in the statement's text.
type queryPlan struct {
	Project projectdb.Project `json:"project"`
	SQL     string            `json:"sql"` // redacted
	FileID  string            `json:"file_id"`
	Bytes   blob.Key          `json:"bytes"`

	in     runQuery
	form   form
	out    queryResult
	sums   blob.Sums
	inFile bool
	done   bool
}

// declareJob declares the query whose rows are kept. It changes nothing that the
// lock of a project protects.
func (q *queries) declareJob(r *core.Registry, spec operation.Spec) {
	spec.ID, spec.Role, spec.Locked = "query_job", eider.ProjectRead, true
	q.job = operation.Effect(r.Operations, spec, operation.Steps[runQuery, *queryPlan, queryResult]{
		Intent: q.planJob, Claims: func(p *queryPlan) []metadata.Claim {
			return []metadata.Claim{{Resource: operation.ProjectResource(p.Project.UID)}}
		},
		Effect: q.keepRows,
		// After a crash nobody knows what is in the file: the query is asked again.
		Applied: func(_ context.Context, p *queryPlan) (bool, error) { return p.done, nil },
		Undo:    func(_ context.Context, p *queryPlan) error { return q.tables.blobs.Remove(p.Bytes) },
		Outcome: q.concludeJob, Revert: func(context.Context, *operation.Tx, *queryPlan) error { return nil },
	})
}

func (q *queries) planJob(ctx context.Context, _ *operation.Tx, in runQuery) (*queryPlan, error) {
	call := operation.From(ctx)
	as, err := accepted(in.Accept)
	if err != nil {
		return nil, err
	}
	return &queryPlan{
		Project: projectdb.Of(*call.Project), SQL: redact(in.SQL), FileID: newID(), Bytes: blob.Key{Project: call.Project.UID, ID: newID()},
		in: in, form: as,
	}, nil
}

// keepRows reads the answer, into memory for as long as it may be the result
// itself, and beyond that into a file.
func (q *queries) keepRows(ctx context.Context, p *queryPlan) error {
	call := operation.From(ctx)
	answer, err := q.start(ctx, p.in, p.form, call.Progress)
	if err != nil {
		return err
	}
	defer answer.relay.abandon()
	rows, into := io.Pipe()
	defer func() { _ = rows.Close() }() // it may be read no further
	go func() {
		defer func() {
			if v := recover(); v != nil {
				_ = into.CloseWithError(fmt.Errorf("panic in the rows of a query: %v", v))
			}
		}()
		_ = into.CloseWithError(answer.rows(into))
	}()
	first := make([]byte, maxInline)
	n, err := io.ReadFull(rows, first)
	short := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	if err != nil && !short {
		return err
	}
	if short && p.form.worker == worker.FormJSON {
		err = json.Unmarshal(first[:n], &p.out)
	} else {
		p.inFile = true
		err = q.save(ctx, p, io.MultiReader(bytes.NewReader(first[:n]), rows))
	}
	if err != nil {
		return err
	}
	end := answer.relay.end
	p.out.RowCount, p.out.Truncated, p.out.ElapsedMS = end.Rows, end.Truncated, time.Since(answer.relay.asked).Milliseconds()
	p.done = true
	call.Progress(1, end.Rows) // it may be one that was too quick to tell any
	return nil
}

// save writes the answer into a blob. It is reserved as it grows.
func (q *queries) save(ctx context.Context, p *queryPlan, answer io.Reader) error {
	call := operation.From(ctx)
	if err := call.Extend(ctx, usage.Amounts{Files: 1}); err != nil {
		return err
	}
	upload, err := q.tables.blobs.Resume(p.Bytes)
	if err != nil {
		return disk.Refusal(err)
	}
	defer upload.Close()
	reserved := int64(0)
	reserve := func(ctx context.Context, length int64) error {
		more := length - reserved
		reserved = length
		return call.Extend(ctx, usage.Amounts{Bytes: more})
	}
	if err := upload.Append(ctx, answer, math.MaxInt64, reserve); err != nil {
		return disk.Refusal(err)
	}
	p.sums = upload.Sums()
	return disk.Refusal(upload.Finish())
}

func (q *queries) concludeJob(ctx context.Context, tx *operation.Tx, p *queryPlan) (queryResult, error) {
	call := operation.From(ctx)
	describeSQL(call, p.SQL)
	call.Detail("rows", p.out.RowCount)
	if !p.inFile {
		return p.out, nil
	}
	until := time.Now().UTC().Truncate(time.Microsecond).Add(time.Duration(q.settings.Keep))
	file, err := q.tables.stored.KeepFile(ctx, tx, eider.File{
		ID: p.FileID, Name: fileNames[p.form.worker], ContentType: contentType(p.form), ExpiresAt: &until,
		SizeBytes: p.sums.Size, ChecksumMD5: p.sums.MD5, ChecksumSHA256: p.sums.SHA256, Tags: map[string]string{"type": "query_result"},
	}, p.Bytes)
	out := p.out
	out.FileID, out.FilePath, out.FileSizeBytes, out.ContentType, out.ExpiresAt = file.ID, file.Path, file.SizeBytes, file.ContentType, file.ExpiresAt
	call.Resource(call.Project.ID)
	call.Detail("file_id", file.ID)
	return out, err
}
