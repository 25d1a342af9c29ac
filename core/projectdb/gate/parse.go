package gate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/eiderdb/eider/core/duck"
)

// node is an object of the tree that DuckDB makes of a text.
type node map[string]any

// serialized is what DuckDB answers: trees, or what is wrong with the text.
type serialized struct {
	Error      bool   `json:"error"`
	Type       string `json:"error_type"`
	Message    string `json:"error_message"`
	Position   string `json:"position"`
	Statements []node `json:"statements"`
}

const (
	serialize = `SELECT system.main.json_serialize_sql(?::VARCHAR,
		skip_null := true, skip_empty := false, skip_default := false)::VARCHAR`
	// What is written is read again by the same statement.
	rewrite = `SELECT json_array(t, system.main.json_serialize_sql(t,
		skip_null := true, skip_empty := false, skip_default := false))::VARCHAR
		FROM (SELECT system.main.json_deserialize_sql(?::JSON)) AS d(t)`
)

// tree is one SELECT as DuckDB understands it.
type tree struct {
	root   node // {node: .., named_param_map: ..}
	offset int  // of the place 0 of the text that was parsed in that of the caller
}

// node returns the tree without its wrapping.
func (t *tree) node() node { return t.root.node("node") }

// parse returns the tree of a text that must be one SELECT. It does not bind:
// nothing is looked up, opened or run.
func (g *gate) parse(prefix string, p piece, suffix string) (*tree, error) {
	offset := p.start - len(prefix)
	out, err := g.conn.Pure(g.ctx, serialize, prefix+p.text+suffix)
	if err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	var s serialized
	if err := decode(out, &s); err != nil {
		// Infinity and NaN are numbers in DuckDB and none in JSON.
		return nil, failed(-1, "a number is out of range: write it as a text with a cast, such as 'infinity'::DOUBLE").Because(err)
	}
	switch {
	case s.Error:
		return nil, s.refusal(offset, p, prefix == "")
	case len(s.Statements) == 0:
		return nil, failed(-1, "the statement is empty")
	case len(s.Statements) > 1:
		return nil, refuse("one statement is allowed at a time; there are %d", len(s.Statements))
	}
	return &tree{s.Statements[0], offset}, nil
}

// refusal says in our words what the parser said of a piece.
func (s *serialized) refusal(offset int, p piece, whole bool) error {
	if s.Type == "not implemented" {
		switch {
		case strings.HasPrefix(s.Message, "Only SELECT") && whole:
			return notSelect(p)
		case strings.HasPrefix(s.Message, "Only SELECT"):
			return refuseAt(p.start, "what stands here is more than one expression or list: one statement is allowed at a time")
		}
		return told(-1, duck.Complaint{Words: s.Message})
	}
	at := -1
	if n, err := strconv.Atoi(s.Position); err == nil {
		at = min(max(n+offset, p.start), p.start+len(p.text))
	}
	message, _, _ := strings.Cut(s.Message, "\n")
	return told(at, duck.Complaint{Words: message})
}

// notSelect says what a text that is no SELECT is.
func notSelect(p piece) error {
	if t, err := scan(p.text); err == nil && t.peek().kind == word {
		if t.eat("pivot") || t.eat("unpivot") || t.eat("from") || t.eat("select") || t.eat("with") {
			return refuseAt(p.start, "this is not one SELECT that can be checked: one statement is allowed at a time, and a PIVOT names its values, as in PIVOT .. ON x IN ('a', 'b')")
		}
		return refuseAt(p.start, "%s is not allowed here", strings.ToUpper(clip(t.peek().text, 40)))
	}
	return refuse("only one SELECT is allowed here")
}

// decode keeps numbers as they are: 64 bits do not fit into a float.
func decode(text string, into any) error {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	return d.Decode(into)
}

