// Package audit answers what happened: the log of operations over the API.
//
// It reads the log that core/audit keeps and changes nothing.
package audit

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/config"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/schema"
)

// Audit is the module.
type Audit struct {
	settings Settings
	log      *audit.Log
	signer   *audit.Signer
	dir      string // of the checkpoints
	archive  string // where exports are made
	space    *disk.Space
	stopping <-chan struct{}
	files    *disk.FS
	slowest  func(context.Context) (int64, error)
	pipeline *operation.Pipeline
	logger   *slog.Logger
	pass     func(eider.Actor) func(context.Context, *operation.View) error
	cutOp    *operation.Handle[archiveRange, operation.Nothing]

	// Now tells by which clock a month is over, Most how many rows an archive has.
	// They are for tests.
	Now  func() time.Time
	Most int64
}

// Settings is what the section "audit" has besides the kernel's.
type Settings struct {
	Heartbeat    config.Duration `koanf:"tail_heartbeat" doc:"How long GET /operations/tail is silent at most"`
	Retention    config.Duration `koanf:"retention" doc:"How long rows of the log stay in the database at least: whole months that ended before are moved to archive/; 0: for ever"`
	ArchiveEvery config.Duration `koanf:"archive_every" doc:"How often it is looked whether a month is due"`
}

// Validate refuses a heart that races.
func (s *Settings) Validate() error {
	if time.Duration(s.Heartbeat) < 100*time.Millisecond {
		return fmt.Errorf("tail_heartbeat must be at least 100ms")
	}
	if s.Retention < 0 {
		return fmt.Errorf("retention must not be negative")
	}
	if time.Duration(s.ArchiveEvery) < time.Second {
		return fmt.Errorf("archive_every must be at least 1s")
	}
	return nil
}

// New returns the module.
func New() *Audit {
	return &Audit{
		settings: Settings{Heartbeat: config.Duration(15 * time.Second), ArchiveEvery: config.Duration(time.Hour)},
		Most:     archiveRows, Now: time.Now,
	}
}

var (
	_ core.Module      = (*Audit)(nil)
	_ core.Provisioner = (*Audit)(nil)
)

// Name returns "audit".
func (a *Audit) Name() string { return "audit" }

// Declare lists the operations; the handlers follow in this order.
func (a *Audit) Declare(r *core.Registry) error {
	r.Settings.Section("audit", &a.settings)
	a.declareArchive(r)
	operation.Read(r.Operations, operation.Spec{
		Name: "list_operations", Route: "GET /operations", Role: eider.Admin, Target: "operation",
		Summary: "List operations, newest first", Slow: true, Errors: []eider.Code{eider.InvalidCursor},
	}, a.list)
	operation.Read(r.Operations, operation.Spec{
		Name: "list_project_operations", Route: "GET /projects/{id}/operations", Role: eider.ProjectRead, Target: "operation",
		Summary: "List a project's operations, newest first", Slow: true, Errors: []eider.Code{eider.NotFound, eider.InvalidCursor},
	}, a.listOfProject)
	operation.Read(r.Operations, operation.Spec{
		Name: "get_operation", Route: "GET /operations/{operation}", Role: eider.Admin, Target: "operation",
		Summary: "Get one row of the log, with its hashes", Errors: []eider.Code{eider.NotFound},
	}, a.get)
	operation.Read(r.Operations, operation.Spec{
		Name: "verify_operations", Route: "GET /operations/verify", Role: eider.Admin, Target: "operation",
		Summary: "Verify the chain of the log", Slow: true,
	}, a.verify)
	operation.Stream(r.Operations, operation.Spec{
		Name: "export_operations", Route: "GET /operations/export", Role: eider.Admin, Target: "operation", Slow: true,
		Summary: "Export the log, oldest first", Errors: []eider.Code{eider.StorageFull},
		Description: "Every row up to the newest at the begin, with its hashes. Lines are sent while they are read; a Parquet file has the columns as they are stored. In CSV a text that begins with =, +, -, @, ', a tab or the end of a line has a ' in front, so that no spreadsheet takes it for a formula.",
		Answers:     exportAnswers,
	}, a.export)
	operation.Stream(r.Operations, operation.Spec{
		Name: "tail_operations", Route: "GET /operations/tail", Role: eider.Admin, Target: "operation", Slow: true,
		Summary:     "Follow the log as server-sent events",
		Description: "Each row is an event named operation, whose id is the row's; behind a restore, a rebuild or a repair that began a new epoch, the epoch's and the row's: 1795806060992-197. Last-Event-ID goes on behind a row, without gap or duplicate. Where rows that were seen are lost, an event named reset comes first, and the rows that took their place follow. The stream ends when its key is revoked or expires.",
		Answers:     []schema.Answer{{Status: 200, Doc: "Rows as they are written, until the client leaves", Media: []schema.Media{schema.Text("text/event-stream")}}},
	}, a.tail)
	operation.Read(r.Operations, operation.Spec{
		Name: "get_project_operation", Route: "GET /projects/{id}/operations/{operation}", Role: eider.ProjectRead, Target: "operation",
		Summary: "Get one row of a project's log", Errors: []eider.Code{eider.NotFound},
	}, a.getOfProject)
	return nil
}

