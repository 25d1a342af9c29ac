package eider

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// CheckProjectID refuses an id that is not [A-Za-z0-9][A-Za-z0-9_-]{0,63}.
// Such an id is safe as a part of a path on every file system.
func CheckProjectID(id string) error {
	if id == "" {
		return Invalid("id", "must not be empty")
	}
	if len(id) > 64 {
		return Invalid("id", "must have at most 64 characters")
	}
	for i := 0; i < len(id); i++ {
		c := id[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '_' && c != '-') {
			return Invalid("id", "must start with a letter or digit and hold only ASCII letters, digits, '_' and '-'")
		}
	}
	return nil
}

// CheckText refuses a text, such as a name or a description, that is not valid
// UTF-8, holds control characters, or is longer than max characters.
func CheckText(field, text string, max int) error {
	if !utf8.ValidString(text) {
		return Invalid(field, "must be valid UTF-8")
	}
	if utf8.RuneCountInString(text) > max {
		return Invalid(field, "must have at most %d characters", max)
	}
	if strings.IndexFunc(text, unicode.IsControl) >= 0 {
		return Invalid(field, "must not hold control characters")
	}
	return nil
}
