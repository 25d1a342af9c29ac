package check

import (
	"context"
	"sync"

	"github.com/eiderdb/eider/core/metadata"
)

// Rebuild is the register being made again.
type Rebuild struct {
	// Commit keeps what stage stages, with a row of the log that says how many things
	// of the type it brings back. Details may be nil.
	Commit func(ctx context.Context, resource string, details any, stage func(*metadata.Tx) error) error
	// Workers is how many things to look at side by side.
	Workers int
	// Tell reports how far it is, for people.
	Tell func(what string, done, of int)

	mu     sync.Mutex
	counts map[string]int
	lost   []string
	newest int64
}

// Tells notes up to which row of the log that is lost a sidecar tells.
func (r *Rebuild) Tells(logID int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.newest = max(r.newest, logID)
}

// Newest returns the newest row of the lost log that any sidecar tells of.
func (r *Rebuild) Newest() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.newest
}

// Count adds to what the report says of the rebuild.
func (r *Rebuild) Count(what string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = map[string]int{}
	}
	r.counts[what] += n
}

// Lose names what could not be brought back, and why.
func (r *Rebuild) Lose(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost = append(r.lost, what)
}

// Result returns what was counted and what was lost.
func (r *Rebuild) Result() (counts map[string]int, lost []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts, r.lost
}
