package duck

import (
	"errors"
	"strings"

	duckdb "github.com/duckdb/duckdb-go/v2"
)

// Complaint is what DuckDB has to say about a statement, its values or what it
// would need, as its author may read it.
type Complaint struct {
	// Kind tells which rule was broken; most have none of these.
	Kind ComplaintKind
	// Words is the sentence, perhaps with a hint in further lines.
	Words string
	// Line and Offset are the place in the statement as it was run: a line from 1,
	// 0 if it is unknown, what DuckDB shows of it, and the byte therein.
	Line   int
	Shown  string
	Offset int
}

// ComplaintKind is a class of complaints.
type ComplaintKind string

// The classes that are told apart.
const (
	ComplaintOther      ComplaintKind = ""
	ComplaintMemory     ComplaintKind = "memory"     // there was not enough
	ComplaintConstraint ComplaintKind = "constraint" // a key or a NOT NULL
	ComplaintConversion ComplaintKind = "conversion" // a value that its type cannot hold
	ComplaintDenied     ComplaintKind = "denied"     // a file, a setting or an extension
)

// complaints are the types of error that a statement is to blame for.
var complaints = map[duckdb.ErrorType]ComplaintKind{
	duckdb.ErrorTypeOutOfMemory: ComplaintMemory, duckdb.ErrorTypeConstraint: ComplaintConstraint,
	duckdb.ErrorTypeConversion: ComplaintConversion, duckdb.ErrorTypeOutOfRange: ComplaintConversion, duckdb.ErrorTypePermission: ComplaintDenied,
	duckdb.ErrorTypeMissingExtension: ComplaintDenied, duckdb.ErrorTypeAutoLoad: ComplaintDenied, duckdb.ErrorTypeInvalidConfiguration: ComplaintDenied,
	duckdb.ErrorTypeUnknownType: ComplaintOther, duckdb.ErrorTypeDecimal: ComplaintOther, duckdb.ErrorTypeMismatchType: ComplaintOther,
	duckdb.ErrorTypeDivideByZero: ComplaintOther, duckdb.ErrorTypeObjectSize: ComplaintOther, duckdb.ErrorTypeInvalidType: ComplaintOther,
	duckdb.ErrorTypeNotImplemented: ComplaintOther, duckdb.ErrorTypeExpression: ComplaintOther, duckdb.ErrorTypeCatalog: ComplaintOther,
	duckdb.ErrorTypeParser: ComplaintOther, duckdb.ErrorTypePlanner: ComplaintOther, duckdb.ErrorTypeExecutor: ComplaintOther,
	duckdb.ErrorTypeSyntax: ComplaintOther, duckdb.ErrorTypeBinder: ComplaintOther, duckdb.ErrorTypeInvalidInput: ComplaintOther,
	duckdb.ErrorTypeParameterNotResolved: ComplaintOther, duckdb.ErrorTypeParameterNotAllowed: ComplaintOther,
	duckdb.ErrorTypeDependency: ComplaintOther, duckdb.ErrorTypeSequence: ComplaintOther, duckdb.ErrorTypeSettings: ComplaintOther,
}

// exhausted is what C++ says where an allocation fails that DuckDB does not count.
var exhausted = []string{"std::bad_alloc", "bad allocation", "Allocation failure", "failed to allocate"}

// Complains returns what DuckDB has to say, and false for an error that is not
// the statement's fault.
func Complains(err error) (Complaint, bool) {
	if errors.Is(err, ErrParameters) {
		return Complaint{Words: err.Error()}, true
	}
	var e *duckdb.Error
	if !errors.As(err, &e) || errors.Is(err, ErrFull) || errors.Is(err, ErrFatal) || errors.Is(err, ErrInterrupted) {
		return Complaint{}, false
	}
	for _, words := range exhausted {
		if strings.Contains(e.Msg, words) {
			return Complaint{Kind: ComplaintMemory, Words: e.Msg}, true
		}
	}
	kind, known := complaints[e.Type]
	if !known {
		return Complaint{}, false
	}
	c := Complaint{Kind: kind}
	c.Words, c.Line, c.Shown, c.Offset = place(e.Msg)
	if _, words, ok := strings.Cut(c.Words, "Error: "); ok {
		c.Words = words
	}
	return c, true
}

// place takes the line off a message that DuckDB shows with a caret below:
//
//	LINE 1: SELECT nope
//	               ^
func place(message string) (words string, line int, shown string, offset int) {
	words, rest, found := strings.Cut(message, "\n\nLINE ")
	if !found {
		return strings.TrimSpace(message), 0, "", 0
	}
	lines := strings.Split(rest, "\n")
	number, text, ok := strings.Cut(lines[0], ": ")
	if !ok || len(lines) < 2 {
		return words, 0, "", 0
	}
	for _, digit := range number {
		if digit < '0' || digit > '9' || line > 1<<20 {
			return words, 0, "", 0
		}
		line = 10*line + int(digit-'0')
	}
	lead := len("LINE : ") + len(number)
	offset = strings.IndexByte(lines[1], '^') - lead
	if offset < 0 || offset > len(text) {
		return words, 0, "", 0
	}
	return words, line, text, offset
}
