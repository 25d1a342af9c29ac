package files

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sort"
	"strings"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/schema"
)

func (f *Files) declareReads(r *core.Registry) {
	operation.Effect(r.Operations, operation.Spec{
		Name: "register_file", ID: "put_file", Route: "POST " + base + "?name=*", Also: []string{"POST " + base + "/?name=*"},
		Role: eider.ProjectWrite, Target: "file", Status: 201, Streamed: true, Slow: true, Adds: addsBody,
		// Whatever type the body has is that of the file.
		Accepts: []schema.Media{schema.Bytes(defaultType), schema.Bytes("*/*")},
		Errors:  []eider.Code{eider.FileTooLarge, eider.ChecksumMismatch, eider.BodyIncomplete, eider.QuotaExceeded},
	}, operation.Steps[putFile, *putPlan, eider.File]{
		Intent: f.beginPut, Claims: claimPut, Effect: f.put, Applied: f.isPut, Undo: f.unput, Outcome: f.registerPut,
		Revert: func(context.Context, *operation.Tx, *putPlan) error { return nil },
	})
	operation.Read(r.Operations, operation.Spec{
		Name: "list_files", Route: "GET " + base, Also: []string{"GET " + base + "/"}, Role: eider.ProjectRead, Target: "file",
		Summary: "List files, newest first", Errors: []eider.Code{eider.InvalidCursor},
	}, f.list)
	operation.Read(r.Operations, operation.Spec{
		Name: "get_file", Route: "GET " + base + "/{file}", Role: eider.ProjectRead, Target: "file", Tagged: true,
		Summary: "Get a file's description", Errors: []eider.Code{eider.FileNotFound},
	}, f.get)
	operation.Stream(r.Operations, operation.Spec{
		Name: "download_file", Route: "GET " + base + "/{file}/download", Role: eider.ProjectRead, Target: "file", Signed: true, Slow: true,
		Summary: "Download a file's bytes", Description: "Answers ranges and conditional requests as RFC 9110 says.",
		Errors:  []eider.Code{eider.FileNotFound, eider.FileContentNotFound, eider.RangeNotSatisfiable, eider.PreconditionFailed},
		Answers: []schema.Answer{wholeFile, partOfFile, sameFile},
	}, f.download)
	operation.Stream(r.Operations, operation.Spec{
		Name: "download_file", ID: "head_file", Route: "HEAD " + base + "/{file}/download", Role: eider.ProjectRead, Target: "file", Signed: true,
		Summary: "Ask what a download would answer", Errors: []eider.Code{eider.FileNotFound, eider.FileContentNotFound, eider.PreconditionFailed},
		Answers: []schema.Answer{wholeFile, sameFile},
	}, f.describe)
	operation.Read(r.Operations, operation.Spec{
		Name: "sign_file_url", Route: "POST " + base + "/{file}/signed-url", Role: eider.ProjectRead, Target: "file",
		Summary: "Make a URL that downloads the file without a key", Errors: []eider.Code{eider.FileNotFound},
	}, f.sign)
}

type filePath struct {
	projectPath
	File string `path:"file" json:"-"`
}

// lookup returns a registered file of the call's project.
func (f *Files) lookup(ctx context.Context, r metadata.Reader, id string) (row, error) {
	operation.From(ctx).Resource(id)
	found, err := f.row(ctx, r, id)
	if err == nil && (found.ProjectUID != operation.From(ctx).Project.UID || found.expiredAt(now())) {
		err = eider.Errorf(eider.FileNotFound, "there is no such file")
	}
	return found, err
}

func (f *Files) get(ctx context.Context, v *operation.View, in filePath) (eider.File, error) {
	found, err := f.lookup(ctx, v, in.File)
	if eider.CodeOf(err) == eider.FileNotFound {
		if s, staged := f.find(ctx, v, in.File); staged == nil {
			return f.shown(&s), nil
		}
	}
	return found.File, err
}

