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
	// Archive goes with neither of them: archives are walked whole.
	Archive bool `query:"archive" json:"-" doc:"Also the rows that were archived, from the first of all on"`
}

// verify walks the chain, and compares it with the checkpoints that are kept
// outside the database.
func (a *Audit) verify(ctx context.Context, v *operation.View, in verifyOperations) (audit.Verification, error) {
	if in.To != 0 && in.To < in.From {
		return audit.Verification{}, eider.Invalid("to", "must not be before from")
	}
	if in.Archive && (in.From != 0 || in.To != 0) {
		return audit.Verification{}, eider.Invalid("archive", "cannot be used together with from or to")
	}
	kept, err := audit.Checkpoints(a.dir, a.signer)
	if err != nil {
		return audit.Verification{}, err
	}
	var found audit.Verification
	if in.Archive {
		found, err = audit.VerifyArchive(ctx, v, a.archive, a.signer, kept)
	} else {
		found, err = audit.Verify(ctx, v, in.From, in.To, kept)
	}
	found.Unproven = !a.log.Proven()
	return found, err
}
