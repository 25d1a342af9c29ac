// Package plugin is the SDK for Eider's plugins in Go.
//
// A policy is asked before an operation runs, and answers with a Decision:
//
//	var _ = plugin.Policy(configure)
//
//	func main() {}
//
//	func configure(config plugin.JSON) (func(*plugin.Event) plugin.Decision, error) {
//		return func(e *plugin.Event) plugin.Decision {
//			if e.Operation == "drop_project" && e.Resource.ID == config.Get("protect").String() {
//				return plugin.Deny("it is protected")
//			}
//			return plugin.Allow()
//		}, nil
//	}
//
// A sink is given the log in batches, in order and at least once, and answers
// with a Receipt. Both are built by `eider plugin build`, with the standard
// toolchain. The main function never runs: a plugin is a library of the server,
// so what it offers is said in a declaration.
//
// The package hides how events cross the border (docs/plugin-abi.md): flat
// layouts that cost a few microseconds where encoding/json costs a hundred. What
// is JSON by nature, a project's settings and the input of a request, is kept as
// text until it is asked (JSON.Get).
//
// Events, batches and all that is in them may be kept; they are copies. But
// there are several guests of one plugin and each may be replaced at any time, so
// what has to be counted or remembered belongs into KVAdd and KVSet.
//
// Outside of WebAssembly the package builds too, so that policies are plain
// functions under plain tests; host functions answer ErrNotGranted there.
package plugin

import "strconv"

// Event is what a policy is asked about, before the operation runs.
type Event struct {
	Operation string // the name in the log: upload_file, create_project, ..
	TimeMS    int64  // milliseconds since 1970
	Actor     Actor
	Resource  Resource
	Project   *Project // nil for an operation on the server
	Usage     Usage
	Request   Request
	Input     JSON // the validated request as an object, null where there is none
	// Extends says that the call was allowed already, and now adds more than was known
	// then: a quota looks again, what counts calls has counted it.
	Extends bool
}

// Actor is who asks for the operation.
type Actor struct {
	Type      string // root, key, system, local, signed_url
	ID        string
	Name      string
	Role      string // admin, project_admin, project_write, project_read
	ProjectID string // empty for a server-wide actor
}

// Resource is what the operation is about.
type Resource struct {
	Type string
	ID   string // empty where the operation makes the thing: look into Input
}

// Project is the one that the operation belongs to.
type Project struct {
	ID, UID, Name, Status string
	Settings              JSON
}

// Usage holds what would be held with this operation, and with those that were
// admitted before it: a quota is usage above a limit, and races pass nothing.
type Usage struct {
	Project Amounts // zero without a project
	Server  Amounts
	Adds    Amounts // what this operation itself adds; zero for reads and deletes
}

// Amounts are what is counted.
type Amounts struct{ Projects, Bytes, Files, Tables, Rows int64 }

// Request is how the operation was asked for.
type Request struct {
	ID, SourceIP string
	Method       string // CALL for what the server does by itself
	Route        string // the declared pattern, never the path
}

// Decision is the answer of a policy. The zero value allows.
type Decision struct {
	verdict      byte
	code         byte
	reason       string
	retryAfterMS int64
}

const (
	allow, deny, warn                 = 0, 1, 2
	denied, quotaExceeded, rateLimits = 0, 1, 2
)

// Allow lets the operation run.
func Allow() Decision { return Decision{} }

// Warn lets the operation run and tells the caller and the log.
func Warn(reason string) Decision { return Decision{verdict: warn, reason: reason} }

// Deny refuses the operation (403).
func Deny(reason string) Decision { return Decision{verdict: deny, reason: reason} }

// DenyQuota refuses the operation because there would be too much of something
// (507).
func DenyQuota(reason string) Decision {
	return Decision{verdict: deny, code: quotaExceeded, reason: reason}
}

