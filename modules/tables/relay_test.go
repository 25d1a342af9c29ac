package tables

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/projectdb/wire"
)

// The time of a statement runs only while it computes, and one that is begun again
// has no more than was left.
func TestTimeOfAStatementIsThatWhichItComputes(t *testing.T) {
	f, p := module(t)
	r := newRelay(t.Context(), time.Hour, 2*time.Millisecond)
	if r.rest() != 2*time.Millisecond {
		t.Errorf("before it began %v are left", r.rest())
	}
	must(t, f.databases.Do(t.Context(), p, wire.Request{Op: "ping"}, nil)) // which takes longer than that
	if err := r.ctx.Err(); err != nil {
		t.Errorf("before it began it is over: %v", err)
	}
	r.resume()
	<-r.ctx.Done()
	if !errors.Is(context.Cause(r.ctx), errTimeout) {
		t.Errorf("it is over because of %v", context.Cause(r.ctx))
	}
	again := newRelay(t.Context(), time.Hour, time.Minute)
	again.resume()
	again.pause()
	if left := again.rest(); left >= time.Minute || left <= 0 {
		t.Errorf("%v are left", left)
	}
}
