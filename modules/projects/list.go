package projects

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
)

type listProjects struct {
	Status       string `query:"status" json:"-" enum:"active,locked,deleted,all" doc:"Without it: those that are active or locked"`
	NameContains string `query:"name_contains" json:"-" maxLength:"256" doc:"Part of the name, whatever its case"`
	Sort         string `query:"sort" json:"-" enum:"created_at,-created_at,updated_at,-updated_at,name,-name,size_bytes,-size_bytes" default:"-created_at" doc:"A leading '-' sorts downwards"`
	Limit        int    `query:"limit" json:"-" minimum:"1" maximum:"1000" default:"100"`
	Offset       int    `query:"offset" json:"-" minimum:"0" doc:"For small jumps; not together with cursor"`
	Cursor       string `query:"cursor" json:"-" doc:"next_cursor of the page before"`
}

type projectPage struct {
	Projects   []eider.Project `json:"projects"`
	Total      int             `json:"total" doc:"How many match, on all pages"`
	NextCursor string          `json:"next_cursor,omitempty"`
}

// cursor names the last row of a page by what it is sorted by.
type cursor struct {
	Sort string    `json:"s"`
	UID  string    `json:"u"`
	Name string    `json:"n,omitempty"`
	Time time.Time `json:"t,omitzero"`
	Size int64     `json:"z,omitempty"`
}

var orders = map[string]string{"created_at": byNewest, "updated_at": byUpdated, "name": byName, "size_bytes": bySize}

func (p *Projects) list(_ context.Context, _ *operation.View, in listProjects) (projectPage, error) {
	field, down := strings.CutPrefix(in.Sort, "-")
	over := metadata.Range[row]{Order: orders[field], Descending: down}
	matches := in.matcher()
	page := projectPage{Projects: []eider.Project{}}
	if in.Cursor != "" {
		if in.Offset > 0 {
			return page, eider.Invalid("offset", "cannot be used together with cursor")
		}
		after, err := readCursor(in.Cursor, in.Sort)
		if err != nil {
			return page, err
		}
		over.After = after
	}
	var last *row
	more := false
	skip := in.Offset
	p.rows.Scan(over, func(r *row) bool {
		if !matches(r) {
			return true
		}
		if skip > 0 {
			skip--
			return true
		}
		if len(page.Projects) == in.Limit {
			more = true
			return false
		}
		page.Projects = append(page.Projects, shown(r.Project))
		last = r
		return true
	})
	page.Total = p.total(&in, matches)
	if more {
		page.NextCursor = writeCursor(in.Sort, last)
	}
	return page, nil
}

// total returns how many projects match. Where the status alone decides nobody
// walks over them.
func (p *Projects) total(in *listProjects, matches func(*row) bool) int {
	if in.NameContains != "" {
		return p.count(matches)
	}
	total := 0
	for _, status := range []eider.ProjectStatus{eider.ProjectActive, eider.ProjectLocked, eider.ProjectDeleted, eider.ProjectPurging} {
		if in.shows(status) {
			total += p.rows.Count(string(status))
		}
	}
	return total
}

func (p *Projects) count(matches func(*row) bool) int {
	total := 0
	p.rows.Scan(metadata.Range[row]{Order: byNewest}, func(r *row) bool {
		if matches(r) {
			total++
		}
		return true
	})
	return total
}

func (in *listProjects) matcher() func(*row) bool {
	part := strings.ToLower(in.NameContains)
	return func(r *row) bool {
		return in.shows(r.Status) && (part == "" || strings.Contains(r.folded, part))
	}
}

// shows reports whether the list is to hold projects of the status.
func (in *listProjects) shows(status eider.ProjectStatus) bool {
	switch status {
	case eider.ProjectCreating, eider.ProjectPurged:
		return false
	case eider.ProjectDeleted, eider.ProjectPurging:
		return in.Status == "deleted" || in.Status == "all"
	}
	return in.Status == "" || in.Status == "all" || in.Status == string(status)
}

func writeCursor(sort string, r *row) string {
	c := cursor{Sort: sort, UID: r.UID}
	switch strings.TrimPrefix(sort, "-") {
	case "created_at":
		c.Time = r.CreatedAt
	case "updated_at":
		c.Time = r.UpdatedAt
	case "name":
		c.Name = r.folded
	case "size_bytes":
		c.Size = r.SizeBytes
	}
	text, err := json.Marshal(c)
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func readCursor(text, sort string) (*row, error) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	var c cursor
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	if err != nil || c.Sort != sort {
		return nil, eider.Errorf(eider.InvalidCursor, "this cursor does not belong to this list and its order")
	}
	return &row{
		Project: eider.Project{UID: c.UID, CreatedAt: c.Time, UpdatedAt: c.Time, SizeBytes: c.Size},
		folded:  c.Name,
	}, nil
}

type projectStatsIn struct {
	projectPath
	Refresh bool `query:"refresh" json:"-" doc:"Measure the database now and record it, instead of telling what is recorded"`
}

type projectStats struct {
	ID           string    `json:"id"`
	SizeBytes    int64     `json:"size_bytes"`
	TableCount   int64     `json:"table_count"`
	BucketCount  int64     `json:"bucket_count"`
	FileCount    int64     `json:"file_count"`
	FileBytes    int64     `json:"file_bytes"`
	RowCount     int64     `json:"row_count"`
	QueriesToday int64     `json:"queries_today"`
	ImportsToday int64     `json:"imports_today"`
	UpdatedAt    time.Time `json:"updated_at"`
	State        string    `json:"state" enum:"healthy,degraded" doc:"degraded: the process of the project's database keeps dying"`
	Reason       string    `json:"reason,omitempty" doc:"Why it is degraded"`
}

func (p *Projects) stats(ctx context.Context, v *operation.View, in projectStatsIn) (projectStats, error) {
	call := operation.From(ctx)
	if in.Refresh {
		if err := p.recount(ctx, call); err != nil {
			return projectStats{}, err
		}
	}
	project, err := p.rows.Get(ctx, v, call.Project.UID)
	if err != nil {
		return projectStats{}, err
	}
	held, err := p.usage.Of(ctx, v, project.UID)
	if err != nil {
		return projectStats{}, err
	}
	today := now().Truncate(24 * time.Hour)
	counts, err := p.audit.CountSince(ctx, v, project.UID, today)
	if err != nil {
		return projectStats{}, err
	}
	s := projectStats{
		ID: project.ID, SizeBytes: project.SizeBytes, TableCount: project.TableCount, BucketCount: project.BucketCount,
		FileCount: held.Files, FileBytes: held.Bytes, RowCount: held.Rows,
		QueriesToday: counts["query"], ImportsToday: counts["import_table"], UpdatedAt: project.toldAt(), State: "healthy",
	}
	if c := p.databases.Condition(project.UID); c.Degraded {
		s.State, s.Reason = "degraded", c.Reason
	}
	if in.Refresh {
		s.UpdatedAt = now()
	}
	return s, nil
}

// recount measures the database and keeps what it holds, by an operation of its
// own. Where a change is under way, that one records what it leaves.
func (p *Projects) recount(ctx context.Context, call *operation.Call) error {
	_, err := p.measureOp.Do(ctx, p.pipeline, call.Actor, call.Project.ID, projectPath{ID: call.Project.ID})
	if eider.CodeOf(err) == eider.OperationInProgress {
		return nil
	}
	return err
}
