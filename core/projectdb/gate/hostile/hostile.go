// Package hostile is a table of what a tenant may try: statements, conditions,
// types and defaults that must be refused with a clear error, change nothing, and
// leave the next statement working.
//
// It is data for tests alone, and knows neither the gate nor the worker: one test
// runs it with the gate, another without, so that the confinement is proved by
// itself.
package hostile

import "strings"

// Kind is where an input is put.
type Kind string

// The places that take SQL of a tenant.
const (
	Select  Kind = "select"  // a query that reads
	Write   Kind = "write"   // a query with mode write
	Where   Kind = "where"   // a where_clause or where_filter
	Type    Kind = "type"    // the type of a column
	Default Kind = "default" // the default of a column
)

// Case is one input, and the code by which the gate refuses it.
type Case struct {
	Kind  Kind
	Input string
	Code  string
}

// Paths stand in the inputs as {file}, {own} and {out}.
type Paths struct {
	File string // a file outside of the project that holds Secret
	Own  string // the project's database file
	Out  string // a path at which no file may come into being
}

// Secret is what the file holds; no answer and no error may show it.
const Secret = "the contents of a file of the server"

// Setup makes what the inputs speak of: the bucket sales with the table orders,
// and the server's own schema.
func Setup() []string {
	return []string{
		`CREATE SCHEMA sales`,
		`CREATE TABLE sales.orders (id INTEGER PRIMARY KEY, name VARCHAR, amount DECIMAL(10,2))`,
		`INSERT INTO sales.orders VALUES (1, 'one', 1.50), (2, 'two', 2.50), (3, 'three', 3.50)`,
		`CREATE SCHEMA _eider`,
		`CREATE TABLE _eider.calls (call_id VARCHAR)`,
		`INSERT INTO _eider.calls VALUES ('kept')`,
	}
}

// Statement returns what a careless server would run of the case.
func (c Case) Statement(p Paths) string {
	input := c.With(p)
	switch c.Kind {
	case Where:
		return "DELETE FROM sales.orders WHERE (" + input + ")"
	case Type:
		return "CREATE TABLE sales.made (c " + input + ")"
	case Default:
		return "ALTER TABLE sales.orders ALTER name SET DEFAULT " + input
	}
	return input
}

// With returns the input with its paths filled in.
func (c Case) With(p Paths) string {
	return strings.NewReplacer("{file}", p.File, "{own}", p.Own, "{out}", p.Out).Replace(c.Input)
}

// Cases returns the table. The gate refuses every one.
func Cases() []Case {
	var all []Case
	for _, group := range [][]Case{files(), engine(), catalog(), statements(), writes(), clauses(), columns(), shapes()} {
		all = append(all, group...)
	}
	return all
}

// Bombs returns queries that the gate lets pass, because the functions in them
// have their use. They ask for more memory or time than there is: what stops them
// is the confinement, as 422 or 408, never in the server's process.
func Bombs() []Case {
	return []Case{
		{Select, `SELECT length(repeat(repeat('x', 1000000), 3000))`, "out_of_memory"},
		{Select, `SELECT length(lpad('x', 2000000000, 'y'))`, "out_of_memory"},
		{Select, `SELECT length(rpad('x', 2000000000, 'y'))`, "out_of_memory"},
		{Select, `SELECT len(range(2000000000))`, "out_of_memory"},
		{Select, `SELECT len(list_transform(range(200000000), lambda x: repeat('x', 100)))`, "out_of_memory"},
		{Select, `SELECT bit_count(bitstring('1', 2000000000))`, "out_of_memory"},
		{Select, `SELECT count(*) FROM range(100000000000) AS a, range(100000000000) AS b WHERE a.range + b.range < 0`, "query_timeout"},
		{Select, `WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r`, "query_timeout"},
		{Select, `SELECT count(DISTINCT a.range * 1000000 + b.range) FROM range(1000000) AS a, range(1000000) AS b`, "out_of_memory"},
	}
}
