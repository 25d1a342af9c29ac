package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// A token is "eider_", the key's id, "_" and 256 random bits in hex. The id
// finds the row; only a hash of the secret is kept.
const (
	tokenStart  = "eider_"
	idBytes     = 8
	secretBytes = 32
	rootID      = "root"
)

func newToken() (id, token string, hash []byte) {
	raw := make([]byte, idBytes+secretBytes)
	_, _ = rand.Read(raw) // never fails: crypto/rand ends the process instead
	id = hex.EncodeToString(raw[:idBytes])
	token = tokenStart + id + "_" + hex.EncodeToString(raw[idBytes:])
	return id, token, hashOf(token)
}

// NewRootKey returns a fresh root key.
func NewRootKey() string {
	raw := make([]byte, secretBytes)
	_, _ = rand.Read(raw)
	return tokenStart + rootID + "_" + hex.EncodeToString(raw)
}

// minRootKey is the length of the shortest root key, in bytes.
const minRootKey = 16

// CheckRootKey refuses a root key that could be guessed, or that no header can
// carry as it is.
func CheckRootKey(key string) error {
	if len(key) < minRootKey {
		return fmt.Errorf("must have at least %d characters", minRootKey)
	}
	for i := 0; i < len(key); i++ {
		if key[i] <= ' ' || key[i] > '~' {
			return errors.New("must be visible ASCII characters, without blanks")
		}
	}
	return nil
}

// idOf returns the id of the key that a token claims to be.
func idOf(token string) (string, bool) {
	rest, ok := strings.CutPrefix(token, tokenStart)
	if !ok {
		return "", false
	}
	id, _, ok := strings.Cut(rest, "_")
	return id, ok
}

// forms finds what may be a key, or most of one.
var forms = regexp.MustCompile(tokenStart + `([0-9A-Za-z]{1,32})_[0-9A-Fa-f]{16,}`)

// Redact returns the text without the secrets of keys in it: people paste a key where
// an id belongs. The key's id stays, so that it can be revoked.
func Redact(text string) string {
	if !strings.Contains(text, tokenStart) {
		return text
	}
	return forms.ReplaceAllString(text, tokenStart+"${1}_redacted")
}

func hashOf(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

func same(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// prefix is what is shown of a token to recognise it by: no part of the secret.
func prefix(id string) string { return tokenStart + id }
