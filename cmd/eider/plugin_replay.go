package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/wasm"
	"github.com/eiderdb/eider/core/wasm/cases"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// replay asks a policy about operations that the log has, oldest first, and tells
// what it would have denied. What the log does not hold is empty in the events: the
// usage, and the role of a key.
type replay struct {
	f       *flags
	session *wasm.Session
	out     *cobra.Command
	ask     asker

	routes   map[string]*operation.Declared
	projects map[string]map[string]any

	asked, spared, denied, warned, failed int
}

func (f *flags) replay(c *cobra.Command, dir, span, configFile string) error {
	s, err := parseSpan(span)
	if err != nil {
		return err
	}
	config, err := replayConfig(dir, configFile)
	if err != nil {
		return err
	}
	b, m, err := newBench(dir)
	if err != nil {
		return err
	}
	if m.Kind != wasm.Policy {
		return fmt.Errorf("%s is a %s: only policies decide", m.Name, m.Kind)
	}
	defer b.Close(context.WithoutCancel(c.Context()))
	p, err := b.Plugin(c.Context(), config, m.Capabilities)
	if err != nil {
		return err
	}
	a, err := f.load(app.Options{})
	if err != nil {
		return err
	}
	session := p.Session()
	defer session.End()
	r := &replay{f: f, session: session, out: c, routes: map[string]*operation.Declared{}, projects: map[string]map[string]any{}}
	for _, d := range a.Registry.Operations.All() {
		if r.routes[d.Name] == nil {
			r.routes[d.Name] = d
		}
	}
	return f.asking(c, func(ask asker) error {
		r.ask = ask
		return r.run(c.Context(), s)
	})
}

// replayConfig reads the plugin's configuration: what the cases have is the default.
func replayConfig(dir, file string) (config map[string]any, err error) {
	if file == "" {
		text, err := os.ReadFile(cases.Source(dir))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		parsed, err := cases.Parse(text)
		return parsed.Config, err
	}
	text, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(text, &config)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return config, nil
}

// logSpan is a part of the log: by rows or by times.
type logSpan struct {
	first, last int64 // 0: open
	from, to    time.Time
}

func parseSpan(text string) (s logSpan, err error) {
	from, to, found := strings.Cut(text, "..")
	if !found {
		return s, fmt.Errorf("--replay %s: it must be FROM..TO", text)
	}
	if s.first, s.from, err = parseEnd(from, 0); err != nil {
		return s, err
	}
	s.last, s.to, err = parseEnd(to, 24*time.Hour)
	return s, err
}

// parseEnd reads a row, a time, or a day, to which whole is added.
func parseEnd(text string, whole time.Duration) (row int64, at time.Time, err error) {
	if text == "" {
		return 0, at, nil
	}
	if row, err = strconv.ParseInt(text, 10, 64); err == nil && row > 0 {
		return row, at, nil
	}
	if at, err = time.Parse(time.DateOnly, text); err == nil {
		return 0, at.Add(whole), nil
	}
	if at, err = time.Parse(time.RFC3339, text); err == nil {
		return 0, at, nil
	}
	return 0, at, fmt.Errorf("--replay: %q is no row, no day (2026-11-27) and no time (2026-11-27T06:40:00Z)", text)
}

func (r *replay) run(ctx context.Context, s logSpan) error {
	rows, err := r.read(s)
	if err != nil {
		return err
	}
	for i := range rows {
		if err := r.one(ctx, &rows[i]); err != nil {
			return err
		}
	}
	span := "no rows"
	if len(rows) > 0 {
		span = fmt.Sprintf("rows %d to %d", rows[0].ID, rows[len(rows)-1].ID)
	}
	_, err = fmt.Fprintf(r.out.OutOrStdout(), "%s: asked about %d operations: %d denied, %d warned, %d undecided; %d others concern it not\n"+
		"the log does not hold usage, the roles of keys, or projects as they were: usage and roles are empty, projects as they are now\n",
		span, r.asked, r.denied, r.warned, r.failed, r.spared)
	return err
}

