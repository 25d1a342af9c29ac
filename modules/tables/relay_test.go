package tables

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/eiderdb/eider"
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

// A long row comes in pieces: after some of them the error is still a line.
func TestTheErrorAmongRowsIsALineOfItsOwn(t *testing.T) {
	const told = `{"error":{"code":"query_failed","message":"late"}}` + "\n"
	for sent, want := range map[string]string{"": told, "{}\n": "{}\n" + told, "{}\n{\"n\":\"a": "{}\n{\"n\":\"a\n" + told} {
		r := newRelay(t.Context(), time.Hour, time.Hour)
		go func() {
			defer close(r.done)
			r.data <- []byte(sent)
			r.err = eider.Errorf(eider.QueryFailed, "late")
		}()
		var got bytes.Buffer
		err := (&queryAnswer{relay: r, form: forms[1]}).write(t.Context(), &got)
		if eider.CodeOf(err) != eider.QueryFailed || got.String() != want {
			t.Errorf("%q, %v", got.String(), err)
		}
	}
}
