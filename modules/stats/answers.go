package stats

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/usage"
)

type noInput struct{}

type totals struct {
	TotalProjects   int64     `json:"total_projects" doc:"Projects that are not purged"`
	ActiveProjects  int64     `json:"active_projects"`
	TotalSizeBytes  int64     `json:"total_size_bytes" doc:"Of all databases with their logs, as measured at the last change of each. A log that is folded into its database later makes a small one larger: ?refresh=true of GET /projects/{id}/stats measures that one"`
	TotalTables     int64     `json:"total_tables"`
	TotalFiles      int64     `json:"total_files"`
	TotalFileBytes  int64     `json:"total_file_bytes"`
	OperationsToday int64     `json:"operations_today" doc:"Calls that ended, and refusals"`
	QueriesToday    int64     `json:"queries_today"`
	ImportsToday    int64     `json:"imports_today"`
	ErrorsToday     int64     `json:"errors_today" doc:"Calls that failed"`
	DeniedToday     int64     `json:"denied_today" doc:"Calls that were not allowed"`
	UpdatedAt       time.Time `json:"updated_at"`
}

func (s *Stats) totals(ctx context.Context, v *operation.View, _ noInput) (totals, error) {
	now := time.Now().UTC()
	held, err := s.usage.Of(ctx, v, usage.Server)
	if err != nil {
		return totals{}, err
	}
	out := totals{TotalProjects: held.Projects, TotalTables: held.Tables, TotalFiles: held.Files, TotalFileBytes: held.Bytes, UpdatedAt: now}
	for p := range s.register.Projects {
		if p.Status == eider.ProjectActive {
			out.ActiveProjects++
		}
		out.TotalSizeBytes += p.SizeBytes
	}
	today, err := s.happened(ctx, v, usage.Server, day, now.Truncate(24*time.Hour), now.Add(24*time.Hour))
	if err != nil {
		return totals{}, err
	}
	for _, c := range today {
		out.OperationsToday += c.Operations
		out.QueriesToday += c.Queries
		out.ImportsToday += c.Imports
		out.ErrorsToday += c.Errors
		out.DeniedToday += c.Denied
	}
	return out, nil
}

// happened returns the counts of a scope by the begin of their hour or day: those
// that are kept, and what the log has behind their cursor.
func (s *Stats) happened(ctx context.Context, v *operation.View, scope, period string, from, to time.Time) (map[time.Time]counts, error) {
	found, cursor, err := read(ctx, v, "key = $1 OR (scope = $2 AND period = $3 AND begun >= $4 AND begun < $5)",
		cursorKey, scope, period, from, to)
	if err != nil {
		return nil, err
	}
	by := map[time.Time]counts{}
	put := func(r *row) {
		c := by[r.Begun]
		c.add(r.counts)
		by[r.Begun] = c
	}
	for i := range found {
		put(&found[i])
	}
	more, err := s.uncounted(ctx, v, cursor)
	for _, r := range more {
		if r.Scope == scope && r.Period == period && !r.Begun.Before(from) && r.Begun.Before(to) {
			put(r)
		}
	}
	return by, err
}

// uncounted counts the rows of the log behind the cursor.
func (s *Stats) uncounted(ctx context.Context, v *operation.View, cursor int64) (added, error) {
	more := added{}
	_, err := s.audit.Walk(ctx, v, audit.Filter{AllRows: true, After: s.after(cursor)}, func(page []audit.Row) error {
		for i := range page {
			more.row(&page[i])
		}
		return nil
	})
	return more, err
}

type seriesIn struct {
	Metric    string    `query:"metric" json:"-" enum:"operations,denied,errors,queries,imports,exports,uploads,downloads" default:"operations" doc:"uploads: bodies of files that were taken, also those of uploads in one step"`
	From      time.Time `query:"from" json:"-" doc:"Without it: 24 steps of an hour, or 30 longer ones, before to"`
	To        time.Time `query:"to" json:"-" doc:"Without it: now"`
	Step      string    `query:"step" json:"-" default:"1h" maxLength:"16" doc:"hour, day, or whole hours or days such as 6h and 7d"`
	ProjectID string    `query:"project_id" json:"-" doc:"Without it: the whole server"`
}

type point struct {
	T time.Time `json:"t" doc:"Where the step begins"`
	V int64     `json:"v"`
}

type series struct {
	Metric string  `json:"metric"`
	Step   string  `json:"step"`
	Points []point `json:"points"`
}

// maxPoints is how many points a series may have.
const maxPoints = 10_000

func (s *Stats) series(ctx context.Context, v *operation.View, in seriesIn) (series, error) {
	step, err := parseStep(in.Step)
	if err != nil {
		return series{}, err
	}
	scope := usage.Server
	if in.ProjectID != "" {
		project, ok := s.register.Project(in.ProjectID)
		if !ok {
			return series{}, eider.Errorf(eider.NotFound, "there is no project %s", in.ProjectID)
		}
		scope = project.UID
	}
	from, to, err := in.span(step)
	if err != nil {
		return series{}, err
	}
	period := hour
	if step%lengths[day] == 0 {
		period = day
	}
	by, err := s.happened(ctx, v, scope, period, from, to)
	if err != nil {
		return series{}, err
	}
	out := series{Metric: in.Metric, Step: in.Step, Points: []point{}}
	for t := from; t.Before(to); t = t.Add(step) {
		out.Points = append(out.Points, point{T: t})
	}
	for at, c := range by {
		out.Points[steps(from, at, step)].V += c.of(in.Metric)
	}
	return out, nil
}

