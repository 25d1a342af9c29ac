package projectdb

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/projectdb/wire"
)

// Sinks take what comes before the end of the work; each may be nil. A worker that
// sends a head or data where nobody takes them breaks the protocol.
type Sinks struct {
	// Begun is told when the work begins: until then its project waited for room, or
	// was opened.
	Begun func()
	// Head takes what stands before the data. Where it is set there is one, and
	// before any data.
	Head func(json.RawMessage) error
	// Data takes bytes that it may keep until its next call has returned.
	Data     func([]byte) error
	Progress func(fraction float64, rows int64)
}

// ErrLie is what a sink returns at words that no worker says: the worker is killed
// for them.
var ErrLie = errors.New("no worker says that")

// Checked is a result with figures that can be told from those that are made up.
// At an error the worker is killed, as at any other lie.
type Checked interface{ Check() error }

// answer is what a worker has said so far to one request. None of it is believed
// that could harm the server: a worker may be a tenant's.
type answer struct {
	*process
	sinks      Sinks
	head, data bool
}

// lies ends a worker that says what no worker says.
func (p *process) lies(format string, args ...any) error {
	p.murder(endedProtocol)
	return p.lose(fmt.Errorf(format, args...))
}

// pass hands a frame on.
func (a *answer) pass(f wire.Frame) error {
	switch f.Kind {
	case wire.KindHead:
		if a.sinks.Head == nil || a.head || a.data {
			return a.lies("it sent a head out of turn")
		}
		a.head = true
		return a.taken(a.sinks.Head(f.Body))
	case wire.KindData:
		if a.sinks.Data == nil || (a.sinks.Head != nil && !a.head) {
			return a.lies("it sent data out of turn")
		}
		a.data = true
		return a.taken(a.sinks.Data(f.Body))
	case wire.KindProgress:
		return a.progress(f.Body)
	}
	return a.lies("it sent a frame of kind %q", f.Kind)
}

func (a *answer) taken(err error) error {
	if errors.Is(err, ErrLie) {
		return a.lies("%w", err)
	}
	return err
}

// maxRows is more than any database has that a worker may make.
const maxRows = 1 << 44

func (a *answer) progress(body []byte) error {
	var at wire.Progress
	if err := json.Unmarshal(body, &at); err != nil || at.Rows < 0 || at.Rows > maxRows {
		return a.lies("its progress is none")
	}
	if a.sinks.Progress != nil {
		a.sinks.Progress(max(0, min(at.Fraction, 1)), at.Rows)
	}
	return nil
}

// end reads a worker's last words into out.
func (a *answer) end(body []byte, out any) error {
	var end wire.End
	if err := json.Unmarshal(body, &end); err != nil {
		return a.lies("its last words were no JSON")
	}
	if end.Last {
		a.ending.Store(true) // the next statement has a new one
	}
	if end.Error != nil {
		if !believable(end.Error) {
			return a.lies("its refusal is none that a worker gives")
		}
		return refusal(end.Error)
	}
	if a.sinks.Head != nil && !a.head {
		return a.lies("it ended without a head")
	}
	if out != nil && len(end.Result) > 0 {
		if err := json.Unmarshal(end.Result, out); err != nil {
			return a.lies("its result is not what was asked for: %w", err)
		}
	}
	if checked, ok := out.(Checked); ok {
		if err := checked.Check(); err != nil {
			return a.lies("its result cannot be: %w", err)
		}
	}
	return nil
}

// maxMessage bounds what a worker says of a refusal, in bytes.
const maxMessage = 16 << 10

// refusals are the codes that workers give. Others say something of the server or
// of the caller, of which a worker knows nothing.
var refusals = map[eider.Code]bool{
	eider.StatementNotAllowed: true, eider.QueryFailed: true, eider.InvalidColumnType: true, eider.ImportFailed: true, eider.InvalidWhereClause: true,
	eider.StorageUnavailable: true, eider.StorageFull: true, eider.InvalidPrimaryKey: true, eider.Internal: true, eider.OutOfMemory: true, eider.InvalidFormat: true,
	eider.DuplicateKeyValue: true, eider.ColumnInPrimaryKey: true, eider.BucketNotFound: true, eider.BucketExists: true, eider.BucketNotEmpty: true,
	eider.TableNotFound: true, eider.TableExists: true, eider.PrimaryKeyExists: true, eider.NoPrimaryKey: true, eider.ColumnNotFound: true,
	eider.ColumnExists: true, eider.CannotDropLastColumn: true, eider.RequestTimeout: true, eider.Cancelled: true, eider.ValidationFailed: true,
}

// believable reports whether a refusal is one that a worker gives: it goes on to
// the caller and into the log.
func believable(e *wire.Error) bool {
	length := len(e.Message) + len(e.Logged)
	for _, f := range e.Fields {
		length += len(f.Field) + len(f.Message)
	}
	return refusals[e.Code] && length <= maxMessage
}

func refusal(e *wire.Error) *eider.Error {
	return &eider.Error{Code: e.Code, Message: e.Message, Fields: e.Fields, Logged: e.Logged}
}
