package gate

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/eiderdb/eider/core/duck"
)

// statement puts a checked statement together.
type statement struct {
	*gate
	text *text
	sql  strings.Builder
	Checked
}

// Write checks a statement that changes data: INSERT, UPDATE, DELETE, MERGE INTO,
// CREATE TABLE .. AS and CREATE VIEW .. AS within an existing bucket, the first
// four also with WITH before them and RETURNING behind. A table that is written
// to is named as bucket.table. Refusals are those of Select.
//
// It binds the statement, so that what DuckDB has against it is said before
// anything is begun.
func Write(ctx context.Context, conn *duck.Conn, sql string) (Checked, error) {
	numbered, err := enumerate(sql)
	if err != nil {
		return Checked{}, err
	}
	s := &statement{gate: &gate{ctx: ctx, conn: conn}, text: numbered}
	if err := s.whole(); err != nil {
		return Checked{}, err
	}
	s.SQL = strings.TrimSpace(s.sql.String())
	return s.Checked, s.bind()
}

// enumerate gives parameters their numbers: each piece is parsed alone, where every
// first ? would be $1.
func enumerate(sql string) (*text, error) {
	t, err := scan(sql)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	copied, n, given := 0, 0, false
	for _, token := range t.tokens {
		if token.kind != parameter {
			continue
		}
		given = given || token.text != "?"
		if token.text == "?" {
			n++
			b.WriteString(sql[copied:token.start] + "$" + strconv.Itoa(n))
			copied = token.end
		}
	}
	if n == 0 {
		return t, nil
	}
	if given {
		return nil, failed(-1, "parameters are written as ? or as $1, not both in one statement")
	}
	b.WriteString(sql[copied:])
	return scan(b.String())
}

// whole takes the statement apart by its first word.
func (s *statement) whole() error {
	t := s.text
	if t.peek().is("with") {
		with, err := s.with(t.until("insert", "update", "delete", "merge", "select", "from", "values", "table"))
		if err != nil {
			return err
		}
		s.put(with)
	}
	first := t.peek()
	switch {
	case t.eat("insert"):
		return s.insert()
	case t.eat("update"):
		return s.update()
	case t.eat("delete"):
		return s.delete()
	case t.eat("merge", "into"):
		return s.merge()
	case t.eat("create") && s.sql.Len() == 0:
		return s.create()
	case t.done():
		return failed(-1, "the statement is empty")
	case first.kind == word:
		return refuseAt(first.start, "%s is not allowed: INSERT, UPDATE, DELETE, MERGE INTO, CREATE TABLE .. AS and CREATE VIEW .. AS are", strings.ToUpper(clip(first.text, 40)))
	}
	return failed(first.start, "a statement is expected here")
}

// put adds words of ours, or pieces that were checked.
func (s *statement) put(parts ...string) { s.sql.WriteString(strings.Join(parts, "")) }

// bind lets DuckDB look up what the statement names. Its kind is compared with
// what it was taken for.
func (s *statement) bind() error {
	prepared, err := s.conn.Prepare(s.ctx, s.SQL)
	if err != nil {
		return failure(err)
	}
	want, _, _ := strings.Cut(strings.ToUpper(s.Kind), " ")
	if got := prepared.Type(); got != want {
		return errors.Join(refuse("this statement cannot be checked").Because(fmt.Errorf("%s became %s", want, got)), prepared.Close())
	}
	return prepared.Close()
}

// aim takes the table that is written to, and its alias.
func (s *statement) aim(kind string) error {
	name, err := s.text.name()
	if err != nil {
		return err
	}
	s.Kind, s.Target = kind, name
	if err := s.target(name); err != nil {
		return err
	}
	s.put(quoteName(name))
	return nil
}

// alias takes AS name, and name alone unless a clause begins there.
func (s *statement) alias(clauses ...string) error {
	explicit := s.text.eat("as")
	next := s.text.peek()
	if !explicit && (next.kind != word && next.kind != quoted || s.text.begins(s.text.next, clauses)) {
		return nil
	}
	name, err := s.text.identifier()
	if err == nil {
		s.put(" AS ", Quote(name))
	}
	return err
}

func quoteName(n Name) string {
	if n.Schema == "" {
		return Quote(n.Table)
	}
	name := Quote(n.Schema) + "." + Quote(n.Table)
	if ownBucket(n.Schema) {
		return Quote(Database) + "." + name
	}
	return name
}

// assignments takes the list behind SET.
func (s *statement) assignments(clauses ...string) error {
	var all []string
	for _, p := range s.text.list(clauses...) {
		one, err := s.assignment(p)
		if err != nil {
			return err
		}
		all = append(all, one)
	}
	s.put(" SET ", strings.Join(all, ", "))
	return nil
}

func (s *statement) assignment(p piece) (string, error) {
	t, err := scan(p.text)
	if err != nil {
		return "", err
	}
	if t.peek().text == "(" {
		return "", refuseAt(p.start, "SET takes one column at a time: SET a = 1, b = 2")
	}
	column, err := t.identifier()
	if err != nil || !t.eatPunct("=") {
		return "", failed(p.start, "a column, = and its value are expected behind SET")
	}
	at := t.offset()
	if t.eat("default") && t.done() {
		return Quote(column) + " = DEFAULT", nil
	}
	value, err := s.expression(piece{p.text[at:], p.start + at}, limits{})
	return Quote(column) + " = " + value, err
}

// condition takes a word and the expression behind it, if that word comes next.
func (s *statement) condition(keyword string, clauses ...string) error {
	if !s.text.eat(Fold(keyword)) {
		return nil
	}
	value, err := s.expression(s.text.until(clauses...), limits{})
	if err == nil {
		s.put(" ", keyword, " ", value)
	}
	return err
}

// tables takes a word and the tables behind it, if that word comes next.
func (s *statement) tables(keyword string, clauses ...string) error {
	if !s.text.eat(Fold(keyword)) {
		return nil
	}
	from, err := s.sources(s.text.until(clauses...))
	if err == nil {
		s.put(" ", keyword, " ", from)
	}
	return err
}

// finish takes RETURNING and the end.
func (s *statement) finish() error {
	if s.text.eat("returning") {
		list, err := s.returning(s.text.upTo(func(i int) bool { return s.text.tokens[i].text == ";" }))
		if err != nil {
			return err
		}
		s.Returning = list
		s.put(" RETURNING ", list)
	}
	return s.text.end()
}
