package sdk

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNewPluginsAreBuiltFromTheirOwnFolder needs every compiler: where one is
// missing it is installed.
func TestNewPluginsAreBuiltFromTheirOwnFolder(t *testing.T) {
	for _, language := range Languages() {
		t.Run(language, func(t *testing.T) {
			log := &bytes.Buffer{}
			tools, err := Toolchain(t.Context(), language, true, log)
			if err != nil {
				t.Fatalf("%v\n%s", err, log)
			}
			for _, kind := range Kinds() {
				if language == "go" && kind == "sink" {
					continue // audit-webhook is one
				}
				dir := filepath.Join(t.TempDir(), "mine")
				if err := Init(dir, "my-plugin", language, kind); err != nil {
					t.Fatal(err)
				}
				t.Setenv("GOPROXY", "off") // nothing is fetched
				t.Setenv("CARGO_NET_OFFLINE", "true")
				out := filepath.Join(dir, "my-plugin.wasm")
				if err := Build(t.Context(), dir, out, tools, log); err != nil {
					t.Fatalf("%s: %v\n%s", kind, err, log)
				}
				module, err := os.ReadFile(out)
				export := map[string]string{"policy": "eider_decide", "sink": "eider_deliver"}[kind]
				if err != nil || !bytes.HasPrefix(module, []byte("\x00asm")) || !bytes.Contains(module, []byte(export)) {
					t.Errorf("%s: the module of %d bytes does not export %s: %v", kind, len(module), export, err)
				}
			}
		})
	}
}

func TestInitRefusesWhatItCannotMake(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ dir, name, language, kind, wants string }{
		{full, "a", "go", "policy", "not empty"},
		{"", "A b", "go", "policy", "no name"},
		{"", "a", "cobol", "policy", "none of go"},
		{"", "a", "go", "filter", "none of policy"},
	} {
		if c.dir == "" {
			c.dir = filepath.Join(t.TempDir(), "new")
		}
		if err := Init(c.dir, c.name, c.language, c.kind); err == nil || !strings.Contains(err.Error(), c.wants) {
			t.Errorf("%s %s %s: %v", c.name, c.language, c.kind, err)
		}
	}
	if _, err := Language(full); err == nil {
		t.Error("a folder with nothing has a language")
	}
}
