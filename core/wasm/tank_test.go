package wasm_test

import (
	"context"
	"runtime"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/wasm"
	w "github.com/eiderdb/eider/core/wasm/wasmtest"
)

// A guest that has fuel for hours neither holds up the whole process nor works on for
// nobody: its code is left each time a portion of its fuel is used up.
func TestACallIsLeftBeforeItsFuelIs(t *testing.T) {
	endless := w.Policy(w.Later(w.Cat(loop, empty, br, 0, end)), nil)
	h, chain := host(t, wasm.Item{Name: "x", Path: w.Folder(t, endless, w.Manifest), Guests: 1, Fuel: 1 << 39})
	t.Run("the world can be stopped", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			runtime.GC() // stops the world, which machine code of others has to allow
			cancel()
		}()
		if o := chain.Ask(ctx, question()); o.Denial == nil || ctx.Err() == nil {
			t.Errorf("it says %v, and the world was not stopped before", o.Denial)
		}
	})
	t.Run("nobody waits", func(t *testing.T) {
		for range 20 { // it is no death: the plugin does not fail for it
			ctx, cancel := context.WithCancel(t.Context())
			go cancel()
			chain.Ask(ctx, question())
		}
		if s := h.Plugin("x").State(); s != "ready" {
			t.Errorf("it is %s", s)
		}
	})
	t.Run("the clock", func(t *testing.T) {
		calls := w.Cat(loop, empty, w.I32(1), w.I32(0), w.I32(0), call, 0, drop, br, 0, end)
		lines := w.Policy(w.Later(calls), func(m *w.Module) {
			m.Imports = []w.Import{{Module: "eider", Name: "log", Params: "iii", Results: "i"}}
		})
		_, chain := host(t, wasm.Item{Name: "x", Path: w.Folder(t, lines, w.Manifest), Guests: 1, Fuel: 1 << 39})
		if o := chain.Ask(t.Context(), question()); o.Denial == nil || !strings.Contains(o.Denial.Reason, "it took too long") {
			t.Errorf("it says %v", o.Denial)
		}
	})
}