// steps returns how many whole steps are between two times. The difference of times
// ends at 292 years.
func steps(from, to time.Time, step time.Duration) int64 {
	return (to.Unix() - from.Unix()) / int64(step/time.Second)
}

// span returns the times from which and to which the steps reach.
func (in *seriesIn) span(step time.Duration) (from, to time.Time, err error) {
	to = in.To.UTC()
	if in.To.IsZero() {
		to = time.Now().UTC()
	}
	from = in.From.UTC()
	if in.From.IsZero() {
		n := 24
		if step > time.Hour {
			n = 30
		}
		from = to.Add(-time.Duration(n-1) * step)
	}
	if from = from.Truncate(step); from.Year() < 1 {
		return from, to, eider.Invalid("from", "must not be before the year 1")
	}
	if !to.After(from) {
		return from, to, eider.Invalid("to", "must be after from")
	}
	if steps(from, to, step) >= maxPoints {
		return from, to, eider.Invalid("step", "is too short: a series has at most %d points", maxPoints)
	}
	// The last step is whole too, and no count lies beyond it.
	if whole := to.Truncate(step); whole.Before(to) {
		to = whole.Add(step)
	}
	return from, to, nil
}

// parseStep reads a number of whole hours or days.
func parseStep(text string) (time.Duration, error) {
	if length, ok := lengths[text]; ok {
		return length, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 && n <= 366 {
			return time.Duration(n) * lengths[day], nil
		}
	} else if d, err := time.ParseDuration(text); err == nil && d >= time.Hour && d%time.Hour == 0 && d <= 366*lengths[day] {
		return d, nil
	}
	return 0, eider.Invalid("step", "must be hour, day, or whole hours or days such as 6h and 7d")
}

type topIn struct {
	By    string    `query:"by" json:"-" enum:"size,files,operations,errors" default:"size"`
	Limit int       `query:"limit" json:"-" minimum:"1" maximum:"1000" default:"10"`
	From  time.Time `query:"from" json:"-" doc:"Of operations and errors: since the day of this time; without it, since ever"`
}

type ranked struct {
	ProjectID  string `json:"project_id"`
	ProjectUID string `json:"project_uid"`
	Name       string `json:"name"`
	Value      int64  `json:"value"`
}

type top struct {
	By  string   `json:"by"`
	Top []ranked `json:"top"`
}

func (s *Stats) top(ctx context.Context, v *operation.View, in topIn) (top, error) {
	value, err := s.values(ctx, v, in)
	if err != nil {
		return top{}, err
	}
	all := []ranked{}
	for p := range s.register.Projects {
		if p.Status == eider.ProjectCreating {
			continue
		}
		n, err := value(p)
		if err != nil {
			return top{}, err
		}
		all = append(all, ranked{p.ID, p.UID, p.Name, n})
	}
	slices.SortFunc(all, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(b.Value, a.Value), cmp.Compare(a.ProjectID, b.ProjectID))
	})
	return top{in.By, all[:min(in.Limit, len(all))]}, nil
}

// values returns what tells how much a project has.
func (s *Stats) values(ctx context.Context, v *operation.View, in topIn) (func(eider.Project) (int64, error), error) {
	switch in.By {
	case "size":
		return func(p eider.Project) (int64, error) { return p.SizeBytes, nil }, nil
	case "files":
		return func(p eider.Project) (int64, error) {
			held, err := s.usage.Of(ctx, v, p.UID)
			return held.Files, err
		}, nil
	}
	sums, err := s.sums(ctx, v, in.From)
	return func(p eider.Project) (int64, error) {
		c := sums[p.UID]
		return c.of(in.By), nil
	}, err
}

const selectSums = `
	SELECT 'cursor', max(log_id), 0 FROM stats WHERE key = 'cursor'
	UNION ALL
	SELECT scope, sum(operations)::BIGINT, sum(errors)::BIGINT FROM stats WHERE period = 'day' AND begun >= $1 GROUP BY scope`

// sums returns the counts of operations and errors of each scope since a day.
func (s *Stats) sums(ctx context.Context, v *operation.View, from time.Time) (map[string]counts, error) {
	from = from.UTC().Truncate(lengths[day])
	rows, err := v.Query(ctx, selectSums, from)
	if err != nil {
		return nil, fmt.Errorf("sum the counts: %w", err)
	}
	defer rows.Close()
	by, cursor := map[string]counts{}, int64(0)
	for rows.Next() {
		var scope string
		var first, second *int64
		if err := rows.Scan(&scope, &first, &second); err != nil {
			return nil, fmt.Errorf("sum the counts: %w", err)
		}
		switch {
		case first == nil || second == nil:
		case scope == cursorKey:
			cursor = *first
		default:
			by[scope] = counts{Operations: *first, Errors: *second}
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("sum the counts: %w", err)
	}
	more, err := s.uncounted(ctx, v, cursor)
	for _, r := range more {
		if r.Period == day && !r.Begun.Before(from) {
			c := by[r.Scope]
			c.add(r.counts)
			by[r.Scope] = c
		}
	}
	return by, err
}
