package files

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"path"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/schema"
)

type downloadFile struct {
	describeFile
	Range   string `header:"Range" json:"-" doc:"bytes=first-last, bytes=first- or bytes=-length; several, with commas between, are answered as multipart/byteranges"`
	IfRange string `header:"If-Range" json:"-" doc:"An ETag or a Last-Modified: all of the file is answered if it is not this one any more"`
}

type describeFile struct {
	filePath
	IfMatch           string `header:"If-Match" json:"-" doc:"412 unless the ETag is one of these"`
	IfNoneMatch       string `header:"If-None-Match" json:"-" doc:"304 if the ETag is one of these"`
	IfModifiedSince   string `header:"If-Modified-Since" json:"-" doc:"An HTTP date"`
	IfUnmodifiedSince string `header:"If-Unmodified-Since" json:"-" doc:"An HTTP date"`
}

// What a download answers, for the document. The body has the type that the file
// was given.
var (
	wholeFile  = schema.Answer{Status: 200, Doc: "All of the file", Media: []schema.Media{schema.Bytes("*/*")}, Headers: fileHeaders}
	partOfFile = schema.Answer{Status: 206, Doc: "The ranges that were asked for", Media: []schema.Media{schema.Bytes("*/*"), schema.Bytes("multipart/byteranges")},
		Headers: append([]schema.Header{{Name: "Content-Range", Doc: "bytes first-last/length; of several ranges it stands in each part"}}, fileHeaders...)}
	sameFile    = schema.Answer{Status: 304, Doc: "The file is still the one that the request names", Headers: aboutFile}
	fileHeaders = append([]schema.Header{
		{Name: "Content-Length", Doc: "Of the body, in bytes", Number: true, Always: true},
	}, aboutFile...)
	aboutFile = []schema.Header{
		{Name: "ETag", Doc: "The SHA-256 of the file", Always: true}, {Name: "Last-Modified", Doc: "An HTTP date", Always: true},
		{Name: "Repr-Digest", Doc: "sha-256 of the whole file (RFC 9530)", Always: true},
		{Name: "Accept-Ranges", Doc: "bytes", Always: true},
		{Name: "Content-Disposition", Doc: "attachment, with the file's name (RFC 6266)", Always: true},
	}
)

// describe is a download without the bytes. A range is for GET alone (RFC 9110
// section 14.2).
func (f *Files) describe(ctx context.Context, v *operation.View, in describeFile) (*operation.Content, error) {
	return f.download(ctx, v, downloadFile{describeFile: in})
}

func (f *Files) download(ctx context.Context, v *operation.View, in downloadFile) (*operation.Content, error) {
	found, err := f.lookup(ctx, v, in.File)
	if err != nil {
		return nil, err
	}
	etag := `"` + found.ChecksumSHA256 + `"`
	changed := found.CreatedAt.Truncate(time.Second)
	content := &operation.Content{Type: found.ContentType, Length: found.SizeBytes, Headers: headers(&found, etag, changed)}
	switch condition(&in, etag, changed) {
	case http.StatusPreconditionFailed:
		return nil, eider.Errorf(eider.PreconditionFailed, "the file is not the one that was asked for")
	case http.StatusNotModified:
		content.Status = http.StatusNotModified
		return content, nil
	}
	file, err := f.blobs.Open(found.key())
	if err != nil {
		return nil, missing(err)
	}
	if info, err := file.Stat(); err != nil || info.Size() != found.SizeBytes {
		_ = file.Close()
		return nil, eider.Errorf(eider.FileContentNotFound, "the file's bytes are not all there")
	}
	content.File = file
	if err := f.narrow(content, &in, &found, etag, changed); err != nil {
		_ = file.Close()
		return nil, err
	}
	return content, nil
}

func headers(r *row, etag string, changed time.Time) map[string]string {
	h := map[string]string{
		"ETag": etag, "Last-Modified": changed.UTC().Format(http.TimeFormat), "Accept-Ranges": "bytes",
		"Cache-Control": "private, no-cache", "Content-Disposition": disposition(r.Name),
		"Content-Security-Policy": "sandbox; default-src 'none'",
	}
	if sum, err := hex.DecodeString(r.ChecksumSHA256); err == nil {
		h["Repr-Digest"] = "sha-256=:" + base64.StdEncoding.EncodeToString(sum) + ":"
	}
	return h
}

