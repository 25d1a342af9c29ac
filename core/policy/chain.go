package policy

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/eiderdb/eider"
	"github.com/google/uuid"
)

// Mode says what a policy's denial does.
type Mode string

// The modes of a policy.
const (
	Enforce Mode = "enforce"
	Warn    Mode = "warn"    // allowed, and the caller is told
	DryRun  Mode = "dry_run" // allowed, and only the log is told
	Off     Mode = "off"
)

// Item is a policy and how the operator wants it applied.
type Item struct {
	Name       string
	Version    string
	SHA256     string // of a hosted policy's module
	Policy     Policy
	Mode       Mode
	FailOpen   bool     // allow where the policy cannot decide; false denies
	Priority   int      // higher is asked first; equal ones by name
	Operations []string // globs of operation names; none means all
	Projects   []string // globs of project ids; none means all
	Percent    int      // of projects, by a hash of their uid; 0 means 100
}

func (i *Item) check() error {
	switch i.Mode {
	case Enforce, Warn, DryRun:
		if i.Policy == nil {
			return errors.New("there is no policy behind the name")
		}
	case Off:
	default:
		return fmt.Errorf("mode %q is none of enforce, warn, dry_run, off", i.Mode)
	}
	for _, glob := range slices.Concat(i.Operations, i.Projects) {
		if _, err := path.Match(glob, ""); err != nil {
			return fmt.Errorf("pattern %q: %w", glob, err)
		}
	}
	return nil
}

func (i *Item) concerns(q *Question) bool {
	if !matches(i.Operations, q.Operation) {
		return false
	}
	project := q.Makes
	if q.Project != nil {
		project = q.Project.ID
	}
	if len(i.Projects) > 0 && (project == "" || !matches(i.Projects, project)) {
		return false
	}
	if i.Percent == 0 || i.Percent >= 100 {
		return true
	}
	return q.Project != nil && share(i.Name, q.Project.UID) < uint32(i.Percent)
}

// share puts a project into one of a hundred parts, which are others for each
// policy: the same projects must not be the first to try everything.
func share(policy, uid string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(policy + "\x00" + uid)) // it cannot fail
	return h.Sum32() % 100
}

func matches(globs []string, name string) bool {
	for _, glob := range globs {
		if ok, err := path.Match(glob, name); ok && err == nil {
			return true
		}
	}
	return len(globs) == 0
}

// Chain is the policies in the order in which they are asked.
type Chain struct {
	items atomic.Pointer[[]Item]
	fixed []Item // those it was made with
	log   *slog.Logger
}

// NewChain returns the chain of the items, or an error that names what is wrong
// with one of them.
func NewChain(items []Item, log *slog.Logger) (*Chain, error) {
	c := &Chain{fixed: slices.Clone(items), log: log}
	return c, c.Replace(nil)
}

// Replace makes the chain ask those items, beside the ones it was made with.
// Questions that are being asked are asked to their end by those before.
func (c *Chain) Replace(items []Item) error {
	var ordered []Item
	for _, i := range slices.Concat(c.fixed, items) {
		if err := i.check(); err != nil {
			return fmt.Errorf("policy %s: %w", i.Name, err)
		}
		if i.Mode != Off {
			ordered = append(ordered, i)
		}
	}
	slices.SortStableFunc(ordered, func(a, b Item) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Name, b.Name))
	})
	c.items.Store(&ordered)
	return nil
}

// Verdict is what the chain decided, as the log row shows it.
type Verdict struct {
	Plugin     string `json:"plugin"`
	Version    string `json:"version,omitempty"`
	SHA256     string `json:"sha256,omitempty"`
	Mode       Mode   `json:"mode"`
	Outcome    string `json:"outcome"` // allow, deny, warn, would_deny, error
	Reason     string `json:"reason"`
	Fuel       int64  `json:"fuel,omitempty"`
	DecisionID string `json:"decision_id,omitempty"` // the same for all that one question was put to
}

// Outcome is the answer of a whole chain.
type Outcome struct {
	// Denial is the refusal for the caller, nil if the call may run.
	Denial *eider.Error
	// Verdicts are those of all policies that were asked, in that order.
	Verdicts []Verdict
	// Warnings are for the caller of an allowed call.
	Warnings []string
}

// JSON returns the verdicts as the log keeps them, "" if no policy was asked. The
// one that decided stands alone at the top, the others beside it: the denial, else
// the last that had something to say, else the last.
func (o *Outcome) JSON() string {
	if len(o.Verdicts) == 0 {
		return ""
	}
	top := len(o.Verdicts) - 1
	for i, v := range slices.Backward(o.Verdicts) {
		if v.Outcome != "allow" {
			top = i
			break
		}
	}
	others := slices.Delete(slices.Clone(o.Verdicts), top, top+1)
	for i := range others {
		others[i].DecisionID = ""
	}
	text, err := json.Marshal(struct {
		Verdict
		Others []Verdict `json:"others,omitempty"`
	}{o.Verdicts[top], others})
	if err != nil {
		return ""
	}
	return string(text)
}

