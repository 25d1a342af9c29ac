package audit

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/schema"
)

type exportOperations struct {
	Format    string    `query:"format" json:"-" enum:"ndjson,csv,parquet,cloudevents,ocsf" default:"ndjson" doc:"cloudevents and ocsf are lines of JSON, an event each"`
	From      time.Time `query:"from" json:"-" doc:"Rows at or after this time"`
	To        time.Time `query:"to" json:"-" doc:"Rows before this time"`
	ProjectID string    `query:"project_id" json:"-"`
	Operation string    `query:"operation" json:"-"`
	Status    string    `query:"status" json:"-" enum:"success,failed,denied,in_progress"`
	Actor     string    `query:"actor" json:"-" doc:"A key's id or an actor's name"`
	AllRows   bool      `query:"all_rows" json:"-" default:"true" doc:"Also the in_progress rows of calls that have ended: without them the rows make no chain"`
}

// exported tells what each form is. Lines are sent while they are read; Parquet is
// written to a file first, which has no name any more when it is sent.
var exported = map[string]struct{ mediaType, file string }{
	"ndjson":      {"application/x-ndjson", "operations.ndjson"},
	"csv":         {"text/csv; charset=utf-8; header=present", "operations.csv"},
	"parquet":     {"application/vnd.apache.parquet", "operations.parquet"},
	"cloudevents": {"application/x-ndjson", "operations.cloudevents.ndjson"},
	"ocsf":        {"application/x-ndjson", "operations.ocsf.ndjson"},
}

var exportAnswers = []schema.Answer{{
	Status: 200, Doc: "The rows, in the form that was asked for",
	Media:   []schema.Media{schema.Text("application/x-ndjson"), schema.Text("text/csv"), schema.Bytes("application/vnd.apache.parquet")},
	Headers: []schema.Header{{Name: "Content-Disposition", Doc: "attachment, with a name for the file", Always: true}},
}}

// export sends the rows oldest first, up to the newest at its begin.
func (a *Audit) export(ctx context.Context, v *operation.View, in exportOperations) (*operation.Content, error) {
	if !in.From.IsZero() && !in.To.IsZero() && in.To.Before(in.From) {
		return nil, eider.Invalid("to", "must not be before from")
	}
	call := operation.From(ctx)
	call.Detail("format", in.Format)
	f := audit.Filter{ProjectID: in.ProjectID, Operation: in.Operation, Status: in.Status, Actor: in.Actor, From: in.From, To: in.To, AllRows: in.AllRows}
	as := exported[in.Format]
	content := &operation.Content{Type: as.mediaType, Length: -1, Headers: map[string]string{
		"Content-Disposition": `attachment; filename="` + as.file + `"`, "Cache-Control": "no-store",
	}}
	if in.Format == "parquet" {
		return content, a.exportFile(ctx, v, f, call, content)
	}
	content.Write = func(ctx context.Context, w io.Writer) error {
		buffered := bufio.NewWriterSize(w, 64<<10)
		add, flush := a.lines(in.Format, buffered)
		rows := 0
		_, err := a.log.Walk(ctx, v, f, func(page []audit.Row) error {
			for i := range page {
				if err := add(&page[i]); err != nil {
					return err
				}
			}
			rows += len(page)
			call.Detail("rows", rows)
			return ctx.Err()
		})
		if err == nil {
			err = flush()
		}
		if err == nil {
			err = buffered.Flush()
		}
		return err
	}
	return content, nil
}

// lines returns what writes a row in a form of lines, and what ends them.
func (a *Audit) lines(format string, w io.Writer) (add func(*audit.Row) error, flush func() error) {
	if format == "csv" {
		c := csv.NewWriter(w)
		_ = c.Write(csvColumns) // it buffers: an error comes with the flush
		return func(r *audit.Row) error { return c.Write(csvRow(r)) }, func() error { c.Flush(); return c.Error() }
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return func(r *audit.Row) error {
		switch format {
		case "cloudevents":
			return encoder.Encode(r.CloudEvent(a.log.EpochAt(r.ID)))
		case "ocsf":
			return encoder.Encode(r.OCSF(a.log.EpochAt(r.ID)))
		}
		return encoder.Encode(r.Evidence())
	}, func() error { return nil }
}

var csvColumns = []string{
	"id", "call_id", "timestamp", "request_id", "trace_id", "actor_type", "actor_id", "actor_name", "source_ip", "project_id", "project_uid",
	"operation", "resource_type", "resource_id", "details", "duration_ms", "status", "error_code", "error_message", "decision", "intent_id", "count",
	"prev_hash", "hash",
}

func csvRow(r *audit.Row) []string {
	return []string{
		strconv.FormatInt(r.ID, 10), text(r.CallID), r.Time.Format(time.RFC3339Nano), text(r.RequestID), text(r.TraceID),
		text(string(r.ActorType)), text(r.ActorID), text(r.ActorName), text(r.SourceIP), text(r.ProjectID), text(r.ProjectUID),
		text(r.Operation), text(r.ResourceType), text(r.ResourceID), text(r.Details),
		strconv.FormatFloat(float64(r.Duration.Microseconds())/1000, 'f', -1, 64), text(string(r.Status)), text(r.Code), text(r.Error), text(r.Decision),
		strconv.FormatInt(r.IntentID, 10), strconv.FormatInt(r.Count, 10), hex.EncodeToString(r.PrevHash), hex.EncodeToString(r.Hash),
	}
}

// text returns a cell that no spreadsheet takes for a formula, whatever a caller has
// chosen: one that could be taken for it gets an apostrophe in front. So does one
// that begins with an apostrophe, so that whoever removes one in front of any cell
// has what is stored.
func text(cell string) string {
	if first, _ := utf8.DecodeRuneInString(cell); cell != "" && strings.ContainsRune("=+-@\t\r\n'\uFF1D\uFF0B\uFF0D\uFF20", first) {
		return "'" + cell
	}
	return cell
}

// exportFile makes the Parquet file of an export and takes its name away, so that
// it goes with its last reader.
func (a *Audit) exportFile(ctx context.Context, v *operation.View, f audit.Filter, call *operation.Call, content *operation.Content) (err error) {
	if a.space.Low() {
		return eider.Errorf(eider.StorageFull, "there is no room for the file that the export needs")
	}
	path := filepath.Join(a.archive, exportPrefix+call.ID+".parquet")
	file, err := audit.NewParquet(ctx, path)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(path) // the first error tells more
		}
	}()
	rows := 0
	_, err = a.log.Walk(ctx, v, f, func(page []audit.Row) error {
		rows += len(page)
		return file.Add(page)
	})
	if err == nil {
		err = file.Write()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	call.Detail("rows", rows)
	made, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open the export: %w", err)
	}
	info, err := made.Stat()
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		_ = made.Close()
		return fmt.Errorf("open the export: %w", err)
	}
	content.File, content.Length = made, info.Size()
	return nil
}

// exportPrefix begins the names of exports under way.
const exportPrefix = ".export-"

// sweepExports removes what a crash has left of exports.
func (a *Audit) sweepExports() error {
	left, err := filepath.Glob(filepath.Join(a.archive, exportPrefix+"*"))
	if err != nil {
		return err
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove what is left of an export: %w", err)
		}
	}
	return nil
}
