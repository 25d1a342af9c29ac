package wasm

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Digest returns the sha256 of a module as an item pins it.
func Digest(module []byte) string { return digest(module) }

func isDigest(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size
}

// signedText is what a signature is over: module and manifest, so that neither can
// be taken from another plugin.
func signedText(module, manifest []byte) []byte {
	return []byte("eider-plugin-v1\n" + digest(module) + "\n" + digest(manifest) + "\n")
}

// Sign returns the content of plugin.sig.
func Sign(key ed25519.PrivateKey, module, manifest []byte) string {
	return base64.StdEncoding.EncodeToString(ed25519.Sign(key, signedText(module, manifest))) + "\n"
}

// ErrSignature says that a plugin is not what a trusted key has signed.
var ErrSignature = errors.New("the signature is not good")

// Verify holds the content of plugin.sig against module and manifest, and returns
// the key that made it.
func Verify(keys []ed25519.PublicKey, module, manifest []byte, signature string) (ed25519.PublicKey, error) {
	sig, err := base64.StdEncoding.DecodeString(strings.TrimSpace(signature))
	if err != nil || len(sig) != ed25519.SignatureSize {
		return nil, fmt.Errorf("%w: it is no signature", ErrSignature)
	}
	for _, key := range keys {
		if ed25519.Verify(key, signedText(module, manifest), sig) {
			return key, nil
		}
	}
	return nil, fmt.Errorf("%w: none of the trusted keys made it of these files", ErrSignature)
}

func parseKeys(texts []string) ([]ed25519.PublicKey, error) {
	var keys []ed25519.PublicKey
	for _, text := range texts {
		b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
		if err != nil || len(b) != ed25519.PublicKeySize {
			return nil, errors.New("an ed25519 public key has 32 bytes, in base64")
		}
		keys = append(keys, b)
	}
	return keys, nil
}
