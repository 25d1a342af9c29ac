package wasm_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/config"
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

// A manifest that nobody has signed does not turn a policy into a sink that is not asked:
// what cannot be loaded and might be a policy denies.
func TestAManifestWithoutItsSignatureSaysNothing(t *testing.T) {
	public, secret, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	module, manifest := w.Sink(`{"status":"ok"}`, nil, nil), strings.Replace(w.Manifest, "kind: policy", "kind: sink", 1)
	for _, c := range []struct {
		name, signature string
		required        bool
		want            string
	}{
		{"signed", wasm.Sign(secret, module, []byte(manifest)), true, wasm.Sink},
		{"not signed, where it must be", "", true, ""},
		{"signed with another manifest", wasm.Sign(secret, module, []byte(w.Manifest)), false, ""},
		{"not signed, where it need not be", "", false, wasm.Sink},
	} {
		dir := w.Folder(t, module, manifest)
		if err := os.WriteFile(filepath.Join(dir, "plugin.sig"), []byte(c.signature), 0o600); err != nil {
			t.Fatal(err)
		}
		item := wasm.Item{Name: "x", Path: dir, Guests: 1, Fuel: 1} // too little for any module
		h, chain := hostWith(t, func(o *wasm.Options) { o.Keys, o.RequireSignature = []ed25519.PublicKey{public}, c.required }, item)
		denied := chain.Ask(t.Context(), question()).Denial != nil
		if got := h.Plugin("x").Kind(); got != c.want || denied != (got == "") {
			t.Errorf("%s: it is %q, want %q; denied: %v", c.name, got, c.want, denied)
		}
	}
}

// What comes with the binary is trusted as the binary is.
func TestABuiltInPluginNeedsNoSignature(t *testing.T) {
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := w.Folder(t, w.Policy(nil, nil), w.Manifest)
	h, _ := hostWith(t, func(o *wasm.Options) {
		o.Keys, o.RequireSignature = []ed25519.PublicKey{public}, true
		o.Builtin = func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(dir, filepath.Base(name))) }
	}, wasm.Item{Name: "ours", Path: "builtin:guest", Guests: 1}, wasm.Item{Name: "theirs", Path: dir, Guests: 1})
	if err := h.Plugin("ours").Refused(); err != nil {
		t.Error(err)
	}
	if err := h.Plugin("theirs").Refused(); !errors.Is(err, wasm.ErrSignature) {
		t.Errorf("what is not built in is loaded without a signature: %v", err)
	}
}

// Who writes percent: 0 to try a policy on nobody must not have it asked about everything.
func TestAShareOfNothingIsRefused(t *testing.T) {
	for _, c := range []struct {
		percent, want string
		is            int
	}{
		{"", "", 100}, {", percent: 1", "", 1}, {", percent: 100", "", 100},
		{", percent: 0", "plugins.items[0].percent must be 1 to 100", 0}, {", percent: 101", "percent must be 1 to 100", 0}, {", percent: -1", "percent must be 1 to 100", 0},
	} {
		var s wasm.Settings
		set := config.New()
		set.Section("plugins", &s)
		err := set.Load(config.Sources{Environ: []string{"EIDER_PLUGINS_ITEMS=[{name: x, path: x" + c.percent + "}]"}})
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) || c.want == "" && (err != nil || s.Items[0].Percent != c.is) {
			t.Errorf("%q: %v, %+v; want %q, %d", c.percent, err, s.Items, c.want, c.is)
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
		{wasm.Settings{RequireSHA256: true, Items: []wasm.Item{{Name: "a", Path: "a", SHA256: wasm.Digest(nil)}, {Name: "b", Path: "b"}}}, "b has no sha256"},
		{wasm.Settings{RequireSHA256: true, Items: []wasm.Item{{Name: "a", Path: "a", SHA256: wasm.Digest(nil)}, {Name: "b", Path: "builtin:quota"}}}, ""},
	} {
		err := c.settings.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.settings, err, c.want)
		}
	}
}
