package projectdb

import (
	"testing"
	"time"

	"github.com/eiderdb/eider"
)

func TestProjectIsDegradedWhileItsWorkersKeepDying(t *testing.T) {
	told := eider.Errorf(eider.ProjectRestarted, "restarted")
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	i, now := &illness{}, start
	for n := 1; n <= degradedAfter; n++ {
		if i.degraded(now) {
			t.Fatalf("degraded after %d deaths", n-1)
		}
		i.died(now, "it died", told)
		now = now.Add(time.Second)
	}
	if !i.degraded(now) || i.over(now) {
		t.Error("not degraded")
	}
	// Nothing has worked since: time alone does not heal.
	if later := now.Add(time.Hour); !i.degraded(later) || i.over(later) {
		t.Error("healed by time alone")
	}
	i.worked()
	if !i.degraded(now) {
		t.Error("healed by one statement")
	}
	if left, err := i.pause(now); left != 0 || err != nil {
		t.Errorf("a project that works waits %v: %v", left, err)
	}
	if later := now.Add(degradedWithin); i.degraded(later) || !i.over(later) {
		t.Error("not healed by work and time")
	}
}

func TestPausesBetweenDeathsGrowAndAreTold(t *testing.T) {
	told := eider.Errorf(eider.StorageUnavailable, "the file is damaged")
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	i, before := &illness{}, time.Duration(0)
	for n := range 20 {
		i.died(now, "the file is damaged", told)
		left, err := i.pause(now)
		switch {
		case n+1 < degradedAfter && left != 0:
			t.Fatalf("death %d costs %v", n+1, left)
		case left < before || left > longestPause:
			t.Fatalf("a pause of %v after one of %v", left, before)
		case left > waitAtMost && (eider.CodeOf(err) != eider.StorageUnavailable || err.(*eider.Error).RetryAfter != left):
			t.Fatalf("a pause of %v is told as %v", left, err)
		case left <= waitAtMost && err != nil:
			t.Fatalf("a pause of %v is refused: %v", left, err)
		}
		before = left
	}
	if before != longestPause {
		t.Errorf("the longest pause is %v", before)
	}
}
