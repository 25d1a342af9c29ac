package tables

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/projectdb/gate"
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

func checkBucketName(name string) error {
	if gate.Reserved(name) {
		return eider.Invalid("name", "is reserved")
	}
	return checkName("name", name)
}

// known refuses what cannot be the name of anything that is there. Names that a
// query gave may be others than the API would.
func known(code eider.Code, name string) error {
	if name == "" || len(name) > 4*maxName || !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
		return eider.Errorf(code, "there is no such name")
	}
	return nil
}
