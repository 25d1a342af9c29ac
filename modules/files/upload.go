package files

import (
	"context"
	"errors"
	"io"
	"strconv"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/blob"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/schema"
	"github.com/eiderdb/eider/core/usage"
)

func (f *Files) declareUploads(r *core.Registry) {
	spec := operation.Spec{
		Name: "upload_file", Route: "PUT " + uploadPath, Role: eider.ProjectWrite, Target: "file", Streamed: true, Signed: true, Slow: true,
		Summary: "Upload bytes, raw",
		Description: "With Content-Range: bytes first-last/total the upload is resumed where Upload-Offset says; it is complete when " +
			"total bytes are there. bytes */total with an empty body completes an upload whose bytes are all there. Without Content-Range " +
			"the body is all of it, and replaces what was uploaded before; a complete upload stays until another is complete. The body's " +
			"Content-Type may be any: the file has the one that was announced.",
		Errors: []eider.Code{eider.UploadSessionNotFound, eider.UploadSessionMismatch, eider.UploadSessionExpired, eider.FileTooLarge,
			eider.ChecksumMismatch, eider.SizeMismatch, eider.UploadInProgress, eider.UploadOffsetConflict, eider.BodyIncomplete, eider.QuotaExceeded},
		Adds: f.adds, Accepts: []schema.Media{schema.Bytes(defaultType)}, Headers: offsetHeader,
	}
	steps := operation.Steps[uploadFile, *uploadPlan, uploadedFile]{
		Intent: f.begin, Claims: claimUpload, Effect: f.receive, Applied: f.isReceived,
		Undo:    f.stand, // what was saved can be resumed
		Outcome: f.received, Revert: f.interrupted,
	}
	operation.Effect(r.Operations, spec, steps)
	spec.ID, spec.Route, spec.Summary = formUpload, "POST "+uploadPath, "Upload bytes, as a form with the field file"
	spec.Description, spec.Accepts = "", []schema.Media{schema.Form("file")}
	operation.Effect(r.Operations, spec, steps)
	operation.Read(r.Operations, operation.Spec{
		Name: "get_upload", Route: "HEAD " + uploadPath, Role: eider.ProjectWrite, Target: "file", Signed: true, Status: 200,
		Summary: "Ask how far an upload is", Description: "Upload-Offset counts the bytes that are durable; an upload is resumed there.",
		Errors:  []eider.Code{eider.UploadSessionNotFound, eider.UploadSessionMismatch, eider.UploadSessionExpired},
		Headers: offsetHeader,
	}, f.offset)
}

// formUpload is the upload whose body is a form.
const formUpload = "upload_file_form"

type uploadFile struct {
	projectPath
	Key          string `path:"upload_key" json:"-"`
	ContentRange string `header:"Content-Range" json:"-" doc:"bytes first-last/total"`
	Digest       string `header:"Content-Digest" json:"-" doc:"sha-256 of the body (RFC 9530), checked"`
}

type uploadedFile struct {
	UploadKey      string `json:"upload_key"`
	StagingPath    string `json:"staging_path"`
	SizeBytes      int64  `json:"size_bytes" doc:"How many bytes are there"`
	Complete       bool   `json:"complete" doc:"Whether these are all"`
	ChecksumMD5    string `json:"checksum_md5" doc:"Empty until the upload is complete"`
	ChecksumSHA256 string `json:"checksum_sha256" doc:"Empty until the upload is complete"`
}

// Headers tells where the next part begins.
func (u uploadedFile) Headers() map[string]string {
	return map[string]string{"Upload-Offset": strconv.FormatInt(u.SizeBytes, 10)}
}

// uploadPlan is what one request adds to an upload.
type uploadPlan struct {
	Session string   `json:"session"`
	Blob    blob.Key `json:"blob"`
	From    int64    `json:"from"`
	Total   int64    `json:"total"` // -1: what the body brings
	Limit   int64    `json:"limit"` // the upload may not become longer
	SHA256  string   `json:"sha256,omitempty"`
	// Replaces is the upload that began before this one.
	Replaces string `json:"replaces,omitempty"`
	// Instead is the upload that is complete, and stays so until this one is.
	Instead string `json:"instead,omitempty"`

	Part bool `json:"part,omitempty"` // by Content-Range

	about blob.About

	once     bool      // cannot be resumed
	digest   string    // of the body, declared
	offset   int64     // once the effect is done
	complete bool      // whether that is all
	sums     blob.Sums // if it is
}

