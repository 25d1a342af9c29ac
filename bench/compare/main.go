// Command compare measures other hosts of policies than Eider's: today the Go SDK of
// Extism. It is a module of its own, so that Eider needs nothing of theirs; bench runs it
// for its group plugins, beside the same policy in Eider.
//
// It reads an event in JSON, asks plugins about it one call after another, and writes a
// line of JSON for each kind of call.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	extism "github.com/extism/go-sdk"
	"github.com/tetratelabs/wazero"
)

// figures are one line of the answer. bench reads it.
type figures struct {
	What      string        `json:"what"`
	PerSecond float64       `json:"per_second"`
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
}

func main() {
	lasts := flag.Duration("lasts", 5*time.Second, "how long each load lasts")
	guest := flag.String("guest", "", "the plugin, built from guard if empty")
	flag.Parse()
	if err := run(context.Background(), *lasts, *guest); err != nil {
		fmt.Fprintf(os.Stderr, "compare: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, lasts time.Duration, guest string) error {
	event, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
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
	out := json.NewEncoder(os.Stdout)
	for _, c := range []struct {
		what, export string
		timeout      uint64 // in milliseconds; 0: a guest that does not end is never stopped
	}{
		{"no-op", "allow", 0}, {"no-op, with a timeout", "allow", 1000}, {"quota", "decide", 0}, {"quota, with a timeout", "decide", 1000},
	} {
		f, err := measure(ctx, guest, c.export, c.timeout, event, lasts)
		if err != nil {
			return fmt.Errorf("%s: %w", c.what, err)
		}
		f.What = c.what
		if err := out.Encode(f); err != nil {
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

func measure(ctx context.Context, guest, export string, timeout uint64, event []byte, lasts time.Duration) (f figures, err error) {
	manifest := extism.Manifest{Wasm: []extism.Wasm{extism.WasmFile{Path: guest}}, Timeout: timeout}
	config := extism.PluginConfig{EnableWasi: true, RuntimeConfig: wazero.NewRuntimeConfigCompiler().WithCloseOnContextDone(timeout > 0)}
	plugin, err := extism.NewPlugin(ctx, manifest, config, nil)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, plugin.Close(ctx)) }()
	call := func() error {
		code, answer, err := plugin.Call(export, event)
		if err != nil || code != 0 || string(answer) != `{"decision":"allow"}` {
			return fmt.Errorf("it answers %d %q: %w", code, answer, err)
		}
		return nil
	}
	for until := time.Now().Add(lasts / 5); time.Now().Before(until); {
		if err := call(); err != nil {
			return f, err
		}
	}
	var times []time.Duration
	begun := time.Now()
	for now := begun; now.Sub(begun) < lasts; {
		if err := call(); err != nil {
			return f, err
		}
		after := time.Now()
		times = append(times, after.Sub(now))
		now = after
	}
	f.PerSecond = float64(len(times)) / time.Since(begun).Seconds()
	slices.Sort(times)
	f.P50, f.P99 = times[len(times)/2], times[len(times)*99/100]
	return f, nil
}
