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
	Signed               bool   // a signed URL does instead of a key
	Input                *Description
	Accepts              []Media // of the body, besides JSON
	Variants             []Variant
	Answers              []Answer // where it succeeds
	Errors               []ErrorResponse
	Tagged               bool // answers an ETag
	Idempotent           bool // takes an idempotency key
	Async                bool // answers 202 and a job where the caller prefers it
}

// Variant is the form of an operation that its query chooses. What it answers is
// with the operation.
type Variant struct {
	Input   *Description
	Accepts []Media
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
// for the same declarations. anywhere are the refusals of the door, which any
// operation may answer besides its own.
func (r *Registry) Document(info Info, ops []Operation, anywhere []ErrorResponse) ([]byte, error) {
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
			"responses": map[string]any{
				problemRef:  r.anywhere(anywhere, refusal),
				bodilessRef: r.anywhere(anywhere, nil),
			},
			"securitySchemes": map[string]any{
				"bearer": map[string]any{"type": "http", "scheme": "bearer"},
				"signed_url": map[string]any{
					"type": "apiKey", "in": "query", "name": "signature",
					"description": "A signed URL, as the server answers it, used as it is: its query has by, expires, key, uid and signature, and needs no key besides.",
				},
			},
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
		security := []any{map[string]any{"bearer": []string{}}}
		if op.Signed {
			security = append(security, map[string]any{"signed_url": []string{}})
		}
		o["security"], o["x-eider-role"] = security, op.Role
	}
	if body := r.requestBody(op); body != nil {
		o["requestBody"] = body
	}
	return o
}

// requestBody returns the forms of the body, nil if there is none. It is
// required where no variant does without.
func (r *Registry) requestBody(op *Operation) map[string]any {
	content, required := map[string]any{}, true
	add := func(input *Description, accepts []Media) {
		json := input != nil && input.HasBody()
		if json && content["application/json"] == nil {
			content["application/json"] = map[string]any{"schema": input.body.schema}
		}
		for kind, form := range r.content(accepts, op.ID) {
			content[kind] = form
		}
		required = required && (json && input.BodyRequired() || len(accepts) > 0)
	}
	add(op.Input, op.Accepts)
	for i := range op.Variants {
		add(op.Variants[i].Input, op.Variants[i].Accepts)
	}
	if len(content) == 0 {
		return nil
	}
	return map[string]any{"required": required, "content": content}
}

func parameters(op *Operation) []any {
	all := []any{}
	seen := map[string]bool{}
	add := func(in, name, doc string, required bool, s any) {
		if !seen[in+" "+name] && (in != "header" || !unlisted[name]) {
			seen[in+" "+name] = true
			all = append(all, parameter(in, name, doc, required, s))
		}
	}
	if op.Input != nil {
		for _, p := range op.Input.params {
			if p.in != "path" || !p.missing(op.Path) {
				add(p.in, p.name, p.doc, p.required || p.in == "path", p.schema)
			}
		}
	}
	for i := range op.Variants { // nobody has to want it
		for _, p := range op.Variants[i].Input.params {
			add(p.in, p.name, p.doc, false, p.schema)
		}
	}
	if op.Idempotent {
		add("header", "Idempotency-Key", "A retry with the same key answers what the first request did", false, plainText())
	}
	if op.Async {
		add("header", "Prefer", "respond-async: answer 202 and run on as a job (RFC 7240)", false, plainText())
	}
	if op.Tagged && op.Method == "GET" {
		add("header", "If-None-Match", "304 if the ETag is still this one", false, plainText())
	}
	add("header", "X-Request-ID", "Echoed on the answer, in logs and in the log of operations", false, plainText())
	return all
}

func parameter(in, name, doc string, required bool, s any) map[string]any {
	p := map[string]any{"in": in, "name": name, "schema": s, "required": required}
	if doc != "" {
		p["description"] = doc
	}
	return p
}

func responseHeader(doc string) map[string]any { return (&Header{Doc: doc}).describe() }

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

// The responses that every operation refers to as its default.
const problemRef, bodilessRef = "Problem", "ProblemWithoutBody"

// anywhere is the refusal of the door, where nothing else is declared.
func (r *Registry) anywhere(all []ErrorResponse, refusal *huma.Schema) map[string]any {
	var codes []string
	for _, e := range all {
		codes = append(codes, fmt.Sprintf("%d %s", e.Status, e.Code))
	}
	headers := requestIDHeader()
	headers[retryAfter.Name] = retryAfter.describe()
	answer := map[string]any{"description": "What any operation may be refused with: " + strings.Join(codes, ", "), "headers": headers}
	if refusal != nil {
		answer["content"] = map[string]any{"application/problem+json": map[string]any{"schema": refusal}}
	}
	return answer
}

func requestIDHeader() map[string]any {
	return map[string]any{"X-Request-ID": reference("headers", "X-Request-ID")}
}

func (r *Registry) responses(op *Operation, refusal *huma.Schema) map[string]any {
	all := map[string]any{}
	bodiless := op.Method == "HEAD"
	for i := range op.Answers {
		a := &op.Answers[i]
		header := requestIDHeader()
		if op.Tagged {
			header["ETag"] = reference("headers", "ETag")
		}
		for _, h := range a.Headers {
			header[h.Name] = h.describe()
		}
		answer := map[string]any{"description": "Success", "headers": header}
		if a.Doc != "" {
			answer["description"] = a.Doc
		}
		if len(a.Media) > 0 && !bodiless {
			answer["content"] = r.content(a.Media, op.ID)
		}
		all[strconv.Itoa(a.Status)] = answer
		if op.Tagged && op.Method == "GET" {
			all["304"] = map[string]any{"description": "The ETag is still the one in If-None-Match", "headers": header}
		}
	}
	if op.Async {
		all["202"] = r.accepted(requestIDHeader())
	}
	byStatus := map[int][]string{}
	for _, e := range op.Errors {
		byStatus[e.Status] = append(byStatus[e.Status], string(e.Code))
	}
	for n, codes := range byStatus {
		headers := requestIDHeader()
		for _, h := range problemHeaders[n] {
			headers[h.Name] = h.describe()
		}
		answer := map[string]any{"description": strings.Join(codes, ", "), "headers": headers}
		if !bodiless {
			answer["content"] = map[string]any{"application/problem+json": map[string]any{"schema": refusal}}
		}
		all[strconv.Itoa(n)] = answer
	}
	all["default"] = reference("responses", problemRef)
	if bodiless {
		all["default"] = reference("responses", bodilessRef)
	}
	return all
}