func claimUpload(plan *uploadPlan) []metadata.Claim {
	return []metadata.Claim{{Resource: uploadResource(plan.Session), Exclusive: true}, {Resource: operation.ProjectResource(plan.Blob.Project)}}
}

func uploadResource(id string) string { return "upload:" + id }

// adds is what the body adds to what the session has reserved already.
func (f *Files) adds(c *operation.Call, in any) usage.Amounts {
	u := in.(uploadFile)
	from := int64(0)
	if part, err := parseContentRange(u.ContentRange); err == nil && part != nil {
		from = part.first
	}
	return usage.Amounts{Bytes: max(0, from+max(c.Length, 0)-f.held(u.Key))}
}

// find returns the live session of the request.
func (f *Files) find(ctx context.Context, r metadata.Reader, id string) (session, error) {
	s, err := f.sessions.Get(ctx, r, id)
	if err != nil {
		return s, eider.Errorf(eider.UploadSessionNotFound, "there is no such upload").Because(err)
	}
	if s.ProjectUID != operation.From(ctx).Project.UID {
		return s, eider.Errorf(eider.UploadSessionMismatch, "this upload belongs to another project")
	}
	if s.expiredAt(now()) {
		return s, tooLate(s)
	}
	return s, nil
}

func tooLate(s session) error {
	return eider.Errorf(eider.UploadSessionExpired, "this upload expired at %s", s.ExpiresAt.Format("2006-01-02T15:04:05Z"))
}

// begin checks the request against the session.
func (f *Files) begin(ctx context.Context, tx *operation.Tx, in uploadFile) (*uploadPlan, error) {
	call := operation.From(ctx)
	call.Resource(in.Key)
	s, err := f.find(ctx, tx, in.Key)
	if err != nil {
		return nil, err
	}
	if tx.MustBeFree(uploadResource(s.ID)) != nil {
		return nil, eider.Errorf(eider.UploadInProgress, "another request uploads this file now")
	}
	plan := &uploadPlan{Session: s.ID, Blob: s.key(), Total: s.DeclaredSize, Limit: int64(f.settings.MaxSize), SHA256: s.DeclaredSHA256}
	plan.about = func(sums blob.Sums, whole bool) any {
		if !whole && plan.Instead != "" { // what is complete stands until this is
			return nil
		}
		return describe(s.row, sums, 0).staged(s, whole)
	}
	if plan.digest, err = sha256Digest(in.Digest); err != nil {
		return nil, err
	}
	if plan.digest != "" && isForm(call) { // it is the form's, and there is no end to read it to
		return nil, eider.Invalid("Content-Digest", "must be absent: of a form it cannot be checked")
	}
	part, err := parseContentRange(in.ContentRange)
	if err != nil {
		return nil, err
	}
	if part != nil {
		err = f.aimPart(plan, part, s, call.Length)
	} else {
		err = f.aimWhole(plan, fileLength(call))
	}
	if err != nil {
		return nil, err
	}
	if plan.From > 0 {
		return plan, nil
	}
	if s.Uploaded { // it was acknowledged: what comes now may be cut short, or wrong
		plan.Instead, s.Blob = s.Blob, newID()
		plan.Blob = s.key()
		return plan, nil
	}
	tx.After(func() { f.restart(s.ID) })
	plan.Replaces, s.Blob = s.Blob, newID()
	plan.Blob = s.key()
	return plan, f.sessions.Put(ctx, tx, s)
}

// fileLength returns the length of the file in the body, -1 if only the body
// tells.
func fileLength(call *operation.Call) int64 {
	if isForm(call) {
		return -1
	}
	return call.Length
}

// aimWhole is for a body that is all of the upload.
func (f *Files) aimWhole(plan *uploadPlan, length int64) error {
	if length > plan.Limit {
		return f.tooLarge()
	}
	if plan.Total >= 0 && length >= 0 && length != plan.Total {
		return eider.Errorf(eider.SizeMismatch, "the upload was announced with %d bytes, the body has %d", plan.Total, length)
	}
	return nil
}

// aimPart is for a body that is a part of the upload.
func (f *Files) aimPart(plan *uploadPlan, part *contentRange, s session, length int64) error {
	plan.Part = true
	if part.total >= 0 && plan.Total >= 0 && part.total != plan.Total {
		return eider.Errorf(eider.SizeMismatch, "the upload was announced with %d bytes", plan.Total)
	}
	if part.total >= 0 {
		plan.Total = part.total
	}
	if plan.Total > plan.Limit || part.last >= plan.Limit {
		return f.tooLarge()
	}
	if length >= 0 && length != part.last-part.first+1 {
		return eider.Invalid("Content-Range", "must be as long as the body")
	}
	if s.Uploaded && (part.first != 0 || plan.Total != part.last+1) {
		return eider.Errorf(eider.UploadOffsetConflict, "the upload is complete: only all of it can be sent again, in one request")
	}
	if at := f.standsAt(s); part.first != 0 && part.first != at {
		return eider.Errorf(eider.UploadOffsetConflict, "the next part begins at byte %d", at)
	}
	plan.From, plan.Limit = part.first, part.last+1
	return nil
}

