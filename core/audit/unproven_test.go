package audit_test

import (
	"testing"

	"github.com/eiderdb/eider/core/audit"
)

func TestVerifyCountsTheCheckpointsThatItCompared(t *testing.T) {
	r := begin(t)
	sealed := r.stage(rows(10)...)
	signed := func(id int64) audit.Checkpoint {
		row := sealed[id-1]
		return r.signer.Sign(audit.Head{ID: row.ID, Hash: row.Hash, Time: row.Time})
	}
	for _, c := range []struct{ from, to, want int64 }{{0, 0, 2}, {4, 0, 1}, {4, 9, 0}} {
		v, err := audit.Verify(t.Context(), r.store.View(), c.from, c.to, []audit.Checkpoint{signed(10), signed(3), signed(10)})
		must(t, err)
		if !v.Verified || v.Checkpoints != c.want {
			t.Errorf("of rows %d to %d it compared %d, want %d", c.from, c.to, v.Checkpoints, c.want)
		}
	}
}