// disposition offers the name for saving (RFC 6266): in ASCII, and in full as
// RFC 8187 has it. What a user chose never reaches the header as it came.
func disposition(name string) string {
	name = strings.TrimRight(name, `/\`)
	name = saved(name[strings.LastIndexAny(name, `/\`)+1:])
	plain := strings.Map(func(c rune) rune {
		if c > '~' || c == '"' || c == '%' {
			return '_'
		}
		return c
	}, name)
	full := strings.ReplaceAll(url.QueryEscape(name), "+", "%20")
	return `attachment; filename="` + plain + `"; filename*=UTF-8''` + full
}

// maxSaved is how long a name file systems take, in bytes.
const maxSaved = 255

// saved returns a name under which a file can be saved: without what no file
// system takes, or what makes a name look like another on a screen.
func saved(name string) string {
	name = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || unicode.Is(unicode.Bidi_Control, c) || c == '\u2028' || c == '\u2029' {
			return '_'
		}
		return c
	}, name)
	if strings.Trim(name, ". ") == "" {
		return "download"
	}
	if len(name) <= maxSaved {
		return name
	}
	end := path.Ext(name)
	if len(end) > 16 {
		end = ""
	}
	cut := name[:maxSaved-len(end)]
	for !utf8.ValidString(cut) {
		cut = cut[:len(cut)-1]
	}
	return cut + end
}

// condition evaluates the request's conditions in the order of RFC 9110 section
// 13.2.2. It returns 304, 412, or 0 where the request goes on.
func condition(in *downloadFile, etag string, changed time.Time) int {
	if in.IfMatch != "" {
		if !operation.MatchesTag(in.IfMatch, etag) {
			return http.StatusPreconditionFailed
		}
	} else if at, err := http.ParseTime(in.IfUnmodifiedSince); err == nil && changed.After(at) {
		return http.StatusPreconditionFailed
	}
	if in.IfNoneMatch != "" {
		if operation.MatchesTag(strings.ReplaceAll(in.IfNoneMatch, "W/", ""), etag) {
			return http.StatusNotModified
		}
	} else if at, err := http.ParseTime(in.IfModifiedSince); err == nil && !changed.After(at) {
		return http.StatusNotModified
	}
	return 0
}

// narrow makes the content the ranges that were asked for, if any were.
func (f *Files) narrow(content *operation.Content, in *downloadFile, r *row, etag string, changed time.Time) error {
	if in.Range == "" || r.SizeBytes == 0 || // an empty file has no ranges
		!rangeHolds(in.IfRange, etag, changed) {
		return nil
	}
	spans, err := parseRange(in.Range, r.SizeBytes)
	if err != nil {
		return err
	}
	switch len(spans) {
	case 0:
		return nil
	case 1:
		if _, err := content.File.Seek(spans[0].first, io.SeekStart); err != nil {
			return fmt.Errorf("seek: %w", err)
		}
		content.Length = spans[0].length()
		content.Headers["Content-Range"] = spans[0].header(r.SizeBytes)
	default:
		several(content, spans, r)
	}
	content.Status = http.StatusPartialContent
	return nil
}

// rangeHolds evaluates If-Range: a strong tag, or the exact date.
func rangeHolds(ifRange, etag string, changed time.Time) bool {
	if ifRange == "" || ifRange == etag {
		return true
	}
	at, err := http.ParseTime(ifRange)
	return err == nil && at.Equal(changed)
}

// several makes the content multipart/byteranges (RFC 9110 section 14.6).
func several(content *operation.Content, spans []span, r *row) {
	file, kind := content.File, content.Type
	boundary := newID()
	frame := func(w io.Writer, body func(w io.Writer, s span) error) error {
		form := multipart.NewWriter(w)
		if err := form.SetBoundary(boundary); err != nil {
			return err
		}
		for _, s := range spans {
			part, err := form.CreatePart(textproto.MIMEHeader{"Content-Type": {kind}, "Content-Range": {s.header(r.SizeBytes)}})
			if err != nil {
				return err
			}
			if err := body(part, s); err != nil {
				return err
			}
		}
		return form.Close()
	}
	var size counter
	_ = frame(&size, func(w io.Writer, s span) error { size += counter(s.length()); return nil }) // it counts only
	content.Type = mime.FormatMediaType("multipart/byteranges", map[string]string{"boundary": boundary})
	content.Length, content.File = int64(size), nil
	content.Closing = file
	content.Write = func(_ context.Context, w io.Writer) error {
		return frame(w, func(w io.Writer, s span) error { return copySpan(w, file, s) })
	}
}

func copySpan(w io.Writer, file *os.File, s span) error {
	n, err := io.Copy(w, io.NewSectionReader(file, s.first, s.length()))
	if err == nil && n < s.length() {
		err = io.ErrUnexpectedEOF
	}
	return err
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
