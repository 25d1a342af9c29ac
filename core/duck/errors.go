package duck

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	duckdb "github.com/duckdb/duckdb-go/v2"
)

// What an error of DuckDB may be, besides its own text. Each was provoked in
// this package's tests: DuckDB tells most of them apart by words alone.
var (
	// ErrLocked: another process holds the file. See LockedError.
	ErrLocked = errors.New("database file is held by another process")
	// ErrNewer: the file was written by a newer DuckDB.
	ErrNewer = errors.New("database file was written by a newer DuckDB")
	// ErrCorrupt: the file is no database, or a block of it fails its checksum.
	ErrCorrupt = errors.New("database file is damaged")
	// ErrWAL: the write-ahead log beside the file cannot be replayed.
	ErrWAL = errors.New("write-ahead log is damaged")
	// ErrFatal: the instance is invalidated and answers nothing more.
	ErrFatal = errors.New("database instance is invalidated")
	// ErrFull: there is no space left.
	ErrFull = errors.New("no space left on device")
	// ErrSync: an fsync failed, so that what is on disk is unknown.
	ErrSync = errors.New("fsync failed")
	// ErrIO: another input or output error.
	ErrIO = errors.New("input/output error")
	// ErrReadOnly: the file or its folder cannot be written.
	ErrReadOnly = errors.New("database cannot be written")
	// ErrConstraint: a row violates a constraint.
	ErrConstraint = errors.New("constraint violated")
	// ErrInterrupted: the statement was interrupted.
	ErrInterrupted = errors.New("statement interrupted")
)

// LockedError names the process that holds a database file.
type LockedError struct{ PID string }

// Error is a sentence for an operator.
func (e *LockedError) Error() string {
	if e.PID == "" {
		return ErrLocked.Error()
	}
	return fmt.Sprintf("%v (process %s)", ErrLocked, e.PID)
}

// Unwrap returns ErrLocked.
func (e *LockedError) Unwrap() error { return ErrLocked }

var holder = regexp.MustCompile(`Conflicting lock is held in .*\(PID (\d+)\)`)

// leads stand before the words that count, several in a row.
var leads = []string{
	"IO Error: ", "FATAL Error: ", "INTERNAL Error: ", "TransactionContext Error: ", "Invalid Input Error: ",
	"Failed to append: ", "Failed to commit: ", "Failed to create checkpoint because of error: ",
	"Failed: database has been invalidated because of a previous fatal error. " +
		"The database must be restarted prior to being used again.\nOriginal error: \"",
}

// kinds tells by the words at the beginning and the end of a message what the
// error is; the first that fits counts. Only these places are looked at: between
// them stand paths and values that a caller has chosen.
var kinds = []struct {
	begin, end string
	kind       error
}{
	{"Duplicate key ", "", ErrConstraint},
	{"PRIMARY KEY or UNIQUE constraint violation", "", ErrConstraint},
	{"NOT NULL constraint failed", "", ErrConstraint},
	{"CHECK constraint failed", "", ErrConstraint},
	{"Interrupted!", "", ErrInterrupted},
	{"Could not fsync file", "", ErrSync},
	{"fsync failed!", "", ErrSync},
	{"", ": No space left on device", ErrFull},
	{"", ": Disk quota exceeded", ErrFull},
	{"", ": File too large", ErrFull},
	{"", ": Read-only file system", ErrReadOnly},
	{"", ": Permission denied", ErrReadOnly},
	{"", ": Operation not permitted", ErrReadOnly},
	{"", ": Input/output error", ErrIO},
	{"Failure while replaying WAL file", "", ErrWAL},
	{"Corrupt database file", "", ErrCorrupt},
	{"The file ", "it is not a valid DuckDB database file!", ErrCorrupt},
	{"Could not read enough bytes from file", "", ErrCorrupt}, // it is cut
	{"Could not ", "", ErrIO},
	{"Cannot open file", "", ErrIO},
}

// classify wraps an error of DuckDB with what it is.
func classify(err error) error {
	var e *duckdb.Error
	if !errors.As(err, &e) {
		return err
	}
	words := strip(e.Msg)
	if strings.HasPrefix(words, "Could not set lock on file") {
		locked := &LockedError{}
		if m := holder.FindStringSubmatch(words); m != nil {
			locked.PID = m[1]
		}
		return locked
	}
	if kind := kindOf(e.Type, words); kind != nil {
		return fmt.Errorf("%w: %w", kind, err)
	}
	return err
}

func strip(message string) string {
	words := strings.TrimRight(message, "\"\n")
	for i := 0; i < len(leads); i++ {
		if rest, ok := strings.CutPrefix(words, leads[i]); ok {
			words, i = rest, -1
		}
	}
	return words
}

// kindOf goes by the type where that says enough. What an appender says has lost
// its type.
func kindOf(t duckdb.ErrorType, words string) error {
	switch t {
	case duckdb.ErrorTypeConstraint:
		return ErrConstraint
	case duckdb.ErrorTypeInterrupt:
		return ErrInterrupted
	case duckdb.ErrorTypeInvalidInput:
		if strings.HasPrefix(words, "Cannot append to a readonly database") || strings.HasSuffix(words, "which is attached in read-only mode!") {
			return ErrReadOnly
		}
		return nil
	case duckdb.ErrorTypeIO, duckdb.ErrorTypeFatal, duckdb.ErrorTypeInternal, duckdb.ErrorTypeTransaction, duckdb.ErrorTypeInvalid:
	default:
		return nil
	}
	if strings.HasPrefix(words, "Trying to read a database file with version number") && strings.Contains(words, "created with a newer version") {
		return ErrNewer
	}
	for _, k := range kinds {
		if strings.HasPrefix(words, k.begin) && strings.HasSuffix(words, k.end) {
			return k.kind
		}
	}
	if t == duckdb.ErrorTypeIO {
		return ErrIO
	}
	return nil
}

// fatal reports whether the error has invalidated the instance.
func fatal(err error) bool {
	var e *duckdb.Error
	return errors.As(err, &e) && (e.Type == duckdb.ErrorTypeFatal || e.Type == duckdb.ErrorTypeInternal)
}
