package audit

import (
	"slices"
	"strings"
	"time"
)

// recentCalls is how many calls of a sink the percentiles look back on.
const recentCalls = 512

// figures are what is counted of a sink. Its progress holds them.
type figures struct {
	calls, errors, rows int64
	last                string
	lastAt              time.Time
	times               [recentCalls]time.Duration
	filled, next        int
}

// SinkFigures are how a sink has done since the server started. A call is a batch that
// it was given.
type SinkFigures struct {
	Calls, Errors int64
	Rows          int64 // it has gone past: taken, or left out by its own filters
	P50, P99      time.Duration
	LastError     string
	LastErrorAt   time.Time
}

func (f *figures) called(took time.Duration) {
	f.calls++
	f.times[f.next] = took
	f.next = (f.next + 1) % recentCalls
	f.filled = min(f.filled+1, recentCalls)
}

func (f *figures) failed(err error) {
	f.errors++
	f.last, f.lastAt = err.Error(), time.Now().UTC().Truncate(time.Microsecond)
}

// SinkFigures returns how the sink has done, false if none has the name.
func (f *Followers) SinkFigures(name string) (out SinkFigures, ok bool) {
	p := f.sink(name)
	if p == nil {
		return out, false
	}
	p.mu.Lock()
	in := p.figures
	p.mu.Unlock()
	out = SinkFigures{Calls: in.calls, Errors: in.errors, Rows: in.rows, LastError: in.last, LastErrorAt: in.lastAt}
	if n := in.filled; n > 0 {
		times := in.times[:n]
		slices.Sort(times)
		out.P50, out.P99 = times[n/2], times[n*99/100]
	}
	return out, true
}

// sink returns the progress of a sink, nil if none has the name.
func (f *Followers) sink(name string) *progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.all[name]; p != nil && p.sink {
		return p
	}
	return nil
}

// Sinks returns the names of the sinks that were started.
func (f *Followers) Sinks() (names []string) {
	f.each(func(p *progress) {
		if p.sink {
			names = append(names, p.name)
		}
	})
	return names
}

// Names returns the names of all that follow the log, or will once the server starts.
func (f *Followers) Names() []string {
	names := slices.Clone(f.Declared)
	f.each(func(p *progress) { names = append(names, p.name) })
	slices.SortFunc(names, strings.Compare)
	return slices.Compact(names)
}
