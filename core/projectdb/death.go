package projectdb

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/eiderdb/eider"
)

// Why workers end.
const (
	endedIdle     = "idle"     // nobody used it
	endedWorn     = "worn"     // it had few addresses left
	endedClosed   = "closed"   // its project or the server was closed
	endedStuck    = "stuck"    // it did not obey, and was killed
	endedProtocol = "protocol" // it said what no worker says, and was killed
	endedResident = "resident" // it held more memory than it may, and was killed
	endedMemory   = "memory"   // it found no memory and ended
	endedInvalid  = "invalid"  // DuckDB had given its database up
	endedKilled   = "killed"   // by somebody else
	endedCrash    = "crash"
	endedUnopened = "unopened" // the database could not be opened
)

// death is how a worker came to its end.
type death struct {
	cause string
	words string // for people
}

// exitInvalid is the worker's code for endedInvalid.
const exitInvalid = 3

// ofState tells from what the kernel and the worker said of its end.
func ofState(state *os.ProcessState, outOfMemory bool) death {
	if outOfMemory {
		return death{endedMemory, "its process found no more memory"}
	}
	status, ok := state.Sys().(syscall.WaitStatus)
	switch {
	case !ok:
		return death{endedCrash, "its process ended"}
	case status.Signaled() && status.Signal() == syscall.SIGKILL:
		return death{endedKilled, "its process was killed, perhaps by the kernel for want of memory"}
	case status.Signaled():
		return death{endedCrash, fmt.Sprintf("its process ended by signal %d (%s)", int(status.Signal()), status.Signal())}
	case status.ExitStatus() == exitInvalid:
		return death{endedInvalid, "DuckDB gave its database up after a fatal error"}
	}
	return death{endedCrash, fmt.Sprintf("its process ended with code %d", status.ExitStatus())}
}

// wordsOf are those for ends that we made.
func wordsOf(cause string) string {
	switch cause {
	case endedProtocol:
		return "its process broke the protocol"
	case endedResident:
		return "its process held more memory than it may"
	case endedStuck:
		return "its process did not stop when it was told to"
	}
	return "its process was ended"
}

// counts reports whether such an end is held against the project. A statement that
// does not stop is its author's doing, and his alone.
func (d death) counts() bool {
	switch d.cause {
	case endedIdle, endedWorn, endedClosed, endedStuck:
		return false
	}
	return true
}

// settleWithin is how long a worker whose connection broke may take to be gone.
const settleWithin = 200 * time.Millisecond

// blame returns what a statement is told whose worker was lost. One that was alone
// in it has itself to blame for some ends; others can only try again.
//
// Of a change nobody knows at once whether it was committed before that: it is told
// to try again, with its own fault beneath, for whoever finds that it is not there.
func (d death) blame(lost *loss, changes bool, limit int64) *eider.Error {
	e := eider.Errorf(eider.ProjectRestarted, "the project's database was restarted; try again")
	e.RetryAfter = time.Second
	own := d.own(lost, limit)
	switch {
	case own == nil:
		return e.Because(lost)
	case changes:
		return e.Because(&fault{own, lost})
	}
	return own.Because(lost)
}

// own is what a statement is told that has itself to blame.
func (d death) own(lost *loss, limit int64) *eider.Error {
	if lost.running == 1 {
		switch d.cause {
		case endedMemory, endedResident:
			return eider.Errorf(eider.OutOfMemory, "the statement needs more memory than the project may use: the limit is %d MiB", limit>>20)
		case endedCrash:
			return eider.Errorf(eider.QueryFailed, "the statement ended the project's process: it is too deep, or met a fault of the database")
		}
	}
	return nil
}

// fault is that of a change itself, if it was not committed.
type fault struct {
	own  *eider.Error
	lost *loss
}

func (f *fault) Error() string { return f.own.Error() + ": " + f.lost.Error() }

// Unwrap returns how the worker was lost.
func (f *fault) Unwrap() error { return f.lost }

// OwnFault returns what a change is told that was alone in its worker and ended it,
// once it is known that it was not committed; nil: it was another's fault.
func OwnFault(err error) error {
	var f *fault
	if errors.As(err, &f) {
		return f.own.Because(f.lost)
	}
	return nil
}
