package files

import (
	"context"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/operation"
)

type lastVerified struct {
	FileID     string     `json:"file_id"`
	SHA256     string     `json:"checksum_sha256" doc:"That it is compared with"`
	VerifiedAt *time.Time `json:"verified_at" doc:"null: not since it was registered, when its checksum was computed"`
	Intact     *bool      `json:"intact" doc:"Whether its bytes were then those that were registered"`
}

// verification tells when somebody last looked whether the bytes are what they were.
func (f *Files) verification(ctx context.Context, v *operation.View, in filePath) (lastVerified, error) {
	found, err := f.lookup(ctx, v, in.File)
	if err != nil {
		return lastVerified{}, err
	}
	out := lastVerified{FileID: found.ID, SHA256: found.ChecksumSHA256}
	word, err := f.verified.Get(ctx, v, found.ID)
	switch {
	case eider.CodeOf(err) == eider.FileNotFound:
		return out, nil
	case err != nil:
		return out, err
	}
	at := word.VerifiedAt.UTC()
	out.VerifiedAt, out.Intact = &at, &word.Intact
	return out, nil
}
