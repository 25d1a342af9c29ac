package files

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/blob"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
)

func (f *Files) declareVerify(r *core.Registry) {
	operation.Effect(r.Operations, operation.Spec{
		Name: "verify_file", Route: "POST " + base + "/{file}/verify", Role: eider.ProjectRead, Target: "file", Locked: true, Frees: true,
		Slow: true, Async: true, Summary: "Read a file again and compare its checksum",
		Description: "Finds what a disk has lost. Prefer: respond-async makes it a job.",
		Errors:      []eider.Code{eider.FileNotFound, eider.FileContentNotFound, eider.ChecksumMismatch},
	}, operation.Steps[filePath, *verifyPlan, verifiedFile]{
		Intent: f.beginVerify, Claims: claimVerify, Effect: f.readAgain,
		Applied: func(context.Context, *verifyPlan) (bool, error) { return false, nil }, // nothing is left of it
		Undo:    func(context.Context, *verifyPlan) error { return nil },
		Outcome: func(_ context.Context, _ *operation.Tx, plan *verifyPlan) (verifiedFile, error) {
			return verifiedFile{plan.File, plan.Size, plan.SHA256, true}, nil
		},
		Revert: func(context.Context, *operation.Tx, *verifyPlan) error { return nil },
	})
}

type verifyPlan struct {
	File   string   `json:"file"`
	Blob   blob.Key `json:"blob"`
	Size   int64    `json:"size_bytes"`
	SHA256 string   `json:"checksum_sha256"`
}

type verifiedFile struct {
	ID             string `json:"id"`
	SizeBytes      int64  `json:"size_bytes"`
	ChecksumSHA256 string `json:"checksum_sha256"`
	Verified       bool   `json:"verified"`
}

// claimVerify keeps the file from being deleted meanwhile.
func claimVerify(plan *verifyPlan) []metadata.Claim {
	return []metadata.Claim{{Resource: fileResource(plan.File)}, {Resource: operation.ProjectResource(plan.Blob.Project)}}
}

func (f *Files) beginVerify(ctx context.Context, tx *operation.Tx, in filePath) (*verifyPlan, error) {
	found, err := f.lookup(ctx, tx, in.File)
	return &verifyPlan{found.ID, found.key(), found.SizeBytes, found.ChecksumSHA256}, err
}

// readStep is how much is read between two looks at the context, in bytes.
const readStep = 1 << 20

func (f *Files) readAgain(ctx context.Context, plan *verifyPlan) error {
	file, err := f.blobs.Open(plan.Blob)
	if err != nil {
		return missing(err)
	}
	defer file.Close()
	sum := sha256.New()
	read := int64(0)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.CopyN(sum, file, readStep)
		read += n
		operation.From(ctx).Progress(float64(read)/float64(max(plan.Size, 1)), read)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return missing(err)
		}
	}
	if read != plan.Size || hex.EncodeToString(sum.Sum(nil)) != plan.SHA256 {
		return eider.Errorf(eider.ChecksumMismatch, "the file's bytes are not those that were registered")
	}
	return nil
}
