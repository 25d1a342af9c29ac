// Package policy asks the operator's policies before an operation runs.
//
// A Policy answers one question, purely from what the question holds. The Chain
// asks those that concern an operation in order of priority, applies each one's
// mode and its word for failure, and stops at the first denial that counts. The
// package knows neither WASM nor HTTP: both kinds of policy, native and hosted,
// come through the same interface.
package policy

import (
	"context"
	"encoding/json"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/usage"
)

// Question is what a policy is told of a call that is about to run.
type Question struct {
	Operation    string
	Actor        eider.Actor
	ResourceType string
	ResourceID   string
	Project      *eider.Project // nil for an operation on the server
	Makes        string         // the id of the project that the call is to make, which is not there yet
	RequestID    string
	SourceIP     string
	Method       string          // of the request, CALL for what the server does by itself
	Route        string          // the pattern, never the path
	Time         time.Time       // of the call
	Input        json.RawMessage // the validated input as one object, or null

	// What the project and the server would hold with this call, calls that
	// were admitted before it included.
	ProjectUsage usage.Amounts
	ServerUsage  usage.Amounts
	// Adds is what this call itself adds to them.
	Adds usage.Amounts
	// Extends says that the call was allowed already and now adds more than was known then.
	Extends bool
}

// Decision is a policy's answer. The zero value allows.
type Decision struct {
	Deny    bool
	Code    eider.Code // of a denial: denied_by_policy, rate_limited or quota_exceeded; any other means the first
	Reason  string
	Retry   int      // seconds until it is worth another try, 0 if unknown
	Warning []string // what an allowed call is told
	Fuel    int64    // what a hosted policy has used to decide
	Version string   // of a hosted policy, that which has decided, and its module's sha256:
	SHA256  string   // while one takes another's place, the item may have the other's
	Spared  bool     // allowed without asking: the policy said beforehand that such calls do not concern it
}

// Unable is an error of a policy whose text the caller may read: why it could not
// decide.
type Unable string

// Error returns the text.
func (u Unable) Error() string { return string(u) }

// Policy decides. It must return within its own bounds and when ctx ends, changes
// nothing of the question, keeps nothing of it, and may be called by many
// goroutines at once. An error or a panic means that it could not decide.
type Policy interface {
	Decide(ctx context.Context, q *Question) (Decision, error)
}
