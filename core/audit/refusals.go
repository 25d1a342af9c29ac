package audit

import (
	"net/netip"
	"sync"
	"time"
)

// A caller that is refused again and again must not buy a durable write each
// time, so equal refusals beyond these bounds are counted and become one row a
// minute.
const (
	refusalWindow   = time.Minute
	refusalsPerKey  = 10   // equal refusals a minute that get a row each
	anonymousPerKey = 1    // the same for anonymous callers, by address
	refusalSources  = 4096 // distinct keys a minute; the rest share one
)

// Refusals decides which refusals get a row of their own.
type Refusals struct {
	now func() time.Time

	mu    sync.Mutex
	since time.Time
	seen  map[refusalKey]*refusalCount
}

type refusalKey struct {
	actor, operation, code string
}

type refusalCount struct {
	rows   int64 // that were written
	unsaid int64 // counted since, told when the minute ends
	sample Row
}

// NewRefusals returns a counter with nothing counted.
func NewRefusals() *Refusals {
	return &Refusals{now: time.Now, seen: map[refusalKey]*refusalCount{}}
}

// Admit reports whether the refusal gets a row now. If not, it is counted.
func (c *Refusals) Admit(r Row) bool {
	key, bound := keyOf(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	count := c.seen[key]
	if count == nil {
		if len(c.seen) >= refusalSources {
			key = refusalKey{"", "", r.Code}
			r.SourceIP, r.ActorID, r.ActorName, r.Operation = "", "", "", "refusals"
		}
		if count = c.seen[key]; count == nil {
			count = &refusalCount{sample: r}
			c.seen[key] = count
		}
	}
	if count.rows < bound {
		count.rows++
		return true
	}
	count.unsaid++
	return false
}

func keyOf(r Row) (refusalKey, int64) {
	if r.ActorType == "anonymous" {
		return refusalKey{"anonymous " + Network(r.SourceIP), "", r.Code}, anonymousPerKey
	}
	return refusalKey{string(r.ActorType) + " " + r.ActorID, r.Operation, r.Code}, refusalsPerKey
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
// and begins to count anew.
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
	for _, count := range c.seen {
		if count.unsaid > 0 {
			r := count.sample
			r.Count = count.unsaid
			if r.ActorType == "anonymous" {
				r.SourceIP = Network(r.SourceIP)
			}
			rows = append(rows, r)
		}
	}
	c.seen = map[refusalKey]*refusalCount{}
	return rows
}
