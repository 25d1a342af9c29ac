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
)

// contentRange is a Content-Range of a request (RFC 9110, section 14.5); total
// is -1 where it is not known yet.
type contentRange struct{ first, last, total int64 }

// parseContentRange returns nil where there is none.
func parseContentRange(text string) (*contentRange, error) {
	if text == "" {
		return nil, nil
	}
	wrong := eider.Invalid("Content-Range", "must be bytes first-last/total")
	rest, ok := strings.CutPrefix(text, "bytes ")
	span, total, ok2 := strings.Cut(rest, "/")
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

// isForm reports whether the body is a form (RFC 7578).
func isForm(call *operation.Call) bool {
	return strings.HasPrefix(strings.ToLower(call.ContentType), "multipart/")
}

// maxFormHead bounds what stands before the file in a form, in parts.
const maxFormHead = 16

// fileIn returns the file in the body of the request: all of it, or the field
// file of a form, which is read as it comes.
func fileIn(call *operation.Call) (io.Reader, error) {
	if call.Operation.ID != "upload_file_form" {
		return call.Body, nil
	}
	kind, params, err := mime.ParseMediaType(call.ContentType)
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" {
		return nil, eider.Errorf(eider.UnsupportedMediaType, "the body must be multipart/form-data with the field file; PUT takes raw bytes")
	}
	form := multipart.NewReader(call.Body, params["boundary"])
	for range maxFormHead {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, badForm(err)
		}
		if part.FormName() == "file" {
			return formFile{part, form}, nil
		}
	}
	return nil, eider.Invalid("file", "must be a field of the form")
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
	part *multipart.Part
	form *multipart.Reader
}

func (f formFile) Read(p []byte) (int, error) {
	n, err := f.part.Read(p)
	if err == nil {
		return n, nil
	}
	if !errors.Is(err, io.EOF) {
		return n, badForm(err)
	}
	if _, err := f.form.NextPart(); err == nil {
		return n, eider.Errorf(eider.MalformedRequest, "the field file must be the last of the form")
	} else if !errors.Is(err, io.EOF) {
		return n, badForm(err)
	}
	return n, io.EOF
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