// Provision takes the log.
func (a *Audit) Provision(_ context.Context, k *core.Kernel) error {
	a.log, a.signer, a.dir, a.space, a.stopping = k.Audit, k.Signer, k.AuditDir, k.Space, k.Stopping
	a.files, a.slowest, a.pipeline, a.logger = k.Files, k.Slowest, k.Pipeline, k.Log
	a.pass = k.Keys.Pass
	a.archive = filepath.Join(k.Dir, "archive")
	return a.sweepExports()
}

type filter struct {
	Operation    string    `query:"operation" json:"-"`
	Status       string    `query:"status" json:"-" enum:"success,failed,denied,in_progress"`
	Actor        string    `query:"actor" json:"-" doc:"A key's id or an actor's name"`
	ResourceType string    `query:"resource_type" json:"-"`
	ResourceID   string    `query:"resource_id" json:"-"`
	RequestID    string    `query:"request_id" json:"-"`
	From         time.Time `query:"from" json:"-" doc:"Rows at or after this time"`
	To           time.Time `query:"to" json:"-" doc:"Rows before this time"`
	Text         string    `query:"q" json:"-" maxLength:"256" doc:"Part of details, error, resource, actor's name or operation, whatever its case; needs from, to or a project"`
	AllRows      bool      `query:"all_rows" json:"-" doc:"Also the in_progress rows of calls that have ended"`
	Limit        int       `query:"limit" json:"-" minimum:"1" maximum:"1000" default:"100"`
	Cursor       string    `query:"cursor" json:"-" doc:"next_cursor of the page before"`
}

type listOperations struct {
	filter
	ProjectID string `query:"project_id" json:"-"`
}

type listProjectOperations struct {
	ID string `path:"id" json:"-"`
	filter
}

type page struct {
	Operations []audit.Operation `json:"operations"`
	NextCursor string            `json:"next_cursor,omitempty"`
}

func (a *Audit) list(ctx context.Context, v *operation.View, in listOperations) (page, error) {
	if in.Text != "" && in.From.IsZero() && in.To.IsZero() && in.ProjectID == "" {
		return page{}, eider.Invalid("q", "needs from, to or project_id besides: it would read the whole log")
	}
	return a.page(ctx, v, in.filter, audit.Filter{ProjectID: in.ProjectID})
}

func (a *Audit) listOfProject(ctx context.Context, v *operation.View, in listProjectOperations) (page, error) {
	return a.page(ctx, v, in.filter, audit.Filter{ProjectUID: operation.From(ctx).Project.UID})
}

func (a *Audit) page(ctx context.Context, v *operation.View, in filter, f audit.Filter) (page, error) {
	if !in.From.IsZero() && !in.To.IsZero() && in.To.Before(in.From) {
		return page{}, eider.Invalid("to", "must not be before from")
	}
	f.Operation, f.Status, f.Actor = in.Operation, in.Status, in.Actor
	f.ResourceType, f.ResourceID, f.RequestID = in.ResourceType, in.ResourceID, in.RequestID
	f.From, f.To, f.Text, f.AllRows = in.From, in.To, in.Text, in.AllRows
	f.Limit = in.Limit + 1 // one more tells whether there is a next page
	if in.Cursor != "" {
		var err error
		if f.Before, f.AsOf, err = readCursor(in.Cursor); err != nil {
			return page{}, err
		}
	}
	rows, asOf, err := a.log.Page(ctx, v, f)
	if err != nil {
		return page{}, err
	}
	out := page{Operations: []audit.Operation{}}
	if len(rows) > in.Limit {
		rows = rows[:in.Limit]
		out.NextCursor = writeCursor(rows[in.Limit-1].ID, asOf)
	}
	for i := range rows {
		out.Operations = append(out.Operations, rows[i].API())
	}
	return out, nil
}

// A cursor is the last row of a page, and the newest that there was at the first
// page: all show the log as it was then, or a call that ends between two of them
// would be on none. Cursors of older versions are without.
func writeCursor(id, asOf int64) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %d", id, asOf))
}

func readCursor(text string) (before, asOf int64, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		first, second, both := strings.Cut(string(raw), " ")
		before, err = strconv.ParseInt(first, 10, 64)
		if err == nil && both {
			if asOf, err = strconv.ParseInt(second, 10, 64); asOf < before {
				before = 0
			}
		}
		if err == nil && before > 0 {
			return before, asOf, nil
		}
	}
	return 0, 0, eider.Errorf(eider.InvalidCursor, "this cursor does not belong to this list")
}

type getOperation struct {
	Operation int64 `path:"operation" json:"-" doc:"The row's id"`
}

type getProjectOperation struct {
	ID        string `path:"id" json:"-"`
	Operation int64  `path:"operation" json:"-" doc:"The row's id"`
}

func (a *Audit) get(ctx context.Context, v *operation.View, in getOperation) (audit.Operation, error) {
	return a.one(ctx, v, in.Operation, "")
}

func (a *Audit) getOfProject(ctx context.Context, v *operation.View, in getProjectOperation) (audit.Operation, error) {
	return a.one(ctx, v, in.Operation, operation.From(ctx).Project.UID)
}

func (a *Audit) one(ctx context.Context, v *operation.View, id int64, projectUID string) (audit.Operation, error) {
	row, err := a.log.Get(ctx, v, id)
	if err != nil {
		return audit.Operation{}, err
	}
	if projectUID != "" && row.ProjectUID != projectUID {
		return audit.Operation{}, eider.Errorf(eider.NotFound, "there is no such operation")
	}
	out := row.API()
	out.PrevHash, out.Hash = hex.EncodeToString(row.PrevHash), hex.EncodeToString(row.Hash)
	return out, nil
}