type listFiles struct {
	projectPath
	IncludeStaged bool     `query:"include_staged" json:"-" doc:"Uploads that are not registered yet, too"`
	Tag           []string `query:"tag" json:"-" doc:"name:value; repeated: all of them"`
	NameContains  string   `query:"name_contains" json:"-" maxLength:"256" doc:"Part of the name, whatever its case"`
	Limit         int      `query:"limit" json:"-" minimum:"1" maximum:"1000" default:"100"`
	Offset        int      `query:"offset" json:"-" minimum:"0" doc:"For small jumps; not together with cursor"`
	Cursor        string   `query:"cursor" json:"-" doc:"next_cursor of the page before"`
}

type filePage struct {
	Files      []eider.File `json:"files"`
	Total      int64        `json:"total" doc:"How many match, on all pages"`
	NextCursor string       `json:"next_cursor,omitempty"`
}

// fileCursor names the last file of a page.
type fileCursor struct {
	Time time.Time `json:"t"`
	ID   string    `json:"i"`
}

func (f *Files) list(ctx context.Context, v *operation.View, in listFiles) (filePage, error) {
	page := filePage{Files: []eider.File{}}
	tags, err := parseTags(in.Tag)
	if err != nil {
		return page, err
	}
	q := query{project: operation.From(ctx).Project.UID, tags: tags, part: strings.ToLower(in.NameContains), at: now(), limit: in.Limit + 1, skip: in.Offset}
	if in.Cursor != "" {
		if in.Offset > 0 {
			return page, eider.Invalid("offset", "cannot be used together with cursor")
		}
		if q.after, err = readCursor(in.Cursor); err != nil {
			return page, err
		}
	}
	var staged []eider.File
	rest := 0 // of the offset, once those are skipped that stand before it in any case
	if in.IncludeStaged {
		staged = f.staged(q)
		page.Total = int64(len(staged))
		q.skip = max(0, in.Offset-len(staged))
		rest = in.Offset - q.skip
		q.limit += rest
	}
	kept, err := f.page(ctx, v, q)
	if err != nil {
		return page, err
	}
	count, err := f.count(ctx, v, q)
	if err != nil {
		return page, err
	}
	page.Total += count
	all := kept
	if in.IncludeStaged {
		all = merge(kept, after(staged, q.after), rest)
	}
	if len(all) > in.Limit {
		all = all[:in.Limit]
		last := all[in.Limit-1]
		page.NextCursor = writeCursor(fileCursor{last.CreatedAt, last.ID})
	}
	page.Files = append(page.Files, all...)
	return page, nil
}

// query is what a list asks for.
type query struct {
	project     string
	tags        map[string]string
	part        string
	at          time.Time
	after       *fileCursor
	limit, skip int
}

// where returns the conditions on a file, but for the cursor.
func (q *query) where() (string, []any) {
	text := "project_uid = $1 AND (expires_at IS NULL OR expires_at > $2)"
	args := []any{q.project, q.at}
	if q.part != "" {
		args = append(args, q.part)
		text += fmt.Sprintf(" AND contains(lower(name), lower($%d))", len(args))
	}
	names := make([]string, 0, len(q.tags))
	for name := range q.tags {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		// The pair as it stands in the JSON text, with what stands before a name
		// there: a quote inside a text comes behind a backslash, never behind these.
		pair, err := json.Marshal(map[string]string{name: q.tags[name]})
		if err != nil {
			continue
		}
		args = append(args, strings.TrimSuffix(strings.TrimPrefix(string(pair), "{"), "}"))
		text += fmt.Sprintf(" AND (starts_with(tags, '{' || $%[1]d) OR contains(tags, ',' || $%[1]d))", len(args))
	}
	return text, args
}

const selectFiles = `SELECT ` + columnList + ` FROM files WHERE `

