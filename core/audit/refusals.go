package audit

import (
	"net/netip"
	"sync"
	"time"

	"github.com/eiderdb/eider"
)

// A caller that is refused again and again must not buy a durable write each
// time, so equal refusals beyond these bounds are counted and become one row a
// minute.
const (
	refusalWindow   = time.Minute
	refusalsPerKey  = 10   // equal refusals a minute that get a row each
	anonymousPerKey = 1    // rows a minute for an anonymous caller, by address
	refusalSources  = 4096 // distinct keys a minute; the rest share one
)

// Refusals decides which refusals get a row of their own.
type Refusals struct {
	now func() time.Time

	mu    sync.Mutex
	since time.Time
	// Anonymous callers have a map of their own: a flood from many addresses must
	// not push the refusals of those who have a key into a shared row.
	anonymous, known map[refusalKey]*refusalCount
}

type refusalKey struct {
	actor, operation, code string
}

type refusalCount struct {
	rows   int64 // that were written
	unsaid int64 // counted since, told when the minute ends
	sample Row   // what those that were counted have in common
}

// NewRefusals returns a counter with nothing counted.
func NewRefusals() *Refusals {
	return &Refusals{now: time.Now, anonymous: map[refusalKey]*refusalCount{}, known: map[refusalKey]*refusalCount{}}
}

// Admit reports whether the refusal gets a row now. If not, it is counted.
func (c *Refusals) Admit(r Row) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen, key, bound := c.known, keyOf(&r), int64(refusalsPerKey)
	if r.ActorType == eider.ActorAnonymous {
		seen, bound = c.anonymous, anonymousPerKey
	}
	count := seen[key]
	if count == nil {
		if len(seen) >= refusalSources {
			key = refusalKey{code: r.Code}
		}
		if count = seen[key]; count == nil {
			count = &refusalCount{}
			seen[key] = count
		}
	}
	if count.rows < bound {
		count.rows++
		return true
	}
	count.add(r)
	return false
}

func keyOf(r *Row) refusalKey {
	if r.ActorType == eider.ActorAnonymous {
		return refusalKey{Network(r.SourceIP), "", r.Code}
	}
	return refusalKey{string(r.ActorType) + " " + r.ActorID, r.Operation, r.Code}
}

// add counts a refusal, and takes from the sample what is not true of all.
func (c *refusalCount) add(r Row) {
	if r.ActorType == eider.ActorAnonymous {
		r.SourceIP = Network(r.SourceIP)
	}
	c.unsaid++
	if c.unsaid == 1 {
		c.sample = r
		return
	}
	s := &c.sample
	for _, f := range []struct {
		field *string
		value string
	}{
		{&s.CallID, r.CallID}, {&s.RequestID, r.RequestID}, {&s.TraceID, r.TraceID},
		{(*string)(&s.ActorType), string(r.ActorType)}, {&s.ActorID, r.ActorID}, {&s.ActorName, r.ActorName}, {&s.SourceIP, r.SourceIP},
		{&s.ProjectID, r.ProjectID}, {&s.ProjectUID, r.ProjectUID},
		{&s.Operation, r.Operation}, {&s.ResourceType, r.ResourceType}, {&s.ResourceID, r.ResourceID},
		{&s.Details, r.Details}, {&s.Error, r.Error}, {&s.Decision, r.Decision},
	} {
		if *f.field != f.value {
			*f.field = ""
		}
	}
	s.Duration = 0
}

// row returns the row for what was counted.
func (c *refusalCount) row() Row {
	r := c.sample
	r.Count = c.unsaid
	if r.Operation == "" { // of several
		r.Operation = "refusals"
	}
	return r
}

// Network returns the address that stands for a source: itself, or its /64 for
// IPv6, of which one host may own all.
func Network(ip string) string {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return ip
	}
	if addr = addr.Unmap(); addr.Is4() {
		return addr.String()
	}
	prefix, err := addr.Prefix(64)
	if err != nil {
		return ip
	}
	return prefix.String()
}

// Due returns the rows for what was counted, once a minute or when last is set,
// and begins to count anew. An address that goes on keeps its count: the row for
// the minute that has ended is also its one row of the minute that begins.
func (c *Refusals) Due(last bool) []Row {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if c.since.IsZero() {
		c.since = now
	}
	if !last && now.Sub(c.since) < refusalWindow {
		return nil
	}
	c.since = now
	var rows []Row
	goOn := map[refusalKey]*refusalCount{}
	for key, count := range c.anonymous {
		if count.unsaid > 0 {
			rows = append(rows, count.row())
			goOn[key] = &refusalCount{rows: anonymousPerKey}
		}
	}
	for _, count := range c.known {
		if count.unsaid > 0 {
			rows = append(rows, count.row())
		}
	}
	c.anonymous, c.known = goOn, map[refusalKey]*refusalCount{}
	return rows
}
