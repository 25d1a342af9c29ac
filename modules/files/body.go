package files

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"mime"
	"mime/multipart"
	"strconv"
	"strings"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/schema"
)

// offsetHeader is in every answer of an upload.
var offsetHeader = []schema.Header{{Name: "Upload-Offset", Doc: "How many bytes are durable: where the next part begins", Number: true, Always: true}}

// contentRange is a Content-Range of a request (RFC 9110, section 14.5); total
// is -1 where it is not known yet.
type contentRange struct{ first, last, total int64 }

// parseContentRange returns nil where there is none.
func parseContentRange(text string) (*contentRange, error) {
	if text == "" {
		return nil, nil
	}
	wrong := eider.Invalid("Content-Range", "must be bytes first-last/total, or bytes */total")
	rest, ok := strings.CutPrefix(text, "bytes ")
	span, total, ok2 := strings.Cut(rest, "/")
	if span == "*" && ok && ok2 { // an empty part: nothing is missing any more
		all, err := number(total)
		if err != nil {
			return nil, wrong
		}
		return &contentRange{all, all - 1, all}, nil
	}
	first, last, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return nil, wrong
	}
	r := contentRange{total: -1}
	var err error
	if r.first, err = number(first); err != nil {
		return nil, wrong
	}
	if r.last, err = number(last); err != nil || r.last < r.first {
		return nil, wrong
	}
	if total == "*" {
		return &r, nil
	}
	if r.total, err = number(total); err != nil || r.total <= r.last {
		return nil, wrong
	}
	return &r, nil
}

var errNumber = errors.New("not a number")

// number reads digits alone: ParseInt would take signs too.
func number(text string) (int64, error) {
	if text == "" || len(text) > 18 || strings.ContainsFunc(text, func(c rune) bool { return c < '0' || c > '9' }) {
		return 0, errNumber
	}
	return strconv.ParseInt(text, 10, 64)
}

// isForm reports whether the body is a form (RFC 7578). A raw body may say of
// itself what it likes.
func isForm(call *operation.Call) bool { return call.Operation.ID == formUpload }

// The bounds of what a form may hold beside the file: a form must end.
const (
	maxFormParts = 16
	maxFormPart  = 64 << 10 // bytes
)

// fileIn returns the file in the body of the request: all of it, or the field
// file of a form, which is read as it comes.
func fileIn(call *operation.Call) (io.Reader, error) {
	if !isForm(call) {
		return call.Body, nil
	}
	kind, params, err := mime.ParseMediaType(call.ContentType)
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" {
		return nil, eider.Errorf(eider.UnsupportedMediaType, "the body must be multipart/form-data with the field file; PUT takes raw bytes")
	}
	f := &formFile{form: multipart.NewReader(call.Body, params["boundary"])}
	if f.part, err = f.next(); err == nil && f.part == nil {
		err = eider.Invalid("file", "must be a field of the form")
	}
	return f, err
}

// badForm tells a form that is wrong from a body that was cut.
func badForm(err error) error {
	if eider.CodeOf(err) != eider.Internal {
		return err
	}
	return eider.Errorf(eider.MalformedRequest, "the form is not valid").Because(err)
}

// formFile reads the field to its end, and the form behind it: what is cut must
// not look whole.
type formFile struct {
	form  *multipart.Reader
	part  *multipart.Part
	parts int
}

func (f *formFile) Read(p []byte) (int, error) {
	n, err := f.part.Read(p)
	if err == nil {
		return n, nil
	}
	if !errors.Is(err, io.EOF) {
		return n, badForm(err)
	}
	another, err := f.next()
	if err == nil && another != nil {
		err = eider.Errorf(eider.MalformedRequest, "the form must have one field file")
	}
	if err != nil {
		return n, err
	}
	return n, io.EOF
}

// next reads the form up to the next field file, and returns nil where there is
// none.
func (f *formFile) next() (*multipart.Part, error) {
	for ; f.parts < maxFormParts; f.parts++ {
		part, err := f.form.NextPart()
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return nil, badForm(err)
		}
		if part.FormName() == "file" {
			return part, nil
		}
		n, err := io.Copy(io.Discard, io.LimitReader(part, maxFormPart+1))
		if err != nil {
			return nil, badForm(err)
		}
		if n > maxFormPart {
			return nil, eider.Errorf(eider.MalformedRequest, "a field beside the file may have at most %d bytes", maxFormPart)
		}
	}
	return nil, eider.Errorf(eider.MalformedRequest, "the form has too many fields")
}

// sha256Digest returns the sha-256 of a Content-Digest header in hexadecimal, ""
// if it names none (RFC 9530).
func sha256Digest(header string) (string, error) {
	for _, one := range strings.Split(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(one), "=")
		if !strings.EqualFold(name, "sha-256") {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(strings.Trim(value, ":"))
		if err != nil || len(raw) != sha256.Size {
			return "", eider.Invalid("Content-Digest", "must be sha-256=:BASE64:")
		}
		return hex.EncodeToString(raw), nil
	}
	return "", nil
}

// digest hashes a body whose digest was declared.
type digest struct {
	want string
	hash hash.Hash
}

func newDigest(want string) *digest { return &digest{want, sha256.New()} }

func (d *digest) reading(r io.Reader) io.Reader {
	if d.want == "" {
		return r
	}
	return io.TeeReader(r, d.hash)
}

func (d *digest) fits() bool {
	return d.want == "" || d.want == hex.EncodeToString(d.hash.Sum(nil))
}