func (f *Files) page(ctx context.Context, v *operation.View, q query) ([]eider.File, error) {
	where, args := q.where()
	if q.after != nil {
		args = append(args, q.after.Time, q.after.ID)
		where += fmt.Sprintf(" AND (created_at < $%d OR (created_at = $%d AND id < $%d))", len(args)-1, len(args)-1, len(args))
	}
	rows, err := v.Query(ctx, selectFiles+where+fmt.Sprintf(" ORDER BY created_at DESC, id DESC LIMIT %d OFFSET %d", q.limit, q.skip), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []eider.File
	for rows.Next() {
		r, err := decode(rows.Scan)
		if err != nil {
			return nil, err
		}
		all = append(all, r.File)
	}
	return all, rows.Err()
}

func (f *Files) count(ctx context.Context, v *operation.View, q query) (n int64, err error) {
	where, args := q.where()
	rows, err := v.Query(ctx, "SELECT count(*) FROM files WHERE "+where, args...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	if rows.Next() {
		err = rows.Scan(&n)
	}
	return n, errors.Join(err, rows.Err())
}

// shown returns the session as the API shows it, as large as it is by now.
func (f *Files) shown(s *session) eider.File {
	file := s.file()
	file.SizeBytes = f.standsAt(*s)
	return file
}

// staged returns the uploads that match, newest first.
func (f *Files) staged(q query) []eider.File {
	var all []eider.File
	f.sessions.Scan(metadata.Range[session]{Order: byProject, After: &session{row: row{ProjectUID: q.project}}}, func(s *session) bool {
		if s.ProjectUID != q.project {
			return false
		}
		if !s.expiredAt(q.at) && strings.Contains(strings.ToLower(s.Name), q.part) && hasTags(s.Tags, q.tags) {
			all = append(all, f.shown(s))
		}
		return true
	})
	sort.Slice(all, func(i, j int) bool { return newer(all[i], all[j]) })
	return all
}

func hasTags(tags, wanted map[string]string) bool {
	for name, value := range wanted {
		if got, ok := tags[name]; !ok || got != value {
			return false
		}
	}
	return true
}

func newer(a, b eider.File) bool {
	if c := a.CreatedAt.Compare(b.CreatedAt); c != 0 {
		return c > 0
	}
	return a.ID > b.ID
}

func after(all []eider.File, c *fileCursor) []eider.File {
	if c == nil {
		return all
	}
	last := eider.File{ID: c.ID, CreatedAt: c.Time}
	return all[sort.Search(len(all), func(i int) bool { return newer(last, all[i]) }):]
}

func merge(a, b []eider.File, skip int) []eider.File {
	all := append(append([]eider.File(nil), a...), b...)
	sort.Slice(all, func(i, j int) bool { return newer(all[i], all[j]) })
	return all[min(skip, len(all)):]
}

func writeCursor(c fileCursor) string {
	text, err := json.Marshal(c)
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func readCursor(text string) (*fileCursor, error) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	var c fileCursor
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	if err != nil {
		return nil, eider.Errorf(eider.InvalidCursor, "this cursor does not belong to this list")
	}
	return &c, nil
}

// parseTags reads tags as name:value.
func parseTags(texts []string) (map[string]string, error) {
	tags := map[string]string{}
	for _, text := range texts {
		name, value, ok := strings.Cut(text, ":")
		if !ok || name == "" {
			return nil, eider.Invalid("tag", "must be name:value")
		}
		if _, twice := tags[name]; twice {
			return nil, eider.Invalid("tag", "must name each tag once")
		}
		tags[name] = value
	}
	return tags, nil
}

type signURL struct {
	filePath
	Method    string `json:"method,omitempty" enum:"GET" default:"GET"`
	ExpiresIn int64  `json:"expires_in,omitempty" minimum:"1" maximum:"604800" default:"3600" doc:"Seconds"`
}

type signedURL struct {
	URL       string    `json:"url" doc:"Relative; needs no key, until expires_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

func (f *Files) sign(ctx context.Context, v *operation.View, in signURL) (signedURL, error) {
	found, err := f.lookup(ctx, v, in.File)
	if err != nil {
		return signedURL{}, err
	}
	call := operation.From(ctx)
	if in.ExpiresIn == 0 {
		in.ExpiresIn = 3600
	}
	until := time.Now().Add(time.Duration(in.ExpiresIn) * time.Second).UTC().Truncate(time.Second)
	path := "/projects/" + found.ProjectID + "/files/" + found.ID + "/download"
	return signedURL{f.urls.Sign("GET", path, call.Actor, *call.Project, until), until}, nil
}

// missing tells bytes that are not there from a disk that fails.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return eider.Errorf(eider.FileContentNotFound, "the file's bytes are missing").Because(err)
	}
	return disk.Refusal(err)
}
