package stats

import (
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
)

// An upload counts once, however many steps it takes.
func TestUploadsCountInOneStepAndInTwo(t *testing.T) {
	for _, c := range []struct {
		row  audit.Row
		want int64
	}{
		{audit.Row{Operation: "upload_file", Status: eider.StatusSuccess, IntentID: 3}, 1},
		{audit.Row{Operation: "register_file", Status: eider.StatusSuccess}, 0}, // of what was uploaded before
		{audit.Row{Operation: "register_file", Status: eider.StatusSuccess, IntentID: 3}, 1},
		{audit.Row{Operation: "register_file", Status: eider.StatusFailed, IntentID: 3}, 0},
		{audit.Row{Operation: "register_file", Status: eider.StatusInProgress}, 0},
	} {
		if got := countsOf(&c.row).Uploads; got != c.want {
			t.Errorf("%s %s of intent %d counts %d, want %d", c.row.Operation, c.row.Status, c.row.IntentID, got, c.want)
		}
	}
}
