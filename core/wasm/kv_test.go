package wasm

import (
	"strconv"
	"testing"
	"time"
)

// A space that is full looks for what has expired once a second, not for each key that
// finds no room.
func TestAFullSpaceSeeksRoomOnceASecond(t *testing.T) {
	s := newSpace("x")
	now := time.UnixMilli(1764225600000)
	s.now = func() time.Time { return now }
	for n := range maxKeys {
		life := time.Duration(0)
		if n < 2 {
			life = time.Duration(1+n*100) * time.Millisecond
		}
		if code := s.set(strconv.Itoa(n), nil, life); code != 0 {
			t.Fatalf("key %d: %d", n, code)
		}
	}
	for n, c := range []struct {
		after time.Duration
		want  int64
		held  int
	}{
		{0, codeLimit, maxKeys}, {50 * time.Millisecond, codeLimit, maxKeys}, {time.Second, 0, maxKeys - 1}, {0, 0, maxKeys},
		{0, codeLimit, maxKeys},
	} {
		now = now.Add(c.after)
		if code := s.set("more "+strconv.Itoa(n), nil, 0); code != c.want || len(s.entries) != c.held {
			t.Errorf("%v later: %d with %d keys, want %d with %d", c.after, code, len(s.entries), c.want, c.held)
		}
	}
}
