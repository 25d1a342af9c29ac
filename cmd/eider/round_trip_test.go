package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
)

// The script compares by itself: a CSV file comes out as Parquet, and what comes
// in from that again is the same.
func TestTheRoundTripOfTheDocsComesBackTheSame(t *testing.T) {
	t.Parallel()
	s := apptest.Start(t, t.TempDir(), app.Options{Modules: modules(), Version: "test"}, nil)
	script := exec.Command("../../docs/round-trip.sh")
	script.Env = append(os.Environ(), "URL="+s.URL, "KEY="+s.Root)
	said, err := script.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for _, line := range []string{"imported rows: 300", "exported rows: 300", "rows that differ: 0"} {
		if !strings.Contains(string(said), line+"\n") {
			t.Errorf("it said\n%s", said)
		}
	}
}
