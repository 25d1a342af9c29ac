package files

import (
	"context"
	"strings"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/blob"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/usage"
)

type registerFile struct {
	projectPath
	UploadKey string            `json:"upload_key" required:"true" minLength:"1"`
	Name      *string           `json:"name,omitempty" doc:"The filename that was announced if absent"`
	Tags      map[string]string `json:"tags,omitempty" doc:"Those that were announced if absent"`
}

// register makes a file of an upload. Its bytes stay where they are.
func (f *Files) register(ctx context.Context, tx *operation.Tx, in registerFile) (eider.File, error) {
	call := operation.From(ctx)
	s, err := f.find(ctx, tx, in.UploadKey)
	if err != nil {
		return eider.File{}, err
	}
	if tx.MustBeFree(uploadResource(s.ID)) != nil {
		return eider.File{}, eider.Errorf(eider.UploadInProgress, "a request uploads this file now")
	}
	if !s.Uploaded {
		return eider.File{}, eider.Errorf(eider.FileNotUploaded, "the upload is not complete")
	}
	if in.Name != nil {
		s.Name = *in.Name
	}
	if in.Tags != nil {
		s.Tags = in.Tags
	}
	if err := f.sessions.Delete(ctx, tx, s.ID); err != nil {
		return eider.File{}, err
	}
	if err := f.settle(ctx, tx, s.ID); err != nil {
		return eider.File{}, err
	}
	call.Resource(s.ID)
	s.ExpiresAt = nil // that was the upload's
	return f.keep(ctx, tx, s.row)
}

// keep stages the row of a file whose bytes are whole.
func (f *Files) keep(ctx context.Context, tx *operation.Tx, r row) (eider.File, error) {
	if err := checkFile(&r.File, "name"); err != nil {
		return eider.File{}, err
	}
	call := operation.From(ctx)
	r.CreatedAt, r.Path = now(), blob.Path(r.key())
	call.Detail("name", r.Name)
	call.Detail("size_bytes", r.SizeBytes)
	call.Detail("checksum_sha256", r.ChecksumSHA256)
	if err := f.usage.Add(ctx, tx, r.ProjectUID, usage.Amounts{Files: 1, Bytes: r.SizeBytes}); err != nil {
		return eider.File{}, err
	}
	f.changed(tx, r.ID)
	return r.File, f.rows.Insert(tx, r)
}

// putFile is an upload and its registration in one request.
type putFile struct {
	projectPath
	Name           string   `query:"name" json:"-" required:"true" doc:"Upload the body, raw, and keep it as a file of this name; its Content-Type is the file's"`
	ContentType    string   `header:"Content-Type" json:"-"`
	ChecksumSHA256 string   `query:"checksum_sha256" json:"-" doc:"Hexadecimal; the file is refused if its bytes have another"`
	Tag            []string `query:"tag" json:"-" doc:"name:value, repeatable"`
	Digest         string   `header:"Content-Digest" json:"-" doc:"sha-256 of the body (RFC 9530), checked"`
	ContentRange   string   `header:"Content-Range" json:"-" doc:"Refused: an upload in parts has to be prepared"`
}

// putPlan is what a one-step upload makes.
type putPlan struct {
	Row    row    `json:"row"`
	SHA256 string `json:"sha256,omitempty"`

	upload uploadPlan
}

func (p *putPlan) key() blob.Key { return p.Row.key() }

func claimPut(plan *putPlan) []metadata.Claim {
	return []metadata.Claim{{Resource: uploadResource(plan.Row.ID), Exclusive: true}, {Resource: operation.ProjectResource(plan.Row.ProjectUID)}}
}

// addsBody is what a body of known length adds.
func addsBody(c *operation.Call, _ any) usage.Amounts {
	return usage.Amounts{Files: 1, Bytes: max(c.Length, 0)}
}

func (f *Files) beginPut(ctx context.Context, _ *operation.Tx, in putFile) (*putPlan, error) {
	call := operation.From(ctx)
	tags, err := parseTags(in.Tag)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(strings.ToLower(in.ContentType), "multipart/form-data") {
		return nil, eider.Errorf(eider.UnsupportedMediaType, "the body must be the raw bytes; a form is for an upload that was prepared")
	}
	if in.ContentRange != "" { // a part must not become the whole
		return nil, eider.Invalid("Content-Range", "must be absent: an upload in parts has to be prepared")
	}
	plan := &putPlan{SHA256: strings.ToLower(in.ChecksumSHA256), Row: row{
		ProjectUID: call.Project.UID, Blob: newID(),
		File: eider.File{ID: newID(), ProjectID: call.Project.ID, Name: in.Name, ContentType: in.ContentType, CreatedAt: now(), Tags: tags},
	}}
	call.Resource(plan.Row.ID)
	if err := checkSHA256(plan.SHA256); err != nil {
		return nil, err
	}
	if call.Length > int64(f.settings.MaxSize) {
		return nil, f.tooLarge()
	}
	if plan.upload.digest, err = sha256Digest(in.Digest); err != nil {
		return nil, err
	}
	return plan, checkFile(&plan.Row.File, "name")
}

// put receives the bytes. Nothing of it is kept if it fails.
func (f *Files) put(ctx context.Context, plan *putPlan) error {
	plan.upload.Session, plan.upload.Blob, plan.upload.Total = plan.Row.ID, plan.key(), -1
	plan.upload.once = true
	plan.upload.about = func(sums blob.Sums, whole bool) any {
		if !whole { // it cannot be resumed
			return nil
		}
		return describe(plan.Row, sums, 0)
	}
	plan.upload.Limit, plan.upload.SHA256 = int64(f.settings.MaxSize), plan.SHA256
	return f.receive(ctx, &plan.upload)
}

func (f *Files) isPut(_ context.Context, plan *putPlan) (whole bool, err error) {
	plan.upload.sums, whole, err = f.blobs.Settle(plan.key())
	return whole, err
}

func (f *Files) unput(_ context.Context, plan *putPlan) error { return f.blobs.Remove(plan.key()) }

func (f *Files) registerPut(ctx context.Context, tx *operation.Tx, plan *putPlan) (eider.File, error) {
	if err := operation.From(ctx).StillMay(ctx, tx); err != nil {
		return eider.File{}, err
	}
	r := plan.Row
	r.SizeBytes, r.ChecksumMD5, r.ChecksumSHA256 = plan.upload.sums.Size, plan.upload.sums.MD5, plan.upload.sums.SHA256
	return f.keep(ctx, tx, r)
}
