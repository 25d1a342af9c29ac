package audit

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// A sink that fails is dead after two minutes, also one that has asked not to be tried
// again so soon, and until it takes a batch.
func TestSinkThatFailsForTwoMinutesIsDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, log := &progress{sink: true}, slog.New(slog.DiscardHandler)
		later := &NotTaken{First: 1, Last: 1, After: time.Hour, Err: errors.New("later")}
		if pause := p.fail(later, log); pause != maxRetryAfter || p.dead() {
			t.Errorf("a first failure: %v, dead: %v", pause, p.dead())
		}
		time.Sleep(deadWithin - time.Second)
		if p.dead() {
			t.Error("it is dead before two minutes")
		}
		time.Sleep(time.Second)
		if !p.dead() {
			t.Error("it is not dead after two minutes")
		}
		p.fail(later, log)
		if stuck := p.stuck; stuck.IsZero() || !p.dead() {
			t.Errorf("it fails again: stuck since %v", stuck)
		}
		p.succeed()
		p.fail(later, log)
		if p.dead() {
			t.Error("it is dead of what was before its last success")
		}
		if p.fail(ErrPaused, log); p.dead() {
			t.Error("it is dead while it is off")
		}
	})
}
