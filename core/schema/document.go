package schema

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/eiderdb/eider"
)

// Info heads the document.
type Info struct{ Title, Version, Description string }

// Operation is what the document says of one operation.
type Operation struct {
	ID, Method, Path     string
	Summary, Description string
	Tag                  string
	Role                 string // "none": no key is needed
	Input                *Description
	Output               reflect.Type // nil: no body
	ContentType          string       // of the answer; JSON if empty
	Status               int
	Errors               []ErrorResponse
	Tagged               bool // answers an ETag
	Idempotent           bool // takes an idempotency key
	Async                bool // answers 202 and a job where the caller prefers it
}

// ErrorResponse is a refusal that an operation may answer.
type ErrorResponse struct {
	Code   eider.Code
	Status int
}

// problem is the body of every error (RFC 9457).
type problem struct {
	Type       string             `json:"type"`
	Title      string             `json:"title"`
	Status     int                `json:"status"`
	Detail     string             `json:"detail"`
	Instance   string             `json:"instance"`
	Code       string             `json:"code" doc:"Stable word for programs"`
	Message    string             `json:"message" doc:"The same text as detail"`
	RequestID  string             `json:"request_id"`
	Errors     []eider.FieldError `json:"errors,omitempty"`
	Plugin     string             `json:"plugin,omitempty" doc:"The policy that refused"`
	Reason     string             `json:"reason,omitempty"`
	DecisionID string             `json:"decision_id,omitempty"`
}

// Document returns the OpenAPI 3.1 document of the operations, the same bytes
// for the same declarations.
func (r *Registry) Document(info Info, ops []Operation) ([]byte, error) {
	refusal := r.huma.Schema(reflect.TypeFor[problem](), true, "Problem")
	paths := map[string]map[string]any{}
	for i := range ops {
		op := &ops[i]
		if err := checkPath(op); err != nil {
			return nil, err
		}
		if paths[op.Path] == nil {
			paths[op.Path] = map[string]any{}
		}
		method := strings.ToLower(op.Method)
		if paths[op.Path][method] != nil {
			return nil, fmt.Errorf("%s %s is documented twice", op.Method, op.Path)
		}
		paths[op.Path][method] = r.operation(op, refusal)
	}
	document := map[string]any{
		"openapi": "3.1.0",
		"info":    map[string]any{"title": info.Title, "version": info.Version, "description": info.Description},
		"paths":   paths,
		"components": map[string]any{
			"schemas": r.huma.Map(),
			"headers": map[string]any{
				"X-Request-ID": responseHeader("The request's id, as in logs and in the log of operations"),
				"ETag":         responseHeader("Changes with the resource; for If-Match and If-None-Match"),
			},
			"securitySchemes": map[string]any{"bearer": map[string]any{"type": "http", "scheme": "bearer"}},
		},
	}
	text, err := json.MarshalIndent(document, "", "  ")
	return append(text, '\n'), err
}

// checkPath refuses a path whose parameters are not those of the input.
func checkPath(op *Operation) error {
	declared := 0
	if op.Input != nil {
		for _, p := range op.Input.params {
			if p.in != "path" {
				continue
			}
			if p.missing(op.Path) && !p.required {
				continue
			}
			declared++
			if p.missing(op.Path) {
				return fmt.Errorf("%s %s has no part {%s}, which its input reads", op.Method, op.Path, p.name)
			}
		}
	}
	if parts := strings.Count(op.Path, "{"); parts != declared {
		return fmt.Errorf("%s %s has %d parameters, of which its input reads %d", op.Method, op.Path, parts, declared)
	}
	return nil
}

// missing reports that the path has no such part.
func (p *param) missing(path string) bool { return !strings.Contains(path+"/", "/{"+p.name+"}/") }

