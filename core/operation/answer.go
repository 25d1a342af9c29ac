package operation

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/eiderdb/eider"
)

// respond renders a handler's answer.
func respond(c *Call, out any) (*Response, error) {
	r := &Response{Status: c.Operation.Status, Warnings: c.warnings}
	if headed, ok := out.(Headed); ok {
		r.Headers = headed.Headers()
	}
	switch out := out.(type) {
	case Nothing:
		return r, nil
	case *Content:
		r.Content = out
		return r, nil
	}
	if r.Status == 204 || strings.HasPrefix(c.Operation.Route, "HEAD ") {
		return r, nil
	}
	body, err := encode(out)
	if err != nil {
		return nil, fmt.Errorf("encode the answer of %s: %w", c.Operation.Name, err)
	}
	r.Body = body
	if c.Operation.Tagged {
		if r.ETag, err = tagOf(out, body); err != nil {
			return nil, fmt.Errorf("encode the answer of %s: %w", c.Operation.Name, err)
		}
	}
	return r, nil
}

// Versioned is an answer that has parts which change without anybody changing it,
// such as when it was used: Version is what its ETag is of, without them.
type Versioned interface{ Version() any }

// tagOf returns the ETag of an answer whose body is known.
func tagOf(out any, body []byte) (_ string, err error) {
	if v, ok := out.(Versioned); ok {
		if body, err = encode(v.Version()); err != nil {
			return "", err
		}
	}
	return tag(body), nil
}

// encode renders an answer as JSON. URLs stay readable: it is never HTML.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// Headed is an answer that has headers of its own.
type Headed interface{ Headers() map[string]string }

// tag is the strong ETag of a body: the first 16 bytes of its SHA-256.
func tag(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + hex.EncodeToString(sum[:16]) + `"`
}

// CheckMatch refuses a change whose If-Match names none of the resource's
// present state, given as the API shows it. An empty header asks for nothing.
func CheckMatch(ifMatch string, resource any) error {
	if ifMatch == "" || strings.TrimSpace(ifMatch) == "*" {
		return nil
	}
	body, err := encode(resource)
	if err != nil {
		return fmt.Errorf("encode the resource: %w", err)
	}
	is, err := tagOf(resource, body)
	if err != nil {
		return fmt.Errorf("encode the resource: %w", err)
	}
	if MatchesTag(ifMatch, is) {
		return nil
	}
	return eider.Errorf(eider.PreconditionFailed, "the resource has changed since it was read")
}

// MatchesTag reports whether a list of entity tags, as in If-Match (RFC 9110
// section 13.1.1, strong comparison), names the tag.
func MatchesTag(list, tag string) bool {
	for _, one := range strings.Split(list, ",") {
		if one = strings.TrimSpace(one); one == tag || one == "*" {
			return true
		}
	}
	return false
}
