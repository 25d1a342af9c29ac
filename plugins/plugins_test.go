package plugins

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
)

func TestThereAreFourPluginsWithAManifestAndAReadme(t *testing.T) {
	if got := strings.Join(Names(), " "); got != "audit-webhook naming quota ratelimit" {
		t.Fatalf("there are %s", got)
	}
	for _, name := range Names() {
		for _, file := range []string{"plugin.yaml", "README.md"} {
			content, err := Read(name + "/" + file)
			if err != nil || !strings.Contains(string(content), name) {
				t.Errorf("%s of %s: %v", file, name, err)
			}
		}
		if module, err := Read(name + "/" + name + ".wasm"); !errors.Is(err, ErrNotBuilt) && (err != nil || string(module[:4]) != "\x00asm") {
			t.Errorf("the module of %s: %v", name, err)
		}
		if _, err := Read(name + "/plugin.sig"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the signature of %s: %v", name, err)
		}
	}
	if _, err := Read("none/plugin.yaml"); err == nil || !strings.Contains(err.Error(), "quota") || slices.Contains(Names(), "built") {
		t.Errorf("a plugin that is not there: %v", err)
	}
}
