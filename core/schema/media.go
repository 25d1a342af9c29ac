package schema

import "reflect"

// Media is a form in which a body is sent. It is for the document alone: what it
// describes is read and written by handlers.
type Media struct {
	Type string // such as text/csv; */* is any
	kind reflect.Type
	how  mediaKind
	file string // of a form: the field that holds the bytes
}

type mediaKind int

const (
	mediaText mediaKind = iota
	mediaBytes
	mediaForm
	mediaJSON
)

// JSON is a T as application/json.
func JSON[T any]() Media { return JSONOf(reflect.TypeFor[T]()) }

// JSONOf is JSON for a type that is known as a value.
func JSONOf(kind reflect.Type) Media {
	return Media{Type: "application/json", how: mediaJSON, kind: kind}
}

// Text is text of the type.
func Text(mediaType string) Media { return Media{Type: mediaType, how: mediaText} }

// Bytes are bytes of the type.
func Bytes(mediaType string) Media { return Media{Type: mediaType, how: mediaBytes} }

// Form is a form whose field has bytes (RFC 7578).
func Form(field string) Media {
	return Media{Type: "multipart/form-data", how: mediaForm, file: field}
}

// Header is a header of an answer.
type Header struct {
	Name, Doc string
	Number    bool // a whole number; else text
	Always    bool // it is in every such answer
}

// Answer is one that an operation may give where it succeeds.
type Answer struct {
	Status  int
	Doc     string
	Media   []Media // one of them; none: no body
	Headers []Header
}

// plainText and octets are how OpenAPI describes what is no JSON. Generators know
// format binary, and make of it what their language has for bytes.
func plainText() map[string]any { return map[string]any{"type": "string"} }
func octets() map[string]any    { return map[string]any{"type": "string", "format": "binary"} }

// content describes the forms of a body.
func (r *Registry) content(all []Media, hint string) map[string]any {
	content := map[string]any{}
	for _, m := range all {
		var s any
		switch m.how {
		case mediaJSON:
			s = r.huma.Schema(m.kind, true, hint)
		case mediaForm:
			s = map[string]any{"type": "object", "required": []string{m.file}, "properties": map[string]any{m.file: octets()}}
		case mediaBytes:
			s = octets()
		default:
			s = plainText()
		}
		content[m.Type] = map[string]any{"schema": s}
	}
	return content
}

// describe returns the header as the document has it.
func (h *Header) describe() map[string]any {
	kind := "string"
	if h.Number {
		kind = "integer"
	}
	d := map[string]any{"description": h.Doc, "schema": map[string]any{"type": kind}}
	if h.Always {
		d["required"] = true
	}
	return d
}

// problemHeaders are the headers that refusals of a status have.
var problemHeaders = map[int][]Header{
	401: {{Name: "WWW-Authenticate", Doc: "Bearer", Always: true}},
	409: {retryAfter},
	416: {{Name: "Content-Range", Doc: "bytes */ and how many there are", Always: true}},
	429: {retryAfter},
	503: {retryAfter},
}

var retryAfter = Header{Name: "Retry-After", Doc: "In how many seconds to try again, where that is known", Number: true}

// unlisted are the headers that OpenAPI has no parameters for: the forms of the
// bodies and the security say what they are.
var unlisted = map[string]bool{"Accept": true, "Content-Type": true, "Authorization": true}
