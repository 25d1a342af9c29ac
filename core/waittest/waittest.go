// Package waittest waits in tests for what comes by itself.
//
// It imports nothing of ours, so that the tests of any package may import it. Nothing is
// measured by it: a condition may take as long as a busy machine makes it.
package waittest

import (
	"testing"
	"time"
)

const patience = 3 * time.Minute

// Until waits until ok returns true, and ends the test if it never does. what says what
// is waited for.
func Until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came that %s", what)
		}
	}
}
