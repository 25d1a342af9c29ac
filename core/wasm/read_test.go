package wasm_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/wasm"
	w "github.com/eiderdb/eider/core/wasm/wasmtest"
)

// A file that is larger than any module may be is not read.
func TestAFileThatIsTooLargeIsNotRead(t *testing.T) {
	for _, name := range []string{"guest.wasm", "plugin.yaml", "plugin.sig"} {
		dir := w.Folder(t, w.Policy(nil, nil), w.Manifest)
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(500 << 20); err != nil { // of holes
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		h, _ := host(t, wasm.Item{Name: "x", Path: dir, Guests: 1})
		if err := h.Plugin("x").Refused(); err == nil || !strings.Contains(err.Error(), "bytes, at most") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
