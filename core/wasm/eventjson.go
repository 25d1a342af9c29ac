package wasm

import (
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf8"

	"github.com/eiderdb/eider/core/usage"
)

var errEventJSON = errors.New("encode the event: a part of it is no JSON")

// json appends the event in JSON. encoding/json costs ten times as much, which is
// more than a guest in Rust or AssemblyScript takes to read it and decide.
func (e *Event) json(b []byte) ([]byte, error) {
	o := jsonObject{b: append(b, '{')}
	o.text("operation", e.Operation)
	o.number("time_ms", e.TimeMS)
	o.open("actor")
	o.text("type", e.Actor.Type)
	o.text("id", e.Actor.ID)
	o.text("name", e.Actor.Name)
	o.text("role", e.Actor.Role)
	o.text("project_id", e.Actor.ProjectID)
	o.close()
	o.open("resource")
	o.text("type", e.Resource.Type)
	o.text("id", e.Resource.ID)
	o.close()
	if p := e.Project; p == nil {
		o.raw("project", nil)
	} else {
		o.open("project")
		o.text("id", p.ID)
		o.text("uid", p.UID)
		o.text("name", p.Name)
		o.text("status", p.Status)
		o.raw("settings", p.Settings)
		o.close()
	}
	o.open("usage")
	o.amounts("project", &e.Usage.Project)
	o.amounts("server", &e.Usage.Server)
	o.amounts("adds", &e.Usage.Adds)
	o.close()
	o.open("request")
	o.text("id", e.Request.ID)
	o.text("source_ip", e.Request.SourceIP)
	o.text("method", e.Request.Method)
	o.text("route", e.Request.Route)
	o.close()
	o.raw("input", e.Input)
	o.member("extends")
	o.b = strconv.AppendBool(o.b, e.Extends)
	o.close()
	return o.b, o.err
}

// jsonObject appends members of objects, which may stand within each other.
type jsonObject struct {
	b   []byte
	err error
}

// member begins one. Names are ours and need no escape.
func (o *jsonObject) member(name string) {
	if o.b[len(o.b)-1] != '{' {
		o.b = append(o.b, ',')
	}
	o.b = append(append(append(o.b, '"'), name...), '"', ':')
}

func (o *jsonObject) open(name string) { o.member(name); o.b = append(o.b, '{') }
func (o *jsonObject) close()           { o.b = append(o.b, '}') }

func (o *jsonObject) number(name string, n int64) {
	o.member(name)
	o.b = strconv.AppendInt(o.b, n, 10)
}

func (o *jsonObject) text(name, s string) {
	o.member(name)
	o.b = appendJSONText(o.b, s)
}

func (o *jsonObject) raw(name string, r rawJSON) {
	o.member(name)
	text := r.text()
	if !json.Valid(text) {
		o.err = errEventJSON
	}
	o.b = append(o.b, text...)
}

func (o *jsonObject) amounts(name string, a *usage.Amounts) {
	o.open(name)
	o.number("projects", a.Projects)
	o.number("bytes", a.Bytes)
	o.number("files", a.Files)
	o.number("tables", a.Tables)
	o.number("rows", a.Rows)
	o.close()
}

// appendJSONText appends a string. What is no UTF-8 becomes U+FFFD.
func appendJSONText(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	plain := 0 // where what is taken as it stands begins
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[plain:i]...)
		switch {
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r)
			i += n - 1
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, '\\', c)
		}
		i++
		plain = i
	}
	b = append(b, s[plain:]...)
	return append(b, '"')
}
