// Package check is what modules bring to recovery: how to find what is not as the
// register says, how to put it right, and how to make the register again from what
// stands in the folders.
//
// Each module knows its own rows and its own folders. Whoever asks them all, and
// tells people, knows neither: a finding carries the operation that repairs it.
package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// Kind says what is wrong.
type Kind string

// The kinds of finding.
const (
	MissingDatabase  Kind = "missing_database"
	OrphanDatabase   Kind = "orphan_database"
	MissingFile      Kind = "missing_file"
	OrphanFile       Kind = "orphan_file"
	SizeDrift        Kind = "size_drift"
	ChecksumMismatch Kind = "checksum_mismatch"
	StuckOperation   Kind = "stuck_operation"
	CounterDrift     Kind = "counter_drift"
)

// Kinds lists them all, in the order of reports.
var Kinds = []Kind{MissingDatabase, OrphanDatabase, MissingFile, OrphanFile, SizeDrift, ChecksumMismatch, StuckOperation, CounterDrift}

// Severity says how bad it is.
type Severity string

// An error is something lost or wrong; a warning is something that is in the way, or
// a figure that is not exact.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Finding is one thing that is not as the register says.
type Finding struct {
	Kind     Kind     `json:"kind" enum:"missing_database,orphan_database,missing_file,orphan_file,size_drift,checksum_mismatch,stuck_operation,counter_drift"`
	Severity Severity `json:"severity" enum:"error,warning"`
	Resource string   `json:"resource"`
	Detail   string   `json:"detail"`
	Repair   string   `json:"repair" doc:"What a repair does, or what people have to do"`

	// Fix runs the operation that puts it right; nil where only people can.
	Fix func(context.Context) error `json:"-"`
}

// Scope says how closely to look.
type Scope struct {
	// Deep also opens every database and reads every byte.
	Deep bool
	// Pace bounds how fast bytes are read; nil does not.
	Pace *Pace
}

// Source is what a module brings.
type Source struct {
	Name string
	// Find tells what is not as the register says. Tell is safe for use by several
	// goroutines.
	Find func(ctx context.Context, s Scope, tell func(Finding)) error
	// Rebuild makes the module's rows again; nil where it has none that the folders
	// tell of.
	Rebuild func(ctx context.Context, r *Rebuild) error
	// Stored visits the files of the module's rows, for a backup; nil where it has none.
	Stored func(ctx context.Context, visit func(Stored) error) error
}

// Stored is a file that a row has, whole, and that never changes.
type Stored struct {
	Path   string // relative to the data folder
	Size   int64
	SHA256 string
	Intact bool // nothing is known against it
	// Sidecar is what stands beside it, under its name with .json behind it.
	Sidecar []byte
	// Has reports whether a row has it now.
	Has func(context.Context) bool
	// Found tells the module what reading it again has found.
	Found func(intact bool)
}

// Report is what was found.
type Report struct {
	Consistent bool      `json:"consistent"`
	CheckedAt  time.Time `json:"checked_at"`
	Findings   []Finding `json:"findings"`
}

// Find asks all sources and sorts what they tell by kind, within one as they told
// it.
func Find(ctx context.Context, sources []Source, s Scope) (Report, error) {
	report := Report{CheckedAt: time.Now().UTC().Truncate(time.Microsecond), Findings: []Finding{}}
	var mu sync.Mutex
	tell := func(f Finding) {
		mu.Lock()
		defer mu.Unlock()
		report.Findings = append(report.Findings, f)
	}
	var failed []error
	for _, source := range sources {
		if source.Find == nil {
			continue
		}
		if err := source.Find(ctx, s, tell); err != nil {
			failed = append(failed, fmt.Errorf("check %s: %w", source.Name, err))
		}
	}
	order := func(f Finding) int { return slices.Index(Kinds, f.Kind) }
	slices.SortStableFunc(report.Findings, func(a, b Finding) int { return cmp.Compare(order(a), order(b)) })
	report.Consistent = len(report.Findings) == 0
	return report, errors.Join(failed...)
}

// Pace bounds how many bytes a second are read, over all who share it.
type Pace struct {
	perSecond int64

	mu   sync.Mutex
	next time.Time // when the bytes that were granted so far are used up
}

// NewPace returns a pace of so many bytes a second; 0 does not bound.
func NewPace(perSecond int64) *Pace { return &Pace{perSecond: perSecond} }

// Wait returns when n more bytes may be read, or with ctx's error.
func (p *Pace) Wait(ctx context.Context, n int64) error {
	if p == nil || p.perSecond <= 0 {
		return ctx.Err()
	}
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	wait := p.next.Sub(now)
	p.next = p.next.Add(time.Duration(float64(n) / float64(p.perSecond) * float64(time.Second)))
	p.mu.Unlock()
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// readStep is how much is read between two looks at the pace, in bytes.
const readStep = 1 << 20

// Copy reads r to its end at the pace, into w.
func (p *Pace) Copy(ctx context.Context, w io.Writer, r io.Reader) (n int64, err error) {
	for {
		if err := p.Wait(ctx, readStep); err != nil {
			return n, err
		}
		read, err := io.CopyN(w, r, readStep)
		n += read
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}
