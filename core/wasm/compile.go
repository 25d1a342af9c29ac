package wasm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/eiderdb/eider/core/wasm/fuel"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"
)

// compile makes machine code of the module, through what is kept on disk.
func (v *version) compile(ctx context.Context, module []byte) error {
	pages := uint32(v.manifest.Limits.Memory / pageSize)
	v.code = v.host.codes.take(v.sha256)
	metered, err := v.host.meter(ctx, v.code, module, pages)
	if err != nil {
		return err
	}
	if err := checkImports(metered.Imports); err != nil {
		return err
	}
	v.hasStart = metered.HasStart
	v.runtime = wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().
		WithCompilationCache(v.code.cache).WithMemoryLimitPages(pages).WithDebugInfoEnabled(false))
	if err := bind(ctx, v.runtime); err != nil {
		return err
	}
	if err := v.translate(ctx, metered.Bytes); err != nil {
		return fmt.Errorf("compile the module: %w", err)
	}
	return bindWASI(ctx, v.runtime, v.compiled)
}

// compileWithin bounds a compile, as far as its parts do not: it is looked at between
// two functions.
const compileWithin = time.Minute

// translate has the machine code made. With one worker the compiler would not look at the
// context.
func (v *version) translate(ctx context.Context, module []byte) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, compileWithin, errors.New("it takes too long"))
	defer cancel()
	ctx = experimental.WithCompilationWorkers(ctx, max(2, runtime.GOMAXPROCS(0)))
	v.compiled, err = v.runtime.CompileModule(ctx, module)
	var path *fs.PathError
	if errors.As(err, &path) { // it is made, and could not be kept: now it is found in memory
		v.host.Log.Warn("the cache of plugins cannot be written", "plugin", v.item.Name, "error", err)
		v.compiled, err = v.runtime.CompileModule(ctx, module)
	}
	return err
}

// meter returns the module with fuel in it. That one is valid is kept with its code.
func (h *Host) meter(ctx context.Context, c *code, module []byte, pages uint32) (fuel.Module, error) {
	limits := fuel.Limits{MemoryPages: pages}
	metered, err := fuel.Rewrite(module, limits)
	if err != nil {
		return metered, err
	}
	proof := filepath.Join(c.dir, "valid")
	if _, err := os.Stat(proof); err == nil {
		return metered, nil
	}
	// The interpreter validates as the compiler does, and is quicker with it.
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithMemoryLimitPages(pages).WithDebugInfoEnabled(false))
	defer r.Close(ctx)
	if _, err := r.CompileModule(ctx, metered.Original); err != nil {
		return metered, fmt.Errorf("%w: it is not valid: %w", fuel.ErrModule, err)
	}
	if err := os.WriteFile(proof, nil, 0o600); err != nil {
		h.Log.Warn("the cache of plugins cannot be written", "error", err)
	}
	return metered, nil
}