// read returns the rows of the span, oldest first. A call with an effect is one.
func (r *replay) read(s logSpan) (all []audit.Operation, err error) {
	query := url.Values{"limit": {"1000"}}
	for name, end := range map[string]struct {
		row int64
		at  time.Time
	}{"from": {s.first, s.from}, "to": {s.last, s.to}} {
		if end.row > 0 {
			var row audit.Operation
			if err := r.ask("GET", fmt.Sprintf("/operations/%d", end.row), nil, &row); err != nil {
				return nil, fmt.Errorf("row %d: %w", end.row, err)
			}
			end.at = row.Timestamp
			if name == "to" {
				end.at = end.at.Add(time.Microsecond) // rows before it are wanted
			}
		}
		if !end.at.IsZero() {
			query.Set(name, end.at.Format(time.RFC3339Nano))
		}
	}
	for {
		var page struct {
			Operations []audit.Operation
			NextCursor string `json:"next_cursor"`
		}
		if err := r.ask("GET", "/operations?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		for _, row := range page.Operations {
			if row.ID >= s.first && (s.last == 0 || row.ID <= s.last) {
				all = append(all, row)
			}
		}
		if page.NextCursor == "" {
			break
		}
		query.Set("cursor", page.NextCursor)
	}
	slices.Reverse(all)
	return all, nil
}

// one asks about a row, unless no policy was asked about it: what the server did by
// itself, what is never asked about, and what was refused before.
func (r *replay) one(ctx context.Context, row *audit.Operation) error {
	d := r.routes[row.Operation]
	refused := row.ErrorCode == string(eider.Unauthorized) || row.ErrorCode == string(eider.Forbidden)
	if d == nil || d.Ungoverned || refused || row.Status == eider.StatusInProgress {
		r.spared++
		return nil
	}
	e, err := r.event(row, d)
	if err != nil {
		return fmt.Errorf("row %d: %w", row.ID, err)
	}
	decision, asked, err := r.session.Ask(ctx, e)
	what := ""
	switch {
	case !asked:
		r.spared++
		return nil
	case err != nil:
		r.failed++
		what = "could not decide: " + err.Error()
	case decision.Deny:
		r.denied++
		what = cases.Words(decision)
	case len(decision.Warning) > 0:
		r.warned++
		what = cases.Words(decision)
	}
	r.asked++
	if what == "" {
		return nil
	}
	who := row.Actor.Name
	if who == "" {
		who = string(row.Actor.Type)
	}
	_, err = fmt.Fprintf(r.out.OutOrStdout(), "row %d, %s: %s %s/%s by %s, which was %s: %s\n",
		row.ID, row.Timestamp.Format(time.RFC3339), row.Operation, row.ResourceType, row.ResourceID, who, row.Status, what)
	return err
}

// event makes of a row what a policy would have been asked.
func (r *replay) event(row *audit.Operation, d *operation.Declared) (*wasm.Event, error) {
	route := d.Routes()[0]
	path, _, _ := strings.Cut(route[1], "?")
	role := ""
	if row.Actor.Type != eider.ActorKey {
		role = eider.Admin.String()
	}
	e := map[string]any{
		"operation": row.Operation, "time_ms": row.Timestamp.UnixMilli(),
		"actor":    map[string]any{"type": row.Actor.Type, "id": row.Actor.ID, "name": row.Actor.Name, "role": role},
		"resource": map[string]any{"type": row.ResourceType, "id": row.ResourceID},
		"request":  map[string]any{"id": row.RequestID, "source_ip": row.SourceIP, "method": route[0], "route": path},
	}
	if len(row.Details) > 0 {
		var input any
		if err := json.Unmarshal(row.Details, &input); err != nil {
			return nil, err
		}
		e["input"] = input
	}
	if row.ProjectID != nil && d.OnProject() {
		project, err := r.project(*row.ProjectID)
		if err != nil {
			return nil, err
		}
		e["project"] = project
	}
	return cases.Event(nil, e)
}

// project returns a project as it is now; of one that is gone the id alone.
func (r *replay) project(id string) (map[string]any, error) {
	if known, ok := r.projects[id]; ok {
		return known, nil
	}
	var found struct {
		UID, Name, Status string
		Settings          map[string]any
	}
	err := r.ask("GET", "/projects/"+url.PathEscape(id), nil, &found)
	if err != nil && !strings.HasPrefix(err.Error(), string(eider.NotFound)+":") {
		return nil, err
	}
	if found.Settings == nil {
		found.Settings = map[string]any{}
	}
	r.projects[id] = map[string]any{"id": id, "uid": found.UID, "name": found.Name, "status": found.Status, "settings": found.Settings}
	return r.projects[id], nil
}
