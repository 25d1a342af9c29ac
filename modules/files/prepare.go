package files

import (
	"context"
	"mime"
	"strings"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/usage"
	"github.com/google/uuid"
)

type prepareFile struct {
	projectPath
	Filename       string            `json:"filename" required:"true" minLength:"1" doc:"Any Unicode but control characters; at most 1024" example:"sales 2026.csv"`
	ContentType    string            `json:"content_type,omitempty" maxLength:"255" doc:"application/octet-stream if absent"`
	SizeBytes      *int64            `json:"size_bytes,omitempty" minimum:"0" doc:"The upload is refused if it has another size"`
	ChecksumSHA256 string            `json:"checksum_sha256,omitempty" doc:"Hexadecimal; the upload is refused if its bytes have another"`
	Tags           map[string]string `json:"tags,omitempty" doc:"At most 50"`
	ExpiresIn      int64             `json:"expires_in_seconds,omitempty" minimum:"1" maximum:"604800" doc:"How long the upload is kept before it is registered; files.expire if absent"`
}

type projectPath struct {
	ID string `path:"id" json:"-"`
}

type preparedFile struct {
	UploadKey string    `json:"upload_key"`
	UploadURL string    `json:"upload_url" doc:"Relative; needs a key of the project"`
	ExpiresAt time.Time `json:"expires_at"`
	SignedURL string    `json:"signed_url" doc:"Relative; needs no key, until expires_at"`
}

// The bounds of what users may give, in characters and pieces.
const (
	maxName     = 1024
	maxTags     = 50
	maxTagName  = 128
	maxTagValue = 256
)

const defaultType = "application/octet-stream"

// reserved is what an announced upload adds to usage.
func reserved(_ *operation.Call, in any) usage.Amounts {
	a := usage.Amounts{Files: 1}
	if size := in.(prepareFile).SizeBytes; size != nil {
		a.Bytes = *size
	}
	return a
}

func (f *Files) prepare(ctx context.Context, tx *operation.Tx, in prepareFile) (preparedFile, error) {
	call := operation.From(ctx)
	s, err := f.newSession(call, in)
	if err != nil {
		return preparedFile{}, err
	}
	call.Resource(s.ID)
	call.Detail("name", s.Name)
	tx.After(func() { f.hold(s, max(s.DeclaredSize, 0), 0) })
	path := uploadURL(s.row)
	return preparedFile{
		UploadKey: s.ID, UploadURL: path, ExpiresAt: *s.ExpiresAt,
		SignedURL: f.urls.Sign("PUT", path, call.Actor, *call.Project, *s.ExpiresAt),
	}, f.sessions.Insert(tx, s)
}

func uploadURL(r row) string { return "/projects/" + r.ProjectID + "/files/upload/" + r.ID }

