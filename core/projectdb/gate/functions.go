package gate

import "strings"

// verdict is what is decided of a function. Why is half a sentence.
type verdict struct {
	allowed bool
	why     string
}

// group is a list of functions that share a verdict, their names parted by blanks.
type group struct {
	why   string
	names string
}

// The lists below hold every function of DuckDB 1.5.6 with its extensions
// core_functions, json, icu and parquet. A test fails when a new one brings a
// function that is in neither.

// scalars are scalar functions, aggregates, window functions and macros: what may
// stand in an expression.
var scalars = verdicts(allowedScalars, refusedScalars)

// tableFunctions are those that may stand in FROM.
var tableFunctions = verdicts(allowedTableFunctions, refusedTableFunctions)

func verdicts(allowed, refused []group) map[string]verdict {
	all := map[string]verdict{}
	for _, g := range refused {
		for _, name := range strings.Fields(g.names) {
			all[Fold(name)] = verdict{false, g.why}
		}
	}
	for _, g := range allowed {
		for _, name := range strings.Fields(g.names) {
			all[Fold(name)] = verdict{true, g.why}
		}
	}
	return all
}
