package app

import (
	"slices"
	"strings"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/schema"
	"github.com/eiderdb/eider/core/web"
)

// anywhere are the codes with which the door refuses, whatever the route.
var anywhere = []eider.Code{eider.MalformedRequest, eider.RequestTimeout, eider.BodyTooLarge, eider.UnsupportedMediaType,
	eider.ExpectationFailed, eider.HeadersTooLarge, eider.Cancelled, eider.Internal, eider.ShuttingDown, eider.TooManyConnections,
	eider.StorageUnavailable}

// always are those that every operation may answer besides.
var always = []eider.Code{eider.MalformedRequest, eider.Unauthorized, eider.Forbidden, eider.ValidationFailed, eider.Internal, eider.StorageUnavailable}

// onChange are those of every change, onBody of every JSON body.
var (
	onChange = []eider.Code{eider.IdempotencyConflict, eider.IdempotencyInProgress, eider.OperationInProgress}
	onBody   = []eider.Code{eider.BodyTooLarge, eider.UnsupportedMediaType, eider.MalformedJSON}
)

// Document returns the OpenAPI document, generated from the declarations alone.
func (a *App) Document() ([]byte, error) {
	page := func(mediaTypes ...string) (all []schema.Media) {
		for _, t := range mediaTypes {
			all = append(all, schema.Text(t))
		}
		return all
	}
	ops := []schema.Operation{
		open("get_about", "/", "What this server is", []schema.Media{schema.JSON[about]()}),
		open("get_health", "/health", "Is the server alive, and what holds", []schema.Media{schema.JSON[health]()}, eider.StorageUnavailable),
		open("get_liveness", "/health/live", "Is the process alive", []schema.Media{schema.JSON[live]()}),
		open("get_readiness", "/health/ready", "Can the server take requests", []schema.Media{schema.JSON[live]()}, eider.StorageUnavailable, eider.ShuttingDown),
		open("get_metrics", "/metrics", "Prometheus and OpenMetrics", page("text/plain", "application/openmetrics-text"), eider.Unauthorized, eider.Forbidden),
		open("get_openapi", "/openapi.json", "This document", []schema.Media{schema.JSON[map[string]any]()}),
		open("get_docs", "/docs", "This document as a page", page("text/html")),
	}
	ops = append(ops, documented(a.Registry.Operations.All())...)
	return a.Registry.Operations.Schemas.Document(schema.Info{
		Title: "Eider", Version: "1", Description: "Control plane for DuckDB: projects, keys, files, tables and the log of operations.",
	}, ops, refusals(anywhere))
}

func open(id, path, summary string, media []schema.Media, codes ...eider.Code) schema.Operation {
	return schema.Operation{
		ID: id, Method: "GET", Path: path, Summary: summary, Tag: "server", Role: "none",
		Answers: []schema.Answer{{Status: 200, Media: media}}, Errors: refusals(codes),
	}
}

func refusals(codes []eider.Code) []schema.ErrorResponse {
	all := make([]schema.ErrorResponse, len(codes))
	for i, c := range codes {
		all[i] = schema.ErrorResponse{Code: c, Status: web.Status(c)}
	}
	return all
}

// refusalsOf are those of the operation, with the statuses that are its own.
func refusalsOf(d *operation.Declared) []schema.ErrorResponse {
	all := refusals(codes(d))
	for i := range all {
		if status, ok := d.Statuses[all[i].Code]; ok {
			all[i].Status = status
		}
	}
	return all
}

// documented returns the operations, each once for each of its routes. A path
// that another route has too, but for a slash at its end, is no path of its own. A
// variant that a query chooses is documented with the operation that it varies.
func documented(declared []*operation.Declared) []schema.Operation {
	var all []schema.Operation
	at := map[string]int{} // by method and path
	each := func(varied bool, do func(d *operation.Declared, place, path, query string)) {
		for _, d := range declared {
			for _, r := range d.Routes() {
				path, query, varies := strings.Cut(r[1], "?")
				if varies == varied && !d.Local && r[0] != operation.Internal {
					do(d, r[0]+" "+strings.TrimSuffix(path, "/"), path, query)
				}
			}
		}
	}
	each(false, func(d *operation.Declared, place, path, _ string) {
		if _, twin := at[place]; twin {
			return
		}
		at[place] = len(all)
		all = append(all, described(d, place, path))
	})
	seen := map[string]bool{}
	each(true, func(d *operation.Declared, place, _, query string) {
		if i, ok := at[place]; ok && !seen[place+query] {
			seen[place+query] = true
			vary(&all[i], d)
		}
	})
	return all
}

// described returns the operation as it is at one of its routes.
func described(d *operation.Declared, place, path string) schema.Operation {
	op := schema.Operation{
		ID: d.ID, Method: place[:strings.Index(place, " ")], Path: path, Summary: d.Summary, Description: d.Description, Role: d.Role.String(),
		Tag: tag(path), Signed: d.Signed, Input: d.Input, Accepts: d.Accepts, Answers: d.Documented(), Tagged: d.Tagged, Async: d.Async,
		Idempotent: d.Keyed(), Errors: refusalsOf(d),
	}
	if d.Route != op.Method+" "+path {
		op.ID += "_" + strings.ToLower(op.Method)
	}
	return op
}

// vary adds what the variant takes and answers besides. The query that chooses it
// is among the parameters that it reads: others are refused.
func vary(op *schema.Operation, d *operation.Declared) {
	op.Variants = append(op.Variants, schema.Variant{Input: d.Input, Accepts: d.Accepts})
	for _, a := range d.Documented() {
		if !slices.ContainsFunc(op.Answers, func(b schema.Answer) bool { return a.Status == b.Status }) {
			op.Answers = append(op.Answers, a)
		}
	}
	for _, e := range refusalsOf(d) {
		if !slices.Contains(op.Errors, e) {
			op.Errors = append(op.Errors, e)
		}
	}
}

// codes returns what the operation declares, and what the pipeline may answer
// before its handler is asked.
func codes(d *operation.Declared) []eider.Code {
	all := append(slices.Clone(d.Errors), always...)
	if !d.Ungoverned {
		all = append(all, eider.DeniedByPolicy, eider.RateLimited)
	}
	if d.Keyed() {
		all = append(all, onChange...)
		all = append(all, eider.StorageFull) // a disk that is quite full takes no row either
		if !d.Frees {
			all = append(all, eider.QuotaExceeded, eider.AuditSinkBehind)
		}
	}
	switch {
	case d.Streamed:
		all = append(all, eider.UnsupportedMediaType)
	case d.Input.HasBody():
		all = append(all, onBody...)
	}
	if d.Input.Header("If-Match") {
		all = append(all, eider.PreconditionFailed)
	}
	if d.OnProject() {
		all = append(all, eider.NotFound)
		if changes := d.Kind == operation.KindWrite || d.Kind == operation.KindEffect; changes && !d.Locked {
			all = append(all, eider.ProjectIsLocked)
		}
	}
	var once []eider.Code
	for _, c := range all {
		if !slices.Contains(once, c) {
			once = append(once, c)
		}
	}
	return once
}

// tag groups operations by the last fixed part of their path that names a thing.
func tag(path string) string {
	name := "server"
	for _, part := range strings.Split(strings.Trim(path, "/"), "/") {
		switch part {
		case "projects", "api-keys", "operations", "plugins":
			name = part
		}
	}
	return name
}
