package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/wasm"
	"github.com/eiderdb/eider/core/wasm/cases"
	"github.com/eiderdb/eider/core/wasm/wasmtest"
	"github.com/eiderdb/eider/plugins"
	"github.com/eiderdb/eider/sdk"
)

// builtGuest returns a folder with the manifest of a plugin of this repository and
// its module, which is built anew when the plugin, an SDK or the script that finds
// compilers has changed. A compiler that is missing is installed; one that cannot
// be had fails the test, as it would fail an author.
func builtGuest(t *testing.T, source string) string {
	t.Helper()
	source = filepath.Join(repository, source)
	manifest, err := os.ReadFile(filepath.Join(source, "plugin.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := wasm.ParseManifest(manifest)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(wasmtest.Cache(t), "plugin-"+sourceHash(t, source))
	module := filepath.Join(dir, m.Module)
	if _, err := os.Stat(module); err == nil {
		return dir
	}
	language, err := sdk.Language(source)
	if err != nil {
		t.Fatal(err)
	}
	log := &bytes.Buffer{}
	tools, err := sdk.Toolchain(t.Context(), language, true, log)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	made := filepath.Join(t.TempDir(), "made.wasm")
	if err := sdk.Build(t.Context(), source, made, tools, log); err != nil {
		t.Fatalf("build %s: %v\n%s", source, err, log)
	}
	content, err := os.ReadFile(made)
	if err != nil {
		t.Fatal(err)
	}
	mustDo(t, errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "plugin.yaml"), manifest, 0o600),
		os.WriteFile(module+".half", content, 0o600), os.Rename(module+".half", module)))
	return dir
}

// sourceHash is of a plugin's source and of everything under sdk.
func sourceHash(t *testing.T, source string) string {
	t.Helper()
	h := sha256.New()
	for _, root := range []string{source, filepath.Join(repository, "sdk")} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || strings.HasSuffix(path, ".wasm") || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, ".md") || strings.Contains(path, "/testdata/") || d.Name() == "Cargo.lock" {
				return err
			}
			content, err := os.ReadFile(path)
			_, _ = h.Write(append([]byte(path[len(root):]), content...))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// hold runs the cases in a file on the plugin in a folder.
func hold(t *testing.T, dir, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := cases.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	m, err := readManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	b := cases.New(dir, wasmtest.Cache(t), m, plugins.Read)
	defer b.Close(t.Context())
	results, err := b.Run(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Wrong != "" {
			t.Errorf("%s: %s", r.Name, r.Wrong)
		}
	}
	t.Logf("%d cases", len(results))
}

// One list of cases, the same policy and the same sink in three languages.
func TestTheSDKsAgree(t *testing.T) {
	for _, language := range sdk.Languages() {
		t.Run(language, func(t *testing.T) {
			hold(t, builtGuest(t, "sdk/"+language+"/examples/guard"), filepath.Join(repository, "sdk/testdata/guard.yaml"))
			hold(t, builtGuest(t, "sdk/"+language+"/examples/notify"), filepath.Join(repository, "sdk/testdata/notify.yaml"))
		})
	}
}

func TestBuiltInPluginsAnswerAsTheirCasesSay(t *testing.T) {
	for _, name := range []string{"quota", "ratelimit", "naming", "audit-webhook"} {
		t.Run(name, func(t *testing.T) {
			hold(t, builtGuest(t, "plugins/"+name), filepath.Join(repository, "plugins", name, "cases.yaml"))
		})
	}
}
