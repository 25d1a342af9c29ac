package gate

import (
	"strings"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
)

// ForLog returns what the log may keep of a complaint of DuckDB. Values of tenants
// can stand anywhere in one, in quotes or without, and error() says whatever it is
// given: so nothing is kept that is not written here.
func ForLog(c duck.Complaint) string {
	for _, one := range beginnings {
		if strings.HasPrefix(c.Words, one) {
			return one + " ..."
		}
	}
	switch c.Kind {
	case duck.ComplaintConversion:
		return "a value does not go with its type, or is out of its range"
	case duck.ComplaintConstraint:
		return "a constraint does not hold"
	case duck.ComplaintDenied:
		return "a file, a setting or an extension was asked for"
	case duck.ComplaintMemory:
		return "there is not enough memory"
	}
	return "DuckDB refuses it; its words are told to the caller alone"
}

// beginnings are those of sentences by which an operator knows what is wrong. None
// of them reaches as far as a name or a value.
var beginnings = []string{
	"syntax error", "unterminated quoted", "zero-length delimited identifier",
	"Table with name", "Schema with name", "Type with name", "Column with name", "Scalar Function with name",
	"Aggregate Function with name", "Table Function with name",
	"Referenced column", "Referenced table", "Ambiguous reference", "Duplicate alias", "Duplicate struct entry name",
	"No function matches the given name and argument types", "Cannot compare values", "Cannot mix values", "Values list",
	"Could not convert string", "Could not parse string", "Could not cast value", "Malformed JSON",
	"Division by zero", "Overflow in", "More than one row returned by a subquery", "Subquery returns",
	"Values were not provided for the following prepared statement parameters",
	"Duplicate key", "NOT NULL constraint failed", "CHECK constraint failed", "Data contains duplicates", "PRIMARY KEY or UNIQUE constraint violation",
	"JSON transform error",
	"CSV Error on Line", "Error when sniffing file", "No magic bytes found",
}

// told says in DuckDB's words what it has against a text.
func told(at int, c duck.Complaint) *eider.Error {
	return failed(at, "%s", clip(strings.Join(strings.Fields(c.Words), " "), 200)).LoggedAs(ForLog(c) + place(at))
}