// DenyRate refuses the operation because it comes too soon (429); after so many
// milliseconds it is worth another try, 0 if that is unknown.
func DenyRate(reason string, retryAfterMS int64) Decision {
	return Decision{verdict: deny, code: rateLimits, reason: reason, retryAfterMS: retryAfterMS}
}

// IsDeny reports whether the operation is refused.
func (d Decision) IsDeny() bool { return d.verdict == deny }

// String returns the decision in words, for tests.
func (d Decision) String() string {
	verdict := [...]string{"allow", "deny", "warn"}[d.verdict]
	if d.verdict == deny {
		verdict += " " + [...]string{"denied_by_policy", "quota_exceeded", "rate_limited"}[d.code]
	}
	if d.retryAfterMS != 0 {
		verdict += " after " + strconv.FormatInt(d.retryAfterMS, 10) + " ms"
	}
	if d.reason != "" {
		verdict += ": " + d.reason
	}
	return verdict
}

// Batch is rows of the log, in the order of their ids. One that was not
// acknowledged comes again, perhaps with more rows behind.
type Batch struct {
	Sink            string // the name of the operator's item
	Epoch           int64  // grows when the log was restored or rebuilt: ids may come again
	FirstID, LastID int64
	Attempt         int // 1 for the first try
	Rows            []Row
	Checkpoint      JSON // signed, that the last row was in the chain; empty if there is none
}

// Row is a row of the log. What has no field of its own is in JSON.
type Row struct {
	ID          int64
	TimestampUS int64 // microseconds since 1970
	CallID      string
	Operation   string
	Status      string // success, failed, denied, in_progress
	ErrorCode   string
	Actor       Actor // type, id and name
	ProjectID   string
	Resource    Resource
	JSON        JSON // the whole row, as the API shows it
}

// Receipt is the answer of a sink. The zero value is an acknowledgement.
type Receipt struct {
	retry        bool
	retryAfterMS int64
	reason       string
}

// OK says that the batch is delivered: it does not come again.
func OK() Receipt { return Receipt{} }

// Retry says that the batch is not delivered and has to come again, not before so
// many milliseconds, or after a pause that the server chooses if that is 0.
func Retry(reason string, afterMS int64) Receipt {
	return Receipt{retry: true, retryAfterMS: afterMS, reason: reason}
}

// String returns the receipt in words, for tests.
func (r Receipt) String() string {
	if r.retry {
		return "retry: " + r.reason
	}
	return "ok"
}

// offer is what the plugin has said that it is, and what was made of it.
type offer struct {
	policy func(JSON) (func(*Event) Decision, error)
	sink   func(JSON) (func(*Batch) Receipt, error)

	//lint:ignore U1000 for what the module exports
	decide func(*Event) Decision
	//lint:ignore U1000 for what the module exports
	deliver func(*Batch) Receipt
}

// plugin is the only one of its kind, because what a module exports are functions
// without a receiver.
var plugin = &offer{}

// Policy makes the plugin a policy. configure is given the operator's configuration,
// an object, once and before everything else, and returns what decides; an error
// refuses the plugin. It returns true, so that it can stand in a declaration.
func Policy(configure func(config JSON) (func(*Event) Decision, error)) bool {
	plugin.offer(configure, nil)
	return true
}

// Sink makes the plugin a sink. configure is given the operator's configuration, an
// object, once and before everything else, and returns what delivers; an error
// refuses the plugin. It returns true, so that it can stand in a declaration.
func Sink(configure func(config JSON) (func(*Batch) Receipt, error)) bool {
	plugin.offer(nil, configure)
	return true
}

func (o *offer) offer(policy func(JSON) (func(*Event) Decision, error), sink func(JSON) (func(*Batch) Receipt, error)) {
	o.policy, o.sink = policy, sink
}

//lint:ignore U1000 for what the module exports
func (o *offer) configure(config JSON) (err error) {
	if o.policy != nil {
		o.decide, err = o.policy(config)
	}
	if o.sink != nil {
		o.deliver, err = o.sink(config)
	}
	return err
}
