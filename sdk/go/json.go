package plugin

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// JSON is a JSON text that is read where it is asked, without reflection and
// without a tree: looking up a member of a small object costs less than a
// microsecond in a guest. "" is a value that is not there. The host sends valid
// texts; of others it reads what it can and takes the rest for missing.
type JSON string

// Get returns the member that the names lead to, "" if there is none.
func (j JSON) Get(names ...string) JSON {
	for _, name := range names {
		j = j.member(name)
	}
	return j
}

// member compares names as they stand: most have no escapes. As in encoding/json the
// last counts of two of one name.
func (j JSON) member(name string) (found JSON) {
	s := space(string(j))
	if s == "" || s[0] != '{' {
		return ""
	}
	for s = space(s[1:]); s != "" && s[0] == '"'; {
		n := skipString(s)
		if n == 0 {
			return found
		}
		same := s[1:n-1] == name
		if !same && n-2 > len(name) {
			text, _, ok := unquote(s[:n]) // escapes only make it longer
			same = ok && text == name
		}
		if s = space(s[n:]); s == "" || s[0] != ':' {
			return found
		}
		s = space(s[1:])
		end := skip(s)
		if end == 0 {
			return found
		}
		if same {
			found = JSON(s[:end])
		}
		if s = space(s[end:]); s != "" && s[0] == ',' {
			s = space(s[1:])
		}
	}
	return found
}

// Each calls yield with the members of an object or, with "" for the name, the
// elements of an array, until it returns false.
func (j JSON) Each(yield func(name string, value JSON) bool) { j.members(yield) }

// Exists reports whether there is a value, and not null.
func (j JSON) Exists() bool { return j != "" && j != "null" }

// String returns the text of a string, "" for any other value.
func (j JSON) String() string {
	s, _, ok := unquote(string(j))
	if !ok {
		return ""
	}
	return s
}

// Int returns an integer, and false for any other value.
func (j JSON) Int() (int64, bool) {
	if n, err := strconv.ParseInt(string(j), 10, 64); err == nil {
		return n, true
	}
	// 1e3 and 2.0 are integers too, as far as a float is exact.
	f, ok := j.Float()
	if !ok || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

// Float returns a number, and false for any other value.
func (j JSON) Float() (float64, bool) {
	if j == "" || j[0] != '-' && (j[0] < '0' || j[0] > '9') {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(j), 64)
	return f, err == nil
}

// Bool reports whether the value is true.
func (j JSON) Bool() bool { return j == "true" }

// Strings returns the strings of an array.
func (j JSON) Strings() []string {
	var all []string
	j.members(func(_ string, value JSON) bool {
		if strings.HasPrefix(string(value), `"`) {
			all = append(all, value.String())
		}
		return true
	})
	return all
}

// Quote returns a text as a JSON string.
func Quote(text string) JSON {
	b := append(make([]byte, 0, len(text)+2), '"')
	for _, r := range text { // what is no UTF-8 becomes U+FFFD
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20 || r == 0x2028 || r == 0x2029:
			const hex = "0123456789abcdef"
			b = append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return JSON(append(b, '"'))
}

// members walks over one level of an object or an array.
func (j JSON) members(yield func(name string, value JSON) bool) {
	s := space(string(j))
	if s == "" || s[0] != '{' && s[0] != '[' {
		return
	}
	object := s[0] == '{'
	s = space(s[1:])
	for s != "" && s[0] != '}' && s[0] != ']' {
		name := ""
		if object {
			var ok bool
			if name, s, ok = unquote(s); !ok {
				return
			}
			if s = space(s); s == "" || s[0] != ':' {
				return
			}
			s = space(s[1:])
		}
		end := skip(s)
		if end == 0 || !yield(name, JSON(s[:end])) {
			return
		}
		if s = space(s[end:]); s != "" && s[0] == ',' {
			s = space(s[1:])
		}
	}
}

func space(s string) string {
	if s != "" && s[0] > ' ' {
		return s
	}
	return spaces(s)
}

func spaces(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\n' || s[0] == '\t' || s[0] == '\r') {
		s = s[1:]
	}
	return s
}

// skip returns the length of the value that s begins with, 0 if there is none. It
// counts brackets and calls nothing of itself, so depth costs no stack.
//
// The loops that look at each byte are functions of their own: what a round of a loop
// costs in fuel grows with all that the function around it keeps in variables.
func skip(s string) int {
	if s == "" {
		return 0
	}
	switch s[0] {
	case '"':
		return skipString(s)
	case '{', '[':
	default:
		return scalar(s)
	}
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			n := skipString(s[i:])
			if n == 0 {
				return 0
			}
			i += n - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		default:
			i += plain(s[i:]) - 1
		}
	}
	return 0
}