// write returns the text of a tree, and makes sure that it means the same: that
// DuckDB reads what it has written as the tree that was checked.
func (g *gate) write(t *tree) (string, error) {
	exact(map[string]any(t.root))
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(map[string]any{"error": false, "statements": []any{t.root}}); err != nil {
		return "", fmt.Errorf("write a statement: %w", err)
	}
	out, err := g.conn.Pure(g.ctx, rewrite, b.String())
	if err != nil {
		return "", unwritten(err)
	}
	var sql string
	var again serialized
	if err := decode(out, &[]any{&sql, &again}); err != nil {
		return "", unfaithful(err)
	}
	if again.Error || len(again.Statements) != 1 || !same(map[string]any(t.node()), map[string]any(again.Statements[0].node("node"))) {
		return "", unfaithful(fmt.Errorf("it became %q", clip(sql, 200)))
	}
	return sql, nil
}

// unwritten tells a tree that DuckDB cannot write from an instance that cannot
// do anything any more.
func unwritten(err error) error {
	if e := refusal(failure(err)); e == nil {
		return err
	}
	return unfaithful(err)
}

func unfaithful(cause error) error {
	return refuse("this statement cannot be checked: DuckDB does not write it back as it reads it; please write it another way").Because(cause)
}

// exact writes two kinds of constants as casts of texts, as DuckDB reads what it
// writes of them: 1e10 would come back as the DECIMAL 10000000000.0, and the TRUE
// of IS TRUE as a cast.
func exact(v any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			exact(e)
		}
	case map[string]any:
		if v["class"] == "CONSTANT" {
			castConstant(v)
			return
		}
		for _, e := range v {
			exact(e)
		}
	}
}

// castConstant turns a constant into CAST('text' AS type), in place.
func castConstant(constant map[string]any) {
	value := node(constant).node("value")
	var text string
	switch v := value["value"].(type) {
	case json.Number:
		text = v.String()
	case bool:
		text = map[bool]string{true: "t", false: "f"}[v]
	}
	id := value.node("type").string("id")
	if text == "" || id != "DOUBLE" && id != "BOOLEAN" {
		return
	}
	constant["class"], constant["type"] = "CAST", "OPERATOR_CAST"
	constant["cast_type"] = map[string]any{"id": id}
	constant["try_cast"] = false
	constant["child"] = map[string]any{
		"class": "CONSTANT", "type": "VALUE_CONSTANT", "alias": "",
		"value": map[string]any{"type": map[string]any{"id": "VARCHAR"}, "is_null": false, "value": text},
	}
	delete(constant, "value")
}

// same compares two trees, but for the places of their nodes.
func same(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && sameObject(values(a), values(b))
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !same(a[i], b[i]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a, b)
}

func sameObject(a, b map[string]any) bool {
	for key := range a {
		if _, ok := b[key]; key != "query_location" && (!ok || !same(a[key], b[key])) {
			return false
		}
	}
	for key := range b {
		if _, ok := a[key]; key != "query_location" && !ok {
			return false
		}
	}
	return true
}

// values takes off the SELECTs that DuckDB puts around VALUES, one each time it
// reads what it has written.
func values(o map[string]any) map[string]any {
	if o["type"] != "SUBQUERY" || o["alias"] != "valueslist" || len(node(o).list("column_name_alias")) > 0 || o["sample"] != nil {
		return o
	}
	inner := node(o).node("subquery").node("node")
	if from := values(inner.node("from_table")); onlyValues(inner, from) {
		return from
	}
	return o
}

func isStar(v any) bool {
	o, ok := v.(map[string]any)
	return ok && o["class"] == "STAR" && o["columns"] == false && len(node(o).list("exclude_list"))+len(node(o).list("replace_list"))+
		len(node(o).list("rename_list"))+len(node(o).list("qualified_exclude_list")) == 0 && o["expr"] == nil
}

// node returns the object under a key, empty if there is none.
func (n node) node(key string) node {
	m, _ := n[key].(map[string]any)
	return m
}

func (n node) string(key string) string {
	s, _ := n[key].(string)
	return s
}

func (n node) list(key string) []any {
	l, _ := n[key].([]any)
	return l
}
