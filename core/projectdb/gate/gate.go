// Package gate decides which SQL of a tenant may run. It stands inside the
// worker process, before execution: the server never hands tenants' text to
// DuckDB's parser, which can be attacked by itself.
//
// What runs is never the text that came. DuckDB's own parser turns it into a
// tree, every node and every function of the tree is looked up in a list of what
// is allowed, and what runs is the text that DuckDB writes from that tree again.
// DuckDB does so for SELECT alone; the statements that write are taken apart into
// SELECTs and expressions, each checked alike, and put together from keywords of
// ours, quoted identifiers and checked pieces. What cannot be taken apart is
// refused, and the refusal says what and why.
//
// The gate gives clear messages and keeps tenants from what their project is not
// for. It is no bound on memory or time, and no wall: those are the confinement
// of the worker.
//
// It relies on the project's file having no macros, types or sequences of its
// own, since those could give another meaning to a name that is allowed. Nothing
// that passes creates one; of a file that came from elsewhere, Foreign tells.
package gate

import (
	"context"
	"strings"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
)

// Checked is a statement that may run.
type Checked struct {
	// SQL is the text to run, which is not the text that was checked.
	SQL string
	// Kind is its first word in small letters: select, explain, insert, update,
	// delete, merge, create table, create view.
	Kind string
	// Target is the table or view that a statement writes to.
	Target Name
	// Returning is the list behind RETURNING, which SQL ends with.
	Returning string
	// Lasting: it would be found the same again, whatever the database holds then.
	Lasting bool
}

// Name is the name of a table or view. Schema is empty where none was given.
type Name struct{ Schema, Table string }

// gate checks the pieces of one statement on one connection.
type gate struct {
	ctx    context.Context
	conn   *duck.Conn
	looked bool // something was looked up in the database
}

// Select checks a statement that only reads: SELECT, also as WITH, VALUES, TABLE,
// FROM, DESCRIBE or SUMMARIZE of a table or SELECT, PIVOT and UNPIVOT whose
// values are named, and EXPLAIN [ANALYZE] of one of them. SHOW is refused:
// information_schema says the same. Refusals are QueryFailed for what is no SQL,
// and StatementNotAllowed.
//
// The answer is that of the text, but for the names of columns that have none of
// their own: DuckDB names them after the expression as it is written in what
// runs, so that a lambda or 1e3 reads differently there.
func Select(ctx context.Context, conn *duck.Conn, sql string) (Checked, error) {
	text, err := scan(sql)
	if err != nil {
		return Checked{}, err
	}
	g := &gate{ctx: ctx, conn: conn}
	kind, explain, start, err := explained(text)
	if err != nil {
		return Checked{}, err
	}
	if err := changes(text); err != nil {
		return Checked{}, err
	}
	body, err := g.query(piece{text: sql[start:], start: start}, limits{})
	if err != nil {
		return Checked{}, err
	}
	return Checked{SQL: explain + body, Kind: kind, Lasting: !g.looked}, nil
}

// changes refuses the statements that Write takes, with a word on how they are
// run.
func changes(text *text) error {
	for _, first := range []string{"insert", "update", "delete", "merge", "create"} {
		if t := text.peek(); t.is(first) {
			return refuseAt(t.start, "%s changes something, which a statement may in mode write alone", strings.ToUpper(first))
		}
	}
	return nil
}

// explained takes EXPLAIN and its options off a statement.
func explained(text *text) (kind, prefix string, start int, err error) {
	if !text.eat("explain") {
		return "select", "", 0, nil
	}
	prefix = "EXPLAIN "
	if text.eat("analyze") {
		prefix += "ANALYZE "
	}
	if text.eatPunct("(") {
		if !text.eat("format") || !text.eat("json") || !text.eatPunct(")") {
			return "", "", 0, refuse("of the options of EXPLAIN, only (FORMAT json) is allowed")
		}
		prefix += "(FORMAT json) "
	}
	return "explain", prefix, text.offset(), nil
}

// Where checks the condition of a WHERE and returns it as an expression to be put
// there. Subqueries are allowed, on the project's tables, under the same rules as
// everywhere; parameters are not. Every refusal is InvalidWhereClause.
func Where(ctx context.Context, conn *duck.Conn, clause string) (string, error) {
	where, err := func() (string, error) {
		text, err := scan(clause)
		if err != nil {
			return "", err
		}
		if len(text.tokens) == 0 {
			return "", refuse("the condition is empty; true is one for all rows")
		}
		g := &gate{ctx: ctx, conn: conn}
		return g.expression(piece{text: clause}, limits{noParameters: "a where clause has no parameters"})
	}()
	return where, recode(err, eider.InvalidWhereClause)
}

// Quote returns a name as an identifier that DuckDB takes for nothing else.
func Quote(name string) string {
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}
