package tables

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/eiderdb/eider"
)

// maxName is how long a name may be, in characters.
const maxName = 128

// checkName refuses what is no name for a bucket, a table or a column.
func checkName(field, name string) error {
	switch {
	case name == "":
		return eider.Invalid(field, "must not be empty")
	case !utf8.ValidString(name):
		return eider.Invalid(field, "must be valid UTF-8")
	case utf8.RuneCountInString(name) > maxName:
		return eider.Invalid(field, "must have at most %d characters", maxName)
	case strings.HasPrefix(name, "."):
		return eider.Invalid(field, "must not begin with a dot")
	case strings.TrimSpace(name) != name:
		return eider.Invalid(field, "must not begin or end with a space")
	case strings.ContainsFunc(name, isForeign):
		return eider.Invalid(field, "must hold only letters, digits, '_', '-', '.', '$' and spaces")
	}
	return nil
}

func isForeign(c rune) bool {
	return !unicode.IsLetter(c) && !unicode.IsMark(c) && !unicode.IsDigit(c) && !strings.ContainsRune("_-.$ ", c)
}

// reserved are the names that DuckDB gives to schemas of its own, and _eider,
// which is ours.
var reserved = map[string]bool{"main": true, "temp": true, "information_schema": true, "_eider": true}

func checkBucketName(name string) error {
	folded := fold(name)
	if reserved[folded] || strings.HasPrefix(folded, "pg_") {
		return eider.Invalid("name", "is reserved")
	}
	return checkName("name", name)
}

// fold returns the name by which two that DuckDB takes for one are equal.
func fold(name string) string { return strings.ToLower(name) }

// known refuses what cannot be the name of anything that is there. Names that a
// query gave may be others than the API would.
func known(code eider.Code, name string) error {
	if name == "" || len(name) > 4*maxName || !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
		return eider.Errorf(code, "there is no such name")
	}
	return nil
}
