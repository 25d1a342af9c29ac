package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	w "github.com/eiderdb/eider/core/wasm/wasmtest"
	"github.com/spf13/cobra"
)

// plugin runs a command of `eider plugin`, and returns what it says.
func plugin(c *cobra.Command, args ...string) (string, error) {
	var out bytes.Buffer
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&out)
	err := c.Execute()
	return out.String(), err
}

// What is signed with the public key by mistake nobody could verify: it is refused.
func TestNothingIsSignedWithThePublicKey(t *testing.T) {
	dir := w.Folder(t, w.Policy(nil, nil), w.Manifest)
	secret, public := filepath.Join(dir, "secret.key"), filepath.Join(dir, "public.key")
	key, err := plugin(pluginKeygen(), secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(public, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := plugin(pluginSign(), dir, "--key", public); err == nil || !strings.Contains(err.Error(), "no secret key") {
		t.Errorf("%s, %v", said, err)
	}
	if _, err := plugin(pluginSign(), dir, "--key", secret); err != nil {
		t.Fatal(err)
	}
	if _, err := plugin(pluginVerify(), dir, "--key", strings.TrimSpace(key)); err != nil {
		t.Error(err)
	}
}

// A sink is not measured, and is told so.
func TestASinkIsNotMeasured(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	dir := w.Folder(t, w.Sink(`{"status":"ok"}`, nil, nil), strings.Replace(w.Manifest, "policy", "sink", 1))
	cases := "event: {operation: create_project}\ncases:\n- name: one\n  event: {}\n  want: {decision: allow}\n"
	if err := os.WriteFile(filepath.Join(dir, "cases.yaml"), []byte(cases), 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := plugin(pluginBench(), dir); err == nil || !strings.Contains(err.Error(), "is a sink") {
		t.Errorf("%s, %v", said, err)
	}
}