func (r *Registry) operation(op *Operation, refusal *huma.Schema) map[string]any {
	o := map[string]any{
		"operationId": op.ID, "summary": op.Summary, "tags": []string{op.Tag},
		"responses": r.responses(op, refusal), "parameters": parameters(op),
	}
	if op.Description != "" {
		o["description"] = op.Description
	}
	if op.Role != "none" {
		o["security"] = []any{map[string]any{"bearer": []string{}}}
		o["x-eider-role"] = op.Role
	}
	if op.Input != nil && op.Input.HasBody() {
		o["requestBody"] = map[string]any{
			"required": op.Input.BodyRequired(),
			"content":  map[string]any{"application/json": map[string]any{"schema": op.Input.body.schema}},
		}
	}
	return o
}

func parameters(op *Operation) []any {
	all := []any{}
	if op.Input != nil {
		for _, p := range op.Input.params {
			if p.in != "path" || !p.missing(op.Path) {
				all = append(all, parameter(p.in, p.name, p.doc, p.required || p.in == "path", p.schema))
			}
		}
	}
	text := map[string]any{"type": "string"}
	if op.Idempotent {
		all = append(all, parameter("header", "Idempotency-Key", "A retry with the same key answers what the first request did", false, text))
	}
	if op.Async {
		all = append(all, parameter("header", "Prefer", "respond-async: answer 202 and run on as a job (RFC 7240)", false, text))
	}
	if op.Tagged && op.Method == "GET" {
		all = append(all, parameter("header", "If-None-Match", "304 if the ETag is still this one", false, text))
	}
	return append(all, parameter("header", "X-Request-ID", "Echoed on the answer, in logs and in the log of operations", false, text))
}

func parameter(in, name, doc string, required bool, s any) map[string]any {
	p := map[string]any{"in": in, "name": name, "schema": s, "required": required}
	if doc != "" {
		p["description"] = doc
	}
	return p
}

func responseHeader(doc string) map[string]any {
	return map[string]any{"description": doc, "schema": map[string]any{"type": "string"}}
}

// reference points to a component of the document.
func reference(kind, name string) map[string]any {
	return map[string]any{"$ref": "#/components/" + kind + "/" + name}
}

// acceptedJob is the answer where an operation runs on as a job.
type acceptedJob struct {
	JobID string `json:"job_id" doc:"To be asked for at /jobs/{job}"`
}

func (r *Registry) accepted(requestID map[string]any) map[string]any {
	return map[string]any{
		"description": "It runs on as a job, where the caller prefers that",
		"headers": map[string]any{
			"X-Request-ID": requestID["X-Request-ID"], "Location": responseHeader("Where to ask for the job"),
			"Preference-Applied": responseHeader("respond-async"),
		},
		"content": map[string]any{"application/json": map[string]any{"schema": r.huma.Schema(reflect.TypeFor[acceptedJob](), true, "Accepted")}},
	}
}

func (r *Registry) responses(op *Operation, refusal *huma.Schema) map[string]any {
	requestID := map[string]any{"X-Request-ID": reference("headers", "X-Request-ID")}
	header := requestID
	if op.Tagged {
		header = map[string]any{"X-Request-ID": requestID["X-Request-ID"], "ETag": reference("headers", "ETag")}
	}
	answer := map[string]any{"description": "Success", "headers": header}
	if op.Output != nil {
		answer["content"] = map[string]any{"application/json": map[string]any{"schema": r.huma.Schema(op.Output, true, op.ID)}}
	} else if op.ContentType != "" {
		answer["content"] = map[string]any{op.ContentType: map[string]any{"schema": map[string]any{"type": "string"}}}
	}
	all := map[string]any{strconv.Itoa(op.Status): answer}
	if op.Tagged && op.Method == "GET" {
		all["304"] = map[string]any{"description": "The ETag is still the one in If-None-Match", "headers": header}
	}
	if op.Async {
		all["202"] = r.accepted(requestID)
	}
	byStatus := map[int][]string{}
	for _, e := range op.Errors {
		byStatus[e.Status] = append(byStatus[e.Status], string(e.Code))
	}
	for status, codes := range byStatus {
		all[strconv.Itoa(status)] = map[string]any{
			"description": strings.Join(codes, ", "),
			"headers":     requestID,
			"content":     map[string]any{"application/problem+json": map[string]any{"schema": refusal}},
		}
	}
	return all
}
