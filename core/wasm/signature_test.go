package wasm_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/wasm"
	w "github.com/eiderdb/eider/core/wasm/wasmtest"
)

// Only what a trusted key has signed is loaded, module and manifest as they were,
// where the settings want that; a signature that is not good is refused wherever
// there is a key to hold it against.
func TestSignaturesAreHeld(t *testing.T) {
	public, secret, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	module, other := w.Policy(nil, nil), w.Policy(w.Cat(0x01), nil)
	manifest := w.Manifest
	good := wasm.Sign(secret, module, []byte(manifest))
	trusted := []ed25519.PublicKey{public}
	for _, c := range []struct {
		name      string
		signature string
		keys      []ed25519.PublicKey
		required  bool
		want      string // "": it is loaded
		signed    bool
	}{
		{"signed", good, trusted, true, "", true},
		{"signed and not required", good, trusted, false, "", true},
		{"not signed", "", trusted, true, "there is no plugin.sig", false},
		{"not signed and not required", "", trusted, false, "", false},
		{"signed, and nobody is trusted", good, nil, false, "", false},
		{"signed, and nobody is trusted where it is required", good, nil, true, "there is no plugin.sig", false},
		{"by a stranger", wasm.Sign(stranger, module, []byte(manifest)), trusted, false, "none of the trusted keys", false},
		{"of another module", wasm.Sign(secret, other, []byte(manifest)), trusted, true, "none of the trusted keys", false},
		{"of another manifest", wasm.Sign(secret, module, []byte(manifest+"limits: {fuel: 9}\n")), trusted, true, "none of the trusted keys", false},
		{"of manifest and module the wrong way round", wasm.Sign(secret, []byte(manifest), module), trusted, true, "none of the trusted keys", false},
		{"cut short", good[:40], trusted, true, "it is no signature", false},
		{"of bytes", "\x00\xff", trusted, false, "it is no signature", false},
		{"with spaces around", " \n" + good + "\n", trusted, true, "", true},
	} {
		dir := w.Folder(t, module, manifest)
		if c.signature != "" {
			if err := os.WriteFile(filepath.Join(dir, "plugin.sig"), []byte(c.signature), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		h, _ := hostWith(t, func(o *wasm.Options) { o.Keys, o.RequireSignature = c.keys, c.required }, wasm.Item{Name: "x", Path: dir, Guests: 1})
		err := h.Plugin("x").Refused()
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, wasm.ErrSignature) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if v, ok := h.Plugin("x").Loaded(); ok != (c.want == "") || (v.SignedBy != "") != c.signed {
			t.Errorf("%s: loaded %v, signed by %q", c.name, ok, v.SignedBy)
		}
	}
}

func TestSettingsOfSignaturesAreChecked(t *testing.T) {
	key := base64.StdEncoding.EncodeToString(make([]byte, ed25519.PublicKeySize))
	for _, c := range []struct {
		settings wasm.Settings
		want     string
	}{
		{wasm.Settings{RequireSignature: true}, "require_signature needs trusted_keys"},
		{wasm.Settings{TrustedKeys: []string{"hello"}}, "trusted_keys"},
		{wasm.Settings{TrustedKeys: []string{key[:20]}}, "trusted_keys"},
		{wasm.Settings{RequireSignature: true, TrustedKeys: []string{key}}, ""},
		{wasm.Settings{Items: []wasm.Item{{Name: "a"}, {Name: "a"}}}, "stands twice"},
	} {
		err := c.settings.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.settings, err, c.want)
		}
	}
}