// standsAt returns how many bytes of the upload are durable.
func (f *Files) standsAt(s session) int64 {
	if s.Uploaded {
		return s.SizeBytes
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if held := f.tickets[s.ID]; held != nil {
		return held.offset
	}
	return 0
}

// receive writes the body into the part. What was received is kept, however it
// ends, unless it can never become the upload that was announced.
func (f *Files) receive(ctx context.Context, plan *uploadPlan) error {
	if plan.Replaces != "" {
		if err := f.blobs.RemoveBatch(f.unregistered([]blob.Key{{Project: plan.Blob.Project, ID: plan.Replaces}})); err != nil {
			return disk.Refusal(err)
		}
	}
	u, err := f.blobs.Resume(plan.Blob)
	if err != nil {
		return disk.Refusal(err)
	}
	defer u.Close()
	u.Describe(plan.about)
	if u.Offset() != plan.From {
		return eider.Errorf(eider.UploadOffsetConflict, "the next part begins at byte %d", u.Offset())
	}
	err = f.copy(ctx, u, plan)
	plan.complete = err == nil && (!plan.Part || u.Offset() == plan.Total)
	if plan.complete {
		err = f.verify(u, plan)
	}
	if plan.complete && err == nil {
		plan.sums = u.Sums()
		err = u.Finish()
	}
	switch {
	case err == nil && plan.complete:
	case plan.once || plan.Instead != "": // what there is of it is undone
	case errors.Is(err, errUnkept):
		err = errors.Join(err, u.Drop())
	case errors.Is(err, errHopeless):
		err = errors.Join(err, f.blobs.Remove(plan.Blob))
	default:
		err = errors.Join(err, u.Keep())
	}
	plan.offset = u.Offset()
	return disk.Refusal(err)
}

// roomy is a body that is read while there is room for it. The disk may have been
// filled since it began, and by others.
type roomy struct {
	io.Reader
	space *disk.Space
}

func (r roomy) Read(p []byte) (int, error) {
	if r.space.Low() {
		return 0, eider.Errorf(eider.StorageFull, "the disk is nearly full; deletes go on")
	}
	return r.Reader.Read(p)
}

// stand finds out where an upload stands whose request failed or was cut short.
func (f *Files) stand(_ context.Context, plan *uploadPlan) (err error) {
	plan.complete = false
	if plan.Instead != "" {
		return f.blobs.Remove(plan.Blob)
	}
	plan.offset, err = f.blobs.Offset(plan.Blob)
	return err
}

// errHopeless marks a refusal of bytes that need not be kept.
var errHopeless = errors.New("the bytes are not those that were announced")

// errUnkept marks a refusal of a part whose bytes are not kept, while those before
// it are.
var errUnkept = errors.New("the bytes of this part are not those that were declared")

// hopeless is a refusal by which nothing is kept.
func hopeless(e *eider.Error) error { return e.Because(errHopeless) }

// copy reads the body into the part, and its digest where one was declared.
func (f *Files) copy(ctx context.Context, u *blob.Upload, plan *uploadPlan) error {
	call := operation.From(ctx)
	body, err := fileIn(call)
	if err != nil {
		return err
	}
	declared := plan.digest
	if declared != "" && plan.Part {
		u.Together()
	}
	check := newDigest(declared)
	reserved := max(plan.From+max(call.Length, 0), f.held(plan.Session))
	err = u.Append(ctx, check.reading(roomy{body, f.space}), plan.most(call), func(ctx context.Context, length int64) error {
		if length <= reserved {
			return nil
		}
		more := usage.Amounts{Bytes: length - reserved}
		if err := call.Extend(ctx, more); err != nil {
			return err
		}
		reserved = length
		return nil
	})
	if errors.Is(err, io.ErrShortBuffer) {
		switch {
		case plan.Part:
			return eider.Invalid("Content-Range", "must be as long as the body")
		case plan.Total >= 0:
			return hopeless(eider.Errorf(eider.SizeMismatch, "the upload was announced with %d bytes, the body has more", plan.Total))
		}
		return hopeless(f.tooLarge())
	}
	if err != nil {
		return err
	}
	if !check.fits() {
		e := eider.Errorf(eider.ChecksumMismatch, "the body does not have the Content-Digest that was declared")
		if plan.Part {
			return e.Because(errUnkept)
		}
		return hopeless(e)
	}
	if plan.Part && u.Offset() != plan.Limit {
		return eider.Invalid("Content-Range", "must be as long as the body")
	}
	return nil
}

// most is how long the upload may become by the body, as far as it is known: what
// is asked for in steps must not be more.
func (plan *uploadPlan) most(call *operation.Call) int64 {
	most := plan.Limit
	if !plan.Part && plan.Total >= 0 {
		most = min(most, plan.Total)
	}
	if call.Length >= 0 {
		most = min(most, plan.From+call.Length)
	}
	return most
}

// verify compares what is complete with what was announced.
func (f *Files) verify(u *blob.Upload, plan *uploadPlan) error {
	sums := u.Sums()
	if plan.Total >= 0 && sums.Size != plan.Total {
		return hopeless(eider.Errorf(eider.SizeMismatch, "the upload was announced with %d bytes, the body has %d", plan.Total, sums.Size))
	}
	if plan.SHA256 != "" && sums.SHA256 != plan.SHA256 {
		return hopeless(eider.Errorf(eider.ChecksumMismatch, "the bytes do not have the SHA-256 that was declared"))
	}
	return nil
}

func (f *Files) isReceived(_ context.Context, plan *uploadPlan) (whole bool, err error) {
	plan.sums, whole, err = f.blobs.Settle(plan.Blob)
	plan.complete, plan.offset = whole, plan.sums.Size
	return whole, err
}

func (f *Files) received(ctx context.Context, tx *operation.Tx, plan *uploadPlan) (uploadedFile, error) {
	call := operation.From(ctx)
	if err := call.StillMay(ctx, tx); err != nil {
		return uploadedFile{}, err
	}
	s, err := f.sessions.Get(ctx, tx, plan.Session)
	if err != nil {
		return uploadedFile{}, err
	}
	if s.expiredAt(now()) {
		return uploadedFile{}, tooLate(s)
	}
	s.Blob = plan.Blob.ID
	out := uploadedFile{UploadKey: s.ID, SizeBytes: plan.offset, Complete: plan.complete, StagingPath: s.file().Path}
	call.Detail("size_bytes", plan.offset)
	call.Detail("complete", plan.complete)
	tx.After(func() { f.hold(s, max(plan.offset, s.DeclaredSize), plan.offset) })
	if !plan.complete {
		return out, nil
	}
	s.Uploaded, s.SizeBytes, s.ChecksumMD5, s.ChecksumSHA256 = true, plan.sums.Size, plan.sums.MD5, plan.sums.SHA256
	out.StagingPath, out.ChecksumMD5, out.ChecksumSHA256 = s.file().Path, s.ChecksumMD5, s.ChecksumSHA256
	call.Detail("checksum_sha256", s.ChecksumSHA256)
	if plan.Instead != "" { // where this is not done the sweep does it
		tx.After(func() {
			_ = f.blobs.RemoveBatch(f.unregistered([]blob.Key{{Project: plan.Blob.Project, ID: plan.Instead}}))
		})
	}
	return out, f.sessions.Put(ctx, tx, s)
}

// interrupted keeps what was received: the session stays, and can be resumed.
func (f *Files) interrupted(ctx context.Context, tx *operation.Tx, plan *uploadPlan) error {
	s, err := f.sessions.Get(ctx, tx, plan.Session)
	if eider.CodeOf(err) == eider.UploadSessionNotFound {
		return nil
	}
	if plan.Instead != "" {
		return err // it stands as it stood
	}
	operation.From(ctx).Detail("offset", plan.offset)
	tx.After(func() { f.hold(s, max(plan.offset, s.DeclaredSize), plan.offset) })
	return err
}

type oneUpload struct {
	projectPath
	Key string `path:"upload_key" json:"-"`
}

type uploadOffset struct{ offset int64 }

// Headers tells where the next part begins.
func (u uploadOffset) Headers() map[string]string {
	return map[string]string{"Upload-Offset": strconv.FormatInt(u.offset, 10)}
}

func (f *Files) offset(ctx context.Context, v *operation.View, in oneUpload) (uploadOffset, error) {
	s, err := f.find(ctx, v, in.Key)
	return uploadOffset{f.standsAt(s)}, err
}
