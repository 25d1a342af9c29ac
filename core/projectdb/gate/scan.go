package gate

import (
	"strings"
	"unicode/utf8"
)

// The bounds of a text, looked at before DuckDB's parser sees it. DuckDB's own
// bound on depth is 1000, and a list literal 900 deep has kept it busy for more
// than 15 s.
const (
	maxText    = 256 << 10 // bytes; a literal of 4 becomes some KiB of tree
	maxNesting = 100       // brackets within brackets, CASEs included
)

// kind is what a token is.
type kind int

const (
	word      kind = iota // an identifier or keyword, without quotes
	quoted                // an identifier within double quotes
	literal               // text in any of the forms of quotes
	number                // digits, and what is attached to them
	parameter             // ?, ?1, $1 or $name
	punct                 // any other single character
)

// token is a piece of a text. Its depth is that of the brackets around it; a
// bracket has the depth of what it encloses less one.
type token struct {
	kind       kind
	text       string
	start, end int
	depth      int
}

// is reports whether the token is this keyword.
func (t token) is(keyword string) bool { return t.kind == word && Same(t.text, keyword) }

// text is a statement with its tokens, and how many of them were taken.
type text struct {
	sql    string
	tokens []token
	next   int
}

// scan splits a text into tokens and holds it to the bounds. It knows DuckDB's
// rules of quotes and comments, and nothing else of SQL. If it were wrong about
// one, the pieces would not parse: no safety hangs on it.
func scan(sql string) (*text, error) {
	switch {
	case len(sql) > maxText:
		return nil, refuse("the text has %d bytes; %d are allowed", len(sql), maxText)
	case !utf8.ValidString(sql):
		return nil, failed(-1, "the text is not valid UTF-8")
	case strings.IndexByte(sql, 0) >= 0:
		return nil, failed(strings.IndexByte(sql, 0), "the text holds a zero byte")
	}
	t := &text{sql: sql}
	var open brackets
	depth := 0
	for at := 0; at < len(sql); {
		k, end, err := lex(sql, at)
		if err != nil {
			return nil, err
		}
		if end < 0 { // blank or comment
			at = -end
			continue
		}
		token := token{kind: k, text: sql[at:end], start: at, end: end}
		if err := open.pass(token); err != nil {
			return nil, err
		}
		if token.closes() {
			depth = max(0, depth-1)
		}
		token.depth = depth
		if token.opens() {
			depth++
		}
		if depth > maxNesting {
			return nil, refuseAt(at, "brackets or CASEs are more than %d deep", maxNesting)
		}
		t.tokens = append(t.tokens, token)
		at = end
	}
	return t, open.end()
}

// brackets are those that are open.
type brackets []token

// pass refuses a bracket that ends none: a piece that is put between brackets of
// ours cannot end those.
func (b *brackets) pass(t token) error {
	if t.kind != punct {
		return nil
	}
	switch t.text {
	case "(", "[", "{":
		*b = append(*b, t)
	case ")", "]", "}":
		last := len(*b) - 1
		if last < 0 || !strings.Contains("() [] {}", (*b)[last].text+t.text) {
			return failed(t.start, "the bracket %s closes none", t.text)
		}
		*b = (*b)[:last]
	}
	return nil
}

func (b *brackets) end() error {
	if len(*b) > 0 {
		return failed((*b)[len(*b)-1].start, "a bracket is not closed")
	}
	return nil
}

func (t token) opens() bool {
	return t.kind == punct && strings.Contains("([{", t.text) || t.is("case")
}

func (t token) closes() bool {
	return t.kind == punct && strings.Contains(")]}", t.text) || t.is("end")
}

// lex finds the end of the token at a place. A negative end is that of a blank or
// comment.
func lex(sql string, at int) (kind, int, error) {
	rest := sql[at:]
	switch c := rest[0]; {
	case c == ' ' || c >= '\t' && c <= '\r':
		return 0, -(at + 1), nil
	case strings.HasPrefix(rest, "--"):
		if n := strings.IndexAny(rest, "\r\n"); n >= 0 {
			return 0, -(at + n), nil
		}
		return 0, -len(sql), nil
	case strings.HasPrefix(rest, "/*"):
		end, err := comment(sql, at)
		return 0, -end, err
	case c == '"':
		return closing(quoted, sql, at, at+1, '"', false)
	case c == '\'':
		return closing(literal, sql, at, at+1, '\'', false)
	case c == '$':
		return dollar(sql, at)
	case c == '?':
		return parameter, at + 1 + run(sql[at+1:], digit), nil
	case digit(c):
		return number, at + run(rest, func(c byte) bool { return inWord(c) || c == '.' }), nil
	case inWord(c):
		n := run(rest, inWord)
		if n == 1 && len(rest) > 1 && rest[1] == '\'' && strings.IndexByte("eExXbBnN", c) >= 0 {
			return closing(literal, sql, at, at+2, '\'', c == 'e' || c == 'E')
		}
		return word, at + n, nil
	}
	return punct, at + 1, nil
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// inWord holds for every byte above ASCII too, as DuckDB has it.
func inWord(c byte) bool {
	return c == '_' || c >= 0x80 || digit(c) || c|0x20 >= 'a' && c|0x20 <= 'z'
}

func run(s string, in func(byte) bool) int {
	n := 0
	for n < len(s) && in(s[n]) {
		n++
	}
	return n
}

// closing finds the quote that ends a token: one that is not doubled, nor behind
// a backslash where those count.
func closing(k kind, sql string, start, at int, quote byte, backslash bool) (kind, int, error) {
	for ; at < len(sql); at++ {
		switch {
		case backslash && sql[at] == '\\':
			at++
		case sql[at] != quote:
		case at+1 < len(sql) && sql[at+1] == quote:
			at++
		default:
			return k, at + 1, nil
		}
	}
	return k, 0, failed(start, "a quote is not closed")
}

// comment finds the end of a comment; they nest.
func comment(sql string, start int) (int, error) {
	depth := 0
	for at := start; at+1 < len(sql); at++ {
		switch sql[at : at+2] {
		case "/*":
			depth++
			at++
		case "*/":
			depth--
			at++
			if depth == 0 {
				return at + 1, nil
			}
		}
	}
	return 0, failed(start, "a comment is not closed")
}

// dollar tells $1 and $name from $tag$text$tag$.
func dollar(sql string, at int) (kind, int, error) {
	name := at + 1 + run(sql[at+1:], inWord)
	if name < len(sql) && sql[name] == '$' && (name == at+1 || !digit(sql[at+1])) {
		tag := sql[at : name+1]
		end := strings.Index(sql[name+1:], tag)
		if end < 0 {
			return literal, 0, failed(at, "a text in %s is not closed", tag)
		}
		return literal, name + 1 + end + len(tag), nil
	}
	if name == at+1 {
		return punct, at + 1, nil
	}
	return parameter, name, nil
}
