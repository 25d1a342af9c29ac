// Package wasmtest builds the guests that tests load: from source, once, kept in
// the user's cache by the hash of what they are made of.
package wasmtest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// Guest returns a folder with the guest of core/wasm/testdata/guest and a manifest
// of it.
func Guest(t testing.TB, manifest string) string {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	module := Build(t, filepath.Join(filepath.Dir(here), "..", "testdata", "guest"))
	return Folder(t, module, manifest)
}

// Folder returns a new folder that holds a module as guest.wasm, and a manifest.
func Folder(t testing.TB, module []byte, manifest string) string {
	t.Helper()
	dir := t.TempDir()
	Put(t, dir, module, manifest)
	return dir
}

// Put replaces what such a folder holds.
func Put(t testing.TB, dir string, module []byte, manifest string) {
	t.Helper()
	for name, content := range map[string][]byte{"guest.wasm": module, "plugin.yaml": []byte(manifest)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Manifest is that of a policy without conditions.
const Manifest = "name: guest\nversion: 1.0.0\nabi: 1\nkind: policy\ncapabilities: [log, kv, clock]\n"

// Cache is a folder that outlives the test, for what is compiled.
func Cache(t testing.TB) string {
	t.Helper()
	base, err := os.UserCacheDir()
	if err != nil {
		base = os.TempDir()
	}
	dir := filepath.Join(base, "eider-test-guests")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Build builds the Go program in dir as a plugin.
func Build(t testing.TB, dir string) []byte {
	t.Helper()
	kept := filepath.Join(Cache(t), hash(t, dir)+".wasm")
	if module, err := os.ReadFile(kept); err == nil {
		return module
	}
	made := filepath.Join(t.TempDir(), "guest.wasm")
	build := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags", "-s -w", "-o", made, ".")
	build.Dir = dir
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the guest in %s: %v\n%s", dir, err, text)
	}
	module, err := os.ReadFile(made)
	if err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(Cache(t), fmt.Sprintf("half-%d", os.Getpid()))
	if os.WriteFile(half, module, 0o600) == nil {
		_ = os.Rename(half, kept) // a cache that cannot be written costs time, no more
	}
	return module
}

func hash(t testing.TB, dir string) string {
	t.Helper()
	h := sha256.New()
	_, _ = io.WriteString(h, runtime.Version())
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("there is no program in %s", dir)
	}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = h.Write(content)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