// Len returns how many policies may be asked.
func (c *Chain) Len() int { return len(*c.items.Load()) }

// Items returns the policies in the order in which they are asked.
func (c *Chain) Items() []Item { return slices.Clone(*c.items.Load()) }

// Ask asks the policies that the question concerns, and stops at the first
// enforced denial. A policy that panics could not decide. If ctx ends, the
// question is refused, and a policy that does not mind is left behind: no mode
// and no word for failure makes an answer of a question that nobody waits for.
func (c *Chain) Ask(ctx context.Context, q *Question) Outcome {
	var o Outcome
	items := *c.items.Load()
	for i := range items {
		item := &items[i]
		if !item.concerns(q) {
			continue
		}
		d, err := item.ask(ctx, q)
		if ctx.Err() != nil {
			o.Denial = eider.Errorf(eider.Cancelled, "the request ended before policy %s had decided", item.Name).Because(ctx.Err())
			return o
		}
		if err != nil {
			c.log.WarnContext(ctx, "a policy could not decide", "policy", item.Name, "operation", q.Operation, "error", err)
			d = Decision{Deny: !item.FailOpen, Reason: "the policy could not decide", Fuel: d.Fuel, Version: d.Version, SHA256: d.SHA256}
			if u := Unable(""); errors.As(err, &u) {
				d.Reason += ": " + string(u)
			}
		}
		o.add(item, d, err != nil)
		if o.Denial != nil {
			break
		}
	}
	return o
}

// dryPatience is how long a call waits for a policy that can deny it nothing.
const dryPatience = 100 * time.Millisecond

func (i *Item) ask(ctx context.Context, q *Question) (Decision, error) {
	if i.Mode != DryRun {
		return i.decide(ctx, q)
	}
	ctx, cancel := context.WithTimeout(ctx, dryPatience)
	defer cancel()
	d, err := i.decide(ctx, q)
	if errors.Is(err, context.DeadlineExceeded) {
		err = Unable("it took too long")
	}
	return d, err
}

// decide asks the policy, and waits for its answer until ctx ends.
func (i *Item) decide(ctx context.Context, q *Question) (Decision, error) {
	type answer struct {
		Decision
		err error
	}
	answered := make(chan answer, 1) // so that one who was left behind can end
	own := *q
	go func() {
		a := answer{err: errors.New("the policy gave no answer")}
		defer func() {
			if v := recover(); v != nil {
				a = answer{err: fmt.Errorf("panic: %v\n%s", v, debug.Stack())}
			}
			answered <- a
		}()
		d, err := i.Policy.Decide(ctx, &own)
		a = answer{d, err}
	}()
	select {
	case a := <-answered:
		return a.Decision, a.err
	case <-ctx.Done():
		return Decision{}, ctx.Err()
	}
}

func (o *Outcome) add(item *Item, d Decision, failed bool) {
	if d.Spared {
		return
	}
	v := Verdict{
		Plugin: item.Name, Version: item.Version, SHA256: item.SHA256, Mode: item.Mode, Reason: d.Reason, Fuel: d.Fuel,
		DecisionID: o.id(),
	}
	if d.SHA256 != "" {
		v.Version, v.SHA256 = d.Version, d.SHA256
	}
	switch {
	case d.Deny && item.Mode == Enforce:
		v.Outcome = "deny"
		o.Denial = denial(v, d)
	case d.Deny && item.Mode == Warn:
		v.Outcome = "warn"
		o.Warnings = append(o.Warnings, item.Name+": "+d.Reason)
	case d.Deny:
		v.Outcome = "would_deny"
	case failed:
		v.Outcome = "error"
	case len(d.Warning) == 0:
		v.Outcome = "allow"
	default:
		v.Outcome = "warn"
		if v.Reason == "" {
			v.Reason = strings.Join(d.Warning, "; ")
		}
		if item.Mode != DryRun {
			o.Warnings = append(o.Warnings, d.Warning...)
		}
	}
	o.Verdicts = append(o.Verdicts, v)
}

// id returns the name of the decision, by which caller and log speak of the same.
func (o *Outcome) id() string {
	if len(o.Verdicts) > 0 {
		return o.Verdicts[0].DecisionID
	}
	return uuid.NewString()
}

// maxRetry is the longest time in seconds that a caller is told to wait: a year.
const maxRetry = 365 * 24 * 60 * 60

func denial(v Verdict, d Decision) *eider.Error {
	code := d.Code
	switch code {
	case eider.DeniedByPolicy, eider.RateLimited, eider.QuotaExceeded:
	default: // any other says something that a policy cannot know, or means an error of the server
		code = eider.DeniedByPolicy
	}
	e := eider.Errorf(code, "denied by policy %s", v.Plugin)
	if d.Reason != "" {
		e.Message += ": " + d.Reason
	}
	e.Plugin, e.Reason, e.DecisionID = v.Plugin, d.Reason, v.DecisionID
	e.RetryAfter = time.Duration(min(max(0, d.Retry), maxRetry)) * time.Second
	return e
}
