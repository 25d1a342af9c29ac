package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	sdk "github.com/extism/go-sdk"
	"github.com/tetratelabs/wazero"
)

// extism measures Extism's Go SDK with the plugin at guest, which it builds if that is empty.
func extism(ctx context.Context, guest string, event []byte, lasts time.Duration, out func(string, figures) error) error {
	if guest == "" {
		dir, err := os.MkdirTemp("", "eider-compare-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		guest = filepath.Join(dir, "guard.wasm")
		if err := build(ctx, guest); err != nil {
			return err
		}
	}
	for _, c := range []struct {
		what, export string
		timeout      uint64 // in milliseconds; 0: a guest that does not end is never stopped
	}{
		{"no-op", "allow", 0}, {"no-op, with a timeout", "allow", 1000}, {"quota", "decide", 0}, {"quota, with a timeout", "decide", 1000},
	} {
		f, err := plugged(ctx, guest, c.export, c.timeout, event, lasts)
		if err != nil {
			return fmt.Errorf("Extism, %s: %w", c.what, err)
		}
		if err := out("Extism's Go SDK, a guest in go, "+c.what, f); err != nil {
			return err
		}
	}
	return nil
}

// build compiles the plugin; it has to run in the folder of this module.
func build(ctx context.Context, to string) error {
	c := exec.CommandContext(ctx, "go", "build", "-buildmode=c-shared", "-ldflags", "-s -w", "-o", to, "./guard")
	c.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if text, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build the plugin: %w: %s", err, text)
	}
	return nil
}

func plugged(ctx context.Context, guest, export string, timeout uint64, event []byte, lasts time.Duration) (f figures, err error) {
	manifest := sdk.Manifest{Wasm: []sdk.Wasm{sdk.WasmFile{Path: guest}}, Timeout: timeout}
	config := sdk.PluginConfig{EnableWasi: true, RuntimeConfig: wazero.NewRuntimeConfigCompiler().WithCloseOnContextDone(timeout > 0)}
	plugin, err := sdk.NewPlugin(ctx, manifest, config, nil)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, plugin.Close(ctx)) }()
	return measure(lasts, func() error {
		code, answer, err := plugin.Call(export, event)
		if err != nil || code != 0 || string(answer) != `{"decision":"allow"}` {
			return fmt.Errorf("it answers %d %q: %w", code, answer, err)
		}
		return nil
	})
}
