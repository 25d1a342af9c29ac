package duck

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	duckdb "github.com/duckdb/duckdb-go/v2"
)

// What an error of DuckDB may be, besides its own text. Each was provoked in
// this package's tests: DuckDB tells them apart by words alone.
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

var holder = regexp.MustCompile(`PID (\d+)`)

// kinds maps the words of a message to what the error is; the first that fits
// counts.
var kinds = []struct {
	words []string
	kind  error
}{
	{[]string{"Could not sync", "fsync"}, ErrSync},
	{[]string{"No space left on device", "Disk quota exceeded", "File too large", "not enough space"}, ErrFull},
	{[]string{"newer version of DuckDB", "trying to read a database file with version number", "storage version"}, ErrNewer},
	{[]string{"replaying WAL", "Corrupt WAL", "WAL file", "write-ahead log"}, ErrWAL},
	{[]string{"not a valid DuckDB database file", "Corrupt database file", "Checksum", "checksum", "corrupt", "Corruption"}, ErrCorrupt},
	{[]string{"Read-only file system", "Permission denied", "read-only mode", "Cannot open file"}, ErrReadOnly},
	{[]string{"INTERRUPT", "Interrupted"}, ErrInterrupted},
	{[]string{"Constraint Error", "Duplicate key"}, ErrConstraint},
	{[]string{"IO Error", "Input/output error", "Could not write", "Could not read"}, ErrIO},
}

// classify wraps an error of the driver with what it is.
func classify(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if strings.Contains(text, "Conflicting lock") || strings.Contains(text, "Could not set lock") {
		e := &LockedError{}
		if m := holder.FindStringSubmatch(text); m != nil {
			e.PID = m[1]
		}
		return e
	}
	for _, k := range kinds {
		for _, w := range k.words {
			if strings.Contains(text, w) {
				return fmt.Errorf("%w: %w", k.kind, err)
			}
		}
	}
	return err
}

// fatal reports whether the error has invalidated the instance.
func fatal(err error) bool {
	var e *duckdb.Error
	if errors.As(err, &e) && (e.Type == duckdb.ErrorTypeFatal || e.Type == duckdb.ErrorTypeInternal) {
		return true
	}
	text := err.Error()
	return strings.Contains(text, "database has been invalidated") || strings.Contains(text, "FATAL Error") || strings.Contains(text, "INTERNAL Error")
}
