package audit

import (
	"context"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/operation"
)

type verifyOperations struct {
	From int64 `query:"from" json:"-" minimum:"0" doc:"First row; the first of all if absent"`
	To   int64 `query:"to" json:"-" minimum:"0" doc:"Last row; the newest if absent"`
}

// verify walks the chain, and compares it with the checkpoints that are kept
// outside the database.
func (a *Audit) verify(ctx context.Context, v *operation.View, in verifyOperations) (audit.Verification, error) {
	if in.To != 0 && in.To < in.From {
		return audit.Verification{}, eider.Invalid("to", "must not be before from")
	}
	kept, err := audit.Checkpoints(a.dir, a.signer)
	if err != nil {
		return audit.Verification{}, err
	}
	return audit.Verify(ctx, v, in.From, in.To, kept)
}
