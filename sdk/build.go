package sdk

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Language returns the language that the plugin in dir is written in.
func Language(dir string) (string, error) {
	for _, one := range []struct{ sign, language string }{
		{"Cargo.toml", "rust"}, {"asconfig.json", "assemblyscript"}, {"*.go", "go"},
	} {
		if found, err := filepath.Glob(filepath.Join(dir, one.sign)); err == nil && len(found) > 0 {
			return one.language, nil
		}
	}
	return "", fmt.Errorf("%s holds no plugin's source: no *.go, Cargo.toml or asconfig.json", dir)
}

// Toolchain returns what compiles a language, by the names that toolchains.sh gives
// it. What is missing is installed from package registries if install is true, and
// else is an error that says how. What happens meanwhile is told to log.
func Toolchain(ctx context.Context, language string, install bool, log io.Writer) (map[string]string, error) {
	dir, err := os.MkdirTemp("", "eider-toolchains-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	for _, name := range append(below("assemblyscript/packages"), "toolchains.sh") {
		content, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if err := write(filepath.Join(dir, name), content); err != nil {
			return nil, err
		}
	}
	args := []string{filepath.Join(dir, "toolchains.sh"), language}
	if !install {
		args = append(args, "--check")
	}
	script := exec.CommandContext(ctx, "bash", args...)
	said := &bytes.Buffer{}
	script.Stderr = io.MultiWriter(said, log)
	out, err := script.Output()
	if err != nil {
		return nil, fmt.Errorf("what builds plugins in %s cannot be had: %w: %s", language, err, lastLine(said.String()))
	}
	found := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), "="); ok {
			found[name] = value
		}
	}
	return found, nil
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// Build compiles the plugin in dir into the file out. What compilers say goes to
// log.
func Build(ctx context.Context, dir, out string, tools map[string]string, log io.Writer) error {
	language, err := Language(dir)
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	switch language {
	case "go":
		return run(ctx, dir, log, []string{"GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS="},
			tools["GO"], "build", "-trimpath", "-buildvcs=false", "-buildmode=c-shared", "-ldflags", "-s -w", "-o", out, ".")
	case "rust":
		return buildRust(ctx, dir, out, tools, log)
	}
	if err := link(tools["ASSEMBLYSCRIPT"], filepath.Join(dir, "node_modules")); err != nil {
		return err
	}
	return run(ctx, dir, log, nil, tools["NODE"], filepath.Join(tools["ASSEMBLYSCRIPT"], "assemblyscript/bin/asc.js"), "--outFile", out)
}

// buildRust compiles outside of the plugin's folder, as Go and AssemblyScript do.
func buildRust(ctx context.Context, dir, out string, tools map[string]string, log io.Writer) error {
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(dir + tools["RUSTC"]))
	target := filepath.Join(cache, "eider/cargo", hex.EncodeToString(sum[:8]))
	const triple = "wasm32-unknown-unknown"
	env := []string{"CARGO_TARGET_DIR=" + target, "RUSTC=" + tools["RUSTC"]}
	if err := run(ctx, dir, log, env, tools["CARGO"], "build", "--release", "--target", triple); err != nil {
		return err
	}
	made, err := filepath.Glob(filepath.Join(target, triple, "release/*.wasm"))
	if err != nil || len(made) == 0 {
		return errors.Join(err, errors.New("cargo made no .wasm: the crate's type must be cdylib"))
	}
	module, err := os.ReadFile(newest(made))
	if err != nil {
		return err
	}
	return os.WriteFile(out, module, 0o644)
}

// newest returns the file that was written last: a crate that was renamed leaves
// the module of its old name.
func newest(names []string) string {
	best := names[0]
	for _, name := range names[1:] {
		a, errA := os.Stat(name)
		b, errB := os.Stat(best)
		if errA == nil && (errB != nil || a.ModTime().After(b.ModTime())) {
			best = name
		}
	}
	return best
}

// link makes the packages of AssemblyScript be found, also by editors. A folder of
// the author's own stays.
func link(packages, at string) error {
	if info, err := os.Lstat(at); err == nil {
		if info.Mode()&os.ModeSymlink == 0 {
			return nil
		}
		if err := os.Remove(at); err != nil {
			return err
		}
	}
	return os.Symlink(packages, at)
}

func run(ctx context.Context, dir string, log io.Writer, env []string, name string, args ...string) error {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir, c.Stdout, c.Stderr = dir, log, log
	c.Env = append(os.Environ(), env...)
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(name), err)
	}
	return nil
}