func (f *Files) newSession(call *operation.Call, in prepareFile) (session, error) {
	life := time.Duration(in.ExpiresIn) * time.Second
	if life == 0 {
		life = time.Duration(f.settings.Expire)
	}
	at := now()
	until := at.Add(life)
	s := session{DeclaredSize: -1, DeclaredSHA256: strings.ToLower(in.ChecksumSHA256)}
	if in.SizeBytes != nil {
		s.DeclaredSize = *in.SizeBytes
	}
	s.row = row{
		ProjectUID: call.Project.UID, Blob: newID(),
		File: eider.File{
			ID: newID(), ProjectID: call.Project.ID, Name: in.Filename, ContentType: in.ContentType,
			CreatedAt: at, ExpiresAt: &until, Tags: in.Tags,
		},
	}
	if s.DeclaredSize > int64(f.settings.MaxSize) {
		e := f.tooLarge()
		e.Status = 400
		return s, e
	}
	if err := checkSHA256(s.DeclaredSHA256); err != nil {
		return s, err
	}
	return s, checkFile(&s.File, "filename")
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

func (f *Files) tooLarge() *eider.Error {
	return eider.Errorf(eider.FileTooLarge, "a file may have at most %d bytes", int64(f.settings.MaxSize))
}

// checkFile refuses what a user may not give a file, and fills in what is left
// out. name is what the request calls the file's name.
func checkFile(file *eider.File, name string) error {
	if file.Name == "" {
		return eider.Invalid(name, "must not be empty")
	}
	if err := eider.CheckText(name, file.Name, maxName); err != nil {
		return err
	}
	if file.ContentType == "" {
		file.ContentType = defaultType
	}
	// It comes back as a header of downloads.
	kind, _, err := mime.ParseMediaType(file.ContentType)
	if err != nil || !strings.Contains(kind, "/") || strings.ContainsFunc(file.ContentType, notPrintable) {
		return eider.Invalid("content_type", "must be a media type such as text/csv")
	}
	if file.Tags == nil {
		file.Tags = map[string]string{}
	}
	if len(file.Tags) > maxTags {
		return eider.Invalid("tags", "must be at most %d", maxTags)
	}
	for name, value := range file.Tags {
		if name == "" {
			return eider.Invalid("tags", "must not have empty names")
		}
		if err := eider.CheckText("tags", name, maxTagName); err != nil {
			return err
		}
		if err := eider.CheckText("tags", value, maxTagValue); err != nil {
			return err
		}
	}
	return nil
}

func notPrintable(c rune) bool { return c < ' ' || c > '~' }

func checkSHA256(sum string) error {
	if sum == "" {
		return nil
	}
	for _, c := range sum {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return eider.Invalid("checksum_sha256", "must be hexadecimal")
		}
	}
	if len(sum) != 64 {
		return eider.Invalid("checksum_sha256", "must have 64 hexadecimal digits")
	}
	return nil
}

// staging is what a session has reserved until its file is registered.
type staging struct {
	ticket *usage.Ticket
	bytes  int64
	offset int64 // how many bytes of the upload are durable
}

// hold makes the session's reservation as large as bytes, of which offset are
// durable.
func (f *Files) hold(s session, bytes, offset int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	held := f.tickets[s.ID]
	if held == nil {
		held = &staging{ticket: f.usage.Reserve(s.ProjectUID, usage.Amounts{Files: 1, Bytes: bytes}), bytes: bytes}
		f.tickets[s.ID] = held
	}
	held.ticket.Extend(usage.Amounts{Bytes: bytes - held.bytes})
	held.bytes, held.offset = bytes, offset
}

// restart tells that nothing of the upload is durable any more. What is reserved
// stays: the bytes come again.
func (f *Files) restart(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if held := f.tickets[id]; held != nil {
		held.offset = 0
	}
}

// reserveAgain reserves, at start, what sessions hold.
func (f *Files) reserveAgain() error {
	f.sessions.Scan(metadata.Range[session]{Order: byExpiry}, func(s *session) bool {
		offset := s.SizeBytes
		if !s.Uploaded {
			var err error
			if offset, err = f.blobs.Offset(s.key()); err != nil {
				f.log.Error("an upload cannot be resumed", "upload", s.ID, "error", err)
			}
		}
		f.hold(*s, max(offset, s.DeclaredSize), offset)
		return true
	})
	return nil
}

// held returns how many bytes the session has reserved.
func (f *Files) held(id string) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if held := f.tickets[id]; held != nil {
		return held.bytes
	}
	return 0
}

// settle turns what the session has reserved into what the transaction commits.
func (f *Files) settle(ctx context.Context, tx *operation.Tx, id string) error {
	f.mu.Lock()
	held := f.tickets[id]
	f.mu.Unlock()
	tx.After(func() { f.letGo(id) })
	if held == nil {
		return nil
	}
	return held.ticket.Settle(ctx, tx)
}

// letGo ends the reservation of a session that is no more.
func (f *Files) letGo(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if held := f.tickets[id]; held != nil {
		held.ticket.Release()
		delete(f.tickets, id)
	}
}
