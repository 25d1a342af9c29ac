package check

import (
	"context"
	"time"
)

// How long a finding waits for what is under way, and how often it asks.
const (
	patience  = time.Second
	firstWait = 2 * time.Millisecond
	longest   = 50 * time.Millisecond
)

// sure is how often something has to look wrong while nothing is under way for it.
const sure = 2

// Confirm looks at a thing, and returns what is wrong with it. Rows and folders are read
// one after the other, so that an operation under way looks like damage: what looks
// wrong is looked at again, until it did so twice while nothing changed it.
//
// State tells whether nothing is under way for the thing, and what it is like, by a value
// that differs once something was. Look reads the thing anew each time. A thing that is
// changed all the time is not told of: the next check does.
func Confirm[S comparable](ctx context.Context, state func() (is S, quiet bool), look func() (*Finding, error)) (*Finding, error) {
	found, err := look()
	if found == nil || err != nil {
		return nil, err
	}
	pause, seen := firstWait, 0
	for end := time.Now().Add(patience); ; {
		before, quiet := state()
		if quiet {
			if found, err = look(); found == nil || err != nil {
				return nil, err
			}
			if after, still := state(); still && after == before {
				if seen++; seen == sure {
					return found, nil
				}
				continue
			}
		}
		if seen = 0; time.Now().After(end) {
			return nil, nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
		}
		pause = min(2*pause, longest)
	}
}
