package tables

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLogged bounds a statement's text in the log, in bytes.
const maxLogged = 4 << 10

// redact takes everything out of a statement that may be somebody's data: texts
// and numbers become ?, comments a blank. It reads words only: what DuckDB would
// make of a text is found out nowhere but in a worker.
func redact(sql string) string {
	var out strings.Builder
	for len(sql) > 0 {
		n, shown := lexeme(sql)
		if blank := shown == " "; !blank || (out.Len() > 0 && !strings.HasSuffix(out.String(), " ")) {
			out.WriteString(shown)
		}
		sql = sql[n:]
		if out.Len() > maxLogged {
			return strings.ToValidUTF8(out.String()[:maxLogged], "") + "..."
		}
	}
	return strings.TrimSpace(out.String())
}

// fingerprint is the same for statements that differ in their literals alone.
func fingerprint(redacted string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(redacted)))
	return hex.EncodeToString(sum[:8])
}

// lexeme returns the length of what the text begins with, and how that is shown.
func lexeme(s string) (n int, shown string) {
	switch first := s[0]; {
	case first == '\'':
		return quoted(s, '\'', false), "?"
	case (first == 'e' || first == 'E') && len(s) > 1 && s[1] == '\'':
		return 1 + quoted(s[1:], '\'', true), "?"
	case strings.ContainsRune("bBxXuU", rune(first)) && len(s) > 1 && s[1] == '\'':
		return 1 + quoted(s[1:], '\'', false), "?"
	case first == '"':
		n := quoted(s, '"', false)
		if n == 1 || s[n-1] != '"' {
			return n, "?" // it is open: no name, and perhaps a text
		}
		return n, s[:n]
	case first == '$':
		return dollar(s)
	case strings.HasPrefix(s, "--"):
		if end := strings.IndexByte(s, '\n'); end >= 0 {
			return end + 1, " "
		}
		return len(s), " "
	case strings.HasPrefix(s, "/*"):
		return comment(s), " "
	case first >= '0' && first <= '9', first == '.' && len(s) > 1 && s[1] >= '0' && s[1] <= '9':
		return word(s), "?"
	}
	r, size := utf8.DecodeRuneInString(s)
	switch {
	case unicode.IsSpace(r):
		return size, " "
	case inWord(r):
		n := word(s)
		return n, s[:n]
	case r == utf8.RuneError || unicode.IsControl(r):
		return size, "?"
	}
	return size, s[:size]
}

// quoted returns the length of a quoted text; an open one goes on to the end.
func quoted(s string, quote byte, backslash bool) int {
	for i := 1; i < len(s); i++ {
		switch {
		case backslash && s[i] == '\\':
			i++
		case s[i] == quote && i+1 < len(s) && s[i+1] == quote:
			i++
		case s[i] == quote:
			return i + 1
		}
	}
	return len(s)
}

// dollar is a parameter, or a text between $tag$ and $tag$.
func dollar(s string) (n int, shown string) {
	end := 1 + strings.IndexFunc(s[1:], func(r rune) bool { return !inWord(r) })
	if end == 0 || s[end] != '$' {
		n := 1 + word(s[1:])
		return n, s[:n]
	}
	tag := s[:end+1]
	if close := strings.Index(s[len(tag):], tag); close >= 0 {
		return 2*len(tag) + close, "?"
	}
	return len(s), "?"
}

// comment returns the length of a comment, in which others may lie.
func comment(s string) int {
	depth := 0
	for i := 0; i+1 < len(s); i++ {
		switch s[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			i++
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(s)
}

// word returns the length of a name, a keyword or a number.
func word(s string) int {
	if end := strings.IndexFunc(s, func(r rune) bool { return !inWord(r) && r != '.' || r == utf8.RuneError }); end >= 0 {
		return end
	}
	return len(s)
}

func inWord(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }
