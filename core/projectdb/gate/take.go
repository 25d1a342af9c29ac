package gate

import (
	"slices"
	"strings"
)

// piece is a part of a text, and where in it it began.
type piece struct {
	text  string
	start int
}

// peek returns the next token, and a blank one of no kind at the end.
func (t *text) peek() token { return t.ahead(0) }

func (t *text) ahead(n int) token {
	if t.next+n < len(t.tokens) {
		return t.tokens[t.next+n]
	}
	return token{kind: punct, start: len(t.sql), end: len(t.sql)}
}

func (t *text) done() bool { return t.next >= len(t.tokens) }

// offset is where the next token begins.
func (t *text) offset() int { return t.peek().start }

// eat takes these keywords if all of them come next.
func (t *text) eat(keywords ...string) bool {
	for i, k := range keywords {
		if !t.ahead(i).is(k) {
			return false
		}
	}
	t.next += len(keywords)
	return true
}

func (t *text) eatPunct(p string) bool {
	if next := t.peek(); next.kind != punct || next.text != p {
		return false
	}
	t.next++
	return true
}

// until takes all up to the first of the words that stands in no brackets, and
// the end if there is none.
func (t *text) until(words ...string) piece {
	return t.upTo(func(i int) bool { return t.begins(i, words) })
}

// begins reports whether a clause begins at a token. IS DISTINCT FROM begins none.
func (t *text) begins(i int, words []string) bool {
	if i > 0 && t.tokens[i].is("from") && t.tokens[i-1].is("distinct") {
		return false
	}
	return slices.ContainsFunc(words, t.tokens[i].is)
}

func (t *text) upTo(stop func(int) bool) piece {
	start := t.offset()
	depth := t.peek().depth
	end := start
	for !t.done() && t.peek().depth >= depth && (t.peek().depth > depth || !stop(t.next)) {
		end = t.peek().end
		t.next++
	}
	return piece{t.sql[start:end], start}
}

// list takes pieces that commas part, up to one of the words.
func (t *text) list(words ...string) []piece {
	var all []piece
	for {
		all = append(all, t.upTo(func(i int) bool {
			return t.tokens[i].text == "," || t.begins(i, words)
		}))
		if !t.eatPunct(",") {
			return all
		}
	}
}

// identifier takes a name, with or without quotes.
func (t *text) identifier() (string, error) {
	next := t.peek()
	switch {
	case next.kind == word:
		t.next++
		return next.text, nil
	case next.kind == quoted && len(next.text) > 2:
		t.next++
		return strings.ReplaceAll(next.text[1:len(next.text)-1], `""`, `"`), nil
	}
	return "", failed(next.start, "a name is expected here")
}

// name takes [schema.]table, the target of a statement that writes.
func (t *text) name() (Name, error) {
	at := t.offset()
	first, err := t.identifier()
	if err != nil || !t.eatPunct(".") {
		return Name{Table: first}, err
	}
	second, err := t.identifier()
	if err != nil {
		return Name{}, err
	}
	if t.eatPunct(".") {
		return Name{}, refuseAt(at, "a table is named as bucket.table where it is written to")
	}
	return Name{first, second}, nil
}

// columns takes a list of names in brackets, and returns it quoted.
func (t *text) columns() (string, error) {
	at := t.offset()
	if !t.eatPunct("(") {
		return "", failed(at, "a list of columns in brackets is expected here")
	}
	var names []string
	for {
		name, err := t.identifier()
		if err != nil {
			return "", err
		}
		names = append(names, Quote(name))
		if t.eatPunct(")") {
			return "(" + strings.Join(names, ", ") + ")", nil
		}
		if !t.eatPunct(",") {
			return "", failed(t.offset(), "a comma or a closing bracket is expected here")
		}
	}
}

// end refuses what is left over.
func (t *text) end() error {
	over := t.peek()
	for t.eatPunct(";") {
	}
	switch {
	case t.done():
		return nil
	case over.text == ";":
		return refuseAt(t.offset(), "one statement is allowed at a time")
	}
	return failed(over.start, "%q is not understood here: one statement, in the forms that are documented", clip(over.text, 40))
}