// What a byte is to who skips a value.
const (
	bracket = 1 << iota // or the beginning of a string
	after               // what may stand behind a value
	quoting             // what is of meaning in a string
)

var kinds = [256]byte{
	'{': bracket, '[': bracket, '}': bracket | after, ']': bracket | after, '"': bracket | quoting,
	',': after, ':': after, ' ': after, '\n': after, '\t': after, '\r': after, '\\': quoting,
}

// plain returns how many bytes there are before a bracket or a string.
//
//go:noinline
func plain(s string) int {
	for i := 0; i < len(s); i++ {
		if kinds[s[i]]&bracket != 0 {
			return i
		}
	}
	return len(s)
}

// scalar returns how many bytes there are before what may stand behind a value.
//
//go:noinline
func scalar(s string) int {
	for i := 0; i < len(s); i++ {
		if kinds[s[i]]&after != 0 {
			return i
		}
	}
	return len(s)
}

// skipString returns the length of the string that s begins with, 0 if it does not end.
// Texts are most of what there is to skip: strings.IndexByte does so at a fraction of
// the fuel of a loop, unless there are many escapes.
func skipString(s string) int {
	n := strings.IndexByte(s[1:], '"')
	switch {
	case n < 0:
		return 0
	case s[n] != '\\': // what stands before the quote; the first one, if nothing does
		return n + 2
	}
	return closing(s)
}

// closing is skipString for a string with escapes.
//
//go:noinline
func closing(s string) int {
	for i := 1; i < len(s); i++ {
		if kinds[s[i]]&quoting == 0 {
			continue
		}
		if s[i] == '"' {
			return i + 1
		}
		i++
	}
	return 0
}

// unquote returns the string that s begins with, and what follows it.
func unquote(s string) (text, rest string, ok bool) {
	if s == "" || s[0] != '"' {
		return "", s, false
	}
	n := skipString(s)
	if n == 0 {
		return "", s, false
	}
	text, rest = s[1:n-1], s[n:]
	if strings.IndexByte(text, '\\') < 0 {
		return text, rest, true
	}
	if text, ok = unescape(text); !ok {
		return "", s, false
	}
	return text, rest, true
}

// unescape returns what a text with escapes stands for.
func unescape(text string) (string, bool) {
	var short [64]byte
	b := short[:]
	if len(text) > len(short) {
		b = make([]byte, len(text)) // what it stands for is shorter
	}
	n, ok := decode(b, text)
	return string(b[:n]), ok
}

// decode writes what a text with escapes stands for.
func decode(b []byte, text string) (n int, ok bool) {
	for {
		plain := copyPlain(b[n:], text)
		n += plain
		if text = text[plain:]; text == "" {
			return n, true
		}
		if len(text) == 1 {
			return 0, false
		}
		if c := simple[text[1]]; c != 0 {
			b[n] = c
			n++
			text = text[2:]
			continue
		}
		r, used := escaped(text[1:])
		if used == 0 {
			return 0, false
		}
		n += utf8.EncodeRune(b[n:], r)
		text = text[1+used:]
	}
}

// copyPlain copies what stands before an escape, and returns how much that is.
//
//go:noinline
func copyPlain(b []byte, text string) int {
	for i := 0; i < len(text) && i < len(b); i++ {
		if text[i] == '\\' {
			return i
		}
		b[i] = text[i]
	}
	return len(text)
}

// simple is what letters behind a backslash stand for, 0 for those that need more or
// stand for nothing.
var simple = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escaped reads uXXXX, and the second half behind it if it is the first of two. A
// half alone is U+FFFD.
func escaped(s string) (rune, int) {
	first, ok := hex4(s)
	if !ok {
		return 0, 0
	}
	if first < 0xD800 || first > 0xDFFF {
		return first, 5
	}
	if len(s) > 10 && s[5] == '\\' {
		if second, ok := hex4(s[6:]); ok && first < 0xDC00 && second >= 0xDC00 && second <= 0xDFFF {
			return (first-0xD800)<<10 | (second - 0xDC00) + 0x10000, 11
		}
	}
	return utf8.RuneError, 5
}

func hex4(s string) (rune, bool) {
	if len(s) < 5 || s[0] != 'u' {
		return 0, false
	}
	n := digit(s[1])<<12 | digit(s[2])<<8 | digit(s[3])<<4 | digit(s[4])
	return n, n >= 0
}

// digit returns what a hexadecimal digit stands for, less than 0 for what is none.
func digit(c byte) rune {
	switch {
	case c >= '0' && c <= '9':
		return rune(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return rune(c | 0x20 - 'a' + 10)
	}
	return -1
}
