package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/eiderdb/eider"
)

// maxDepth bounds how deep a body may be nested.
const maxDepth = 64

// parse reads one JSON value, strictly: valid UTF-8, no key twice, nothing
// behind it, not too deep. encoding/json would take the last of two equal keys,
// so that what was checked may not be what is used.
func parse(body []byte) (any, error) {
	if !utf8.Valid(body) {
		return nil, eider.Errorf(eider.MalformedJSON, "the body is not valid UTF-8")
	}
	if hasLoneSurrogate(body) {
		return nil, eider.Errorf(eider.MalformedJSON, "an escape \\u is half a character")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	value, err := parseValue(d, 0)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = eider.Errorf(eider.MalformedJSON, "there is something behind the JSON value")
		}
	}
	var refusal *eider.Error
	if err != nil && !errors.As(err, &refusal) {
		return nil, eider.Errorf(eider.MalformedJSON, "the body is not valid JSON (near byte %d)", d.InputOffset())
	}
	return value, err
}

// hasLoneSurrogate reports whether an escape names one half of a pair of UTF-16
// without the other. encoding/json would put another character in its place, so that
// what is stored is not what was sent. Outside of strings there are no escapes.
func hasLoneSurrogate(body []byte) bool {
	for i := bytes.IndexByte(body, '\\'); i >= 0 && i+1 < len(body); {
		next := i + 2
		if first, ok := escaped(body[i:]); ok && utf16.IsSurrogate(first) {
			second, _ := escaped(body[min(i+6, len(body)):])
			if utf16.DecodeRune(first, second) == utf8.RuneError {
				return true
			}
			next = i + 12
		}
		found := bytes.IndexByte(body[min(next, len(body)):], '\\')
		if found < 0 {
			return false
		}
		i = next + found
	}
	return false
}

// escaped returns the code unit of an escape \uXXXX that text begins with.
func escaped(text []byte) (rune, bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	return rune(n), err == nil
}

func parseValue(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, eider.Errorf(eider.MalformedJSON, "the body is nested deeper than %d levels", maxDepth)
	}
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '{' {
			return parseObject(d, depth)
		}
		return parseArray(d, depth)
	case json.Number:
		n, err := strconv.ParseFloat(t.String(), 64)
		if err != nil {
			return nil, eider.Errorf(eider.MalformedJSON, "a number is out of range")
		}
		return n, nil
	}
	return token, nil
}

func parseObject(d *json.Decoder, depth int) (any, error) {
	object := map[string]any{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, ok := token.(string)
		if !ok {
			return nil, errors.New("a key is no string")
		}
		if _, twice := object[name]; twice {
			return nil, eider.Invalid(headerSafe(name), "must not be given twice")
		}
		if object[name], err = parseValue(d, depth+1); err != nil {
			return nil, err
		}
	}
	_, err := d.Token()
	return object, err
}

func parseArray(d *json.Decoder, depth int) (any, error) {
	list := []any{}
	for d.More() {
		value, err := parseValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, value)
	}
	_, err := d.Token()
	return list, err
}
